//! The client behind a proxy on loopback.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::convert::Infallible;
use std::error::Error as StdError;
use std::net::SocketAddr;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;
use tower_azure_openai::azure::Outcome;
use tower_azure_openai::body::Body;
use tower_azure_openai::client::{Destination, HttpClient, Proxy};
use tower_azure_openai::context::{AttemptFailed, Handshake};

#[path = "support/middleman.rs"]
mod middleman;
use middleman::{AUTHORIZATION, Does, Middleman, listen, tls};

/// A server that tells the protocol.
async fn backend(tls: Option<TlsAcceptor>) -> SocketAddr {
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let tls = tls.clone();
            tokio::spawn(async move {
                match tls {
                    None => answer(tcp).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(tcp).await {
                            answer(stream).await;
                        }
                    }
                }
            });
        }
    });
    address
}

async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let service = service_fn(|request: Request<Incoming>| async move {
        Ok::<_, Infallible>(Response::new(Body::from(format!("{:?}", request.version()))))
    });
    drop(auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await);
}

fn through(proxy: &Middleman) -> HttpClient {
    HttpClient::builder().proxy(Proxy::new(proxy.url()).unwrap()).build().unwrap()
}

async fn get(client: HttpClient, url: &str) -> Result<String, AttemptFailed> {
    let answer = client.oneshot(Request::get(url).body(Body::empty()).unwrap()).await?;
    let body = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
    Ok(String::from_utf8(body.to_vec()).unwrap())
}

/// Everything an error shows, to anybody.
fn shown(error: &(dyn StdError + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |error| (*error).source());
    chain.map(|error| format!("{error} {error:?}\n")).collect()
}

#[tokio::test]
async fn https_goes_through_a_tunnel() {
    let (acceptor, pem) = tls("contoso.example");
    let proxy = Middleman::new(Does::LeadTo(backend(Some(acceptor)).await)).await;
    let client = HttpClient::builder()
        .proxy(Proxy::new(proxy.url()).unwrap())
        .add_destination(Destination::new("https://contoso.example").ca_pem(pem))
        .build()
        .unwrap();
    for _ in 0..2 {
        assert_eq!(get(client.clone(), "https://contoso.example/secret-path").await.unwrap(), "HTTP/2.0");
    }
    let heads = proxy.heads();
    assert_eq!(heads.len(), 1, "the tunnel is kept");
    assert!(heads[0].starts_with("CONNECT contoso.example:443 HTTP/1.1\r\n"), "{heads:?}");
    assert!(heads[0].contains(&format!("Proxy-Authorization: {AUTHORIZATION}\r\n")), "{heads:?}");
    assert!(!heads[0].contains("secret-path"), "{heads:?}");
}

#[tokio::test]
async fn a_proxy_can_be_behind_tls_itself() {
    let (acceptor, pem) = tls("contoso.example");
    let (of_proxy, pem_of_proxy) = tls("localhost");
    let proxy = Middleman::with(Does::LeadTo(backend(Some(acceptor)).await), Some(of_proxy)).await;
    let url = format!("https://localhost:{}", proxy.address.port());
    let client = HttpClient::builder()
        .proxy(Proxy::new(url.clone()).unwrap())
        .add_destination(Destination::new("https://contoso.example:8443").ca_pem(pem))
        .add_destination(Destination::new(url).ca_pem(pem_of_proxy));
    assert_eq!(get(client.build().unwrap(), "https://contoso.example:8443/").await.unwrap(), "HTTP/2.0");
    assert!(proxy.heads()[0].starts_with("CONNECT contoso.example:8443 HTTP/1.1\r\n"));
}

#[tokio::test]
async fn a_proxy_that_does_not_lead_there_is_named_as_the_cause() {
    for does in [
        Does::Say("HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n"),
        Does::Say("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n"),
        Does::Say("HTTP/1.1 403 Forbidden\r\n\r\n<html>contoso.example is not allowed</html>"),
        Does::Say("no HTTP\r\n\r\n"),
        Does::Say(""),
    ] {
        let proxy = Middleman::new(does).await;
        let failed = get(through(&proxy), "https://contoso.example/").await.unwrap_err();
        assert_eq!(failed.outcome(), Outcome::Unreachable);
        let shown = shown(&failed);
        assert!(shown.contains("the proxy: "), "{shown}");
        for hidden in ["contoso", "hunter2", "127.0.0.1", AUTHORIZATION] {
            assert!(!shown.contains(hidden), "{shown}");
        }
    }
    let (listener, address) = listen().await;
    drop(listener);
    let client = HttpClient::builder().proxy(Proxy::new(address.to_string()).unwrap()).build().unwrap();
    for url in ["https://contoso.example/", "http://contoso.example/"] {
        let failed = get(client.clone(), url).await.unwrap_err();
        assert_eq!(failed.outcome(), Outcome::Unreachable);
        assert!(shown(&failed).contains("the proxy: "), "{}", shown(&failed));
    }
}

#[tokio::test]
async fn the_time_for_a_connection_holds_for_the_tunnel() {
    let proxy = Middleman::new(Does::Wait).await;
    let client = HttpClient::builder()
        .connect_timeout(Duration::from_millis(50))
        .proxy(Proxy::new(proxy.url()).unwrap())
        .build()
        .unwrap();
    let failed = get(client, "https://contoso.example/").await.unwrap_err();
    assert_eq!(failed.outcome(), Outcome::Unreachable);
    assert!(shown(&failed).contains("no connection in time"), "{}", shown(&failed));
    assert_eq!(proxy.heads().len(), 1);
}

#[tokio::test]
async fn plain_http_is_read_by_the_proxy() {
    let proxy = Middleman::new(Does::Say("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi")).await;
    assert_eq!(get(through(&proxy), "http://contoso.example/path?query").await.unwrap(), "hi");
    let head = proxy.heads().remove(0);
    assert!(head.starts_with("GET http://contoso.example/path?query HTTP/1.1\r\n"), "{head}");
    assert!(head.to_ascii_lowercase().contains(&format!("proxy-authorization: {AUTHORIZATION}").to_ascii_lowercase()));

    let refuses = Middleman::new(Does::Say("HTTP/1.1 407 Who\r\ncontent-length: 0\r\n\r\n")).await;
    let failed = get(through(&refuses), "http://contoso.example/").await.unwrap_err();
    assert_eq!(failed.outcome(), Outcome::Unreachable);
    assert!(shown(&failed).contains("the proxy: "), "{}", shown(&failed));
}

#[tokio::test]
async fn a_websocket_has_a_tunnel_in_plain_http_too() {
    let proxy = Middleman::new(Does::Say("HTTP/1.1 502 Bad Gateway\r\n\r\n")).await;
    let mut request = Request::get("http://contoso.example/openai/realtime").body(Body::empty()).unwrap();
    request.extensions_mut().insert(Handshake);
    let failed = through(&proxy).oneshot(request).await.unwrap_err();
    assert_eq!(failed.outcome(), Outcome::Unreachable);
    assert!(proxy.heads()[0].starts_with("CONNECT contoso.example:80 HTTP/1.1\r\n"), "{:?}", proxy.heads());
}

#[tokio::test]
async fn loopback_and_addresses_of_their_own_are_reached_directly() {
    let there = backend(None).await;
    let proxy = Middleman::new(Does::Say("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n")).await;
    let direct = |proxy: &Middleman| HttpClient::builder().proxy(Proxy::new(proxy.url()).unwrap());
    assert_eq!(get(through(&proxy), &format!("http://{there}/")).await.unwrap(), "HTTP/1.1");
    let private = Destination::new("http://contoso.example").address(there.to_string());
    let client = direct(&proxy).add_destination(private).build().unwrap();
    assert_eq!(get(client, "http://contoso.example/").await.unwrap(), "HTTP/1.1");
    assert_eq!(proxy.heads(), [""; 0]);

    let asked = Proxy::new(proxy.url()).unwrap().loopback(true);
    let client = HttpClient::builder().proxy(asked).build().unwrap();
    drop(get(client, &format!("http://{there}/")).await);
    assert_eq!(proxy.heads().len(), 1);
}
