//! `ApiVersionLayer` from outside.

#[path = "support/passing.rs"]
mod passing;

use http::{Method, Request, Uri};
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_azure_openai::api_version::ApiVersionLayer;
use tower_azure_openai::context::Route;
use tower_azure_openai::{Error, ErrorKind};

fn request(uri: &str) -> Request<()> {
    Request::post(uri).body(()).expect("a request")
}

/// The URI that arrives below, or what refuses it.
async fn pass(layer: &ApiVersionLayer, request: Request<()>) -> Result<String, Error> {
    let inner = service_fn(async |request: Request<()>| Ok::<_, BoxError>(request.uri().to_string()));
    layer
        .layer(inner)
        .oneshot(request)
        .await
        .map_err(|error| Error::find(error.as_ref()).expect("a cause of the crate").without_source())
}

async fn kind(layer: &ApiVersionLayer, uri: &str) -> ErrorKind {
    pass(layer, request(uri)).await.expect_err("a refusal").kind()
}

fn strict() -> ApiVersionLayer {
    ApiVersionLayer::new().allow(["2024-06-01", "2024-10-21"])
}

#[tokio::test]
async fn without_settings_everything_passes_unchanged() {
    for uri in [
        "/openai/models",
        "/openai/models?",
        "/openai/models?api-version=x&API-VERSION=y",
        "/openai/models?api-version",
    ] {
        assert_eq!(pass(&ApiVersionLayer::new(), request(uri)).await.unwrap(), uri);
    }
}

#[tokio::test]
async fn a_list_holds_for_every_version_that_is_given() {
    for uri in [
        "/openai/models?api-version=2024-10-21",
        "/openai/models?Api-Version=2024-06-01",
        "/openai/models?api%2Dversion=2024%2D10%2D21",
        "/openai/models?a=1&api-version=2024-10-21&api-version=2024-06-01",
        "/openai/models",
        "/openai/models?x-api-version=2023-05-15",
    ] {
        assert_eq!(pass(&strict(), request(uri)).await.unwrap(), uri);
    }
    for query in [
        "api-version=2023-05-15",
        "API-VERSION=2023-05-15",
        "api%2dversion=2023-05-15",
        "%61%50i-version=2023-05-15",
        "api-version=2024-10-21&api-version=2023-05-15",
        "Api-Version=2023-05-15&api-version=2024-10-21",
        "api-version=2024-10-21&a=b&api%2Dversion=2023-05-15",
        "api-version=2024-10-21;api-version=2023-05-15",
        "api-version=2024-10-21-preview",
        "api-version=2024-10-2",
        "api-version=2024-10-21%00",
        "api-version=%202024-10-21",
        "api-version=",
        "api-version",
        "&&api-version=2023-05-15",
    ] {
        let uri = format!("/openai/deployments/gpt-4o/chat/completions?{query}");
        assert_eq!(kind(&strict(), &uri).await, ErrorKind::ApiVersionNotAllowed, "{query}");
    }
}

#[tokio::test]
async fn the_refusal_lists_what_is_allowed_and_not_what_was_sent() {
    let refused = pass(&strict(), request("/openai/models?api-version=sesame")).await.unwrap_err();
    assert_eq!(refused.message(), "The api-version is not allowed here. Allowed: 2024-06-01, 2024-10-21.");
}

#[tokio::test]
async fn the_default_is_added_at_the_end_where_there_is_none() {
    let layer = strict().default_version("2024-10-21");
    for (uri, expected) in [
        ("/openai/models", "/openai/models?api-version=2024-10-21"),
        ("/openai/models?", "/openai/models?api-version=2024-10-21"),
        ("/openai/realtime?deployment=a%2Fb", "/openai/realtime?deployment=a%2Fb&api-version=2024-10-21"),
        ("https://gw.example/openai/models", "https://gw.example/openai/models?api-version=2024-10-21"),
        ("/openai/models?api-version=2024-06-01", "/openai/models?api-version=2024-06-01"),
    ] {
        assert_eq!(pass(&layer, request(uri)).await.unwrap(), expected);
    }
    let odd = ApiVersionLayer::new().default_version("a b&c=d");
    assert_eq!(pass(&odd, request("/openai/models")).await.unwrap(), "/openai/models?api-version=a%20b%26c%3Dd");
    assert_eq!(pass(&odd, request("/openai/models?api-version=")).await.unwrap(), "/openai/models?api-version=");
}

#[tokio::test]
async fn the_route_of_a_changed_request_stays_true() {
    let uri = "/openai/deployments/gpt-4o/chat/completions?a=b";
    let route = Route::parse(&Method::POST, &Uri::from_static(uri)).unwrap();
    let span = route.alias_span().unwrap();
    let mut request = request(uri);
    request.extensions_mut().insert(route);
    let changed = pass(&ApiVersionLayer::new().default_version("v"), request).await.unwrap();
    assert_eq!(&changed[span], "gpt-4o");
    assert!(changed.starts_with(uri), "{changed}");
}

#[tokio::test]
async fn the_v1_api_is_exempt() {
    let layer = strict().default_version("2024-10-21");
    for uri in [
        "/openai/v1/responses",
        "/openai/v1/responses?api-version=preview",
        "/openai/V1/models",
        "/models/embeddings?api-version=2024-05-01-preview",
    ] {
        assert_eq!(pass(&layer, request(uri)).await.unwrap(), uri);
    }
}

#[tokio::test]
async fn a_target_that_has_no_room_for_the_default_is_refused() {
    let layer = ApiVersionLayer::new().default_version("v".repeat(70_000));
    assert_eq!(kind(&layer, "/openai/models").await, ErrorKind::AmbiguousRequest);
}

#[tokio::test]
async fn paths_that_cannot_be_served_are_refused() {
    assert_eq!(kind(&ApiVersionLayer::new(), "/elsewhere").await, ErrorKind::PathNotFound);
    assert_eq!(kind(&ApiVersionLayer::new(), "/openai/../v1/models").await, ErrorKind::AmbiguousRequest);
}

#[tokio::test]
async fn calls_the_inner_service_only_when_it_is_ready() {
    passing::assert_keeps_readiness(strict(), request("/openai/models"));
}

#[test]
fn dropping_the_future_drops_the_request_below() {
    passing::assert_drops_what_is_below(&strict(), request("/openai/models"));
}
