//! Room that a backend says it has left.
//!
//! Figures of one moment, sent with successful answers. They are good for choosing among backends that would all do, and never
//! for refusing a request: a backend that has no room says so by itself, with a 429.
//!
//! Sources: `x-ratelimit-remaining-…` as in <https://learn.microsoft.com/azure/ai-foundry/openai/how-to/quota>, `azure-openai-deployment-utilization` as in
//! <https://learn.microsoft.com/azure/ai-foundry/openai/how-to/provisioned-get-started>.

use http::{HeaderMap, HeaderName};

const REMAINING_REQUESTS: HeaderName = HeaderName::from_static("x-ratelimit-remaining-requests");
const LIMIT_REQUESTS: HeaderName = HeaderName::from_static("x-ratelimit-limit-requests");
const REMAINING_TOKENS: HeaderName = HeaderName::from_static("x-ratelimit-remaining-tokens");
const LIMIT_TOKENS: HeaderName = HeaderName::from_static("x-ratelimit-limit-tokens");
const UTILIZATION: HeaderName = HeaderName::from_static("azure-openai-deployment-utilization");
const SPILLED_FROM: &str = "x-ms-spillover-from-";

/// Room that a deployment has left, as one answer tells it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub(crate) struct Signals {
    /// Requests left in the window, and how many there are in all: `x-ratelimit-remaining-requests`,
    /// `x-ratelimit-limit-requests`.
    pub(crate) requests: Quota,
    /// Tokens left in the window, and how many there are in all: `x-ratelimit-remaining-tokens`, `x-ratelimit-limit-tokens`.
    pub(crate) tokens: Quota,
    /// Utilization of a provisioned deployment; above 1 it refuses: `azure-openai-deployment-utilization`, in per cent.
    pub(crate) utilization: Option<f64>,
}

/// Remainder of one quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) struct Quota {
    /// Remainder now.
    pub(crate) remaining: Option<u64>,
    /// Whole of it.
    pub(crate) limit: Option<u64>,
}

impl Signals {
    /// Reads the headers of an answer.
    ///
    /// Negative values mean *unknown* and count as absent, as does everything else that cannot be read. An answer that Azure
    /// itself moved to another deployment ([`is_spilled_over`]) says nothing of the deployment that was asked.
    #[must_use]
    pub(crate) fn read(headers: &HeaderMap) -> Self {
        let signals = Self {
            requests: Quota { remaining: count(headers, &REMAINING_REQUESTS), limit: count(headers, &LIMIT_REQUESTS) },
            tokens: Quota { remaining: count(headers, &REMAINING_TOKENS), limit: count(headers, &LIMIT_TOKENS) },
            utilization: text(headers, &UTILIZATION).and_then(share),
        };
        if is_spilled_over(headers) { Self::default() } else { signals }
    }

    /// Tells whether nothing is told.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Tells whether Azure itself moved the request from a provisioned deployment to a standard one of the same resource: whatever the
/// answer says of quotas is said of that one.
#[must_use]
pub(crate) fn is_spilled_over(headers: &HeaderMap) -> bool {
    headers.keys().map(HeaderName::as_str).any(|name| name.starts_with(SPILLED_FROM))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

fn count(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    text(headers, name)?.parse().ok()
}

fn share(text: &str) -> Option<f64> {
    let percent: f64 = text.trim_end_matches('%').trim_end().parse().ok()?;
    (percent.is_finite() && percent >= 0.0).then_some(percent / 100.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(pairs: &[(&'static str, &str)]) -> Signals {
        let pairs = pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        Signals::read(&pairs.collect())
    }

    #[test]
    fn quotas_and_utilization_are_read() {
        let signals = read(&[
            ("x-ratelimit-remaining-requests", "99"),
            ("x-ratelimit-limit-requests", "100"),
            ("x-ratelimit-remaining-tokens", " 0 "),
            ("azure-openai-deployment-utilization", "87.5%"),
        ]);
        assert_eq!(signals.requests, Quota { remaining: Some(99), limit: Some(100) });
        assert_eq!(signals.tokens, Quota { remaining: Some(0), limit: None });
        assert_eq!(signals.utilization, Some(0.875));
    }

    #[test]
    fn what_is_negative_or_unreadable_is_absent() {
        for value in ["-1", "", "many", "1.5", "99999999999999999999999"] {
            assert!(read(&[("x-ratelimit-remaining-tokens", value)]).is_empty(), "{value:?}");
        }
        for value in ["-1%", "", "%", "NaN%", "inf", "full"] {
            assert!(read(&[("azure-openai-deployment-utilization", value)]).is_empty(), "{value:?}");
        }
    }

    #[test]
    fn an_answer_that_was_spilled_over_says_nothing_of_the_deployment_that_was_asked() {
        for name in ["x-ms-spillover-from-deployment", "x-ms-spillover-from-gpt-4o-ptu"] {
            let headers = [(name, "gpt-4o-ptu"), ("x-ratelimit-remaining-tokens", "7")];
            assert!(read(&headers).is_empty(), "{name}");
        }
        assert!(!read(&[("x-ms-spillover-error", "429"), ("x-ratelimit-remaining-tokens", "7")]).is_empty());
    }

    proptest! {
        #[test]
        fn any_text_can_be_read(value in "[ -~]{0,24}") {
            let signals = read(&[
                ("x-ratelimit-remaining-requests", &value),
                ("azure-openai-deployment-utilization", &value),
            ]);
            prop_assert!(signals.utilization.is_none_or(|share| share.is_finite() && share >= 0.0));
        }
    }
}
