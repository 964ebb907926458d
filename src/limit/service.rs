use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::UPGRADE;
use http::{Method, Request, Response, StatusCode};
use tokio::time::timeout;
use tower::BoxError;
use tower_service::Service;

use super::body::{Account, ResponseBody};
use super::headers;
use super::layer::{STORE_TIME, Settings, Unavailable};
use super::store::{Decision, Limit};
use crate::azure::operation::ModelPlace;
use crate::below::Below;
use crate::body::Body;
use crate::context::order::{self, LayerName};
use crate::context::{Client, Limits, Route, SocketFrame, Spending};
use crate::error::{Chain, Error, ErrorKind};
use crate::refusable::WorkingFuture;

/// Holds each client to its limits. See the [module docs](super).
#[derive(Clone)]
pub struct ClientLimit<S> {
    pub(super) inner: S,
    pub(super) settings: Arc<Settings>,
}

impl<S: Below> Service<Request<Body>> for ClientLimit<S> {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = WorkingFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Err(misplaced) = order::enter(LayerName::Limit, request.extensions_mut()) {
            return WorkingFuture::refused(misplaced);
        }
        let limits = request.extensions().get().map(Client::limited_to).unwrap_or_default();
        let is_free = request.extensions().get() == Some(&SocketFrame::Settings);
        if limits.is_none() || is_free {
            return WorkingFuture::passing(self.inner.call(request));
        }
        WorkingFuture::working(serve(self.inner.take_ready(), request, limits, self.settings.clone()))
    }
}

impl<S: fmt::Debug> fmt::Debug for ClientLimit<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientLimit").field("inner", &self.inner).finish_non_exhaustive()
    }
}

async fn serve<S: Below>(
    mut inner: S,
    mut request: Request<Body>,
    limits: Limits,
    settings: Arc<Settings>,
) -> Result<Response<Body>, BoxError> {
    let Some(client) = request.extensions().get().map(Client::shared_id) else { return Err(unreachable_client()) };
    let route = Route::find_or_parse(request.extensions(), request.method(), request.uri())?;
    let tokens = uses_tokens(&request, &route).then(|| {
        let body = request.body().head().map(|head| &head[..]).unwrap_or_default();
        settings.means.reservation(&client, route.alias(), body)
    });
    let decision = match timeout(STORE_TIME, settings.store.reserve(&client, limits, tokens)).await {
        Ok(Ok(decision)) => decision,
        Ok(Err(error)) => {
            settings.go_on(Some(&error))?;
            return inner.send(request).await;
        }
        Err(_) => {
            settings.go_on(None)?;
            return inner.send(request).await;
        }
    };
    let (reservation, balance) = match decision {
        Decision::Admitted { reservation, balance } => (reservation, balance),
        Decision::Refused { limit, wait, .. } => {
            settings.refusals.count(&client, limit);
            return Err(refusal(limit, wait).into());
        }
    };
    let alias = route.alias().map(Box::from);
    let spending = Spending::on(request.extensions_mut());
    let mut account = Account::new(settings, client, alias, limits, reservation, spending);
    let answer = match inner.send(request).await {
        Ok(answer) => answer,
        Err(error) => {
            account.give_back().await;
            return Err(error);
        }
    };
    let (mut parts, body) = answer.into_parts();
    headers::replace(&mut parts.headers, limits, balance);
    let body = match parts.status {
        status if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() => {
            account.give_back().await;
            body
        }
        status if status.is_client_error() => {
            account.settle(Some(0)).await;
            body
        }
        status => Body::new(ResponseBody::new(body, account, status == StatusCode::SWITCHING_PROTOCOLS)),
    };
    Ok(Response::from_parts(parts, body))
}

impl Settings {
    /// Lets a request pass, or refuses it, while nobody can count.
    fn go_on(&self, error: Option<&BoxError>) -> Result<(), Error> {
        let cause = error.map_or_else(|| "no answer in time".to_owned(), |error| Chain(&**error).to_string());
        tracing::warn!(%cause, "the store of limits is out of reach");
        match self.when_unavailable {
            Unavailable::Admit => Ok(()),
            Unavailable::Refuse => {
                Err(Error::new(ErrorKind::Overloaded, "Requests of this client cannot be counted right now."))
            }
        }
    }
}

/// Tells whether a call may be billed by tokens: whatever reads or deletes is not, nor what uses no model.
fn uses_tokens<B>(request: &Request<B>, route: &Route) -> bool {
    let is_socket = request.headers().contains_key(UPGRADE);
    is_socket || request.method() == Method::POST && route.model_place() != ModelPlace::Nowhere
}

fn refusal(limit: Limit, wait: Duration) -> Error {
    match limit {
        Limit::TokensPerDay => Error::new(
            ErrorKind::QuotaExceeded,
            "This client's tokens of the day (tokens_per_day) are used up. They are renewed at midnight UTC.",
        ),
        Limit::RequestsPerMinute => Error::new(
            ErrorKind::RateLimitExceeded,
            "This client is at its limit of requests (requests_per_minute). Wait as the headers say.",
        ),
        Limit::TokensPerMinute => Error::new(
            ErrorKind::RateLimitExceeded,
            "This client is at its limit of tokens (tokens_per_minute). Wait as the headers say.",
        ),
    }
    .with_retry_after(wait)
}

fn unreachable_client() -> BoxError {
    "a limited request has a client".into()
}
