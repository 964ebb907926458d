//! Layers that a request should have passed, and what is said where it has not.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::told;
use crate::error::Error;

/// A layer that a request should have passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// All targets have one circuit.
    CircuitOfEach,
    /// Nobody has said who calls.
    Client,
    /// Nobody has pointed the request at its target.
    Forward,
    /// Nobody has read which model a body names.
    InspectForModel,
    /// Nobody has collected the body that shall be repeated.
    InspectForRepeat,
    /// Nobody has shown the target its credential.
    #[cfg_attr(not(feature = "client"), allow(dead_code, reason = "the client alone sees the end of the way"))]
    Reissue,
    /// Nobody remembers who made what.
    SessionForOwnership,
    /// Nobody has chosen a target at all.
    #[cfg_attr(not(feature = "client"), allow(dead_code, reason = "the client alone sees the end of the way"))]
    Target,
}

/// Says in the log what a request that goes its way all the same has not passed.
pub(crate) fn tell(what: Missing) {
    drop(missing(what));
}

/// The refusal of a request that has not passed a layer which it needs.
pub(crate) fn missing(missing: Missing) -> Error {
    static TOLD: AtomicU32 = AtomicU32::new(0);
    let bit = 1 << missing as u32;
    let is_new = TOLD.fetch_or(bit, Relaxed) & bit == 0;
    let what = match missing {
        Missing::CircuitOfEach => {
            "CircuitBreakerLayer stands around SelectBackendLayer or below it, with one circuit for all targets. Leave it out: \
             selection has one for each."
        }
        Missing::Client => {
            "no layer above AuthorizeLayer has inserted a Client, and TerminateCredentialsLayer::without_clients does not stand there."
        }
        Missing::Forward => {
            "no ForwardLayer between SelectBackendLayer and ReissueCredentialsLayer has pointed the request at its target, so \
             that no credential is shown."
        }
        Missing::InspectForModel => {
            "no InspectLayer above SelectBackendLayer has read which deployment the body names."
        }
        Missing::InspectForRepeat => {
            "no InspectLayer above FailoverLayer has collected the body, so that it can be sent only once and never moves on."
        }
        Missing::Reissue => {
            "no ReissueCredentialsLayer between ForwardLayer and the HTTP client has shown the target its credential."
        }
        Missing::SessionForOwnership => {
            "no StickySessionLayer between OwnershipLayer and SelectBackendLayer remembers who made what."
        }
        Missing::Target => {
            "the request names no host. SelectBackendLayer chooses a target, and ForwardLayer below it points the request there, \
             above the HTTP client."
        }
    };
    told(format!("The layers of this gateway are stacked wrongly: {what}"), is_new)
}
