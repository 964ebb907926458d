use crate::pool::{Target, TargetSet};

/// On a request: the targets that were tried for it already, each of which is tried once, and where it must go next.
///
/// Put on each attempt by whoever sends a request again; selection passes over what was tried and adds its choice, which is told
/// by [`Attempt::target`](super::Attempt::target) on the way up.
///
/// ```
/// use http::{Request, Response};
/// use tower_azure_openai::context::{Attempt, Tried};
///
/// /// Sends a request to another target than those before.
/// fn elsewhere<B, C>(tried: &mut Tried, answer: &Response<B>, next: &mut Request<C>) {
///     if let Some(target) = &Attempt::of(answer).target {
///         tried.sent_to(target);
///     }
///     next.extensions_mut().insert(tried.clone());
/// }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tried {
    targets: TargetSet,
    sent: u32,
    repeat: Option<Target>,
}

impl Tried {
    /// Nothing was tried yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes that the request is sent to a target.
    pub fn sent_to(&mut self, target: &Target) {
        self.targets.insert(target);
        self.sent += 1;
        self.repeat = None;
    }

    /// Asks for the next attempt to go to `target`, whether or not it was tried.
    pub fn repeat_on(&mut self, target: Target) {
        self.repeat = Some(target);
    }

    /// The targets that were tried.
    #[must_use]
    pub const fn targets(&self) -> &TargetSet {
        &self.targets
    }

    /// Returns the number of attempts that were sent; below selection, with the one that is on its way.
    #[must_use]
    pub const fn sent(&self) -> u32 {
        self.sent
    }

    /// The target that the next attempt must go to.
    pub(crate) const fn repeat(&self) -> Option<&Target> {
        self.repeat.as_ref()
    }
}
