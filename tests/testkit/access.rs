use http::{HeaderName, HeaderValue};

use super::*;

fn guarded() -> SimulatedBackend {
    SimulatedBackend::builder("eastus")
        .api_key("key-1")
        .api_key("key-2")
        .bearer("token")
        .deployment(SimulatedDeployment::standard("gpt-4o"))
        .build()
}

fn chat_with(credentials: &[(&'static str, &'static str)]) -> Request<Body> {
    let mut request = chat();
    for (name, value) in credentials {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    request
}

#[tokio::test]
async fn accepts_its_own_credentials() {
    for credential in [
        ("api-key", "key-1"),
        ("api-key", "key-2"),
        ("authorization", "Bearer key-2"),
        ("authorization", "bearer token"),
    ] {
        assert_eq!(status(&guarded(), chat_with(&[credential])).await, StatusCode::OK, "{credential:?}");
    }
}

#[tokio::test]
async fn refuses_any_other() {
    for (credentials, blames_token) in [
        (&[][..], true),
        (&[("authorization", "Bearer other")], true),
        (&[("authorization", "Basic key-1")], true),
        (&[("api-key", "other")], false),
        (&[("api-key", "token")], false),
        (&[("api-key", "")], false),
        (&[("ocp-apim-subscription-key", "key-1")], false),
        (&[("api-key", "key-1"), ("api-key", "key-1")], false),
        (&[("api-key", "key-1"), ("authorization", "Bearer token")], false),
    ] {
        let response = send(&guarded(), chat_with(credentials)).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{credentials:?}");
        let body = json(response).await;
        assert_eq!(body["statusCode"] == 401, blames_token, "{credentials:?}: {body}");
        assert_eq!(body["error"]["code"] == "401", !blames_token, "{credentials:?}: {body}");
    }
}

#[tokio::test]
async fn keys_in_the_query_count() {
    let backend = guarded();
    let mut request = chat_with(&[("api-key", "key-1")]);
    *request.uri_mut() = format!("{CHAT}&api-key=key-1").parse().unwrap();
    assert_eq!(status(&backend, request).await, StatusCode::UNAUTHORIZED);
    assert!(backend.requests()[0].uri.query().unwrap().contains("api-key=key-1"), "and are recorded");
}

#[tokio::test]
async fn without_keys_anyone_may_call_with_one_credential() {
    assert_eq!(status(&open(), chat()).await, StatusCode::OK);
    assert_eq!(status(&open(), chat_with(&[("api-key", "any")])).await, StatusCode::OK);
    assert_eq!(status(&open(), post(&format!("{CHAT}&api-key=any"), HELLO)).await, StatusCode::OK);
    let two = chat_with(&[("api-key", "any"), ("authorization", "Bearer any")]);
    assert_eq!(status(&open(), two).await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn serves_its_own_host_only() {
    let backend = SimulatedBackend::builder("eastus")
        .host("contoso.openai.azure.com")
        .deployment(SimulatedDeployment::standard("gpt-4o"))
        .build();
    let own = "https://contoso.openai.azure.com";
    for (base, host, expected) in [
        (own, None, StatusCode::OK),
        ("", Some("Contoso.OpenAI.azure.com:443"), StatusCode::OK),
        (own, Some("contoso.openai.azure.com"), StatusCode::OK),
        (own, Some("gateway.example"), StatusCode::NOT_FOUND),
        ("https://gateway.example", Some("contoso.openai.azure.com"), StatusCode::NOT_FOUND),
        ("", None, StatusCode::NOT_FOUND),
    ] {
        let mut request = post(&format!("{base}{CHAT}"), HELLO);
        if let Some(host) = host {
            request.headers_mut().insert("host", host.parse().unwrap());
        }
        assert_eq!(status(&backend, request).await, expected, "{base} {host:?}");
    }
}

#[tokio::test]
async fn debug_shows_no_key() {
    let backend = guarded();
    let mut request = chat_with(&[("api-key", "key-1"), ("authorization", "Bearer token")]);
    *request.uri_mut() = format!("{CHAT}&api-key=key-2").parse().unwrap();
    send(&backend, request).await;
    let builder = SimulatedBackend::builder("x").api_key("key-1").bearer("token");
    let shown = format!("{backend:?} {:?} {builder:?}", backend.requests());
    assert!(shown.contains("api-key"), "names of headers are shown");
    for secret in ["key-1", "key-2", "\"token\"", "Bearer"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[tokio::test]
async fn more_than_ten_custom_headers_are_too_many() {
    for (count, expected) in [(10, StatusCode::OK), (11, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)] {
        let mut request = chat();
        for i in 0..count {
            request.headers_mut().insert(HeaderName::try_from(format!("x-custom-{i}")).unwrap(), HeaderValue::from(1));
        }
        assert_eq!(status(&open(), request).await, expected, "{count}");
    }
}

#[tokio::test]
async fn the_v1_api_takes_no_dated_version() {
    for (version, expected) in [("preview", StatusCode::OK), ("2025-04-01-preview", StatusCode::BAD_REQUEST)] {
        let uri = format!("/openai/v1/chat/completions?api-version={version}");
        let body = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"Hi"}]}"#;
        assert_eq!(status(&open(), post(&uri, body)).await, expected, "{version}");
    }
}
