//! Traits that a route has in common with those that are better served by the same target.

use crate::azure::operation::Operation;
use crate::azure::prompt::CacheKey;
use crate::body::Body;
use crate::context::Route;

/// As far as the call has a prompt that is cached, and the body is in hand.
pub(super) fn of(route: &Route, body: &Body) -> Option<u64> {
    let has_prompt =
        matches!(route.operation(), Operation::ChatCompletions | Operation::Completions | Operation::Responses);
    let bytes = body.as_bytes().filter(|_| has_prompt)?;
    CacheKey::of_body(bytes).map(|key| key.digest())
}
