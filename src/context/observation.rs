use std::ops::Deref;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use std::{fmt, slice};

use http::Extensions;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::{Client, RequestId, Route, Spent, TraceContext};
use crate::azure::{Outcome, asked};
use crate::body::Body;
use crate::pool::Target;

/// Collects what is found out about a request on its way, for whoever put it on the request. Clones share it.
///
/// Put by [`ObserveLayer`](crate::observe::ObserveLayer), unless somebody above wants to read along and has put one.
#[derive(Clone, Debug, Default)]
pub struct Observation(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    id: OnceLock<RequestId>,
    trace: OnceLock<TraceContext>,
    client: OnceLock<Client>,
    /// Call that the path tells of, until the body is read.
    called: OnceLock<Route>,
    route: OnceLock<Route>,
    size: OnceLock<Size>,
    attempts: Mutex<Attempts>,
    spent: Mutex<Option<Spent>>,
}

/// Size of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Size {
    /// Bytes of its body, as far as they were collected.
    pub bytes: u64,
    /// Tokens that its answer may have at most, where a `max_tokens`, `max_completion_tokens` or `max_output_tokens` says so.
    pub max_tokens: Option<u32>,
}

/// One request that was sent to a target.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AttemptRecord {
    /// Target to which it was sent.
    pub target: Target,
    /// Its span, where a [recorder](super::Recorder::trace) traces.
    pub trace: Option<TraceContext>,
    /// Time at which it was sent.
    pub started: Instant,
    /// Outcome up to the head of its answer; `None` when it was given up before that, because the client left.
    ///
    /// A stream that breaks off later is told by the record's [`Ending`](super::Ending).
    pub outcome: Option<Outcome>,
    /// Time to that moment.
    pub duration: Duration,
}

/// The attempts of one request, in their order: a slice of [`AttemptRecord`]s.
#[derive(Clone, Default)]
pub struct Attempts(SmallVec<[AttemptRecord; 1]>);

impl Deref for Attempts {
    type Target = [AttemptRecord];

    fn deref(&self) -> &[AttemptRecord] {
        &self.0
    }
}

impl<'a> IntoIterator for &'a Attempts {
    type Item = &'a AttemptRecord;
    type IntoIter = slice::Iter<'a, AttemptRecord>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Debug for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

impl Observation {
    /// Nothing is known yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The span of the request, where a [recorder](super::Recorder::trace) traces.
    #[must_use]
    pub fn trace(&self) -> Option<&TraceContext> {
        self.0.trace.get()
    }

    /// The id of the request, once somebody observes it.
    #[must_use]
    pub fn id(&self) -> Option<&RequestId> {
        self.0.id.get()
    }

    /// Notes what the request is called; the first to name it is right.
    pub(crate) fn note_id(&self, id: RequestId) {
        let _ = self.0.id.set(id);
    }

    /// The client, once it is known.
    #[must_use]
    pub fn client(&self) -> Option<&Client> {
        self.0.client.get()
    }

    /// Returns what is asked for: by the path as soon as that was read, with what the body says after that.
    #[must_use]
    pub fn route(&self) -> Option<&Route> {
        self.0.route.get().or_else(|| self.0.called.get())
    }

    /// Returns its size, once its body has been read.
    #[must_use]
    pub fn size(&self) -> Option<Size> {
        self.0.size.get().copied()
    }

    /// The attempts that have ended, or were given up, in their order.
    #[must_use]
    pub fn attempts(&self) -> Vec<AttemptRecord> {
        self.0.attempts.lock().unwrap_or_else(PoisonError::into_inner).to_vec()
    }

    /// Takes what the attempts came to, at the end, unless somebody reads along.
    pub(crate) fn take_attempts(&self) -> Attempts {
        if Arc::strong_count(&self.0) > 1 {
            return self.0.attempts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        }
        std::mem::take(&mut self.0.attempts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn tried(&self, attempt: AttemptRecord) {
        self.0.attempts.lock().unwrap_or_else(PoisonError::into_inner).0.push(attempt);
    }

    /// Returns what the request used, as far as that is known.
    #[must_use]
    pub fn spent(&self) -> Option<Spent> {
        *self.0.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what the request used, in place of what was known before.
    pub(super) fn note_spent(&self, spent: Spent) {
        *self.0.spent.lock().unwrap_or_else(PoisonError::into_inner) = Some(spent);
    }

    /// Notes the span of the request.
    pub(crate) fn note_trace(&self, trace: TraceContext) {
        let _ = self.0.trace.set(trace);
    }

    /// Notes who calls.
    pub(crate) fn note_client(extensions: &Extensions) {
        if let (Some(Self(inner)), Some(client)) = (extensions.get(), extensions.get::<Client>()) {
            let _ = inner.client.set(client.clone());
        }
    }

    /// Notes what the path asks for, and who calls if nobody has said so yet.
    pub(crate) fn note_call(extensions: &Extensions, route: &Route) {
        Self::note_client(extensions);
        if let Some(Self(inner)) = extensions.get() {
            let _ = inner.called.set(route.clone());
        }
    }

    /// Notes what is asked for, once all of it is known.
    pub(crate) fn note_route(extensions: &Extensions, route: &Route, body: &Body) {
        if let Some(Self(inner)) = extensions.get() {
            let _ = inner.route.set(route.clone());
            let head = body.head().map(|head| &head[..]).unwrap_or_default();
            let _ = inner.size.set(Size { bytes: head.len() as u64, max_tokens: asked::plain_output(head) });
        }
    }
}
