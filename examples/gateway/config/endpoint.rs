//! Endpoint of a backend.

use std::net::IpAddr;

use http::Uri;

/// Scheme, host, optional port and path prefix. The text is in no error, for it may hold a password.
pub(super) fn parse(text: &str) -> Result<Uri, String> {
    // `Uri` drops a fragment without a word.
    if text.contains(['?', '#']) {
        return Err("must have neither a query nor a fragment".to_owned());
    }
    let malformed = "must be a URL such as \"https://contoso.openai.azure.com\"";
    let uri: Uri = text.parse().map_err(|_| malformed)?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(format!("{malformed}, with http or https"));
    }
    let authority = uri.authority().ok_or(malformed)?;
    if authority.as_str().contains('@') {
        return Err("must not carry credentials".to_owned());
    }
    if authority.host().is_empty() {
        return Err(malformed.to_owned());
    }
    if authority.as_str().len() > authority.host().len() && matches!(authority.port_u16(), None | Some(0)) {
        return Err("must have a port from 1 to 65535, or none".to_owned());
    }
    let prefix = uri.path().trim_matches('/');
    if uri.path().contains("//") || prefix.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err("must not have empty or dot segments in its path".to_owned());
    }
    Ok(uri)
}

pub(super) fn is_https(uri: &Uri) -> bool {
    uri.scheme_str() == Some("https")
}

pub(super) fn is_loopback(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_scheme_host_port_and_prefix() {
        for text in [
            "https://contoso.openai.azure.com",
            "https://contoso.openai.azure.com/",
            "HTTPS://contoso.openai.azure.com:443/some/prefix/",
            "http://127.0.0.1:9001",
            "http://[::1]:9001/a",
        ] {
            assert!(parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest_without_repeating_it() {
        for (text, expected) in [
            ("", "must be a URL"),
            ("contoso.openai.azure.com", "must be a URL"),
            ("contoso.openai.azure.com:443", "must be a URL"),
            ("/openai", "must be a URL"),
            ("ftp://host", "must be a URL"),
            ("https://", "must be a URL"),
            ("https://:443", "must be a URL"),
            ("https:///openai", "must be a URL"),
            ("https://a b", "must be a URL"),
            ("https://ho\nst", "must be a URL"),
            ("https://user:hunter2@host", "must not carry credentials"),
            ("https://hunter2@host", "must not carry credentials"),
            ("https://host?api-key=hunter2", "must have neither"),
            ("https://host/?", "must have neither"),
            ("https://host/a#hunter2", "must have neither"),
            ("https://host:0", "must have a port"),
            ("https://host:", "must have a port"),
            ("https://host:99999", "must"),
            ("https://host/a//b", "must not have empty or dot"),
            ("https://host/a/../b", "must not have empty or dot"),
            ("https://host/./b", "must not have empty or dot"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.starts_with(expected), "{text:?}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn knows_loopback() {
        for (text, expected) in [
            ("http://localhost:1", true),
            ("http://127.8.9.10", true),
            ("http://[::1]", true),
            ("http://10.0.0.1", false),
            ("http://localhost.example.com", false),
            ("http://127.0.0.1.example.com", false),
            ("http://[::2]", false),
        ] {
            assert_eq!(is_loopback(&parse(text).unwrap()), expected, "{text}");
        }
    }
}
