//! What layers tell one another through the extensions of requests and answers.
//!
//! | extension | put by | used by |
//! |---|---|---|
//! | [`Client`] | credential termination | authorisation, selection |
//! | [`Cookies`] | credential termination, which removes the header | sticky sessions |
//! | [`Route`] | inspection, or derived from the path by whoever needs it first | every layer below |
//! | [`Pin`] | sticky sessions | failover, selection |
//! | [`Attempts`] | failover, or selection | failover, selection |
//! | [`Target`](crate::pool::Target) | selection | credential re-issue; also on the answer |
//! | [`PermitCell`](crate::pool::PermitCell) | selection | the circuit breaker, which adopts the permit |
//! | [`Outcome`](crate::azure::Outcome) | the circuit breaker, on the answer | failover |
//! | [`FreshCredential`] | credential re-issue, on the answer | failover |
//!
//! An embedder may read all of them, and put a `Client` or a `Route` of its own.

mod attempt_failed;
mod attempts;
mod classify;
mod client;
mod cookies;
mod observe;
mod route;
pub(crate) mod wait;

pub use self::attempt_failed::AttemptFailed;
pub use self::attempts::Attempts;
pub use self::classify::{ClassifyError, DefaultClassify};
pub use self::client::Client;
pub use self::cookies::Cookies;
pub use self::observe::{REFUSED_BODY, REFUSED_BODY_TIME};
pub(crate) use self::observe::{keep, of_body, of_head};
pub use self::route::Route;
use crate::pool::{Pin, Query};

/// On a 401 answer: a token other than the refused one is in hand, so that one repeat on the same target makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreshCredential;

/// What a request of this client with this route asks of its target.
pub(crate) fn query<'a>(route: &'a Route, client: Option<&'a Client>, pin: Option<&'a Pin>) -> Query<'a> {
    let query = Query::new(route.alias()).pinned(pin);
    match client {
        Some(client) => query.constraints(client.constraints()),
        None => query,
    }
}
