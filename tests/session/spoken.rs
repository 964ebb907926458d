//! What a chat completion said aloud: its resource keeps that for a later turn, stored or not.

use http::{Request, Response};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::{BoxError, ServiceBuilder, service_fn};
use tower_azure_openai::body::Body;
use tower_azure_openai::failover::FailoverLayer;
use tower_azure_openai::forward::ForwardLayer;
use tower_azure_openai::inspect::InspectLayer;
use tower_azure_openai::pool::{Backend, Deployment, Pool, Target};
use tower_azure_openai::respond::RespondLayer;
use tower_azure_openai::select::SelectBackendLayer;
use tower_azure_openai::session::StickySessionLayer;

use super::support::{Stack, bytes, chunked, send};

const CHAT: &str = "/openai/v1/chat/completions";

/// Answers with the name of the backend in the id of what it says.
fn gateway() -> Stack {
    let backend =
        |name: &str| Backend::new(name, format!("https://{name}.example")).add_deployment(Deployment::new("m"));
    let pool = ["east", "north", "west"].iter().fold(Pool::builder(), |pool, name| pool.add_backend(backend(name)));
    let pool = pool.build().unwrap();
    let network = service_fn(async |request: Request<Body>| {
        let id = format!("audio_{}", request.uri().host().unwrap().trim_end_matches(".example"));
        let body: Value = serde_json::from_slice(&request.into_body().collect().await?.to_bytes())?;
        let audio = json!({"id": id, "data": "AAAA".repeat(1_000), "transcript": "hi"});
        let (kind, text) = if body["stream"] == true {
            let chunks = [json!({"role": "assistant"}), json!({"audio": audio}), json!({"audio": {"data": "AAAA"}})];
            let chunk = |delta: &Value| json!({"id": "chatcmpl-1", "choices": [{"index": 0, "delta": delta}]});
            let text: String = chunks.iter().map(|delta| format!("data: {}\n\n", chunk(delta))).collect();
            let last = json!({"id": "chatcmpl-1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
            ("text/event-stream", format!("{text}data: {last}\n\ndata: [DONE]\n\n"))
        } else {
            let choice = json!({"index": 0, "message": {"role": "assistant", "audio": audio}, "finish_reason": "stop"});
            ("application/json", json!({"id": "chatcmpl-1", "choices": [choice]}).to_string())
        };
        let chunks: Vec<_> = text.as_bytes().chunks(50).map(bytes::Bytes::copy_from_slice).collect();
        Ok::<_, BoxError>(Response::builder().header("content-type", kind).body(chunked(chunks))?)
    });
    let stack = ServiceBuilder::new()
        .layer(RespondLayer::new())
        .layer(InspectLayer::new())
        .layer(StickySessionLayer::new(pool.clone()))
        .layer(FailoverLayer::new())
        .layer(SelectBackendLayer::new(pool))
        .layer(ForwardLayer::new());
    Stack::new(stack.service(network))
}

fn ask(messages: &Value, stream: bool) -> Request<Body> {
    let audio = json!({"voice": "alloy", "format": "wav"});
    let body =
        json!({"model": "m", "modalities": ["text", "audio"], "audio": audio, "messages": messages, "stream": stream});
    Request::post(CHAT).header("content-type", "application/json").body(Body::from(body.to_string())).unwrap()
}

async fn goes_to(gateway: &Stack, request: Request<Body>) -> String {
    let answer = send(gateway, request).await;
    assert_eq!(answer.status(), 200);
    let target = answer.extensions().get::<Target>().unwrap().backend().to_owned();
    bytes(answer).await;
    target
}

#[tokio::test(start_paused = true)]
async fn a_later_turn_goes_where_it_was_said() {
    for stream in [false, true] {
        let gateway = gateway();
        let hello = json!([{"role": "user", "content": "hi"}]);
        for _ in 0..3 {
            let first = goes_to(&gateway, ask(&hello, stream)).await;
            let said = json!({"role": "assistant", "audio": {"id": format!("audio_{first}")}});
            let next = json!([{"role": "user", "content": "hi"}, said, {"role": "user", "content": "again"}]);
            for _ in 0..3 {
                assert_eq!(goes_to(&gateway, ask(&next, stream)).await, first, "{stream}");
            }
        }
    }
}
