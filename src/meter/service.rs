use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use tower::BoxError;
use tower_service::Service;

use super::account::Account;
use super::future::ResponseFuture;
use super::layer::{OnUsage, State};
use super::plan::Plan;
use crate::body::Body;
use crate::context::{Client, Spending};

/// Counts what requests use. See the [module docs](super).
#[derive(Clone)]
pub struct MeterUsage<S> {
    pub(super) inner: S,
    pub(super) state: Arc<State>,
    pub(super) on_usage: Option<OnUsage>,
}

impl<S> MeterUsage<S> {
    /// What is to be counted, if anybody wants to know.
    fn account(&self, request: &Request<Body>) -> Option<Account> {
        let spending = request.extensions().get::<Spending>();
        if spending.is_none() && self.on_usage.is_none() {
            return None;
        }
        let plan = Plan::of(request, self.state.ratios.is_sample())?;
        let client = request.extensions().get::<Client>().cloned().map(Client::without_token);
        Some(Account::new(plan, client, spending.cloned(), self.on_usage.clone(), self.state.clone()))
    }
}

impl<S, ResBody> Service<Request<Body>> for MeterUsage<S>
where
    S: Service<Request<Body>, Response = Response<ResBody>>,
    ResBody: HttpBody<Data = Bytes> + Send + 'static,
    ResBody::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let account = self.account(&request);
        ResponseFuture::new(self.inner.call(request), account)
    }
}

impl<S: fmt::Debug> fmt::Debug for MeterUsage<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeterUsage").field("inner", &self.inner).finish_non_exhaustive()
    }
}
