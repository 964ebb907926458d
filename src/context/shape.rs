//! Path shapes that client libraries build for a gateway's own host, and the one under which the API serves each.
//!
//! 1. One leading slash too many is taken off.
//! 2. `/deployments/…` and `/v1/…` get `/openai` in front.
//! 3. `/openai/v1/openai/…` and `/openai/openai/…` lose what stands there twice.
//! 4. `/openai/deployments/{name}/v1/…` loses its `v1`.
//! 5. What Azure serves below a deployment and is asked for without one, as `/openai/chat/completions`, is of the v1 API, unless
//!    the `api-version` is dated; so is what the table of operations marks so, such as `/openai/responses`, without any version.
//! 6. A dated `api-version` is taken out of the v1 API, which refuses it.
//!
//! Everything else stays as it is.

use std::borrow::Cow;

use http::uri::PathAndQuery;
use http::{Method, Request, Uri};

use crate::azure::operation;
use crate::headers::query_parameters;

/// Beginnings of paths of the API, whose slash may stand there twice.
const API: [&str; 5] = ["/openai/", "/deployments/", "/v1/", "/models/", "/anthropic/"];
const OPENAI: &str = API[0];

/// Tells whether a path leads into the API, in whatever shape.
pub(crate) fn leads_in(path: &str) -> bool {
    let path = one_slash(path);
    API.iter().any(|prefix| path.starts_with(prefix))
}

/// A path without the leading slash that is one too many.
pub(crate) fn one_slash(path: &str) -> &str {
    path.strip_prefix('/').filter(|rest| rest.starts_with('/') && !rest.starts_with("//")).unwrap_or(path)
}

/// Puts a request's path in the form in which the API serves it.
pub(crate) fn normalise<B>(request: &mut Request<B>) {
    if let Some(uri) = normal(request.uri()) {
        *request.uri_mut() = uri;
    }
}

/// The form in which the API serves it; `None` for one that has it already.
pub(crate) fn normal(uri: &Uri) -> Option<Uri> {
    let (known, query) = (uri.path(), uri.query().unwrap_or_default());
    let mut path = path(known);
    if is_of_v1(&path, query) {
        path = path.replacen(OPENAI, "/openai/v1/", 1).into();
    }
    let is_v1 = path.strip_prefix(OPENAI).is_some_and(|below| after(below, "v1").is_some());
    let less = (is_v1 && is_dated(query)).then(|| undated(query));
    if path.len() == known.len() && less.is_none() {
        return None;
    }
    let query = less.as_deref().unwrap_or(query);
    let mark = if query.is_empty() { "" } else { "?" };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from([&*path, mark, query].concat()).ok()?);
    Uri::from_parts(parts).ok()
}

/// Every step but the last two only takes away or puts in front: a path of the same length is the same.
fn path(path: &str) -> Cow<'_, str> {
    let path = one_slash(path);
    let is_bare = |prefix: &str| path.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty());
    let below = match path.strip_prefix(OPENAI) {
        Some(below) => below,
        None if is_bare("/deployments/") || is_bare("/v1/") => &path[1..],
        None => return path.into(),
    };
    let below = without_repetition(below);
    let (version, rest) = match after(below, "v1") {
        Some(rest) => below.split_at(below.len() - rest.len()),
        None => ("", below),
    };
    let (deployment, rest) = match deployment(rest) {
        Some((deployment, rest)) => (deployment, without_v1(rest)),
        None => ("", rest),
    };
    let length = OPENAI.len() + version.len() + deployment.len() + rest.len();
    if length == path.len() { path.into() } else { [OPENAI, version, deployment, rest].concat().into() }
}

/// Tells whether a path that says neither `v1` nor `deployments` is meant as one of the v1 API.
fn is_of_v1(path: &str, query: &str) -> bool {
    if ["/openai/deployments/", "/openai/v1/"].iter().any(|prefix| path.starts_with(prefix)) {
        return false;
    }
    operation::parse(&Method::GET, path).is_ok_and(|call| {
        call.deployment_gap().is_some() && !is_dated(query) || call.is_v1_unversioned() && !has_version(query)
    })
}

fn has_version(query: &str) -> bool {
    query_parameters(query).any(|(name, ..)| name.eq_ignore_ascii_case("api-version"))
}

/// Returns what follows a word and a slash, if anything does.
fn after<'a>(path: &'a str, word: &str) -> Option<&'a str> {
    let (first, rest) = path.split_at_checked(word.len())?;
    let rest = rest.strip_prefix('/').filter(|rest| !rest.is_empty())?;
    first.eq_ignore_ascii_case(word).then_some(rest)
}

fn without_repetition(mut below: &str) -> &str {
    while let Some(rest) = after(below, "openai").or_else(|| after(after(below, "v1")?, "openai")) {
        below = rest;
    }
    below
}

fn without_v1(mut rest: &str) -> &str {
    while let Some(less) = after(rest, "v1") {
        rest = less;
    }
    rest
}

/// `deployments/{name}/`, and what follows.
fn deployment(below: &str) -> Option<(&str, &str)> {
    let (name, rest) = after(below, "deployments")?.split_once('/')?;
    (!name.is_empty()).then(|| below.split_at(below.len() - rest.len()))
}

// ===== query =====

fn is_dated(query: &str) -> bool {
    query_parameters(query).any(|(name, value, _)| is_dated_version(&name, &value))
}

/// Versions of the v1 API are words: `v1`, `preview`, `latest`.
fn is_dated_version(name: &str, value: &str) -> bool {
    let (year, rest) = value.split_at_checked(4).unwrap_or_default();
    name.eq_ignore_ascii_case("api-version") && rest.starts_with('-') && year.bytes().all(|byte| byte.is_ascii_digit())
}

fn undated(query: &str) -> String {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let kept = pairs.filter(|pair| !is_dated(pair));
    kept.collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn meant(uri: &str) -> String {
        let uri: Uri = uri.parse().unwrap();
        normal(&uri).unwrap_or(uri).to_string()
    }

    #[test]
    fn shapes_of_client_libraries_are_understood() {
        for (sent, expected) in [
            ("/openai/chat/completions", "/openai/v1/chat/completions"),
            ("/openai/audio/speech?api-version=preview", "/openai/v1/audio/speech?api-version=preview"),
            (
                "/openai/images/edits?api-version=2025-04-01-preview",
                "/openai/images/edits?api-version=2025-04-01-preview",
            ),
            (
                "/openai/v1/openai/deployments/d/embeddings?api-version=2024-10-21",
                "/openai/deployments/d/embeddings?api-version=2024-10-21",
            ),
            ("/openai/v1/openai/v1/responses", "/openai/v1/responses"),
            ("/openai/openai/files", "/openai/files"),
            (
                "/openai/deployments/d/v1/audio/speech?api-version=2024-10-21",
                "/openai/deployments/d/audio/speech?api-version=2024-10-21",
            ),
            ("/openai/v1/embeddings?api-version=2024-10-21", "/openai/v1/embeddings"),
            ("/openai/v1/files?limit=2&Api-Version=2024-10-21&after=x", "/openai/v1/files?limit=2&after=x"),
            ("/openai/v1/files?api%2dversion=2024-10-21&limit=2", "/openai/v1/files?limit=2"),
            ("/openai/responses", "/openai/v1/responses"),
            ("/openai/responses/resp_1/cancel?x=1", "/openai/v1/responses/resp_1/cancel?x=1"),
            ("//openai/models", "/openai/models"),
            ("//v1/models", "/openai/v1/models"),
            (
                "/deployments/a%20b/embeddings?api-version=2024-10-21",
                "/openai/deployments/a%20b/embeddings?api-version=2024-10-21",
            ),
            ("/deployments/d/v1/embeddings", "/openai/deployments/d/embeddings"),
            ("/v1/responses/resp_1?stream=true", "/openai/v1/responses/resp_1?stream=true"),
            ("/v1/openai/deployments/d/embeddings", "/openai/deployments/d/embeddings"),
            ("/v1/chat/completions?api-version=2024-10-21", "/openai/v1/chat/completions"),
            ("http://gateway/v1/models", "http://gateway/openai/v1/models"),
        ] {
            assert_eq!(meant(sent), expected, "{sent}");
        }
    }

    #[test]
    fn everything_else_stays() {
        for uri in [
            "/openai/v1/responses?api-version=preview",
            "/openai/v1/responses?api-version=latest&x=1",
            "/openai/responses?api-version=2025-03-01-preview",
            "/openai/deployments/openai/chat/completions?api-version=2024-10-21",
            "/openai/deployments/v1/chat/completions",
            "/openai/deployments/d/v1",
            "/openai/deployments//v1/embeddings",
            "/openai/v1",
            "/openai/v1/",
            "/openai/v1/unknown?q",
            "/openai/unknown",
            "/v1",
            "/v1/",
            "/v1beta/models",
            "/deployments",
            "/models/chat/completions?api-version=2024-05-01-preview",
            "/anthropic/v1/messages",
            "///openai/models",
            "/x//openai/models",
            "/",
        ] {
            assert_eq!(meant(uri), uri);
        }
    }

    proptest! {
        #[test]
        fn what_is_meant_is_meant_by_itself(
            slash in "/?",
            words in prop::collection::vec("openai|v1|V1|deployments|d|chat|completions|files|models||%76", 0..8),
            query in prop::option::of("(api-version=(2024-10-21|preview|)|a=b|&){0,3}"),
        ) {
            let mark = if query.is_some() { "?" } else { "" };
            let uri = format!("{slash}/{}{mark}{}", words.join("/"), query.unwrap_or_default());
            let once = meant(&uri);
            prop_assert_eq!(meant(&once), once.clone(), "{}", uri);
        }
    }
}
