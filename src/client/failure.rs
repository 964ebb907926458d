//! Failures in words that name no host: the names and addresses of backends stay out of logs and answers.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::io;
use std::net::{Ipv4Addr, TcpListener};

use hyper_util::client::legacy;
use rustls::{AlertDescription, CertificateError};

use crate::azure::{Outcome, Phase};
use crate::context::{AttemptFailed, Reason, exhausted, is_exhaustion};
use crate::error::causes;

/// Reason that an error and everything that caused it give, without names.
pub(crate) fn reason(error: &(dyn StdError + 'static)) -> Reason {
    reason_with(error, has_local_port)
}

fn reason_with(error: &(dyn StdError + 'static), has_local_port: impl FnOnce() -> bool) -> Reason {
    if is_exhaustion(error) {
        // EADDRNOTAVAIL says that all local ports which could lead there are in use, or that none could: ::1 where there is no IPv6.
        let is_about_address = causes(error).any(is_address_not_available) && has_local_port();
        return if is_about_address { Reason::fixed("no local address leads there") } else { Reason::EXHAUSTED };
    }
    let known: Vec<_> = causes(error).filter_map(describe).collect();
    if known.is_empty() { Reason::fixed("for an unknown reason") } else { Reason::new(known.join(": ")) }
}

fn is_address_not_available(cause: &(dyn StdError + 'static)) -> bool {
    cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::AddrNotAvailable)
}

/// A port that is in use by connections to one place is not given to who asks for any.
fn has_local_port() -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).is_ok()
}

/// Reason that kept a proxy from leading to the destination.
pub(super) fn of_proxy(error: &(dyn StdError + 'static)) -> Reason {
    if is_exhaustion(error) {
        return reason(error);
    }
    // What is wrong with a tunnel is told by its text alone, which is fixed; what is below it may hold names.
    let text = error.to_string();
    let mut known: Vec<_> =
        text.strip_prefix("tunnel error: ").map(|text| text.to_owned().into()).into_iter().collect();
    known.extend(causes(error).filter_map(describe));
    match &known[..] {
        [] => Reason::fixed("the proxy: cannot be reached"),
        [.., last] if last.starts_with("the proxy: ") => Reason::new(last.clone().into_owned()),
        _ => Reason::new(format!("the proxy: {}", known.join(": "))),
    }
}

/// A proxy that reads whole requests did not take the credentials that it was shown.
pub(super) fn of_unauthorised() -> AttemptFailed {
    AttemptFailed::new(Outcome::Unreachable, Reason::fixed("the proxy: proxy authorization required"))
}

/// An attempt that has no answer.
pub(super) fn of_send(error: &legacy::Error) -> AttemptFailed {
    if !was_sent(error) && is_exhaustion(error) {
        return AttemptFailed::new(Outcome::Abandoned, exhausted());
    }
    let outcome = if was_sent(error) { Outcome::Reset } else { Outcome::Unreachable };
    AttemptFailed::new(outcome, reason(error))
}

/// An answer that did not come to its end.
pub(super) fn of_body(error: &hyper::Error) -> AttemptFailed {
    AttemptFailed::new(Outcome::Reset, reason(error))
}

/// An attempt that was told again and again that its answer would come.
pub(super) fn of_interim_heads() -> AttemptFailed {
    AttemptFailed::new(Outcome::Reset, Reason::fixed("too many heads of 1xx before an answer"))
}

/// An attempt or a body that took too long.
pub(super) fn of_timeout(phase: Phase) -> AttemptFailed {
    AttemptFailed::new(
        Outcome::TimedOut(phase),
        Reason::fixed(match phase {
            Phase::FirstByte => "no head of a streamed answer in time",
            Phase::Idle => "no further part of the body in time",
            _ => "no head of an answer in time",
        }),
    )
}

/// Tells whether a byte of the request may have left. Without connect info the request never met a connection; hyper calls
/// "cancelled" only a request that it hands back untouched.
fn was_sent(error: &legacy::Error) -> bool {
    let cancelled = || error.source().and_then(|cause| cause.downcast_ref()).is_some_and(hyper::Error::is_canceled);
    error.connect_info().is_some() && !cancelled()
}

fn describe(cause: &(dyn StdError + 'static)) -> Option<Cow<'static, str>> {
    if let Some(reason) = cause.downcast_ref::<Reason>() {
        return Some(reason.to_string().into());
    }
    if let Some(error) = cause.downcast_ref::<hyper::Error>() {
        // hyper says what caused an error in `source` only; its own text is fixed.
        return Some(error.to_string().into());
    }
    if let Some(error) = cause.downcast_ref::<rustls::Error>() {
        return Some(of_tls(error));
    }
    let error = cause.downcast_ref::<io::Error>().filter(|error| error.get_ref().is_none())?;
    Some(error.kind().to_string().into())
}

fn of_tls(error: &rustls::Error) -> Cow<'static, str> {
    match error {
        rustls::Error::InvalidCertificate(why) => of_certificate(why).into(),
        rustls::Error::AlertReceived(alert) => of_alert(*alert).into(),
        rustls::Error::NoApplicationProtocol => "TLS: no common protocol".into(),
        rustls::Error::PeerIncompatible(_) => "TLS: no common version or cipher".into(),
        _ => "TLS: the handshake failed".into(),
    }
}

const fn of_certificate(why: &CertificateError) -> &'static str {
    match why {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "TLS: the certificate has expired",
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "TLS: the certificate is for another name"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "TLS: the certificate is not valid yet"
        }
        CertificateError::UnknownIssuer => "TLS: the issuer of the certificate is not trusted",
        _ => "TLS: the certificate is not valid",
    }
}

fn of_alert(alert: AlertDescription) -> String {
    format!("TLS: the peer sent the alert {alert:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_cannot_be_had_is_ours_only_when_ports_are_used_up() {
        let wrapped = |kind: io::ErrorKind| io::Error::other(io::Error::from(kind));
        let without_ports = reason_with(&wrapped(io::ErrorKind::AddrNotAvailable), || false);
        assert!(without_ports.is_exhaustion());
        let with_ports = reason(&wrapped(io::ErrorKind::AddrNotAvailable));
        assert!(!with_ports.is_exhaustion(), "{with_ports}");
        assert!(reason(&wrapped(io::ErrorKind::OutOfMemory)).is_exhaustion());
    }

    #[test]
    fn keeps_kinds_and_drops_names() {
        let name = io::Error::other("failed to lookup secret.example");
        let refused = io::Error::other(io::Error::from(io::ErrorKind::ConnectionRefused));
        let foreign = rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext {
            expected: rustls::pki_types::ServerName::try_from("secret.example").unwrap(),
            presented: vec!["secret.example".to_owned()],
        });
        for (error, expected) in [
            (name, "for an unknown reason"),
            (refused, "connection refused"),
            (io::Error::other(Reason::UNRESOLVED), "the name could not be resolved"),
            (io::Error::new(io::ErrorKind::InvalidData, foreign), "TLS: the certificate is for another name"),
        ] {
            assert_eq!(reason(&error).to_string(), expected);
        }
    }
}
