//! Tokens that are fetched through the proxy on the way out.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::body::to_bytes;
use axum::extract::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio_rustls::TlsAcceptor;
use tower_azure_openai::client::{Destination, HttpClient, Proxy};
use tower_azure_openai::pool::BearerTokens;
use tower_azure_openai::reissue::TokenKeeper;
use tower_azure_openai::reissue::azure::{Identity, Transport};

#[path = "support/middleman.rs"]
mod middleman;
use middleman::{AUTHORIZATION, Does, Middleman, listen, tls};

const AUTHORITY: &str = "login.contoso.example";
const SECRET: &str = "hunter3";

/// An authority that gives tokens over TLS, and the forms that it was sent.
async fn authority(tls: TlsAcceptor) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let ((listener, address), forms) = (listen().await, Arc::new(Mutex::new(Vec::new())));
    let seen = Arc::clone(&forms);
    let service = axum::Router::new().fallback(move |request: Request| {
        let seen = Arc::clone(&seen);
        async move {
            let path = request.uri().path().to_owned();
            let form = to_bytes(request.into_body(), 10_000).await.unwrap();
            let mut seen = seen.lock().unwrap();
            seen.push(format!("{path} {}", String::from_utf8_lossy(&form)));
            let token = format!(r#"{{"token_type":"Bearer","expires_in":3599,"access_token":"t{}"}}"#, seen.len());
            ([("content-type", "application/json")], token)
        }
    });
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let (tls, service) = (tls.clone(), TowerToHyperService::new(service.clone()));
            tokio::spawn(async move {
                let Ok(stream) = tls.accept(tcp).await else { return };
                drop(auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await);
            });
        }
    });
    (address, forms)
}

fn application() -> Identity {
    Identity::client_secret("contoso.example", "app", SECRET).authority_host(format!("https://{AUTHORITY}"))
}

async fn token(keeper: &TokenKeeper) -> String {
    keeper.wait().await.unwrap().to_str().unwrap().to_owned()
}

async fn problem(identity: Identity, transport: Transport) -> String {
    let keeper = identity.transport(Arc::new(transport)).keeper().unwrap();
    let error = keeper.wait().await.unwrap_err();
    format!("{error} {error:?} {}", keeper.problem().unwrap_or_default())
}

#[tokio::test]
async fn a_token_comes_through_a_tunnel_that_shows_no_secret() {
    let (acceptor, pem) = tls(AUTHORITY);
    let (address, forms) = authority(acceptor).await;
    let proxy = Middleman::new(Does::LeadTo(address)).await;
    let client = HttpClient::builder()
        .proxy(Proxy::new(proxy.url()).unwrap())
        .add_destination(Destination::new(format!("https://{AUTHORITY}")).ca_pem(pem))
        .build()
        .unwrap();
    let keeper = application().transport(Arc::new(Transport::with_client(client))).keeper().unwrap();
    let first = keeper.wait().await.unwrap();
    assert_eq!(first, "Bearer t1");
    assert!(keeper.rejected(&first).await);
    assert_eq!(token(&keeper).await, "Bearer t2");

    let heads = proxy.heads();
    assert_eq!(heads.len(), 1, "the tunnel is kept: {heads:?}");
    assert!(heads[0].starts_with(&format!("CONNECT {AUTHORITY}:443 HTTP/1.1\r\n")), "{heads:?}");
    assert!(heads[0].contains(&format!("Proxy-Authorization: {AUTHORIZATION}\r\n")), "{heads:?}");
    assert!(!heads[0].contains(SECRET) && !heads[0].contains("oauth2"), "{heads:?}");
    let forms = forms.lock().unwrap();
    assert!(forms[0].starts_with("/contoso.example/oauth2/v2.0/token "), "{forms:?}");
    assert!(forms[0].contains("client_secret=hunter3") && !forms[0].contains("hunter2"), "{forms:?}");
}

#[tokio::test]
async fn a_proxy_that_does_not_lead_there_is_told_of_without_its_name() {
    for does in [
        Does::Say("HTTP/1.1 407 Who\r\ncontent-length: 0\r\n\r\n"),
        Does::Say("HTTP/1.1 502 Bad Gateway\r\n\r\nlogin.contoso.example is not allowed"),
    ] {
        let proxy = Middleman::new(does).await;
        let shown = problem(application(), Transport::through(Proxy::new(proxy.url()).unwrap()).unwrap()).await;
        assert!(shown.contains("could not be reached") && shown.contains("the proxy: "), "{shown}");
        for hidden in [SECRET, "hunter2", AUTHORIZATION, "127.0.0.1", AUTHORITY] {
            assert!(!shown.contains(hidden), "{shown}");
        }
        assert!(proxy.heads()[0].starts_with(&format!("CONNECT {AUTHORITY}:443 ")), "{:?}", proxy.heads());
    }
}

/// A proxy reads what is sent in plain http.
#[tokio::test]
async fn nothing_secret_goes_through_a_proxy_in_the_clear() {
    let proxy = Middleman::new(Does::Say("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")).await;
    for endpoint in ["http://login.example", "http://10.0.0.4"] {
        assert!(application().authority_host(endpoint).keeper().is_err(), "{endpoint}");
    }
    assert_eq!(proxy.heads(), [""; 0]);
}
