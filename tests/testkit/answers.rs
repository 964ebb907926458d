use super::*;

#[tokio::test]
async fn chat_says_who_served_it() {
    let backend = SimulatedBackend::builder("eastus")
        .region("East US")
        .deployment(SimulatedDeployment::standard("prod").model("gpt-4o"))
        .build();
    let mut request = post("/openai/deployments/prod/chat/completions?api-version=2024-10-21", HELLO);
    request.headers_mut().insert("x-ms-client-request-id", "mine".parse().unwrap());

    let response = send(&backend, request).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(header(&response, "content-type"), Some("application/json"));
    assert_eq!(header(&response, "x-ms-region"), Some("East US"));
    assert_eq!(header(&response, "x-ms-client-request-id"), Some("mine"));
    assert_eq!(header(&response, "x-ms-deployment-name"), Some("prod"));
    assert!(header(&response, "apim-request-id").is_some());
    assert!(header(&response, "x-request-id").is_some());

    let body = json(response).await;
    assert_eq!(body["object"], "chat.completion");
    assert_eq!(body["model"], "gpt-4o");
    assert_eq!(body["choices"][0]["message"]["content"], "Hello from eastus");
    assert_eq!(body["usage"]["prompt_tokens"], 2);
    assert_eq!(body["usage"]["completion_tokens"], 5);
    assert_eq!(body["usage"]["total_tokens"], 7);
}

#[tokio::test]
async fn completions_and_embeddings_on_both_surfaces() {
    let backend = open();
    let body = r#"{"model":"gpt-4o","prompt":"Hi","input":["a","b"]}"#;
    for prefix in ["/openai/deployments/gpt-4o", "/openai/v1"] {
        let uri = format!("{prefix}/completions?api-version=preview");
        assert_eq!(json(send(&backend, post(&uri, body)).await).await["choices"][0]["text"], "Hello from eastus");

        let uri = format!("{prefix}/embeddings?api-version=preview");
        let embeddings = json(send(&backend, post(&uri, body)).await).await;
        assert_eq!(embeddings["data"].as_array().unwrap().len(), 2);
        assert_eq!(embeddings["data"][1]["index"], 1);
    }
}

#[tokio::test]
async fn streams_what_azure_streams() {
    let body = r#"{"messages":[],"stream":true,"stream_options":{"include_usage":true}}"#;
    let response = send(&open(), post(CHAT, body)).await;
    assert!(header(&response, "content-type").unwrap().starts_with("text/event-stream"));

    let text = text(response).await;
    let mut events: Vec<_> = text.split_terminator("\n\n").map(|event| event.strip_prefix("data: ").unwrap()).collect();
    assert_eq!(events.pop(), Some("[DONE]"));
    let events: Vec<Value> = events.into_iter().map(|event| serde_json::from_str(event).unwrap()).collect();

    let (first, events) = events.split_first().unwrap();
    assert_eq!(first["id"], "");
    assert_eq!(first["choices"], json!([]));
    assert!(first["prompt_filter_results"].is_array());
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    let (usage, events) = events.split_last().unwrap();
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(usage["usage"]["completion_tokens"], 5);
    let said: String = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(said, "Hello from eastus");
    assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn audio_is_uploaded_as_a_form() {
    let form = |format: &str| {
        let fields = [("model", "gpt-4o"), ("response_format", format)]
            .map(|(name, value)| format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"));
        let file = "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\nRIFF\r\n--x--\r\n";
        fields.concat() + file
    };
    let backend = open();
    for prefix in ["/openai/v1/audio", "/openai/deployments/gpt-4o/audio"] {
        for operation in ["transcriptions", "translations"] {
            for (format, content_type, contains) in [
                ("json", "application/json", r#""text":"Hello from eastus""#),
                ("verbose_json", "application/json", r#""segments":[]"#),
                ("text", "text/plain; charset=utf-8", "Hello from eastus\n"),
                ("srt", "text/plain; charset=utf-8", "-->"),
                ("vtt", "text/plain; charset=utf-8", "WEBVTT"),
            ] {
                let mut request = post(&format!("{prefix}/{operation}?api-version=1"), &form(format));
                request.headers_mut().insert("content-type", "multipart/form-data; boundary=x".parse().unwrap());
                let response = send(&backend, request).await;
                assert_eq!(response.status(), StatusCode::OK, "{prefix}/{operation} {format}");
                assert_eq!(header(&response, "content-type"), Some(content_type));
                let text = text(response).await;
                assert!(text.contains(contains), "{format}: {text}");
            }
        }
    }
    let no_form = post("/openai/v1/audio/transcriptions", r#"{"model":"gpt-4o","file":"RIFF"}"#);
    assert_eq!(status(&backend, no_form).await, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn speech_is_bytes() {
    let body = r#"{"model":"gpt-4o","input":"Hi","voice":"alloy","response_format":"wav"}"#;
    for uri in ["/openai/v1/audio/speech", "/openai/deployments/gpt-4o/audio/speech?api-version=1"] {
        let response = send(&open(), post(uri, body)).await;
        assert_eq!(header(&response, "content-type"), Some("audio/wav"));
        let body = response.into_body();
        assert_eq!(http_body::Body::size_hint(&body).exact(), None);
        let sound = body.collect().await.unwrap().to_bytes();
        assert!(sound.len() == 4096 && str::from_utf8(&sound).is_err());
    }
}

#[tokio::test]
async fn images_are_made() {
    for uri in ["/openai/v1/images/generations", "/openai/deployments/gpt-4o/images/generations?api-version=1"] {
        let images = json(send(&open(), post(uri, r#"{"model":"gpt-4o","prompt":"A cat","n":2}"#)).await).await;
        assert_eq!(images["data"].as_array().unwrap().len(), 2);
        assert!(images["data"][0]["b64_json"].is_string());
    }
}

/// The usage that a stream tells in its event of this name.
fn told_by(stream: &str, name: &str) -> Value {
    let events = stream.lines().filter_map(|line| line.strip_prefix("data: "));
    let mut events = events.filter_map(|event| serde_json::from_str::<Value>(event).ok());
    let mut event = events.find(|event| event["type"] == name).unwrap_or_else(|| panic!("no {name} in {stream}"));
    event["usage"].take()
}

#[tokio::test]
async fn every_family_tells_what_it_used() {
    let backend = open();
    let image = r#"{"model":"gpt-4o","prompt":"Hi there","stream":true}"#;
    let images = text(send(&backend, post("/openai/v1/images/generations", image)).await).await;
    assert_eq!(told_by(&images, "image_generation.completed")["input_tokens"], 2);

    let message = |streams: &str| {
        format!(r#"{{"model":"gpt-4o","max_tokens":9,"messages":[{{"role":"user","content":"Hi there"}}]{streams}}}"#)
    };
    let whole = json(send(&backend, post("/anthropic/v1/messages", &message(""))).await).await;
    assert_eq!((&whole["usage"]["input_tokens"], &whole["usage"]["output_tokens"]), (&json!(2), &json!(5)), "{whole}");
    let streamed = text(send(&backend, post("/anthropic/v1/messages", &message(r#","stream":true"#))).await).await;
    assert_eq!(told_by(&streamed, "message_delta")["output_tokens"], 5);

    let part =
        |name: &str, value: &str| format!("--b\r\nContent-Disposition: form-data; name={name}\r\n\r\n{value}\r\n");
    let audio = "a".repeat(70_000);
    let parts = [part("model", "gpt-4o"), part("stream", "true"), part("file; filename=\"a.wav\"", &audio)];
    let form = parts.concat() + "--b--\r\n";
    let mut transcription = post("/openai/v1/audio/transcriptions", &form);
    transcription.headers_mut().insert("content-type", "multipart/form-data; boundary=b".parse().unwrap());
    let transcript = text(send(&backend, transcription).await).await;
    assert_eq!(told_by(&transcript, "transcript.text.done"), json!({ "type": "duration", "seconds": 3 }));

    let file = json(send(&backend, post("/openai/v1/files", r#"{"purpose":"batch","bytes":400}"#)).await).await;
    let batch = json!({ "input_file_id": file["id"] }).to_string();
    let batch = json(send(&backend, post("/openai/v1/batches", &batch)).await).await;
    assert_eq!(batch["status"], "validating");
    let uri = format!("/openai/v1/batches/{}", batch["id"].as_str().unwrap());
    let read = json(send(&backend, Request::get(uri).body(Body::empty()).unwrap()).await).await;
    assert_eq!((&read["status"], &read["usage"]["total_tokens"]), (&json!("completed"), &json!(200)), "{read}");
}

#[tokio::test]
async fn lists_its_models() {
    for uri in ["/openai/models?api-version=2024-10-21", "/openai/v1/models"] {
        let models = json(send(&open(), Request::get(uri).body(Body::empty()).unwrap()).await).await;
        assert_eq!(models["data"][0]["id"], "gpt-4o");
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    for (uri, body, code) in [
        ("/openai/deployments/o1/chat/completions?api-version=1", "{}", "DeploymentNotFound"),
        ("/openai/deployments/gpt-4o/chat/completions", "{}", "404"),
        ("/openai/v1/chat/completions", r#"{"model":"o1"}"#, "model_not_found"),
        ("/openai/deployments/gpt-4o/threads?api-version=1", "{}", "404"),
        ("/openai/deployments/gpt-4o/responses?api-version=1", r#"{"model":"gpt-4o","input":"Hi"}"#, "404"),
        ("/deployments/gpt-4o/chat/completions?api-version=1", "{}", "404"),
        ("/v1/chat/completions", r#"{"model":"gpt-4o"}"#, "404"),
        ("/", "", "404"),
    ] {
        let response = send(&open(), post(uri, body)).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{uri}");
        assert_eq!(json(response).await["error"]["code"], code, "{uri}");
    }
}

#[tokio::test]
async fn a_body_must_be_what_it_should_be() {
    for (uri, body) in [(CHAT, "{"), (CHAT, "{}"), (CHAT, "[]"), ("/openai/v1/chat/completions", "{}")] {
        assert_eq!(status(&open(), post(uri, body)).await, StatusCode::BAD_REQUEST, "{uri} {body}");
    }
}

#[tokio::test(start_paused = true)]
async fn thinks_as_long_as_it_was_told() {
    let backend = with(SimulatedDeployment::standard("gpt-4o").latency(Duration::from_secs(3)));
    let start = Instant::now();
    assert_eq!(status(&backend, chat()).await, StatusCode::OK);
    assert_eq!(start.elapsed(), Duration::from_secs(3));
}
