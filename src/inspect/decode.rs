//! Bodies that come encoded (RFC 9110 §8.4), decoded within the bounds of every body.

use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};

use crate::account::Reservation;
use crate::body::Body;
use crate::error::{Error, ErrorKind, no_room};

/// Coding of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Deflate,
    Gzip,
    Zstd,
}

/// The largest window of a zstd frame: 8 MiB, which RFC 9659 asks everybody to accept and nobody to exceed.
const ZSTD_WINDOW_LOG: u32 = 23;

impl Coding {
    /// Returns the memory that decoding holds beside the body.
    const fn window(self) -> usize {
        match self {
            Self::Deflate | Self::Gzip => 64 << 10,
            Self::Zstd => 1 << ZSTD_WINDOW_LOG,
        }
    }
}

/// Returns the coding of the body, if it has one. Nothing can be decoded without the feature `decompression`.
pub(super) fn coding(headers: &HeaderMap) -> Result<Option<Coding>, Error> {
    let lines = headers.get_all(CONTENT_ENCODING).iter().map(|line| line.to_str().unwrap_or("?"));
    let named = lines.flat_map(|line| line.split(',')).map(|name| name.trim().to_ascii_lowercase());
    let mut named = named.filter(|name| !name.is_empty() && name != "identity");
    let coding = match (named.next().as_deref(), named.next()) {
        (None, _) => return Ok(None),
        (Some("deflate"), None) => Some(Coding::Deflate),
        (Some("gzip" | "x-gzip"), None) => Some(Coding::Gzip),
        (Some("zstd"), None) => Some(Coding::Zstd),
        _ => None,
    };
    match coding.filter(|_| cfg!(feature = "decompression")) {
        Some(coding) => Ok(Some(coding)),
        None if cfg!(feature = "decompression") => Err(Error::new(
            ErrorKind::UnsupportedEncoding,
            "The body's content-encoding is not understood: send it in gzip, deflate or zstd, or without.",
        )),
        None => Err(Error::new(
            ErrorKind::UnsupportedEncoding,
            "The body must be read: send it without a content-encoding.",
        )),
    }
}

/// The body without its encoding, and the headers without what was true of the encoded one. What decoding holds is paid for
/// with `reservation` until the body has ended; at most `limit` encoded bytes are read.
pub(super) fn decode(
    headers: &mut HeaderMap,
    body: Body,
    coding: Coding,
    mut reservation: Reservation,
    limit: u64,
) -> Result<Body, Error> {
    headers.remove(CONTENT_ENCODING);
    if http_body::Body::is_end_stream(&body) {
        return Ok(body);
    }
    headers.remove(CONTENT_LENGTH);
    if !reservation.cover(coding.window()) {
        return Err(no_room());
    }
    Ok(reader::decoded(body, coding, reservation, limit))
}

#[cfg(not(feature = "decompression"))]
mod reader {
    use super::{Body, Coding, Reservation};

    /// Nobody comes here: without the feature every coding is refused.
    pub(super) fn decoded(body: Body, _: Coding, _: Reservation, _: u64) -> Body {
        body
    }
}

#[cfg(feature = "decompression")]
mod reader {
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll, ready};

    use async_compression::tokio::bufread::{GzipDecoder, ZlibDecoder, ZstdDecoder};
    use async_compression::zstd::DParameter;
    use bytes::{Buf, Bytes};
    use http_body::{Body as HttpBody, Frame};
    use tokio::io::{AsyncBufRead, AsyncRead, ReadBuf};
    use tower::BoxError;

    use super::super::upload;
    use super::{Body, Coding, Reservation, ZSTD_WINDOW_LOG};

    /// Bytes that are decoded at a time: 32 KiB.
    const PIECE: usize = 32 << 10;
    /// After so many pieces others have a turn.
    const TURN: u32 = 32;

    pub(super) fn decoded(body: Body, coding: Coding, reservation: Reservation, limit: u64) -> Body {
        let source = Source { body, chunk: Bytes::new(), left: limit, turn: Turn::default() };
        let decoder: Pin<Box<dyn AsyncRead + Send>> = match coding {
            Coding::Deflate => Box::pin(ZlibDecoder::new(source)),
            Coding::Gzip => {
                let mut decoder = GzipDecoder::new(source);
                decoder.multiple_members(true);
                Box::pin(decoder)
            }
            Coding::Zstd => {
                let window = [DParameter::window_log_max(ZSTD_WINDOW_LOG)];
                let mut decoder = ZstdDecoder::with_params(source, &window);
                decoder.multiple_members(true);
                Box::pin(decoder)
            }
        };
        let piece = vec![0; PIECE].into_boxed_slice();
        Body::new(Decoded { at_work: Some((decoder, reservation)), piece, turn: Turn::default() })
    }

    /// Lets others have a turn now and then, however much is there at once.
    #[derive(Default)]
    struct Turn(u32);

    impl Turn {
        fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
            self.0 += 1;
            if self.0 < TURN {
                return Poll::Ready(());
            }
            self.0 = 0;
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    }

    struct Decoded {
        /// Decoder at work, and the reservation that pays for it; `None` at the end.
        at_work: Option<(Pin<Box<dyn AsyncRead + Send>>, Reservation)>,
        piece: Box<[u8]>,
        turn: Turn,
    }

    impl HttpBody for Decoded {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            let this = &mut *self;
            let Some((decoder, _)) = &mut this.at_work else { return Poll::Ready(None) };
            ready!(this.turn.poll(cx));
            let mut piece = ReadBuf::new(&mut this.piece);
            let read = ready!(decoder.as_mut().poll_read(cx, &mut piece));
            let frame = match read {
                Ok(()) if piece.filled().is_empty() => None,
                Ok(()) => Some(Ok(Frame::data(Bytes::copy_from_slice(piece.filled())))),
                Err(error) => Some(Err(cause(error))),
            };
            if !matches!(frame, Some(Ok(_))) {
                this.at_work = None;
            }
            Poll::Ready(frame)
        }
    }

    /// Returns what went wrong: with the upload, or with what it holds.
    fn cause(error: io::Error) -> BoxError {
        match error.downcast::<Failed>() {
            Ok(Failed(upload)) => upload,
            Err(error) => upload::undecodable(error).into(),
        }
    }

    /// The upload itself failed.
    #[derive(Debug, thiserror::Error)]
    #[error("the upload failed")]
    struct Failed(#[source] BoxError);

    /// The encoded bytes.
    struct Source {
        body: Body,
        chunk: Bytes,
        left: u64,
        turn: Turn,
    }

    impl AsyncBufRead for Source {
        fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
            let this = self.get_mut();
            let failed = |error: BoxError| io::Error::other(Failed(error));
            while this.chunk.is_empty() {
                ready!(this.turn.poll(cx));
                let Some(frame) = ready!(Pin::new(&mut this.body).poll_frame(cx)) else { break };
                if let Ok(data) = frame.map_err(failed)?.into_data() {
                    let left = this.left.checked_sub(data.len() as u64);
                    this.left = left.ok_or_else(|| failed(upload::too_large().into()))?;
                    this.chunk = data;
                }
            }
            Poll::Ready(Ok(&this.chunk))
        }

        fn consume(mut self: Pin<&mut Self>, amount: usize) {
            self.chunk.advance(amount);
        }
    }

    impl AsyncRead for Source {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let chunk = ready!(self.as_mut().poll_fill_buf(cx))?;
            let length = chunk.len().min(into.remaining());
            into.put_slice(chunk.get(..length).unwrap_or_default());
            self.consume(length);
            Poll::Ready(Ok(()))
        }
    }
}
