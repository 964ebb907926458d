//! The guard that makes the record when it is dropped.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use tokio::time::Instant;
use tower::BoxError;

use super::layer::Settings;
use super::tape::{Kind, Tape};
use super::{Captured, content};
use crate::answer;
use crate::context::{Client, Ending, Observation, RequestId, Spending};

/// The frames of a request, which two have: who sends it, and who makes the record.
pub(super) type Shared = Arc<Mutex<Tape>>;

/// Notes on one request; written down when this is dropped.
pub(super) struct Watch {
    settings: Settings,
    is_drawn: bool,
    time: SystemTime,
    started: Instant,
    id: RequestId,
    method: Method,
    client: Option<Client>,
    observation: Observation,
    spending: Spending,
    request: Option<Shared>,
    answer: Option<Tape>,
    status: Option<StatusCode>,
    first_byte: Option<Duration>,
    /// A client that is never heard of again has left.
    pub(super) ending: Ending,
}

impl Watch {
    pub(super) fn start<B>(request: &mut Request<B>, settings: &Settings) -> Self {
        let id = request.extensions().get::<Observation>().and_then(Observation::id).cloned();
        let id = id.unwrap_or_else(|| RequestId::of(request.headers()));
        let kind = Kind::of(request.headers());
        let extensions = request.extensions_mut();
        let mut watch = Self {
            is_drawn: settings.draw(),
            settings: settings.clone(),
            time: SystemTime::now(),
            started: Instant::now(),
            id,
            method: Method::GET,
            client: extensions.get::<Client>().cloned().map(Client::without_token),
            observation: extensions.get_or_insert_default::<Observation>().clone(),
            spending: Spending::on(extensions),
            request: None,
            answer: None,
            status: None,
            first_byte: None,
            ending: Ending::Left,
        };
        watch.method = request.method().clone();
        watch.request = watch.tape(kind).map(|tape| Arc::new(Mutex::new(tape)));
        watch
    }

    fn tape(&self, kind: Kind) -> Option<Tape> {
        let reservation = self.settings.account.open(self.client.as_ref().map(Client::id));
        (self.settings.body > 0).then(|| Tape::new(kind, self.is_drawn, reservation))
    }

    /// For whoever sends the request.
    pub(super) fn request(&self) -> Option<Shared> {
        self.request.clone()
    }

    pub(super) fn answered(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.status = Some(status);
        self.first_byte = Some(self.started.elapsed());
        self.answer = self.tape(Kind::of(headers));
    }

    /// Notes what the client will be told instead of an answer.
    pub(super) fn failed(&mut self, error: &BoxError) {
        let told = answer::to_error(error);
        self.answered(told.status(), told.headers());
        if let Some(body) = told.body().as_bytes() {
            self.passed(body);
        }
        self.ending = Ending::Failed;
    }

    /// Notes bytes of the answer's body.
    pub(super) fn passed(&mut self, data: &Bytes) {
        if let Some(tape) = &mut self.answer {
            tape.pass(data);
        }
    }

    fn captured(&mut self) -> Captured {
        Captured {
            time: self.time,
            id: self.id.clone(),
            trace: self.observation.trace().copied(),
            method: self.method.clone(),
            client: self.client.clone(),
            route: self.observation.route().cloned(),
            attempts: self.observation.attempts(),
            status: self.status,
            ending: self.ending,
            spent: self.spending.known(),
            first_byte: self.first_byte,
            total: self.started.elapsed(),
            request: None,
            answer: None,
        }
    }

    fn write(&mut self) {
        let mut captured = self.captured();
        if !self.is_drawn && !captured.is_error() {
            return;
        }
        let (limit, redacts) = (self.settings.body, self.settings.redact.as_deref());
        let content = |tape: &mut Tape| content::of(tape, limit, redacts);
        captured.request = self.request.take().map(|tape| content(&mut lock(&tape)));
        captured.answer = self.answer.take().map(|mut tape| content(&mut tape));
        self.settings.sink.take(&captured);
    }
}

pub(super) fn lock(tape: &Shared) -> MutexGuard<'_, Tape> {
    tape.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Watch {
    fn drop(&mut self) {
        // What redacts and what takes are somebody else's.
        if catch_unwind(AssertUnwindSafe(|| self.write())).is_err() {
            tracing::error!("a request was not captured: its sink, or what redacts, panicked");
        }
    }
}
