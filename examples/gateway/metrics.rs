//! `/metrics`, and what only this program can tell there.

use http::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use tower_azure_openai::body::Body;
use tower_azure_openai::capture::JsonLines;
use tower_azure_openai::context::Client;
use tower_azure_openai::limit::{Balance, Left, Limit};
use tower_azure_openai::metrics::{Exposition, MetricsRecorder, Samples};
use tower_azure_openai::otel::Otlp;
use tower_azure_openai::pool::Priority;

use crate::config::Config;
use crate::kept::Kept;
use crate::loops::Dealer;
use crate::{output, wiring};

pub(crate) const PATH: &str = "/metrics";

/// Answers a scraper.
pub(crate) fn answer<B>(metrics: &MetricsRecorder, request: &Request<B>) -> Response<Body> {
    let mut answer = Response::new(Body::empty());
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        *answer.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return answer;
    }
    let exposition = Exposition::accepted(request.headers().get(ACCEPT));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(exposition.content_type()));
    if request.method() == Method::GET {
        *answer.body_mut() = metrics.text(exposition).into();
    }
    answer
}

/// Has the metrics tell what this program knows beside what requests come to.
pub(crate) fn tell(metrics: &MetricsRecorder, config: &Config, kept: &Kept) {
    let (clients, accounts) = (wiring::clients(config), kept.accounts());
    metrics.add_gauge("gateway_limit_remaining", "What clients have left of their limits", move || {
        let of = |client: &Client| remaining(client.id(), &accounts.left(client));
        clients.iter().flat_map(of).collect()
    });
    let (clients, limits) = (wiring::clients(config), kept.limits());
    metrics.add_counter("gateway_limit_refused", "Requests of clients that were above a limit", move || {
        let refused = clients.iter().flat_map(|client| {
            let of = |(limit, count)| (labels(client.id(), limit), count as f64);
            limits.refused(client.id()).into_iter().map(of)
        });
        refused.collect()
    });
    let shared = kept.shared();
    metrics.add_gauge("gateway_shared_state_up", "Whether what replicas share is within reach", move || {
        shared.iter().map(|shared| (vec![], f64::from(u8::from(shared.is_up())))).collect()
    });
    metrics.add_counter("gateway_log_dropped", "Lines of the log that nobody took", || {
        vec![(vec![], output::dropped() as f64)]
    });
    let captures = kept.captures().cloned();
    let collector = kept.collector().cloned();
    metrics.add_counter("gateway_capture_dropped", "Captures that could not be written or sent", move || {
        let unsent = collector.as_ref().map_or(0, Otlp::dropped_logs);
        vec![(vec![], (captures.as_ref().map_or(0, JsonLines::dropped) + unsent) as f64)]
    });
    let collector = kept.collector().cloned();
    metrics.add_counter("gateway_otlp_dropped", "Spans and log records that no collector took", move || {
        let of = |collector: &Otlp| [("logs", collector.dropped_logs()), ("traces", collector.dropped_spans())];
        let dropped = collector.iter().flat_map(of);
        dropped.map(|(signal, count)| (vec![("signal", signal.to_owned())], count as f64)).collect()
    });
    let shed = kept.shed();
    metrics.add_counter("gateway_shed", "Requests that were refused because the gateway was nearly full", move || {
        let of = |priority: Priority| (vec![("priority", priority.as_str().to_owned())], shed.shed(priority) as f64);
        Priority::ALL.map(of).to_vec()
    });
    let inspect = kept.inspect();
    metrics.add_gauge("gateway_replay_memory_bytes", "What collected request bodies hold", move || {
        vec![(vec![], inspect.replay_memory_in_use() as f64)]
    });
}

/// Tells how evenly the loops are used.
pub(crate) fn tell_of_loops(metrics: &MetricsRecorder, dealer: &Dealer) {
    let of = dealer.clone();
    metrics.add_gauge("gateway_loop_connections", "Connections of clients, by event loop", move || of.connections());
    let of = dealer.clone();
    metrics.add_gauge("gateway_loop_requests", "Requests that run, by event loop", move || of.requests());
}

fn remaining(client: &str, left: &Balance) -> Samples {
    let of = |limit, left: Option<Left>| left.map(|left| (labels(client, limit), left.count as f64));
    let left = [
        of(Limit::RequestsPerMinute, left.requests),
        of(Limit::TokensPerDay, left.tokens_today),
        of(Limit::TokensPerMinute, left.tokens),
    ];
    left.into_iter().flatten().collect()
}

fn labels(client: &str, limit: Limit) -> Vec<(&'static str, String)> {
    vec![("client", client.to_owned()), ("limit", limit.as_str().to_owned())]
}
