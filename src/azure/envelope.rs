//! Reading and writing error bodies.
//!
//! Sources: the error objects of <https://learn.microsoft.com/azure/ai-foundry/openai/reference> and <https://platform.openai.com/docs/guides/error-codes>, content filters as in
//! <https://learn.microsoft.com/azure/ai-foundry/openai/concepts/content-filter>.

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};

use super::json_text;

/// Content of an error body. Everything may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ErrorEnvelope {
    code: Option<String>,
    inner: Option<Value>,
    kind: Option<String>,
    message: Option<String>,
    param: Option<String>,
}

impl ErrorEnvelope {
    /// The code; one that was sent as a number is given as its digits.
    #[must_use]
    pub(crate) fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// The code of the inner error, such as `ResponsibleAIPolicyViolation` of the content filter.
    #[must_use]
    pub(crate) fn inner_code(&self) -> Option<&str> {
        self.inner()?.get("code")?.as_str()
    }

    /// The inner error as it came, such as what the content filter found.
    #[must_use]
    pub(crate) const fn inner(&self) -> Option<&Value> {
        self.inner.as_ref()
    }

    /// The `type`.
    #[must_use]
    pub(crate) fn kind(&self) -> Option<&str> {
        self.kind.as_deref()
    }

    /// The text for people.
    #[must_use]
    pub(crate) fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// The name of the parameter at fault.
    #[must_use]
    pub(crate) fn param(&self) -> Option<&str> {
        self.param.as_deref()
    }

    /// Tells whether the resource cannot read content that another one made: `encrypted_content` of a reasoning or compaction item.
    /// Some say so by their message only.
    #[must_use]
    pub(crate) fn cannot_read_content(&self) -> bool {
        let says = |message: &str| {
            let message = message.to_ascii_lowercase();
            message.contains("encrypted content") && message.contains("could not be verified")
        };
        self.code() == Some("invalid_encrypted_content") || self.message().is_some_and(says)
    }

    fn of(error: &Map<String, Value>) -> Self {
        let inner = error.get("innererror").or_else(|| error.get("inner_error"));
        Self {
            code: text(error, "code").or_else(|| text(error, "statusCode")),
            inner: inner.filter(|inner| inner.is_object()).cloned(),
            kind: text(error, "type"),
            message: text(error, "message"),
            param: text(error, "param"),
        }
    }

    pub(super) fn of_message(message: &str) -> Self {
        Self { message: Some(message.to_owned()), ..Self::default() }
    }
}

/// Reads an error body in any of the shapes that Azure OpenAI and what stands in front of it send.
///
/// 1. `{"error":{"code":"…","message":"…"}}` of the front door
/// 2. the same with `type`, `param`, `status` and `innererror` of the model tier, of which any may be null
/// 3. `{"statusCode":401,"message":"…"}` of API Management, and other objects with `code` or `message` at the top
/// 4. as 1 with a `code` that is a number
/// 5. a body that is empty, HTML or plain text holds no envelope: `None`
///
/// An `error` that is only a text is taken as the message. Members of an unexpected type count as missing.
#[must_use]
pub(crate) fn read(body: &[u8]) -> Option<ErrorEnvelope> {
    let body: Value = json_text::read(body).ok()?;
    let body = body.as_object()?;
    let flat = || Some(ErrorEnvelope::of(body)).filter(|flat| flat.code.is_some() || flat.message.is_some());
    body.get("error").and_then(of_value).or_else(flat)
}

/// Reads what stands under `error`: an object, or only a text.
pub(super) fn of_value(error: &Value) -> Option<ErrorEnvelope> {
    match error {
        Value::Object(error) => Some(ErrorEnvelope::of(error)),
        Value::String(message) => Some(ErrorEnvelope::of_message(message)),
        _ => None,
    }
}

/// An error body in the shape of 2 of [`read`]: `{"error":{"code":…,"message":…,"type":…,"param":…}}`, in this order.
#[must_use]
pub(crate) fn write(code: &str, kind: &str, message: &str, param: Option<&str>) -> Bytes {
    write_with_inner(code, kind, message, param, None)
}

/// As [`write`], with an `innererror` at the end if there is one.
pub(super) fn write_with_inner(
    code: &str,
    kind: &str,
    message: &str,
    param: Option<&str>,
    inner: Option<&Value>,
) -> Bytes {
    #[derive(Serialize)]
    struct Outer<'a> {
        error: Inner<'a>,
    }

    #[derive(Serialize)]
    struct Inner<'a> {
        code: &'a str,
        message: &'a str,
        r#type: &'a str,
        param: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        innererror: Option<&'a Value>,
    }

    let body = Outer { error: Inner { code, message, r#type: kind, param, innererror: inner } };
    serde_json::to_vec(&body).expect("texts are always JSON").into()
}

fn text(object: &Map<String, Value>, name: &str) -> Option<String> {
    match object.get(name)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn envelope(code: Option<&str>, message: Option<&str>) -> ErrorEnvelope {
        ErrorEnvelope { code: code.map(str::to_owned), message: message.map(str::to_owned), ..ErrorEnvelope::default() }
    }

    #[test]
    fn reads_the_front_door() {
        let body = br#"{"error":{"code":"429","message":"Rate limit is exceeded. Try again in 40 seconds."}}"#;
        let expected = envelope(Some("429"), Some("Rate limit is exceeded. Try again in 40 seconds."));
        assert_eq!(read(body), Some(expected));
    }

    #[test]
    fn half_of_a_pair_that_an_error_quotes_hides_nothing() {
        let body = br#"{"error":{"code":"invalid_value","message":"no such tool: \ud83d"}}"#;
        assert_eq!(read(body), Some(envelope(Some("invalid_value"), Some("no such tool: \u{fffd}"))));
    }

    #[test]
    fn reads_the_model_tier() {
        let body =
            br#"{"error":{"message":"filtered","type":null,"param":"prompt","code":"content_filter","status":400,
            "innererror":{"code":"ResponsibleAIPolicyViolation","content_filter_result":{"hate":{"filtered":true}}}}}"#;
        let error = read(body).unwrap();
        assert_eq!(error.code(), Some("content_filter"));
        assert_eq!(error.inner_code(), Some("ResponsibleAIPolicyViolation"));
        assert_eq!(error.kind(), None);
        assert_eq!(error.message(), Some("filtered"));
        assert_eq!(error.param(), Some("prompt"));
    }

    #[test]
    fn reads_the_other_spelling_of_the_inner_error() {
        let body = br#"{"error":{"code":"content_filter","inner_error":{"code":"ResponsibleAIPolicyViolation"}}}"#;
        assert_eq!(read(body).unwrap().inner_code(), Some("ResponsibleAIPolicyViolation"));
    }

    #[test]
    fn reads_api_management() {
        let body = br#"{ "statusCode": 401, "message": "Access denied due to missing subscription key." }"#;
        assert_eq!(read(body), Some(envelope(Some("401"), Some("Access denied due to missing subscription key."))));
    }

    #[test]
    fn reads_a_numeric_code() {
        let body = br#"{"error":{"requestid":"1","code":400,"message":"bad"}}"#;
        assert_eq!(read(body), Some(envelope(Some("400"), Some("bad"))));
    }

    #[test]
    fn reads_an_error_that_is_only_a_text() {
        assert_eq!(
            read(br#"{"error":"Deployment x not found"}"#),
            Some(envelope(None, Some("Deployment x not found")))
        );
    }

    #[test]
    fn reads_an_error_at_the_top() {
        let error =
            read(br#"{"type":"error","code":"rate_limit_exceeded","message":"slow down","param":null}"#).unwrap();
        assert_eq!(error.code(), Some("rate_limit_exceeded"));
        assert_eq!(error.kind(), Some("error"));
    }

    #[test]
    fn members_may_be_null_or_of_another_type() {
        let body = br#"{"error":{"message":null,"type":[],"param":{},"code":true,"innererror":null}}"#;
        assert_eq!(read(body), Some(ErrorEnvelope::default()));
        assert_eq!(read(br#"{"error":{"innererror":"x"}}"#), Some(ErrorEnvelope::default()));
    }

    #[test]
    fn other_bodies_hold_no_envelope() {
        for body in [
            "",
            "no healthy upstream",
            "<html><body>502 Bad Gateway</body></html>",
            "null",
            "[]",
            "429",
            "\"error\"",
            "{}",
            r#"{"error":null,"id":"resp_1"}"#,
            r#"{"error":["x"]}"#,
            r#"{"error":{"code":"#,
            r#"{"choices":[]}"#,
        ] {
            assert_eq!(read(body.as_bytes()), None, "{body}");
        }
        assert_eq!(read(b"\xff\xfe"), None);
    }

    #[test]
    fn nesting_without_end_is_no_envelope() {
        assert_eq!(read("{\"error\":".repeat(100_000).as_bytes()), None);
    }

    #[test]
    fn writes_in_the_order_of_azure() {
        assert_eq!(
            write("no_target_available", "gateway_error", "say \"please\"", None),
            r#"{"error":{"code":"no_target_available","message":"say \"please\"","type":"gateway_error","param":null}}"#
        );
        assert_eq!(
            write("c", "t", "m", Some("model")),
            r#"{"error":{"code":"c","message":"m","type":"t","param":"model"}}"#
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&body);
        }

        #[test]
        fn any_json_is_read_without_panic(body in r#"\{"error":[\[\]{}":,a-z0-9 \\.-]{0,60}\}"#) {
            let _ = read(body.as_bytes());
        }

        #[test]
        fn what_is_written_can_be_read(
            code in "(?s).*", kind in "(?s).*", message in "(?s).*", param in prop::option::of("(?s).*"),
        ) {
            let error = read(&write(&code, &kind, &message, param.as_deref())).unwrap();
            prop_assert_eq!(error.code(), Some(&*code));
            prop_assert_eq!(error.kind(), Some(&*kind));
            prop_assert_eq!(error.message(), Some(&*message));
            prop_assert_eq!(error.param(), param.as_deref());
        }
    }
}
