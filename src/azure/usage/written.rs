//! The `usage` object itself, in each of its spellings.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Details, Usage};

/// Reads a `usage`; `None` when it is null, says nothing or says what cannot be.
pub(super) fn read(usage: &str) -> Option<Usage> {
    let written: Written<'_> = serde_json::from_str(usage).ok()?;
    let usage = if written.kind.is_some_and(|kind| kind.get() == "\"duration\"") {
        Usage { audio: seconds(written.seconds?)?, ..Usage::default() }
    } else {
        written.tokens()?
    };
    Some(usage).filter(|usage| !usage.is_nothing())
}

#[derive(Deserialize)]
struct Written<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    seconds: Option<&'a RawValue>,
    #[serde(borrow)]
    prompt_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    input_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    completion_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    output_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    cache_read_input_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    cache_creation_input_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    prompt_tokens_details: Option<&'a RawValue>,
    #[serde(borrow)]
    input_tokens_details: Option<&'a RawValue>,
    #[serde(borrow)]
    input_token_details: Option<&'a RawValue>,
    #[serde(borrow)]
    completion_tokens_details: Option<&'a RawValue>,
    #[serde(borrow)]
    output_tokens_details: Option<&'a RawValue>,
    #[serde(borrow)]
    output_token_details: Option<&'a RawValue>,
}

impl Written<'_> {
    fn tokens(&self) -> Option<Usage> {
        // Of Anthropic alone: there the prompt's figure leaves out what the cache had.
        let [read, written] = [self.cache_read_input_tokens, self.cache_creation_input_tokens].map(count);
        let (read, written) = (read?, written?);
        let input = count(self.prompt_tokens.or(self.input_tokens))?.saturating_add(read).saturating_add(written);
        let output = count(self.completion_tokens.or(self.output_tokens))?;
        let of_input =
            Parts::read(self.prompt_tokens_details.or(self.input_tokens_details).or(self.input_token_details));
        let of_output =
            Parts::read(self.completion_tokens_details.or(self.output_tokens_details).or(self.output_token_details));
        let details = Details {
            input_cached: of_input.cached.max(read).min(input),
            input_cache_write: of_input.cache_write.max(written).min(input),
            input_audio: of_input.audio.min(input),
            input_image: of_input.image.min(input),
            output_reasoning: of_output.reasoning.min(output),
            output_audio: of_output.audio.min(output),
            output_image: of_output.image.min(output),
        };
        Some(Usage { input, output, details, audio: Duration::ZERO })
    }
}

/// Parts of one figure. One that cannot be read is none.
#[derive(Default)]
struct Parts {
    cached: u64,
    cache_write: u64,
    audio: u64,
    image: u64,
    reasoning: u64,
}

impl Parts {
    fn read(details: Option<&RawValue>) -> Self {
        let Some(Ok(written)) = details.map(|details| serde_json::from_str::<WrittenParts<'_>>(details.get())) else {
            return Self::default();
        };
        let part = |raw| count(raw).unwrap_or_default();
        Self {
            cached: part(written.cached_tokens),
            cache_write: part(written.cache_write_tokens),
            audio: part(written.audio_tokens),
            image: part(written.image_tokens),
            reasoning: part(written.reasoning_tokens),
        }
    }
}

#[derive(Deserialize)]
struct WrittenParts<'a> {
    #[serde(borrow)]
    cached_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    cache_write_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    audio_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    image_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    reasoning_tokens: Option<&'a RawValue>,
}

/// A whole number from 0 to [`Usage::MOST`]; what is absent or null is 0.
fn count(raw: Option<&RawValue>) -> Option<u64> {
    raw.map_or(Some(0), |raw| raw.get().parse().ok().filter(|count| *count <= Usage::MOST))
}

/// A time of up to a year.
fn seconds(raw: &RawValue) -> Option<Duration> {
    const LONGEST: f64 = 366.0 * 24.0 * 60.0 * 60.0;
    let seconds: f64 = raw.get().parse().ok()?;
    (0.0..=LONGEST).contains(&seconds).then(|| Duration::from_secs_f64(seconds))
}
