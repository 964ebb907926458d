//! A body that comes from elsewhere once somebody asks for it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame};
use tokio::sync::oneshot;

use crate::body::Body;

/// The other end of such a body.
pub(super) struct Wanted {
    /// Resolves when somebody reads, or nobody will.
    pub(super) asked: oneshot::Receiver<()>,
    pub(super) give: oneshot::Sender<Bytes>,
}

struct Asked {
    ask: Option<oneshot::Sender<()>>,
    given: Option<oneshot::Receiver<Bytes>>,
}

/// A body of one frame, and what it is asked for and given by.
pub(super) fn body() -> (Body, Wanted) {
    let ((ask, asked), (give, given)) = (oneshot::channel(), oneshot::channel());
    (Body::new(Asked { ask: Some(ask), given: Some(given) }), Wanted { asked, give })
}

impl HttpBody for Asked {
    type Data = Bytes;
    type Error = oneshot::error::RecvError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Some(ask) = self.ask.take() {
            // If whoever would give has gone, what is given tells.
            let _ = ask.send(());
        }
        let Some(given) = &mut self.given else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(given).poll(cx));
        self.given = None;
        Poll::Ready(Some(frame.map(Frame::data)))
    }
}
