//! What the client gets.

use std::time::Duration;

use http::Response;
use tower::BoxError;

use crate::azure::Outcome;
use crate::azure::operation::Repeat;
use crate::body::Body;
use crate::context::{Attempts, Client, InPreamble, Route, keep, query, wait};
use crate::error::{Error, ErrorKind};

/// Remembers the best answer so far, and ends a request with it.
pub(super) struct Ending<'a> {
    route: &'a Route,
    client: Option<&'a Client>,
    attempts: &'a Attempts,
    kept: Option<(Response<Body>, Outcome)>,
    /// Of the latest attempt that ended without an answer.
    unanswered: Option<Outcome>,
    credential_refused: bool,
}

impl<'a> Ending<'a> {
    pub(super) const fn new(route: &'a Route, client: Option<&'a Client>, attempts: &'a Attempts) -> Self {
        Self { route, client, attempts, kept: None, unanswered: None, credential_refused: false }
    }

    /// Keeps an answer that another attempt may better: a 429 before any other, else the latest.
    pub(super) async fn keep(&mut self, answer: Option<Response<Body>>, outcome: Outcome) {
        match (answer, outcome) {
            (None, _) => self.unanswered = Some(outcome),
            (Some(_), Outcome::CredentialRefused { .. }) => self.credential_refused = true,
            (Some(answer), _) => {
                let throttled = |outcome: &Outcome| matches!(outcome, Outcome::Throttled { .. });
                let is_better = throttled(&outcome) || !self.kept.as_ref().is_some_and(|(_, kept)| throttled(kept));
                if is_better && let Ok(answer) = keep(answer).await {
                    self.kept = Some((answer, outcome));
                }
            }
        }
    }

    /// Ends with this outcome, whatever was kept: nothing follows it.
    pub(super) fn pass(mut self, answer: Option<Response<Body>>, outcome: Outcome) -> Result<Response<Body>, BoxError> {
        self.kept = None;
        match (answer, outcome) {
            (_, Outcome::CredentialRefused { .. }) => self.credential_refused = true,
            (Some(answer), _) => self.kept = Some((answer, outcome)),
            (None, _) => self.unanswered = Some(outcome),
        }
        self.give_up(None)
    }

    /// Ends with the best that is there; `nothing_left` is how selection put it, if it was asked.
    pub(super) fn give_up(self, nothing_left: Option<Error>) -> Result<Response<Body>, BoxError> {
        let outlook = || self.attempts.outlook(&query(self.route, self.client));
        if let Some((mut answer, outcome)) = self.kept {
            if wait::is_due(answer.status()) {
                let soonest = outlook().and_then(|none| none.retry_after);
                // Where no circuit learns, a target that asked to wait seems to admit at once: what it said stands.
                let known = soonest.filter(|wait| !wait.is_zero() || outcome.hint().is_none());
                if let Some(wait) = known {
                    wait::set(answer.headers_mut(), wait);
                }
            }
            let in_preamble = answer.extensions().get::<InPreamble>().is_some();
            if may_have_created(self.route, outcome, in_preamble) {
                wait::forbid_repeat(answer.headers_mut());
            }
            return Ok(answer);
        }
        let none = nothing_left.or_else(|| outlook().map(Error::from)).unwrap_or_else(nobody);
        // What may have been done must not look like a refusal, which proves that nothing was.
        let created = self.unanswered.is_some_and(|outcome| may_have_created(self.route, outcome, false));
        let cause = match self.unanswered {
            _ if !created && none.kind() == ErrorKind::NoTargetThrottled => none,
            _ if !created && self.credential_refused => {
                Error::new(ErrorKind::CredentialRejected, "The backends refuse the gateway's own credential.")
            }
            Some(Outcome::TimedOut(_)) => Error::new(ErrorKind::BackendTimeout, "The backend did not answer in time."),
            Some(Outcome::Unreachable | Outcome::CredentialUnavailable) | None => none,
            Some(_) => Error::new(ErrorKind::BackendFailed, "The backend broke the request off."),
        };
        Err(if created { cause.must_not_repeat() } else { cause }.into())
    }
}

/// Without selection nobody knows when somebody will be there again.
fn nobody() -> Error {
    Error::new(ErrorKind::NoTargetDown, "The backend is not available. Wait as the headers say.")
        .with_retry_after(Duration::from_secs(1))
}

/// A refusal proves that nothing was done, unless it came after a stream had begun.
fn may_have_created(route: &Route, outcome: Outcome, in_preamble: bool) -> bool {
    let unknown = outcome.is_failure() || matches!(outcome, Outcome::ServerFailed { .. } | Outcome::DependencyFailed);
    route.repeat() == Repeat::Creates && (in_preamble || unknown && !outcome.is_refusal())
}
