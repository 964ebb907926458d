//! Asking a backend for the usage of a stream that its client did not ask for, and taking it out again.
//!
//! Chat and completions tell it to whoever sets `stream_options.include_usage`: one more chunk at the end, without choices, and
//! `"usage":null` in all others. Versions before 2024-09-01-preview refuse the option, as do requests with `data_sources`.

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Request};
use memchr::memmem;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::azure::operation::Surface;
use crate::azure::sse;
use crate::azure::usage::Reported;
use crate::body::Body;
use crate::context::Route;
use crate::headers::query_parameters;

const OPTION: &[u8] = br#","stream_options":{"include_usage":true}"#;

/// The first version that knows the option.
const KNOWN_SINCE: &str = "2024-09-01-preview";

/// Bytes of an event that wait for its end: 1 MiB. A longer one passes as it is.
const LONGEST_EVENT: usize = 1024 * 1024;

/// Puts the option into a request that can have it; whether it is there now.
///
/// It stands last in the body, so that every place in front of it stays where other layers have found it.
pub(super) fn ask(request: &mut Request<Body>, route: &Route) -> bool {
    if route.surface() == Surface::Classic && !is_known(request.uri().query().unwrap_or_default()) {
        return false;
    }
    let Some(body) = request.body().as_bytes() else { return false };
    let Some(end) = end_of_free_object(body) else { return false };
    let asking = Bytes::from([&body[..end], OPTION, &body[end..]].concat());
    if request.headers().contains_key(CONTENT_LENGTH) {
        request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(asking.len()));
    }
    *request.body_mut() = Body::from(asking);
    true
}

/// Versions are dates, so that their text is in their order.
fn is_known(query: &str) -> bool {
    query_parameters(query)
        .any(|(name, version, _)| name.eq_ignore_ascii_case("api-version") && *version >= *KNOWN_SINCE)
}

/// Returns the end of the object into which the option can be put: it has members, and none that says otherwise.
fn end_of_free_object(body: &[u8]) -> Option<usize> {
    let taken: Taken = serde_json::from_slice(body).ok()?;
    let is_free = taken.stream && taken.stream_options.is_none() && taken.data_sources.is_none();
    is_free.then(|| body.trim_ascii_end().len() - 1)
}

/// Members that decide whether the option can be put there.
#[derive(Deserialize)]
struct Taken {
    stream: bool,
    #[serde(default, deserialize_with = "is_there")]
    stream_options: Option<IgnoredAny>,
    data_sources: Option<IgnoredAny>,
}

/// A member that is null is there, too.
fn is_there<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<IgnoredAny>, D::Error> {
    IgnoredAny::deserialize(deserializer).map(Some)
}

// ===== Unasked =====

/// Takes out of a stream what it tells because the gateway asked. Every other byte stays as it is; an event of which only a part has
/// come waits for the rest of it.
#[derive(Debug, Default)]
pub(super) struct Unasked {
    begun: BytesMut,
}

impl Unasked {
    /// Returns what of a chunk, and of what waited, can be handed on.
    pub(super) fn pass(&mut self, chunk: Bytes) -> Bytes {
        if self.begun.is_empty() && is_whole(&chunk) && memmem::find(&chunk, b"\"usage\"").is_none() {
            return chunk;
        }
        self.begun.extend_from_slice(&chunk);
        let mut passed = Vec::with_capacity(self.begun.len());
        while let Some(end) = end_of_event(&self.begun) {
            pass_event(&self.begun.split_to(end), &mut passed);
        }
        if self.begun.len() > LONGEST_EVENT {
            passed.extend_from_slice(&self.begun.split());
        }
        passed.into()
    }

    /// Returns what waited for an end that did not come.
    pub(super) fn finish(&mut self) -> Option<Bytes> {
        let mut passed = Vec::with_capacity(self.begun.len());
        pass_event(&self.begun.split(), &mut passed);
        (!passed.is_empty()).then(|| passed.into())
    }
}

fn is_whole(chunk: &[u8]) -> bool {
    chunk.ends_with(b"\n\n") || chunk.ends_with(b"\r\n\r\n")
}

/// Returns the end of the first event, with the empty line after it.
fn end_of_event(bytes: &[u8]) -> Option<usize> {
    let mut line_is_empty = true;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            // Its line feed may come with the next chunk.
            b'\r' if bytes.get(at).is_none_or(|next| *next == b'\n') => {}
            b'\r' | b'\n' if line_is_empty => return Some(at),
            b'\r' | b'\n' => line_is_empty = true,
            _ => line_is_empty = false,
        }
    }
    None
}

fn pass_event(event: &[u8], passed: &mut Vec<u8>) {
    if tells_only_usage(event) {
        return;
    }
    match memmem::find(event, NOTHING) {
        Some(at) => {
            passed.extend_from_slice(&event[..at]);
            passed.extend_from_slice(&event[at + NOTHING.len()..]);
        }
        None => passed.extend_from_slice(event),
    }
}

/// In a text its quotes would be escaped, so only a member is found.
const NOTHING: &[u8] = br#","usage":null"#;

fn tells_only_usage(event: &[u8]) -> bool {
    if memmem::find(event, b"\"usage\"").is_none() {
        return false;
    }
    let (mut reader, mut rest) = (sse::Reader::new(LONGEST_EVENT), event);
    let Some(Ok(event)) = reader.next_event(&mut rest) else { return false };
    let has_no_choices = || {
        let chunk = event.data().and_then(|data| serde_json::from_slice::<Chunk>(&data).ok());
        chunk.is_some_and(|chunk| chunk.choices.is_empty())
    };
    Reported::of_event(&event).is_some() && has_no_choices()
}

#[derive(Deserialize)]
struct Chunk {
    choices: Vec<IgnoredAny>,
}

#[cfg(test)]
mod tests {
    use http::Method;
    use proptest::prelude::*;

    use super::*;

    fn asked(path: &str, body: &str) -> Option<String> {
        let mut request =
            Request::post(path).header(CONTENT_LENGTH, body.len()).body(Body::from(body.to_owned())).unwrap();
        let route = Route::parse(&Method::POST, request.uri()).unwrap();
        let asks = ask(&mut request, &route);
        let sent = String::from_utf8(request.body().as_bytes().unwrap().to_vec()).unwrap();
        assert_eq!(request.headers()[CONTENT_LENGTH], sent.len().to_string());
        asks.then_some(sent)
    }

    #[test]
    fn the_option_stands_last_where_it_can_stand() {
        let v1 = "/openai/v1/chat/completions";
        let asking = r#"{"stream":true,"stream_options":{"include_usage":true}}"#;
        assert_eq!(asked(v1, r#"{"stream":true}"#).as_deref(), Some(asking));
        assert_eq!(
            asked(v1, "{\"stream\":true } \n").unwrap(),
            "{\"stream\":true ,\"stream_options\":{\"include_usage\":true}} \n"
        );
        for (body, why) in [
            (r#"{"stream":true,"stream_options":{"include_usage":false}}"#, "its client has said otherwise"),
            (r#"{"stream":true,"stream_options":null}"#, "twice the same member"),
            (r#"{"stream":true,"data_sources":[]}"#, "refused beside those"),
            (r#"{"stream":false}"#, "no stream"),
            (r#"{"stream":true"#, "no JSON"),
            ("[true]", "no object"),
        ] {
            assert_eq!(asked(v1, body), None, "{why}");
        }
        let classic = |version: &str| format!("/openai/deployments/d/chat/completions{version}");
        for (version, is_known) in [
            ("?api-version=2024-06-01", false),
            ("?api-version=2024-08-01-preview", false),
            ("?api-version=2024-09-01-preview", true),
            ("?api-version=2024-10-21", true),
            ("", false),
        ] {
            assert_eq!(asked(&classic(version), r#"{"stream":true}"#).is_some(), is_known, "{version}");
        }
    }

    fn passed(chunks: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
        let mut unasked = Unasked::default();
        let mut passed: Vec<u8> = chunks.into_iter().flat_map(|chunk| unasked.pass(chunk.into())).collect();
        passed.extend(unasked.finish().unwrap_or_default());
        passed
    }

    #[test]
    fn a_usage_that_is_content_stays() {
        for event in [
            "data: {\"choices\":[{\"delta\":{\"content\":\",\\\"usage\\\":null\"}}]}\n\n",
            "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}],\"usage\":{\"prompt_tokens\":1}}\n\n",
            "data: {\"choices\":[],\"prompt_filter_results\":[]}\n\n",
        ] {
            assert_eq!(passed([event.into()]), event.as_bytes());
        }
    }

    proptest! {
        #[test]
        fn the_client_gets_what_it_would_have_got(
            events in prop::collection::vec(("[a-zé\\\\\" ]{0,12}", any::<bool>()), 0..6),
            crlf in any::<bool>(),
            is_cut in any::<bool>(),
            cuts in prop::collection::btree_set(0..900_usize, 0..40),
        ) {
            let (got, plain) = through(&events, crlf, is_cut, cuts);
            prop_assert_eq!(got, plain);
        }
    }

    #[test]
    fn a_line_end_may_be_cut_behind_a_comment_with_quotes() {
        let events =
            [(" \\", false), ("\\\" é\"", true), ("\\éaéa \\aé a\\", false), ("\"\"\\a", true), ("aééaaa \\ ", true)];
        let (got, plain) = through(&events.map(|(text, is_comment)| (text.to_owned(), is_comment)), true, false, [268]);
        assert_eq!(got, plain);
    }

    /// Passes these events in pieces: returns what comes through, and what the client would have got unasked.
    fn through(
        events: &[(String, bool)],
        crlf: bool,
        is_cut: bool,
        cuts: impl IntoIterator<Item = usize>,
    ) -> (String, String) {
        let end = if crlf { "\r\n\r\n" } else { "\n\n" };
        let (mut asked, mut plain) = (String::new(), String::new());
        for (text, is_comment) in events {
            let text = serde_json::to_string(text).unwrap();
            let (left, right) =
                if *is_comment { (": ", "") } else { ("data: {\"choices\":[{\"delta\":{\"content\":", "}}]") };
            let member = if *is_comment { ("", "") } else { (",\"usage\":null}", "}") };
            asked += &format!("{left}{text}{right}{}{end}", member.0);
            plain += &format!("{left}{text}{right}{}{end}", member.1);
        }
        asked += &format!("data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":1,\"completion_tokens\":2}}}}{end}");
        let tail = if is_cut { "data: [DO".to_owned() } else { format!("data: [DONE]{end}") };
        asked += &tail;
        plain += &tail;
        let bytes = asked.as_bytes();
        let bounds: Vec<_> =
            std::iter::once(0).chain(cuts.into_iter().filter(|cut| *cut < bytes.len())).chain([bytes.len()]).collect();
        let chunks = bounds.windows(2).map(|pair| bytes[pair[0]..pair[1]].to_vec());
        (String::from_utf8(passed(chunks)).unwrap(), plain)
    }
}
