use super::*;

fn io_kind(error: &TransportError) -> Option<io::ErrorKind> {
    error.source()?.downcast_ref::<io::Error>().map(io::Error::kind)
}

#[tokio::test]
async fn a_status_with_any_headers() {
    let backend = open();
    backend
        .faults()
        .push(Fault::status(429).header("retry-after-ms", "300").header("x-ratelimit-reset-tokens", "-1"))
        .push(Fault::status(502).body("<html>").header("content-type", "text/html"));

    let response = send(&backend, chat()).await;
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(header(&response, "retry-after-ms"), Some("300"));
    assert_eq!(header(&response, "x-ratelimit-reset-tokens"), Some("-1"));
    assert_eq!(header(&response, "retry-after"), None);
    assert_eq!(json(response).await["error"]["code"], "429");

    let response = send(&backend, chat()).await;
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(header(&response, "content-type"), Some("text/html"));
    assert_eq!(text(response).await, "<html>");

    assert_eq!(status(&backend, chat()).await, StatusCode::OK, "the script is over");
}

#[tokio::test]
async fn headers_on_a_success() {
    let backend = open();
    backend.faults().push(Fault::status(200).header("x-ms-spillover-from-deployment", "ptu"));
    let response = send(&backend, chat()).await;
    assert_eq!(header(&response, "x-ms-spillover-from-deployment"), Some("ptu"));
    assert!(text(response).await.contains("Hello from eastus"));
}

#[tokio::test]
async fn every_error_status_has_a_body_in_azures_shape() {
    let backend = open();
    for code in [400, 401, 403, 404, 408, 409, 413, 424, 429, 500, 502, 503, 504, 599] {
        backend.faults().push(Fault::status(code));
        let response = send(&backend, chat()).await;
        assert_eq!(response.status(), code);
        assert!(json(response).await["error"]["message"].is_string(), "{code}");
    }
}

#[tokio::test]
async fn throttling_with_and_without_a_hint() {
    let backend = open();
    backend.faults().push(Fault::throttled()).push(Fault::throttled_for(Duration::from_secs(86_400)));

    let bare = send(&backend, chat()).await;
    assert_eq!(bare.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(bare.headers().keys().all(|name| !name.as_str().contains("retry") && !name.as_str().contains("reset")));
    assert!(!text(bare).await.contains(" seconds"));

    let day = send(&backend, chat()).await;
    assert_eq!(header(&day, "retry-after"), Some("86400"));
    assert_eq!(header(&day, "retry-after-ms"), Some("86400000"));
    assert!(text(day).await.contains("Try again in 86400 seconds."));
}

#[tokio::test]
async fn resets_and_refusals_are_errors() {
    let backend = open();
    backend.faults().push(Fault::reset()).push(Fault::refused());

    let error = backend.clone().oneshot(chat()).await.unwrap_err();
    assert!(error.is_reset());
    assert_eq!(io_kind(&error), Some(io::ErrorKind::ConnectionReset));
    assert_eq!(backend.request_count(), 1);

    let error = backend.clone().oneshot(chat()).await.unwrap_err();
    assert!(error.is_refused());
    assert_eq!(io_kind(&error), Some(io::ErrorKind::ConnectionRefused));
    assert_eq!(backend.request_count(), 1, "what was refused was not received");
    assert_eq!(backend.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn slow_heads_and_bodies() {
    let backend = open();
    backend.faults().push(Fault::slow_head(Duration::from_secs(5))).push(Fault::slow_body(Duration::from_secs(1)));

    let start = Instant::now();
    assert_eq!(status(&backend, chat()).await, StatusCode::OK);
    assert_eq!(start.elapsed(), Duration::from_secs(5));

    let start = Instant::now();
    let response = send(&backend, chat()).await;
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert!(text(response).await.ends_with('}'));
    assert_eq!(start.elapsed(), Duration::from_secs(3), "four quarters, three pauses");
}

#[tokio::test(start_paused = true)]
async fn slow_streams_pause_between_events() {
    let backend = open();
    backend.faults().push(Fault::slow_body(Duration::from_secs(1)));
    let start = Instant::now();
    let mut body = send(&backend, post(CHAT, r#"{"messages":[],"stream":true}"#)).await.into_body();
    let mut events = 0;
    while let Some(frame) = body.frame().await {
        let event = frame.unwrap().into_data().unwrap();
        assert!(event.starts_with(b"data: ") && event.ends_with(b"\n\n"));
        assert_eq!(start.elapsed(), Duration::from_secs(events));
        events += 1;
    }
    assert_eq!(events, 7);
}

#[tokio::test]
async fn bodies_are_cut_where_told() {
    let backend = open();
    for (after, expected) in [(0, 0), (7, 7), (usize::MAX, 9)] {
        backend.faults().push(Fault::cut_body(after).body("0123456789"));
        let mut body = send(&backend, chat()).await.into_body();
        let mut read = 0;
        let error = loop {
            match body.frame().await.unwrap() {
                Ok(frame) => read += frame.into_data().unwrap().len(),
                Err(error) => break error,
            }
        };
        assert_eq!(read, expected);
        let error = error.downcast_ref::<TransportError>().unwrap();
        assert!(error.is_cut());
        assert_eq!(io_kind(error), Some(io::ErrorKind::UnexpectedEof));
        assert!(body.frame().await.is_none());
        assert_eq!(backend.in_flight(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_hang_ends_with_the_caller() {
    let backend = open();
    backend.faults().push(Fault::hang());
    let answer = tokio::time::timeout(Duration::from_secs(3_600), backend.clone().oneshot(chat()));
    let (answer, ()) = tokio::join!(answer, async {
        backend.wait_for_requests(1).await;
        assert_eq!(backend.in_flight(), 1);
    });
    assert!(answer.is_err());
    assert_eq!(backend.in_flight(), 0);
}

#[tokio::test]
async fn standing_and_aimed_faults() {
    let backend = SimulatedBackend::builder("eastus")
        .deployment(SimulatedDeployment::standard("gpt-4o"))
        .deployment(SimulatedDeployment::standard("other"))
        .build();
    backend.faults().push_n(Fault::status(500).for_deployment("other"), 2).always(Fault::status(503));
    assert_eq!(status(&backend, chat()).await, 503);

    let other = || post("/openai/v1/chat/completions", r#"{"model":"other","messages":[]}"#);
    for expected in [500, 500, 503] {
        assert_eq!(status(&backend, other()).await, expected);
    }
    backend.faults().clear();
    assert_eq!(status(&backend, other()).await, 200);
}
