//! Holds requests to the `api-version`s that may be used, and adds one where none is given.
//!
//! 1. The [`Route`] extension says which surface a request uses; without one it is read from the path. Paths of the v1 API,
//!    where the version is optional, and those of a Foundry resource, which has versions of its own, pass unchanged.
//! 2. With a list, every `api-version` that a query gives must be on it. Names are compared percent-decoded and without regard
//!    to case, as backends do, and a repeated one is checked as often as it stands there.
//! 3. A query that gives none gets the default, if there is one, at its end: places in the path and in the query stay where
//!    they were. The default is the owner's word and need not be on the list.
//!
//! It does not know which versions exist, and does not translate between them. A version that is given but empty is not the
//! same as none.
//!
//! ```
//! use http::{Request, Response};
//! use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
//! use tower_azure_openai::{Error, ErrorKind, api_version::ApiVersionLayer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let backend = service_fn(async |request: Request<String>| Ok::<_, BoxError>(Response::new(request.uri().to_string())));
//! let layer = ApiVersionLayer::new().allow(["2024-06-01", "2024-10-21"]).default_version("2024-10-21");
//! let service = ServiceBuilder::new().layer(layer).service(backend);
//!
//! let answer = service.clone().oneshot(Request::get("/openai/models").body(String::new())?).await?;
//! assert_eq!(answer.body(), "/openai/models?api-version=2024-10-21");
//! let old = Request::get("/openai/models?api-version=2023-05-15").body(String::new())?;
//! let refused = service.oneshot(old).await.unwrap_err();
//! assert_eq!(Error::find(refused.as_ref()).map(Error::kind), Some(ErrorKind::ApiVersionNotAllowed));
//! # Ok(())
//! # }
//! ```
//!
//! A default alone, for clients that cannot be changed:
//!
//! ```
//! use tower_azure_openai::api_version::ApiVersionLayer;
//!
//! let layer = ApiVersionLayer::new().default_version("2024-10-21");
//! # let _ = layer;
//! ```
//!
//! **Order.** Below what answers or sends requests itself it would come too late, and its refusals would look like failures of
//! backends: refused with [`Misordered`](crate::ErrorKind::Misordered).
//!
//! # Errors
//! [`ApiVersionNotAllowed`](ErrorKind::ApiVersionNotAllowed), those of [`Route::parse`], and those of the service below.
//!
//! # Cancellation
//! Dropping the future drops the request below; there is nothing else to cancel.

use std::sync::Arc;
use std::task::{Context, Poll};

use http::uri::PathAndQuery;
use http::{Request, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;

use crate::azure::operation::Surface;
use crate::context::Route;
use crate::context::order::{self, LayerName};
use crate::error::{Error, ErrorKind};
use crate::headers::query_parameters;
pub use crate::refusable::ResponseFuture;

const PARAMETER: &str = "api-version";
/// Everything but what RFC 3986 calls unreserved.
const VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Holds requests to the `api-version`s that may be used. See the [module docs](self).
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct ApiVersionLayer(Arc<Settings>);

#[derive(Clone, Debug, Default)]
struct Settings {
    /// Empty: any.
    allowed: Vec<Box<str>>,
    /// Percent-encoded.
    default: Option<Box<str>>,
}

impl ApiVersionLayer {
    /// Any version, and no default.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only these versions; none at all stands for any.
    pub fn allow<V: Into<Box<str>>>(mut self, versions: impl IntoIterator<Item = V>) -> Self {
        Arc::make_mut(&mut self.0).allowed = versions.into_iter().map(Into::into).collect();
        self
    }

    /// Added where a request gives none.
    pub fn default_version(mut self, version: impl AsRef<str>) -> Self {
        let encoded = utf8_percent_encode(version.as_ref(), VALUE).to_string();
        Arc::make_mut(&mut self.0).default = Some(encoded.into());
        self
    }
}

impl<S> Layer<S> for ApiVersionLayer {
    type Service = ApiVersion<S>;

    fn layer(&self, inner: S) -> ApiVersion<S> {
        ApiVersion { inner, settings: self.0.clone() }
    }
}

/// Holds requests to the `api-version`s that may be used. See the [module docs](self).
#[derive(Clone, Debug)]
pub struct ApiVersion<S> {
    inner: S,
    settings: Arc<Settings>,
}

impl<S, ReqBody> Service<Request<ReqBody>> for ApiVersion<S>
where
    S: Service<Request<ReqBody>, Error: Into<BoxError>>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        ResponseFuture::new(self.settings.apply(&mut request).map(|()| self.inner.call(request)))
    }
}

impl Settings {
    fn apply<B>(&self, request: &mut Request<B>) -> Result<(), Error> {
        order::enter(LayerName::ApiVersion, request.extensions_mut())?;
        let route = Route::find_or_parse(request.extensions(), request.method(), request.uri())?;
        if route.surface() != Surface::Classic {
            return Ok(());
        }
        if let (false, Some(default)) = (self.check_given(request.uri())?, &self.default) {
            *request.uri_mut() = with_version(request.uri(), default).ok_or_else(unfit)?;
        }
        Ok(())
    }

    /// Tells whether any version is given; every one must be allowed.
    fn check_given(&self, uri: &Uri) -> Result<bool, Error> {
        let parameters = query_parameters(uri.query().unwrap_or_default());
        let mut given = parameters.filter(|(name, ..)| name.eq_ignore_ascii_case(PARAMETER)).peekable();
        let is_given = given.peek().is_some();
        if given.all(|(_, version, _)| self.allows(&version)) { Ok(is_given) } else { Err(self.refusal()) }
    }

    fn allows(&self, version: &str) -> bool {
        self.allowed.is_empty() || self.allowed.iter().any(|allowed| **allowed == *version)
    }

    fn refusal(&self) -> Error {
        let message = format!("The api-version is not allowed here. Allowed: {}.", self.allowed.join(", "));
        Error::new(ErrorKind::ApiVersionNotAllowed, message)
    }
}

fn with_version(uri: &Uri, encoded: &str) -> Option<Uri> {
    let separator = match uri.query() {
        None => "?",
        Some("") => "",
        Some(_) => "&",
    };
    let known = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(format!("{known}{separator}{PARAMETER}={encoded}").try_into().ok()?);
    Uri::from_parts(parts).ok()
}

fn unfit() -> Error {
    Error::new(ErrorKind::AmbiguousRequest, "The request target is too long.")
}
