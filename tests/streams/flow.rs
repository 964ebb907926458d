//! What flows: at once, whole, as long as it moves, and not beyond where it broke.

use futures_util::stream;
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tower::BoxError;
use tower_azure_openai::testkit::{Fault, StreamError};

use super::*;

const FILTER: &str = r#"data: {"id":"","choices":[],"prompt_filter_results":[]}"#;

/// A backend that says what it is given, when it is given it.
async fn dictated() -> (String, mpsc::UnboundedSender<Bytes>) {
    let (say, said) = mpsc::unbounded_channel::<Bytes>();
    let said = std::sync::Arc::new(std::sync::Mutex::new(Some(said)));
    let url = serve(move |request: Request<Incoming>| {
        let said = said.lock().unwrap().take().unwrap();
        async move {
            request.collect().await.unwrap();
            let frames = stream::unfold(said, async |mut said| {
                let chunk = said.recv().await?;
                Some((Ok::<_, BoxError>(Frame::data(chunk)), said))
            });
            let answer = Response::builder().header("content-type", "text/event-stream");
            answer.body(Body::new(StreamBody::new(frames))).unwrap()
        }
    });
    (url.await, say)
}

#[tokio::test]
async fn content_arrives_before_the_next_event_is_made() {
    for version in VERSIONS {
        let (backend, say) = dictated().await;
        let front = Front::of(backend).await;
        let mut sent = Vec::new();
        let mut tell = |event: &str| {
            sent.extend_from_slice(event.as_bytes());
            say.send(Bytes::copy_from_slice(event.as_bytes())).unwrap();
        };
        tell(&format!("{FILTER}\n\n"));
        tell("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"0\"}}]}\n\n");

        let mut request = front.stream_request();
        request.headers_mut().insert("accept-encoding", "gzip".parse().unwrap());
        let answer = soon("a head", client(version).request(request)).await.unwrap();
        assert_eq!(answer.headers().get("content-encoding"), None, "nothing is compressed on the way");
        let mut body = answer.into_body();
        let mut received = Vec::new();
        for number in 1..10 {
            let expected = format!("\"content\":\"{}\"", number - 1);
            while !String::from_utf8_lossy(&received).contains(&expected) {
                let frame = soon("what was said", body.frame()).await.unwrap().unwrap();
                received.extend_from_slice(&frame.into_data().unwrap());
            }
            tell(&format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{number}\"}}}}]}}\n\n"));
        }
        drop(say);
        let (rest, end) = soon("the rest", drain(body)).await;
        assert!(end.is_ok());
        received.extend_from_slice(&rest);
        assert_eq!(String::from_utf8(received).unwrap(), String::from_utf8(sent).unwrap());
    }
}

#[tokio::test]
async fn a_stream_in_pieces_arrives_whole() {
    let (backend, server) = simulated(SimulatedDeployment::standard("gpt-4o").says("Grüße aus Köln")).await;
    let front = Front::of(server.url()).await;
    backend.faults().always(Fault::chopped(1));
    for version in VERSIONS {
        let (body, end) = soon("a stream", drain(front.stream(version).await.into_body())).await;
        assert!(end.is_ok());
        let text = String::from_utf8(body.to_vec()).unwrap();
        for part in ["prompt_filter_results", "Grüße ", "aus ", "Köln", "\"finish_reason\":\"stop\""] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(text.ends_with("data: [DONE]\n\n"));
    }
}

#[tokio::test]
async fn an_encoded_answer_passes_whole() {
    let (backend, server) = open().await;
    let front = Front::of(server.url()).await;
    let gzip: Bytes = [0x1f, 0x8b, 0x08].into_iter().chain(0..=255).collect();
    let fault = || Fault::status(200).header("content-encoding", "gzip").body(gzip.clone());
    backend
        .faults()
        .push(fault())
        .push(fault().header("content-type", "text/event-stream").and(Fault::chopped(50)))
        .push(fault());
    for version in VERSIONS {
        let answer = front.stream(version).await;
        assert_eq!(answer.headers()["content-encoding"], "gzip");
        assert_eq!(soon("a body", answer.collect()).await.unwrap().to_bytes(), gzip);
    }
    assert_eq!(backend.requests()[0].header("accept-encoding"), Some("identity"));
}

/// Time stands still until the backend has the request.
async fn begin(front: &Front, backend: &SimulatedBackend, version: Version) -> Response<Incoming> {
    let clock = hold_clock();
    backend.clear_requests();
    let answer = tokio::spawn(client(version).request(front.stream_request()));
    backend.wait_for_requests(1).await;
    drop(clock);
    answer.await.unwrap().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_moves_may_last() {
    let (backend, server) = open().await;
    let minute = SECOND * 60;
    let limits = HttpClient::builder().connect_timeout(minute).first_byte_timeout(minute).answer_timeout(minute);
    let front = Front::with(server.url(), limits.idle_timeout(minute)).await;
    backend.faults().always(Fault::slow_body(SECOND * 59));
    for version in VERSIONS {
        let answer = begin(&front, &backend, version).await;
        let (text, end) = drain(answer.into_body()).await;
        assert!(end.is_ok(), "{end:?}");
        assert!(text.ends_with(b"data: [DONE]\n\n"));
    }
    assert_eq!((front.target().failures, front.target().in_flight), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_stands_still_ends_and_is_a_failure() {
    let (backend, server) = open().await;
    let front = Front::with(server.url(), HttpClient::builder().idle_timeout(SECOND * 60)).await;
    backend.faults().always(Fault::stalled_stream(4));
    for (before, version) in (0..).zip(VERSIONS) {
        let answer = begin(&front, &backend, version).await;
        let (text, end) = drain(answer.into_body()).await;
        assert_eq!(text.windows(2).filter(|two| two == b"\n\n").count(), 4);
        assert!(end.is_err(), "{version:?}: a client must not take this for the end");
        backend.wait_until_idle().await;
        assert_eq!((front.target().failures, front.target().in_flight), (before + 1, 0));
    }
}

#[tokio::test]
async fn a_stream_that_is_cut_is_cut_for_the_client_too() {
    let (backend, server) = open().await;
    let front = Front::of(server.url()).await;
    backend.faults().always(Fault::cut_stream(4));
    for (before, version) in (0..).zip(VERSIONS) {
        let (text, end) = soon("the cut", drain(front.stream(version).await.into_body())).await;
        assert!(text.len() < 2_000 && !text.ends_with(b"data: [DONE]\n\n"));
        assert!(end.is_err(), "{version:?}: a client must not take this for the end");
        backend.wait_until_idle().await;
        assert_eq!((front.target().failures, front.target().in_flight), (before + 1, 0));
    }
}

#[tokio::test]
async fn an_error_after_content_reaches_the_client_as_it_is() {
    let (backend, server) = open().await;
    let front = Front::of(server.url()).await;
    backend.faults().always(Fault::stream_error(StreamError::server_error().after_events(4)));
    for version in VERSIONS {
        let (text, end) = soon("a stream", drain(front.stream(version).await.into_body())).await;
        assert!(end.is_ok());
        let text = String::from_utf8(text.to_vec()).unwrap();
        let (_, last) = text.trim_end().rsplit_once("\n\n").unwrap();
        assert!(last.starts_with("data: {\"error\":{"), "{last}");
        assert_eq!(text.matches("\"content\":\"Hello \"").count(), 1, "nothing is sent twice");
    }
    assert_eq!(backend.request_count(), 2);
}

/// Trailers are written by hand: a server of hyper's keeps them from a client that does not ask for them.
#[tokio::test]
async fn trailers_follow_the_stream() {
    const ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n\
                          e\r\ndata: [DONE]\n\n\r\n0\r\nx-checksum: 7\r\n\r\n";
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let front = Front::of(format!("http://{}", listener.local_addr().unwrap())).await;
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 16 << 10];
        assert!(socket.read(&mut request).await.unwrap() > 0);
        socket.write_all(ANSWER.as_bytes()).await.unwrap();
    });
    let answer = front.stream(Version::HTTP_2).await;
    let body = soon("a stream", answer.collect()).await.unwrap();
    assert_eq!(body.trailers().unwrap()["x-checksum"], "7");
    assert_eq!(body.to_bytes(), "data: [DONE]\n\n");
}
