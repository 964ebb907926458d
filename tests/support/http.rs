//! A small HTTP client and server for tests.
#![allow(dead_code, reason = "each test file uses its part")]

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tower_azure_openai::body::Body;

pub(crate) const CHAT: &str = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21";
pub(crate) const HELLO: &str = r#"{"messages":[{"role":"user","content":"Hi"}]}"#;

/// No test waits longer for anything; nothing that works takes nearly as long.
const PATIENCE: Duration = Duration::from_secs(20);

/// The result of what ends soon, or the end of the test.
pub(crate) async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: still waiting after {PATIENCE:?}"))
}

/// An answer that arrived whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) async fn read<B>(response: Response<B>) -> Self
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: std::fmt::Debug,
    {
        let (head, body) = response.into_parts();
        let body = soon("the body of an answer", body.collect()).await.unwrap().to_bytes();
        Self { status: head.status, headers: head.headers, body }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The `code` of an error, or nothing.
    pub(crate) fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

pub(crate) fn client() -> Client<HttpConnector, Body> {
    Client::builder(TokioExecutor::new()).build_http()
}

/// Sends over a connection of its own.
pub(crate) async fn send(request: Request<Body>) -> Answer {
    Answer::read(soon("an answer", client().request(request)).await.unwrap()).await
}

pub(crate) async fn get(url: impl AsRef<str>) -> Answer {
    send(Request::get(url.as_ref()).body(Body::empty()).unwrap()).await
}

pub(crate) fn chat_request(url: &str, key: &str) -> Request<Body> {
    let request =
        Request::post(format!("{url}{CHAT}")).header("content-type", "application/json").header("api-key", key);
    request.body(Body::from(HELLO)).unwrap()
}

pub(crate) async fn chat(url: &str, key: &str) -> Answer {
    send(chat_request(url, key)).await
}

pub(crate) fn authority(url: &str) -> &str {
    url.strip_prefix("http://").unwrap()
}

pub(crate) async fn connect(url: &str) -> TcpStream {
    TcpStream::connect(authority(url)).await.unwrap()
}

/// The head of a chat request, as text, up to and without the empty line.
pub(crate) fn chat_head(key: &str) -> String {
    format!("POST {CHAT} HTTP/1.1\r\nhost: gateway.example\r\napi-key: {key}\r\ncontent-type: application/json")
}

/// Writes these bytes to a new connection and reads what comes until the other side closes it.
pub(crate) async fn raw(url: &str, bytes: &[u8]) -> String {
    let (mut read, mut write) = connect(url).await.into_split();
    let mut answer = Vec::new();
    // A server that has seen enough may close while bytes still come: neither side's error matters.
    let write = async move {
        let _ = write.write_all(bytes).await;
        write
    };
    let read = async { drop(read.read_to_end(&mut answer).await) };
    let (_write, ()) = soon("the end of a connection", async { tokio::join!(write, read) }).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// Serves a function on loopback until the test ends; gives the URL.
pub(crate) async fn serve<S, F>(answer: S) -> String
where
    S: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    serve_on(listener, answer);
    url
}

pub(crate) fn serve_on<S, F>(listener: TcpListener, answer: S)
where
    S: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).unwrap();
            let answer = answer.clone();
            tokio::spawn(async move {
                let service = service_fn(|request| {
                    let answered = answer(request);
                    async { Ok::<_, Infallible>(answered.await) }
                });
                // A client that leaves is its own affair.
                let server = auto::Builder::new(TokioExecutor::new());
                drop(server.serve_connection_with_upgrades(TokioIo::new(stream), service).await);
            });
        }
    });
}
