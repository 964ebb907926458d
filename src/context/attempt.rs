use http::{Extensions, Response};

use crate::azure::Outcome;
use crate::pool::Target;

/// One attempt as it went: on every answer, and in every [`AttemptFailed`](super::AttemptFailed).
///
/// Each layer on the way up adds what it alone knows. Whoever sends a request again, failover, discovery or a layer of your own,
/// needs nothing else:
///
/// ```
/// use http::Response;
/// use tower_azure_openai::azure::Outcome;
/// use tower_azure_openai::context::Attempt;
///
/// fn may_go_elsewhere<B>(answer: &Response<B>) -> bool {
///     let attempt = Attempt::of(answer);
///     attempt.outcome.is_some_and(|outcome| outcome.is_refusal()) && !attempt.is_in_preamble
/// }
///
/// let mut answer = Response::new(());
/// Attempt::of_mut(answer.extensions_mut()).outcome = Some(Outcome::Throttled { hint: None });
/// assert!(may_go_elsewhere(&answer));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempt {
    /// Chosen by selection; `None` where the request was sent to none.
    pub target: Option<Target>,
    /// Read by the circuit breaker, or below it by a layer that knows better; `None` before.
    pub outcome: Option<Outcome>,
    /// A token other than the one that was refused is in hand, so that one repeat on the same target makes sense.
    pub has_fresh_credential: bool,
    /// It ended inside a stream that had begun with 200, before its first content.
    ///
    /// Unlike a real 429, an error that comes so late does not prove that nothing was done: what the stream had announced, a run
    /// or a response, may exist.
    pub is_in_preamble: bool,
}

impl Attempt {
    /// All that is known of the attempt that gave this answer.
    #[must_use]
    pub fn of<B>(answer: &Response<B>) -> Self {
        answer.extensions().get().cloned().unwrap_or_default()
    }

    /// The same, for adding to it.
    pub fn of_mut(extensions: &mut Extensions) -> &mut Self {
        extensions.get_or_insert_default()
    }
}
