//! Layers that a request has passed, so that a wrong order is found out by the first request and not by its effects.

mod missing;

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Extensions, Uri};

pub(crate) use self::missing::{Missing, missing, tell};
use crate::body::Body;
use crate::error::{Error, ErrorKind};
use crate::pool::Target;

/// The layers, outermost first, each with its name.
macro_rules! layers {
    ($($(#[$doc:meta])* $layer:ident: $name:literal,)*) => {
        /// A layer of the crate by its name, outermost first.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum LayerName {
            $($(#[$doc])* $layer,)*
        }

        use LayerName::{$($layer),*};

        /// Every layer, by its number.
        const LAYERS: [LayerName; [$($name),*].len()] = [$($layer),*];

        impl fmt::Display for LayerName {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $($layer => $name,)* })
            }
        }
    };
}

layers! {
    Observe: "ObserveLayer",
    Respond: "RespondLayer",
    Upgrade: "UpgradeLayer",
    FrontDoor: "FrontDoorLayer",
    Terminate: "TerminateCredentialsLayer",
    /// Credential termination that asks nobody.
    Strip: "TerminateCredentialsLayer",
    Capture: "CaptureLayer",
    Shed: "ShedLayer",
    Inspect: "InspectLayer",
    ApiVersion: "ApiVersionLayer",
    Authorize: "AuthorizeLayer",
    Limit: "ClientLimitLayer",
    Meter: "MeterUsageLayer",
    Models: "ListModelsLayer",
    Ownership: "OwnershipLayer",
    Session: "StickySessionLayer",
    Failover: "FailoverLayer",
    /// The circuit of a single service.
    Circuit: "CircuitBreakerLayer",
    /// The same between attempts.
    InnerCircuit: "CircuitBreakerLayer",
    Select: "SelectBackendLayer",
    StreamCommit: "StreamCommitLayer",
    Forward: "ForwardLayer",
    Reissue: "ReissueCredentialsLayer",
}

/// Below selection, a request is an attempt: whatever refuses it there looks like a failure of its target.
const ATTEMPT: u32 = set(&[Select, StreamCommit, Forward, Reissue]);
/// Layers that send requests of their own, or answer for a backend.
const ACTING: u32 = set(&[Limit, Meter, Models, Ownership, Session, Failover]) | ATTEMPT;

const fn set(layers: &[LayerName]) -> u32 {
    let (mut bits, mut at) = (0, 0);
    while at < layers.len() {
        bits |= layers[at].bit();
        at += 1;
    }
    bits
}

impl LayerName {
    const fn bit(self) -> u32 {
        1 << self as u32
    }

    /// The layers below which this one does harm or is of no use. What is not here may stand either way.
    const fn belongs_above(self) -> u32 {
        match self {
            // One record is of one request, whoever sends it and how often.
            Observe => {
                set(&[Upgrade, FrontDoor, Terminate, Strip, Capture, Shed, Inspect, ApiVersion, Authorize]) | ACTING
            }
            // What failover and circuits read as outcomes of attempts would be answers of the gateway.
            Respond => Failover.bit() | ATTEMPT,
            // A frame of a WebSocket is a call of its own, which must be inspected and allowed as such.
            Upgrade => set(&[Inspect, ApiVersion, Authorize]) | ACTING,
            FrontDoor => ACTING,
            // Who is not known yet is held to nothing; below itself, nobody is found.
            Terminate => set(&[Terminate, Strip, Capture, Shed, Inspect, Authorize]) | ACTING,
            // What is written down holds no credential, and is written once.
            Strip => Capture.bit() | ATTEMPT,
            Capture => set(&[Capture, Inspect]) | ACTING,
            // What is refused for want of room must not have cost any, and counts once.
            Shed => set(&[Shed, Inspect]) | ACTING,
            // The path has its prefix, and the body was not read.
            Inspect => set(&[ApiVersion, Authorize]) | ACTING,
            ApiVersion => ACTING,
            Authorize => set(&[Limit, Ownership, Session, Failover]) | ATTEMPT,
            // It would never hear what a request used, or take for each attempt.
            Limit => set(&[Limit, Meter, Ownership, Session, Failover]) | ATTEMPT,
            // Each would count the same answer, or answers that no client gets.
            Meter => set(&[Meter, Failover]) | ATTEMPT,
            Models => Failover.bit() | ATTEMPT,
            // What it guards would have been looked for already.
            Ownership => set(&[Ownership, Session, Failover]) | ATTEMPT,
            Session => Failover.bit() | ATTEMPT,
            // Each attempt would be the same target's.
            Failover => Failover.bit() | ATTEMPT,
            // It would learn from what others made of an answer.
            Circuit | InnerCircuit => set(&[StreamCommit, Reissue]),
            Select => ATTEMPT,
            StreamCommit => 0,
            Forward => set(&[Forward, Reissue]),
            Reissue => Reissue.bit(),
        }
    }
}

/// On a request: the layers that it has passed.
#[derive(Clone, Debug, Default)]
struct Passed {
    layers: u32,
    /// The target in whose form the request is.
    forwarded_to: Option<Target>,
    /// Result of inspection: the path, and the beginning of the body.
    read: Option<(PathAndQuery, Bytes)>,
    /// A layer that could not refuse the request itself, and one below which it must not stand.
    misplaced: Option<(LayerName, LayerName)>,
}

impl Passed {
    /// Adds a layer; gives one of those that it belongs above and that are passed.
    fn add(&mut self, layer: LayerName) -> Option<LayerName> {
        let above = self.layers & layer.belongs_above();
        self.layers |= layer.bit();
        LAYERS.get(above.trailing_zeros() as usize).copied()
    }
}

/// Notes that a request comes to a layer.
///
/// # Errors
/// It has passed one below which this layer, or one that could not say so itself, must not stand.
pub(crate) fn enter(layer: LayerName, extensions: &mut Extensions) -> Result<(), Error> {
    let passed = extensions.get_or_insert_default::<Passed>();
    let found = passed.misplaced.or_else(|| Some((layer, passed.add(layer)?)));
    match found {
        None => Ok(()),
        Some((layer, other)) => Err(misplaced(layer, other)),
    }
}

/// Notes that a request comes to a layer whose errors are those of the service below: where it must not stand, the next one says so.
pub(crate) fn enter_without_errors(layer: LayerName, extensions: &mut Extensions) {
    let passed = extensions.get_or_insert_default::<Passed>();
    if let Some(other) = passed.add(layer) {
        passed.misplaced = Some((layer, other));
        // For the log, should there be nobody below.
        drop(misplaced(layer, other));
    }
}

/// Tells whether every layer that could not refuse the request itself stands where it may.
///
/// # Errors
/// One does not.
#[cfg(feature = "client")]
pub(crate) fn check(extensions: &Extensions) -> Result<(), Error> {
    match extensions.get::<Passed>().and_then(|passed| passed.misplaced) {
        None => Ok(()),
        Some((layer, other)) => Err(misplaced(layer, other)),
    }
}

/// Notes that a request passes a layer that may stand below any other.
pub(crate) fn note(layer: LayerName, extensions: &mut Extensions) {
    debug_assert_eq!(layer.belongs_above(), 0, "{layer} may be refused");
    extensions.get_or_insert_default::<Passed>().layers |= layer.bit();
}

/// Notes that a request comes to a circuit of a single service.
///
/// # Errors
/// It is not one service that is below, but the target of an attempt.
pub(crate) fn enter_circuit(extensions: &mut Extensions) -> Result<(), Error> {
    if has_passed(Select, extensions) {
        return Err(missing(Missing::CircuitOfEach));
    }
    let is_inner = has_passed(Failover, extensions);
    enter(if is_inner { InnerCircuit } else { Circuit }, extensions)
}

/// Notes that a request comes to selection.
///
/// # Errors
/// As [`enter`], or attempts at different targets have passed one circuit.
pub(crate) fn enter_selection(extensions: &mut Extensions) -> Result<(), Error> {
    enter(Select, extensions)?;
    if has_passed(InnerCircuit, extensions) { Err(missing(Missing::CircuitOfEach)) } else { Ok(()) }
}

/// Notes what was read of a request: places in it are places in these.
///
/// The bytes are kept for as long as the extensions are, so that no other body can come to lie where this one did.
pub(crate) fn read(uri: &Uri, body: &Body, extensions: &mut Extensions) {
    let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let head = body.head().cloned().unwrap_or_default();
    extensions.get_or_insert_default::<Passed>().read = Some((path, head));
}

/// Tells whether the body is the one that was read, byte for byte, without looking at them.
pub(crate) fn is_body_as_read(body: &Body, extensions: &Extensions) -> bool {
    let read = extensions.get::<Passed>().and_then(|passed| passed.read.as_ref());
    let same = |read: &Bytes, head: &Bytes| read.as_ptr() == head.as_ptr() && read.len() == head.len();
    match (read, body.head()) {
        (Some((_, read)), Some(head)) => same(read, head),
        (Some((_, read)), None) => read.is_empty(),
        (None, _) => false,
    }
}

/// Tells whether the path is another one than was read.
pub(crate) fn is_path_changed(uri: &Uri, extensions: &Extensions) -> bool {
    let read = extensions.get::<Passed>().and_then(|passed| passed.read.as_ref());
    read.is_some_and(|(path, _)| path.path() != uri.path())
}

/// Notes that a request has the form which its target takes.
pub(crate) fn forwarded(target: &Target, extensions: &mut Extensions) {
    extensions.get_or_insert_default::<Passed>().forwarded_to = Some(target.clone());
}

/// Tells whether a request has the form which this target takes.
pub(crate) fn is_forwarded_to(target: &Target, extensions: &Extensions) -> bool {
    extensions.get::<Passed>().is_some_and(|passed| passed.forwarded_to.as_ref() == Some(target))
}

/// Tells whether a request has passed a layer.
pub(crate) fn has_passed(layer: LayerName, extensions: &Extensions) -> bool {
    extensions.get::<Passed>().is_some_and(|passed| passed.layers & layer.bit() != 0)
}

fn misplaced(layer: LayerName, other: LayerName) -> Error {
    static TOLD: [AtomicU32; LAYERS.len()] = [const { AtomicU32::new(0) }; LAYERS.len()];
    let is_new = TOLD[layer as usize].fetch_or(other.bit(), Relaxed) & other.bit() == 0;
    let (layer, other) = (layer.to_string(), other.to_string());
    let message = if layer == other {
        format!("The layers of this gateway are stacked wrongly: there are two of {layer}, one below the other.")
    } else {
        format!("The layers of this gateway are stacked wrongly: {layer} stands below {other}, and belongs above it.")
    };
    told(message, is_new)
}

/// The refusal, and for whoever has stacked the layers a line in the log: one for each cause.
fn told(message: String, is_new: bool) -> Error {
    if is_new {
        tracing::error!("{message}");
    }
    Error::new(ErrorKind::Misordered, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_order_is_no_error() {
        let mut extensions = Extensions::new();
        for (number, layer) in LAYERS.into_iter().enumerate() {
            assert_eq!(layer as usize, number, "{layer}");
            assert!(enter(layer, &mut extensions).is_ok(), "{layer}");
        }
    }

    #[test]
    fn a_wrong_order_names_both_layers() {
        let mut extensions = Extensions::new();
        enter(Select, &mut extensions).unwrap();
        let error = enter(Failover, &mut extensions).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misordered);
        for name in ["FailoverLayer", "SelectBackendLayer"] {
            assert!(error.message().contains(name), "{error}");
        }
    }

    #[test]
    fn no_layer_demands_the_impossible() {
        for layer in LAYERS {
            for other in LAYERS.into_iter().filter(|other| *other != layer) {
                let (down, up) = (layer.belongs_above() & other.bit(), other.belongs_above() & layer.bit());
                assert!(down == 0 || up == 0, "{layer} and {other}");
                assert!(down == 0 || (layer as u32) < other as u32, "{layer} and {other}");
            }
        }
    }
}
