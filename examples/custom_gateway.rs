//! A gateway stacked by hand, for those whom `gateway::builder` does not fit: who may call is a closure, the share of each
//! backend is its weight, a small budget limits what failures may cost, circuits open sooner, and a layer of another crate
//! stands among ours.
//!
//! The two backends are simulated, in this process, and one of them breaks on the way.

use std::convert::Infallible;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt;
use tower::util::MapResponseLayer;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_azure_openai::authorize::AuthorizeLayer;
use tower_azure_openai::body::Body;
use tower_azure_openai::context::Client;
use tower_azure_openai::failover::{FailoverLayer, RetryBudget};
use tower_azure_openai::forward::ForwardLayer;
use tower_azure_openai::inspect::InspectLayer;
use tower_azure_openai::pool::{Backend, CircuitConfig, Credential, Deployment, Pool, Target};
use tower_azure_openai::reissue::ReissueCredentialsLayer;
use tower_azure_openai::respond::RespondLayer;
use tower_azure_openai::select::{SelectBackendLayer, Weighted};
use tower_azure_openai::terminate::{Presented, TerminateCredentialsLayer};
use tower_azure_openai::testkit::{Fault, SimulatedBackend, SimulatedDeployment};

/// Keys of the form `team:secret`. A real one would ask a directory, or check a signature.
fn team_of(presented: &Presented) -> Option<Client> {
    let (team, secret) = std::str::from_utf8(presented.secret()).ok()?.split_once(':')?;
    (secret == "open sesame").then(|| Client::new(team).allow(["gpt-4o"]))
}

/// Tells whoever looks at the answer which backend gave it.
fn name_backend(mut answer: Response<Body>) -> Response<Body> {
    let name = answer.extensions().get::<Target>().and_then(|target| target.backend().parse().ok());
    if let Some(name) = name {
        answer.headers_mut().insert("x-served-by", name);
    }
    answer
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let [east, west] = ["east", "west"].map(|name| {
        let deployment = SimulatedDeployment::standard("gpt-4o");
        SimulatedBackend::builder(name).api_key("key of the backend").deployment(deployment).build()
    });
    let azure = {
        let (east, west) = (east.clone(), west.clone());
        service_fn(move |request: Request<Body>| match request.uri().host() {
            Some("east.example") => east.clone().oneshot(request),
            _ => west.clone().oneshot(request),
        })
    };

    let mut gateway = ServiceBuilder::new()
        .layer(MapResponseLayer::new(name_backend))
        .layer(RespondLayer::new())
        .layer(TerminateCredentialsLayer::new(team_of))
        .layer(InspectLayer::new().request_body(1024 * 1024).replay_memory(16 * 1024 * 1024))
        .layer(AuthorizeLayer::new())
        // Two attempts at most, and one retry for every ten requests on top of the reserve.
        .layer(FailoverLayer::new().attempts(2).budget(RetryBudget::new(0.1)))
        .layer(SelectBackendLayer::new(pool()?).with_policy(Weighted::default()))
        .layer(ForwardLayer::new())
        .layer(ReissueCredentialsLayer::new())
        .service(azure);

    println!("Four requests by weight, 3 to 1:");
    for _ in 0..4 {
        println!("  {}", chat(&mut gateway, "gpt-4o", "team-a:open sesame").await?);
    }
    println!("A wrong key, and a deployment that the team may not use:");
    println!("  {}", chat(&mut gateway, "gpt-4o", "team-a:guess").await?);
    println!("  {}", chat(&mut gateway, "o3", "team-a:open sesame").await?);

    println!("The east breaks; after two failures nobody asks it any more:");
    east.faults().always(Fault::status(500));
    east.clear_requests();
    for _ in 0..6 {
        println!("  {}", chat(&mut gateway, "gpt-4o", "team-a:open sesame").await?);
    }
    println!("  of these six, the east saw {}", east.request_count());
    Ok(())
}

fn pool() -> Result<Pool, BoxError> {
    let mut circuit = CircuitConfig::default();
    circuit.consecutive_failures = 2;
    circuit.default_open = Duration::from_secs(30);
    let backend = |name: &str, weight| {
        let credential = Credential::api_key("key of the backend")?;
        let backend = Backend::new(name, format!("https://{name}.example")).credential(credential).weight(weight);
        Ok::<_, BoxError>(backend.add_deployment(Deployment::new("gpt-4o")))
    };
    Ok(Pool::builder().circuit(circuit).add_backend(backend("east", 3)?).add_backend(backend("west", 1)?).build()?)
}

async fn chat<S>(gateway: &mut S, alias: &str, key: &str) -> Result<String, BoxError>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let request = Request::post(format!("/openai/deployments/{alias}/chat/completions?api-version=2024-10-21"))
        .header("api-key", key)
        .header("content-type", "application/json")
        .body(Body::from(r#"{"messages":[{"role":"user","content":"Hello"}]}"#))?;
    let Ok(answer) = gateway.ready().await?.call(request).await;
    let (head, body) = answer.into_parts();
    let body: serde_json::Value = serde_json::from_slice(&body.collect().await?.to_bytes())?;
    let shown = match head.headers.get("x-served-by") {
        Some(backend) => format!("served by {}", backend.to_str()?),
        None => body.pointer("/error/code").and_then(|code| code.as_str()).unwrap_or("no code").to_owned(),
    };
    Ok(format!("{} {shown}", head.status))
}
