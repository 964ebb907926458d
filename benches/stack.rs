//! What each layer of the default stack costs for one request: time and allocations. No network, no I/O.
//!
//! The request is a chat completion with 1.4 KB of JSON and the headers of a client library; below the stack stands a service
//! that answers 200 at once. The stack grows from the outside in, so that every layer finds what those above it put into the
//! request, and what a row adds to the row above is the share of its layer. The answer is read to its end.

mod common;

use std::cell::RefCell;
use std::convert::Infallible;
use std::time::Duration;

use criterion::Criterion;
use http::Response;
use tokio::time::Instant;
use tower::{BoxError, Service, ServiceBuilder};
use tower_azure_openai::authorize::AuthorizeLayer;
use tower_azure_openai::azure::operation::Surface;
use tower_azure_openai::body::Body;
use tower_azure_openai::failover::FailoverLayer;
use tower_azure_openai::forward::ForwardLayer;
use tower_azure_openai::gateway;
use tower_azure_openai::inspect::InspectLayer;
use tower_azure_openai::models::ListModelsLayer;
use tower_azure_openai::reissue::ReissueCredentialsLayer;
use tower_azure_openai::respond::RespondLayer;
use tower_azure_openai::select::SelectBackendLayer;
use tower_azure_openai::session::StickySessionLayer;
use tower_azure_openai::stream_commit::StreamCommitLayer;
use tower_azure_openai::terminate::TerminateCredentialsLayer;
use tower_azure_openai::upgrade::UpgradeLayer;

use common::{Inbound, NoOp, clients, drive, pool, request};

/// Requests are made in portions outside the clock.
const PORTION: u64 = 256;

fn main() -> Result<(), BoxError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    // Nothing here waits, but the timeout of an attempt wants to know its timer.
    let _entered = runtime.enter();
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let report = Report { request: request(Surface::Classic)?, rows: RefCell::default() };

    let pool = pool()?;
    let respond = RespondLayer::new();
    let terminate = TerminateCredentialsLayer::new(clients()?);
    let inspect = InspectLayer::new();
    let authorize = AuthorizeLayer::new();
    let models = ListModelsLayer::new(pool.clone());
    let session = StickySessionLayer::new(pool.clone());
    let failover = FailoverLayer::new();
    let select = SelectBackendLayer::new(pool.clone());
    let stream_commit = StreamCommitLayer::new();
    let forward = ForwardLayer::new();
    let reissue = ReissueCredentialsLayer::new();

    report.row(&mut criterion, "bare service", NoOp);
    let stack = ServiceBuilder::new().layer(respond);
    report.row(&mut criterion, "+ respond", stack.clone().service(NoOp));
    let stack = stack.layer(UpgradeLayer::new());
    report.row(&mut criterion, "+ upgrade", stack.clone().service(NoOp));
    let stack = stack.layer(terminate.clone());
    report.row(&mut criterion, "+ terminate", stack.clone().service(NoOp));
    let stack = stack.layer(inspect);
    report.row(&mut criterion, "+ inspect", stack.clone().service(NoOp));
    let stack = stack.layer(authorize);
    report.row(&mut criterion, "+ authorize", stack.clone().service(NoOp));
    let stack = stack.layer(models);
    report.row(&mut criterion, "+ models", stack.clone().service(NoOp));
    let stack = stack.layer(session);
    report.row(&mut criterion, "+ session", stack.clone().service(NoOp));
    let stack = stack.layer(failover);
    report.row(&mut criterion, "+ failover", stack.clone().service(NoOp));
    let stack = stack.layer(select);
    report.row(&mut criterion, "+ select", stack.clone().service(NoOp));
    let stack = stack.layer(stream_commit);
    report.row(&mut criterion, "+ stream commit", stack.clone().service(NoOp));
    let stack = stack.layer(forward);
    report.row(&mut criterion, "+ forward", stack.clone().service(NoOp));
    let stack = stack.layer(reissue);
    report.row(&mut criterion, "+ reissue", stack.service(NoOp));
    let gateway = gateway::builder(pool, terminate).build(NoOp);
    report.row(&mut criterion, "gateway::builder", gateway.clone());
    report.row_of(&mut criterion, "the same by v1", gateway, &request(Surface::V1)?);
    report.row(&mut criterion, "+ usage, records", common::gateway(NoOp)?);

    report.print();
    criterion.final_summary();
    Ok(())
}

// ===== what is reported =====

struct Report {
    request: Inbound,
    rows: RefCell<Vec<Row>>,
}

struct Row {
    name: &'static str,
    allocations: u64,
    /// The best sample; what disturbs a measurement only ever adds.
    time: Duration,
}

impl Report {
    fn row<S>(&self, criterion: &mut Criterion, name: &'static str, service: S)
    where
        S: Service<Inbound, Response = Response<Body>, Error = Infallible>,
    {
        self.row_of(criterion, name, service, &self.request);
    }

    fn row_of<S>(&self, criterion: &mut Criterion, name: &'static str, mut service: S, asked: &Inbound)
    where
        S: Service<Inbound, Response = Response<Body>, Error = Infallible>,
    {
        drive(&mut service, asked.clone());
        let request = asked.clone();
        let allocations = allocation_counter::measure(|| drive(&mut service, request)).count_total;
        let mut time = Duration::MAX;
        criterion.benchmark_group("stack").bench_function(name, |bencher| {
            bencher.iter_custom(|requests| {
                let sample = sample(&mut service, asked, requests);
                time = time.min(sample.div_f64(requests as f64));
                sample
            });
        });
        self.rows.borrow_mut().push(Row { name, allocations, time });
    }

    fn print(&self) {
        println!("{:<18}{:>9}{:>8}{:>14}{:>8}", "", "ns", "added", "allocations", "added");
        let (mut ns_above, mut allocations_above) = (0, 0);
        for Row { name, allocations, time } in self.rows.borrow().iter() {
            let (ns, allocations) =
                (i64::try_from(time.as_nanos()).unwrap_or(i64::MAX), i64::try_from(*allocations).unwrap_or(i64::MAX));
            println!("{name:<18}{ns:>9}{:>+8}{allocations:>14}{:>+8}", ns - ns_above, allocations - allocations_above);
            (ns_above, allocations_above) = (ns, allocations);
        }
    }
}

fn sample<S>(service: &mut S, asked: &Inbound, mut requests: u64) -> Duration
where
    S: Service<Inbound, Response = Response<Body>, Error = Infallible>,
{
    let mut sample = Duration::ZERO;
    while requests > 0 {
        let portion: Vec<_> = (0..requests.min(PORTION)).map(|_| asked.clone()).collect();
        requests -= portion.len() as u64;
        let start = Instant::now();
        portion.into_iter().for_each(|request| drive(service, request));
        sample += start.elapsed();
    }
    sample
}
