//! Tape of what passed of one body.

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use sha2::{Digest, Sha256};

use super::HELD;
use crate::account::Reservation;
use crate::azure::media_type::MediaType;
use crate::azure::sse;

/// Memory of a frame beside its bytes, at least.
const FRAME: usize = 64;

/// Form in which a body is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Events,
    Json,
    Media,
    Text,
}

impl Kind {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let is_plain = |encoding: &[u8]| encoding.eq_ignore_ascii_case(b"identity");
        if !headers.get_all(CONTENT_ENCODING).iter().all(|encoding| is_plain(encoding.as_bytes())) {
            return Self::Media;
        }
        match MediaType::of(headers) {
            _ if sse::is_event_stream(headers) => Self::Events,
            Some(kind) if kind.is_json() => Self::Json,
            Some(kind) if kind.is_text() => Self::Text,
            Some(_) => Self::Media,
            // Clients forget to say so.
            None => Self::Json,
        }
    }
}

/// The frames of a body, kept as they passed, within an account.
#[derive(Debug)]
pub(super) struct Tape {
    pub(super) kind: Kind,
    pub(super) length: u64,
    pub(super) frames: Vec<Bytes>,
    /// Tells whether more passed than was kept.
    pub(super) is_cut: bool,
    /// Of media, of which nothing is kept.
    digest: Option<Sha256>,
    reservation: Reservation,
}

impl Tape {
    pub(super) fn new(kind: Kind, digests: bool, reservation: Reservation) -> Self {
        let digest = (digests && kind == Kind::Media).then(Sha256::new);
        Self { kind, length: 0, frames: Vec::new(), is_cut: false, digest, reservation }
    }

    pub(super) fn pass(&mut self, frame: &Bytes) {
        self.length += frame.len() as u64;
        if self.kind == Kind::Media {
            if let Some(digest) = &mut self.digest {
                digest.update(frame);
            }
            return;
        }
        let held = self.reservation.amount() + frame.len() + FRAME;
        self.is_cut = self.is_cut || held > HELD || !self.reservation.cover(held);
        if !self.is_cut && !frame.is_empty() {
            self.frames.push(frame.clone());
        }
    }

    pub(super) fn joined(&self) -> Vec<u8> {
        self.frames.concat()
    }

    /// Of media that was read along.
    pub(super) fn take_digest(&mut self) -> Option<String> {
        self.digest.take().map(|digest| hex(&digest.finalize()))
    }
}

pub(super) fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
