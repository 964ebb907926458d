//! Causes for which the gateway itself refuses a request, or has no answer to give.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::time::Duration;

use tower::BoxError;

use crate::pool::{NoTarget, NoTargetReason};

/// Wait that a client is told when nobody can know, as while everything is drained: the longest wait that clients agree on.
const UNKNOWN_WAIT: Duration = Duration::from_secs(59);

/// Wait that a client is told while all memory for bodies is in use.
const BUSY: Duration = Duration::from_secs(1);

/// A cause that becomes an answer: layers return it inside a `BoxError`, [`RespondLayer`](crate::respond::RespondLayer)
/// turns it into a status and a body.
///
/// Its message is written for the client: it names what to change, never a backend's hostname, a key or a token.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: Cow<'static, str>,
    retry_after: Option<Duration>,
    spread: Option<Duration>,
    must_not_repeat: bool,
    source: Option<BoxError>,
}

/// Kind of cause that an [`Error`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The client may not use the alias.
    AliasNotAllowed,
    /// Two parsers could read the request differently.
    AmbiguousRequest,
    /// The `api-version` is not among the allowed ones.
    ApiVersionNotAllowed,
    /// The last attempt broke after it was sent, and nobody answered.
    BackendFailed,
    /// The last attempt timed out, and nobody answered.
    BackendTimeout,
    /// Every backend refused the gateway's own credential.
    CredentialRejected,
    /// No configured backend that complies serves the alias.
    DeploymentNotFound,
    /// It did not come through the right Azure Front Door.
    FrontDoorRequired,
    /// The request refers to objects of two backends.
    IdsOnDifferentBackends,
    /// The body is not what the operation needs.
    InvalidBody,
    /// A header by which the request narrows where it may go cannot be understood.
    InvalidConstraint,
    /// The method is never forwarded.
    MethodNotAllowed,
    /// The layers of the gateway are stacked in an order in which they cannot work.
    Misordered,
    /// Every eligible target is down.
    NoTargetDown,
    /// Every eligible target is throttled or full, or some are and the others down.
    NoTargetThrottled,
    /// The gateway cannot serve this kind of call.
    NotSupported,
    /// No object that this client may use has the id.
    ObjectNotFound,
    /// The client may not make this kind of call.
    OperationNotAllowed,
    /// The gateway itself is full.
    Overloaded,
    /// The path lies outside the API.
    PathNotFound,
    /// The backend that holds what the request refers to is down.
    PinnedUnavailable,
    /// The client's tokens of the day are used up.
    QuotaExceeded,
    /// The client is above its rate.
    RateLimitExceeded,
    /// The body did not arrive in time.
    RequestTimeout,
    /// The body is above the limit.
    RequestTooLarge,
    /// No credential that identifies a client.
    Unauthenticated,
    /// The body is encoded, and would have to be read.
    UnsupportedEncoding,
    /// The client broke its upload off.
    UploadFailed,
}

impl Error {
    /// A cause with the message that the client gets.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into(), retry_after: None, spread: None, must_not_repeat: false, source: None }
    }

    /// Says how long to wait, for the wait headers of the answer.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Says what caused it, for logs; a client never sees it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Says that the request may have taken effect, so that client libraries must not repeat it by themselves.
    #[must_use]
    pub const fn must_not_repeat(mut self) -> Self {
        self.must_not_repeat = true;
        self
    }

    /// Kind of its cause.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The message for the client.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Time to wait before a repeat makes sense.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Further time after which this client may come, where the pool said so.
    pub(crate) const fn spread(&self) -> Option<Duration> {
        self.spread
    }

    /// Tells whether the request may have taken effect.
    #[must_use]
    pub const fn is_not_repeatable(&self) -> bool {
        self.must_not_repeat
    }

    /// Tells whether the client's own upload ended the request: no backend is to blame.
    #[must_use]
    pub const fn is_upload(&self) -> bool {
        matches!(self.kind, ErrorKind::RequestTimeout | ErrorKind::RequestTooLarge | ErrorKind::UploadFailed)
    }

    /// Looks for a cause of this crate in an error and everything that caused it.
    #[must_use]
    pub fn find<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        causes(error).find_map(|cause| cause.downcast_ref())
    }

    /// Looks for a wrong order of layers, which is nobody's failure but that of whoever has stacked them.
    pub(crate) fn find_misordered<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        Self::find(error).filter(|cause| cause.kind == ErrorKind::Misordered)
    }

    /// The same cause again, without what caused it.
    #[must_use]
    pub fn without_source(&self) -> Self {
        Self {
            kind: self.kind,
            message: self.message.clone(),
            retry_after: self.retry_after,
            spread: self.spread,
            must_not_repeat: self.must_not_repeat,
            source: None,
        }
    }
}

/// An error and everything that caused it, outermost first.
pub(crate) fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| cause_of(*error))
}

fn cause_of<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    // The `source` of an `io::Error` skips the error inside it.
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

/// Returns the refusal of a body or message that finds no room in memory now.
pub(crate) fn no_room() -> Error {
    Error::new(ErrorKind::Overloaded, "The gateway holds as many requests as it can. Wait as the headers say.")
        .with_retry_after(BUSY)
}

/// Error of a future that is polled after it has answered, which only a broken executor does.
pub(crate) fn polled_again() -> BoxError {
    "polled after it had answered".into()
}

/// An error with everything that caused it, on one line, for logs.
pub(crate) struct Chain<'a>(pub(crate) &'a (dyn StdError + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, cause) in causes(self.0).enumerate() {
            write!(f, "{}{cause}", if i == 0 { "" } else { ": " })?;
        }
        Ok(())
    }
}

impl Error {
    /// A call whose body names no deployment, where nobody has one for it.
    pub(crate) fn no_model() -> Self {
        Self::new(ErrorKind::InvalidBody, "The body cannot be used: it has no `model`, which names the deployment.")
    }
}

impl From<NoTarget> for Error {
    fn from(none: NoTarget) -> Self {
        let (kind, message) = match none.reason {
            NoTargetReason::NotServed => {
                return Self::new(
                    ErrorKind::DeploymentNotFound,
                    "No backend that this client may use serves the deployment. Check its name, or ask for it to be configured.",
                );
            }
            NoTargetReason::NotServedThere => {
                return Self::new(
                    ErrorKind::DeploymentNotFound,
                    "The backend that holds what this request refers to does not serve the deployment. Use one that it serves.",
                );
            }
            NoTargetReason::Pinned => (
                ErrorKind::PinnedUnavailable,
                "The backend that holds what this request refers to is not available. Wait as the headers say.",
            ),
            NoTargetReason::TokenMissing => {
                return Self::new(
                    ErrorKind::Unauthenticated,
                    "The backends that serve this take the caller's own Entra token. Send one as `Authorization: Bearer`.",
                );
            }
            NoTargetReason::Throttled => (
                ErrorKind::NoTargetThrottled,
                "Every backend that could serve this is at its limit. Wait as the headers say.",
            ),
            NoTargetReason::Down => {
                (ErrorKind::NoTargetDown, "No backend that could serve this is available. Wait as the headers say.")
            }
        };
        let cause = Self::new(kind, message).with_retry_after(none.retry_after.unwrap_or(UNKNOWN_WAIT));
        Self { spread: none.spread, ..cause }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}
