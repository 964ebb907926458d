//! Causes and the answers that they become.
#![allow(clippy::unwrap_used, reason = "the helpers are part of the tests")]

mod support;

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use http::{Request, Response};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
use tower_azure_openai::azure::{Outcome, Phase};
use tower_azure_openai::body::Body;
use tower_azure_openai::context::AttemptFailed;
use tower_azure_openai::respond::RespondLayer;
use tower_azure_openai::{Error, ErrorKind};

use support::{answer, bytes, chat, error, header, json, waits};

async fn of(cause: impl Into<BoxError>) -> Response<Body> {
    let cause = Arc::new(Mutex::new(Some(cause.into())));
    let fails = service_fn(move |_: Request<Body>| {
        let cause = cause.lock().unwrap().take();
        async { cause.map_or_else(|| Ok(answer(200)), Err) }
    });
    RespondLayer::new().layer(fails).oneshot(chat()).await.unwrap()
}

/// Every cause with its row of the contract.
const ROWS: [(ErrorKind, u16, &str, &str); 21] = [
    (ErrorKind::AliasNotAllowed, 403, "alias_not_allowed", "permission_error"),
    (ErrorKind::AmbiguousRequest, 400, "ambiguous_request", "invalid_request_error"),
    (ErrorKind::ApiVersionNotAllowed, 400, "api_version_not_allowed", "invalid_request_error"),
    (ErrorKind::BackendFailed, 502, "backend_failed", "gateway_error"),
    (ErrorKind::BackendTimeout, 504, "backend_timeout", "timeout_error"),
    (ErrorKind::CredentialRejected, 502, "backend_credential_rejected", "gateway_error"),
    (ErrorKind::DeploymentNotFound, 404, "DeploymentNotFound", "invalid_request_error"),
    (ErrorKind::FrontDoorRequired, 403, "front_door_required", "permission_error"),
    (ErrorKind::InvalidBody, 400, "invalid_body", "invalid_request_error"),
    (ErrorKind::InvalidConstraint, 400, "invalid_constraint", "invalid_request_error"),
    (ErrorKind::MethodNotAllowed, 405, "method_not_allowed", "invalid_request_error"),
    (ErrorKind::NoTargetDown, 503, "no_target_available", "gateway_error"),
    (ErrorKind::Overloaded, 503, "overloaded", "gateway_error"),
    (ErrorKind::NoTargetThrottled, 429, "no_target_available", "rate_limit_error"),
    (ErrorKind::NotSupported, 501, "not_supported", "invalid_request_error"),
    (ErrorKind::OperationNotAllowed, 403, "operation_not_allowed", "permission_error"),
    (ErrorKind::PathNotFound, 404, "404", "invalid_request_error"),
    (ErrorKind::RequestTimeout, 408, "request_timeout", "timeout_error"),
    (ErrorKind::RequestTooLarge, 413, "request_too_large", "invalid_request_error"),
    (ErrorKind::Unauthenticated, 401, "401", "authentication_error"),
    (ErrorKind::UploadFailed, 400, "invalid_body", "invalid_request_error"),
];

#[tokio::test]
async fn every_cause_has_its_row() {
    for (kind, status, code, r#type) in ROWS {
        let answer = of(Error::new(kind, "say \"why\"\n")).await;
        assert_eq!(answer.status(), status, "{kind:?}");
        assert_eq!(header(&answer, "content-type"), Some("application/json"));
        assert_eq!(header(&answer, "www-authenticate"), (status == 401).then_some("Bearer"), "{kind:?}");
        assert_eq!(waits(&answer), (None, None), "{kind:?}");
        assert_eq!(header(&answer, "x-should-retry"), None);
        let expected =
            format!(r#"{{"error":{{"code":"{code}","message":"say \"why\"\n","type":"{type}","param":null}}}}"#);
        assert_eq!(bytes(answer).await, expected, "{kind:?}: the members in this order");
    }
}

#[tokio::test]
async fn waits_are_told_in_both_headers_and_in_bounds() {
    for (wait, ms, s) in [
        (Duration::ZERO, "1", "1"),
        (Duration::from_micros(1), "1", "1"),
        (Duration::from_micros(300_001), "301", "1"),
        (Duration::from_millis(1_000), "1000", "1"),
        (Duration::from_millis(1_001), "1001", "2"),
        (Duration::from_millis(58_001), "58001", "59"),
        (Duration::from_secs(60), "59000", "59"),
        (Duration::MAX, "59000", "59"),
    ] {
        for kind in [ErrorKind::Overloaded, ErrorKind::NoTargetThrottled] {
            let answer = of(Error::new(kind, "wait").with_retry_after(wait)).await;
            assert_eq!(waits(&answer), (Some(ms), Some(s)), "{wait:?}");
        }
    }
}

#[tokio::test]
async fn an_outage_tells_a_second_at_least_and_not_all_the_same() {
    for (wait, from) in [(Duration::ZERO, 1_000), (Duration::from_millis(250), 1_000), (Duration::from_secs(9), 9_000)]
    {
        let mut told = std::collections::BTreeSet::new();
        for _ in 0..50 {
            let answer = of(Error::new(ErrorKind::NoTargetDown, "wait").with_retry_after(wait)).await;
            told.insert(waits(&answer).0.unwrap().parse::<u64>().unwrap());
        }
        assert!(told.iter().all(|ms| (from..from + 1_000).contains(ms)), "{told:?}");
        assert!(told.len() > 10, "{told:?}");
    }
}

#[tokio::test]
async fn what_may_have_been_done_says_so() {
    let answer = of(Error::new(ErrorKind::BackendTimeout, "late").must_not_repeat()).await;
    assert_eq!(header(&answer, "x-should-retry"), Some("false"));
}

#[tokio::test]
async fn a_cause_is_found_wherever_it_stands() {
    let cause = || Error::new(ErrorKind::RequestTooLarge, "too large");
    let chains: [BoxError; 3] = [
        io::Error::other(cause()).into(),
        AttemptFailed::new(Outcome::Abandoned, cause()).into(),
        AttemptFailed::new(Outcome::Unknown, io::Error::other(io::Error::other(cause()))).into(),
    ];
    for chain in chains {
        assert_eq!(error(of(chain).await).await, (413, "request_too_large".into()));
    }
}

#[tokio::test]
async fn the_source_of_a_cause_stays_inside() {
    let cause = Error::new(ErrorKind::BackendFailed, "broke").with_source("https://secret.example said sk-1");
    let text = bytes(of(cause).await).await;
    assert!(!String::from_utf8_lossy(&text).contains("secret"));
}

#[tokio::test]
async fn unknown_errors_become_502_without_their_text() {
    for unknown in ["connect to 10.0.0.7: refused", "api-key sk-1 is wrong", ""] {
        let answer = of(io::Error::other(unknown)).await;
        assert_eq!(answer.headers().len(), 1, "the content-type");
        let body = json(answer).await;
        assert_eq!(body["error"]["code"], "backend_failed");
        assert!(unknown.is_empty() || !body.to_string().contains(unknown));
    }
}

#[tokio::test]
async fn attempts_that_nobody_failed_over_from_are_answered() {
    for (outcome, status, code) in [
        (Outcome::Unreachable, 503, "no_target_available"),
        (Outcome::CredentialUnavailable, 503, "no_target_available"),
        (Outcome::TimedOut(Phase::Answer), 504, "backend_timeout"),
        (Outcome::TimedOut(Phase::FirstByte), 504, "backend_timeout"),
        (Outcome::Reset, 502, "backend_failed"),
        (Outcome::Unknown, 502, "backend_failed"),
    ] {
        let answer = of(AttemptFailed::new(outcome, "10.0.0.7")).await;
        assert_eq!(waits(&answer).0.is_some(), status == 503, "{outcome:?}");
        assert_eq!(waits(&answer).1.is_some(), status == 503, "{outcome:?}");
        assert_eq!(error(answer).await, (status, code.into()), "{outcome:?}");
    }
    let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
    assert_eq!(error(of(refused).await).await, (503, "no_target_available".into()));
}

#[tokio::test]
async fn answers_pass_unchanged() {
    let inner = service_fn(async |_: Request<Body>| {
        let passed = Response::builder().status(429).header("retry-after", "86400").header("x-a", "1").extension(7_u8);
        Ok::<_, BoxError>(passed.body(Body::from("as it was")).unwrap())
    });
    let answer = RespondLayer::new().layer(inner).oneshot(chat()).await.unwrap();
    assert_eq!(answer.status(), 429);
    assert_eq!((header(&answer, "retry-after"), header(&answer, "x-a")), (Some("86400"), Some("1")));
    assert_eq!((answer.headers().len(), answer.extensions().get::<u8>()), (2, Some(&7)));
    assert_eq!(bytes(answer).await, "as it was");
}

mod readiness {
    use super::*;

    #[tokio::test]
    async fn is_that_of_the_service_below() {
        support::assert_keeps_the_readiness_contract(&RespondLayer::new(), chat).await;
        let (mock, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
        handle.allow(0);
        let mut service = RespondLayer::new().layer(mock);
        assert!(service.ready().now_or_never().is_none());
        handle.allow(1);
        assert!(service.ready().now_or_never().is_some());
    }

    #[tokio::test]
    async fn that_failed_is_answered_to_the_next_call_and_only_to_that() {
        let (mock, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
        let mut service = RespondLayer::new().layer(mock);
        handle.send_error(Error::new(ErrorKind::NoTargetDown, "closed"));
        service.ready().await.unwrap();
        let _ = service.clone();
        assert_eq!(error(service.call(chat()).await.unwrap()).await, (503, "no_target_available".into()));
        assert!(handle.next_request().now_or_never().flatten().is_none(), "the service below was not called");
    }
}

#[tokio::test]
async fn cancellation_ends_the_request_below() {
    let (mock, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    let mut sending = Box::pin(RespondLayer::new().layer(mock).oneshot(chat()));
    assert!(sending.as_mut().now_or_never().is_none());
    let (_, respond) = handle.next_request().await.unwrap();
    drop(sending);
    // Nobody is left to take it, and nothing panics.
    respond.send_response(answer(200));
}

/// How many requests reach what stands below, and what the client is told.
async fn sent(request: http::request::Builder) -> (usize, Response<Body>) {
    let reached = Arc::new(Mutex::new(0));
    let counts = reached.clone();
    let below = service_fn(move |_: Request<Body>| {
        *counts.lock().unwrap() += 1;
        async { Ok::<_, BoxError>(answer(200)) }
    });
    let answer = RespondLayer::new().layer(below).oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    (*reached.lock().unwrap(), answer)
}

#[tokio::test]
async fn a_head_that_must_not_go_further() {
    let post = || Request::post("/openai/v1/responses");
    let coded = |coding: &str| post().header("transfer-encoding", coding);
    for (request, status, code, closes) in [
        (Request::builder().method("TRACE").uri("/openai/v1/files"), 405, "method_not_allowed", false),
        (Request::builder().method("CONNECT").uri("host.example:443"), 405, "method_not_allowed", false),
        (coded("gzip, chunked"), 501, "not_supported", true),
        (coded("cow, chunked"), 501, "not_supported", true),
        (coded("chunked, chunked"), 501, "not_supported", true),
        (coded("chunked;q=1"), 501, "not_supported", true),
        (coded("identity"), 501, "not_supported", true),
        (coded(""), 501, "not_supported", true),
        (coded("chunked").header("transfer-encoding", "chunked"), 501, "not_supported", true),
        (post().header("host", ""), 400, "ambiguous_request", false),
        (post().header("host", "a b"), 400, "ambiguous_request", false),
        (post().header("host", "a\tb"), 400, "ambiguous_request", false),
        (post().header("host", ":80"), 400, "ambiguous_request", false),
        (post().header("host", "a@b"), 400, "ambiguous_request", false),
        (post().header("host", "a/b"), 400, "ambiguous_request", false),
        (Request::post("http://a@b/openai/v1/responses"), 400, "ambiguous_request", false),
        (Request::post("http://a:b@c:80/openai/v1/responses").header("host", "c:80"), 400, "ambiguous_request", false),
        (post().header("host", "a").header("host", ""), 400, "ambiguous_request", false),
    ] {
        let described = format!("{request:?}");
        let (reached, answer) = sent(request).await;
        assert_eq!((answer.status().as_u16(), reached), (status, 0), "{described}");
        assert_eq!(header(&answer, "connection"), closes.then_some("close"), "{described}");
        assert_eq!(header(&answer, "allow").is_some(), status == 405, "{described}");
        assert_eq!(error(answer).await.1, code, "{described}");
    }
    for request in [
        post(),
        coded("Chunked"),
        post().header("host", "gateway"),
        post().header("host", "127.0.0.1:80"),
        post().header("host", "[::1]:80"),
        Request::post("https://[::1]:80/openai/v1/responses"),
        Request::options("/openai/v1/responses"),
    ] {
        assert_eq!(sent(request).await.0, 1);
    }
}

mod early_refusals {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use bytes::Bytes;
    use http::Version;
    use http_body::{Body as HttpBody, Frame, SizeHint};
    use http_body_util::BodyExt;
    use tokio::sync::mpsc;
    use tower_azure_openai::respond::DrainLayer;

    use super::*;

    /// An upload whose frames come when the test sends them.
    struct Wire(mpsc::UnboundedReceiver<Bytes>, Option<u64>);

    impl HttpBody for Wire {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            self.0.poll_recv(cx).map(|data| data.map(|data| Ok(Frame::data(data))))
        }

        fn size_hint(&self) -> SizeHint {
            self.1.map_or_else(SizeHint::default, SizeHint::with_exact)
        }
    }

    fn upload(announced: Option<u64>) -> (mpsc::UnboundedSender<Bytes>, Request<Wire>) {
        let (send, receive) = mpsc::unbounded_channel();
        (send, Request::post("/").body(Wire(receive, announced)).unwrap())
    }

    fn closes(answer: &Response<Body>) -> bool {
        header(answer, "connection") == Some("close")
    }

    /// What a service answers that reads nothing.
    async fn refused(request: Request<Wire>) -> Response<Body> {
        let refuses = service_fn(async |_: Request<Body>| Ok::<_, BoxError>(answer(401)));
        DrainLayer::new().layer(refuses).oneshot(request).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_rest_is_read_and_the_connection_goes_on() {
        let (send, request) = upload(Some(2_000));
        let arrives = async {
            tokio::time::sleep(Duration::from_millis(30)).await;
            send.send(Bytes::from(vec![0; 2_000])).unwrap();
            drop(send);
        };
        let (answer, ()) = tokio::join!(refused(request), arrives);
        assert_eq!((answer.status().as_u16(), closes(&answer)), (401, false));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_too_long_or_too_slow_or_waits_to_be_asked_for_closes_it() {
        let (_announced, request) = upload(Some((256 << 10) + 1));
        let started = tokio::time::Instant::now();
        assert!(closes(&refused(request).await));
        assert_eq!(started.elapsed(), Duration::ZERO);

        let (endless, request) = upload(None);
        (0..10).for_each(|_| endless.send(Bytes::from(vec![0; 64 << 10])).unwrap());
        assert!(closes(&refused(request).await));

        let (_silent, request) = upload(None);
        let started = tokio::time::Instant::now();
        assert!(closes(&refused(request).await));
        assert!(started.elapsed() <= Duration::from_millis(501));

        let (_waits, mut request) = upload(Some(10));
        request.headers_mut().insert("expect", "100-continue".parse().unwrap());
        let started = tokio::time::Instant::now();
        assert!(closes(&refused(request).await));
        assert_eq!(started.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_read_or_has_a_stream_of_its_own_is_left_alone() {
        let (send, request) = upload(None);
        send.send(Bytes::from("all")).unwrap();
        drop(send);
        let reads = service_fn(async |request: Request<Body>| {
            request.into_body().collect().await?;
            Ok::<_, BoxError>(answer(400))
        });
        assert!(!closes(&DrainLayer::new().layer(reads).oneshot(request).await.unwrap()));

        let (_silent, mut request) = upload(None);
        *request.version_mut() = Version::HTTP_2;
        assert!(!closes(&refused(request).await));
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_that_comes_while_the_upload_goes_on_closes_it() {
        for (status, expected) in [(429, true), (200, false)] {
            let (_send, request) = upload(None);
            let kept = Arc::new(Mutex::new(None));
            let keeps = kept.clone();
            let answers = service_fn(move |request: Request<Body>| {
                *keeps.lock().unwrap() = Some(request);
                async move { Ok::<_, BoxError>(answer(status)) }
            });
            assert_eq!(closes(&DrainLayer::new().layer(answers).oneshot(request).await.unwrap()), expected);
        }
    }
}
