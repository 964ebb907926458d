//! Tokens that a request may cost at most, as far as it says so.
//!
//! Sources: quotas count the prompt by estimate and `max_tokens` (<https://learn.microsoft.com/azure/ai-foundry/openai/how-to/quota>).

use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::estimate::Text;

/// Length of the answer, as a request asks for it.
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

/// Returns what the answer may have at most: `max_tokens`, `max_completion_tokens` or `max_output_tokens` for each of `n`
/// answers.
pub(crate) fn output(body: &[u8]) -> Option<u64> {
    serde_json::from_slice::<Asked<'_>>(body).ok().and_then(|asked| asked.output())
}

/// The same without reading all of a body, for what need not be exact: a number right after one of these names, wherever it stands
/// plainly. Several answers are not reckoned with.
pub(crate) fn plain_output(body: &[u8]) -> Option<u32> {
    FINDER.find_iter(body).find_map(|at| {
        let rest = body.get(at + START.len()..)?;
        let rest = NAMES.iter().find_map(|name| rest.strip_prefix(*name))?;
        let rest = rest.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
        let digits = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
        std::str::from_utf8(rest.get(..digits)?).ok()?.parse().ok()
    })
}

const START: &[u8] = b"\"max_";
const NAMES: [&[u8]; 3] = [b"tokens\"", b"completion_tokens\"", b"output_tokens\""];
static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(START));

/// Returns what Azure counts against a quota before it generates anything: the prompt, by estimate, and what the answer may have.
pub(crate) fn tokens(body: &[u8]) -> u64 {
    Text::of_prompt(body).tokens().saturating_add(output(body).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_number_where_it_stands_plainly() {
        for (body, expected) in [
            (r#"{"messages":[],"max_tokens":64,"n":2}"#, Some(64)),
            (r#"{"max_completion_tokens" : 7}"#, Some(7)),
            (r#"{"input":"say \"max_tokens\":5","max_output_tokens":9}"#, Some(9)),
            (r#"{"max_tokens":null}"#, None),
            (r#"{"max_tokens":99999999999}"#, None),
            (r#"{"max_tool_calls":3}"#, None),
            (r#"{"max_tokens""#, None),
        ] {
            assert_eq!(plain_output(body.as_bytes()), expected, "{body}");
        }
    }
}
