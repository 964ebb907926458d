use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::Request;
use pin_project_lite::pin_project;
use tower::BoxError;
use tower_service::Service;

use super::Authenticate;
use super::presented::{self, Credentials, Presented};
use crate::context::order::{self, LayerName};
use crate::context::{Client, Cookies, EphemeralKey, EphemeralKeys, Observation, opens_session};
use crate::error::{Chain, Error, ErrorKind, polled_again};
use crate::headers::strip_credentials;
use crate::refusable;

/// Identifies clients by their credentials. See the [module docs](super).
pub struct TerminateCredentials<A, S> {
    pub(super) inner: S,
    /// `None`: nobody is asked.
    pub(super) authenticator: Option<Arc<A>>,
    pub(super) ephemeral: Option<EphemeralKeys>,
}

impl<A, S, ReqBody> Service<Request<ReqBody>> for TerminateCredentials<A, S>
where
    A: Authenticate,
    S: Service<Request<ReqBody>, Error: Into<BoxError>> + Clone,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = ResponseFuture<A, S, ReqBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        if let Err(error) = self.enter(&mut request) {
            return ResponseFuture { state: State::refused(error) };
        }
        let ephemeral = self.ephemeral.clone().filter(|_| opens_session(&request));
        let credentials = presented::read(request.headers(), request.uri());
        let Some(authenticator) = self.authenticator.clone() else {
            let keys = ephemeral.and_then(|keys| credentials.ok()?.find_map(|presented| presented.ephemeral(&keys)));
            strip(&mut request);
            let who = request.extensions().get().map(Client::id);
            if let Some(key) = keys.filter(|key| key.client().map(Client::id) == who) {
                request.extensions_mut().insert(key);
            }
            return ResponseFuture { state: State::called(self.inner.call(request)) };
        };
        let state = match credentials {
            Ok(mut credentials) => {
                strip(&mut request);
                match first_known(&*authenticator, ephemeral.as_ref(), &mut credentials) {
                    Known::Client(client, key) => {
                        introduce(&mut request, client, key);
                        State::called(self.inner.call(request))
                    }
                    Known::Later(presented) => {
                        let clone = self.inner.clone();
                        let service = std::mem::replace(&mut self.inner, clone);
                        let waiting =
                            Waiting { authenticator, ephemeral, credentials, has_failed: false, service, request };
                        waiting.ask(&presented)
                    }
                    Known::Nobody => State::refused(unauthenticated()),
                }
            }
            Err(error) => State::refused(error),
        };
        ResponseFuture { state }
    }
}

impl<A, S> TerminateCredentials<A, S> {
    /// Enters by its kind: who asks nobody holds nobody to anything, and may stand anywhere above the attempts.
    fn enter<B>(&self, request: &mut Request<B>) -> Result<(), Error> {
        let layer = if self.authenticator.is_some() { LayerName::Terminate } else { LayerName::Strip };
        order::enter(layer, request.extensions_mut())
    }
}

/// Result of looking at the credentials of a request without waiting.
enum Known {
    Client(Client, Option<EphemeralKey>),
    /// It has to be found out whose this is; those before it are nobody's.
    Later(Presented),
    Nobody,
}

fn first_known(
    authenticator: &impl Authenticate,
    ephemeral: Option<&EphemeralKeys>,
    credentials: &mut Credentials,
) -> Known {
    for presented in credentials {
        if let Some((client, key)) = issued(&presented, ephemeral) {
            return Known::Client(client, Some(key));
        }
        match authenticator.at_once(&presented) {
            Some(Some(client)) => return Known::Client(client, None),
            Some(None) => {}
            None => return Known::Later(presented),
        }
    }
    Known::Nobody
}

/// The ephemeral key that a credential is, with the client that it was issued for.
fn issued(presented: &Presented, ephemeral: Option<&EphemeralKeys>) -> Option<(Client, EphemeralKey)> {
    let key = presented.ephemeral(ephemeral?)?;
    Some((key.client().cloned()?, key))
}

fn introduce<B>(request: &mut Request<B>, client: Client, key: Option<EphemeralKey>) {
    if let Some(key) = key {
        request.extensions_mut().insert(key);
    }
    request.extensions_mut().insert(client);
    Observation::note_client(request.extensions());
}

fn strip<B>(request: &mut Request<B>) {
    if let Some(cookies) = Cookies::of(request.headers()) {
        request.extensions_mut().insert(cookies);
    }
    strip_credentials(request);
}

fn unauthenticated() -> Error {
    Error::new(
        ErrorKind::Unauthenticated,
        "Access denied due to missing or invalid credential. Send a key of this gateway as `api-key` or `Authorization: Bearer`.",
    )
}

/// The client is told that waiting helps, which a 401 denies.
fn undecided() -> Error {
    Error::new(ErrorKind::Overloaded, "The gateway cannot find out now who calls. Wait as the headers say.")
        .with_retry_after(Duration::from_secs(1))
}

impl<A, S: Clone> Clone for TerminateCredentials<A, S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), authenticator: self.authenticator.clone(), ephemeral: self.ephemeral.clone() }
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
        Asking { #[pin] asked: Q, waiting: Option<W> },
        Called { #[pin] future: refusable::ResponseFuture<F> },
    }
}

impl<Q, F, W> State<Q, F, W> {
    const fn called(future: F) -> Self {
        Self::Called { future: refusable::ResponseFuture::called(future) }
    }

    fn refused(error: Error) -> Self {
        Self::Called { future: refusable::ResponseFuture::refused(error) }
    }
}

/// A request whose client is not known yet; its credentials are removed from it already.
struct Waiting<A, S, B> {
    authenticator: Arc<A>,
    /// `None` where no ephemeral key is of use.
    ephemeral: Option<EphemeralKeys>,
    credentials: Credentials,
    /// True if it could not be said of a credential whose it is.
    has_failed: bool,
    service: S,
    request: Request<B>,
}

impl<A, S, B> Waiting<A, S, B>
where
    A: Authenticate,
    S: Service<Request<B>>,
{
    fn ask_next(mut self) -> State<A::Future, S::Future, Self> {
        let Some(presented) = self.credentials.next() else {
            return State::refused(if self.has_failed { undecided() } else { unauthenticated() });
        };
        match issued(&presented, self.ephemeral.as_ref()) {
            Some((client, key)) => State::called(self.call(client, Some(key))),
            None => self.ask(&presented),
        }
    }

    fn ask(self, presented: &Presented) -> State<A::Future, S::Future, Self> {
        State::Asking { asked: self.authenticator.authenticate(presented), waiting: Some(self) }
    }

    fn call(mut self, client: Client, key: Option<EphemeralKey>) -> S::Future {
        introduce(&mut self.request, client, key);
        self.service.call(self.request)
    }
}

impl<A, S, B> Future for ResponseFuture<A, S, B>
where
    A: Authenticate,
    S: Service<Request<B>, Error: Into<BoxError>>,
{
    type Output = Result<S::Response, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProjection::Asking { asked, waiting } => {
                    let client = ready!(asked.poll(cx));
                    let Some(mut waiting) = waiting.take() else { return Poll::Ready(Err(polled_again())) };
                    match client {
                        Ok(Some(client)) => State::called(waiting.call(client, None)),
                        Ok(None) => waiting.ask_next(),
                        Err(error) => {
                            tracing::warn!(error = %Chain(error.as_ref()), "who calls cannot be found out");
                            waiting.has_failed = true;
                            waiting.ask_next()
                        }
                    }
                }
                StateProjection::Called { future } => return future.poll(cx),
            };
            state.set(next);
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
