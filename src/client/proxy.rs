//! A proxy on the way to other hosts.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use http::uri::Scheme;
use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};

use crate::pool::is_loopback;

/// An HTTP proxy for outgoing connections; see [`HttpClientBuilder::proxy`](super::HttpClientBuilder::proxy).
///
/// 1. To an `https` destination, and for a WebSocket, it is asked for a tunnel (`CONNECT`), so that it sees no more than host and
///    port; a plain `http` request is given to it as it is, with the whole URL. The proxy itself can be `http` or `https`.
/// 2. Credentials in its URL become `Proxy-Authorization`, and are shown nowhere.
/// 3. Hosts of `NO_PROXY` are reached directly: names with everything below them, addresses, networks (`10.0.0.0/8`), or `*`.
/// 4. Loopback is reached directly unless [`loopback`](Self::loopback) says otherwise; link-local addresses, where identity
///    endpoints of Azure are (169.254.169.254), always are.
///
/// ```
/// use tower_azure_openai::client::{HttpClient, Proxy};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let proxy = Proxy::new("http://user:password@proxy.example:3128")?.except("10.0.0.0/8, .internal.example");
/// assert!(!format!("{proxy:?}").contains("password"));
/// let client = HttpClient::builder().proxy(proxy).build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use]
pub struct Proxy {
    http: String,
    https: String,
    except: String,
    loopback: bool,
    matcher: Arc<Matcher>,
}

impl Proxy {
    /// The proxy at `http://[user:password@]host:port`, for all destinations. `https://` means TLS to the proxy itself.
    ///
    /// # Errors
    /// It is not such a URL.
    pub fn new(url: impl Into<String>) -> Result<Self, InvalidProxy> {
        let url = url.into();
        check(&url).map_err(|why| InvalidProxy { of: None, why })?;
        Ok(Self::of(url.clone(), url, String::new()))
    }

    /// Reads the environment: `HTTPS_PROXY`, `HTTP_PROXY` and, for what they leave out, `ALL_PROXY`, with `NO_PROXY`; each in
    /// capitals or small letters. `None` when no proxy is named.
    ///
    /// `HTTP_PROXY` in capitals does not count where `REQUEST_METHOD` is set, as in a CGI program, where a client can set it.
    ///
    /// # Errors
    /// A variable that counts holds something else than the URL of an HTTP proxy.
    pub fn from_env() -> Result<Option<Self>, InvalidProxy> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// The same, with the variables of somebody's choice.
    ///
    /// # Errors
    /// As of [`from_env`](Self::from_env).
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, InvalidProxy> {
        let is_cgi = variable("REQUEST_METHOD").is_some();
        let first = |names: &[&'static str]| {
            let named = |name: &&'static str| Some((*name, variable(name).filter(|value| !value.trim().is_empty())?));
            names.iter().find_map(named)
        };
        let all = first(&["ALL_PROXY", "all_proxy"]);
        let https = first(&["HTTPS_PROXY", "https_proxy"]).or_else(|| all.clone());
        let http = first(if is_cgi { &["http_proxy"] } else { &["HTTP_PROXY", "http_proxy"] }).or(all);
        for (name, url) in [&https, &http].into_iter().flatten() {
            check(url).map_err(|why| InvalidProxy { of: Some(name), why })?;
        }
        let except = first(&["NO_PROXY", "no_proxy"]).map_or_else(String::new, |(_, hosts)| hosts);
        let url = |named: Option<(&str, String)>| named.map_or_else(String::new, |(_, url)| url);
        let is_any = https.is_some() || http.is_some();
        Ok(is_any.then(|| Self::of(url(http), url(https), except)))
    }

    fn of(http: String, https: String, except: String) -> Self {
        let matcher = Matcher::builder().http(http.trim()).https(https.trim()).no(except.as_str()).build();
        Self { http, https, except, loopback: false, matcher: Arc::new(matcher) }
    }

    /// Reaches these directly, in the syntax of `NO_PROXY`. The last call holds.
    pub fn except(self, hosts: impl Into<String>) -> Self {
        Self { loopback: self.loopback, ..Self::of(self.http, self.https, hosts.into()) }
    }

    /// Has loopback destinations go through it too.
    pub const fn loopback(mut self, through: bool) -> Self {
        self.loopback = through;
        self
    }

    /// The way to a destination, unless it is reached directly.
    pub(super) fn to(&self, destination: &Uri) -> Option<Way> {
        let host = destination.host()?;
        if is_link_local(host) || is_loopback(host) && !self.loopback {
            return None;
        }
        self.matcher.intercept(destination).map(Way)
    }
}

impl PartialEq for Proxy {
    fn eq(&self, other: &Self) -> bool {
        let described = |proxy: &Self| (proxy.http.clone(), proxy.https.clone(), proxy.except.clone(), proxy.loopback);
        described(self) == described(other)
    }
}

impl Eq for Proxy {}

/// Shows neither hosts nor credentials.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("loopback", &self.loopback).finish_non_exhaustive()
    }
}

/// A way through a proxy.
pub(super) struct Way(Intercept);

impl Way {
    /// The proxy's own URL, without credentials.
    pub(super) fn uri(&self) -> &Uri {
        self.0.uri()
    }

    pub(super) fn authorization(&self) -> Option<HeaderValue> {
        self.0.basic_auth().cloned()
    }
}

fn is_link_local(host: &str) -> bool {
    match host.trim_start_matches('[').trim_end_matches(']').parse() {
        Ok(IpAddr::V4(address)) => address.is_link_local(),
        Ok(IpAddr::V6(address)) => address.is_unicast_link_local(),
        Err(_) => false,
    }
}

fn check(url: &str) -> Result<(), &'static str> {
    const MALFORMED: &str = "is not the URL of a proxy, such as http://proxy.example:3128";
    let uri: Uri = url.trim().parse().map_err(|_| MALFORMED)?;
    if uri.scheme().is_some_and(|scheme| *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS) {
        return Err("is not an HTTP proxy: it must begin with http:// or https://");
    }
    let authority = uri.authority().filter(|authority| !authority.host().is_empty()).ok_or(MALFORMED)?;
    let place = authority.as_str().rsplit('@').next().unwrap_or_default();
    if place.len() > authority.host().len() && matches!(authority.port_u16(), None | Some(0)) {
        return Err("must have a port from 1 to 65535, or none");
    }
    match uri.path_and_query().map_or("", |path| path.as_str()) {
        "" | "/" => Ok(()),
        _ => Err("must end after host and port"),
    }
}

/// Something that is no proxy. The URL is not in it, for it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub struct InvalidProxy {
    of: Option<&'static str>,
    why: &'static str,
}

impl fmt::Display for InvalidProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.of {
            Some(variable) => write!(f, "{variable} {}", self.why),
            None => f.write_str(self.why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(set: &[(&'static str, &'static str)]) -> Result<Option<Proxy>, InvalidProxy> {
        Proxy::from_variables(|name| Some(set.iter().find(|(set, _)| *set == name)?.1.to_owned()))
    }

    /// The proxy on the way to a URL.
    fn to(proxy: &Proxy, url: &str) -> Option<String> {
        proxy.to(&url.parse().unwrap()).map(|way| way.uri().authority().unwrap().to_string())
    }

    #[test]
    fn each_scheme_has_its_variable_in_both_cases() {
        for (set, https, http) in [
            (&[("HTTPS_PROXY", "http://a:1")][..], Some("a:1"), None),
            (&[("https_proxy", "http://a:1"), ("HTTP_PROXY", "http://b:2")], Some("a:1"), Some("b:2")),
            (&[("HTTPS_PROXY", ""), ("https_proxy", "http://a:1")], Some("a:1"), None),
            (&[("ALL_PROXY", "a:1"), ("http_proxy", "http://b:2")], Some("a:1"), Some("b:2")),
            (&[("all_proxy", "socks5://x:1"), ("HTTP_PROXY", "b:2"), ("HTTPS_PROXY", "a:1")], Some("a:1"), Some("b:2")),
            (&[("HTTP_PROXY", "http://b:2"), ("HTTPS_PROXY", "a:1"), ("REQUEST_METHOD", "GET")], Some("a:1"), None),
        ] {
            let proxy = variables(set).unwrap().unwrap();
            assert_eq!(to(&proxy, "https://contoso.example").as_deref(), https, "{set:?}");
            assert_eq!(to(&proxy, "http://contoso.example").as_deref(), http, "{set:?}");
        }
        assert_eq!(variables(&[("NO_PROXY", "*"), ("HTTPS_PROXY", " ")]), Ok(None));
    }

    #[test]
    fn what_is_reached_directly() {
        let set = [("HTTPS_PROXY", "http://p:1"), ("NO_PROXY", "internal.example, 10.0.0.0/8,.dotted.example")];
        let proxy = variables(&set).unwrap().unwrap();
        for (url, expected) in [
            ("https://contoso.openai.azure.com", true),
            ("https://internal.example", false),
            ("https://a.INTERNAL.example:8443", false),
            ("https://notinternal.example", true),
            ("https://b.dotted.example", false),
            ("https://10.20.30.40", false),
            ("https://11.20.30.40", true),
            ("https://localhost:8443", false),
            ("https://127.0.0.2", false),
            ("https://[::1]:8443", false),
            ("https://169.254.169.254", false),
            ("https://[fe80::1]", false),
        ] {
            assert_eq!(to(&proxy, url).is_some(), expected, "{url}");
        }
        let all = Proxy::new("http://p:1").unwrap().except("*");
        assert_eq!(to(&all, "https://contoso.example"), None);
        let asked = Proxy::new("http://p:1").unwrap().loopback(true).except("10.0.0.1");
        assert_eq!(to(&asked, "http://127.0.0.1:1").as_deref(), Some("p:1"));
        assert_eq!(to(&asked, "http://169.254.169.254/metadata"), None);
    }

    #[test]
    fn credentials_are_sent_and_not_shown() {
        let proxy = Proxy::new("http://Aladdin:open%20sesame@proxy.example:3128").unwrap();
        let way = proxy.to(&Uri::from_static("https://contoso.example")).unwrap();
        assert_eq!(way.uri(), "http://proxy.example:3128/");
        let shown = way.authorization().unwrap();
        assert!(shown.is_sensitive());
        assert_eq!(shown, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        for hidden in ["Aladdin", "sesame", "proxy.example"] {
            assert!(!format!("{proxy:?}").contains(hidden));
        }
    }

    #[test]
    fn what_is_no_proxy_is_refused_without_repeating_it() {
        for (url, expected) in [
            ("", "is not the URL of a proxy"),
            ("http://", "is not the URL of a proxy"),
            ("http://user:hunter2@", "is not the URL of a proxy"),
            ("/hunter2", "is not the URL of a proxy"),
            ("socks5://user:hunter2@host:1080", "is not an HTTP proxy"),
            ("ftp://host", "is not an HTTP proxy"),
            ("http://host:0", "must have a port"),
            ("http://user:hunter2@host:", "must have a port"),
            ("http://host:3128/hunter2", "must end after host and port"),
            ("http://host?hunter2", "must end after host and port"),
        ] {
            let error = Proxy::new(url).expect_err(url).to_string();
            assert!(error.starts_with(expected) && !error.contains("hunter2"), "{url}: {error}");
        }
        let error = variables(&[("HTTPS_PROXY", "socks5://user:hunter2@host")]).unwrap_err();
        assert_eq!(error.to_string(), "HTTPS_PROXY is not an HTTP proxy: it must begin with http:// or https://");
    }
}
