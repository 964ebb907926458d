//! Tokens that a request may cost at most, as far as it says so.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::estimate::Text;

/// What a request says of its answer's length.
#[derive(Deserialize)]
struct Asked<'a> {
    #[serde(borrow)]
    max_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    max_completion_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    max_output_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    n: Option<&'a RawValue>,
}

impl Asked<'_> {
    fn output(&self) -> Option<u64> {
        let most = self.max_completion_tokens.or(self.max_output_tokens).or(self.max_tokens).and_then(count)?;
        Some(most.saturating_mul(self.n.and_then(count).unwrap_or(1)))
    }
}

fn count(raw: &RawValue) -> Option<u64> {
    raw.get().parse::<u32>().ok().map(u64::from)
}

/// What the answer may have at most: `max_tokens`, `max_completion_tokens` or `max_output_tokens` for each of `n` answers.
pub(crate) fn output(body: &[u8]) -> Option<u64> {
    serde_json::from_slice::<Asked<'_>>(body).ok().and_then(|asked| asked.output())
}

/// What Azure counts against a quota before it generates anything: the prompt, by estimate, and what the answer may have.
pub(crate) fn tokens(body: &[u8]) -> u64 {
    Text::of_prompt(body).tokens().saturating_add(output(body).unwrap_or_default())
}
