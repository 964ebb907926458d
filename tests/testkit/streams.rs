use tower_azure_openai::testkit::StreamError;

use super::*;

const STREAM: &str = r#"{"model":"gpt-4o","messages":[],"prompt":"","input":"Hi","stream":true}"#;
const RESPONSES: &str = "/openai/v1/responses";

/// The name and the data of each event; the end mark is a text.
fn events(stream: &str) -> Vec<(String, Value)> {
    let event = |event: &str| {
        let (name, data) = match event.strip_prefix("event: ").and_then(|event| event.split_once('\n')) {
            Some((name, data)) => (name, data),
            None => ("", event),
        };
        let data = data.strip_prefix("data: ").unwrap();
        (name.to_owned(), serde_json::from_str(data).unwrap_or_else(|_| data.into()))
    };
    assert!(stream.ends_with("\n\n"), "{stream}");
    stream.split_terminator("\n\n").map(event).collect()
}

async fn streamed(backend: &SimulatedBackend, uri: &str, body: &str) -> Vec<(String, Value)> {
    let response = send(backend, post(uri, body)).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(header(&response, "content-type").unwrap().starts_with("text/event-stream"));
    events(&text(response).await)
}

fn names(events: &[(String, Value)]) -> Vec<&str> {
    events.iter().map(|(name, _)| &**name).collect()
}

#[tokio::test]
async fn responses_tell_each_step() {
    let backend = open();
    let events = streamed(&backend, RESPONSES, STREAM).await;
    let expected = [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ];
    assert_eq!(names(&events), expected);
    for (number, (name, data)) in events.iter().enumerate() {
        assert_eq!((&data["type"], &data["sequence_number"]), (&json!(name), &json!(number)));
    }
    let said: String = events.iter().filter_map(|(_, data)| data["delta"].as_str()).collect();
    assert_eq!(said, "Hello from eastus");

    let (created, completed) = (&events[0].1["response"], &events[10].1["response"]);
    assert_eq!((&created["status"], &created["usage"]), (&json!("in_progress"), &Value::Null));
    assert_eq!((&completed["status"], &completed["usage"]["output_tokens"]), (&json!("completed"), &json!(5)));
    assert_eq!(created["id"], completed["id"]);

    let uri = format!("{RESPONSES}/{}", created["id"].as_str().unwrap());
    assert_eq!(json(send(&backend, Request::get(uri).body(Body::empty()).unwrap()).await).await, *completed);
}

#[tokio::test]
async fn runs_tell_each_step() {
    let backend = open();
    let assistant = json(send(&backend, post("/openai/v1/assistants", r#"{"model":"gpt-4o"}"#)).await).await;
    let body = json!({ "assistant_id": assistant["id"], "stream": true }).to_string();
    let events = streamed(&backend, "/openai/threads/runs?api-version=1", &body).await;
    let expected = [
        "thread.created",
        "thread.run.created",
        "thread.run.queued",
        "thread.run.in_progress",
        "thread.run.step.created",
        "thread.run.step.in_progress",
        "thread.message.created",
        "thread.message.in_progress",
        "thread.message.delta",
        "thread.message.delta",
        "thread.message.delta",
        "thread.message.completed",
        "thread.run.step.completed",
        "thread.run.completed",
        "done",
    ];
    assert_eq!(names(&events), expected);
    assert_eq!(events[13].1["usage"]["completion_tokens"], 5);

    let thread = events[0].1["id"].as_str().unwrap();
    let again = streamed(&backend, &format!("/openai/threads/{thread}/runs?api-version=1"), &body).await;
    assert_eq!(names(&again), expected[1..], "the thread is there");
    assert_eq!(again[0].1["thread_id"], thread);
}

#[tokio::test]
async fn an_asynchronous_filter_speaks_between_the_words_and_after_the_end() {
    let backend = with(SimulatedDeployment::standard("gpt-4o").async_filter());
    let events = streamed(&backend, CHAT, STREAM).await;
    let (mut after_the_end, mut verdicts) = (false, Vec::new());
    for (_, data) in &events {
        let choice = &data["choices"][0];
        if choice.is_object() && choice.get("delta").is_none() {
            assert_eq!(
                (&data["id"], &data["created"], &choice["finish_reason"]),
                (&json!(""), &json!(0), &Value::Null)
            );
            assert!(choice["content_filter_results"]["hate"].is_object());
            assert!(choice["content_filter_offsets"]["check_offset"].is_number());
            verdicts.push(after_the_end);
        }
        after_the_end |= choice["finish_reason"] == "stop";
    }
    assert_eq!(verdicts, [false, true]);
}

#[tokio::test]
async fn says_what_it_was_told_to() {
    let backend = with(SimulatedDeployment::standard("gpt-4o").says("Grüße aus Köln"));
    let said = streamed(&backend, CHAT, STREAM).await;
    let said = said.iter().filter_map(|(_, data)| data["choices"][0]["delta"]["content"].as_str());
    assert_eq!(said.collect::<Vec<_>>(), ["", "Grüße ", "aus ", "Köln"]);
    assert_eq!(json(send(&backend, chat()).await).await["choices"][0]["message"]["content"], "Grüße aus Köln");
}

#[tokio::test]
async fn an_error_takes_the_place_of_the_first_content() {
    for (uri, preamble) in [(CHAT, 2), ("/openai/v1/completions", 1)] {
        let backend = open();
        backend.faults().push(Fault::stream_error(StreamError::throttled_for(Duration::from_secs(7))));
        let events = streamed(&backend, uri, STREAM).await;
        let (last, before) = events.split_last().unwrap();
        assert_eq!(before.len(), preamble, "{uri}");
        let error = &last.1["error"];
        assert_eq!((&error["type"], &error["code"]), (&json!("too_many_requests"), &json!("rate_limit_exceeded")));
        assert_eq!(error["message"], "Rate limit is exceeded. Try again in 7 seconds.");
        assert_eq!(last.1.get("choices"), None);
    }
}

#[tokio::test]
async fn responses_tell_errors_in_every_shape() {
    let failed = "response.failed";
    for (error, shape) in [
        (StreamError::throttled(), &["error"][..]),
        (StreamError::throttled().flat(), &["error"]),
        (StreamError::throttled().after_bare_failure(), &[failed, "error"]),
        (StreamError::throttled().as_failure(), &[failed]),
    ] {
        for after in [0, 2, 5] {
            let backend = open();
            let fault = Fault::stream_error(error.clone().after_events(after)).header("retry-after", "7");
            backend.faults().push(fault);
            let response = send(&backend, post(RESPONSES, STREAM)).await;
            assert_eq!((response.status(), header(&response, "retry-after")), (StatusCode::OK, Some("7")));
            let events = events(&text(response).await);
            assert_eq!(names(&events[after..]), shape, "after {after} events");
            for (number, (_, data)) in events.iter().enumerate() {
                assert_eq!(data["sequence_number"], number);
            }
            let last = &events.last().unwrap().1;
            let details = match shape {
                ["error"] if last.get("error").is_none() => last,
                ["response.failed"] => &last["response"]["error"],
                _ => &last["error"],
            };
            assert_eq!(details["code"], "rate_limit_exceeded", "{last}");
            if let [_, "error"] = shape {
                let bare = &events[after].1["response"];
                assert_eq!((&bare["status"], &bare["error"]), (&json!("failed"), &Value::Null));
            }
        }
    }
}

#[tokio::test]
async fn a_run_ends_after_its_error() {
    let backend = open();
    let assistant = json(send(&backend, post("/openai/v1/assistants", r#"{"model":"gpt-4o"}"#)).await).await;
    let body = json!({ "assistant_id": assistant["id"], "stream": true }).to_string();
    backend.faults().push(Fault::stream_error(StreamError::server_error()));
    let events = streamed(&backend, "/openai/v1/threads/runs", &body).await;
    assert_eq!(names(&events[8..]), ["error", "done"]);
    assert_eq!(events[8].1["error"]["code"], "server_error");
}

#[tokio::test]
async fn an_error_comes_before_the_end_at_the_latest_and_only_in_streams() {
    let backend = open();
    backend.faults().push_n(Fault::stream_error(StreamError::content_filter().after_events(usize::MAX)), 2);
    let events = streamed(&backend, CHAT, STREAM).await;
    let (error, before) = events.split_last().unwrap();
    assert_eq!(error.1["error"]["param"], "prompt");
    assert_eq!(before.last().unwrap().1["choices"][0]["finish_reason"], "stop");
    assert!(json(send(&backend, chat()).await).await["usage"].is_object());
}

#[tokio::test]
async fn a_chopped_stream_is_the_same_in_pieces() {
    let backend = with(SimulatedDeployment::standard("gpt-4o").says("Grüße"));
    let error = Fault::stream_error(StreamError::throttled().after_events(3));
    backend.faults().push(error.clone());
    let whole = text(send(&backend, post(CHAT, STREAM)).await).await;
    for size in [0, 1, 7, usize::MAX] {
        backend.faults().push(error.clone().and(Fault::chopped(size)));
        let mut body = send(&backend, post(CHAT, STREAM)).await.into_body();
        let (mut pieces, mut sizes) = (Vec::new(), Vec::new());
        while let Some(frame) = body.frame().await {
            let piece = frame.unwrap().into_data().unwrap();
            sizes.push(piece.len());
            pieces.extend_from_slice(&piece);
        }
        let (last, others) = sizes.split_last().unwrap();
        assert!(others.iter().all(|piece| *piece == size.max(1)) && *last <= size.max(1), "{sizes:?}");
        // What the model is called and when: the id and the second differ.
        assert_eq!(pieces.len(), whole.len());
        assert!(String::from_utf8(pieces).unwrap().contains("Grüße"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stalled_stream_neither_goes_on_nor_ends() {
    let backend = open();
    for (after, expected) in [(0, 0), (3, 3), (usize::MAX, 7)] {
        backend.faults().push(Fault::stalled_stream(after));
        let mut body = send(&backend, post(CHAT, STREAM)).await.into_body();
        let mut frames = 0;
        while let Ok(frame) = tokio::time::timeout(Duration::from_secs(3_600), body.frame()).await {
            frame.unwrap().unwrap();
            frames += 1;
        }
        assert_eq!(frames, expected);
        assert_eq!(backend.in_flight(), 1);
        drop(body);
        assert_eq!(backend.in_flight(), 0);
    }
}

#[tokio::test]
async fn a_stream_is_cut_after_its_events() {
    let backend = open();
    for (after, expected) in [(0, 0), (3, 3), (usize::MAX, 7)] {
        backend.faults().push(Fault::cut_stream(after));
        let mut body = send(&backend, post(CHAT, STREAM)).await.into_body();
        let mut frames = 0;
        let error = loop {
            match body.frame().await.unwrap() {
                Ok(_) => frames += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(frames, expected);
        assert!(error.downcast_ref::<TransportError>().unwrap().is_cut());
    }
}
