//! Browser applications that may call.

use http::{HeaderValue, Uri};

use super::reader::Section;

/// Pages that may call from a browser.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Origins {
    Any,
    None,
    /// At least one.
    These(Vec<HeaderValue>),
}

impl Origins {
    pub(super) fn read(s: &mut Section<'_>) -> Self {
        let given = s.texts("origins").unwrap_or_default();
        if let [(_, only)] = &given[..]
            && only == "*"
        {
            return Self::Any;
        }
        let origins: Vec<_> = given
            .into_iter()
            .filter_map(|(place, text)| origin(&text).map_err(|wrong| s.findings.problem(place, wrong)).ok())
            .collect();
        if origins.is_empty() { Self::None } else { Self::These(origins) }
    }
}

/// An origin exactly as browsers write it (RFC 6454 §6.2), for they are compared byte by byte.
fn origin(text: &str) -> Result<HeaderValue, String> {
    const MALFORMED: &str =
        "must be an origin as browsers send it, such as \"https://app.example\" or \"http://localhost:3000\"";
    match text {
        "*" => return Err("\"*\" is every origin: it must stand alone".to_owned()),
        "null" => return Err("\"null\" is the origin of every sandboxed page and every local file".to_owned()),
        _ if text.contains('*') => return Err("must be one exact origin: \"*\" is not part of any".to_owned()),
        _ => {}
    }
    let (scheme, authority) = text.split_once("://").ok_or(MALFORMED)?;
    if authority.contains(['/', '?', '#']) {
        return Err("must end after the host and its port: an origin has no path, not even \"/\"".to_owned());
    }
    let uri: Uri = text.parse().map_err(|_| MALFORMED)?;
    let host = uri.authority().filter(|authority| !authority.host().is_empty()).ok_or(MALFORMED)?;
    if host.as_str().contains('@') {
        return Err(MALFORMED.to_owned());
    }
    let has_port = authority.len() > host.host().len();
    if has_port && matches!(host.port_u16(), None | Some(0)) {
        return Err("must have a port from 1 to 65535, or none".to_owned());
    }
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(format!("must be in lower case, as browsers send it: {:?}", text.to_ascii_lowercase()));
    }
    if has_port && matches!((scheme, host.port_u16()), ("http", Some(80)) | ("https", Some(443))) {
        return Err(format!("must be without its port, which browsers leave out: \"{scheme}://{}\"", host.host()));
    }
    text.parse().map_err(|_| MALFORMED.to_owned())
}
