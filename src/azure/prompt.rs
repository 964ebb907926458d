//! Key under which a prompt is cached.
//!
//! Azure OpenAI caches the beginnings of prompts of 1,024 tokens and more, and sends requests that begin alike, or that name the
//! same `prompt_cache_key`, to the same machine. Requests that would find the same cache must reach the same deployment to
//! begin with: [`CacheKey::of_body`] says which ones those are.
//!
//! Sources: <https://learn.microsoft.com/azure/ai-foundry/openai/how-to/prompt-caching>, <https://platform.openai.com/docs/guides/prompt-caching>.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::stable_hash;

/// Length of a prompt that is looked at: 1 KiB, about the 256 tokens by which prompts are told apart upstream.
pub(crate) const PREFIX: usize = 1024;

/// Key that tells the prompts of one cache from those of another.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) enum CacheKey<'a> {
    /// Beginning of the prompt, as it stands in the body: its instructions, and then the rest, up to [`PREFIX`] bytes of each.
    Prefix([&'a str; 2]),
    /// `prompt_cache_key`, which the client chose for this very purpose.
    Named(Cow<'a, str>),
    /// `user`, the client's own user.
    User(Cow<'a, str>),
}

impl<'a> CacheKey<'a> {
    /// The key of a JSON request body: `prompt_cache_key`, else `user`, else how `instructions` and then `messages`, `input` or
    /// `prompt` begin. `None` without any of them, and for a body that is not JSON or says one of them twice.
    ///
    /// Reads the body once and builds nothing of it.
    #[must_use]
    pub(crate) fn of_body(body: &'a [u8]) -> Option<Self> {
        let peek: Peek<'a> = serde_json::from_slice(body).ok()?;
        let prefix = || {
            let prompt = peek.messages.or(peek.input).or(peek.prompt);
            (peek.instructions.is_some() || prompt.is_some())
                .then(|| Self::Prefix([peek.instructions, prompt].map(begin)))
        };
        let key = peek.prompt_cache_key.and_then(text).map(Self::Named);
        key.or_else(|| peek.user.and_then(text).map(Self::User)).or_else(prefix)
    }

    /// The key as a number that is the same in every process.
    #[must_use]
    pub(crate) fn digest(&self) -> u64 {
        match self {
            Self::Prefix([instructions, prompt]) => stable_hash(["prefix", *instructions, *prompt].map(str::as_bytes)),
            Self::Named(key) => stable_hash(["prompt_cache_key", &**key].map(str::as_bytes)),
            Self::User(user) => stable_hash(["user", &**user].map(str::as_bytes)),
        }
    }
}

/// The members that matter, as they stand in the body; the rest is skipped.
#[derive(Deserialize)]
struct Peek<'a> {
    #[serde(borrow)]
    prompt_cache_key: Option<&'a RawValue>,
    #[serde(borrow)]
    user: Option<&'a RawValue>,
    #[serde(borrow)]
    instructions: Option<&'a RawValue>,
    #[serde(borrow)]
    messages: Option<&'a RawValue>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    #[serde(borrow)]
    prompt: Option<&'a RawValue>,
}

/// An empty string is as good as none, and so is what is no string.
fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    let json = value.get();
    // Without escapes the text stands in the body as it is.
    let plain = json.strip_prefix('"').and_then(|json| json.strip_suffix('"')).filter(|text| !text.contains('\\'));
    let text = plain.map(Cow::Borrowed).or_else(|| serde_json::from_str(json).map(Cow::Owned).ok());
    text.filter(|text| !text.is_empty())
}

fn begin(value: Option<&RawValue>) -> &str {
    let json = value.map_or("", RawValue::get);
    let end = (0..=PREFIX.min(json.len())).rev().find(|end| json.is_char_boundary(*end));
    &json[..end.unwrap_or_default()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(body: &str) -> Option<CacheKey<'_>> {
        CacheKey::of_body(body.as_bytes())
    }

    #[test]
    fn the_clients_own_key_comes_first_then_its_user_then_the_prompt() {
        let named = r#"{"messages":[],"user":"u","model":{"user":"x"},"prompt_cache_key":"k"}"#;
        assert_eq!(key(named), Some(CacheKey::Named("k".into())));
        assert_eq!(key(r#"{"messages":[],"user":"u\n"}"#), Some(CacheKey::User("u\n".into())));
        assert_eq!(key(r#"{"user":"","messages":[1]}"#), Some(CacheKey::Prefix(["", "[1]"])));
        assert_eq!(key(r#"{"user":7,"prompt_cache_key":null,"input":"hi"}"#), Some(CacheKey::Prefix(["", "\"hi\""])));
        assert_eq!(key(r#"{"prompt":"p","instructions":"i"}"#), Some(CacheKey::Prefix(["\"i\"", "\"p\""])));
    }

    #[test]
    fn what_cannot_be_read_has_no_key() {
        for body in ["", "[]", "{}", "null", r#"{"user":"a","user":"b"}"#, r#"{"user":"a""#, r#"{"user":"a"} x"#] {
            assert_eq!(key(body), None, "{body}");
        }
    }

    #[test]
    fn a_long_prompt_counts_by_its_beginning() {
        let body = |end: &str| format!(r#"{{"messages":["{}{end}"]}}"#, "ä".repeat(PREFIX));
        let (one, other) = (body("one"), body("other"));
        assert_eq!(key(&one), key(&other));
        let Some(CacheKey::Prefix([_, prompt])) = key(&one) else { panic!("a prefix") };
        assert_eq!(prompt.len(), PREFIX);
    }

    #[test]
    fn digests_are_told_apart_by_kind_and_never_change() {
        let digest = |body| key(body).map(|key| key.digest());
        assert_ne!(digest(r#"{"user":"a"}"#), digest(r#"{"prompt_cache_key":"a"}"#));
        assert_ne!(digest(r#"{"prompt":"a"}"#), digest(r#"{"instructions":"a"}"#));
        assert_eq!(digest(r#"{"user":"a"}"#), Some(0xbe12_de99_6f7a_95e2));
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_read(body in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = CacheKey::of_body(&body);
        }

        #[test]
        fn where_a_key_stands_changes_nothing(user in "\\PC{1,12}", filler in "\\PC{0,2000}") {
            let (user_json, filler) = (serde_json::json!(user), serde_json::json!(filler));
            let first = format!(r#"{{"user":{user_json},"input":{filler}}}"#);
            let last = format!(r#"{{ "input" : {filler} , "user" : {user_json} }}"#);
            prop_assert_eq!(key(&first), Some(CacheKey::User(user.as_str().into())));
            prop_assert_eq!(key(&first), key(&last));
        }
    }
}
