//! The backend: its builder, its handle, and how it answers.

use std::fmt;
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::uri::Authority;
use http::{HeaderValue, Request, Response, header};
use http_body_util::BodyExt;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tower::BoxError;
use tower_service::Service;

use super::answer::{self, Answer};
use super::body::{Activity, AnswerBody, InFlight, Spent};
use super::call::{Call, Inference, Object};
use super::credentials::Credentials;
use super::deployment::{Deployment, SimulatedDeployment};
use super::error::TransportError;
use super::fault::{Action, Faults};
use super::received::ReceivedRequest;
use crate::body::Body;

/// A fake Azure OpenAI resource: a service, or a server on loopback.
///
/// Cheap to clone; clones are handles to the same backend. See the [module docs](super).
#[derive(Clone)]
pub struct SimulatedBackend(Arc<Shared>);

struct Shared {
    name: String,
    region: Option<HeaderValue>,
    host: Option<String>,
    credentials: Credentials,
    deployments: Vec<Arc<Deployment>>,
    faults: Faults,
    received: Mutex<Vec<ReceivedRequest>>,
    activity: Arc<watch::Sender<Activity>>,
    ids: AtomicU64,
}

impl SimulatedBackend {
    /// A backend that will tell in its answers that `name` served them.
    pub fn builder(name: impl Into<String>) -> Builder {
        Builder {
            name: name.into(),
            region: None,
            host: None,
            credentials: Credentials::default(),
            deployments: Vec::new(),
        }
    }

    /// The name that was given to the builder.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// What will go wrong.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.0.faults
    }

    /// Every request that was received whole, whatever it was answered, in the order of their arrival.
    #[must_use]
    pub fn requests(&self) -> Vec<ReceivedRequest> {
        self.0.received().clone()
    }

    /// How many [`requests`](Self::requests) there are.
    #[must_use]
    pub fn request_count(&self) -> usize {
        self.0.received().len()
    }

    /// Forgets the [`requests`](Self::requests), and counts from zero again.
    pub fn clear_requests(&self) {
        self.0.log(Vec::clear);
    }

    /// How many requests are being read or answered.
    ///
    /// A request is in flight until the last byte of its answer was handed out, or until it or its answer was dropped;
    /// a server drops them when the client has gone away.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.0.activity.borrow().in_flight
    }

    /// Waits until nothing is [in flight](Self::in_flight).
    pub async fn wait_until_idle(&self) {
        self.wait_until(|activity| activity.in_flight == 0).await;
    }

    /// Waits until at least `n` [requests](Self::requests) have been received.
    pub async fn wait_for_requests(&self, n: usize) {
        self.wait_until(|activity| activity.received >= n).await;
    }

    async fn wait_until(&self, reached: impl Fn(&Activity) -> bool) {
        // The sender lives as long as `self`, so there is nothing that could fail.
        let _ = self.0.activity.subscribe().wait_for(|activity| reached(activity)).await;
    }

    /// Answers a request. `address` is the only `Host` that is served, when the builder was not told another one.
    pub(super) fn answer<B>(&self, request: Request<B>, address: Option<Arc<str>>) -> ResponseFuture
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let shared = Arc::clone(&self.0);
        let in_flight = InFlight::enter(&shared.activity);
        ResponseFuture { inner: Box::pin(async move { shared.serve(request, address.as_deref(), in_flight).await }) }
    }
}

impl<B> Service<Request<B>> for SimulatedBackend
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = TransportError;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture {
        self.answer(request, None)
    }
}

impl fmt::Debug for SimulatedBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedBackend")
            .field("name", &self.0.name)
            .field("host", &self.0.host)
            .field("credentials", &self.0.credentials)
            .field("deployments", &self.0.deployments)
            .field("activity", &*self.0.activity.borrow())
            .finish_non_exhaustive()
    }
}

// ===== impl Builder =====

/// Says what a [`SimulatedBackend`] is like.
#[derive(Debug)]
#[must_use]
pub struct Builder {
    name: String,
    region: Option<HeaderValue>,
    host: Option<String>,
    credentials: Credentials,
    deployments: Vec<SimulatedDeployment>,
}

impl Builder {
    /// Accepts this key, as `api-key` or as `Authorization: Bearer`. May be given several times.
    ///
    /// Without any key or [token](Self::bearer), the backend does not look at credentials, except that a request with
    /// more than one of them is always refused.
    pub fn api_key(mut self, key: impl Into<String>) -> Self {
        self.credentials.api_keys.push(key.into());
        self
    }

    /// Accepts this Entra token, as `Authorization: Bearer`. May be given several times.
    pub fn bearer(mut self, token: impl Into<String>) -> Self {
        self.credentials.bearers.push(token.into());
        self
    }

    /// Answers name this region, as Azure displays it (`East US`), in `x-ms-region`. Default: they name none.
    ///
    /// # Panics
    /// When the region is not valid in a header.
    pub fn region(mut self, region: &str) -> Self {
        self.region = Some(region.parse().expect("`Builder::region` takes what is valid in a header"));
        self
    }

    /// Serves only requests whose `Host` (and authority, if they have one) is this; to others the resource does not
    /// exist (404). Without a port, it is served on any.
    ///
    /// Default: any in process, its own address on loopback.
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.host = Some(host.into());
        self
    }

    /// Offers a deployment. One of the same name is replaced.
    pub fn deployment(mut self, deployment: SimulatedDeployment) -> Self {
        self.deployments.retain(|other| other.name() != deployment.name());
        self.deployments.push(deployment);
        self
    }

    /// The backend.
    #[must_use]
    pub fn build(self) -> SimulatedBackend {
        SimulatedBackend(Arc::new(Shared {
            name: self.name,
            region: self.region,
            host: self.host,
            credentials: self.credentials,
            deployments: self.deployments.into_iter().map(|spec| Arc::new(spec.into())).collect(),
            faults: Faults::default(),
            received: Mutex::default(),
            activity: Arc::default(),
            ids: AtomicU64::new(0),
        }))
    }
}

// ===== impl ResponseFuture =====

/// The answer of a [`SimulatedBackend`] that is on its way.
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture {
    inner: Pin<Box<dyn Future<Output = Result<Response<Body>, TransportError>> + Send>>,
}

impl Future for ResponseFuture {
    type Output = Result<Response<Body>, TransportError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.inner.as_mut().poll(cx)
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

// ===== impl Shared =====

impl Shared {
    async fn serve<B>(
        &self,
        request: Request<B>,
        address: Option<&str>,
        mut in_flight: InFlight,
    ) -> Result<Response<Body>, TransportError>
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        let request = receive(request).await?;
        let call = Call::read(&request);
        let fault = self.faults.take(call.as_ref().and_then(Call::deployment));
        let action = fault.as_ref().map(|fault| fault.action);
        if action == Some(Action::Refuse) {
            return Err(TransportError::refused());
        }
        self.log(|received| received.push(request.clone()));

        let mut answer = match action {
            Some(Action::Hang) => std::future::pending().await,
            Some(Action::Reset) => return Err(TransportError::reset()),
            Some(Action::Status(status)) if !status.is_success() => answer::of_status(status),
            Some(Action::Throttle(wait)) => answer::throttled_for(wait),
            _ => self.respond(&request, call.as_ref(), address, &mut in_flight),
        };
        self.sign(&mut answer, &request);
        if let Some(fault) = fault {
            answer.overwrite(fault);
        }

        sleep(answer.latency).await;
        if let Some(Action::SlowHead(delay)) = action {
            sleep(delay).await;
        }
        let body = AnswerBody::new(answer.chunks, answer.streams, in_flight);
        let body = match action {
            Some(Action::CutBody(after)) => body.cut(after),
            Some(Action::SlowBody(pause)) => body.paused(pause),
            _ => body,
        };
        let mut response = Response::new(Body::new(body));
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        Ok(response)
    }

    fn respond(
        &self,
        request: &ReceivedRequest,
        call: Option<&Call>,
        address: Option<&str>,
        in_flight: &mut InFlight,
    ) -> Answer {
        if !self.host.as_deref().or(address).is_none_or(|host| is_for(request, host)) {
            return answer::not_found();
        }
        if let Err(rejection) = self.credentials.check(request) {
            return answer::unauthorized(rejection);
        }
        match call {
            Some(Call::Create(object)) => answer::created(*object, &self.object_id(*object, request)),
            Some(Call::Infer(inference)) => self.infer(inference, in_flight),
            Some(Call::Models) => answer::models(self.deployments.iter().map(|deployment| deployment.model.as_str())),
            None => answer::not_found(),
        }
    }

    fn infer(&self, inference: &Inference, in_flight: &mut InFlight) -> Answer {
        let Some(name) = inference.deployment.as_deref() else {
            return answer::invalid(Some("model"), "You must provide a model parameter.");
        };
        let Some(deployment) = self.deployments.iter().find(|deployment| deployment.name == name) else {
            return if inference.is_v1() { answer::model_not_found(name) } else { answer::deployment_not_found() };
        };

        let now = Instant::now();
        let estimate = inference.estimate();
        let mut limits = deployment.limits();
        // Requests are admitted before they are understood: what fails afterwards counts too.
        let mut answer = match limits.admit(estimate, now) {
            Err(refusal) => answer::refused(refusal, inference),
            Ok(()) => {
                let answer = self.understand(inference, deployment);
                let deployment = Arc::clone(deployment);
                in_flight.spent = Some(Spent { deployment, estimate, actual: answer.used });
                answer
            }
        };
        answer.headers.extend(limits.headers(now));
        if let Ok(name) = HeaderValue::from_str(name) {
            answer.headers.insert("x-ms-deployment-name", name);
        }
        answer
    }

    fn understand(&self, inference: &Inference, deployment: &Deployment) -> Answer {
        let input = inference.operation.input();
        if !inference.payload.is_readable() {
            answer::invalid(None, "We could not parse the JSON body of your request.")
        } else if inference.input().is_none() {
            answer::invalid(Some(input), &format!("'{input}' is a required property."))
        } else {
            let id = format!("{}{}", inference.operation.id_prefix(), self.fresh_id());
            answer::inferred(inference, deployment, &id, &format!("Hello from {}", self.name))
        }
    }

    /// Puts on an answer what every answer carries.
    fn sign(&self, answer: &mut Answer, request: &ReceivedRequest) {
        for name in ["apim-request-id", "x-request-id"] {
            if let Ok(id) = HeaderValue::try_from(self.request_id()) {
                answer.headers.insert(name, id);
            }
        }
        let client_id = request.headers.get("x-ms-client-request-id").or_else(|| answer.headers.get("apim-request-id"));
        if let Some(id) = client_id.cloned() {
            answer.headers.insert("x-ms-client-request-id", id);
        }
        if let Some(region) = &self.region {
            answer.headers.insert("x-ms-region", region.clone());
        }
    }

    fn object_id(&self, object: Object, request: &ReceivedRequest) -> String {
        let prefix = match object {
            Object::Batch => "batch_",
            Object::File if is_for_assistants(&request.body) => "assistant-",
            Object::File => "file-",
            Object::Thread => "thread_",
        };
        format!("{prefix}{}", self.fresh_id())
    }

    /// Never the same twice, and not the same on two backends of different names.
    fn fresh_id(&self) -> String {
        let (backend, number) = self.next_id();
        format!("{backend:016x}{number:08x}")
    }

    fn request_id(&self) -> String {
        let (backend, number) = self.next_id();
        format!("{:08x}-{:04x}-4000-8000-{number:012x}", backend >> 32, backend & 0xffff)
    }

    fn next_id(&self) -> (u64, u64) {
        let mut hasher = DefaultHasher::new();
        self.name.hash(&mut hasher);
        (hasher.finish(), self.ids.fetch_add(1, Ordering::Relaxed))
    }

    fn received(&self) -> MutexGuard<'_, Vec<ReceivedRequest>> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self, change: impl FnOnce(&mut Vec<ReceivedRequest>)) {
        let mut received = self.received();
        change(&mut received);
        self.activity.send_modify(|activity| activity.received = received.len());
    }
}

async fn receive<B>(request: Request<B>) -> Result<ReceivedRequest, TransportError>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(TransportError::request_body)?.to_bytes();
    let http::request::Parts { method, uri, version, headers, .. } = head;
    Ok(ReceivedRequest { method, uri, version, headers, body, at: Instant::now() })
}

/// Whether everything in the request that names a host names this one.
fn is_for(request: &ReceivedRequest, host: &str) -> bool {
    let hosts = request.headers.get_all(header::HOST).iter().map(|host| host.to_str().unwrap_or_default());
    let mut given = hosts.chain(request.uri.authority().map(Authority::as_str)).peekable();
    given.peek().is_some() && given.all(|given| is_same_host(host, given))
}

fn is_same_host(expected: &str, given: &str) -> bool {
    let (Ok(expected), Ok(given)) = (expected.parse::<Authority>(), given.parse::<Authority>()) else { return false };
    expected.host().eq_ignore_ascii_case(given.host())
        && expected.port_u16().is_none_or(|port| given.port_u16() == Some(port))
}

/// Whether the form field `purpose` of an upload says so: such files have ids of another prefix.
fn is_for_assistants(form: &[u8]) -> bool {
    let form = String::from_utf8_lossy(form);
    let purpose = form.split_once("name=\"purpose\"").map(|(_, rest)| rest.trim_start());
    purpose.is_some_and(|purpose| purpose.starts_with("assistants"))
}
