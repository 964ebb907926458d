//! Another HTTP client under the layers: reqwest instead of the crate's own.
//!
//! Any `Service<Request<Body>>` sends for a gateway. An adapter turns requests and answers into those of the client, and says what
//! its errors mean where it knows better than "unknown": that decides whether a request may be repeated. Timeouts, redirects and
//! decoding are the client's own matter then, and WebSockets need the crate's client.
//!
//! Here the first of two backends refuses connections, and the second answers.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt;
use tower::{BoxError, Service, ServiceExt, service_fn};
use tower_azure_openai::azure::Outcome;
use tower_azure_openai::body::Body;
use tower_azure_openai::context::AttemptFailed;
use tower_azure_openai::gateway::{self, Gateway};
use tower_azure_openai::pool::{Backend, Credential, Deployment, Pool, Target};
use tower_azure_openai::terminate::TerminateCredentialsLayer;
use tower_azure_openai::testkit::{SimulatedBackend, SimulatedDeployment};

/// The adapter.
fn sending_by(
    client: reqwest::Client,
) -> impl Service<Request<Body>, Response = Response<Body>, Error = BoxError, Future: Send> + Clone {
    service_fn(move |request: Request<Body>| {
        let client = client.clone();
        async move {
            let request = reqwest::Request::try_from(request.map(reqwest::Body::wrap))?;
            let answer = client.execute(request).await.map_err(explained)?;
            let answer = Response::<reqwest::Body>::from(answer);
            Ok(answer.map(|body| Body::new(body.map_err(explained))))
        }
    })
}

/// The error without the address of the backend, and with its meaning where that is known.
fn explained(error: reqwest::Error) -> BoxError {
    let error = error.without_url();
    if error.is_connect() {
        // Nothing was sent, so that another backend may be asked whatever the request does.
        return AttemptFailed::new(Outcome::Unreachable, error).into();
    }
    error.into()
}

fn client() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        .connect_timeout(Duration::from_secs(5))
        // The head of an answer that is not streamed comes after the whole generation.
        .read_timeout(Duration::from_secs(600))
        // A redirect would carry the credential of one backend to another host.
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .build()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let deployment = SimulatedDeployment::standard("gpt-4o");
    let paygo = SimulatedBackend::builder("paygo").api_key("key of paygo").deployment(deployment).build();
    let paygo = paygo.serve().await?;
    // A port that nobody listens on any more refuses connections.
    let gone = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let backend = |name, url: String| {
        let backend = Backend::new(name, url).add_deployment(Deployment::new("gpt-4o"));
        Ok::<_, BoxError>(backend.credential(Credential::api_key(format!("key of {name}"))?))
    };
    let pool = Pool::builder()
        .add_backend(backend("ptu", format!("http://{gone}"))?)
        .add_backend(backend("paygo", paygo.url().to_owned())?.priority(1))
        .build()?;
    let gateway = gateway::builder(pool, TerminateCredentialsLayer::without_clients()).build(sending_by(client()?));
    for stream in [false, true] {
        ask(&gateway, stream).await?;
    }
    Ok(())
}

async fn ask(gateway: &Gateway, stream: bool) -> Result<(), BoxError> {
    let said = format!(r#"{{"messages":[{{"role":"user","content":"Hello"}}],"stream":{stream}}}"#);
    let request = Request::post("/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21")
        .header("content-type", "application/json")
        .body(said)?;
    let answer = gateway.clone().oneshot(request).await?;
    let (parts, body) = answer.into_parts();
    let (status, backend) = (parts.status, parts.extensions.get::<Target>().map_or("nobody", Target::backend));
    let what = if stream { "a stream" } else { "an answer" };
    println!("{status} by {backend}: {what} of {} bytes", body.collect().await?.to_bytes().len());
    if status.is_success() { Ok(()) } else { Err(format!("refused with {status}").into()) }
}
