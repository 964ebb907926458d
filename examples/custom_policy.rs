//! A policy of your own, and its tests.
//!
//! A policy is a function over a `Choice` (route, client, eligible targets) that returns an index. This one is for a provisioned backend
//! and a metered one of the same priority: the provisioned backend has paid for itself, so it gets all requests until it is
//! busy with [`BUSY`] of them; from then on whoever has fewer gets the next.
//!
//! The tests below run it in the real stack against simulated backends, in virtual time and without a network:
//! `cargo test --example custom_policy`.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use futures_util::future::join_all;
use http::{Request, Response};
use http_body_util::BodyExt;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_azure_openai::body::Body;
use tower_azure_openai::failover::FailoverLayer;
use tower_azure_openai::forward::ForwardLayer;
use tower_azure_openai::pool::{Backend, Deployment, Pool, Target};
use tower_azure_openai::respond::RespondLayer;
use tower_azure_openai::select::{Choice, SelectBackendLayer};
use tower_azure_openai::testkit::{SimulatedBackend, SimulatedDeployment};

/// So many requests at once make the provisioned backend busy.
const BUSY: u32 = 3;

/// The policy.
fn prefer_provisioned(choice: &Choice<'_>) -> usize {
    let eligible = choice.candidates();
    let idle = |target: &&Target| target.backend() == "ptu" && target.in_flight() < BUSY;
    let fewest = || (0..eligible.len()).min_by_key(|i| eligible[*i].in_flight());
    eligible.iter().position(idle).or_else(fewest).unwrap_or(0)
}

/// Two backends that take a second for each answer, and the stack in front of them.
fn gateway(ptu: &SimulatedBackend, paygo: &SimulatedBackend) -> Result<impl Chat, BoxError> {
    let backend =
        |name| Backend::new(name, format!("https://{name}.example")).add_deployment(Deployment::new("gpt-4o"));
    let pool = Pool::builder().add_backend(backend("ptu")).add_backend(backend("paygo")).build()?;
    let (ptu, paygo) = (ptu.clone(), paygo.clone());
    let azure = service_fn(move |request: Request<Body>| match request.uri().host() {
        Some("ptu.example") => ptu.clone().oneshot(request),
        _ => paygo.clone().oneshot(request),
    });
    Ok(ServiceBuilder::new()
        .layer(RespondLayer::new())
        .layer(FailoverLayer::new())
        .layer(SelectBackendLayer::new(pool).with_policy(prefer_provisioned))
        .layer(ForwardLayer::new())
        .service(azure))
}

fn backend(name: &str) -> SimulatedBackend {
    let deployment = SimulatedDeployment::standard("gpt-4o").latency(Duration::from_secs(1));
    SimulatedBackend::builder(name).deployment(deployment).build()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let (ptu, paygo) = (backend("ptu"), backend("paygo"));
    let gateway = gateway(&ptu, &paygo)?;
    for at_once in [1, 3, 8] {
        ptu.clear_requests();
        paygo.clear_requests();
        join_all((0..at_once).map(|_| gateway.chat())).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        println!("{at_once} at once: ptu served {}, paygo {}", ptu.request_count(), paygo.request_count());
    }
    Ok(())
}

/// Answers chat requests.
trait Chat {
    /// Returns what the assistant said.
    fn chat(&self) -> impl Future<Output = Result<String, BoxError>>;
}

impl<S> Chat for S
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone,
{
    async fn chat(&self) -> Result<String, BoxError> {
        let request = Request::post("/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21")
            .body(Body::from(r#"{"messages":[{"role":"user","content":"Hello"}]}"#))?;
        let Ok(answer) = self.clone().oneshot(request).await;
        let answer: serde_json::Value = serde_json::from_slice(&answer.into_body().collect().await?.to_bytes())?;
        let said = answer.pointer("/choices/0/message/content").and_then(|content| content.as_str());
        Ok(said.ok_or("no answer")?.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;
    use tower_azure_openai::testkit::Fault;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_provisioned_backend_serves_alone_until_it_is_busy() {
        let (ptu, paygo) = (backend("ptu"), backend("paygo"));
        let gateway = gateway(&ptu, &paygo).unwrap();
        for _ in 0..10 {
            assert_eq!(gateway.chat().await.unwrap(), "Hello from ptu");
        }
        join_all((0..BUSY).map(|_| gateway.chat())).await;
        assert_eq!(paygo.request_count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn above_that_both_are_equally_busy() {
        let (ptu, paygo) = (backend("ptu"), backend("paygo"));
        let gateway = gateway(&ptu, &paygo).unwrap();
        join_all((0..20).map(|_| gateway.chat())).await;
        assert_eq!((ptu.request_count(), paygo.request_count()), (10, 10));
    }

    #[tokio::test(start_paused = true)]
    async fn it_spills_over_while_the_provisioned_backend_is_throttled_and_no_longer() {
        let (ptu, paygo) = (backend("ptu"), backend("paygo"));
        let gateway = gateway(&ptu, &paygo).unwrap();
        ptu.faults().push(Fault::throttled_for(Duration::from_secs(20)));
        assert_eq!(gateway.chat().await.unwrap(), "Hello from paygo", "refused by the first, served by the second");
        assert_eq!(gateway.chat().await.unwrap(), "Hello from paygo");
        assert_eq!(ptu.request_count(), 1, "not asked while its hint lasts");
        advance(Duration::from_secs(20)).await;
        assert_eq!(gateway.chat().await.unwrap(), "Hello from ptu");
    }
}
