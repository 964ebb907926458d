//! Rest of a body whose length was announced.

use bytes::Buf;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::{Body as HttpBody, Frame};

use crate::context::Ending;

/// Bytes of an announced length that are still to come; none where the head says nothing of it.
///
/// Servers ask a body for nothing more after the last of them, so its end has to be noticed with the frame that brings it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Announced(Option<u64>);

impl Announced {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        Self(headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok()))
    }

    /// Ending of the body that gave this frame, if it is its last.
    pub(crate) fn ending<B: HttpBody>(
        &mut self,
        frame: Option<&Result<Frame<B::Data>, B::Error>>,
        body: &B,
    ) -> Option<Ending> {
        match frame {
            None => Some(Ending::Whole),
            Some(Err(_)) => Some(Ending::Broken),
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, Buf::remaining) as u64;
                self.0 = self.0.map(|left| left.saturating_sub(bytes));
                (self.0 == Some(0) || body.is_end_stream()).then_some(Ending::Whole)
            }
        }
    }
}
