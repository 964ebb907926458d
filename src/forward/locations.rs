//! Headers of an answer that say where to look next.

use http::header::LINK;
use http::{HeaderMap, HeaderValue, Uri};

use crate::context::BasePath;
use crate::headers::holds_url;
use crate::pool::{BackendKind, Target};

/// Makes what names the backend relative to the gateway, and drops what names anybody else.
pub(crate) fn make_relative(headers: &mut HeaderMap, target: &Target, base_path: Option<&BasePath>) {
    let names: Vec<_> = headers.keys().filter(|name| holds_url(name) || **name == LINK).cloned().collect();
    let base_path = base_path.map_or("", BasePath::as_str);
    for name in names {
        let url = |value: &HeaderValue| relative(value.to_str().ok()?, target, base_path);
        let link = |value: &HeaderValue| relative_link(value.to_str().ok()?, target, base_path);
        let values = headers.get_all(&name).iter();
        let kept: Vec<_> =
            if name == LINK { values.filter_map(link).collect() } else { values.filter_map(url).collect() };
        headers.remove(&name);
        for value in kept.into_iter().filter_map(|value| HeaderValue::try_from(value).ok()) {
            headers.append(&name, value);
        }
    }
}

/// The same place as the client reaches it: a path that no browser takes for a host.
fn relative(text: &str, target: &Target, base_path: &str) -> Option<String> {
    let endpoint = target.endpoint();
    let text = Some(text).filter(|text| !text.starts_with("//"))?;
    let uri: Uri = text.parse().ok()?;
    if uri.authority().is_some_and(|authority| host_and_port(authority) != host_and_port(endpoint.authority())) {
        return None;
    }
    let path = uri.path_and_query()?.as_str();
    let inside = path.strip_prefix(endpoint.prefix()).filter(|rest| rest.starts_with('/'));
    let path = inside.unwrap_or(path);
    let rest = path.strip_prefix('/')?;
    if rest.starts_with(['/', '\\']) || has_dots(rest) {
        return None;
    }
    let openai = if target.kind() == BackendKind::OpenAi { "/openai" } else { "" };
    Some([base_path, openai, path].concat())
}

/// Tells whether a path has a segment that whoever follows it resolves, and may be led by to another place than stands there.
fn has_dots(path: &str) -> bool {
    let path = path.split(['?', '#']).next().unwrap_or_default().to_ascii_lowercase().replace("%2e", ".");
    path.split(['/', '\\']).any(|segment| matches!(segment, "." | ".."))
}

/// The links of a `Link` header whose target is relative (RFC 8288), or none of them.
fn relative_link(text: &str, target: &Target, base_path: &str) -> Option<String> {
    let mut links = text.split('<');
    // What stands before the first target.
    let mut whole = links.next().filter(|before| before.trim().is_empty())?.to_owned();
    for link in links {
        let (url, parameters) = link.split_once('>')?;
        let is_plain = !parameters.contains("//") && !parameters.to_ascii_lowercase().contains("anchor");
        let url = relative(url, target, base_path).filter(|_| is_plain)?;
        whole.extend(["<", &url, ">", parameters]);
    }
    Some(whole)
}

fn host_and_port(authority: &http::uri::Authority) -> (String, Option<u16>) {
    (authority.host().to_ascii_lowercase(), authority.port_u16().filter(|port| !matches!(port, 80 | 443)))
}
