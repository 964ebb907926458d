//! Collects a body into one charged piece, or hands it on as a stream when it cannot be held.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Body as HttpBody;
use tower::BoxError;

use super::checked::checked;
use super::naming::{self, NameScan};
use super::upload::{self, Upload};
use crate::account::Reservation;
use crate::azure::request_body::{BodyScan, Fields};
use crate::body::Body;
use crate::error::Error;

/// A body on its way in.
#[derive(Debug)]
pub(super) struct Collect {
    /// `None` once it was handed on.
    upload: Option<Upload>,
    held: Held,
    limit: usize,
    /// Bytes that are held at first; less than that of a body that will not fit.
    held_first: usize,
    /// True if no more is held for a repeat, as the body does not fit.
    is_large: bool,
    /// Scan for the model in a body that does not fit, where it must be found.
    scan: Option<NameScan>,
}

/// Body that was collected, or is handed on.
#[derive(Debug)]
pub(super) struct Read {
    /// Bytes when it was collected whole, otherwise a stream of what was read and of what is still to come.
    pub(super) body: Body,
    /// Fields of the part in hand, where they had to be found and not all is in hand.
    pub(super) fields: Option<Fields>,
}

impl Collect {
    /// Holds at most `limit` bytes, and pays for them as they arrive: what a client announces costs nobody anything. A body that
    /// must be read with `scan` is held until the name was found, as far as its client's share of the account goes; of any other
    /// that does not fit, `searched` bytes are held.
    pub(super) fn new(
        upload: Upload,
        reservation: Reservation,
        limit: usize,
        searched: usize,
        scan: Option<NameScan>,
    ) -> Self {
        let will_not_fit = upload.size_hint().lower() > limit as u64;
        let held_first = if will_not_fit { searched } else { limit };
        let held = Held::new(reservation);
        Self { upload: Some(upload), held, limit, held_first, is_large: will_not_fit && searched == 0, scan }
    }

    /// Number of bytes that are held at most for a repeat.
    pub(super) const fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Read, BoxError>> {
        loop {
            let Some(upload) = &mut self.upload else { return Poll::Ready(Ok(Read::all(Body::empty()))) };
            if self.is_large && self.scan.is_none() {
                return Poll::Ready(Ok(self.pass_on(Bytes::new())));
            }
            if upload.is_end_stream() {
                return Poll::Ready(Ok(Read::all(Body::from(self.held.finish()))));
            }
            let frame = match Pin::new(upload).poll_frame(cx)? {
                Poll::Ready(Some(frame)) => frame,
                Poll::Ready(None) => return Poll::Ready(Ok(Read::all(Body::from(self.held.finish())))),
                Poll::Pending => {
                    self.held.detach();
                    return Poll::Pending;
                }
            };
            if let Ok(data) = frame.into_data()
                && let Some(read) = self.take(data)?
            {
                return Poll::Ready(Ok(read));
            }
        }
    }

    /// Takes a frame; what is known when that is all that will be held.
    fn take(&mut self, mut data: Bytes) -> Result<Option<Read>, Error> {
        if !self.is_large {
            match self.held.push(data, self.held_first) {
                Ok(()) => return Ok(None),
                Err(back) => data = back,
            }
            self.is_large = true;
            if self.finds(None)? {
                return Ok(Some(self.pass_on(data)));
            }
        }
        if self.scan.is_none() {
            return Ok(Some(self.pass_on(data)));
        }
        // A frame that is alone is in hand in any case: it is searched before it is paid for.
        let is_alone = self.held.len() == 0;
        let is_found = is_alone && self.finds(Some(&data))?;
        match self.held.push(data.clone(), usize::MAX) {
            Ok(()) if is_alone => Ok(is_found.then(|| self.pass_on(Bytes::new()))),
            Ok(()) => Ok(self.finds(Some(&data))?.then(|| self.pass_on(Bytes::new()))),
            Err(data) if is_alone => {
                self.held.first = data;
                if is_found { Ok(Some(self.pass_on(Bytes::new()))) } else { self.is_spent(Bytes::new()).map(Some) }
            }
            Err(data) => self.is_spent(data).map(Some),
        }
    }

    /// Reads a frame, or what is held; whether the model was found by now.
    fn finds(&mut self, data: Option<&[u8]>) -> Result<bool, Error> {
        let Some(scan) = &mut self.scan else { return Ok(false) };
        let read = scan.body.feed(data.unwrap_or_else(|| self.held.as_slice()));
        read.map_err(|error| naming::unreadable(&error))?;
        Ok(scan.body.fields().model.is_some())
    }

    /// The account has no room for more, and the name was not found: there may be none, or the body cannot be served.
    fn is_spent(&mut self, data: Bytes) -> Result<Read, Error> {
        if self.scan.as_ref().is_some_and(|scan| scan.is_optional) {
            return Ok(self.pass_on(data));
        }
        let needed = self.held.len() + data.len();
        Err(upload::unnamed(needed, self.held.share(needed)))
    }

    /// Hands on what is held, then `data`, then the rest, which is read on its way where the model was looked for.
    fn pass_on(&mut self, data: Bytes) -> Read {
        let rest = self.upload.take().map_or_else(Body::empty, Body::new);
        let (rest, fields) = (Body::prefixed(data, rest), self.scan.as_ref().map(|scan| scan.body.fields().clone()));
        let rest = match self.scan.take() {
            Some(NameScan { body: scan, .. }) => checked(rest, agrees(scan)),
            None => rest,
        };
        Read { body: Body::prefixed(self.held.finish(), rest), fields }
    }
}

impl Read {
    const fn all(body: Body) -> Self {
        Self { body, fields: None }
    }
}

/// Checks the rest of a body whose beginning was believed: it must not say anything else.
fn agrees(mut scan: BodyScan) -> impl FnMut(&[u8]) -> Result<(), Error> + Send + Unpin + 'static {
    let is_named = scan.fields().model.is_some();
    move |data| {
        scan.feed(data).map_err(|error| upload::contradicts(&error))?;
        if scan.fields().model.is_some() && !is_named { Err(upload::named_too_late()) } else { Ok(()) }
    }
}

/// Bytes that were read, and the reservation for them.
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

    fn as_slice(&self) -> &[u8] {
        if self.buffer.is_empty() { &self.first } else { &self.buffer }
    }

    /// Returns how much of a body of `total` bytes its client could hold at most, were nobody else there.
    fn share(&self, total: usize) -> usize {
        self.reservation.as_ref().map_or(0, |reservation| reservation.share(total))
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
            Some(reservation) => reservation.charge(bytes),
            None => bytes,
        }
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Account;

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
