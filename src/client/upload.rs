//! Knowing when a request body has been read to its end, or failed.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::oneshot;
use tower::BoxError;

use crate::azure::Outcome;
use crate::body::Body;
use crate::context::AttemptFailed;
use crate::error::{Error, ErrorKind};

/// The body to send, and the way to learn how that went.
pub(super) fn watch(body: Body) -> (UploadBody, Upload) {
    let (done, outcome) = oneshot::channel();
    (UploadBody { body, done: Some(done) }, Upload(State::Running(outcome)))
}

/// A request body that says when nothing more will be read from it; dropped means the same, which is how hyper treats a
/// body that is empty from the start.
pub(super) struct UploadBody {
    body: Body,
    done: Option<oneshot::Sender<BoxError>>,
}

/// Fate of a request body.
#[derive(Debug)]
pub(super) struct Upload(State);

#[derive(Debug)]
enum State {
    Failed(AttemptFailed),
    Running(oneshot::Receiver<BoxError>),
    Sent,
}

impl Upload {
    /// Resolves when the body has been read to its end, or failed.
    pub(super) fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), AttemptFailed>> {
        ready!(self.poll_ended(cx));
        Poll::Ready(self.failure().map_or(Ok(()), Err))
    }

    /// Resolves when nothing more of the body will be read, however it went.
    pub(super) fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let State::Running(outcome) = &mut self.0 {
            let failure = ready!(Pin::new(outcome).poll(cx));
            self.0 = failure.map_or(State::Sent, |error| State::Failed(abandoned(error)));
        }
        Poll::Ready(())
    }

    /// The same, for whoever watches from now on.
    pub(super) const fn take(&mut self) -> Self {
        Self(std::mem::replace(&mut self.0, State::Sent))
    }

    /// Returns what broke the upload, if something has.
    ///
    /// Asked after hyper gave an error: over HTTP/2 it resets the stream and tells nothing of the body that made it do so.
    pub(super) fn failure(&mut self) -> Option<AttemptFailed> {
        match &mut self.0 {
            State::Running(outcome) => outcome.try_recv().ok().map(abandoned),
            State::Failed(_) => match std::mem::replace(&mut self.0, State::Sent) {
                State::Failed(failed) => Some(failed),
                State::Running(_) | State::Sent => None,
            },
            State::Sent => None,
        }
    }
}

/// Blames whoever gave the body, and no backend.
fn abandoned(error: BoxError) -> AttemptFailed {
    match Error::find(error.as_ref()) {
        Some(_) => AttemptFailed::new(Outcome::Abandoned, error),
        None => AttemptFailed::new(
            Outcome::Abandoned,
            Error::new(ErrorKind::UploadFailed, "The request body broke off.").with_source(error),
        ),
    }
}

impl HttpBody for UploadBody {
    type Data = Bytes;
    type Error = UploadFailed;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadFailed>>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Err(error)) => {
                if let Some(done) = self.done.take() {
                    // Nobody listens once the caller has gone away.
                    drop(done.send(error));
                }
                return Poll::Ready(Some(Err(UploadFailed)));
            }
            frame => frame.map(|frame| frame.map_err(|_| UploadFailed)),
        };
        if frame.is_none() || self.body.is_end_stream() {
            self.done = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Tells hyper to give up; what happened travels beside it.
#[derive(Debug, thiserror::Error)]
#[error("the request body failed")]
pub(super) struct UploadFailed;
