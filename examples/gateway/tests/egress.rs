//! Backends behind a proxy.

use std::sync::{Arc, Mutex};

use http::Response;
use tower_azure_openai::body::Body;

use crate::http_support::{chat, serve};
use crate::process::{self, Gateway, LISTEN};
use crate::{KEY, gateway_before, serve as serve_backend};

/// A proxy that leads nowhere: its address, and what it was asked.
async fn proxy() -> (String, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let url = serve(move |request| {
        let shown = request.headers().get("proxy-authorization").map(|value| value.to_str().unwrap().to_owned());
        seen.lock().unwrap().push(format!("{} {} {}", request.method(), request.uri(), shown.unwrap_or_default()));
        async { Response::builder().status(502).body(Body::empty()).unwrap() }
    })
    .await;
    (url.replace("http://", "http://user:hunter2@"), asked)
}

#[tokio::test]
async fn the_environment_names_the_way_out_and_nobody_sees_its_password() {
    let backends = process::backends(&[("east", "https://contoso-eastus.openai.azure.com")]);
    let config = [LISTEN, &backends, &process::client(KEY), "[telemetry]\nlog = \"trace\"\n"].concat();
    for (variable, more) in [("HTTPS_PROXY", ""), ("all_proxy", ""), ("UNUSED", "[forward]\nproxy = ")] {
        let (url, asked) = proxy().await;
        let more = if more.is_empty() { String::new() } else { format!("{more}\"{url}\"\n") };
        let gateway = Gateway::start_with(&process::file(&format!("{config}{more}")), &[(variable, &url)]).await;
        let answer = chat(&gateway.url, KEY).await;
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert_eq!(*asked.lock().unwrap(), ["CONNECT contoso-eastus.openai.azure.com:443 Basic dXNlcjpodW50ZXIy"]);
        let all = format!("{}{:?}{}", answer.text(), answer.headers, gateway.stop().await);
        for hidden in ["hunter2", "dXNlcjpodW50ZXIy"] {
            assert!(!all.contains(hidden), "{all}");
        }
    }
}

#[tokio::test]
async fn what_no_proxy_names_and_loopback_are_reached_directly() {
    let (url, asked) = proxy().await;
    let (east, server) = serve_backend("east").await;
    let more = format!("[forward]\nproxy = \"{url}\"\n");
    let gateway = gateway_before(&server, &more).await;
    assert_eq!(chat(&gateway.url, KEY).await.status, 200);
    assert_eq!(east.request_count(), 1);

    let named = process::backends(&[("east", "https://contoso.invalid")]);
    let config = [LISTEN, &named, &process::client(KEY)].concat();
    let environment = [("HTTPS_PROXY", url.as_str()), ("NO_PROXY", "invalid")];
    let gateway = Gateway::start_with(&process::file(&config), &environment).await;
    assert_eq!(chat(&gateway.url, KEY).await.status, 503);
    assert_eq!(*asked.lock().unwrap(), [""; 0]);
}
