use super::collections::COLLECTIONS;
use super::*;

fn request(method: &str, uri: &str) -> Request<Body> {
    Request::builder().method(method).uri(uri).body(Body::empty()).unwrap()
}

fn open_in_the_west() -> SimulatedBackend {
    SimulatedBackend::builder("westus").deployment(SimulatedDeployment::standard("gpt-4o")).build()
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
    let mut ids = std::collections::HashSet::new();
    for (path, prefix) in COLLECTIONS {
        for uri in [format!("/openai/{path}?api-version=1"), format!("/openai/v1/{path}")] {
            for backend in [&east, &west] {
                let id = made(backend, &uri, "{}").await;
                assert!(id.starts_with(prefix), "{id}");
                ids.insert(id);
            }
        }
    }
    assert_eq!(ids.len(), 4 * COLLECTIONS.len());
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
        ("containers", "{}"),
        ("conversations", "{}"),
        ("evals", "{}"),
        ("files", "{}"),
        ("responses", r#"{"model":"gpt-4o","input":"Hi"}"#),
        ("threads", "{}"),
        ("vector_stores", "{}"),
        ("videos", "{}"),
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
    let (east, west) = (open(), open_in_the_west());
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

#[tokio::test]
async fn lists_are_told_by_the_page() {
    let backend = open();
    let mut made = Vec::new();
    for _ in 0..3 {
        made.push(self::made(&backend, "/openai/v1/files", "{}").await);
    }
    let of_assistants = self::made(&backend, "/openai/v1/files", r#"{"purpose":"assistants"}"#).await;
    let list =
        async |query: &str| json(send(&backend, request("GET", &format!("/openai/v1/files?{query}"))).await).await;

    let first = list("limit=3").await;
    let shown: Vec<_> = first["data"].as_array().unwrap().iter().map(|file| file["id"].clone()).collect();
    assert_eq!(shown, [of_assistants.as_str(), &made[2], &made[1]], "the newest first");
    assert_eq!((&first["first_id"], &first["last_id"], &first["has_more"]), (&shown[0], &shown[2], &json!(true)));

    let second = list(&format!("limit=3&after={}", made[1])).await;
    assert_eq!((&second["data"][0]["id"], &second["has_more"]), (&json!(made[0]), &json!(false)));
    let before = list(&format!("order=asc&before={}", made[1])).await;
    assert_eq!((&before["data"][0]["id"], &before["data"][1]), (&json!(made[0]), &Value::Null));
    let empty = list(&format!("after={}", made[0])).await;
    assert_eq!((&empty["data"], &empty["first_id"], &empty["has_more"]), (&json!([]), &Value::Null, &json!(false)));

    let foreign = SimulatedBackend::builder("westus").build();
    let uri = format!("/openai/v1/files?after={}", made[0]);
    assert_eq!(status(&foreign, request("GET", &uri)).await, StatusCode::NOT_FOUND, "a cursor is an id");
}

#[tokio::test]
async fn what_lies_in_an_object_is_reached_through_it() {
    let (east, west) = (open(), SimulatedBackend::builder("westus").build());
    let file = made(&east, "/openai/v1/files", "{}").await;
    let in_store = json!({ "file_id": file }).to_string();
    for (outer, inner, body) in [
        ("containers", "files", "{}"),
        ("evals", "runs", "{}"),
        ("threads", "messages", r#"{"role":"user","content":"Hi"}"#),
        ("vector_stores", "files", &*in_store),
    ] {
        let around = made(&east, &format!("/openai/v1/{outer}"), "{}").await;
        let other = made(&east, &format!("/openai/v1/{outer}"), "{}").await;
        let collection = format!("/openai/v1/{outer}/{around}/{inner}");
        let id = made(&east, &collection, body).await;
        let listed = json(send(&east, request("GET", &collection)).await).await;
        assert_eq!(listed["data"][0]["id"], id, "{collection}");
        assert_eq!(status(&east, request("GET", &format!("{collection}/{id}"))).await, StatusCode::OK);
        let elsewhere = format!("/openai/v1/{outer}/{other}/{inner}/{id}");
        assert_eq!(status(&east, request("GET", &elsewhere)).await, StatusCode::NOT_FOUND, "{elsewhere}");
        for response in [send(&west, post(&collection, body)).await, send(&west, request("GET", &collection)).await] {
            assert_eq!(response.status(), StatusCode::NOT_FOUND, "{collection}");
            assert!(json(response).await["error"]["message"].as_str().unwrap().contains(&around));
        }
        assert_eq!(status(&east, request("DELETE", &format!("{collection}/{id}"))).await, StatusCode::OK);
        assert_eq!(json(send(&east, request("GET", &collection)).await).await["data"], json!([]));
    }
}

#[tokio::test]
async fn a_run_leaves_its_steps_and_what_it_said() {
    let backend = open();
    let assistant = made(&backend, "/openai/v1/assistants", r#"{"model":"gpt-4o"}"#).await;
    let body = json!({ "assistant_id": assistant }).to_string();
    let run = json(send(&backend, post("/openai/v1/threads/runs", &body)).await).await;
    let thread = format!("/openai/v1/threads/{}", run["thread_id"].as_str().unwrap());
    let list = async |path: String| json(send(&backend, request("GET", &path)).await).await["data"].take();
    let said = list(format!("{thread}/messages")).await;
    assert_eq!(said[0]["content"][0]["text"]["value"], "Hello from eastus");
    let step = &list(format!("{thread}/runs/{}/steps", run["id"].as_str().unwrap())).await[0];
    assert_eq!(step["step_details"]["message_creation"]["message_id"], said[0]["id"]);
    let cancel = format!("{thread}/runs/{}/cancel", run["id"].as_str().unwrap());
    assert_eq!(json(send(&backend, post(&cancel, "")).await).await["status"], "cancelled");
}

#[tokio::test]
async fn bodies_refer_to_what_is_here() {
    let (east, west) = (open(), open_in_the_west());
    let id = async |path: &str, body: Value| made(&east, &format!("/openai/v1/{path}"), &body.to_string()).await;
    let file = id("files", json!({})).await;
    let store = id("vector_stores", json!({ "file_ids": [file] })).await;
    let conversation = id("conversations", json!({})).await;
    let container = id("containers", json!({ "name": "c" })).await;
    let response = |fields: Value| {
        let mut body = json!({ "model": "gpt-4o", "input": "Hi" });
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        body
    };
    for (path, body, named) in [
        ("batches", json!({ "input_file_id": file }), &file),
        ("fine_tuning/jobs", json!({ "training_file": file }), &file),
        ("threads", json!({ "tool_resources": { "file_search": { "vector_store_ids": [store] } } }), &store),
        ("vector_stores", json!({ "file_ids": [file] }), &file),
        ("responses", response(json!({ "conversation": { "id": conversation } })), &conversation),
        ("responses", response(json!({ "conversation": conversation, "stream": true })), &conversation),
        (
            "responses",
            response(json!({ "tools": [{ "type": "code_interpreter", "container": container }] })),
            &container,
        ),
        ("responses", response(json!({ "input": [{ "content": [{ "file_id": file }] }] })), &file),
        ("chat/completions", json!({ "model": "gpt-4o", "messages": [{ "content": [{ "file_id": file }] }] }), &file),
    ] {
        let (uri, body) = (format!("/openai/v1/{path}"), body.to_string());
        assert_eq!(status(&east, post(&uri, &body)).await, StatusCode::OK, "{uri} {body}");
        let unknown = send(&west, post(&uri, &body)).await;
        assert_eq!(unknown.status(), StatusCode::NOT_FOUND, "{uri} {body}");
        assert!(json(unknown).await["error"]["message"].as_str().unwrap().contains(named.as_str()), "{uri} {body}");
    }
    let free = json!({ "metadata": { "file_id": "file-x" } }).to_string();
    assert_eq!(status(&east, post("/openai/v1/threads", &free)).await, StatusCode::OK, "the client's own words");
}

#[tokio::test]
async fn items_are_known_where_they_were_put_out() {
    let (east, west) = (open(), open_in_the_west());
    let conversation = made(&east, "/openai/v1/conversations", "{}").await;
    let ask = json!({ "model": "gpt-4o", "input": "Hi", "conversation": conversation }).to_string();
    let item = json(send(&east, post("/openai/v1/responses", &ask)).await).await["output"][0]["id"].take();
    let items = format!("/openai/v1/conversations/{conversation}/items");
    let added = json!({ "items": [{ "type": "message", "role": "user", "content": "Hi" }] }).to_string();
    let added = json(send(&east, post(&items, &added)).await).await["data"][0]["id"].take();
    let listed = json(send(&east, request("GET", &items)).await).await;
    assert_eq!((&listed["first_id"], &listed["last_id"]), (&added, &item));

    let again = json!({ "model": "gpt-4o", "input": [{ "type": "item_reference", "id": item }] }).to_string();
    assert_eq!(status(&east, post("/openai/v1/responses", &again)).await, StatusCode::OK);
    let unknown = send(&west, post("/openai/v1/responses", &again)).await;
    assert_eq!(unknown.status(), StatusCode::BAD_REQUEST);
    let message = format!("Item with id '{}' not found.", item.as_str().unwrap());
    assert_eq!(json(unknown).await["error"]["message"], message);

    assert_eq!(status(&east, post(&items, r#"{"items":["Hi",1,null]}"#)).await, StatusCode::OK, "whatever it may be");
    let gone = format!("/openai/v1/conversations/{conversation}");
    assert_eq!(status(&east, request("DELETE", &gone)).await, StatusCode::OK);
    assert_eq!(status(&east, post("/openai/v1/responses", &again)).await, StatusCode::BAD_REQUEST, "gone with it");
}

#[tokio::test]
async fn chat_completions_are_kept_when_that_is_asked_for() {
    let backend = open();
    for (store, status) in [(true, StatusCode::OK), (false, StatusCode::NOT_FOUND)] {
        let body = json!({ "messages": [], "store": store }).to_string();
        let id = made(&backend, CHAT, &body).await;
        let uri = format!("/openai/v1/chat/completions/{id}");
        assert_eq!(self::status(&backend, request("GET", &uri)).await, status, "store: {store}");
    }
    let listed = json(send(&backend, request("GET", "/openai/v1/chat/completions")).await).await;
    assert_eq!(listed["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn an_upload_becomes_a_file() {
    let backend = open();
    let upload = made(&backend, "/openai/v1/uploads", r#"{"purpose":"batch","filename":"a.jsonl","bytes":3}"#).await;
    let uri = |call| format!("/openai/v1/uploads/{upload}/{call}");
    assert!(made(&backend, &uri("parts"), "{}").await.starts_with("part_"));
    let done = json(send(&backend, post(&uri("complete"), r#"{"part_ids":[]}"#)).await).await;
    assert_eq!((&done["status"], &done["file"]["filename"]), (&json!("completed"), &json!("a.jsonl")));
    let file = format!("/openai/v1/files/{}/content", done["file"]["id"].as_str().unwrap());
    assert_eq!(status(&backend, request("GET", &file)).await, StatusCode::OK);
    assert_eq!(status(&open_in_the_west(), post(&uri("cancel"), "")).await, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn objects_change_and_keep_their_ids() {
    let backend = open();
    let assistant = made(&backend, "/openai/v1/assistants", r#"{"model":"gpt-4o"}"#).await;
    let uri = format!("/openai/v1/assistants/{assistant}");
    let changed = json(send(&backend, post(&uri, r#"{"id":"asst_x","name":"Ada"}"#)).await).await;
    assert_eq!(
        (&changed["id"], &changed["name"], &changed["model"]),
        (&json!(assistant), &json!("Ada"), &json!("gpt-4o"))
    );
    assert_eq!(json(send(&backend, request("GET", &uri)).await).await, changed);

    let video = made(&backend, "/openai/v1/videos", r#"{"prompt":"A cat"}"#).await;
    let remix = made(&backend, &format!("/openai/v1/videos/{video}/remix"), r#"{"prompt":"A dog"}"#).await;
    assert_ne!(remix, video);
    let remix = json(send(&backend, request("GET", &format!("/openai/v1/videos/{remix}"))).await).await;
    assert_eq!(remix["prompt"], "A dog");
}
