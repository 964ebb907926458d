//! The admin listener: who may ask, and for what.

use http::Request;
use tower_azure_openai::body::Body;

use crate::http_support::{Answer, get, raw, send};
use crate::process::{self, Gateway, LISTEN, file, is, run};
use crate::{KEY, gateway_before, serve};

async fn asked(url: &str, headers: &[(&str, &str)]) -> Answer {
    let request = headers.iter().fold(Request::get(url), |request, (name, value)| request.header(*name, *value));
    send(request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn a_name_that_is_not_its_own_is_refused() {
    let (_east, server) = serve("east").await;
    let config = ["admin_hosts = [\"gateway.internal\"]\n", LISTEN, &process::backends(&[("east", &server.url())])];
    let mut gateway = Gateway::start(&[&config.concat(), &*process::client(KEY)].concat()).await;
    let admin = gateway.admin().await;
    for (host, status) in [
        ("127.0.0.1", 200),
        ("127.0.0.1:9090", 200),
        ("10.1.2.3:1", 200),
        ("[::1]:9090", 200),
        ("localhost", 200),
        ("LocalHost:9090", 200),
        ("gateway.internal:9090", 200),
        ("Gateway.Internal", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example", 421),
        ("internal", 421),
    ] {
        assert_eq!(asked(&format!("{admin}/status"), &[("host", host)]).await.status, status, "{host}");
    }
    for (head, status) in
        [("GET /livez HTTP/1.0\r\n\r\n", "200"), ("GET /livez HTTP/1.1\r\nconnection: close\r\n\r\n", "421")]
    {
        let answer = raw(&admin, head.as_bytes()).await;
        assert_eq!(answer.get(9..12), Some(status), "{answer}");
    }
}

#[tokio::test]
async fn another_site_is_refused() {
    let (_east, server) = serve("east").await;
    let mut gateway = gateway_before(&server, "").await;
    let admin = gateway.admin().await;
    for (site, status) in [("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)] {
        for path in ["/status", "/livez"] {
            let answer = asked(&format!("{admin}{path}"), &[("sec-fetch-site", site)]).await;
            assert_eq!(answer.status, status, "{site}");
        }
    }
}

#[tokio::test]
async fn what_is_read_is_not_posted_and_the_api_is_elsewhere() {
    let (_east, server) = serve("east").await;
    let mut gateway = gateway_before(&server, "").await;
    let admin = gateway.admin().await;
    for (path, status) in
        [("/livez", 405), ("/readyz", 405), ("/status", 405), ("/nothing", 404), ("/openai/v1/responses", 404)]
    {
        let answer = send(Request::post(format!("{admin}{path}")).body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, status, "{path}");
    }
}

#[tokio::test]
async fn a_token_is_asked_for_where_there_is_one() {
    let (_east, server) = serve("east").await;
    let token = "token-of-the-operator";
    let config = |token: &str| {
        let head = format!("admin_token = \"{token}\"\n");
        [&*head, LISTEN, &process::backends(&[("east", &server.url())]), &process::client(KEY)].concat()
    };
    let mut gateway = Gateway::start(&config(token)).await;
    let admin = gateway.admin().await;
    for path in ["/livez", "/readyz"] {
        assert_eq!(get(format!("{admin}{path}")).await.status, 200);
    }
    for (shown, status) in [
        (format!("Bearer {token}"), 200),
        (format!("bearer {token}"), 200),
        (token.to_owned(), 401),
        (format!("Basic {token}"), 401),
        (format!("Bearer {KEY}"), 401),
        ("Bearer ".to_owned(), 401),
    ] {
        let answer = asked(&format!("{admin}/status"), &[("authorization", &shown)]).await;
        assert_eq!(answer.status, status, "{shown}");
    }
    let answer = get(format!("{admin}/status")).await;
    assert_eq!((answer.status.as_u16(), answer.header("www-authenticate")), (401, Some("Bearer")));
    assert_eq!(get(format!("{admin}/nothing")).await.status, 401);

    let short = file(&config("short"));
    let (status, _, stderr) = run(&["--check".as_ref(), "--config".as_ref(), short.as_os_str()]).await;
    assert_eq!(status, Some(2));
    assert!(stderr.contains("admin_token: must be 16 characters or more"), "{stderr}");
}

#[tokio::test]
async fn a_request_without_a_host_is_refused_by_the_gateway() {
    let (east, server) = serve("east").await;
    let gateway = gateway_before(&server, "").await;
    let head = format!("GET /openai/v1/models HTTP/1.1\r\napi-key: {KEY}\r\nconnection: close\r\n\r\n");
    let answer = raw(&gateway.url, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("ambiguous_request"), "{answer}");
    let trace = Request::builder().method("TRACE").uri(format!("{}/openai/v1/files", gateway.url));
    is(&send(trace.header("api-key", KEY).body(Body::empty()).unwrap()).await, 405, "method_not_allowed");
    for coding in ["gzip, chunked", "cow, chunked"] {
        let head =
            format!("POST /openai/v1/files HTTP/1.1\r\nhost: x\r\napi-key: {KEY}\r\ntransfer-encoding: {coding}");
        let answer = raw(&gateway.url, format!("{head}\r\n\r\n0\r\n\r\n").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 501 ") && answer.contains("not_supported"), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    }
    assert_eq!(east.request_count(), 0);
}
