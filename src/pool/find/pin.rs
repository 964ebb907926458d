use std::sync::Arc;

/// The backend that holds, or should hold, the state a request refers to.
///
/// Put into the extensions of a request, it narrows what selection and failover look at; a request without one may go
/// anywhere. A required one reaches a drained backend; constraints, circuits
/// and limits hold for every pin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    backends: Arc<[Arc<str>]>,
    strength: Strength,
}

/// Strength with which a request is bound to its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Strength {
    /// The first backend that can serve now, and after them any other.
    Movable,
    /// The first backend that is neither down nor drained. One that is merely throttled or full is waited for.
    Preferred,
    /// The first backend only, even while it is drained: what the request refers to is there.
    Required,
}

impl Pin {
    /// The backend that holds what the request refers to.
    pub fn required(backend: impl Into<Arc<str>>) -> Self {
        Self { backends: [backend.into()].into(), strength: Strength::Required }
    }

    /// Backends in the order in which they are preferred.
    pub fn preferred(backends: impl IntoIterator<Item = Arc<str>>) -> Self {
        Self { backends: backends.into_iter().collect(), strength: Strength::Preferred }
    }

    /// Backends in the order in which they are preferred, and then any other.
    pub fn movable(backends: impl IntoIterator<Item = Arc<str>>) -> Self {
        Self { backends: backends.into_iter().collect(), strength: Strength::Movable }
    }

    /// The backends in their order, by name.
    #[must_use]
    pub fn backends(&self) -> &[Arc<str>] {
        &self.backends
    }

    /// Returns how firmly the request is bound.
    #[must_use]
    pub const fn strength(&self) -> Strength {
        self.strength
    }
}
