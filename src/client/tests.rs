//! The clocks, over connections in memory: with sockets a paused clock would run ahead of the kernel.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Uri};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::rt;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tower::BoxError;
use tower_service::Service;

use super::connector::Connector;
use super::tls::Trust;
use super::{AliasTimeouts, Exchange, HttpClient};
use crate::azure::{Outcome, Phase};
use crate::body::Body;
use crate::context::{AttemptFailed, ClassifyError, DefaultClassify, Handshake, Route};
use crate::error::{Error, ErrorKind};
use crate::pool::{Backend, Deployment, Pool, Target};

/// Connects in memory, or never.
#[derive(Clone)]
struct Memory(Option<mpsc::UnboundedSender<DuplexStream>>);

impl Service<Uri> for Memory {
    type Response = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let accept = self.0.clone();
        Box::pin(async move {
            let Some(accept) = accept else { return std::future::pending().await };
            let (near, far) = duplex(1 << 16);
            accept.send(far).map_err(io::Error::other)?;
            Ok(Stream(TokioIo::new(near)))
        })
    }
}

struct Stream(TokioIo<DuplexStream>);

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl rt::Read for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: rt::ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl rt::Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

fn exchange(dial: Memory) -> Exchange<Connector<Memory>> {
    let limits = HttpClient::builder().limits;
    let connector = |dial| Connector::new(dial, Trust::new([].into()).unwrap(), limits.connect);
    let thinks = AliasTimeouts::new().first_byte(Duration::from_secs(900)).idle(Duration::from_secs(40));
    let aliases = [("o3-pro".to_owned(), limits.but(&thinks))].into();
    Exchange::new(connector(dial.clone()), connector(dial), limits, aliases)
}

/// A client, and the far ends of its connections.
fn client() -> (Exchange<Connector<Memory>>, mpsc::UnboundedReceiver<DuplexStream>) {
    let (accept, accepted) = mpsc::unbounded_channel();
    (exchange(Memory(Some(accept))), accepted)
}

/// Answers every connection with `parts`, each after its pause, and holds it open.
fn serve(mut accepted: mpsc::UnboundedReceiver<DuplexStream>, parts: &'static [(u64, &'static str)]) {
    tokio::spawn(async move {
        while let Some(mut connection) = accepted.recv().await {
            tokio::spawn(async move {
                let mut seen = vec![0; 1 << 16];
                assert!(connection.read(&mut seen).await.unwrap() > 0);
                for (pause, part) in parts {
                    sleep(Duration::from_secs(*pause)).await;
                    connection.write_all(part.as_bytes()).await.unwrap();
                }
                while connection.read(&mut seen).await.is_ok_and(|read| read > 0) {}
            });
        }
    });
}

fn request(body: impl Into<Body>) -> Request<Body> {
    Request::post("http://contoso.example/").body(body.into()).unwrap()
}

fn streaming() -> Request<Body> {
    let mut request = request("{}");
    let path = Uri::from_static("/openai/deployments/gpt-4o/chat/completions");
    request.extensions_mut().insert(Route::parse(&Method::POST, &path).unwrap().with_streaming(true));
    request
}

fn handshake() -> Request<Body> {
    Request::get("http://contoso.example/").extension(Handshake).body(Body::empty()).unwrap()
}

fn upload(frames: impl futures_core::Stream<Item = Result<Bytes, BoxError>> + Send + 'static) -> Body {
    use futures_util::TryStreamExt;
    Body::new(StreamBody::new(frames.map_ok(Frame::data)))
}

fn seconds(since: Instant) -> u64 {
    since.elapsed().as_secs()
}

#[tokio::test(start_paused = true)]
async fn a_streamed_head_has_less_time_than_another() {
    for (request, phase, limit) in [
        (streaming(), Phase::FirstByte, 300),
        (handshake(), Phase::FirstByte, 300),
        (request("{}"), Phase::Answer, 600),
        (request(""), Phase::Answer, 600),
    ] {
        let (client, accepted) = client();
        serve(accepted, &[]);
        let start = Instant::now();
        let failed = client.send(request).await.unwrap_err();
        assert_eq!((failed.outcome(), seconds(start)), (Outcome::TimedOut(phase), limit));
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_never_comes_is_unreachable() {
    let client = exchange(Memory(None));
    let start = Instant::now();
    let failed = client.send(request("{}")).await.unwrap_err();
    assert_eq!((failed.outcome(), seconds(start)), (Outcome::Unreachable, 5));
}

#[tokio::test(start_paused = true)]
async fn an_upload_is_not_timed_and_the_clock_starts_at_its_end() {
    let (client, accepted) = client();
    serve(accepted, &[]);
    let slow = futures_util::stream::unfold(0, |sent| async move {
        sleep(Duration::from_secs(100)).await;
        (sent < 10).then(|| (Ok(Bytes::from_static(b"x")), sent + 1))
    });
    let start = Instant::now();
    let failed = client.send(request(upload(slow))).await.unwrap_err();
    assert_eq!((failed.outcome(), seconds(start)), (Outcome::TimedOut(Phase::Answer), 1_100 + 600));
}

#[tokio::test(start_paused = true)]
async fn an_answer_in_time_arrives_whole() {
    let (client, accepted) = client();
    serve(accepted, &[(599, "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n"), (299, "ab"), (299, "cd")]);
    let answer = client.send(request("{}")).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "abcd");
}

#[tokio::test(start_paused = true)]
async fn a_body_may_pause_but_not_for_too_long() {
    let (client, accepted) = client();
    serve(accepted, &[(0, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"), (200, "a"), (200, "b"), (200, "c")]);
    let mut body = client.send(request("{}")).await.unwrap().into_body();
    for expected in ["a", "b", "c"] {
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), expected);
    }
    sleep(Duration::from_secs(1_000)).await;
    let start = Instant::now();
    let error = body.frame().await.unwrap().unwrap_err();
    assert_eq!(DefaultClassify.classify(error.as_ref()), Outcome::TimedOut(Phase::Idle));
    assert_eq!(seconds(start), 300, "the wait counts from the moment somebody waits");
}

#[tokio::test(start_paused = true)]
async fn an_alias_has_limits_of_its_own_and_the_others_keep_theirs() {
    let about = |alias: &str, target: Option<Target>, streaming| {
        let mut request = request("{}");
        let path = format!("/openai/deployments/{alias}/chat/completions").parse().unwrap();
        request.extensions_mut().insert(Route::parse(&Method::POST, &path).unwrap().with_streaming(streaming));
        target.map(|target| request.extensions_mut().insert(target));
        request
    };
    // A client's name for an alias, and the target that was chosen for it.
    let deployment = Deployment::new("d").alias("o3-pro");
    let pool = Pool::builder().add_backend(Backend::new("a", "https://a.example").add_deployment(deployment));
    let target = pool.build().unwrap().targets("o3-pro").pop().unwrap();
    for (request, phase, limit) in [
        (about("o3-pro", None, true), Phase::FirstByte, 900),
        (about("o3-pro", None, false), Phase::Answer, 600),
        (about("mine", Some(target), true), Phase::FirstByte, 900),
        (about("gpt-4o", None, true), Phase::FirstByte, 300),
    ] {
        let (client, accepted) = client();
        serve(accepted, &[]);
        let start = Instant::now();
        let failed = client.send(request).await.unwrap_err();
        assert_eq!((failed.outcome(), seconds(start)), (Outcome::TimedOut(phase), limit));
    }
    let (client, accepted) = client();
    serve(accepted, &[(0, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n")]);
    let mut body = client.send(about("o3-pro", None, true)).await.unwrap().into_body();
    let start = Instant::now();
    body.frame().await.unwrap().unwrap_err();
    assert_eq!(seconds(start), 40);
}

#[tokio::test(start_paused = true)]
async fn the_clock_of_a_body_begins_when_the_request_has_been_sent() {
    let (client, accepted) = client();
    serve(accepted, &[(0, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n")]);
    let slow = futures_util::stream::unfold(0, |sent| async move {
        sleep(Duration::from_secs(100)).await;
        (sent < 10).then(|| (Ok(Bytes::from_static(b"x")), sent + 1))
    });
    let start = Instant::now();
    let answer = client.send(request(upload(slow))).await.unwrap();
    let error = answer.into_body().collect().await.unwrap_err();
    assert_eq!(error.downcast_ref::<AttemptFailed>().unwrap().outcome(), Outcome::TimedOut(Phase::Idle));
    assert_eq!(seconds(start), 1_100 + 300);
}

#[tokio::test(start_paused = true)]
async fn no_clock_runs_on_a_connection_that_stands() {
    let (client, accepted) = client();
    serve(accepted, &[(59, "HTTP/1.1 101 Switching\r\nconnection: upgrade\r\n\r\n"), (100_000, "late")]);
    let mut answer = client.send(handshake()).await.unwrap();
    let mut connection = TokioIo::new(hyper::upgrade::on(&mut answer).await.unwrap());
    let mut heard = [0; 4];
    connection.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"late");
}

#[tokio::test(start_paused = true)]
async fn a_connection_for_a_handshake_that_never_comes_is_unreachable() {
    let start = Instant::now();
    let failed = exchange(Memory(None)).send(handshake()).await.unwrap_err();
    assert_eq!((failed.outcome(), seconds(start)), (Outcome::Unreachable, 5));
}

#[tokio::test(start_paused = true)]
async fn a_failed_upload_is_nobodys_fault() {
    let late: BoxError = Error::new(ErrorKind::RequestTimeout, "late").into();
    let foreign: BoxError = "the peer went away".into();
    for (error, kind) in [(late, ErrorKind::RequestTimeout), (foreign, ErrorKind::UploadFailed)] {
        let (client, accepted) = client();
        serve(accepted, &[]);
        let broken = futures_util::stream::iter([Ok(Bytes::from_static(b"x")), Err(error)]);
        let failed = client.send(request(upload(broken))).await.unwrap_err();
        assert_eq!(failed.outcome(), Outcome::Abandoned);
        assert_eq!(Error::find(&failed).unwrap().kind(), kind);
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_fails_after_the_head_is_nobodys_fault_either() {
    let (client, accepted) = client();
    serve(accepted, &[(0, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n")]);
    let broken = futures_util::stream::unfold(0, |sent| async move {
        if sent > 0 {
            sleep(Duration::from_secs(10)).await;
            return Some((Err("the peer went away".into()), sent));
        }
        Some((Ok(Bytes::from_static(b"x")), 1))
    });
    let answer = client.send(request(upload(broken))).await.unwrap();
    let error = answer.into_body().collect().await.unwrap_err();
    assert_eq!(error.downcast_ref::<AttemptFailed>().unwrap().outcome(), Outcome::Abandoned);
}

#[tokio::test(start_paused = true)]
async fn a_closed_connection_of_the_pool_is_no_failure() {
    let (client, mut accepted) = client();
    tokio::spawn(async move {
        while let Some(mut connection) = accepted.recv().await {
            assert!(connection.read(&mut [0; 1 << 10]).await.unwrap() > 0);
            connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        }
    });
    for _ in 0..3 {
        assert!(client.send(request("{}")).await.is_ok());
        sleep(Duration::from_secs(1)).await;
    }
}
