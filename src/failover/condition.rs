use std::fmt;
use std::str::FromStr;

use http::StatusCode;

use crate::azure::{Outcome, Phase};

/// An outcome that sends a request on to another target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Condition {
    /// `answer-timeout`: no head of an answer that is not streamed came in time.
    AnswerTimeout,
    /// `409-retry-after`: a conflict that names a time to wait.
    Conflict,
    /// `connect`: no connection, so nothing was sent.
    Connect,
    /// `424`: a dependency of the model failed.
    DependencyFailed,
    /// `404-deployment`: the backend does not have the deployment.
    DeploymentMissing,
    /// `first-byte-timeout`: no head of a streamed answer came in time.
    FirstByteTimeout,
    /// `403`: the backend does not accept the gateway's credential.
    Forbidden,
    /// `500`, and every 5xx without a name of its own here.
    ServerError,
    /// `502`.
    BadGateway,
    /// `503`, and 529.
    Unavailable,
    /// `504`.
    GatewayTimeout,
    /// `429`.
    Throttled,
    /// `408`.
    RequestTimeout,
    /// `stream-preamble`: a stream that had begun with 200 failed, broke off, or ended before its first content. It decides
    /// alone: the status that such an error stands for is not looked up here once more.
    StreamPreamble,
    /// `401`: the backend does not accept the gateway's credential.
    Unauthorized,
}

const NAMES: [(Condition, &str); 15] = [
    (Condition::Unauthorized, "401"),
    (Condition::Forbidden, "403"),
    (Condition::DeploymentMissing, "404-deployment"),
    (Condition::RequestTimeout, "408"),
    (Condition::Conflict, "409-retry-after"),
    (Condition::DependencyFailed, "424"),
    (Condition::Throttled, "429"),
    (Condition::ServerError, "500"),
    (Condition::BadGateway, "502"),
    (Condition::Unavailable, "503"),
    (Condition::GatewayTimeout, "504"),
    (Condition::Connect, "connect"),
    (Condition::FirstByteTimeout, "first-byte-timeout"),
    (Condition::AnswerTimeout, "answer-timeout"),
    (Condition::StreamPreamble, "stream-preamble"),
];

impl Condition {
    /// Conditions that are on by default: everything but `409-retry-after`, `424` and `answer-timeout`.
    pub const DEFAULT: [Self; 12] = [
        Self::Unauthorized,
        Self::Forbidden,
        Self::DeploymentMissing,
        Self::RequestTimeout,
        Self::Throttled,
        Self::ServerError,
        Self::BadGateway,
        Self::Unavailable,
        Self::GatewayTimeout,
        Self::Connect,
        Self::FirstByteTimeout,
        Self::StreamPreamble,
    ];

    /// The condition that an outcome is, if it is one that can be switched.
    fn of(outcome: Outcome) -> Option<Self> {
        Some(match outcome {
            Outcome::Conflict { .. } => Self::Conflict,
            Outcome::CredentialRefused { status: StatusCode::FORBIDDEN } => Self::Forbidden,
            Outcome::CredentialRefused { .. } => Self::Unauthorized,
            Outcome::DependencyFailed => Self::DependencyFailed,
            Outcome::DeploymentMissing => Self::DeploymentMissing,
            Outcome::Throttled { .. } => Self::Throttled,
            Outcome::TimedOut(Phase::Answer) => Self::AnswerTimeout,
            Outcome::TimedOut(_) => Self::FirstByteTimeout,
            Outcome::Unreachable => Self::Connect,
            Outcome::ServerFailed { status, .. } => match status.as_u16() {
                408 => Self::RequestTimeout,
                502 => Self::BadGateway,
                503 | 529 => Self::Unavailable,
                504 => Self::GatewayTimeout,
                _ => Self::ServerError,
            },
            _ => return None,
        })
    }
}

/// The name in configurations.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAMES.iter().find(|(condition, _)| condition == self).map_or("", |(_, name)| name))
    }
}

impl FromStr for Condition {
    type Err = UnknownCondition;

    fn from_str(name: &str) -> Result<Self, UnknownCondition> {
        NAMES.iter().find(|(_, known)| *known == name).map(|(condition, _)| *condition).ok_or(UnknownCondition)
    }
}

/// No condition has that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a condition of failover")]
#[non_exhaustive]
pub struct UnknownCondition;

/// The conditions that are on.
#[derive(Clone, Debug)]
pub(super) struct Conditions(Vec<Condition>);

impl Conditions {
    pub(super) fn new(on: impl IntoIterator<Item = Condition>) -> Self {
        Self(on.into_iter().collect())
    }

    /// Tells whether an outcome sends the request on. One without a switch of its own does when it taught nothing about the
    /// request: a connection that broke, an error nobody can classify, a token that could not be had.
    pub(super) fn hold(&self, outcome: Outcome, in_preamble: bool) -> bool {
        match Condition::of(outcome) {
            _ if in_preamble && !self.0.contains(&Condition::StreamPreamble) => false,
            Some(condition) => in_preamble || self.0.contains(&condition),
            None => matches!(
                outcome,
                Outcome::ContentUnreadable
                    | Outcome::Reset
                    | Outcome::Unfinished
                    | Outcome::Unknown
                    | Outcome::CredentialUnavailable
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for (condition, name) in NAMES {
            assert_eq!(name.parse(), Ok(condition));
            assert_eq!(condition.to_string(), name);
        }
        assert!("200".parse::<Condition>().is_err());
    }
}
