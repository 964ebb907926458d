//! Headers of an answer that say where to look next.

use http::header::{CONTENT_LOCATION, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use crate::context::BasePath;
use crate::pool::{BackendKind, Target};

const LOCATIONS: [HeaderName; 4] = [
    CONTENT_LOCATION,
    LOCATION,
    HeaderName::from_static("operation-location"),
    HeaderName::from_static("azure-asyncoperation"),
];

/// Makes what names the backend relative to the gateway, and drops what names anybody else.
pub(super) fn make_relative(headers: &mut HeaderMap, target: &Target, base_path: Option<&BasePath>) {
    let base_path = base_path.map_or("", BasePath::as_str);
    for name in &LOCATIONS {
        let Some(value) = headers.get(name) else { continue };
        match relative(value, target, base_path) {
            Some(relative) => headers.insert(name, relative),
            None => headers.remove(name),
        };
    }
}

fn relative(value: &HeaderValue, target: &Target, base_path: &str) -> Option<HeaderValue> {
    let endpoint = target.endpoint();
    let text = value.to_str().ok().filter(|text| !text.starts_with("//"))?;
    let uri: Uri = text.parse().ok()?;
    if uri.authority().is_some_and(|authority| host_and_port(authority) != host_and_port(endpoint.authority())) {
        return None;
    }
    let path = uri.path_and_query()?.as_str();
    let inside = path.strip_prefix(endpoint.prefix()).filter(|rest| rest.starts_with('/'));
    let path = inside.unwrap_or(path);
    let openai = if target.kind() == BackendKind::OpenAi { "/openai" } else { "" };
    match [base_path, openai] {
        ["", ""] => HeaderValue::from_str(path).ok(),
        [base_path, openai] => [base_path, openai, path].concat().try_into().ok(),
    }
}

fn host_and_port(authority: &http::uri::Authority) -> (String, Option<u16>) {
    (authority.host().to_ascii_lowercase(), authority.port_u16().filter(|port| !matches!(port, 80 | 443)))
}
