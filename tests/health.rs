//! `Health` from outside: what a reload does to it.
#![allow(clippy::unwrap_used, reason = "the helpers are part of the tests")]

use http::{Method, StatusCode};
use http_body_util::BodyExt;
use tower_azure_openai::health::Health;
use tower_azure_openai::pool::{Backend, Deployment, Pool};

fn pool(name: &str, weight: u32) -> Pool {
    let backend = Backend::new(name, format!("https://{name}.example")).weight(weight);
    Pool::builder().add_backend(backend.add_deployment(Deployment::new("gpt-4o"))).build().unwrap()
}

fn ready(health: &Health) -> StatusCode {
    health.answer(&Method::GET, "/readyz").status()
}

#[tokio::test]
async fn the_health_of_another_pool_drains_together_with_the_first() {
    let before = Health::new(pool("east", 0));
    let after = before.with_pool(pool("west", 1));
    assert_eq!((ready(&before), ready(&after)), (StatusCode::SERVICE_UNAVAILABLE, StatusCode::OK));
    let status = after.answer(&Method::GET, "/status").into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&status).contains("\"west\""));

    for (is_draining, status) in [(true, StatusCode::SERVICE_UNAVAILABLE), (false, StatusCode::OK)] {
        if is_draining {
            before.start_draining()
        } else {
            before.end_draining()
        }
        assert_eq!(ready(&after), status);
        let status = after.answer(&Method::GET, "/status").into_body().collect().await.unwrap().to_bytes();
        let status: serde_json::Value = serde_json::from_slice(&status).unwrap();
        assert_eq!((&status["ready"], &status["draining"]), (&(!is_draining).into(), &is_draining.into()));
    }
}
