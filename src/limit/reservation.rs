//! Reservation for a request, before anybody knows what it will use.

use std::num::NonZeroUsize;
use std::sync::Arc;

use quick_cache::sync::Cache;

use crate::azure::asked;
use crate::azure::estimate::Text;

/// Number of pairs of client and alias that have a mean of their own: 10,000.
const MEANS: NonZeroUsize = NonZeroUsize::new(10_000).expect("above zero");

/// Weight of the latest answer in the mean.
const SHARE_OF_LATEST: f64 = 0.1;

/// The mean answers of clients, by alias. Bounded.
pub(super) struct MeanOutputs(Cache<(Arc<str>, Box<str>), f64>);

impl MeanOutputs {
    pub(super) fn new() -> Self {
        Self(Cache::new(MEANS.get()))
    }

    pub(super) fn learn(&self, client: &Arc<str>, alias: &str, output: u64) {
        let key = (client.clone(), Box::from(alias));
        #[expect(clippy::cast_precision_loss, reason = "a mean")]
        let output = output as f64;
        let mean = self.0.get(&key).map_or(output, |mean| mean + (output - mean) * SHARE_OF_LATEST);
        self.0.insert(key, mean);
    }

    fn of(&self, client: &Arc<str>, alias: &str) -> u64 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a mean of counts")]
        self.0.get(&(client.clone(), Box::from(alias))).map_or(0, |mean| mean.round() as u64)
    }

    /// The prompt, by estimate, and what its answer may have at most: `max_tokens`, `max_completion_tokens` or
    /// `max_output_tokens` for each of `n` answers, else what this client's answers have on average.
    pub(super) fn reservation(&self, client: &Arc<str>, alias: Option<&str>, body: &[u8]) -> u64 {
        let prompt = Text::of_prompt(body).tokens();
        let output = asked::output(body).unwrap_or_else(|| alias.map_or(0, |alias| self.of(client, alias)));
        prompt.saturating_add(output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_the_answer_may_have_else_what_it_mostly_has() {
        let (means, client) = (MeanOutputs::new(), Arc::from("a"));
        let of = |body: &str| means.reservation(&client, Some("gpt-4o"), body.as_bytes());
        assert_eq!(of(r#"{"prompt":"12345678"}"#), 2);
        assert_eq!(of(r#"{"prompt":"12345678","max_tokens":100,"n":3}"#), 302);
        assert_eq!(of(r#"{"prompt":"12345678","max_tokens":7,"max_completion_tokens":100}"#), 102);
        for nonsense in ["-1", "1e9", "true", "99999999999999999999", "null"] {
            assert_eq!(of(&format!(r#"{{"prompt":[1,2],"max_output_tokens":{nonsense}}}"#)), 2, "{nonsense}");
        }
        means.learn(&client, "gpt-4o", 100);
        means.learn(&client, "gpt-4o", 200);
        assert_eq!(of(r#"{"prompt":"12345678"}"#), 112);
        assert_eq!(means.reservation(&Arc::from("b"), Some("gpt-4o"), b"{}"), 0, "of this client only");
    }
}
