//! Calls from browser applications.

use http::{Method, Request};
use tokio_tungstenite::tungstenite::Error;
use tower_azure_openai::body::Body;

use crate::http_support::{Answer, CHAT, HELLO, chat_head, raw, send, serve as answer_with};
use crate::process::{self, Gateway, LISTEN};
use crate::websocket::{V1, close, is_echoed, open};
use crate::{KEY, gateway_before, serve};

const APP: &str = "https://app.example";
const CORS: &str = "[cors]\norigins = [\"https://app.example\", \"http://localhost:3000\"]\n";

async fn preflight(url: &str, path: &str, origin: &str, headers: &str) -> Answer {
    let request = Request::options(format!("{url}{path}"))
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", headers);
    send(request.body(Body::empty()).unwrap()).await
}

/// From a page.
fn call(method: Method, url: String, origin: &str, key: &str, body: &'static str) -> Request<Body> {
    let request = Request::builder().method(method).uri(url).header("origin", origin).header("api-key", key);
    request.header("content-type", "application/json").body(Body::from(body)).unwrap()
}

#[tokio::test]
async fn a_preflight_needs_no_key_and_reaches_nobody() {
    let (east, server) = serve("east").await;
    let gateway = gateway_before(&server, CORS).await;
    for (path, origin) in
        [(CHAT, APP), ("/openai/v1/files/file-1", APP), ("/openai/v1/responses", "http://localhost:3000")]
    {
        let asked = "authorization,content-type,x-stainless-retry-count";
        let answer = preflight(&gateway.url, path, origin, asked).await;
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (204, ""));
        assert_eq!(answer.header("access-control-allow-origin"), Some(origin));
        assert_eq!(answer.header("access-control-allow-headers"), Some(asked));
        assert!(answer.header("access-control-allow-methods").unwrap().contains("DELETE"));
        assert_eq!(answer.header("access-control-max-age"), Some("600"));
        assert_eq!(answer.header("access-control-allow-credentials"), None);
    }
    assert_eq!(east.request_count(), 0);
}

#[tokio::test]
async fn a_page_of_another_origin_learns_nothing() {
    let (_east, server) = serve("east").await;
    let gateway = gateway_before(&server, CORS).await;
    for origin in [
        "https://evil.example",
        "https://app.example.evil.example",
        "http://app.example",
        "null",
        "https://APP.example",
    ] {
        for answer in [
            preflight(&gateway.url, CHAT, origin, "api-key").await,
            send(call(Method::POST, format!("{}{CHAT}", gateway.url), origin, KEY, HELLO)).await,
        ] {
            assert_eq!(answer.header("access-control-allow-origin"), None, "{origin}");
        }
    }
}

#[tokio::test]
async fn every_answer_to_a_page_can_be_read_by_it() {
    let (_east, server) = serve("east").await;
    let more = format!("{CORS}[limits]\nrequest_body = \"1KiB\"\n[telemetry]\nbackend_header = true\n");
    let gateway = gateway_before(&server, &more).await;
    let long = "[".repeat(2_000).leak();
    for (method, path, key, body, status) in [
        (Method::POST, CHAT, KEY, HELLO, 200),
        (Method::GET, "/openai/v1/models", KEY, "", 200),
        (Method::POST, CHAT, "nobody's-key-at-all", HELLO, 401),
        (Method::POST, "/elsewhere", KEY, HELLO, 404),
        (Method::POST, "/openai//deployments", KEY, HELLO, 400),
        (Method::POST, "/openai/v1/chat/completions", KEY, "{\"model\":\"nobody's\"}", 404),
        (Method::POST, CHAT, KEY, long, 413),
        (Method::TRACE, CHAT, KEY, "", 405),
    ] {
        let answer = send(call(method, format!("{}{path}", gateway.url), APP, key, body)).await;
        assert_eq!(answer.status.as_u16(), status, "{path}: {}", answer.text());
        assert_eq!(answer.header("access-control-allow-origin"), Some(APP), "{path}");
        assert!(answer.headers.get_all("vary").iter().any(|vary| vary.to_str().unwrap().contains("origin")), "{path}");
        let exposed = answer.header("access-control-expose-headers").unwrap();
        for name in [
            "*",
            "retry-after",
            "retry-after-ms",
            "x-should-retry",
            "x-gateway-backend",
            "x-ratelimit-remaining-tokens",
        ] {
            assert!(exposed.split(',').any(|exposed| exposed.trim() == name), "{name}: {exposed}");
        }
    }
    let head = chat_head(KEY);
    let bad =
        format!("{head}\r\norigin: {APP}\r\ntransfer-encoding: gzip, chunked\r\nconnection: close\r\n\r\n0\r\n\r\n");
    let refused = raw(&gateway.url, bad.as_bytes()).await;
    assert!(refused.contains(&format!("access-control-allow-origin: {APP}")), "{refused}");
}

#[tokio::test]
async fn what_a_backend_says_of_origins_does_not_count() {
    let backend = answer_with(|_| async {
        http::Response::builder()
            .header("access-control-allow-origin", "*")
            .header("access-control-allow-credentials", "true")
            .header("access-control-expose-headers", "x-of-the-backend")
            .body(Body::from("{}"))
            .unwrap()
    })
    .await;
    let config = |more| [LISTEN, &process::backends(&[("east", &backend)]), &process::client(KEY), more].concat();
    for (more, origin, expected) in [(CORS, APP, Some(APP)), (CORS, "https://evil.example", None), ("", APP, None)] {
        let gateway = Gateway::start(&config(more)).await;
        let answer = send(call(Method::POST, format!("{}{CHAT}", gateway.url), origin, KEY, HELLO)).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("access-control-allow-origin"), expected, "{origin}");
        assert_eq!(answer.header("access-control-allow-credentials"), None);
        assert_ne!(answer.header("access-control-expose-headers"), Some("x-of-the-backend"));
    }
}

#[tokio::test]
async fn without_origins_nothing_is_said_of_them() {
    let (east, server) = serve("east").await;
    let gateway = gateway_before(&server, "").await;
    let answer = preflight(&gateway.url, CHAT, APP, "api-key").await;
    assert_eq!(answer.status, 204, "no key is asked for where none can be shown");
    let answers = [answer, send(call(Method::POST, format!("{}{CHAT}", gateway.url), APP, KEY, HELLO)).await];
    for answer in answers {
        assert!(answer.headers.keys().all(|name| !name.as_str().starts_with("access-control-")), "{answer:?}");
    }
    assert_eq!(east.request_count(), 1);
}

#[tokio::test]
async fn any_origin_is_one_that_is_asked_for() {
    let (_east, server) = serve("east").await;
    let gateway = gateway_before(&server, "[cors]\norigins = [\"*\"]\n").await;
    let answer = preflight(&gateway.url, CHAT, "https://whoever.example", "api-key").await;
    assert_eq!((answer.status.as_u16(), answer.header("access-control-allow-origin")), (204, Some("*")));
    assert_eq!(answer.header("access-control-allow-headers"), Some("api-key"));
}

#[tokio::test]
async fn a_websocket_of_another_page_is_refused() {
    let (east, server) = serve("east").await;
    let gateway = gateway_before(&server, CORS).await;
    let own = format!("http://{}", gateway.url.strip_prefix("http://").unwrap());
    for origin in [Some(APP), Some(own.as_str()), None] {
        let mut headers = vec![("api-key", KEY)];
        headers.extend(origin.map(|origin| ("origin", origin)));
        let (mut socket, _) =
            open(&gateway.url, V1, &headers).await.unwrap_or_else(|error| panic!("{origin:?}: {error}"));
        is_echoed(&mut socket, "hello").await;
        close(socket).await;
    }
    let served = east.request_count();
    for origin in ["https://evil.example", "null", "http://localhost"] {
        match open(&gateway.url, V1, &[("api-key", KEY), ("origin", origin)]).await {
            Err(Error::Http(answer)) => assert_eq!(answer.status(), 403, "{origin}"),
            other => panic!("{origin}: {other:?}"),
        }
    }
    assert_eq!(east.request_count(), served);
}

#[tokio::test]
async fn origins_change_with_a_reload() {
    let (_east, server) = serve("east").await;
    let config = [LISTEN, &process::backends(&[("east", &server.url())]), &process::client(KEY)].concat();
    let file = process::file(&config);
    let mut gateway = Gateway::start_file(&file).await;
    assert_eq!(preflight(&gateway.url, CHAT, APP, "api-key").await.header("access-control-allow-origin"), None);
    std::fs::write(&file, format!("{config}{CORS}")).unwrap();
    gateway.signal("HUP").await;
    gateway.stderr.line(&["the configuration was reloaded"]).await;
    assert_eq!(preflight(&gateway.url, CHAT, APP, "api-key").await.header("access-control-allow-origin"), Some(APP));
}
