//! Exhaustion of this process itself: no peer is to blame for it, and none may be charged with it.

use std::error::Error as StdError;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Reason;
use crate::error::{Error, ErrorKind, causes};

/// Descriptors come back as soon as a few requests have ended.
const WAIT: Duration = Duration::from_secs(1);

/// Once in so long it is said.
const TELL: Duration = Duration::from_secs(1);

/// EMFILE, ENFILE and ENOBUFS, which have no kind of their own.
#[cfg(any(target_os = "linux", target_os = "android"))]
const NAMELESS: [i32; 3] = [24, 23, 105];
#[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
const NAMELESS: [i32; 3] = [24, 23, 55];
/// WSAEMFILE and WSAENOBUFS.
#[cfg(windows)]
const NAMELESS: [i32; 2] = [10_024, 10_055];
#[cfg(not(any(unix, windows)))]
const NAMELESS: [i32; 0] = [];

/// Tells whether an error, or what caused it, is that this process has no descriptor, buffer, local port or memory left.
pub(crate) fn is_exhaustion(error: &(dyn StdError + 'static)) -> bool {
    causes(error).any(|cause| {
        cause.downcast_ref::<Reason>().is_some_and(Reason::is_exhaustion)
            || cause.downcast_ref::<io::Error>().is_some_and(is_ours)
    })
}

fn is_ours(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::OutOfMemory)
        || error.raw_os_error().is_some_and(|number| NAMELESS.contains(&number))
}

/// Tells the client, and the log at most once a second.
pub(crate) fn exhausted() -> Error {
    static TOLD: Mutex<Option<Instant>> = Mutex::new(None);
    let now = Instant::now();
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    if told.is_none_or(|told| now.saturating_duration_since(told) >= TELL) {
        *told = Some(now);
        drop(told);
        tracing::warn!("no connection could be made: the gateway is out of file descriptors, local ports or memory");
    }
    Error::new(ErrorKind::Overloaded, "The gateway is busy. Wait as the headers say.").with_retry_after(WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_told_from_what_a_peer_did() {
        let os = io::Error::from_raw_os_error;
        let kinds = [io::ErrorKind::AddrNotAvailable, io::ErrorKind::OutOfMemory].map(io::Error::from);
        for error in NAMELESS.map(os).into_iter().chain(kinds) {
            assert!(is_exhaustion(&io::Error::other(error)));
        }
        for kind in [io::ErrorKind::ConnectionRefused, io::ErrorKind::TimedOut, io::ErrorKind::HostUnreachable] {
            assert!(!is_exhaustion(&io::Error::other(io::Error::from(kind))), "{kind}");
        }
        assert!(is_exhaustion(&io::Error::other(Reason::EXHAUSTED)) && !is_exhaustion(&Reason::UNRESOLVED));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn has_the_numbers_of_the_system() {
        for (number, said) in
            NAMELESS.into_iter().zip(["Too many open files", "Too many open files", "No buffer space"])
        {
            assert!(io::Error::from_raw_os_error(number).to_string().starts_with(said), "{number}");
        }
    }
}
