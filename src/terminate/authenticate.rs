use std::fmt;
use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::task::{self, Context, Poll};

use pin_project_lite::pin_project;
use tower::BoxError;

use super::Presented;
use crate::context::Client;

/// Identifies clients by their credentials.
///
/// Asked with one credential of a request at a time, in the order of [`Form`](super::Form), until one identifies a client; the
/// next is asked about when the future for the one before is done. Nothing else of the request is shown to it.
///
/// A future may take its time, to fetch the keys of an identity provider for instance, and is dropped with the request. It
/// copies what it needs of the credential. Closures `Fn(&Presented) -> Option<Client>` are accepted, [`from_fn`] takes those that
/// wait or may fail, and so is a pair, of which the second is waited for when the first knows nobody or fails, and an `Option`, of
/// which `None` knows nobody.
pub trait Authenticate: Send + Sync {
    /// Finds out. `None`: the credential identifies nobody. An error: that cannot be said now, because a database is down, say;
    /// unless another credential of the request identifies somebody, it is answered with 503, and told of in the log.
    type Future: Future<Output = Result<Option<Client>, BoxError>> + Send;

    /// Begins to find out whose credential this is.
    fn authenticate(&self, presented: &Presented) -> Self::Future;

    /// Says whose credential this is where that is known at once, as with keys in memory: whoever waits for nothing takes less.
    /// `Some(None)`: nobody's; `None`, the default: [`authenticate`](Self::authenticate) finds out.
    fn at_once(&self, presented: &Presented) -> Option<Option<Client>> {
        let _ = presented;
        None
    }
}

impl<F> Authenticate for F
where
    F: Fn(&Presented) -> Option<Client> + Send + Sync,
{
    type Future = Ready<Result<Option<Client>, BoxError>>;

    fn authenticate(&self, presented: &Presented) -> Self::Future {
        ready(Ok(self(presented)))
    }

    fn at_once(&self, presented: &Presented) -> Option<Option<Client>> {
        Some(self(presented))
    }
}

/// Asks an asynchronous function, which may fail.
///
/// ```
/// use tower::BoxError;
/// use tower_azure_openai::context::Client;
/// use tower_azure_openai::terminate::{TerminateCredentialsLayer, from_fn};
///
/// # async fn look_up(key: Vec<u8>) -> Result<Option<String>, BoxError> { Ok(None) }
/// let layer = TerminateCredentialsLayer::new(from_fn(|presented| {
///     let key = presented.secret().to_owned();
///     async move { Ok(look_up(key).await?.map(Client::new)) }
/// }));
/// # let _ = layer;
/// ```
pub fn from_fn<F, Fut>(function: F) -> FromFn<F>
where
    F: Fn(&Presented) -> Fut + Send + Sync,
    Fut: Future<Output = Result<Option<Client>, BoxError>> + Send,
{
    FromFn(function)
}

/// Authenticator made by [`from_fn`].
#[derive(Clone, Copy)]
pub struct FromFn<F>(F);

impl<F, Fut> Authenticate for FromFn<F>
where
    F: Fn(&Presented) -> Fut + Send + Sync,
    Fut: Future<Output = Result<Option<Client>, BoxError>> + Send,
{
    type Future = Fut;

    fn authenticate(&self, presented: &Presented) -> Fut {
        (self.0)(presented)
    }
}

impl<F> fmt::Debug for FromFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromFn").finish_non_exhaustive()
    }
}

impl<A: Authenticate, B: Authenticate> Authenticate for (A, B) {
    type Future = FirstOf<A::Future, B::Future>;

    fn authenticate(&self, presented: &Presented) -> Self::Future {
        FirstOf { first: Some(self.0.authenticate(presented)), failed: None, second: self.1.authenticate(presented) }
    }

    fn at_once(&self, presented: &Presented) -> Option<Option<Client>> {
        match self.0.at_once(presented)? {
            None => self.1.at_once(presented),
            known => Some(known),
        }
    }
}

impl<A: Authenticate> Authenticate for Option<A> {
    type Future = Maybe<A::Future>;

    fn authenticate(&self, presented: &Presented) -> Self::Future {
        Maybe { asked: self.as_ref().map(|authenticator| authenticator.authenticate(presented)) }
    }

    fn at_once(&self, presented: &Presented) -> Option<Option<Client>> {
        self.as_ref().map_or(Some(None), |authenticator| authenticator.at_once(presented))
    }
}

pin_project! {
    /// The future of a pair of [`Authenticate`]s.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct FirstOf<A, B> {
        #[pin]
        first: Option<A>,
        failed: Option<BoxError>,
        #[pin]
        second: B,
    }
}

impl<A, B> Future for FirstOf<A, B>
where
    A: Future<Output = Result<Option<Client>, BoxError>>,
    B: Future<Output = Result<Option<Client>, BoxError>>,
{
    type Output = Result<Option<Client>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some(first) = this.first.as_mut().as_pin_mut() {
            match task::ready!(first.poll(cx)) {
                Ok(None) => {}
                Err(error) => *this.failed = Some(error),
                found => return Poll::Ready(found),
            }
            this.first.set(None);
        }
        // Nobody is unknown while one of both could not say.
        let found = task::ready!(this.second.poll(cx));
        Poll::Ready(match (found, this.failed.take()) {
            (Ok(None), Some(error)) => Err(error),
            (found, _) => found,
        })
    }
}

pin_project! {
    /// The future of an [`Authenticate`] that may be absent.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct Maybe<F> {
        #[pin]
        asked: Option<F>,
    }
}

impl<F: Future<Output = Result<Option<Client>, BoxError>>> Future for Maybe<F> {
    type Output = Result<Option<Client>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().asked.as_pin_mut().map_or(Poll::Ready(Ok(None)), |asked| asked.poll(cx))
    }
}
