//! Backend at which a session begins that says later which deployment it uses.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use http::Request;

use crate::azure::operation::Operation;
use crate::context::{Client, Handshake, Route, SocketFrame, Terms, is_transcription};
use crate::pool::{Pin, Pool, Target};

/// Tells whether a request opens a transcription session without a word of its model.
pub(super) fn is_silent<B>(request: &Request<B>, route: &Route) -> bool {
    let extensions = request.extensions();
    extensions.get::<Handshake>().is_some()
        && extensions.get::<SocketFrame>().is_none()
        && extensions.get::<Pin>().is_none()
        && route.operation() == Operation::Realtime
        && route.alias().is_none()
        && request.uri().query().is_some_and(is_transcription)
}

/// The backends, those first that serve most of what the client may use, and among these the least busy.
pub(super) fn order(pool: &Pool, terms: &Terms) -> Pin {
    let served = |alias: &str| pool.compliant(&terms.query_for(Some(alias)));
    let mut count: HashMap<Arc<str>, usize> = HashMap::new();
    let mut tally = |targets: Vec<Target>| {
        let mut backends: Vec<_> = targets.iter().map(Target::backend_name).collect();
        backends.sort_unstable();
        backends.dedup();
        backends.into_iter().for_each(|backend| *count.entry(backend).or_default() += 1);
    };
    match terms.client.as_ref().and_then(Client::allowed) {
        Some(allowed) => allowed.for_each(|alias| tally(served(alias))),
        None => pool.aliases().iter().for_each(|alias| tally(served(alias))),
    }
    let mut backends = pool.compliant(&terms.query_for(None));
    backends.sort_by_key(|target| {
        let useful = count.get(target.backend()).copied().unwrap_or_default();
        (Reverse(useful), target.priority(), target.in_flight())
    });
    Pin::movable(backends.iter().map(Target::backend_name))
}
