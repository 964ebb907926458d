use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::task::{self, Context, Poll};

use pin_project_lite::pin_project;

use super::Presented;
use crate::context::Client;

/// Who is it?
///
/// Asked with one credential of a request at a time, in the order of [`Form`](super::Form), until one identifies a client; the
/// next is asked about when the future for the one before is done. Nothing else of the request is shown to it.
///
/// A future may take its time, to fetch the keys of an identity provider for instance, and is dropped with the request. It
/// copies what it needs of the credential. Closures `Fn(&Presented) -> Option<Client>` are accepted, and so is a pair, of which
/// the second is waited for when the first knows nobody, and an `Option`, of which `None` knows nobody.
pub trait Authenticate: Send + Sync {
    /// What finds out. `None`: the credential identifies nobody.
    type Future: Future<Output = Option<Client>> + Send;

    /// Begins to find out whose credential this is.
    fn authenticate(&self, presented: &Presented) -> Self::Future;
}

impl<F> Authenticate for F
where
    F: Fn(&Presented) -> Option<Client> + Send + Sync,
{
    type Future = Ready<Option<Client>>;

    fn authenticate(&self, presented: &Presented) -> Self::Future {
        ready(self(presented))
    }
}

impl<A: Authenticate, B: Authenticate> Authenticate for (A, B) {
    type Future = FirstOf<A::Future, B::Future>;

    fn authenticate(&self, presented: &Presented) -> Self::Future {
        FirstOf { first: Some(self.0.authenticate(presented)), second: self.1.authenticate(presented) }
    }
}

impl<A: Authenticate> Authenticate for Option<A> {
    type Future = Maybe<A::Future>;

    fn authenticate(&self, presented: &Presented) -> Self::Future {
        Maybe { asked: self.as_ref().map(|authenticator| authenticator.authenticate(presented)) }
    }
}

pin_project! {
    /// The future of a pair of [`Authenticate`]s.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct FirstOf<A, B> {
        #[pin]
        first: Option<A>,
        #[pin]
        second: B,
    }
}

impl<A, B> Future for FirstOf<A, B>
where
    A: Future<Output = Option<Client>>,
    B: Future<Output = Option<Client>>,
{
    type Output = Option<Client>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some(first) = this.first.as_mut().as_pin_mut() {
            if let Some(client) = task::ready!(first.poll(cx)) {
                return Poll::Ready(Some(client));
            }
            this.first.set(None);
        }
        this.second.poll(cx)
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

impl<F: Future<Output = Option<Client>>> Future for Maybe<F> {
    type Output = Option<Client>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().asked.as_pin_mut().map_or(Poll::Ready(None), |asked| asked.poll(cx))
    }
}
