//! One attempt after the other.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response, StatusCode};
use tokio::time::sleep;
use tower::BoxError;

use super::Config;
use super::ending::Ending;
use crate::azure::Outcome;
use crate::azure::envelope;
use crate::azure::operation::Repeat;
use crate::below::Below;
use crate::body::{Body, Collected};
use crate::context::order::{self, LayerName, Missing};
use crate::context::{
    Attempt, AttemptFailed, REFUSED_BODY, REFUSED_BODY_TIME, Route, Terms, Tried, of_body, of_head, wait,
};
use crate::error::{Error, ErrorKind, causes};
use crate::pool::{Strength, Target, TargetSet};

/// A request whose first attempt is under way, and what it takes to go on after that.
pub(super) struct Sending<S> {
    config: Arc<Config>,
    route: Route,
    terms: Terms,
    tried: Tried,
    is_collected: bool,
    /// The request and a service to send it again with, where it can be.
    again: Option<(Replay, S)>,
}

impl<S> Sending<S> {
    /// Everything that is known before the first attempt, and the request for that.
    pub(super) fn begin(
        config: &Arc<Config>,
        mut request: Request<Body>,
        service: impl FnOnce() -> S,
    ) -> Result<(Self, Request<Body>), BoxError> {
        order::enter(LayerName::Failover, request.extensions_mut())?;
        let route = Route::find_or_parse(request.extensions(), request.method(), request.uri())?;
        let tried = request.extensions().get::<Tried>().cloned().unwrap_or_default();
        let terms = Terms::of(request.extensions());
        config.budget.deposit();
        let is_collected = order::has_passed(LayerName::Inspect, request.extensions());
        let (replay, request) = Replay::of(request);
        let again = replay.map(|replay| (replay, service()));
        Ok((Self { config: config.clone(), route, terms, tried, is_collected, again }, request))
    }
}

impl<S: Below> Sending<S> {
    /// Sends the request once the service is ready, and again until an answer belongs to the client.
    pub(super) async fn start(self, mut service: S, request: Request<Body>) -> Result<Response<Body>, BoxError> {
        let came = service.send_within(self.config.ready_timeout, request).await;
        self.go_on(came).await
    }

    /// Sends the request again until an answer belongs to the client; `came` is what the first attempt came to.
    ///
    /// What is rarely waited for is boxed, so that the future is small.
    pub(super) async fn go_on(self, mut came: Result<Response<Body>, BoxError>) -> Result<Response<Body>, BoxError> {
        let Self { config, route, terms, tried, is_collected, mut again } = self;
        let mut ending = Ending::new(terms.query(&route), &route, tried);
        let (mut failures, mut refreshed, mut waited_for_parent) = (0, TargetSet::default(), false);
        loop {
            let (answer, outcome, attempt) = match read(came).await {
                Ok((answer, outcome)) => {
                    let attempt = Attempt::of(&answer);
                    (Some(answer), outcome, attempt)
                }
                Err(error) => match meaning(error, &config) {
                    Meaning::NothingLeft(error) => return ending.give_up(Some(error)),
                    Meaning::Outcome { outcome, attempt } => (None, outcome, attempt),
                    Meaning::Pass(error) => return Err(error),
                },
            };
            tell(&attempt, outcome);
            ending.note(&attempt);

            let Some((replay, service)) = &mut again else {
                if !is_collected && (outcome.is_refusal() || outcome.is_failure()) {
                    order::tell(Missing::InspectForRepeat);
                }
                return ending.pass(answer, outcome);
            };
            let holds_parent = terms.pin.as_ref().is_some_and(|pin| pin.strength() == Strength::Required);
            let (answer, orphan) = match answer {
                Some(answer) if holds_parent && !waited_for_parent && answer.status() == StatusCode::BAD_REQUEST => {
                    let (answer, is_missed) = Box::pin(misses_parent(answer)).await?;
                    (Some(answer), attempt.target.clone().filter(|_| is_missed))
                }
                answer => (answer, None),
            };
            let repeated = repeat_target(&attempt, &mut refreshed);
            if orphan.is_some() {
                waited_for_parent = true;
                Box::pin(sleep(PARENT_PAUSE)).await;
            } else if repeated.is_none() {
                // A refusal that comes after a stream has announced something does not prove that nothing was done.
                let may_repeat = outcome.is_refusal() && !attempt.is_in_preamble || route.repeat() == Repeat::Safe;
                if !may_repeat || !config.on.hold(outcome, attempt.is_in_preamble) {
                    return ending.pass(answer, outcome);
                }
                let costs = !(outcome.is_refusal() && attempt.target.is_some());
                failures += u32::from(costs);
                Box::pin(ending.keep(answer, outcome)).await;
                // Nothing is withdrawn for an attempt that nobody is left for.
                let goes_on = || ending.can_go_on() && config.budget.withdraw(terms.client.as_ref());
                if costs && (failures >= config.attempts || !goes_on()) {
                    return ending.give_up(None);
                }
            }
            let request = replay.request(ending.tried(orphan.or(repeated)));
            came = service.send_within(config.ready_timeout, request).await;
        }
    }
}

/// Tells whether the first attempt has left nothing to do: no other outcome, no repeat, no header to add.
pub(super) fn is_plain_success(answer: &Response<Body>) -> bool {
    let Some(outcome @ Outcome::Success) = of_head(answer) else { return false };
    let attempt = answer.extensions().get::<Attempt>();
    let is_plain = !wait::is_due(answer.status())
        && attempt.is_none_or(|attempt| !attempt.is_in_preamble && !attempt.has_fresh_credential);
    if is_plain {
        tell(attempt.unwrap_or(&Attempt::default()), outcome);
    }
    is_plain
}

fn tell(attempt: &Attempt, outcome: Outcome) {
    tracing::debug!(target = ?attempt.target, ?outcome, "attempt");
}

/// Reads what an answer means.
async fn read(came: Result<Response<Body>, BoxError>) -> Result<(Response<Body>, Outcome), BoxError> {
    let answer = came?;
    match of_head(&answer) {
        Some(outcome) => Ok((answer, outcome)),
        None => Ok(Box::pin(of_body(answer)).await?),
    }
}

/// Meaning of an error from below.
enum Meaning {
    /// No target is left to try.
    NothingLeft(Error),
    /// An attempt ended so.
    Outcome { outcome: Outcome, attempt: Attempt },
    /// Not about a target at all.
    Pass(BoxError),
}

fn meaning(error: BoxError, config: &Config) -> Meaning {
    let error = match error.downcast::<Error>() {
        Ok(cause) => {
            return match cause.kind() {
                ErrorKind::NoTargetDown
                | ErrorKind::NoTargetThrottled
                | ErrorKind::Overloaded
                | ErrorKind::PinnedUnavailable => Meaning::NothingLeft(*cause),
                _ => Meaning::Pass(cause),
            };
        }
        Err(error) => error,
    };
    if let Some(misordered) = Error::find_misordered(error.as_ref()) {
        return Meaning::Pass(misordered.without_source().into());
    }
    match config.classify.classify(error.as_ref()) {
        Outcome::Abandoned => Meaning::Pass(match Error::find(error.as_ref()) {
            Some(upload) => upload.without_source().into(),
            None => error,
        }),
        outcome => Meaning::Outcome { outcome, attempt: attempt_of(error.as_ref()) },
    }
}

fn attempt_of(error: &(dyn StdError + 'static)) -> Attempt {
    let failed = causes(error).find_map(|cause| cause.downcast_ref::<AttemptFailed>());
    failed.map(AttemptFailed::attempt).cloned().unwrap_or_default()
}

/// The target that refused a token, if another token is in hand and this is the first time.
fn repeat_target(attempt: &Attempt, refreshed: &mut TargetSet) -> Option<Target> {
    let target = attempt.target.as_ref().filter(|_| attempt.has_fresh_credential)?;
    refreshed.insert(target).then(|| target.clone())
}

/// Time that the backend which holds a response is given to find it.
const PARENT_PAUSE: Duration = Duration::from_millis(250);

/// Tells whether the target does not find the response that its request goes on from, though it made it: for a moment after a
/// streamed answer that happens.
async fn misses_parent(answer: Response<Body>) -> Result<(Response<Body>, bool), BoxError> {
    let (parts, body) = answer.into_parts();
    let collected = body.collect_up_to(REFUSED_BODY, REFUSED_BODY_TIME).await;
    let collected = collected.map_err(|error| AttemptFailed::new(Outcome::Reset, error))?;
    let is_missed = match &collected {
        Collected::Whole(body) => {
            envelope::read(body).is_some_and(|said| said.code() == Some("previous_response_not_found"))
        }
        Collected::Partial(_) => false,
    };
    Ok((Response::from_parts(parts, collected.into()), is_missed))
}

/// A request that can be sent again, because its body is in hand.
struct Replay {
    head: Parts,
    body: Bytes,
}

impl Replay {
    /// Returns what can be repeated of a request, and the request.
    fn of(request: Request<Body>) -> (Option<Self>, Request<Body>) {
        let Some(body) = request.body().as_bytes().cloned() else { return (None, request) };
        let (head, same) = request.into_parts();
        let replay = Self { head: head.clone(), body };
        (Some(replay), Request::from_parts(head, same))
    }

    /// The request again, with what was tried for it.
    fn request(&self, tried: Tried) -> Request<Body> {
        let mut request = Request::from_parts(self.head.clone(), Body::from(self.body.clone()));
        request.extensions_mut().insert(tried);
        request
    }
}
