use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{Request, Uri};

use super::shape;

/// A prefix under which clients reach the API too. Cheap to clone.
///
/// In the extensions of a request it says that the prefix was taken off, so that answers can name paths that lead back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BasePath(Arc<str>);

/// A prefix that cannot stand in front of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a base path starts with a slash, does not end with one, and holds nothing but a plain path")]
#[non_exhaustive]
pub struct InvalidBasePath;

impl BasePath {
    /// Such as `/azure-openai`.
    ///
    /// # Errors
    /// The prefix does not start with a slash, ends with one, or is not a plain path: empty and dot segments, a query,
    /// percent-encoding.
    pub fn new(prefix: &str) -> Result<Self, InvalidBasePath> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
        let usable = |segment: &str| !matches!(segment, "" | "." | "..") && segment.chars().all(plain);
        match prefix.strip_prefix('/') {
            Some(segments) if segments.split('/').all(usable) => Ok(Self(prefix.into())),
            _ => Err(InvalidBasePath),
        }
    }

    /// The prefix, with its slash in front and none behind.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Takes the prefix off a request's path, if what is left leads into the API, and notes so in its extensions.
    pub fn strip<B>(&self, request: &mut Request<B>) {
        if let Some(uri) = self.without(request.uri()) {
            *request.uri_mut() = uri;
            request.extensions_mut().insert(self.clone());
        }
    }

    fn without(&self, uri: &Uri) -> Option<Uri> {
        let whole = shape::one_slash(uri.path_and_query()?.as_str());
        let left = whole.strip_prefix(self.as_str())?;
        let leads_in = if whole.starts_with("/openai/") { left.starts_with("/openai/") } else { shape::leads_in(left) };
        if !leads_in {
            return None;
        }
        let mut parts = uri.clone().into_parts();
        parts.path_and_query = Some(PathAndQuery::try_from(left).ok()?);
        Uri::from_parts(parts).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stripped(prefix: &str, uri: &str) -> (String, bool) {
        let mut request = Request::get(uri).body(()).unwrap();
        BasePath::new(prefix).unwrap().strip(&mut request);
        (request.uri().to_string(), request.extensions().get::<BasePath>().is_some())
    }

    #[test]
    fn is_taken_off_where_the_api_follows() {
        for (prefix, uri, expected) in [
            ("/ai", "/ai/openai/models?x=1", "/openai/models?x=1"),
            ("/ai", "http://gateway/ai/openai/models", "http://gateway/openai/models"),
            ("/a/b", "/a/b/openai/v1/models", "/openai/v1/models"),
            ("/openai", "/openai/openai/v1/models", "/openai/v1/models"),
            ("/ai", "/ai/v1/models", "/v1/models"),
            ("/ai", "/ai/deployments/d/embeddings", "/deployments/d/embeddings"),
            ("/ai", "/ai/anthropic/v1/messages", "/anthropic/v1/messages"),
            ("/ai", "/ai//openai/models", "//openai/models"),
            ("/ai", "//ai/openai/models", "/openai/models"),
        ] {
            assert_eq!(stripped(prefix, uri), (expected.to_owned(), true), "{uri}");
        }
        for (prefix, uri) in [
            ("/ai", "/openai/models"),
            ("/ai", "/aix/openai/models"),
            ("/ai", "/ai"),
            ("/ai", "/ai/other"),
            ("/ai", "/x/ai/openai/models"),
            ("/openai", "/openai/v1/models"),
        ] {
            assert_eq!(stripped(prefix, uri), (uri.to_owned(), false), "{uri}");
        }
    }

    #[test]
    fn only_a_plain_path_can_be_one() {
        for prefix in ["", "/", "ai", "/ai/", "/a//b", "/a/../b", "/a?b", "/a%20b", "/a#b", "/ä"] {
            assert_eq!(BasePath::new(prefix), Err(InvalidBasePath), "{prefix}");
        }
    }
}
