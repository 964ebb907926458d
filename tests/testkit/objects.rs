use super::*;

fn request(method: &str, uri: &str) -> Request<Body> {
    Request::builder().method(method).uri(uri).body(Body::empty()).unwrap()
}

/// The id of what a request makes.
async fn made(backend: &SimulatedBackend, uri: &str, body: &str) -> String {
    let response = send(backend, post(uri, body)).await;
    assert_eq!(response.status(), StatusCode::OK, "{uri}");
    json(response).await["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn creating_calls_give_fresh_ids() {
    let (east, west) = (open(), SimulatedBackend::builder("westus").build());
    let families = [("assistants", "asst_"), ("threads", "thread_"), ("files", "file-"), ("batches", "batch_")];
    let mut ids = std::collections::HashSet::new();
    for (path, prefix) in families {
        for uri in [format!("/openai/{path}?api-version=1"), format!("/openai/v1/{path}")] {
            for backend in [&east, &west] {
                let id = made(backend, &uri, "{}").await;
                assert!(id.starts_with(prefix), "{id}");
                ids.insert(id);
            }
        }
    }
    assert_eq!(ids.len(), 16);
}

#[tokio::test]
async fn files_are_uploaded_as_forms() {
    let form = "--x\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nassistants\r\n--x\r\n\
                Content-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\r\nabc\r\n--x--\r\n";
    let mut upload = post("/openai/v1/files", form);
    upload.headers_mut().insert("content-type", "multipart/form-data; boundary=x".parse().unwrap());
    let file = json(send(&open(), upload).await).await;
    assert!(file["id"].as_str().unwrap().starts_with("assistant-"), "the prefix of files for assistants");
    assert_eq!(
        (&file["purpose"], &file["filename"], &file["bytes"]),
        (&json!("assistants"), &json!("a.txt"), &json!(3))
    );
}

#[tokio::test]
async fn an_object_is_known_to_its_own_backend_until_it_is_deleted() {
    let (east, west) = (open(), SimulatedBackend::builder("westus").build());
    for (family, body) in [
        ("assistants", r#"{"model":"gpt-4o"}"#),
        ("files", "{}"),
        ("responses", r#"{"model":"gpt-4o","input":"Hi"}"#),
        ("threads", "{}"),
    ] {
        let id = made(&east, &format!("/openai/v1/{family}"), body).await;
        let uri = format!("/openai/{family}/{id}?api-version=1");
        assert_eq!(json(send(&east, request("GET", &uri)).await).await["id"], id);

        for method in ["GET", "DELETE"] {
            let unknown = send(&west, request(method, &uri)).await;
            assert_eq!(unknown.status(), StatusCode::NOT_FOUND, "{method} {family}");
            let error = json(unknown).await["error"].take();
            assert!(error["message"].as_str().unwrap().contains(&id), "{error}");
            assert_eq!(error["type"], "invalid_request_error");
            assert_eq!(error["code"], Value::Null, "not the 404 of a path that is not served");
        }

        let deleted = json(send(&east, request("DELETE", &uri)).await).await;
        assert_eq!((&deleted["id"], &deleted["deleted"]), (&json!(id), &json!(true)));
        for method in ["DELETE", "GET"] {
            assert_eq!(status(&east, request(method, &uri)).await, StatusCode::NOT_FOUND, "{method} {family}");
        }
    }
}

#[tokio::test]
async fn responses_are_chained_where_they_are_stored() {
    let (east, west) =
        (open(), SimulatedBackend::builder("westus").deployment(SimulatedDeployment::standard("gpt-4o")));
    let west = west.build();
    let first = made(&east, "/openai/v1/responses", r#"{"model":"gpt-4o","input":"Hi"}"#).await;
    let next = json!({ "model": "gpt-4o", "input": "And?", "previous_response_id": first }).to_string();

    let second = json(send(&east, post("/openai/v1/responses", &next)).await).await;
    assert_eq!(second["previous_response_id"], first);
    assert_eq!(second["status"], "completed");
    assert_eq!(second["output"][0]["content"][0]["text"], "Hello from eastus");
    assert_eq!(second["usage"]["total_tokens"], 1 + 5);

    let unknown = send(&west, post("/openai/responses?api-version=1", &next)).await;
    assert_eq!(unknown.status(), StatusCode::BAD_REQUEST);
    let error = json(unknown).await["error"].take();
    assert_eq!(error["code"], "previous_response_not_found");
    assert_eq!(error["param"], "previous_response_id");
    assert_eq!(error["message"], format!("Previous response with id '{first}' not found."));
}

#[tokio::test]
async fn what_is_not_to_be_stored_is_not() {
    let backend = open();
    let id = made(&backend, "/openai/v1/responses", r#"{"model":"gpt-4o","input":"Hi","store":false}"#).await;
    assert_eq!(status(&backend, request("GET", &format!("/openai/v1/responses/{id}"))).await, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_run_needs_its_assistant_and_its_thread() {
    let backend = open();
    let assistant = made(&backend, "/openai/assistants?api-version=1", r#"{"model":"gpt-4o"}"#).await;
    let body = json!({ "assistant_id": assistant }).to_string();
    let run = json(send(&backend, post("/openai/threads/runs?api-version=1", &body)).await).await;
    assert_eq!((&run["status"], &run["usage"]), (&json!("queued"), &Value::Null));

    let thread = run["thread_id"].as_str().unwrap();
    let uri = format!("/openai/threads/{thread}/runs/{}?api-version=1", run["id"].as_str().unwrap());
    let later = json(send(&backend, request("GET", &uri)).await).await;
    assert_eq!((&later["status"], &later["usage"]["completion_tokens"]), (&json!("completed"), &json!(5)));

    let again = format!("/openai/threads/{thread}/runs?api-version=1");
    assert_eq!(json(send(&backend, post(&again, &body)).await).await["thread_id"], thread);

    for (uri, body, named) in [
        ("/openai/threads/thread_x/runs?api-version=1", body, "thread_x"),
        ("/openai/threads/runs?api-version=1", r#"{"assistant_id":"asst_x"}"#.to_owned(), "asst_x"),
    ] {
        let response = send(&backend, post(uri, &body)).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        assert!(json(response).await["error"]["message"].as_str().unwrap().contains(named), "{named}");
    }
}
