//! Lists the aliases that a client may use, instead of what one backend happens to have.
//!
//! 1. `GET` and `HEAD` of `/openai/models` and `/openai/v1/models` are answered here: one entry for each alias that the client
//!    may use, by the name that it uses, and that a configured backend serves within its constraints and those of the request,
//!    whether or not that backend is able at the moment. Further names of an alias are entries too, so that whoever looks its
//!    own name up finds it.
//! 2. `…/models/{alias}` is answered with that entry, or refused when there is none.
//! 3. Everything else passes.
//!
//! An entry is what client libraries read: `id`, `object`, `created` and `owned_by`. When the model was made is not known here;
//! `created` is 0.
//!
//! ```
//! use http::{Request, Response};
//! use http_body_util::BodyExt;
//! use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
//! use tower_azure_openai::{body::Body, models::ListModelsLayer, pool::{Backend, Deployment, Pool}};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let east = Backend::new("east", "https://east.example");
//! let pool = Pool::builder().add_backend(east.add_deployment(Deployment::new("d1").alias("gpt-4o"))).build()?;
//! let backend = service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(Body::empty())));
//! let service = ServiceBuilder::new().layer(ListModelsLayer::new(pool)).service(backend);
//!
//! let answer = service.oneshot(Request::get("/openai/v1/models").body(Body::empty())?).await?;
//! let body = answer.into_body().collect().await?.to_bytes();
//! assert!(body.starts_with(br#"{"object":"list","data":[{"id":"gpt-4o","#));
//! # Ok(())
//! # }
//! ```
//!
//! **Order.** Below failover or selection a target would be chosen, and praised, for an answer that it did not give: refused with
//! [`Misordered`](ErrorKind::Misordered).
//!
//! # Errors
//! [`DeploymentNotFound`](ErrorKind::DeploymentNotFound), those of [`Route::parse`], and those of the service below.
//!
//! # Cancellation
//! Dropping the future drops the request below; there is nothing else to cancel.

use std::collections::BTreeSet;
use std::task::{Context, Poll};

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response};
use serde::Serialize;
use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;

use crate::azure::operation::{Operation, Surface};
use crate::below::Inner;
use crate::body::Body;
use crate::context::order::{self, LayerName};
use crate::context::{Client, Route, Terms};
use crate::error::{Error, ErrorKind};
use crate::pool::{NoTargetReason, Pool};
pub use crate::refusable::WorkingFuture as ResponseFuture;

/// Lists the aliases that a client may use. See the [module docs](self).
#[derive(Clone, Debug)]
#[must_use]
pub struct ListModelsLayer {
    pool: Pool,
}

impl ListModelsLayer {
    /// Lists the aliases of a pool, as they are at the time of each request.
    pub const fn new(pool: Pool) -> Self {
        Self { pool }
    }
}

impl<S> Layer<S> for ListModelsLayer {
    type Service = ListModels<S>;

    fn layer(&self, inner: S) -> ListModels<S> {
        ListModels { inner, pool: self.pool.clone() }
    }
}

/// Lists the aliases that a client may use. See the [module docs](self).
#[derive(Clone, Debug)]
pub struct ListModels<S> {
    inner: S,
    pool: Pool,
}

impl<S: Inner<ReqBody>, ReqBody> Service<Request<ReqBody>> for ListModels<S> {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let entered = order::enter(LayerName::Models, request.extensions_mut());
        match entered.and_then(|()| answer(&self.pool, &request)) {
            Ok(Some(answer)) => ResponseFuture::answered(answer),
            Ok(None) => ResponseFuture::passing(self.inner.call(request)),
            Err(error) => ResponseFuture::refused(error),
        }
    }
}

/// The answer, if the request asks for models.
fn answer<B>(pool: &Pool, request: &Request<B>) -> Result<Option<Response<Body>>, Error> {
    let route = Route::find_or_parse(request.extensions(), request.method(), request.uri())?;
    let is_list = route.operation() == Operation::Models && route.surface() != Surface::Foundry;
    if !is_list || !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(None);
    }
    let (terms, aliases) = (Terms::of(request.extensions()), pool.aliases());
    let known: Vec<_> = aliases.iter().flat_map(|alias| pool.names_of(alias)).collect();
    let own = terms.client.iter().flat_map(Client::routed);
    let names: BTreeSet<&str> = known.iter().map(|name| &**name).chain(own).collect();
    let mut seen = names.into_iter().filter(|name| is_for(&terms, name, pool)).map(Model::new);
    let body = match route.object_ids().next() {
        None => serde_json::to_vec(&List { object: "list", data: seen.collect() }),
        Some(name) => match seen.find(|model| model.id == name) {
            Some(model) => serde_json::to_vec(&model),
            None => return Err(Error::new(ErrorKind::DeploymentNotFound, "There is no such model for this client.")),
        },
    };
    let body = body.map_err(|error| Error::new(ErrorKind::BackendFailed, "The list failed.").with_source(error))?;
    let mut answer = Response::new(Body::from(body));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(Some(answer))
}

fn is_for(terms: &Terms, alias: &str, pool: &Pool) -> bool {
    let reason = || pool.outlook(&terms.query_for(Some(alias))).reason;
    let is_served = || !matches!(reason(), NoTargetReason::NotServed | NoTargetReason::TokenMissing);
    terms.client.as_ref().is_none_or(|client| client.may_use(alias)) && is_served()
}

#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Model<'a>>,
}

#[derive(Serialize)]
struct Model<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
}

impl<'a> Model<'a> {
    const fn new(id: &'a str) -> Self {
        Self { id, object: "model", created: 0, owned_by: "azure-openai" }
    }
}
