//! Collecting a body, or letting it through as a stream.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http_body::Body as HttpBody;
use tokio::time::Instant;

use super::account::{Account, Charge};
use super::upload::{Upload, too_large};
use crate::body::Body;
use crate::error::Error;

#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) request_body: usize,
    pub(super) replay_limit: usize,
    pub(super) request_timeout: Duration,
}

/// The body in hand, or as a stream when it is too large for that.
pub(super) async fn collect(body: Body, bounds: Bounds, account: Account, arrived: Instant) -> Result<Body, Error> {
    let announced = body.size_hint().lower();
    if announced > bounds.request_body as u64 {
        return Err(too_large());
    }
    if body.as_bytes().is_some() {
        return Ok(body);
    }
    let announced = usize::try_from(announced).unwrap_or(usize::MAX);
    let mut upload = Upload::new(body, bounds.request_body, arrived + bounds.request_timeout);
    let mut collected = Collected { bytes: Vec::new(), charge: account.open() };
    if !collected.reserve(announced, bounds.replay_limit) {
        return Ok(Body::new(upload));
    }
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut upload).poll_frame(cx)).await {
        let Ok(data) = frame?.into_data() else { continue };
        if !collected.reserve(data.len(), bounds.replay_limit) {
            let rest = Body::prefixed(data, Body::new(upload));
            return Ok(Body::prefixed(collected.into_bytes(), rest));
        }
        collected.bytes.extend_from_slice(&data);
    }
    Ok(Body::from(collected.into_bytes()))
}

/// Bytes in hand, with a charge for all the memory that they occupy.
struct Collected {
    bytes: Vec<u8>,
    charge: Charge,
}

impl Collected {
    /// Makes room for `more` bytes within the limit and the account.
    fn reserve(&mut self, more: usize, limit: usize) -> bool {
        let needed = self.bytes.len().saturating_add(more);
        if needed <= self.bytes.capacity() {
            return true;
        }
        if needed > limit {
            return false;
        }
        // A body of unknown length grows by half, so that it is not copied for every frame.
        let roomy = if self.bytes.is_empty() { needed } else { needed.max(self.bytes.capacity() / 2 * 3).min(limit) };
        let granted = if self.charge.grow_to(roomy) { roomy } else { needed };
        if granted == needed && !self.charge.grow_to(needed) {
            return false;
        }
        self.bytes.reserve_exact(granted - self.bytes.len());
        true
    }

    fn into_bytes(self) -> Bytes {
        self.charge.attach(self.bytes)
    }
}
