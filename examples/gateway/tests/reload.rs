//! SIGHUP while it serves: a request sees one configuration from its beginning to its end, and what stays is not forgotten.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use http::{Request, Response, StatusCode};
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tower_azure_openai::body::Body;

use crate::http_support::{self, Answer, HELLO, client, connect, soon};
use crate::process::{self, Gateway, LISTEN};
use crate::tokens::{APP, AUDIENCE, Signer, TENANT, claims, jwks};
use crate::{KEY, serve};

/// Replaced in one step: the program never reads half a file.
pub(crate) fn write(file: &Path, config: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, config).unwrap();
    std::fs::rename(new, file).unwrap();
}

pub(crate) async fn reload(gateway: &mut Gateway, file: &Path, config: &str) {
    let before = gateway.stderr.lines(&["was reloaded"]).len();
    write(file, config);
    gateway.signal("HUP").await;
    soon("a reload", gateway.stderr.until(|text| text.matches("was reloaded").count() > before)).await;
}

/// A backend that knows one key and one alias beside `both`.
async fn strict(name: &'static str) -> String {
    http_support::serve(move |request| {
        let path = request.uri().path();
        let is_own = ["both", name].iter().any(|alias| path.contains(&format!("/deployments/{alias}/")));
        let is_known = request.headers().get("api-key").is_some_and(|key| *key == format!("key-of-{name}"));
        let status = if is_own && is_known { StatusCode::OK } else { StatusCode::IM_A_TEAPOT };
        let mut answer = Response::new(Body::from(name));
        *answer.status_mut() = status;
        async { answer }
    })
    .await
}

/// One backend with two aliases, one client for each, and one client that every configuration has.
fn world(name: &str, url: &str) -> String {
    let client = |id: &str, alias: &str| {
        format!("[[clients]]\nid = \"{id}\"\nkey = \"a-key-for-team-{alias}\"\nallow = [\"{alias}\"]\n")
    };
    [
        LISTEN,
        &process::backends(&[(name, url)])
            .replace("{ name = \"gpt-4o\" }", &format!("{{ name = \"both\" }}, {{ name = \"{name}\" }}")),
        &client("stays", "both"),
        &client("goes", name),
        "[telemetry]\nlog = \"aoai_gateway::server=info\"\n",
    ]
    .concat()
}

async fn ask(http: &Client<HttpConnector, Body>, url: &str, alias: &str) -> (StatusCode, String) {
    let request = Request::post(format!("{url}/openai/deployments/{alias}/chat/completions?api-version=2024-10-21"))
        .header("content-type", "application/json")
        .header("api-key", format!("a-key-for-team-{alias}"))
        .body(Body::from(HELLO));
    let answer = Answer::read(soon("an answer", http.request(request.unwrap())).await.unwrap()).await;
    (answer.status, answer.text())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_requests_meet_no_mixture_of_two_configurations() {
    let worlds = [world("east", &strict("east").await), world("west", &strict("west").await)];
    let file = process::file(&worlds[0]);
    let mut gateway = Gateway::start_file(&file).await;
    let (served, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let clients = (0..10).map(|_| {
        let (url, served, refused) = (gateway.url.clone(), served.clone(), refused.clone());
        tokio::spawn(async move {
            let http = client();
            for alias in ["both", "east", "west", "both"].into_iter().cycle().take(1_000) {
                match ask(&http, &url, alias).await {
                    (StatusCode::OK, name) => {
                        assert!(alias == "both" || alias == name);
                        served.fetch_add(1, SeqCst);
                    }
                    (StatusCode::UNAUTHORIZED, _) if alias != "both" => {
                        refused.fetch_add(1, SeqCst);
                    }
                    (status, text) => panic!("{alias}: {status} {text}"),
                }
            }
        })
    });
    let clients: Vec<_> = clients.collect();
    let mut reloads = 0;
    while clients.iter().any(|client| !client.is_finished()) {
        reloads += 1;
        reload(&mut gateway, &file, &worlds[reloads % 2]).await;
    }
    for client in clients {
        client.await.unwrap();
    }
    let (served, refused) = (served.load(SeqCst), refused.load(SeqCst));
    assert_eq!(served + refused, 10_000);
    assert!(reloads > 10 && served > 5_000 && refused > 500, "{reloads} reloads, {served} served, {refused} refused");
    gateway.is_well().await;
}

#[tokio::test]
async fn a_request_that_began_before_ends_as_it_began() {
    let (east, west) = (world("east", &strict("east").await), world("west", &strict("west").await));
    let file = process::file(&east);
    let mut gateway = Gateway::start_file(&file).await;
    let (start, rest) = HELLO.split_at(10);
    let mut stream = connect(&gateway.url).await;
    let head = format!(
        "POST /openai/deployments/east/chat/completions?api-version=2024-10-21 HTTP/1.1\r\nhost: gateway.example\r\n\
         api-key: a-key-for-team-east\r\ncontent-type: application/json\r\ncontent-length: {}\r\nexpect: 100-continue\r\n\
         connection: close\r\n\r\n",
        HELLO.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut asked = [0; 25];
    soon("that the body is wanted", stream.read_exact(&mut asked)).await.unwrap();
    assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(start.as_bytes()).await.unwrap();

    reload(&mut gateway, &file, &west).await;
    assert_eq!(ask(&client(), &gateway.url, "east").await.0, 401);
    stream.write_all(rest.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon("the answer", stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("east"), "{answer}");
}

#[tokio::test]
async fn connections_and_signing_keys_are_kept() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let count = connections.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, SeqCst);
            let answer = service_fn(async |_| Ok::<_, std::convert::Infallible>(Response::new(Body::from("{}"))));
            tokio::spawn(async move {
                drop(auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), answer).await);
            });
        }
    });
    let (signer, fetches) = (Signer::new("k"), Arc::new(AtomicUsize::new(0)));
    let (document, count) = (jwks([&signer]).to_string(), fetches.clone());
    let authority = http_support::serve(move |_| {
        count.fetch_add(1, SeqCst);
        let answer = Response::new(Body::from(document.clone()));
        async { answer }
    })
    .await;
    let config = |more: &str| {
        let entra = format!(
            "[[clients]]\nid = \"jobs\"\nentra = {{ app_id = \"{APP}\" }}\n[entra]\ntenant_id = \"{TENANT}\"\n\
             audience = [\"{AUDIENCE}\"]\njwks_url = \"{authority}/keys\"\n{more}"
        );
        [LISTEN, &process::backends(&[("east", &url)]), &process::client(KEY), &entra].concat()
    };
    let file = process::file(&config(""));
    let mut gateway = Gateway::start_file(&file).await;
    let token = signer.token(&claims());
    let ask = async |gateway: &Gateway| {
        let request = Request::post(format!("{}{}", gateway.url, http_support::CHAT))
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {token}"));
        assert_eq!(http_support::send(request.body(Body::from(HELLO)).unwrap()).await.status, 200);
    };
    ask(&gateway).await;
    reload(&mut gateway, &file, &config("[failover]\nattempts = 2\n")).await;
    ask(&gateway).await;
    assert_eq!((connections.load(SeqCst), fetches.load(SeqCst)), (1, 1));
    reload(&mut gateway, &file, &config("[timeouts]\nconnect = \"4s\"\n")).await;
    ask(&gateway).await;
    assert_eq!((connections.load(SeqCst), fetches.load(SeqCst)), (2, 1), "a client with other settings is another");
}

#[tokio::test]
async fn what_changes_with_a_restart_only_is_named() {
    let (_east, server) = serve("east").await;
    let config = |head: &str| [head, &process::backends(&[("east", &server.url())]), &process::client(KEY)].concat();
    let file = process::file(&config(LISTEN));
    let mut gateway = Gateway::start_file(&file).await;
    reload(&mut gateway, &file, &config("listen = \"127.0.0.1:0\"\nadmin = \"off\"\n")).await;
    assert_eq!(gateway.stderr.lines(&["with a restart only"]).len(), 1);
    gateway.stderr.line(&["admin", "with a restart only"]).await;
    gateway.is_well().await;
}
