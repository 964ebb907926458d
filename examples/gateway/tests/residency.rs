//! Requests that narrow where they may go, through the whole program.

use http::Request;
use tokio_tungstenite::tungstenite::Error;
use tower_azure_openai::body::Body;

use crate::http_support::{Answer, chat_request, send};
use crate::process::{self, Gateway, LISTEN, is};
use crate::websocket::{V1, is_echoed, open};
use crate::{KEY, serve};

const GEOGRAPHY: &str = "x-gateway-geography";

/// A backend in the US that comes first, and one in the EU.
fn backends(east: &str, sweden: &str) -> String {
    let describe = |name, url, geography| {
        let described = process::backends(&[(name, url)]);
        format!("{described}geography = \"{geography}\"\nprocessing = \"data-zone\"\n")
    };
    let sweden = describe("sweden", sweden, "eu").replace("priority = 0", "priority = 1");
    describe("east", east, "us") + &sweden
}

async fn chat(url: &str, key: &str, headers: &[(&'static str, &str)]) -> Answer {
    let mut request = chat_request(url, key);
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    send(request).await
}

#[tokio::test]
async fn a_request_narrows_and_never_widens() {
    let ((east, at_east), (sweden, at_sweden)) = (serve("east").await, serve("sweden").await);
    let clients =
        process::client(KEY) + "[[clients]]\nid = \"us\"\nkey = \"key-of-the-us-client\"\ngeography = \"us\"\n";
    let config = [LISTEN, &backends(&at_east.url(), &at_sweden.url()), &clients].concat();
    let gateway = Gateway::start(&config).await;
    let url = &gateway.url;
    assert_eq!(chat(url, KEY, &[]).await.status, 200);
    assert_eq!(chat(url, KEY, &[(GEOGRAPHY, "us"), ("x-gateway-processing", "regional, data-zone")]).await.status, 200);
    assert_eq!((east.request_count(), sweden.request_count()), (2, 0));

    assert_eq!(chat(url, KEY, &[(GEOGRAPHY, "eu")]).await.status, 200);
    let (mut socket, _) = open(url, V1, &[("api-key", KEY), (GEOGRAPHY, "eu")]).await.unwrap();
    is_echoed(&mut socket, "hello").await;
    for (key, headers) in [
        ("key-of-the-us-client", &[(GEOGRAPHY, "eu")][..]),
        (KEY, &[(GEOGRAPHY, "ap")]),
        (KEY, &[("x-gateway-processing", "regional")]),
    ] {
        is(&chat(url, key, headers).await, 404, "DeploymentNotFound");
    }
    let models = Request::get(format!("{url}/openai/v1/models")).header("api-key", KEY).header(GEOGRAPHY, "ap");
    assert_eq!(send(models.body(Body::empty()).unwrap()).await.json()["data"].as_array().map(Vec::len), Some(0));
    for headers in [[(GEOGRAPHY, ""), ("x-other", "")], [(GEOGRAPHY, "eu"), (GEOGRAPHY, "us")]] {
        is(&chat(url, KEY, &headers).await, 400, "invalid_constraint");
    }
    let Err(Error::Http(refused)) = open(url, V1, &[("api-key", KEY), (GEOGRAPHY, "ap")]).await else {
        panic!("no handshake")
    };
    assert_eq!(refused.status(), 404);
    assert_eq!((east.request_count(), sweden.request_count()), (2, 2));
    for received in east.requests().iter().chain(&sweden.requests()) {
        assert!(received.headers.keys().all(|name| !name.as_str().starts_with("x-gateway-")));
    }
}
