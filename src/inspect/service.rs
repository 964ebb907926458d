use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Uri};
use http_body::Body as HttpBody;
use pin_project_lite::pin_project;
use tower::BoxError;
use tower_service::Service;

use super::collect::{Collect, Read};
use super::layer::Settings;
use super::upload::{self, Upload};
use super::{decode, further, naming, narrowing};
use crate::body::Body;
use crate::context::order::{self, LayerName};
use crate::context::{Client, Observation, Route, priority, shape};
use crate::error::{Error, ErrorKind, polled_again};
use crate::refusable;

/// Finds out what is asked for: collects the body, inserts the route. See the [module docs](super).
#[derive(Clone)]
pub struct Inspect<S> {
    pub(super) inner: S,
    pub(super) settings: Settings,
}

impl<S, ReqBody> Service<Request<ReqBody>> for Inspect<S>
where
    S: Service<Request<Body>, Error: Into<BoxError>> + Clone,
    ReqBody: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = ResponseFuture<S>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> ResponseFuture<S> {
        if let Some(base_path) = &self.settings.base_path {
            base_path.strip(&mut request);
        }
        shape::normalise(&mut request);
        let (mut parts, body) = request.into_parts();
        let state = match self.admit(&mut parts, Body::new(body)) {
            Ok((route, collect)) => {
                let next = self.inner.clone();
                let service = std::mem::replace(&mut self.inner, next);
                State::Collecting { collect, waiting: Some(Waiting { service, parts, route }) }
            }
            Err(error) => State::Called { future: refusable::ResponseFuture::refused(error) },
        };
        ResponseFuture { state }
    }
}

impl<S> Inspect<S> {
    /// Everything that is known before the body is read.
    fn admit(&self, parts: &mut Parts, body: Body) -> Result<(Route, Collect), Error> {
        order::enter(LayerName::Inspect, &mut parts.extensions)?;
        let route = Route::find_or_parse(&parts.extensions, &parts.method, &parts.uri)?;
        Observation::note_call(&parts.extensions, &route);
        if names_two_hosts(&parts.uri, &parts.headers) {
            return Err(Error::new(ErrorKind::AmbiguousRequest, "The request names two hosts. Send one."));
        }
        narrowing::take(parts)?;
        priority::take(&mut parts.headers, &mut parts.extensions)?;
        naming::check_kind(&mut parts.headers)?;
        let scan = naming::scan(&parts.headers, &route)?;
        let Settings { request_body, replay_limit, ref account, request_timeout, .. } = self.settings;
        if body.size_hint().lower().max(announced(&parts.headers)) > request_body {
            return Err(upload::too_large());
        }
        let body = match decode::coding(&parts.headers)? {
            Some(coding) => {
                let reservation = account.open(parts.extensions.get().map(Client::id));
                decode::decode(&mut parts.headers, body, coding, reservation, request_body)?
            }
            None => body,
        };
        let upload = Upload::new(body, request_body, request_timeout);
        let reservation = account.open(parts.extensions.get().map(Client::id));
        let may_refer = naming::may_refer(&parts.headers, &route);
        let searched = if may_refer { replay_limit } else { further::searched(parts, &route, replay_limit) };
        Ok((route, Collect::new(upload, reservation, replay_limit, searched, scan)))
    }
}

/// Tells whether a request names two hosts: whoever stands before the gateway may have decided by another of them.
fn names_two_hosts(uri: &Uri, headers: &HeaderMap) -> bool {
    let hosts = headers.get_all(HOST).iter().map(HeaderValue::as_bytes);
    let mut named = uri.authority().map(|authority| authority.as_str().as_bytes()).into_iter().chain(hosts);
    named.next().is_some_and(|first| named.any(|other| !other.eq_ignore_ascii_case(first)))
}

fn announced(headers: &HeaderMap) -> u64 {
    headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0)
}

impl<S: fmt::Debug> fmt::Debug for Inspect<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inspect").field("inner", &self.inner).field("settings", &self.settings).finish()
    }
}

pin_project! {
    /// The future of [`Inspect`].
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S>
    where
        S: Service<Request<Body>>,
    {
        #[pin]
        state: State<S, S::Future>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, F> {
        Collecting { collect: Collect, waiting: Option<Waiting<S>> },
        Called { #[pin] future: refusable::ResponseFuture<F> },
    }
}

/// Call that waits for the body.
struct Waiting<S> {
    service: S,
    parts: Parts,
    route: Route,
}

impl<S: Service<Request<Body>>> Waiting<S> {
    fn call(mut self, read: Read, limit: usize) -> Result<S::Future, Error> {
        let Read { body, fields } = read;
        let route = naming::complete(&mut self.parts, self.route, &body, fields, limit)?;
        let (route, body) = further::complete(&self.parts, route, body)?;
        Observation::note_route(&self.parts.extensions, &route, &body);
        self.parts.extensions.insert(route);
        let body = once_above(limit, body);
        order::read(&self.parts.uri, &body, &mut self.parts.extensions);
        Ok(self.service.call(Request::from_parts(self.parts, body)))
    }
}

/// A body that was held for its model's name only is not kept for a repeat.
fn once_above(limit: usize, body: Body) -> Body {
    match body.as_bytes() {
        Some(bytes) if bytes.len() > limit => Body::prefixed(bytes.clone(), Body::empty()),
        _ => body,
    }
}

impl<S> Future for ResponseFuture<S>
where
    S: Service<Request<Body>, Error: Into<BoxError>>,
{
    type Output = Result<S::Response, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let called = match state.as_mut().project() {
                StateProjection::Collecting { collect, waiting } => {
                    let read = ready!(collect.poll(cx))?;
                    let Some(waiting) = waiting.take() else { return Poll::Ready(Err(polled_again())) };
                    waiting.call(read, collect.limit())
                }
                StateProjection::Called { future } => return future.poll(cx),
            };
            state.set(State::Called { future: refusable::ResponseFuture::new(called) });
        }
    }
}

impl<S: Service<Request<Body>>> fmt::Debug for ResponseFuture<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
