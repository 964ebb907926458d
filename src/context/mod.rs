//! Extensions of requests and answers by which layers talk to one another.
//!
//! | extension | put by | used by |
//! |---|---|---|
//! | [`BasePath`] | inspection, when it took the prefix off | forwarding, for the paths in answers |
//! | [`Client`] | credential termination | authorisation, selection; credential re-issue, for the token it may carry |
//! | [`Cookies`] | credential termination, which removes the header | sticky sessions |
//! | [`EphemeralKey`] | credential termination | authorisation, sticky sessions, credential re-issue |
//! | [`Route`] | inspection, or derived from the path by whoever needs it first | every layer below |
//! | [`Constraints`](crate::pool::Constraints) | inspection, from the request's headers | whoever chooses: sticky sessions, failover, selection, the list of models |
//! | [`Priority`](crate::pool::Priority) | inspection or shedding, from the request's headers | shedding and whoever chooses: the lower of it and the client's counts |
//! | [`Pin`](crate::pool::Pin) | sticky sessions | failover, selection |
//! | [`Session`] | sticky sessions | whoever chooses |
//! | [`Tried`] | failover, or whoever else sends a request again; selection, which adds its choice | selection |
//! | [`Target`](crate::pool::Target) | selection | forwarding, credential re-issue; also on the answer |
//! | [`Handshake`] | WebSocket pass-through | forwarding, the HTTP client |
//! | [`SocketFrame`], on the answer [`RewrittenFrame`] | WebSocket pass-through; the HTTP client | the HTTP client; WebSocket pass-through |
//! | [`SocketEvents`], on the answer | the HTTP client | WebSocket pass-through, which tells them; selection, sticky sessions |
//! | [`Spending`] | whoever wants to know of one call alone; otherwise it is a part of the observation | metering, which fills it |
//! | [`Observation`], with the [`RequestId`] | observation, on top of everything | termination, inspection and selection, which tell it what they know |
//! | [`Attempt`], on the answer | stream commit, credential re-issue, selection, each what it alone knows | failover, and whoever else sends a request again |
//!
//! An embedder may read all of them, and put a `Client` or a `Route` of its own. `Constraints` of its own narrow where this one
//! request may go: they hold beside the client's and beside what the request's headers say.

mod attempt;
mod attempt_failed;
mod base_path;
mod classify;
mod client;
mod companions;
mod cookies;
mod ephemeral;
mod exhaustion;
mod explain;
mod limits;
mod observation;
mod observe;
pub(crate) mod order;
mod outlook;
mod owner;
pub(crate) mod priority;
mod random;
mod reason;
mod record;
mod recorder;
mod request_id;
mod route;
mod session;
pub(crate) mod shape;
mod socket_events;
mod socket_frame;
mod spending;
mod terms;
mod trace;
mod tried;
mod undecided;
pub(crate) mod wait;

pub use self::attempt::Attempt;
pub use self::attempt_failed::AttemptFailed;
pub use self::base_path::{BasePath, InvalidBasePath};
pub use self::classify::{ClassifyError, DefaultClassify};
pub use self::client::{Client, ClientToken};
pub(crate) use self::companions::Companions;
pub use self::cookies::Cookies;
pub use self::ephemeral::{EphemeralKey, EphemeralKeys};
pub(crate) use self::ephemeral::{is_ephemeral, is_sdp, opens_own_session, opens_session};
pub(crate) use self::exhaustion::{exhausted, is_exhaustion};
pub use self::limits::Limits;
pub use self::observation::{AttemptRecord, Attempts, Observation, Size};
pub(crate) use self::observe::{REFUSED_BODY, REFUSED_BODY_TIME};
pub(crate) use self::observe::{keep, of_body, of_head};
pub(crate) use self::outlook::Outlook;
pub(crate) use self::owner::Owner;
pub use self::priority::PRIORITY_HEADER;
pub(crate) use self::reason::Reason;
pub use self::record::{Ending, Record};
pub use self::recorder::{FromFn, Recorder, from_fn};
pub use self::request_id::RequestId;
pub use self::route::Route;
pub(crate) use self::route::{FurtherName, FurtherPlace, NamePlace};
pub use self::session::Session;
pub use self::socket_events::SocketEvents;
pub(crate) use self::socket_frame::is_transcription;
pub use self::socket_frame::{RewrittenFrame, SocketFrame};
pub use self::spending::{Spending, Spent, UsageSource};
pub(crate) use self::terms::Terms;
pub use self::trace::TraceContext;
pub use self::tried::Tried;
pub(crate) use self::undecided::{Undecided, not_opened};

/// On a request: the handshake of a WebSocket that may be passed through. Its answer 101 is the beginning of a connection, not
/// the end of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake;
