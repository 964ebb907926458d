//! Holds clients to the aliases and operations that they may use.
//!
//! 1. A request without a [`Client`] extension, unless [one is required](AuthorizeLayer::require_client), or of a client that is not held to a list of aliases, passes.
//! 2. The [`Route`] extension says what is asked for; without one it is read from the path, and an alias in body or query is
//!    not known. A route says the same wherever the alias stood: path, body, form or query.
//! 3. A call whose models stand where nobody looks needs its operation allowed by [`Client::operations`], whatever alias it
//!    names: batches, fine-tuning, evals, what goes on with a video, deleting a model, unknown paths; all but the first three are
//!    opened by [`Operation::Other`] too. A batch in an upload of several parts, imported
//!    from an address, or read from a blob is refused even so: nobody could see what it uses, where a file's lines are read.
//!    What goes on with a video needs none [where objects decide](AuthorizeLayer::objects_decide).
//! 4. An alias that the client may not use is refused, whether or not a backend serves it.
//!    The same holds for whatever else the request names: the deployment in the header `x-ms-oai-image-generation-deployment`, the
//!    [further aliases](Route::further_aliases) of its route, `model` and `deployment` in the query of a `POST`, and the one for which `x-gateway-alias` says that it is meant.
//! 5. A call that uses a model and names none needs its operation, too: an assistant's own model, say, may be any, unless
//!    [objects decide](AuthorizeLayer::objects_decide). So does
//!    a realtime session or call without a model, but for a transcription session over a [`Handshake`], which names its model in a
//!    frame that is judged like a request. What uses no model passes: reading, deleting, files, vector stores, threads and their
//!    messages, and what goes on with a run or a response that was allowed when it began.
//! 6. A request with an [`EphemeralKey`] may open the session that the key was issued for, whose model was allowed then, if it
//!    names no model itself: `GET realtime`, or `POST realtime/calls` with the offer of a WebRTC session (`application/sdp`).
//!
//! It does not ask who the client is (that is the matter of credential termination), reads no body, and inserts nothing.
//!
//! ```
//! use http::{Request, Response};
//! use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
//! use tower_azure_openai::{Error, ErrorKind, authorize::AuthorizeLayer, context::Client};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let backend = service_fn(async |_: Request<String>| Ok::<_, BoxError>(Response::new("hello")));
//! let service = ServiceBuilder::new().layer(AuthorizeLayer::new()).service(backend);
//!
//! let mut request = Request::post("/openai/deployments/o3/chat/completions").body(String::new())?;
//! request.extensions_mut().insert(Client::new("team-a").allow(["gpt-4o"]));
//! let refused = service.oneshot(request).await.unwrap_err();
//! assert_eq!(Error::find(refused.as_ref()).map(Error::kind), Some(ErrorKind::AliasNotAllowed));
//! # Ok(())
//! # }
//! ```
//!
//! What a client may do stands in its [`Client`]. In a service that knows its clients already,
//! a layer above inserts one:
//!
//! ```
//! use http::Request;
//! use tower::ServiceBuilder;
//! use tower_azure_openai::{authorize::AuthorizeLayer, context::Client};
//!
//! let stack = ServiceBuilder::new()
//!     .map_request(|mut request: Request<String>| {
//!         request.extensions_mut().insert(Client::new("batch-jobs").allow(["gpt-4o-mini"]));
//!         request
//!     })
//!     .layer(AuthorizeLayer::new());
//! # let _ = stack;
//! ```
//!
//! **Order.** Above inspection it knows no alias that stands in a body, and below sticky sessions or failover what it forbids would
//! already have been looked for: both are refused with [`Misordered`](crate::ErrorKind::Misordered). Above credential
//! termination it would know nobody: that layer refuses then.
//!
//! # Errors
//! [`Unauthenticated`](ErrorKind::Unauthenticated) where a client is required, [`AliasNotAllowed`](ErrorKind::AliasNotAllowed), [`OperationNotAllowed`](ErrorKind::OperationNotAllowed), those of
//! [`Route::parse`], and those of the service below.
//!
//! # Cancellation
//! Dropping the future drops the request below; there is nothing else to cancel.

use std::borrow::Cow;
use std::task::{Context, Poll};

use http::header::UPGRADE;
use http::{HeaderValue, Method, Request, Uri};
use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;

use crate::azure::operation::{ModelPlace, Operation};
#[cfg(doc)]
use crate::context::EphemeralKey;
use crate::context::order::{self, LayerName, Missing};
use crate::context::{Client, Handshake, Route, Undecided, is_transcription, not_opened, opens_own_session};
use crate::error::{Error, ErrorKind};
use crate::headers::{ALIAS, IMAGE_DEPLOYMENT, query_parameters};
pub use crate::refusable::ResponseFuture;

/// May this client use this alias? See the [module docs](self).
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct AuthorizeLayer {
    requires_client: bool,
    objects_decide: bool,
}

impl AuthorizeLayer {
    /// A request of which nobody has said who sends it passes.
    pub const fn new() -> Self {
        Self { requires_client: false, objects_decide: false }
    }

    /// Refuses requests without a [`Client`]: somebody above has not said who calls. Where
    /// [`without_clients`](crate::terminate::TerminateCredentialsLayer::without_clients) says that nobody is asked, they pass.
    ///
    /// This is what [`gateway::builder`](crate::gateway::builder) does by default.
    pub const fn require_client(mut self) -> Self {
        self.requires_client = true;
        self
    }

    /// Lets a client go on with a video, as in a remix, or run and change an assistant without naming a model, if that was made by an
    /// alias that the client may use: a [`StickySessionLayer`](crate::session::StickySessionLayer) below remembers it. Where nobody
    /// does, the call needs its operation; a stack without such a layer refuses it. Default: `false`;
    /// [`gateway::builder`](crate::gateway::builder) sets it where it keeps sessions.
    pub const fn objects_decide(mut self, decide: bool) -> Self {
        self.objects_decide = decide;
        self
    }
}

impl<S> Layer<S> for AuthorizeLayer {
    type Service = Authorize<S>;

    fn layer(&self, inner: S) -> Authorize<S> {
        Authorize { inner, layer: *self }
    }
}

/// May this client use this alias? See the [module docs](self).
#[derive(Clone, Debug)]
pub struct Authorize<S> {
    inner: S,
    layer: AuthorizeLayer,
}

impl<S, ReqBody> Service<Request<ReqBody>> for Authorize<S>
where
    S: Service<Request<ReqBody>, Error: Into<BoxError>>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let entered = order::enter(LayerName::Authorize, request.extensions_mut());
        let known = entered.and_then(|()| if self.layer.requires_client { check_known(&request) } else { Ok(()) });
        let checked = known.and_then(|()| check(&request, self.layer.objects_decide));
        ResponseFuture::new(checked.map(|verdict| {
            if verdict == Verdict::Objects {
                request.extensions_mut().insert(Undecided);
            }
            self.inner.call(request)
        }))
    }
}

/// Tells whether somebody has said who calls, or that nobody is asked.
fn check_known<B>(request: &Request<B>) -> Result<(), Error> {
    let extensions = request.extensions();
    if extensions.get::<Client>().is_some() || order::has_passed(LayerName::Strip, extensions) {
        return Ok(());
    }
    order::tell(Missing::Client);
    Err(Error::new(ErrorKind::Unauthenticated, "It is not known who sends this request."))
}

/// Verdict on a request that is not refused.
#[derive(Clone, Copy, PartialEq)]
enum Verdict {
    Allowed,
    /// It depends on the alias by which an object was made.
    Objects,
}

fn check<B>(request: &Request<B>, objects_decide: bool) -> Result<Verdict, Error> {
    let Some(client) = request.extensions().get::<Client>().filter(|client| client.is_restricted()) else {
        return Ok(Verdict::Allowed);
    };
    let route = Route::find_or_parse(request.extensions(), request.method(), request.uri())?;
    let meant = request.headers().get_all(&ALIAS).iter();
    if !meant.map(HeaderValue::to_str).all(|alias| alias.is_ok_and(|alias| client.may_use(alias))) {
        return Err(Error::new(ErrorKind::AliasNotAllowed, "This client may not use this deployment."));
    }
    let images = request.headers().get_all(&IMAGE_DEPLOYMENT).iter();
    if !images.map(HeaderValue::to_str).all(|alias| alias.is_ok_and(|alias| client.may_use(alias))) {
        return Err(Error::new(ErrorKind::AliasNotAllowed, "This client may not use this deployment for images."));
    }
    if let Some(further) = route.further_names().iter().find(|further| !further.is_allowed(client)) {
        return Err(Error::new(ErrorKind::AliasNotAllowed, further.said("This client may not use a deployment that")));
    }
    if request.method() == Method::POST && !names_in_query(request.uri()).all(|alias| client.may_use(&alias)) {
        return Err(Error::new(
            ErrorKind::AliasNotAllowed,
            "This client may not use a deployment that the query names.",
        ));
    }
    if let Some(why) = route.unseen() {
        let message = format!("This client may use certain deployments only, and this request {why}.");
        return Err(Error::new(ErrorKind::OperationNotAllowed, message));
    }
    if route.is_of_agent() && !client.may_call(route.operation()) {
        return Err(not_opened(&route, "the agent that answers this call could use any"));
    }
    if route.alias().is_none() && opens_own_session(request) {
        return Ok(Verdict::Allowed);
    }
    let place = match route.model_place() {
        // What is said over a WebSocket is not seen.
        ModelPlace::Nowhere if request.headers().contains_key(UPGRADE) => ModelPlace::Elsewhere,
        place => place,
    };
    if objects_decide && goes_on_with_object(&route, place, client) && !client.may_call(route.operation()) {
        return Ok(Verdict::Objects);
    }
    allowed(client, &route, place, names_later(request)).map(|()| Verdict::Allowed)
}

/// Tells whether the model of a call is that by which another object was made, and nothing else stands in its way.
fn goes_on_with_object(route: &Route, place: ModelPlace, client: &Client) -> bool {
    match place {
        ModelPlace::Object => route.alias().is_none_or(|alias| client.may_use(alias)),
        ModelPlace::OptionalBody => {
            route.alias().is_none() && matches!(route.operation(), Operation::Assistants | Operation::Threads)
        }
        _ => false,
    }
}

/// Checks that the client may use the alias that the request names, or make it without one.
fn allowed(client: &Client, route: &Route, place: ModelPlace, names_later: bool) -> Result<(), Error> {
    match (place, route.alias()) {
        (ModelPlace::Elsewhere | ModelPlace::Object, _) if !client.may_call(route.operation()) => {
            Err(not_opened(route, "this kind of call could use any"))
        }
        (_, Some(alias)) if !client.may_use(alias) => {
            Err(Error::new(ErrorKind::AliasNotAllowed, "This client may not use this deployment."))
        }
        (_, Some(_)) | (ModelPlace::Elsewhere | ModelPlace::Nowhere | ModelPlace::Object, None) => Ok(()),
        // What it names when it comes is a request of its own.
        (ModelPlace::Query, None) if names_later => Ok(()),
        // An assistant's own model, say, may be any.
        (_, None) if client.may_call(route.operation()) => Ok(()),
        // Nobody else may do without it but where a backend has a model of its own for it, which may be any.
        (_, None) if route.lacks_model() => Err(Error::new(
            ErrorKind::InvalidBody,
            "`model` is missing in the body. This client may use certain deployments only: name one of them.",
        )),
        (_, None) => Err(not_opened(route, "this call does not say which it uses; name it as `model`")),
    }
}

/// Returns what a server may take for its model beside the place where the API has it.
fn names_in_query(uri: &Uri) -> impl Iterator<Item = Cow<'_, str>> {
    let parameters = query_parameters(uri.query().unwrap_or_default());
    parameters
        .filter(|(name, ..)| ["deployment", "model"].iter().any(|known| name.eq_ignore_ascii_case(known)))
        .map(|(_, value, _)| value)
}

/// Tells whether a request opens a transcription session over a WebSocket of which every frame is read.
fn names_later<B>(request: &Request<B>) -> bool {
    request.extensions().get::<Handshake>().is_some() && request.uri().query().is_some_and(is_transcription)
}
