//! Heads of 1xx over HTTP/2, of which nobody else tells: a connection that brings too many for one request is at its end.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::INTERIM_HEADS;
use crate::context::Reason;
use crate::writes_through::writes_through;

/// A connection whose heads are counted where it speaks HTTP/2.
#[derive(Debug)]
pub(super) struct Counted<I> {
    io: TokioIo<I>,
    heads: Option<Heads>,
}

impl<I: Connection> Counted<I> {
    pub(super) fn new(io: I) -> TokioIo<Self> {
        let heads = io.connected().is_negotiated_h2().then(Heads::default);
        TokioIo::new(Self { io: TokioIo::new(io), heads })
    }
}

impl<I: Connection> Connection for Counted<I> {
    fn connected(&self) -> Connected {
        self.io.inner().connected()
    }
}

impl<I: hyper::rt::Read + Unpin> AsyncRead for Counted<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        let read = buf.filled().get(before..).unwrap_or_default();
        Poll::Ready(self.heads.as_mut().map_or(Ok(()), |heads| heads.read(read)).map_err(io::Error::other))
    }
}

writes_through!([I: hyper::rt::Write + Unpin] AsyncWrite for Counted<I> => io);

/// Length of what every frame begins with (RFC 9113 §4.1).
const FRAME_HEAD: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const END_STREAM: u8 = 1;
/// Streams that are counted: those that this side has reset have no end that could be read.
const MOST_STREAMS: usize = 4096;

/// Frames on their way in, of which nothing is held but the head that is being read.
#[derive(Debug, Default)]
struct Heads {
    head: [u8; FRAME_HEAD],
    read: usize,
    /// Bytes of the frame that are still to come.
    left: usize,
    /// Heads of each stream that has not ended.
    streams: HashMap<u32, u32>,
}

impl Heads {
    fn read(&mut self, mut bytes: &[u8]) -> Result<(), Reason> {
        loop {
            let payload;
            (payload, bytes) = bytes.split_at(self.left.min(bytes.len()));
            self.left -= payload.len();
            let part;
            (part, bytes) = bytes.split_at((FRAME_HEAD - self.read).min(bytes.len()));
            self.head[self.read..][..part.len()].copy_from_slice(part);
            self.read += part.len();
            if self.read < FRAME_HEAD {
                return Ok(());
            }
            self.read = 0;
            self.begins()?;
        }
    }

    /// A frame begins whose head has been read.
    fn begins(&mut self) -> Result<(), Reason> {
        let [a, b, c, kind, flags, stream @ ..] = self.head;
        self.left = u32::from_be_bytes([0, a, b, c]) as usize;
        let (stream, is_last) = (u32::from_be_bytes(stream), flags & END_STREAM != 0);
        match kind {
            HEADERS if !is_last => {
                if self.streams.len() == MOST_STREAMS {
                    self.streams.clear();
                }
                let heads = self.streams.entry(stream).or_default();
                *heads += 1;
                // The one that counts is among them.
                if *heads > INTERIM_HEADS + 1 {
                    return Err(Reason::fixed("too many heads of 1xx before an answer"));
                }
            }
            DATA | HEADERS if is_last => drop(self.streams.remove(&stream)),
            RST_STREAM => drop(self.streams.remove(&stream)),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, length: usize) -> Vec<u8> {
        let size = u32::try_from(length).unwrap().to_be_bytes();
        [&size[1..], &[kind, flags], &stream.to_be_bytes(), &vec![HEADERS; length]].concat()
    }

    #[test]
    fn a_stream_has_so_many_heads_and_the_one_that_counts() {
        let mut heads = Heads::default();
        for stream in [1, 3] {
            for _ in 0..=INTERIM_HEADS {
                heads.read(&frame(HEADERS, 4, stream, 1)).unwrap();
            }
        }
        assert!(heads.read(&frame(HEADERS, 4, 3, 1)).is_err());
        let mut heads = Heads::default();
        for _ in 0..3 * INTERIM_HEADS {
            for (kind, flags, length) in [(HEADERS, 4, 20), (DATA, 0, 300), (DATA, END_STREAM, 0)] {
                heads.read(&frame(kind, flags, 5, length)).unwrap();
            }
        }
        assert!(heads.streams.is_empty());
    }

    #[test]
    fn streams_that_never_end_are_forgotten() {
        let mut heads = Heads::default();
        for stream in 0..3 * u32::try_from(MOST_STREAMS).unwrap() {
            heads.read(&frame(HEADERS, 4, stream, 0)).unwrap();
            assert!(heads.streams.len() <= MOST_STREAMS);
        }
    }

    proptest! {
        /// Whatever stands in a frame, and however frames are cut, only their heads are read.
        #[test]
        fn frames_are_counted_however_they_are_cut(
            frames in prop::collection::vec((0_u8..10, 0_u8..6, 0_u32..4, 0_usize..40), 0..60),
            pieces in prop::collection::vec(1_usize..30, 1..8),
        ) {
            let bytes: Vec<u8> = frames.iter().flat_map(|(kind, flags, stream, length)| frame(*kind, *flags, *stream, *length)).collect();
            let (mut whole, mut cut) = (Heads::default(), Heads::default());
            prop_assert!(whole.read(&bytes).is_ok());
            let (mut rest, mut pieces) = (&bytes[..], pieces.iter().cycle());
            while !rest.is_empty() {
                let (piece, after) = rest.split_at((*pieces.next().unwrap()).min(rest.len()));
                prop_assert!(cut.read(piece).is_ok());
                rest = after;
            }
            prop_assert_eq!(&whole.streams, &cut.streams);
            prop_assert_eq!((whole.left, whole.read), (0, 0));
            let mut expected = HashMap::new();
            for (kind, flags, stream, _) in frames {
                match kind {
                    HEADERS if flags & END_STREAM == 0 => *expected.entry(stream).or_insert(0_u32) += 1,
                    DATA | HEADERS if flags & END_STREAM != 0 => drop(expected.remove(&stream)),
                    RST_STREAM => drop(expected.remove(&stream)),
                    _ => {}
                }
            }
            prop_assert_eq!(whole.streams, expected);
        }
    }
}
