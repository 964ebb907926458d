//! Inspection: bodies within their bounds, memory within its account, and what is asked for.
#![allow(clippy::unwrap_used, reason = "the helpers are part of the tests")]

mod support;

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use proptest::prelude::*;
use tokio::time::{Instant, sleep};
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_azure_openai::body::Body;
use tower_azure_openai::context::Route;
use tower_azure_openai::inspect::{InspectLayer, SMALL_BODY};
use tower_azure_openai::{Error, ErrorKind};

use support::{CHAT, answer, broken, chat, chunked, post, stalled};

const MIB: usize = 1024 * 1024;

/// What the service below gets.
async fn inspect(layer: &InspectLayer, request: Request<Body>) -> Result<Request<Body>, ErrorKind> {
    let seen = Arc::new(Mutex::new(None));
    let log = seen.clone();
    let inner = service_fn(move |request: Request<Body>| {
        *log.lock().unwrap() = Some(request);
        async { Ok::<_, BoxError>(answer(200)) }
    });
    match layer.layer(inner).oneshot(request).await {
        Ok(_) => Ok(seen.lock().unwrap().take().unwrap()),
        Err(error) => {
            assert!(seen.lock().unwrap().is_none(), "nothing goes on");
            Err(kind(&error))
        }
    }
}

fn kind(error: &BoxError) -> ErrorKind {
    Error::find(error.as_ref()).unwrap().kind()
}

fn is_collected(request: &Request<Body>) -> bool {
    request.body().as_bytes().is_some()
}

/// A body that says how long it is and comes as a stream.
fn sized(len: usize) -> Body {
    Body::new(Full::new(Bytes::from(vec![7; len])))
}

mod size {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn above_the_limit_ends_at_once_when_it_is_announced() {
        let layer = InspectLayer::new().request_body(10);
        assert_eq!(inspect(&layer, post(CHAT, sized(11))).await.map(drop), Err(ErrorKind::RequestTooLarge));
        assert_eq!(inspect(&layer, post(CHAT, vec![7; 11])).await.map(drop), Err(ErrorKind::RequestTooLarge));
        assert!(is_collected(&inspect(&layer, post(CHAT, sized(10))).await.unwrap()));
        assert_eq!(layer.replay_memory_in_use(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn above_the_limit_ends_when_it_is_counted() {
        let layer = InspectLayer::new().request_body(10);
        let endless =
            StreamBody::new(stream::repeat_with(|| Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"abc")))));
        let refused = inspect(&layer, post(CHAT, Body::new(endless))).await.map(drop);
        assert_eq!(refused, Err(ErrorKind::RequestTooLarge));
        assert!(inspect(&layer, post(CHAT, chunked(["abcde", "fghij"]))).await.is_ok(), "exactly the limit");
        assert_eq!(layer.replay_memory_in_use(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn above_the_limit_ends_a_stream() {
        let layer = InspectLayer::new().request_body(10).replay_limit(4);
        let request = inspect(&layer, post(CHAT, chunked(["abcde", "fghij", "k"]))).await.unwrap();
        let mut body = request.into_body();
        let mut read = Vec::new();
        let error = loop {
            match body.frame().await.unwrap() {
                Ok(frame) => read.extend_from_slice(&frame.into_data().unwrap()),
                Err(error) => break error,
            }
        };
        assert_eq!((kind(&error), &*read), (ErrorKind::RequestTooLarge, &b"abcdefghij"[..]));
    }

    #[tokio::test(start_paused = true)]
    async fn above_the_replay_limit_streams_and_loses_nothing() {
        let layer = InspectLayer::new().replay_limit(10);
        for chunks in [vec!["0123456789"], vec!["01234", "56789"]] {
            assert!(is_collected(&inspect(&layer, post(CHAT, chunked(chunks))).await.unwrap()));
        }
        for chunks in [
            vec!["0123456789a"],
            vec!["0123456789", "a"],
            vec!["0", "12345678", "9a", "b"],
            vec!["", "0", "123456789a"],
        ] {
            let request = inspect(&layer, post(CHAT, chunked(chunks.clone()))).await.unwrap();
            assert!(!is_collected(&request), "{chunks:?}");
            assert_eq!(request.into_body().collect().await.unwrap().to_bytes(), chunks.concat());
        }
        let request = inspect(&layer, post(CHAT, sized(11))).await.unwrap();
        assert_eq!(request.into_body().collect().await.unwrap().to_bytes(), vec![7; 11]);
        assert_eq!(layer.replay_memory_in_use(), 0);
    }
}

mod time {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    /// A byte every second, for ever.
    fn dripping() -> Body {
        let drips = stream::repeat(()).then(|()| async {
            sleep(Duration::from_secs(1)).await;
            Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"x")))
        });
        Body::new(StreamBody::new(drips.boxed()))
    }

    #[tokio::test(start_paused = true)]
    async fn is_over_for_a_body_that_stalls_or_drips() {
        for body in [stalled([""; 0]), stalled(["{"]), dripping()] {
            let layer = InspectLayer::new().request_timeout(PATIENCE);
            let start = Instant::now();
            let refused = inspect(&layer, post(CHAT, body)).await.map(drop);
            assert_eq!(refused, Err(ErrorKind::RequestTimeout));
            assert_eq!(start.elapsed().as_secs(), 5);
            assert_eq!(layer.replay_memory_in_use(), 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn counts_from_the_head_while_it_streams() {
        for body in [stalled(["0123456789"]), dripping()] {
            let layer = InspectLayer::new().request_timeout(PATIENCE).replay_limit(2);
            let start = Instant::now();
            let request = inspect(&layer, post(CHAT, body)).await.unwrap();
            let error = request.into_body().collect().await.unwrap_err();
            assert_eq!(kind(&error), ErrorKind::RequestTimeout);
            assert_eq!(start.elapsed().as_secs(), 5);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn that_the_service_below_takes_is_not_the_clients() {
        let layer = InspectLayer::new().request_timeout(PATIENCE);
        let slow = service_fn(async |_: Request<Body>| {
            sleep(Duration::from_secs(600)).await;
            Ok::<_, BoxError>(answer(200))
        });
        assert_eq!(layer.layer(slow).oneshot(chat()).await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn an_upload_that_breaks_off_is_the_clients_matter() {
    let layer = InspectLayer::new();
    let refused = inspect(&layer, post(CHAT, broken(["{"], "connection reset"))).await.map(drop);
    assert_eq!(refused, Err(ErrorKind::UploadFailed));

    let request = inspect(&InspectLayer::new().replay_limit(0), post(CHAT, broken(["{"], "reset"))).await.unwrap();
    assert_eq!(kind(&request.into_body().collect().await.unwrap_err()), ErrorKind::UploadFailed);
    assert_eq!(layer.replay_memory_in_use(), 0);
}

mod memory {
    use super::*;

    #[tokio::test]
    async fn that_is_spent_makes_large_bodies_stream_and_small_ones_still_fit() {
        let layer = InspectLayer::new().replay_memory(8 * MIB);
        let first = inspect(&layer, post(CHAT, sized(6 * MIB))).await.unwrap();
        assert!(is_collected(&first));
        for body in [sized(2 * MIB), chunked(vec![vec![7; 65_537]; 32])] {
            let large = inspect(&layer, post(CHAT, body)).await.unwrap();
            assert!(!is_collected(&large));
            let bytes = large.into_body().collect().await.unwrap().to_bytes();
            assert!(bytes.len() >= 2 * MIB && bytes.iter().all(|byte| *byte == 7));
        }
        let mut small = Vec::new();
        for _ in 0..16 {
            small.push(inspect(&layer, post(CHAT, sized(SMALL_BODY))).await.unwrap());
        }
        assert!(small.iter().all(is_collected), "the last eighth is theirs");
        assert!(layer.replay_memory_in_use() <= 8 * MIB);
        drop((first, small));
        assert_eq!(layer.replay_memory_in_use(), 0);
        assert!(is_collected(&inspect(&layer, post(CHAT, sized(6 * MIB))).await.unwrap()), "room again");
    }

    #[tokio::test]
    async fn is_one_account_for_all_services_of_a_layer() {
        let layer = InspectLayer::new().replay_memory(MIB);
        let held = inspect(&layer.clone(), post(CHAT, sized(MIB / 2))).await.unwrap();
        assert_eq!(layer.replay_memory_in_use(), MIB / 2);
        let copy = held.body().try_clone().unwrap();
        drop(held);
        assert_eq!(layer.replay_memory_in_use(), MIB / 2, "a copy of the bytes is left");
        drop(copy);
        assert_eq!(layer.replay_memory_in_use(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn is_given_back_by_a_request_that_is_cancelled() {
        let layer = InspectLayer::new();
        let mut sending = Box::pin(inspect(&layer, post(CHAT, stalled([vec![7; MIB]]))));
        assert!(sending.as_mut().now_or_never().is_none());
        assert!(layer.replay_memory_in_use() >= MIB);
        drop(sending);
        assert_eq!(layer.replay_memory_in_use(), 0);
    }

    type Running = Pin<Box<dyn Future<Output = Result<Request<Body>, ErrorKind>>>>;

    /// An upload of 32 MiB in slow motion.
    fn slow_upload(start: u64) -> Body {
        let chunk = Bytes::from(vec![7; MIB]);
        let chunks = stream::iter(0..32).then(move |_| {
            let chunk = chunk.clone();
            async move {
                sleep(Duration::from_millis(900 + start)).await;
                Ok::<_, BoxError>(Frame::data(chunk))
            }
        });
        Body::new(StreamBody::new(chunks.boxed()))
    }

    #[tokio::test(start_paused = true)]
    async fn holds_200_slow_uploads_within_its_bound() {
        const BOUND: usize = 64 * MIB;
        let layer = InspectLayer::new().replay_memory(BOUND);
        let sink = |request: Request<Body>| async {
            let mut body = request.into_body();
            let mut read = 0;
            while let Some(frame) = body.frame().await {
                read += frame?.into_data().map_or(0, |data| data.len());
            }
            Ok::<_, BoxError>(Response::new(Body::from(read.to_string())))
        };
        let service = layer.layer(service_fn(sink));
        let uploads: Vec<_> =
            (0..200).map(|i| tokio::spawn(service.clone().oneshot(post(CHAT, slow_upload(i))))).collect();
        let mut fullest = 0;
        for _ in 0..40 {
            sleep(Duration::from_secs(1)).await;
            let in_use = layer.replay_memory_in_use();
            assert!(in_use <= BOUND, "{in_use}");
            fullest = fullest.max(in_use);
            let short = inspect(&layer, post(CHAT, chunked(["{", "}"]))).await.unwrap();
            assert!(is_collected(&short), "short requests are served meanwhile");
        }
        assert!(fullest > BOUND / 2, "the account is there to be used: {fullest}");
        for upload in uploads {
            let answer = upload.await.unwrap().unwrap();
            assert_eq!(support::bytes(answer).await, (32 * MIB).to_string());
        }
        assert_eq!(layer.replay_memory_in_use(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Requests are started, advanced, finished and dropped in any order.
        #[test]
        fn is_all_given_back_after_any_interleaving(
            steps in prop::collection::vec((0_u8..4, 0_usize..8, 0_usize..200_000, 1_usize..6), 0..60),
        ) {
            const BOUND: usize = 600_000;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            let _inside = runtime.enter();
            let layer = InspectLayer::new().replay_memory(BOUND).replay_limit(300_000).request_body(700_000);
            let mut running: Vec<Running> = Vec::new();
            let mut held = Vec::new();
            for (step, which, len, chunks) in steps {
                match step {
                    0 => {
                        let chunks = vec![vec![7; len]; chunks];
                        let body = match which {
                            0..3 => chunked(chunks),
                            3..5 => sized(len),
                            5..7 => stalled(chunks),
                            _ => broken(chunks, "reset"),
                        };
                        let layer = layer.clone();
                        running.push(Box::pin(async move { inspect(&layer, post(CHAT, body)).await }));
                    }
                    1 if !running.is_empty() => {
                        let index = which % running.len();
                        if let Some(done) = running[index].as_mut().now_or_never() {
                            drop(running.swap_remove(index));
                            held.extend(done);
                        }
                    }
                    2 if !running.is_empty() => drop(running.swap_remove(which % running.len())),
                    3 if !held.is_empty() => drop(held.swap_remove(which % held.len())),
                    _ => {}
                }
                prop_assert!(layer.replay_memory_in_use() <= BOUND);
                let in_hand: usize = held.iter().filter_map(|request| request.body().as_bytes()).map(Bytes::len).sum();
                prop_assert!(layer.replay_memory_in_use() >= in_hand, "all that is in hand is charged");
            }
            drop((running, held));
            prop_assert_eq!(layer.replay_memory_in_use(), 0);
        }
    }
}

mod streaming {
    use super::*;

    async fn is_streaming(request: Request<Body>) -> bool {
        let request = inspect(&InspectLayer::new(), request).await.unwrap();
        request.extensions().get::<Route>().unwrap().is_streaming()
    }

    #[tokio::test]
    async fn is_what_the_top_level_of_the_json_says() {
        for (body, expected) in [
            (r#"{"stream":true}"#, true),
            (r#" { "messages" : [], "stream" : true , "n": 1e400 } "#, true),
            (r#"{"messages":[{"content":"x"}],"stream":  true}"#, true),
            (r#"{"stream":false}"#, false),
            (r#"{"stream":null}"#, false),
            (r#"{"stream":"true"}"#, false),
            (r#"{"stream":1}"#, false),
            (r#"{"stream":[true]}"#, false),
            (r#"{"stream":true,"stream":true}"#, false),
            (r#"{"stream":true,"stream":false}"#, false),
            (r#"{"Stream":true}"#, false),
            (r#"{"stream_options":{"stream":true}}"#, false),
            (r#"{"messages":[{"stream":true}]}"#, false),
            (r#"{"messages":[{"content":"\"stream\":true"}]}"#, false),
            (r#"{"a":"\"stream\":true","stream":false}"#, false),
            (r#"[{"stream":true}]"#, false),
            (r#"["stream",true]"#, false),
            (r#""stream""#, false),
            (r#"{"stream":true"#, false),
            (r#"{"stream":true}}"#, false),
            ("\u{feff}{\"stream\":true}", false),
            ("{}", false),
            ("", false),
            ("stream=true", false),
        ] {
            assert_eq!(is_streaming(post(CHAT, body)).await, expected, "{body}");
            assert_eq!(is_streaming(post(CHAT, chunked([body]))).await, expected, "{body} as a stream");
        }
    }

    #[tokio::test]
    async fn is_read_from_json_of_calls_that_can_stream_only() {
        const ASKED: &str = r#"{"stream":true}"#;
        let with = |content_type: Option<&'static str>| {
            let mut request = post(CHAT, ASKED);
            request.headers_mut().remove("content-type");
            if let Some(content_type) = content_type {
                request.headers_mut().insert("content-type", content_type.parse().unwrap());
            }
            request
        };
        for (content_type, expected) in [
            (Some("application/json"), true),
            (Some("Application/JSON; charset=utf-8"), true),
            (Some("application/json ;x=y"), true),
            (Some("application/vnd.api+json"), true),
            (Some("text/plain"), false),
            (Some("multipart/form-data; boundary=json"), false),
            (Some("application/x-unheard-of"), false),
            (Some(""), false),
            (None, false),
        ] {
            assert_eq!(is_streaming(with(content_type)).await, expected, "{content_type:?}");
        }
        let mut put = with(Some("application/json"));
        *put.method_mut() = Method::PUT;
        assert!(!is_streaming(put).await);
        for (uri, expected) in [
            ("/openai/deployments/gpt-4o/completions", true),
            ("/openai/deployments/gpt-4o/embeddings", false),
            ("/openai/files", false),
        ] {
            assert_eq!(is_streaming(post(uri, ASKED)).await, expected, "{uri}");
        }
    }
}

mod routes {
    use super::*;

    #[tokio::test]
    async fn that_are_there_are_kept() {
        let mine = Route::parse(&Method::POST, &"/openai/deployments/mine/embeddings".parse().unwrap()).unwrap();
        let mut request = post("/outside", "{}");
        request.extensions_mut().insert(mine);
        let request = inspect(&InspectLayer::new(), request).await.unwrap();
        assert_eq!(request.extensions().get::<Route>().unwrap().alias(), Some("mine"));
    }

    #[tokio::test]
    async fn are_read_from_the_path() {
        let request = inspect(&InspectLayer::new(), chat()).await.unwrap();
        assert_eq!(request.extensions().get::<Route>().unwrap().alias(), Some("gpt-4o"));
        for (uri, kind) in [
            ("/", ErrorKind::PathNotFound),
            ("/openai", ErrorKind::PathNotFound),
            ("/openai/", ErrorKind::PathNotFound),
            ("/v1/chat/completions", ErrorKind::PathNotFound),
            ("/openai//models", ErrorKind::AmbiguousRequest),
            ("/openai/../secret", ErrorKind::AmbiguousRequest),
            ("/openai/%2e%2e/secret", ErrorKind::AmbiguousRequest),
            ("/openai/deployments/a%2fb/embeddings", ErrorKind::AmbiguousRequest),
            ("/openai/deployments/%zz/embeddings", ErrorKind::AmbiguousRequest),
            ("/openai/deployments/%ff/embeddings", ErrorKind::AmbiguousRequest),
        ] {
            let body = stalled(["never read"]);
            assert_eq!(inspect(&InspectLayer::new(), post(uri, body)).await.map(drop), Err(kind), "{uri}");
        }
    }

    #[tokio::test]
    async fn do_not_change_the_request() {
        let mut request = post("/openai/deployments/%67pt/chat/completions?a=%20&b", "{\"a\" :1}");
        request.headers_mut().insert("x-mine", "1".parse().unwrap());
        request.extensions_mut().insert(7_u8);
        let request = inspect(&InspectLayer::new(), request).await.unwrap();
        assert_eq!(request.uri(), "/openai/deployments/%67pt/chat/completions?a=%20&b");
        assert_eq!((request.headers().len(), request.extensions().get::<u8>()), (2, Some(&7)));
        assert_eq!(request.body().as_bytes().unwrap(), "{\"a\" :1}");
    }
}

#[tokio::test]
async fn only_what_was_ready_is_called() {
    let upload = || post(CHAT, chunked(["{}"]));
    support::assert_keeps_the_readiness_contract(&InspectLayer::new(), upload).await;
}
