use http::{Extensions, Response};

use super::Outlook;
use crate::azure::Outcome;
use crate::pool::Target;

/// One attempt as it went: on every answer, and in every [`AttemptFailed`](super::AttemptFailed).
///
/// Each layer on the way up adds what it alone knows; selection reads what they say, and adds where it was. Whoever sends a request again, failover, discovery or a layer of your own,
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
    /// Number of the attempt for its request, from 1; 0 where no selection took part.
    pub number: u32,
    /// Read by selection or a circuit breaker, or below by a layer that knows better; `None` before.
    pub outcome: Option<Outcome>,
    /// A token other than the one that was refused is in hand, so that one repeat on the same target makes sense.
    pub has_fresh_credential: bool,
    /// It ended inside a stream that had begun with 200, before its first content.
    ///
    /// Unlike a real 429, an error that comes so late does not prove that nothing was done: what the stream had announced, a run
    /// or a response, may exist.
    pub is_in_preamble: bool,
    outlook: Option<Outlook>,
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

    /// An attempt that has come to this.
    pub(crate) fn ended(outcome: Outcome) -> Self {
        Self { outcome: Some(outcome), ..Self::default() }
    }

    /// An attempt that is sent, the `number`th of its request.
    pub(crate) fn at(target: Target, number: u32, outlook: Outlook) -> Self {
        Self { target: Some(target), number, outlook: Some(outlook), ..Self::default() }
    }

    /// Adds what was known before it was sent. What no selection has sent keeps what is said of it below.
    pub(crate) fn sent(&mut self, known: Self) {
        if known.target.is_some() {
            (self.target, self.number, self.outlook) = (known.target, known.number, known.outlook);
        }
    }

    /// The pool that chose the target, where one did.
    pub(crate) const fn outlook(&self) -> Option<&Outlook> {
        self.outlook.as_ref()
    }
}
