//! The admin listener: who may ask, and for what.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Request;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tower_azure_openai::body::Body;
use tower_azure_openai::testkit::Fault;

use crate::http_support::{self, Answer, CHAT, HELLO, get, raw, send, soon};
use crate::process::{self, Gateway, LISTEN, file, is, run};
use crate::reload::write;
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

/// All that can be read.
const READ: [&str; 8] =
    ["/", "/explain?alias=gpt-4o", "/history", "/livez", "/metrics", "/readyz", "/status", "/usage"];

#[tokio::test]
async fn another_site_is_refused() {
    let (_east, server) = serve("east").await;
    let mut gateway = gateway_before(&server, "").await;
    let admin = gateway.admin().await;
    for (site, status) in [("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)] {
        for path in READ {
            let answer = asked(&format!("{admin}{path}"), &[("sec-fetch-site", site)]).await;
            assert_eq!(answer.status, status, "{path} {site}");
            assert_eq!(answer.header("access-control-allow-origin"), None);
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

/// What an order answers.
async fn post(url: &str, body: &'static str) -> Answer {
    send(Request::post(url).body(Body::from(body)).unwrap()).await
}

fn backend<'a>(status: &'a Value, name: &str) -> &'a Value {
    status["backends"].as_array().unwrap().iter().find(|backend| backend["name"] == name).unwrap()
}

#[tokio::test]
async fn orders_are_followed_as_often_as_they_are_given_and_answer_the_status() {
    let ((_east, first), (_west, second)) = (serve("east").await, serve("west").await);
    let both = process::backends(&[("east", &first.url()), ("west/2", &second.url())]);
    let mut gateway = Gateway::start(&[LISTEN, &both, &process::client(KEY)].concat()).await;
    let admin = gateway.admin().await;
    for (order, body, field, is) in [
        ("/drain", "", "/ready", json!(false)),
        ("/undrain", "", "/ready", json!(true)),
        ("/backends/east/drain", "", "/backends/0/drained", json!(true)),
        ("/backends/east/undrain", "", "/backends/0/drained", json!(false)),
        ("/backends/west%2F2/drain", "", "/backends/1/drained", json!(true)),
        ("/backends/east/weight", r#"{"weight": 7}"#, "/backends/0/override", json!(7)),
        ("/backends/east/weight", r#"{"weight": 8}"#, "/backends/0/deployments/0/weight", json!(8)),
        ("/backends/east/weight", r#"{"weight": 0}"#, "/backends/0/drained", json!(true)),
        ("/backends/east/weight", r#"{"weight": null}"#, "/backends/0/override", json!(null)),
        ("/circuits/east/gpt-4o/close", "", "/backends/0/deployments/0/circuit", json!("closed")),
    ] {
        for _ in 0..2 {
            let answer = post(&format!("{admin}{order}"), body).await;
            assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, Some("application/json")));
            assert_eq!(answer.json().pointer(field), Some(&is), "{order} {body}");
        }
        let answer = get(format!("{admin}{order}")).await;
        assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, Some("POST")), "{order}");
    }
    for (order, body, status) in [
        ("/backends/north/drain", "", 404),
        ("/backends/north/weight", r#"{"weight": 1}"#, 404),
        ("/circuits/east/gpt-5/close", "", 404),
        ("/circuits/north/gpt-4o/close", "", 404),
        ("/backends/east/explode", "", 404),
        ("/drain/", "", 404),
        ("/backends/east/weight", "", 400),
        ("/backends/east/weight", "2", 400),
        ("/backends/east/weight", r#"{"weight": -1}"#, 400),
        ("/backends/east/weight", r#"{"weight": 1.5}"#, 400),
        ("/backends/east/weight", r#"{"weight": 1000001}"#, 400),
        ("/backends/east/weight", r#"{"weight": 1, "for": "ever"}"#, 400),
    ] {
        let answer = post(&format!("{admin}{order}"), body).await;
        assert_eq!(answer.status, status, "{order} {body}: {}", answer.text());
    }
    assert_eq!(backend(&gateway.status().await, "east")["weight"], 1);
    gateway.is_well().await;
}

#[tokio::test]
async fn what_was_ordered_holds_through_a_reload() {
    let ((east, first), (west, second)) = (serve("east").await, serve("west").await);
    let config = |more: &str| {
        let both = process::backends(&[("east", &first.url()), ("west", &second.url())]);
        [LISTEN, &both, &process::client(KEY), more].concat()
    };
    let file = file(&config(""));
    let mut gateway = Gateway::start_file(&file).await;
    let admin = gateway.admin().await;
    post(&format!("{admin}/backends/east/drain"), "").await;
    post(&format!("{admin}/backends/west/weight"), r#"{"weight": 3}"#).await;
    post(&format!("{admin}/drain"), "").await;
    assert_eq!(get(format!("{admin}/readyz")).await.status, 503);

    write(&file, &config("[failover]\nattempts = 2\n"));
    let status = post(&format!("{admin}/reload"), "").await;
    assert_eq!(status.status, 200);
    let status = status.json();
    assert_eq!((&status["ready"], &status["draining"]), (&json!(false), &json!(true)));
    assert_eq!(backend(&status, "east")["drained"], true);
    let west_is = ["weight", "override", "configured_weight"].map(|field| backend(&status, "west")[field].clone());
    assert_eq!(west_is, [json!(3), json!(3), json!(1)]);
    assert_eq!(get(format!("{admin}/readyz")).await.status, 503);
    // The log is written a little later than what it tells.
    gateway.stderr.count(&["was reloaded"], 1).await;
    assert_eq!(gateway.stderr.lines(&["was reloaded"]).len(), 1);
    let chat = Request::post(format!("{}{CHAT}", gateway.url)).header("api-key", KEY);
    let chat = chat.header("content-type", "application/json").body(Body::from(HELLO)).unwrap();
    assert_eq!(send(chat).await.status, 200, "a process that is not ready still serves whoever comes");
    assert_eq!((east.request_count(), west.request_count()), (0, 1));

    write(&file, &config("[failover]\nattempts = \"two\"\n"));
    let refused = post(&format!("{admin}/reload"), "").await;
    assert_eq!(refused.status, 400);
    assert!(refused.text().contains("failover.attempts"), "{}", refused.text());
    assert_eq!(gateway.status().await["ready"], false);
    assert_eq!(post(&format!("{admin}/undrain"), "").await.json()["ready"], true);
}

#[tokio::test]
async fn a_circuit_is_closed_by_hand() {
    let (east, server) = serve("east").await;
    let mut gateway = gateway_before(&server, "").await;
    let admin = gateway.admin().await;
    east.faults().push(Fault::throttled_for(Duration::from_secs(50)));
    let chat = || {
        let chat = Request::post(format!("{}{CHAT}", gateway.url)).header("api-key", KEY);
        send(chat.header("content-type", "application/json").body(Body::from(HELLO)).unwrap())
    };
    assert_eq!(chat().await.status, 429);
    assert_eq!(chat().await.status, 429);
    let closed = post(&format!("{admin}/circuits/east/gpt-4o/close"), "").await.json();
    assert_eq!(closed["backends"][0]["deployments"][0]["obstacles"], json!([]));
    assert_eq!(chat().await.status, 200);
    let status = gateway.status().await;
    assert!(status["backends"][0]["deployments"][0]["first_content_ms"]["p50"].is_u64(), "{status}");
}

#[tokio::test]
async fn what_stands_in_the_way_is_explained_for_a_client() {
    let ((_east, first), (_west, second)) = (serve("east").await, serve("west").await);
    let both = process::backends(&[("east", &first.url()), ("west", &second.url())]).replacen(
        "priority = 0",
        "geography = \"eu\"\npriority = 0",
        1,
    );
    let more = "geography = \"us\"\nallow = [\"gpt-4o\"]\nroute = { \"best\" = \"gpt-4o\" }\n";
    let mut gateway = Gateway::start(&[LISTEN, &both, &process::client(KEY), more].concat()).await;
    let admin = gateway.admin().await;
    let explained = async |query: &str| {
        let answer = get(format!("{admin}/explain{query}")).await;
        assert_eq!(answer.status, 200, "{query}: {}", answer.text());
        answer.json()
    };
    let all = explained("?alias=gpt-4o").await;
    assert_eq!((&all["candidates"], &all["allowed"], &all["client"]), (&json!(1), &json!(true), &json!(null)));
    assert_eq!(all["targets"][1]["obstacles"], json!(["others come first"]));
    let team = explained("?alias=best&client=team").await;
    assert_eq!((&team["alias"], &team["client"], &team["candidates"]), (&json!("gpt-4o"), &json!("team"), &json!(0)));
    assert_eq!(team["targets"][0]["obstacles"], json!(["geography is eu, not us"]));
    assert_eq!(explained("?client=team&alias=gpt%2D5").await["allowed"], false);
    for (query, status) in [("", 400), ("?alias=", 400), ("?model=x", 400), ("?alias=gpt-4o&client=nobody", 404)] {
        assert_eq!(get(format!("{admin}/explain{query}")).await.status, status, "{query}");
    }
    assert_eq!(post(&format!("{admin}/explain?alias=gpt-4o"), "").await.status, 405);
}

#[tokio::test]
async fn a_page_of_another_origin_changes_nothing() {
    let (_east, server) = serve("east").await;
    let mut gateway = gateway_before(&server, "").await;
    let admin = gateway.admin().await;
    let host = admin.strip_prefix("http://").unwrap().to_owned();
    let own = [format!("http://{host}"), format!("https://{host}")];
    let elsewhere =
        ["http://evil.example", "null", "http://127.0.0.1:1", &format!("http://{host}.evil.example"), &host];
    for order in [
        "/drain",
        "/backends/east/drain",
        "/backends/east/weight",
        "/circuits/east/gpt-4o/close",
        "/recorder/dump",
        "/reload",
    ] {
        for origin in elsewhere {
            let request = Request::post(format!("{admin}{order}")).header("origin", origin);
            assert_eq!(send(request.body(Body::from("{\"weight\":9}")).unwrap()).await.status, 403, "{origin}");
        }
        for site in ["cross-site", "same-site", "something-new"] {
            let request =
                Request::post(format!("{admin}{order}")).header("sec-fetch-site", site).header("origin", &own[0]);
            assert_eq!(send(request.body(Body::from("{\"weight\":9}")).unwrap()).await.status, 403, "{site}");
        }
    }
    let status = gateway.status().await;
    assert_eq!((&status["ready"], &status["backends"][0]["drained"]), (&json!(true), &json!(false)));
    assert_eq!(status["backends"][0]["override"], json!(null));
    for origin in &own {
        let request = Request::post(format!("{admin}/undrain")).header("origin", origin);
        assert_eq!(send(request.body(Body::empty()).unwrap()).await.status, 200, "{origin}");
    }
    for origin in ["http://evil.example", "null"] {
        for path in READ {
            let answer = asked(&format!("{admin}{path}"), &[("origin", origin)]).await;
            assert_eq!((answer.status.as_u16(), answer.header("access-control-allow-origin")), (403, None), "{path}");
        }
    }
}

#[tokio::test]
async fn an_end_that_has_begun_is_not_taken_back() {
    let (_east, server) = serve("east").await;
    let config = ["shutdown_delay = \"60s\"\n", LISTEN, &process::backends(&[("east", &server.url())])];
    let mut gateway = Gateway::start(&[&config.concat(), &*process::client(KEY)].concat()).await;
    let admin = gateway.admin().await;
    gateway.signal("TERM").await;
    gateway.status_becomes("that it is not ready", |status| status["ready"] == false).await;
    assert_eq!(post(&format!("{admin}/undrain"), "").await.json()["ready"], false);
    assert_eq!(get(format!("{admin}/readyz")).await.status, 503);
}

/// The one element of a kind that is written into the page.
fn inner<'a>(page: &'a str, start: &str, end: &str) -> &'a str {
    let mut parts = page.split(start);
    let inner = parts.nth(1).unwrap().split(end).next().unwrap();
    assert_eq!(parts.next(), None, "{start} is there once");
    inner
}

#[tokio::test]
async fn the_page_allows_its_own_script_and_style_and_nothing_else() {
    let (_east, server) = serve("east").await;
    let mut gateway = gateway_before(&server, "").await;
    let admin = gateway.admin().await;
    let answer = get(format!("{admin}/")).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let (page, policy) = (answer.text(), answer.header("content-security-policy").unwrap().to_owned());
    for (directive, start, end) in
        [("script-src", "<script type=\"module\">", "</script>"), ("style-src", "<style>", "</style>")]
    {
        let digest = STANDARD.encode(Sha256::digest(inner(&page, start, end)));
        assert!(policy.contains(&format!("{directive} 'sha256-{digest}';")), "{directive}: {policy}");
    }
    for directive in
        ["default-src 'none'", "connect-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"]
    {
        assert!(policy.contains(directive), "{directive}");
    }
    assert!(!policy.contains("unsafe"));
    let page = page.to_ascii_lowercase();
    for never in [
        " style=\"",
        " onclick",
        " onload",
        " onerror",
        "innerhtml",
        "insertadjacenthtml",
        "document.write",
        "eval(",
        " src=\"http",
    ] {
        assert!(!page.contains(never), "{never}");
    }
    assert_eq!(page.matches("<script").count(), 1);
    let posted = post(&format!("{admin}/"), "").await;
    assert_eq!((posted.status.as_u16(), posted.header("allow")), (405, Some("GET, HEAD")));
}

#[tokio::test]
async fn the_page_comes_without_the_token_and_says_nothing_by_itself() {
    let (_east, server) = serve("east").await;
    let config = ["admin_token = \"token-of-the-operator\"\n", LISTEN, &process::backends(&[("east", &server.url())])];
    let mut gateway = Gateway::start(&[&config.concat(), &*process::client(KEY)].concat()).await;
    let admin = gateway.admin().await;
    let page = get(format!("{admin}/")).await;
    assert_eq!((page.status.as_u16(), page.header("www-authenticate")), (401, Some("Bearer")));
    assert!(page.text().starts_with("<!doctype html>") && !page.text().contains("east"));
    for path in ["/status", "/history", "/explain?alias=gpt-4o", "/metrics", "/usage", "/drain"] {
        assert_eq!(get(format!("{admin}{path}")).await.status, 401, "{path}");
    }
    assert_eq!(post(&format!("{admin}/drain"), "").await.status, 401);
    assert_eq!(get(format!("{admin}/readyz")).await.status, 200);
}

#[tokio::test]
async fn the_last_minutes_and_events_are_told() {
    let (_east, server) = serve("east").await;
    let mut gateway = gateway_before(&server, "").await;
    let admin = gateway.admin().await;
    for key in [KEY, KEY, "another-key-of-nobody"] {
        http_support::chat(&gateway.url, key).await;
    }
    get(format!("{}/status-0123456789abcdef", gateway.url)).await;
    post(&format!("{admin}/backends/east/drain"), "").await;
    post(&format!("{admin}/backends/north/drain"), "").await;
    let page = format!("{admin}/history");
    let sums = |history: &Value, kind: &str| {
        history[kind].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).sum::<u64>()
    };
    let told = async || get(&page).await.json();
    soon("what came of the requests", async { while sums(&told().await, "rejected") == 0 {} }).await;
    let history = told().await;
    let all = ["served", "refused", "rejected", "failed"].map(|kind| sums(&history, kind));
    assert_eq!(all, [2, 0, 1, 0], "a probe is no request: {history}");
    assert_eq!(history["served"].as_array().unwrap().len(), 120);
    assert_eq!(history["circuits"][0]["backend"], "east");
    let events = history["events"].as_array().unwrap();
    assert_eq!((events.len(), &events[0]["about"]), (1, &json!("east")), "what was not followed has not happened");
    assert_eq!(post(&page, "").await.status, 405);
}
