//! A deployment, as its owner describes it.

/// A named model on a backend. One that serves several aliases is described once for each: it has one circuit, and one count of
/// what it is doing, whatever it is called.
#[derive(Clone, Debug)]
#[must_use]
pub struct Deployment {
    pub(in crate::pool) name: String,
    pub(in crate::pool) alias: Option<String>,
    pub(in crate::pool) model: Option<String>,
    pub(in crate::pool) version: Option<String>,
    pub(in crate::pool) priority: Option<u32>,
    pub(in crate::pool) weight: Option<u32>,
    pub(in crate::pool) quota_group: Option<String>,
    pub(in crate::pool) tokens_per_minute: Option<u64>,
}

impl Deployment {
    /// A deployment by its name on the backend, which is also its alias and its model until said otherwise.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            alias: None,
            model: None,
            version: None,
            priority: None,
            weight: None,
            quota_group: None,
            tokens_per_minute: None,
        }
    }

    /// The name that clients use. Default: the deployment's name.
    pub fn alias(mut self, alias: impl Into<String>) -> Self {
        self.alias = Some(alias.into());
        self
    }

    /// The model. Default: the alias.
    pub fn model(mut self, model: impl Into<String>) -> Self {
        self.model = Some(model.into());
        self
    }

    /// The model's version. All targets of one alias must agree on it.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// Overrides the backend's priority.
    pub const fn priority(mut self, priority: u32) -> Self {
        self.priority = Some(priority);
        self
    }

    /// Overrides the backend's weight.
    pub const fn weight(mut self, weight: u32) -> Self {
        self.weight = Some(weight);
        self
    }

    /// Overrides the backend's quota group.
    pub fn quota_group(mut self, group: impl Into<String>) -> Self {
        self.quota_group = Some(group.into());
        self
    }

    /// The tokens of its quota, where they are known; what it reports with its answers counts before. A request that is larger
    /// than that is refused for its own size, and its 429 opens no circuit.
    pub const fn tokens_per_minute(mut self, tokens: u64) -> Self {
        self.tokens_per_minute = Some(tokens);
        self
    }

    pub(in crate::pool) fn alias_name(&self) -> &str {
        self.alias.as_deref().unwrap_or(&self.name)
    }

    pub(in crate::pool) fn model_name(&self) -> &str {
        self.model.as_deref().unwrap_or_else(|| self.alias_name())
    }
}
