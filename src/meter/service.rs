use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tower::BoxError;
use tower_service::Service;

use super::account::Account;
use super::asking;
use super::future::ResponseFuture;
use super::layer::{OnUsage, SilentStreams, State};
use super::plan::Plan;
use crate::below::Inner;
use crate::body::Body;
use crate::context::order::{self, LayerName};
use crate::context::{Client, Spending};

/// Counts what requests use. See the [module docs](super).
#[derive(Clone)]
pub struct MeterUsage<S> {
    pub(super) inner: S,
    pub(super) state: Arc<State>,
    pub(super) streams: SilentStreams,
    pub(super) on_usage: Option<OnUsage>,
}

impl<S> MeterUsage<S> {
    /// Returns the account of what is to be counted, if anybody wants to know.
    fn account(&self, request: &mut Request<Body>) -> Option<Account> {
        let spending = Spending::find(request.extensions());
        if spending.is_none() && self.on_usage.is_none() {
            return None;
        }
        let mut plan = Plan::of(request, self.state.ratios.is_sample())?;
        if plan.is_silent && self.streams == SilentStreams::Ask && asking::ask(request, &plan.route) {
            plan = plan.that_asks();
        }
        let client = request.extensions().get::<Client>().cloned().map(Client::without_token);
        Some(Account::new(plan, client, spending, self.on_usage.clone(), self.state.clone()))
    }
}

impl<S: Inner<Body>> Service<Request<Body>> for MeterUsage<S> {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Err(misplaced) = order::enter(LayerName::Meter, request.extensions_mut()) {
            return ResponseFuture::refused(misplaced);
        }
        let account = self.account(&mut request);
        ResponseFuture::called(self.inner.call(request), account)
    }
}

impl<S: fmt::Debug> fmt::Debug for MeterUsage<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeterUsage").field("inner", &self.inner).finish_non_exhaustive()
    }
}
