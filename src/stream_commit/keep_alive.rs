use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower::BoxError;

use crate::azure::sse::Boundary;
use crate::body::Body;
use crate::idle_clock::IdleClock;

/// The comment that says nothing.
const COMMENT: &[u8] = b": keep-alive\n\n";

pin_project! {
    /// A stream of events that is never silent for long. Inside an event nothing is added.
    #[derive(Debug)]
    pub(super) struct KeepAlive {
        #[pin]
        stream: Body,
        #[pin]
        clock: IdleClock,
        boundary: Boundary,
    }
}

impl KeepAlive {
    pub(super) const fn new(stream: Body, silence: Duration) -> Self {
        Self { stream, clock: IdleClock::new(silence), boundary: Boundary::new() }
    }
}

impl HttpBody for KeepAlive {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        let Poll::Ready(frame) = this.stream.poll_frame(cx) else {
            if !this.boundary.is_between_events() {
                return Poll::Pending;
            }
            ready!(this.clock.as_mut().poll_expired(cx));
            this.clock.moved();
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(COMMENT)))));
        };
        this.clock.moved();
        if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()) {
            this.boundary.pass(data);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.stream.is_end_stream() { self.stream.size_hint() } else { SizeHint::default() }
    }
}
