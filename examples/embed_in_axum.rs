//! An axum app that has routes of its own gains failover on one of them.
//!
//! Everything under `/openai/` goes to a pool of two backends; `/` stays what it was. The backends here are simulated servers
//! on loopback, and the first is throttled from its second request on, so that the failover can be seen.

use std::net::Ipv4Addr;

use axum::Router;
use axum::routing::{any_service, get};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tower::{BoxError, ServiceExt};
use tower_azure_openai::body::Body;
use tower_azure_openai::client::HttpClient;
use tower_azure_openai::gateway;
use tower_azure_openai::pool::{Backend, Credential, Deployment, Pool};
use tower_azure_openai::terminate::TerminateCredentialsLayer;
use tower_azure_openai::testkit::{SimulatedBackend, SimulatedDeployment, SimulatedServer};
use tower_http::trace::TraceLayer;

/// The app: its own route, and one that fails over.
fn app(pool: Pool, client: HttpClient) -> Router {
    // Whoever may reach the route may call: who that is, is the app's own matter.
    let openai = gateway::builder(pool, TerminateCredentialsLayer::without_clients()).build(client);
    Router::new()
        .route("/", get(|| async { "the app's own page" }))
        .route("/openai/{*path}", any_service(openai))
        // What the app had around its routes stays around all of them.
        .layer(TraceLayer::new_for_http())
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let [ptu, paygo] = backends().await?;
    let pool = Pool::builder()
        .add_backend(
            Backend::new("ptu", ptu.url())
                .credential(Credential::api_key("key of ptu")?)
                .add_deployment(Deployment::new("gpt-4o-ptu").alias("gpt-4o")),
        )
        .add_backend(
            Backend::new("paygo", paygo.url())
                .credential(Credential::api_key("key of paygo")?)
                .priority(1)
                .add_deployment(Deployment::new("gpt-4o")),
        )
        .build()?;
    let client = HttpClient::builder().build()?;

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let url = format!("http://{}", listener.local_addr()?);
    let (stop, stopped) = oneshot::channel::<()>();
    let serving =
        axum::serve(listener, app(pool, client.clone())).with_graceful_shutdown(async { stopped.await.unwrap_or(()) });
    let serving = tokio::spawn(serving.into_future());

    println!("GET /: {}", call(&client, Request::get(format!("{url}/")).body(Body::empty())?).await?);
    for _ in 0..3 {
        let chat = Request::post(format!("{url}/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"))
            .header("content-type", "application/json")
            .body(Body::from(r#"{"messages":[{"role":"user","content":"Hello"}]}"#))?;
        println!("POST /openai/…: {}", call(&client, chat).await?);
    }

    // Kept connections would hold a graceful shutdown up.
    drop(client);
    let _ = stop.send(());
    Ok(serving.await??)
}

/// Two Azure OpenAI resources; the first has room for one request a minute.
async fn backends() -> std::io::Result<[SimulatedServer; 2]> {
    let ptu = SimulatedBackend::builder("ptu")
        .api_key("key of ptu")
        .deployment(SimulatedDeployment::standard("gpt-4o-ptu").requests_per_minute(1));
    let paygo =
        SimulatedBackend::builder("paygo").api_key("key of paygo").deployment(SimulatedDeployment::standard("gpt-4o"));
    Ok([ptu.build().serve().await?, paygo.build().serve().await?])
}

async fn call(client: &HttpClient, request: Request<Body>) -> Result<String, BoxError> {
    let answer = client.clone().oneshot(request).await?;
    let status = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();
    let said = serde_json::from_slice::<serde_json::Value>(&body).ok();
    let said = said.as_ref().and_then(|json| json.pointer("/choices/0/message/content")?.as_str());
    let text = said.map_or_else(|| String::from_utf8_lossy(&body).into_owned(), str::to_owned);
    match status {
        StatusCode::OK => Ok(format!("200, \"{text}\"")),
        status => Err(format!("{status}: {text}").into()),
    }
}
