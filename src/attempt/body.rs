use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use bytes::Bytes;
use http::Response;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tower::BoxError;

use super::Admitted;
use crate::azure::stream_event::{HeadHint, Reader, StreamEvent};
use crate::azure::{Outcome, sse};
use crate::body::Body;
use crate::context::{AttemptFailed, ClassifyError, SocketEvents};
use crate::headers;

/// Length up to which an error is noticed in an event: 64 KiB.
pub(crate) const OBSERVED_EVENT: usize = 64 * 1024;

/// The body of an answer that is watched: holds the place of its attempt until it ends, and records how it ended.
///
/// In a stream of events it notices errors in passing, and an end that is none. What comes arrives unchanged and at once; what a backend
/// may not say in a header it may not say in a trailer.
pub struct ResponseBody {
    inner: Body,
    watch: Option<Watch>,
    events: Option<Events>,
}

/// Recorder of the end, and reader of the errors.
type Watch = (Admitted, Arc<dyn ClassifyError>);

/// The events of a stream that has begun with success, and what its head said of waiting.
pub(super) struct Events {
    reader: Reader,
    head: HeadHint,
    /// True if it owes a closing event.
    closes: bool,
}

impl ResponseBody {
    pub(super) fn new(inner: Body, watch: Option<Watch>, events: Option<Events>) -> Self {
        let mut body = Self::lasting(inner, watch, events);
        body.notice_end();
        body
    }

    /// A body that has not ended before it is asked, although it is empty: that of an answer that switches protocols.
    pub(super) const fn lasting(inner: Body, watch: Option<Watch>, events: Option<Events>) -> Self {
        Self { inner, watch, events }
    }

    fn clean(&self, frame: &mut Frame<Bytes>) {
        if let Some(trailers) = frame.trailers_mut() {
            let target = self.watch.as_ref().and_then(|(admitted, _)| admitted.target());
            headers::strip_trailers_of_answer(trailers, target.map(|target| target.endpoint().authority().host()));
        }
    }

    /// Records an error at once, because many clients leave when they see one; the place in flight is held to the end.
    fn observe(&mut self, frame: &Frame<Bytes>) {
        let (Some((admitted, _)), Some(events), Some(data)) = (&mut self.watch, &mut self.events, frame.data_ref())
        else {
            return;
        };
        if let Some(outcome) = events.failure(data) {
            admitted.record(&outcome);
            self.events = None;
        }
    }

    /// Servers need not ask a body for more once it says that it has ended.
    fn notice_end(&mut self) {
        if self.inner.is_end_stream() {
            self.end();
        }
    }

    fn end(&mut self) {
        if let Some((mut admitted, _)) = self.watch.take() {
            let failure = self.events.as_mut().and_then(Events::failure_at_end);
            admitted.record(&failure.unwrap_or(Outcome::Success));
        }
    }

    /// The head was there, so whatever nobody can classify is an answer that was cut.
    fn fail(&mut self, error: BoxError) -> BoxError {
        let Some((mut admitted, classify)) = self.watch.take() else { return error };
        let outcome = match classify.classify(error.as_ref()) {
            Outcome::Unknown => Outcome::Reset,
            outcome => outcome,
        };
        admitted.record(&outcome);
        let failed = match error.downcast::<AttemptFailed>() {
            Ok(failed) => *failed,
            Err(error) => AttemptFailed::new(outcome, error),
        };
        match admitted.target() {
            Some(target) => failed.at(target.clone()).into(),
            None => failed.into(),
        }
    }
}

impl Events {
    pub(super) fn of(answer: &Response<Body>, closes: bool) -> Option<Self> {
        let is_stream = answer.status().is_success() && sse::is_event_stream(answer.headers());
        let is_socket = answer.extensions().get::<SocketEvents>().is_some();
        (is_stream || is_socket).then(|| Self {
            reader: Reader::new(OBSERVED_EVENT).failures_only(),
            head: HeadHint::of(answer.headers(), SystemTime::now()),
            // Which of several responses an event closes is not known to whoever counts them one by one.
            closes: closes && is_stream,
        })
    }

    fn failure(&mut self, mut chunk: &[u8]) -> Option<Outcome> {
        while let Some(event) = self.reader.next_event(&mut chunk) {
            if let Some(outcome) = self.outcome(&event) {
                return Some(outcome);
            }
        }
        None
    }

    fn failure_at_end(&mut self) -> Option<Outcome> {
        let failure = self.reader.finish().and_then(|event| self.outcome(&event));
        let is_cut = self.closes && !self.reader.is_complete();
        failure.or_else(|| is_cut.then_some(Outcome::Unfinished))
    }

    fn outcome(&self, event: &StreamEvent) -> Option<Outcome> {
        match event {
            StreamEvent::Error(error) | StreamEvent::RunFailed(error) => Some(error.outcome(self.head)),
            _ => None,
        }
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        Poll::Ready(match frame {
            Some(Ok(mut frame)) => {
                self.clean(&mut frame);
                self.observe(&frame);
                self.notice_end();
                Some(Ok(frame))
            }
            Some(Err(error)) => Some(Err(self.fail(error))),
            None => {
                self.end();
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
