//! Changes by whoever runs the pool, beside the description of its backends.

use std::collections::HashMap;

/// By the name of the backend, described now or not: whoever comes back finds what was said of it.
#[derive(Clone, Debug, Default)]
pub(in crate::pool) struct Overrides(HashMap<Box<str>, Override>);

/// Override of one backend.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::pool) struct Override {
    /// Stands for the weight of the description.
    pub(in crate::pool) weight: Option<u32>,
    /// It gets nothing new.
    pub(in crate::pool) is_drained: bool,
}

impl Overrides {
    pub(in crate::pool) fn of(&self, backend: &str) -> Override {
        self.0.get(backend).copied().unwrap_or_default()
    }

    pub(in crate::pool) fn change(&mut self, backend: &str, change: impl FnOnce(&mut Override)) {
        change(self.0.entry(backend.into()).or_default());
    }
}
