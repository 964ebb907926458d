//! The resource behind the handles, and how it answers.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tower::BoxError;

use super::answer::{self, Answer, Reply};
use super::body::{Activity, AnswerBody, InFlight, Spent};
use super::call::{Call, Inference, query};
use super::credentials::Credentials;
use super::deployment::Deployment;
use super::error::TransportError;
use super::fault::{Action, Faults};
use super::objects::{Family, Objects};
use super::realtime;
use super::received::ReceivedRequest;
use super::sealed;
use crate::body::Body;

/// More of them than this are answered 431, as Azure documents.
const MAX_CUSTOM_HEADERS: usize = 10;

const USUAL_HEADERS: [&str; 11] = [
    "accept",
    "accept-encoding",
    "api-key",
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "host",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

pub(super) struct Resource {
    pub(super) name: String,
    pub(super) region: Option<HeaderValue>,
    pub(super) host: Option<String>,
    pub(super) credentials: Credentials,
    pub(super) deployments: Vec<Arc<Deployment>>,
    pub(super) faults: Faults,
    pub(super) received: Mutex<Vec<ReceivedRequest>>,
    pub(super) activity: Arc<watch::Sender<Activity>>,
    pub(super) ids: AtomicU64,
    pub(super) objects: Objects,
}

impl Resource {
    pub(super) async fn serve<B>(
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
        let action = fault.as_ref().and_then(|fault| fault.action);
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
        let (delay, flow) = fault.as_ref().map_or_else(Default::default, |fault| (fault.delay, fault.flow));
        if let Some(fault) = fault {
            answer.suffer(fault);
        }

        let delay = answer.latency.saturating_add(delay.unwrap_or_default());
        // A timer rounds up to a millisecond, even for no time at all.
        if delay > Duration::ZERO {
            sleep(delay).await;
        }
        if answer.status == StatusCode::SWITCHING_PROTOCOLS {
            let names = self.deployments.iter().map(|deployment| deployment.name.clone()).collect();
            return Ok(realtime::accepted(answer, in_flight, names));
        }
        let body = AnswerBody::new(answer.chunks, answer.streams, flow, in_flight);
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
        if custom_headers(&request.headers) > MAX_CUSTOM_HEADERS {
            return answer::of_status(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        }
        if names_dated_version_on_v1(request) {
            return answer::invalid(None, "API version not supported");
        }
        if let Err(rejection) = self.credentials.check(request) {
            return answer::unauthorized(rejection);
        }
        match call {
            Some(Call::Infer(inference)) => self.infer(inference, in_flight),
            Some(Call::Models) => answer::models(self.deployments.iter().map(|deployment| deployment.model.as_str())),
            Some(Call::Objects(call, payload, page)) => self.objects.serve(call, payload, page, || self.fresh_id()),
            Some(Call::Realtime { deployment, transcribes: true }) if deployment.is_none() => realtime::answer(request),
            Some(Call::Realtime { transcribes: true, .. }) => {
                answer::invalid(Some("model"), "The model of a transcription session stands in its settings.")
            }
            Some(Call::Realtime { deployment, .. }) => self.converse(request, deployment.as_deref()),
            None => answer::not_found(),
        }
    }

    fn converse(&self, request: &ReceivedRequest, deployment: Option<&str>) -> Answer {
        let Some(name) = deployment else {
            return answer::invalid(Some("model"), "You must provide a model parameter.");
        };
        if self.deployments.iter().any(|deployment| deployment.name == name) {
            realtime::answer(request)
        } else {
            answer::deployment_not_found()
        }
    }

    fn infer(&self, inference: &Inference, in_flight: &mut InFlight) -> Answer {
        let known = |id| self.objects.find(Family::Assistant, id).ok_or(id);
        let assistant = match inference.assistant().map(known).transpose() {
            Ok(assistant) => assistant,
            Err(id) => return answer::unknown_object(Family::Assistant, id),
        };
        let of_assistant = assistant.as_ref().and_then(|assistant| assistant["model"].as_str());
        let Some(name) = inference.deployment.as_deref().or(of_assistant) else {
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
        if !inference.is_readable() {
            let kind = if inference.operation.takes_a_form() { "form" } else { "JSON" };
            return answer::invalid(None, &format!("We could not parse the {kind} body of your request."));
        }
        let input = inference.operation.input();
        if inference.input().is_none() {
            return answer::invalid(Some(input), &format!("'{input}' is a required property."));
        }
        if let Some(unknown) = self.objects.unknown_in(&inference.payload) {
            return unknown;
        }
        if sealed::is_foreign(&self.name, &inference.payload) {
            return answer::foreign_content(inference.is_v1());
        }
        if let Some(thread) = &inference.thread
            && self.objects.find(Family::Thread, thread).is_none()
        {
            return answer::unknown_object(Family::Thread, thread);
        }
        let hello = format!("Hello from {}", self.name);
        let id = self.fresh_id();
        let reply = Reply::new(inference, deployment, (&self.name, &id), deployment.says.as_deref().unwrap_or(&hello));
        reply.kept().into_iter().for_each(|made| self.objects.keep(made));
        reply.answer()
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

    pub(super) fn received(&self) -> MutexGuard<'_, Vec<ReceivedRequest>> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn log(&self, change: impl FnOnce(&mut Vec<ReceivedRequest>)) {
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

/// Headers beside those that every client sends.
fn custom_headers(headers: &HeaderMap) -> usize {
    let is_handshake = |name: &str| name.starts_with("sec-websocket-");
    headers.keys().map(HeaderName::as_str).filter(|name| !USUAL_HEADERS.contains(name) && !is_handshake(name)).count()
}

/// The v1 API has versions of its own.
fn names_dated_version_on_v1(request: &ReceivedRequest) -> bool {
    request.uri.path().starts_with("/openai/v1/")
        && query(request, "api-version").any(|version| version.starts_with("20"))
}

/// Tells whether everything in the request that names a host names this one.
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
