use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::Request;
use pin_project_lite::pin_project;
use tower::BoxError;
use tower_service::Service;

use super::Authenticate;
use super::presented::{self, Credentials};
use crate::context::{Client, Cookies};
use crate::error::{Error, ErrorKind, polled_again};
use crate::headers::{strip_credentials, without_query_keys};

/// Who is it? See the [module docs](super).
pub struct TerminateCredentials<A, S> {
    pub(super) inner: S,
    /// `None`: nobody is asked.
    pub(super) authenticator: Option<Arc<A>>,
}

impl<A, S, ReqBody> Service<Request<ReqBody>> for TerminateCredentials<A, S>
where
    A: Authenticate,
    S: Service<Request<ReqBody>> + Clone,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = ResponseFuture<A, S, ReqBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let Some(authenticator) = self.authenticator.clone() else {
            strip(&mut request);
            return ResponseFuture { state: State::Called { future: self.inner.call(request) } };
        };
        let state = match presented::read(request.headers(), request.uri()) {
            Ok(credentials) => {
                strip(&mut request);
                let next = self.inner.clone();
                let service = std::mem::replace(&mut self.inner, next);
                State::Next { waiting: Some(Waiting { authenticator, credentials, service, request }) }
            }
            Err(error) => State::Refused { error: Some(error) },
        };
        ResponseFuture { state }
    }
}

fn strip<B>(request: &mut Request<B>) {
    if let Some(cookies) = Cookies::of(request.headers()) {
        request.extensions_mut().insert(cookies);
    }
    strip_credentials(request.headers_mut());
    if let Some(uri) = without_query_keys(request.uri()) {
        *request.uri_mut() = uri;
    }
}

fn unauthenticated() -> Error {
    Error::new(
        ErrorKind::Unauthenticated,
        "Access denied due to missing or invalid credential. Send a key of this gateway as `api-key` or `Authorization: Bearer`.",
    )
}

impl<A, S: Clone> Clone for TerminateCredentials<A, S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), authenticator: self.authenticator.clone() }
    }
}

impl<A, S: fmt::Debug> fmt::Debug for TerminateCredentials<A, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TerminateCredentials").field("inner", &self.inner).finish_non_exhaustive()
    }
}

pin_project! {
    /// The future of [`TerminateCredentials`].
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<A, S, B>
    where
        A: Authenticate,
        S: Service<Request<B>>,
    {
        #[pin]
        state: State<A::Future, S::Future, Waiting<A, S, B>>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<Q, F, W> {
        Next { waiting: Option<W> },
        Asking { #[pin] asked: Q, waiting: Option<W> },
        Called { #[pin] future: F },
        Refused { error: Option<Error> },
    }
}

/// A request whose client is not known yet; its credentials are removed from it already.
struct Waiting<A, S, B> {
    authenticator: Arc<A>,
    credentials: Credentials,
    service: S,
    request: Request<B>,
}

impl<A, S, B> Waiting<A, S, B>
where
    A: Authenticate,
    S: Service<Request<B>>,
{
    fn ask_next(mut self) -> State<A::Future, S::Future, Self> {
        match self.credentials.next() {
            Some(presented) => {
                State::Asking { asked: self.authenticator.authenticate(&presented), waiting: Some(self) }
            }
            None => State::Refused { error: Some(unauthenticated()) },
        }
    }

    fn call(mut self, client: Client) -> S::Future {
        self.request.extensions_mut().insert(client);
        self.service.call(self.request)
    }
}

impl<A, S, B> Future for ResponseFuture<A, S, B>
where
    A: Authenticate,
    S: Service<Request<B>>,
    S::Error: Into<BoxError>,
{
    type Output = Result<S::Response, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProjection::Next { waiting } => waiting.take().map(Waiting::ask_next),
                StateProjection::Asking { asked, waiting } => {
                    let client = ready!(asked.poll(cx));
                    waiting.take().map(|waiting| match client {
                        Some(client) => State::Called { future: waiting.call(client) },
                        None => State::Next { waiting: Some(waiting) },
                    })
                }
                StateProjection::Called { future } => return future.poll(cx).map_err(Into::into),
                StateProjection::Refused { error } => {
                    let error = error.take().map_or_else(polled_again, Into::into);
                    return Poll::Ready(Err(error));
                }
            };
            state.set(next.unwrap_or(State::Refused { error: None }));
        }
    }
}

impl<A, S, B> fmt::Debug for ResponseFuture<A, S, B>
where
    A: Authenticate,
    S: Service<Request<B>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
