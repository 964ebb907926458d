//! The clocks of one attempt. Neither allocates, and neither costs anything while things move.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

use super::failure;
use super::interim::Interim;
use super::upload::Upload;
use crate::azure::Phase;
use crate::context::AttemptFailed;
use crate::idle_clock::{IdleClock, after};

pin_project! {
    /// Ends an attempt whose answer has no head in time, counted from the end of the upload, or too many that do not count.
    #[derive(Debug)]
    pub(super) struct HeadClock {
        upload: Upload,
        interim: Interim,
        phase: Phase,
        limit: Duration,
        #[pin]
        timer: Option<Sleep>,
    }
}

impl HeadClock {
    pub(super) const fn new(upload: Upload, interim: Interim, phase: Phase, limit: Duration) -> Self {
        Self { upload, interim, phase, limit, timer: None }
    }

    /// Resolves when the attempt has failed: by its upload, by taking too long, or by talk without an end.
    pub(super) fn poll_failure(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<AttemptFailed> {
        let mut this = self.project();
        if this.interim.poll_exceeded(cx).is_ready() {
            return Poll::Ready(failure::of_interim_heads());
        }
        if this.timer.is_none() {
            if let Err(failed) = ready!(this.upload.poll_sent(cx)) {
                return Poll::Ready(failed);
            }
            this.timer.set(Some(sleep_until(after(Instant::now(), *this.limit))));
        }
        if let Some(timer) = this.timer.as_pin_mut() {
            ready!(timer.poll(cx));
        }
        Poll::Ready(failure::of_timeout(*this.phase))
    }

    pub(super) fn upload(self: Pin<&mut Self>) -> &mut Upload {
        self.project().upload
    }
}

pin_project! {
    /// The body of an answer, which ends with an error when nothing comes for too long.
    pub(super) struct AnswerBody {
        #[pin]
        body: Incoming,
        #[pin]
        clock: IdleClock,
        upload: Upload,
    }
}

impl AnswerBody {
    /// An answer may come before the upload has ended; what breaks it then may be the upload.
    pub(super) const fn new(body: Incoming, idle: Duration, upload: Upload) -> Self {
        Self { body, clock: IdleClock::new(idle), upload }
    }
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = AttemptFailed;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AttemptFailed>>> {
        let this = self.project();
        let Poll::Ready(frame) = this.body.poll_frame(cx) else {
            ready!(this.upload.poll_ended(cx));
            ready!(this.clock.poll_expired(cx));
            return Poll::Ready(Some(Err(failure::of_timeout(Phase::Idle))));
        };
        this.clock.moved();
        let upload = this.upload;
        let failed = |error: hyper::Error| upload.failure().unwrap_or_else(|| failure::of_body(&error));
        Poll::Ready(frame.map(|frame| frame.map_err(failed)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
