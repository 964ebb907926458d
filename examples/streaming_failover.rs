//! A stream that is refused after it has begun, and a client that does not notice.
//!
//! Azure OpenAI sends rate limits also inside streams whose status was 200. Here the first of two simulated backends does so:
//! once before the first word of the answer, where the other backend takes over, and once after it, where nothing can be taken
//! back: the client sees the error, and the gateway learns from it.

use std::convert::Infallible;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_azure_openai::body::Body;
use tower_azure_openai::failover::FailoverLayer;
use tower_azure_openai::forward::ForwardLayer;
use tower_azure_openai::inspect::InspectLayer;
use tower_azure_openai::pool::{Backend, Deployment, Pool, Target};
use tower_azure_openai::respond::RespondLayer;
use tower_azure_openai::select::SelectBackendLayer;
use tower_azure_openai::stream_commit::StreamCommitLayer;
use tower_azure_openai::testkit::{Fault, SimulatedBackend, SimulatedDeployment};

/// Event of the content filter on the prompt; it comes first and is no answer yet.
const FILTER: &str = "data: {\"choices\":[],\"prompt_filter_results\":[]}\n\n";
const WORD: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"Once\"}}]}\n\n";
const REFUSED: &str = "data: {\"error\":{\"code\":\"429\",\"message\":\"Try again in 2 seconds.\"}}\n\n";

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), BoxError> {
    let [first, second] = ["first", "second"].map(|name| {
        let deployment = SimulatedDeployment::standard("gpt-4o");
        SimulatedBackend::builder(name).deployment(deployment).build()
    });
    let faults = first.clone();
    let azure = service_fn(move |request: Request<Body>| match request.uri().host() {
        Some("first.example") => first.clone().oneshot(request),
        _ => second.clone().oneshot(request),
    });
    let pool = pool()?;
    let mut gateway = ServiceBuilder::new()
        .layer(RespondLayer::new())
        .layer(InspectLayer::new())
        .layer(FailoverLayer::new())
        .layer(SelectBackendLayer::new(pool.clone()))
        .layer(StreamCommitLayer::new())
        .layer(ForwardLayer::new())
        .service(azure);

    for (when, stream) in [("before", [FILTER, REFUSED].concat()), ("after", [FILTER, WORD, REFUSED].concat())] {
        println!("The first backend answers 200 and refuses {when} the first word.");
        faults.faults().push(Fault::status(200).header("content-type", "text/event-stream").body(stream));
        println!("The client sees:");
        chat(&mut gateway).await?;
        let wait = pool.status().backends[0].deployments[0].reopens_in_ms.unwrap_or_default();
        println!("The first backend is left alone for {wait} ms.\n");
        tokio::time::advance(Duration::from_millis(wait)).await;
    }
    Ok(())
}

fn pool() -> Result<Pool, BoxError> {
    let backend = |name, priority| {
        let backend = Backend::new(name, format!("https://{name}.example")).priority(priority);
        backend.add_deployment(Deployment::new("gpt-4o"))
    };
    Ok(Pool::builder().add_backend(backend("first", 0)).add_backend(backend("second", 1)).build()?)
}

/// Prints an answer as a client gets it.
async fn chat<S>(gateway: &mut S) -> Result<(), BoxError>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let request = Request::post("/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21")
        .header("content-type", "application/json")
        .body(Body::from(r#"{"messages":[{"role":"user","content":"A story, please"}],"stream":true}"#))?;
    let Ok(answer) = gateway.ready().await?.call(request).await;
    let backend = answer.extensions().get::<Target>().map_or("nobody", Target::backend);
    println!("    {} from the {backend} backend", answer.status());
    let stream = answer.into_body().collect().await?.to_bytes();
    let events = String::from_utf8_lossy(&stream);
    events.lines().filter(|line| !line.is_empty()).for_each(|line| println!("    {line:.110}"));
    Ok(())
}
