//! Fates of a connection.

use std::fmt;
use std::io;

use tower::BoxError;

/// A transport fault: a request to a [`SimulatedBackend`](super::SimulatedBackend) got no answer, or not all of it.
///
/// Where a real client would see an error of the socket, the [source](std::error::Error::source) is an [`io::Error`] of
/// that kind: `ConnectionRefused`, `ConnectionReset`, or `UnexpectedEof` for a body that was cut.
#[derive(Debug)]
pub struct TransportError {
    kind: Kind,
    source: BoxError,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Cut,
    Refused,
    RequestBody,
    Reset,
}

impl TransportError {
    pub(super) fn cut() -> Self {
        Self { kind: Kind::Cut, source: io::Error::from(io::ErrorKind::UnexpectedEof).into() }
    }

    pub(super) fn refused() -> Self {
        Self { kind: Kind::Refused, source: io::Error::from(io::ErrorKind::ConnectionRefused).into() }
    }

    pub(super) fn request_body(source: impl Into<BoxError>) -> Self {
        Self { kind: Kind::RequestBody, source: source.into() }
    }

    pub(super) fn reset() -> Self {
        Self { kind: Kind::Reset, source: io::Error::from(io::ErrorKind::ConnectionReset).into() }
    }

    /// Tells whether the body of the answer broke off.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.kind == Kind::Cut
    }

    /// Tells whether the connection was refused: nothing was received.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.kind == Kind::Refused
    }

    /// Tells whether the request's own body failed.
    #[must_use]
    pub fn is_request_body(&self) -> bool {
        self.kind == Kind::RequestBody
    }

    /// Tells whether the connection was closed after the request had been received.
    #[must_use]
    pub fn is_reset(&self) -> bool {
        self.kind == Kind::Reset
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Cut => "the simulated backend broke off its answer",
            Kind::Refused => "the simulated backend did not accept the connection",
            Kind::RequestBody => "the body of the request failed",
            Kind::Reset => "the simulated backend gave no answer",
        })
    }
}

impl std::error::Error for TransportError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.source)
    }
}
