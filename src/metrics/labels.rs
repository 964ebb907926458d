use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};

/// A name from the configuration; empty where there is none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Name(Option<Arc<str>>);

impl Name {
    pub(super) const NONE: Self = Self(None);

    pub(super) fn of(name: Option<&str>) -> Self {
        Self(name.filter(|name| !name.is_empty()).map(Into::into))
    }

    pub(super) const fn shared(name: Arc<str>) -> Self {
        Self(Some(name))
    }
}

impl EncodeLabelValue for Name {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        EncodeLabelValue::encode(&self.0.as_deref().unwrap_or_default(), encoder)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfRequest {
    pub(super) client: Name,
    pub(super) alias: Name,
    pub(super) operation: &'static str,
    pub(super) status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfAnswer {
    pub(super) alias: Name,
    pub(super) backend: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfAttempt {
    pub(super) backend: Name,
    pub(super) deployment: Name,
    pub(super) outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct OfTokens {
    pub(super) client: Name,
    pub(super) alias: Name,
    pub(super) backend: Name,
    pub(super) deployment: Name,
    pub(super) r#type: &'static str,
    pub(super) source: &'static str,
}

impl Hash for OfTokens {
    /// Looked up several times a request: what tells most of them apart will do, for equality decides.
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.client, &self.backend, self.r#type).hash(state);
    }
}
