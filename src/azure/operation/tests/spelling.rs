//! The spellings of a path: which are one segment, and which could be read in two ways.

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use proptest::prelude::*;

use super::*;

#[test]
fn ambiguous_paths_are_refused() {
    for (path, message) in [
        ("//openai/models", "the path holds an empty segment"),
        ("/models//embeddings", "the path holds an empty segment"),
        ("/anthropic/../openai/models", "the path holds a dot segment"),
        ("/openai//models", "the path holds an empty segment"),
        ("/openai//", "the path holds an empty segment"),
        ("/openai/models//", "the path holds an empty segment"),
        ("/openai/deployments//embeddings", "the path holds an empty segment"),
        ("/openai/./models", "the path holds a dot segment"),
        ("/openai/x/../models", "the path holds a dot segment"),
        ("/openai/deployments/%2e%2E/embeddings", "the path holds a dot segment"),
        ("/openai/deployments/.%2e", "the path holds a dot segment"),
        ("/openai/deployments/a/..;/b/embeddings", "the path holds a dot segment"),
        ("/openai/deployments/a/.;x=1/b/embeddings", "the path holds a dot segment"),
        ("/openai/deployments/a/%252e%252E/b/embeddings", "the path holds a dot segment"),
        ("/openai/deployments/a/.%252e%3bx/b/embeddings", "the path holds a dot segment"),
        ("/openai/files/%2E%3Bx", "the path holds a dot segment"),
        ("/openai/deployments/a%252fb/embeddings", "the path holds an encoded slash"),
        ("/openai/deployments/a%255Cb/embeddings", "the path holds a backslash"),
        ("/openai/deployments/a%2500b/embeddings", "the path holds a control character"),
        ("/openai/deployments/a%2Fb/embeddings", "the path holds an encoded slash"),
        ("/openai/deployments/a%2fb/embeddings", "the path holds an encoded slash"),
        ("/openai/deployments/a%5Cb/embeddings", "the path holds a backslash"),
        ("/openai/deployments/a\\b/embeddings", "the path holds a backslash"),
        ("/openai/deployments/a%00b/embeddings", "the path holds a control character"),
        ("/openai/deployments/a%0d%0Ab/embeddings", "the path holds a control character"),
        ("/openai/deployments/a\u{7f}b/embeddings", "the path holds a control character"),
        ("/openai/deployments/a%C2%85b/embeddings", "the path holds a control character"),
        ("/openai/models/%", "the path holds percent-encoding that is malformed"),
        ("/openai/models/%4", "the path holds percent-encoding that is malformed"),
        ("/openai/models/%4g", "the path holds percent-encoding that is malformed"),
        ("/openai/models/%%41", "the path holds percent-encoding that is malformed"),
        ("/openai/models/%4/1", "the path holds percent-encoding that is malformed"),
        ("/openai/models/%é", "the path holds percent-encoding that is malformed"),
        ("/openai/models/%ff", "the path holds percent-encoding that is not UTF-8"),
        ("/openai/models/%c3/%a8", "the path holds percent-encoding that is not UTF-8"),
        ("/openai/models/%c0%af", "the path holds percent-encoding that is not UTF-8"),
    ] {
        let error = parse(&Method::GET, path).unwrap_err();
        assert!(error.is_ambiguous() && !error.is_outside(), "{path}");
        assert_eq!(error.to_string(), message, "{path}");
    }
}

/// What may stand in one segment, and is one however often it is decoded.
fn name() -> impl Strategy<Value = String> {
    let is_plain = |name: &String| {
        let again = percent_decode_str(name).decode_utf8_lossy();
        let is_segment = !again.contains(['/', '\\']) && !again.contains(char::is_control);
        is_segment && [name, &*again].iter().all(|name| !matches!(name.split(';').next(), Some("." | "..")))
    };
    "[^/\\\\\\p{Cc}]{1,20}".prop_filter("no plain segment", is_plain)
}

#[test]
fn a_name_may_hold_what_looks_like_an_escape() {
    for (path, name) in
        [("/openai/deployments/100%25/embeddings", "100%"), ("/openai/deployments/a%2541;b/x", "a%41;b")]
    {
        assert_eq!(call(&Method::POST, path).deployment(), Some(name), "{path}");
    }
}

proptest! {
    #[test]
    fn any_path_is_read_without_panic(path in "(?s).*") {
        let _ = parse(&Method::POST, &path);
        let _ = parse(&Method::POST, &format!("/openai/{path}"));
        let _ = parse(&Method::POST, &format!("/openai/deployments/{path}"));
    }

    #[test]
    fn what_is_read_holds_together(path in "/openai/((v1|deployments|threads|runs|chat|completions|%[0-9a-f]{2}|[a-z.%é]{0,3})/){0,6}") {
        if let Ok(call) = parse(&Method::POST, &path) {
            prop_assert_eq!(call.deployment().is_some(), call.deployment_span().is_some());
            if let Some(span) = call.deployment_span() {
                prop_assert_eq!(path.as_bytes()[span.start - 1], b'/');
                prop_assert!(matches!(path.as_bytes().get(span.end), None | Some(b'/')));
                prop_assert_eq!(&percent_decode_str(&path[span]).decode_utf8().unwrap(), call.deployment().unwrap());
            }
        }
    }

    #[test]
    fn encoded_names_come_back(name in name(), rest in "(/embeddings|/chat/completions|/threads/t)?/?") {
        let raw = utf8_percent_encode(&name, NON_ALPHANUMERIC).to_string();
        let path = format!("/openai/deployments/{raw}{rest}");
        let call = parse(&Method::POST, &path).unwrap();
        prop_assert_eq!(call.deployment(), Some(&*name));
        prop_assert_eq!(&path[call.deployment_span().unwrap()], &*raw);
    }

    #[test]
    fn encoded_ids_come_back(id in name()) {
        let path = format!("/openai/vector_stores/{}/files", utf8_percent_encode(&id, NON_ALPHANUMERIC));
        prop_assert_eq!(ids(&path), [id]);
    }

    #[test]
    fn every_row_parses_to_itself(at in 0..OPENAI.len() + FOUNDRY.len(), ids in prop::collection::vec(name(), 4)) {
        let row = OPENAI.iter().chain(FOUNDRY).nth(at).unwrap();
        let bases: &[_] = if at < OPENAI.len() { &["/openai/", "/openai/v1/", "/openai/deployments/d/"] } else { &["/"] };
        let words: Vec<_> = OPENAI.iter().flat_map(|row| row.path.split('/')).collect();
        prop_assume!(!ids.iter().any(|id| words.iter().any(|w| w.eq_ignore_ascii_case(id))));
        let mut left = ids.iter();
        let mut used = Vec::new();
        let segments = row.path.split('/').map(|segment| match segment {
            "{}" => {
                let id = left.next().unwrap();
                used.push(id.clone());
                utf8_percent_encode(id, NON_ALPHANUMERIC).to_string()
            }
            word => word.to_owned(),
        });
        let path = segments.collect::<Vec<_>>().join("/");
        for base in bases {
            let call = call(&Method::POST, &format!("{base}{path}"));
            prop_assert_eq!(call.operation(), row.operation);
            prop_assert_eq!(call.object_ids().collect::<Vec<_>>(), used.clone());
            prop_assert_eq!(call.repeat(), row.repeat);
            if *base == "/openai/v1/" || *base == "/" {
                prop_assert_eq!(call.model_place(), row.model);
            }
        }
    }
}
