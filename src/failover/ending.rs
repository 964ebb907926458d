//! Answer that the client gets in the end.

use std::time::Duration;

use http::Response;
use http_body_util::BodyExt;
use tower::BoxError;

use crate::azure::Outcome;
use crate::azure::operation::Repeat;
use crate::body::Body;
use crate::context::{Attempt, Outlook, Route, Tried, keep, wait};
use crate::error::{Error, ErrorKind};
use crate::pool::{Query, Target};

/// Remembers what was tried and the best answer so far, and ends a request with it.
pub(super) struct Ending<'a> {
    query: Query<'a>,
    route: &'a Route,
    tried: Tried,
    /// As far as selection took part.
    outlook: Option<Outlook>,
    kept: Option<(Response<Body>, Outcome)>,
    /// Of the latest attempt that ended without an answer.
    unanswered: Option<Outcome>,
    credential_refused: bool,
}

impl<'a> Ending<'a> {
    pub(super) const fn new(query: Query<'a>, route: &'a Route, tried: Tried) -> Self {
        Self { query, route, tried, outlook: None, kept: None, unanswered: None, credential_refused: false }
    }

    /// Notes where an attempt was.
    pub(super) fn note(&mut self, attempt: &Attempt) {
        if let Some(target) = &attempt.target {
            self.tried.sent_to(target);
        }
        if let Some(outlook) = attempt.outlook() {
            self.outlook.get_or_insert_with(|| outlook.clone());
        }
    }

    /// Returns what was tried, for the next attempt, which goes to `repeat` if there is one.
    pub(super) fn tried(&self, repeat: Option<Target>) -> Tried {
        let mut tried = self.tried.clone();
        if let Some(target) = repeat {
            tried.repeat_on(target);
        }
        tried
    }

    /// Tells whether another target could be tried now; without selection nobody knows, and it is taken to be so.
    pub(super) fn can_go_on(&self) -> bool {
        self.outlook.as_ref().is_none_or(|outlook| outlook.is_open(&self.query.tried(self.tried.targets())))
    }

    /// Keeps an answer that another attempt may better: a 429 before any other, a stream that delivered nothing after any other,
    /// else the latest.
    pub(super) async fn keep(&mut self, answer: Option<Response<Body>>, outcome: Outcome) {
        match (answer, outcome) {
            (None, _) => self.unanswered = Some(outcome),
            (Some(_), Outcome::CredentialRefused { .. }) => self.credential_refused = true,
            (Some(answer), _) => {
                let is_better = self.kept.as_ref().is_none_or(|(_, kept)| rank(outcome) >= rank(*kept));
                let kept = match outcome {
                    _ if !is_better => None,
                    Outcome::Unfinished => as_it_came(answer).await,
                    _ => keep(answer).await.ok(),
                };
                if let Some(answer) = kept {
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
        // One that was not asked may have made the content: that none of the others can read it is no fault of the client.
        if let Some((_, Outcome::ContentUnreadable)) = &self.kept
            && let Some(outlook) = &self.outlook
            && let Some(none) = outlook.of_untried(&self.query.tried(self.tried.targets()))
        {
            return Err(Error::from(none).into());
        }
        let outlook = || self.outlook.as_ref().map(|outlook| outlook.now(&self.query));
        if let Some((mut answer, outcome)) = self.kept {
            if wait::is_due(answer.status()) {
                wait::tell(&mut answer, outlook(), outcome.hint());
            }
            let in_preamble = Attempt::of(&answer).is_in_preamble;
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

/// Ranks an answer by how much it says to a client.
const fn rank(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Throttled { .. } => 2,
        Outcome::Unfinished => 0,
        _ => 1,
    }
}

/// A stream that has ended, out of the hands of those who held a place for it; trailers too.
async fn as_it_came(answer: Response<Body>) -> Option<Response<Body>> {
    let (head, body) = answer.into_parts();
    let whole = body.collect().await.ok()?;
    Some(Response::from_parts(head, Body::new(whole)))
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
