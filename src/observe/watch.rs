//! The guard that gives the record when it is dropped.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use http::{Extensions, HeaderMap, Method, Request, StatusCode};
use tokio::time::Instant;
use tracing::Span;
use tracing::field::{Empty, display};

use crate::context::{Ending, Observation, Record, Recorder, RequestId, Spending, TraceContext};

pub(super) type Recorders = Arc<[Arc<dyn Recorder>]>;

/// Notes on one request; its record is given when this is dropped.
pub(super) struct Watch {
    started: Instant,
    recorders: Recorders,
    pub(super) span: Span,
    pub(super) id: RequestId,
    method: Method,
    pub(super) observation: Observation,
    spending: Spending,
    status: Option<StatusCode>,
    first_byte: Option<Duration>,
    first_content: Option<Duration>,
    /// A client that is never heard of again has left.
    pub(super) ending: Ending,
}

impl Watch {
    pub(super) fn start<B>(request: &mut Request<B>, recorders: Recorders) -> Self {
        let id = RequestId::of(request.headers());
        let trace = trace(&recorders, request.headers());
        let extensions: &mut Extensions = request.extensions_mut();
        let observation = extensions.get_or_insert_default::<Observation>().clone();
        let spending = Spending::on(extensions);
        observation.note_id(id.clone());
        let span = tracing::info_span!("request", %id, trace_id = Empty);
        if let Some(trace) = trace {
            observation.note_trace(trace);
            span.record("trace_id", display(format_args!("{:032x}", u128::from_be_bytes(trace.trace_id()))));
        }
        Self {
            started: Instant::now(),
            recorders,
            span,
            id,
            method: request.method().clone(),
            observation,
            spending,
            status: None,
            first_byte: None,
            first_content: None,
            ending: Ending::Left,
        }
    }

    /// Tells whether answers to this request have no body, whatever their head announces.
    pub(super) fn has_no_body(&self) -> bool {
        self.method == Method::HEAD
    }

    pub(super) fn answered(&mut self, status: StatusCode) {
        self.status = Some(status);
        self.first_byte = Some(self.started.elapsed());
    }

    /// Notes bytes of the answer's body.
    pub(super) fn passed(&mut self) {
        if self.first_content.is_none() {
            self.first_content = Some(self.started.elapsed());
        }
    }

    fn record(&self) -> Record {
        Record {
            id: self.id.clone(),
            trace: self.observation.trace().copied(),
            started: self.started,
            method: self.method.clone(),
            client: self.observation.client().cloned(),
            route: self.observation.route().cloned(),
            size: self.observation.size(),
            attempts: self.observation.take_attempts(),
            status: self.status,
            ending: self.ending,
            first_byte: self.first_byte,
            first_content: self.first_content,
            total: self.started.elapsed(),
            spent: self.spending.known(),
        }
    }
}

/// The span of a request, as the first recorder says that traces.
fn trace(recorders: &Recorders, headers: &HeaderMap) -> Option<TraceContext> {
    let caller = TraceContext::of(headers);
    let begin = |recorder: &Arc<dyn Recorder>| {
        let begun = catch_unwind(AssertUnwindSafe(|| recorder.trace(caller.as_ref())));
        begun.unwrap_or_else(|_| {
            tracing::error!("a recorder panicked");
            None
        })
    };
    recorders.iter().find_map(begin)
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.recorders.is_empty() {
            return;
        }
        let _entered = self.span.enter();
        let record = self.record();
        for recorder in &*self.recorders {
            if catch_unwind(AssertUnwindSafe(|| recorder.record(&record))).is_err() {
                tracing::error!("a recorder panicked");
            }
        }
    }
}
