//! Collects a body into one charged piece, or hands it on as a stream when it cannot be held.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Body as HttpBody;
use tower::BoxError;

use super::account::Reservation;
use super::upload::Upload;
use crate::body::Body;

/// A body on its way in.
#[derive(Debug)]
pub(super) struct Collect {
    /// `None` once it was handed on.
    upload: Option<Upload>,
    held: Held,
    limit: usize,
    /// Whether the body is not to be held: it is known to be too large.
    pass_on: bool,
}

impl Collect {
    /// Holds at most `limit` bytes, and pays for them as they arrive: what a client announces costs nobody anything.
    pub(super) fn new(upload: Upload, reservation: Reservation, limit: usize) -> Self {
        let pass_on = upload.size_hint().lower() > limit as u64;
        Self { upload: Some(upload), held: Held::new(reservation), limit, pass_on }
    }

    /// How many bytes are held at most.
    pub(super) const fn limit(&self) -> usize {
        self.limit
    }

    /// The body: bytes when it was collected whole, otherwise a stream of what was read and of what is still to come.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Body, BoxError>> {
        let Some(upload) = &mut self.upload else { return Poll::Ready(Ok(Body::empty())) };
        while !self.pass_on {
            if upload.is_end_stream() {
                return Poll::Ready(Ok(Body::from(self.held.finish())));
            }
            let frame = match Pin::new(&mut *upload).poll_frame(cx)? {
                Poll::Ready(Some(frame)) => frame,
                Poll::Ready(None) => return Poll::Ready(Ok(Body::from(self.held.finish()))),
                Poll::Pending => {
                    self.held.detach();
                    return Poll::Pending;
                }
            };
            if let Ok(data) = frame.into_data()
                && let Err(data) = self.held.push(data, self.limit)
            {
                let rest = self.upload.take().map_or_else(Body::empty, Body::new);
                return Poll::Ready(Ok(Body::prefixed(self.held.finish(), Body::prefixed(data, rest))));
            }
        }
        Poll::Ready(Ok(self.upload.take().map_or_else(Body::empty, Body::new)))
    }
}

/// What was read, and the reservation for it.
struct Held {
    /// The first frame as it came, as long as it is alone: most bodies are one frame, which is not copied.
    first: Bytes,
    /// Never larger than the reservation.
    buffer: Vec<u8>,
    /// Dropped after what it pays for.
    reservation: Option<Reservation>,
}

impl Held {
    const fn new(reservation: Reservation) -> Self {
        Self { first: Bytes::new(), buffer: Vec::new(), reservation: Some(reservation) }
    }

    /// Takes a frame, or gives it back when it cannot be held.
    fn push(&mut self, data: Bytes, limit: usize) -> Result<(), Bytes> {
        let length = self.len();
        let needed = length.saturating_add(data.len());
        let Some(reservation) = &mut self.reservation else { return Err(data) };
        if needed > limit || !reservation.cover_ahead(needed, limit) {
            return Err(data);
        }
        if length == 0 {
            self.first = data;
        } else {
            self.detach();
            self.extend(&data);
        }
        Ok(())
    }

    fn len(&self) -> usize {
        self.first.len() + self.buffer.len()
    }

    /// Lets go of the first frame, which may be a small slice of a large read buffer.
    fn detach(&mut self) {
        let first = std::mem::take(&mut self.first);
        self.extend(&first);
    }

    fn extend(&mut self, data: &[u8]) {
        let needed = self.buffer.len() + data.len();
        let reserved = self.reservation.as_ref().map_or(0, Reservation::amount);
        if needed > self.buffer.capacity() {
            self.buffer.reserve_exact(reserved.max(needed) - self.buffer.len());
        }
        self.buffer.extend_from_slice(data);
    }

    /// Everything in one piece, whose last clone gives the charge back.
    fn finish(&mut self) -> Bytes {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.shrink_to_fit();
        let bytes = if buffer.is_empty() { std::mem::take(&mut self.first) } else { Bytes::from(buffer) };
        match self.reservation.take() {
            Some(mut reservation) if !bytes.is_empty() => {
                reservation.shrink_to(bytes.len());
                Bytes::from_owner(Charged { bytes, _reservation: reservation })
            }
            _ => bytes,
        }
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Bytes that are paid for as long as anybody holds them.
struct Charged {
    bytes: Bytes,
    _reservation: Reservation,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::super::account::Account;
    use super::*;

    #[test]
    fn a_single_frame_is_not_copied() {
        let account = Account::new(2_000_000);
        let mut held = Held::new(account.open(None));
        let frame = Bytes::from(vec![7; 100]);
        held.push(frame.clone(), 1_000).unwrap();
        let bytes = held.finish();
        assert_eq!(bytes.as_ptr(), frame.as_ptr());
        assert_eq!(account.in_use(), 100);
        let clone = bytes.clone();
        drop(bytes);
        assert_eq!(account.in_use(), 100, "a clone still holds it");
        drop(clone.slice(3..4));
        drop(clone);
        assert_eq!(account.in_use(), 0);
    }

    #[test]
    fn the_buffer_is_never_larger_than_the_reservation() {
        let account = Account::new(2_000_000);
        let mut held = Held::new(account.open(None));
        for _ in 0..500 {
            held.push(Bytes::from_static(&[1; 777]), 500_000).unwrap();
            assert!(held.buffer.capacity() <= account.in_use(), "{} {}", held.buffer.capacity(), account.in_use());
            assert!(account.in_use() <= held.len() * 3 / 2, "by what has arrived");
        }
        let bytes = held.finish();
        assert_eq!((bytes.len(), account.in_use()), (388_500, 388_500));
    }

    #[test]
    fn a_frame_that_waits_for_more_lets_its_read_buffer_go() {
        let account = Account::new(2_000_000);
        let mut held = Held::new(account.open(None));
        let read_buffer = Bytes::from(vec![1; 100_000]);
        held.push(read_buffer.slice(..10), 1_000).unwrap();
        assert!(!read_buffer.is_unique());
        held.detach();
        assert!(read_buffer.is_unique());
        assert_eq!(held.finish(), [1; 10].as_slice());
    }
}
