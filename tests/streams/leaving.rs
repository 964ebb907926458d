//! Clients that are slow, and clients that leave.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use futures_util::stream;
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::sync::watch;
use tower::BoxError;
use tower_azure_openai::testkit::Fault;

use super::*;

const CHUNK: usize = 64 << 10;
const CHUNKS: usize = 512 << 20 >> 16;
/// What sockets, HTTP/2 windows and hyper may hold together between the backend and a client that does not read.
const BUFFERS: usize = 32 << 20;

/// A backend that says half a gibibyte as fast as it may.
struct Flood {
    url: String,
    made: Arc<AtomicUsize>,
    /// Closed when nobody listens any more.
    over: watch::Sender<()>,
}

async fn flood() -> Flood {
    let (made, over) = (Arc::new(AtomicUsize::new(0)), watch::Sender::new(()));
    let (counter, listening) = (Arc::clone(&made), over.clone());
    let url = serve(move |request: Request<Incoming>| {
        let (counter, listens) = (Arc::clone(&counter), listening.subscribe());
        async move {
            request.collect().await.unwrap();
            let event = Bytes::from(format!("data: {}\n\n", "x".repeat(CHUNK - 8)));
            let frames = stream::iter((0..CHUNKS).map(move |_| {
                let _ = &listens;
                counter.fetch_add(CHUNK, SeqCst);
                Ok::<_, BoxError>(Frame::data(event.clone()))
            }));
            let answer = Response::builder().header("content-type", "text/event-stream");
            answer.body(Body::new(StreamBody::new(frames))).unwrap()
        }
    });
    Flood { url: url.await, made, over }
}

/// What was made by the time that nobody goes on by himself any more.
async fn settled(made: &AtomicUsize) -> usize {
    loop {
        let before = made.load(SeqCst);
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
        if made.load(SeqCst) == before {
            return before;
        }
    }
}

#[tokio::test]
async fn a_slow_client_slows_the_backend_down() {
    for version in VERSIONS {
        let flood = flood().await;
        let front = Front::of(&flood.url).await;
        let mut body = client(version).request(front.stream_request()).await.unwrap().into_body();
        let mut read = 0;
        for goal in [1, 64 << 20] {
            while read < goal {
                read += body.frame().await.unwrap().unwrap().into_data().unwrap().len();
            }
            let made = settled(&flood.made).await;
            assert!(made < read + BUFFERS, "{version:?}: {made} bytes were made for {read} that were read");
        }
        drop(body);
        soon("the end of the flood", flood.over.closed()).await;
        assert!(flood.made.load(SeqCst) < read + BUFFERS);
        assert_eq!((front.target().failures, front.target().in_flight), (0, 0));
    }
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_request_at_the_backend() {
    let (backend, server) = open().await;
    let front = Front::of(server.url()).await;
    for version in VERSIONS {
        backend.clear_requests();
        backend.faults().push(Fault::hang());
        let waiting = tokio::spawn(client(version).request(front.stream_request()));
        soon("the request", backend.wait_for_requests(1)).await;
        assert_eq!((backend.in_flight(), front.target().in_flight), (1, 1));
        waiting.abort();
        soon("its end, before a head", backend.wait_until_idle()).await;
        assert_eq!(front.target().in_flight, 0);

        backend.faults().push(Fault::stalled_stream(4));
        let mut body = front.stream(version).await.into_body();
        soon("an event", body.frame()).await.unwrap().unwrap();
        assert_eq!((backend.in_flight(), front.target().in_flight), (1, 1));
        drop(body);
        soon("its end, in the middle of a stream", backend.wait_until_idle()).await;
        assert_eq!(front.target().in_flight, 0);
    }
    assert_eq!((front.target().failures, front.target().circuit), (0, "closed"), "a client that leaves is no failure");
}

#[tokio::test]
async fn a_client_that_leaves_in_the_preamble_ends_the_request_at_the_backend() {
    let (backend, server) = open().await;
    let front = Front::of(server.url()).await;
    for version in VERSIONS {
        backend.clear_requests();
        backend.faults().push(Fault::stalled_stream(1));
        let waiting = tokio::spawn(client(version).request(front.stream_request()));
        soon("the request", backend.wait_for_requests(1)).await;
        waiting.abort();
        soon("its end", backend.wait_until_idle()).await;
        assert_eq!((front.target().in_flight, front.target().failures), (0, 0));
    }
}
