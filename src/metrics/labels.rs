//! Labels of what is counted. Each is looked up several times with every request: what they hash is one number.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};

/// A name from the configuration; empty where there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name(Option<Arc<str>>);

impl Name {
    pub(super) const NONE: Self = Self(None);

    pub(super) fn of(name: Option<Arc<str>>) -> Self {
        Self(name.filter(|name| !name.is_empty()))
    }

    pub(super) const fn shared(name: Arc<str>) -> Self {
        Self(Some(name))
    }

    fn as_bytes(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default().as_bytes()
    }
}

impl EncodeLabelValue for Name {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        EncodeLabelValue::encode(&self.0.as_deref().unwrap_or_default(), encoder)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct OfRequest {
    pub(super) client: Name,
    pub(super) alias: Name,
    pub(super) operation: &'static str,
    pub(super) status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct OfAnswer {
    pub(super) alias: Name,
    pub(super) backend: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, EncodeLabelSet)]
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

/// Mixes texts into one number, as FxHash does: nobody outside chooses them, so that nobody could make them collide.
fn mixed<const N: usize>(texts: [&[u8]; N]) -> u64 {
    let mix = |hash: u64, word: u64| (hash.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    texts.iter().fold(0, |hash, text| {
        let (words, rest) = text.as_chunks();
        let hash = words.iter().fold(mix(hash, text.len() as u64), |hash, word| mix(hash, u64::from_le_bytes(*word)));
        rest.iter().fold(hash, |hash, byte| mix(hash, u64::from(*byte)))
    })
}

impl Hash for OfRequest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { client, alias, operation, status } = self;
        let names = mixed([client.as_bytes(), alias.as_bytes(), operation.as_bytes()]);
        state.write_u64(names ^ u64::from(*status));
    }
}

impl Hash for OfAnswer {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { alias, backend } = self;
        state.write_u64(mixed([alias.as_bytes(), backend.as_bytes()]));
    }
}

impl Hash for OfAttempt {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { backend, deployment, outcome } = self;
        state.write_u64(mixed([backend.as_bytes(), deployment.as_bytes(), outcome.as_bytes()]));
    }
}

impl Hash for OfTokens {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { client, alias, backend, deployment, r#type, source } = self;
        let names = [client, alias, backend, deployment].map(Name::as_bytes);
        state.write_u64(mixed(names) ^ mixed([r#type.as_bytes(), source.as_bytes()]));
    }
}
