use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::runtime::Handle;
use tokio::time::timeout;
use tower::BoxError;

use super::layer::{STORE_TIME, Settings};
use super::store::{Balance, Reservation};
use crate::body::Body;
use crate::context::{Limits, Spending};
use crate::pool::BoxFuture;

/// The body of an answer to a limited client: corrects what was reserved when the usage is known, before the frame that tells it
/// is handed on, and at the latest when it ends or is dropped.
pub struct ResponseBody {
    inner: Body,
    account: Account,
    settling: Option<BoxFuture<()>>,
    /// The frame that waits for the account.
    waiting: Option<Option<Result<Frame<Bytes>, BoxError>>>,
}

impl ResponseBody {
    /// `lasts` for an answer that switches protocols: its body is empty and has not ended.
    pub(super) fn new(inner: Body, account: Account, lasts: bool) -> Self {
        let mut body = Self { inner, account, settling: None, waiting: None };
        body.account.lasts = lasts;
        // Servers need not ask a body for more once it says that it has ended.
        if body.inner.is_end_stream() && !lasts {
            body.account.settle_by_what_is_known();
        }
        body
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            if let Some(settling) = &mut self.settling {
                ready!(settling.as_mut().poll(cx));
                self.settling = None;
            }
            if let Some(frame) = self.waiting.take() {
                return Poll::Ready(frame);
            }
            let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
            let has_ended = !matches!(frame, Some(Ok(_))) || self.inner.is_end_stream();
            self.settling = self.account.settlement(has_ended);
            if self.settling.is_none() {
                return Poll::Ready(frame);
            }
            self.waiting = Some(frame);
        }
    }

    fn is_end_stream(&self) -> bool {
        self.settling.is_none() && self.waiting.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.waiting.is_some() { SizeHint::default() } else { self.inner.size_hint() }
    }
}

/// Drops what is below first: what is metered there is known then.
impl Drop for ResponseBody {
    fn drop(&mut self) {
        self.inner = Body::empty();
        if let Some(settling) = self.settling.take() {
            finish(settling);
        }
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").finish_non_exhaustive()
    }
}

// ===== Account =====

/// Account of what was taken for one request and has to be settled, once. Dropped unsettled, it settles by what is known.
pub(super) struct Account {
    settings: Arc<Settings>,
    client: Arc<str>,
    alias: Option<Box<str>>,
    limits: Limits,
    reservation: Option<Reservation>,
    spending: Spending,
    /// True if there may be many answers, each of which is settled when it is there.
    lasts: bool,
    /// Part of that which was settled.
    charged: u64,
}

impl Account {
    pub(super) const fn new(
        settings: Arc<Settings>,
        client: Arc<str>,
        alias: Option<Box<str>>,
        limits: Limits,
        reservation: Reservation,
        spending: Spending,
    ) -> Self {
        let (reservation, charged) = (Some(reservation), 0);
        Self { settings, client, alias, limits, reservation, spending, lasts: false, charged }
    }

    /// Nothing was processed.
    pub(super) async fn give_back(&mut self) {
        self.settle(None).await;
    }

    pub(super) async fn settle(&mut self, used: Option<u64>) {
        if let Some(settling) = self.settling(used) {
            settling.await;
        }
    }

    /// The correction that is due now, if one is.
    fn settlement(&mut self, has_ended: bool) -> Option<BoxFuture<()>> {
        let known = self.spending.known();
        if let Some(spent) = known.filter(|spent| self.lasts && !spent.is_final) {
            return self.settle_up_to(spent.usage.total());
        }
        if !has_ended && !known.is_some_and(|spent| spent.is_final) {
            return None;
        }
        let reserved = self.reservation?.tokens;
        let used = known.map(|spent| spent.usage);
        if let (Some(usage), Some(alias)) = (used, &self.alias) {
            self.settings.means.learn(&self.client, alias, usage.output);
        }
        self.settling(used.map(|usage| usage.total()).or(reserved).or(Some(0)))
    }

    /// Settles what a session has used so far.
    fn settle_up_to(&mut self, total: u64) -> Option<BoxFuture<()>> {
        let more = total.saturating_sub(std::mem::replace(&mut self.charged, total));
        if self.reservation.is_some() {
            return self.settling(Some(total));
        }
        let (store, client, limits) = (self.settings.store.clone(), self.client.clone(), self.limits);
        (more > 0).then(|| in_time(async move { store.charge(&client, limits, more).await }))
    }

    fn settle_by_what_is_known(&mut self) {
        if let Some(settling) = self.settlement(true) {
            finish(settling);
        }
    }

    fn settling(&mut self, used: Option<u64>) -> Option<BoxFuture<()>> {
        let reservation = self.reservation.take()?;
        let (store, client, limits) = (self.settings.store.clone(), self.client.clone(), self.limits);
        Some(in_time(async move { store.settle(&client, limits, reservation, used).await }))
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.settle_by_what_is_known();
    }
}

fn in_time(settling: impl Future<Output = Result<Balance, BoxError>> + Send + 'static) -> BoxFuture<()> {
    Box::pin(async move {
        match timeout(STORE_TIME, settling).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => tracing::warn!("a request could not be settled with the store of limits"),
        }
    })
}

/// Runs a correction to its end although nobody waits for it: at once where the store has everything in memory.
fn finish(mut settling: BoxFuture<()>) {
    // A timer needs a runtime; where there is none any more, nothing is left to be held to.
    let Ok(runtime) = Handle::try_current() else { return };
    if settling.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
        runtime.spawn(settling);
    }
}
