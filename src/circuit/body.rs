use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tower::BoxError;

use super::future::Watch;
use crate::azure::Outcome;
use crate::body::Body;
use crate::context::{AttemptFailed, ClassifyError};

/// The body of an answer that is watched by a circuit: holds the permit until it ends, and records how it ended.
pub struct ResponseBody {
    inner: Body,
    watch: Option<(Watch, Arc<dyn ClassifyError>)>,
}

impl ResponseBody {
    pub(super) fn new(inner: Body, watch: Option<Watch>, classify: &Arc<dyn ClassifyError>) -> Self {
        let mut body = Self::lasting(inner, watch, classify);
        body.notice_end();
        body
    }

    /// A body that has not ended before it is asked, although it is empty: that of an answer that switches protocols.
    pub(super) fn lasting(inner: Body, watch: Option<Watch>, classify: &Arc<dyn ClassifyError>) -> Self {
        Self { inner, watch: watch.map(|watch| (watch, classify.clone())) }
    }

    /// Servers need not ask a body for more once it says that it has ended.
    fn notice_end(&mut self) {
        if self.inner.is_end_stream() {
            self.end(&Outcome::Success);
        }
    }

    fn end(&mut self, outcome: &Outcome) {
        if let Some((mut watch, _)) = self.watch.take() {
            watch.record(outcome);
        }
    }

    /// The head was there, so whatever nobody can classify is an answer that was cut.
    fn fail(&mut self, error: BoxError) -> BoxError {
        let Some((mut watch, classify)) = self.watch.take() else { return error };
        let outcome = match classify.classify(error.as_ref()) {
            Outcome::Unknown => Outcome::Reset,
            outcome => outcome,
        };
        watch.record(&outcome);
        if error.is::<AttemptFailed>() { error } else { AttemptFailed::new(outcome, error).into() }
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                self.notice_end();
                Some(Ok(frame))
            }
            Some(Err(error)) => Some(Err(self.fail(error))),
            None => {
                self.end(&Outcome::Success);
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.watch.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").field("inner", &self.inner).finish_non_exhaustive()
    }
}
