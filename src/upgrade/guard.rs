use std::future::poll_fn;
use std::pin::Pin;

use http_body::Body as _;

use super::speech;
use crate::body::Body;
use crate::context::SocketEvents;

/// Guard of what layers below hold and count for a call or a connection: the body of its 101. Dropped before its
/// [`end`](Self::end) it tells them that it was broken off.
pub(super) struct Guard {
    body: Body,
    events: Option<SocketEvents>,
}

impl Guard {
    pub(super) const fn new(body: Body, events: Option<SocketEvents>) -> Self {
        Self { body, events }
    }

    /// Nobody holds anything.
    pub(super) fn none() -> Self {
        Self { body: Body::empty(), events: None }
    }

    /// Tells what the backend said, before anybody else hears of it.
    pub(super) async fn tell(&mut self, said: &[u8]) {
        let Some(events) = &self.events else { return };
        if let Some(kind) = speech::tells(said)
            && let Err(error) = events.tell(&kind, said, &mut self.body).await
        {
            tracing::debug!(%error, "events of a websocket");
            self.events = None;
        }
    }

    /// Says that it has ended well.
    pub(super) async fn end(mut self) {
        if let Some(events) = self.events.take() {
            events.end();
        }
        while let Some(Ok(_)) = poll_fn(|cx| Pin::new(&mut self.body).poll_frame(cx)).await {}
    }
}
