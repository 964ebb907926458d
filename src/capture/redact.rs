//! Redaction of bodies before anybody writes them.

use std::sync::Arc;

use serde_json::Value;

use crate::context::is_ephemeral;

/// Stands where something was taken out.
pub const REDACTED: &str = "[redacted]";

/// Members whose values are credentials wherever they stand, in lower case and without separators.
const CREDENTIALS: [&str; 14] = [
    "accesskey",
    "accesstoken",
    "apikey",
    "authentication",
    "authorization",
    "clientsecret",
    "connectionstring",
    "encodedapikey",
    "headers",
    "ocpapimsubscriptionkey",
    "password",
    "refreshtoken",
    "secret",
    "subscriptionkey",
];

/// Takes out of a body what must not be written. See [`capture`](super).
///
/// Called for the body of the request and for that of the answer, a stream as the answer that it adds up to. Where a layer has one,
/// bodies that are no JSON are not written at all.
pub trait Redact: Send + Sync {
    /// Changes what must not be seen.
    fn redact(&self, body: &mut Value);
}

impl<R: Redact + ?Sized> Redact for Arc<R> {
    fn redact(&self, body: &mut Value) {
        (**self).redact(body);
    }
}

/// Takes out what JSON pointers (RFC 6901) lead to, where `*` stands for any member or element: `/messages/*/content`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pointers(Vec<Vec<Step>>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Any,
    Named(Box<str>),
}

/// A text is no JSON pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a JSON pointer, such as \"/messages/*/content\"")]
#[non_exhaustive]
pub struct InvalidPointer;

impl Pointers {
    /// Reads the pointers; an empty one, which would be the whole body, is none.
    ///
    /// # Errors
    /// One does not begin with a slash, or has a `~` that is no `~0` or `~1`.
    pub fn parse<P: AsRef<str>>(pointers: impl IntoIterator<Item = P>) -> Result<Self, InvalidPointer> {
        pointers.into_iter().map(|pointer| read(pointer.as_ref())).collect::<Result<_, _>>().map(Self)
    }

    /// Tells whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn read(pointer: &str) -> Result<Vec<Step>, InvalidPointer> {
    let steps = pointer.strip_prefix('/').ok_or(InvalidPointer)?.split('/');
    let step = |step: &str| match step {
        "*" => Ok(Step::Any),
        _ if step.replace("~0", "").replace("~1", "").contains('~') => Err(InvalidPointer),
        _ => Ok(Step::Named(step.replace("~1", "/").replace("~0", "~").into())),
    };
    steps.map(step).collect()
}

impl Redact for Pointers {
    fn redact(&self, body: &mut Value) {
        self.0.iter().for_each(|steps| take_out(body, steps));
    }
}

fn take_out(value: &mut Value, steps: &[Step]) {
    let Some((step, rest)) = steps.split_first() else {
        *value = Value::from(REDACTED);
        return;
    };
    match (value, step) {
        (Value::Array(elements), Step::Any) => elements.iter_mut().for_each(|element| take_out(element, rest)),
        (Value::Object(members), Step::Any) => members.values_mut().for_each(|member| take_out(member, rest)),
        (Value::Array(elements), Step::Named(index)) => {
            if let Some(element) = index.parse::<usize>().ok().and_then(|index| elements.get_mut(index)) {
                take_out(element, rest);
            }
        }
        (Value::Object(members), Step::Named(name)) => {
            if let Some(member) = members.get_mut(&**name) {
                take_out(member, rest);
            }
        }
        _ => {}
    }
}

/// Takes out credentials that clients put into bodies, and ephemeral keys that answers hand out.
pub(super) fn credentials(body: &mut Value) {
    match body {
        Value::Array(elements) => elements.iter_mut().for_each(credentials),
        Value::Object(members) => members.iter_mut().for_each(|(name, member)| {
            if is_credential(name) && !member.is_null() { *member = Value::from(REDACTED) } else { credentials(member) }
        }),
        Value::String(text) if is_ephemeral(text.as_bytes()) => REDACTED.clone_into(text),
        _ => {}
    }
}

fn is_credential(name: &str) -> bool {
    let plain: String =
        name.chars().filter(|c| c.is_ascii_alphanumeric()).map(|c| c.to_ascii_lowercase()).take(32).collect();
    CREDENTIALS.contains(&&*plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn redacted(pointers: &[&str], mut body: Value) -> Value {
        Pointers::parse(pointers).unwrap().redact(&mut body);
        body
    }

    #[test]
    fn a_star_is_any_member_or_element() {
        let body =
            json!({"messages": [{"content": "a", "role": "user"}, {"content": [{"text": "b"}]}], "user": {"x": 1}});
        assert_eq!(
            redacted(&["/messages/*/content", "/user/*", "/absent/*/x", "/messages/7"], body),
            json!({"messages": [{"content": REDACTED, "role": "user"}, {"content": REDACTED}], "user": {"x": REDACTED}})
        );
        assert_eq!(
            redacted(&["/a~1b/0", "/~0"], json!({"a/b": [1, 2], "~": 3})),
            json!({"a/b": [REDACTED, 2], "~": REDACTED})
        );
    }

    #[test]
    fn what_is_no_pointer_is_refused() {
        for pointer in ["", "messages", "/a~", "/a~2", " /a"] {
            assert_eq!(Pointers::parse([pointer]), Err(InvalidPointer), "{pointer:?}");
        }
    }

    #[test]
    fn credentials_in_bodies_are_found_wherever_they_stand() {
        let mut body = json!({
            "data_sources": [{"parameters": {"authentication": {"type": "api_key", "key": "k"}, "index_name": "i"}}],
            "tools": [{"type": "mcp", "Authorization": "Bearer t", "headers": {"x": "y"}, "api-key": "k"}],
            "client_secret": {"value": "ek_123"}, "value": "ek_456", "password": null, "max_tokens": 7
        });
        credentials(&mut body);
        assert_eq!(
            body,
            json!({
                "data_sources": [{"parameters": {"authentication": REDACTED, "index_name": "i"}}],
                "tools": [{"type": "mcp", "Authorization": REDACTED, "headers": REDACTED, "api-key": REDACTED}],
                "client_secret": REDACTED, "value": REDACTED, "password": null, "max_tokens": 7
            })
        );
    }

    proptest! {
        #[test]
        fn any_text_is_a_pointer_or_none(text in "[a~01/*]{0,12}") {
            let mut body = json!({"a": [{"0": "1"}]});
            if let Ok(pointers) = Pointers::parse([&text]) {
                pointers.redact(&mut body);
            }
        }
    }
}
