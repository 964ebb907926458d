use std::error::Error as StdError;
use std::io;

use super::{AttemptFailed, is_exhaustion};
use crate::azure::Outcome;
use crate::error::{Error, ErrorKind, causes};

/// Reads what an error of the service below means for a request and its target.
///
/// Asked once for every attempt that ended without an answer. The conservative reading is [`Outcome::Unknown`]: the backend
/// may have done what it was asked. Closures are accepted.
pub trait ClassifyError: Send + Sync {
    /// Reads an error, with everything that caused it.
    fn classify(&self, error: &(dyn StdError + 'static)) -> Outcome;
}

impl<F> ClassifyError for F
where
    F: Fn(&(dyn StdError + 'static)) -> Outcome + Send + Sync,
{
    fn classify(&self, error: &(dyn StdError + 'static)) -> Outcome {
        self(error)
    }
}

/// An [`AttemptFailed`], such as the crate's own client gives, says what it means. An [`Error`] is a refusal by a layer, or an upload
/// that failed: nobody's failure, and neither is what this process itself has run out of: descriptors, buffers, local ports, memory; a refused connection is a
/// refusal; anything else is unknown.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct DefaultClassify;

impl ClassifyError for DefaultClassify {
    fn classify(&self, error: &(dyn StdError + 'static)) -> Outcome {
        causes(error).find_map(meaning).unwrap_or(Outcome::Unknown)
    }
}

fn meaning(error: &(dyn StdError + 'static)) -> Option<Outcome> {
    if let Some(failed) = error.downcast_ref::<AttemptFailed>() {
        return Some(failed.outcome());
    }
    if let Some(cause) = error.downcast_ref::<Error>() {
        return Some(match cause.kind() {
            // What a gateway below says of its backends.
            ErrorKind::BackendFailed | ErrorKind::BackendTimeout => Outcome::Unknown,
            _ => Outcome::Abandoned,
        });
    }
    let io = error.downcast_ref::<io::Error>()?;
    match io.kind() {
        io::ErrorKind::ConnectionRefused => Some(Outcome::Unreachable),
        _ if is_exhaustion(error) => Some(Outcome::Abandoned),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_whole_chain() {
        let refused = io::Error::new(io::ErrorKind::ConnectionRefused, "refused");
        let late = Error::new(ErrorKind::RequestTimeout, "late");
        let full = io::Error::from(io::ErrorKind::AddrNotAvailable);
        let table: [(Box<dyn StdError>, Outcome); 5] = [
            (Box::new(io::Error::other(refused)), Outcome::Unreachable),
            (Box::new(io::Error::other(late)), Outcome::Abandoned),
            (Box::new(io::Error::other(full)), Outcome::Abandoned),
            (Box::new(io::Error::other(AttemptFailed::new(Outcome::Reset, "x"))), Outcome::Reset),
            (Box::new(io::Error::other("x")), Outcome::Unknown),
        ];
        for (error, expected) in table {
            assert_eq!(DefaultClassify.classify(error.as_ref()), expected, "{error}");
        }
    }
}
