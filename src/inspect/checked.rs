//! Bodies that are read on their way, after a decision that they must not contradict.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tower::BoxError;

use crate::body::Body;

/// Cuts a body off before the first data that does not pass.
pub(super) fn checked<E: Into<BoxError>>(
    rest: Body,
    check: impl FnMut(&[u8]) -> Result<(), E> + Send + Unpin + 'static,
) -> Body {
    Body::new(Checked { rest, check })
}

struct Checked<C> {
    rest: Body,
    check: C,
}

impl<C, E> HttpBody for Checked<C>
where
    C: FnMut(&[u8]) -> Result<(), E> + Unpin,
    E: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.rest).poll_frame(cx)?);
        if let Some(data) = frame.as_ref().and_then(Frame::data_ref)
            && let Err(error) = (self.check)(data)
        {
            return Poll::Ready(Some(Err(error.into())));
        }
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.rest.size_hint()
    }
}
