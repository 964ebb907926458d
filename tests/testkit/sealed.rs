//! Reasoning that only the backend reads that made it.

use super::*;

const V1: &str = "/openai/v1/responses";
const CLASSIC: &str = "/openai/responses?api-version=2025-04-01-preview";

fn backend(name: &str) -> SimulatedBackend {
    SimulatedBackend::builder(name).deployment(SimulatedDeployment::standard("gpt-4o")).build()
}

fn ask(input: &Value, stream: bool) -> String {
    let include = ["reasoning.encrypted_content"];
    json!({"model": "gpt-4o", "input": input, "store": false, "stream": stream, "include": include}).to_string()
}

#[tokio::test]
async fn only_the_maker_reads_it() {
    let (east, west) = (backend("east"), backend("west"));
    for uri in [V1, CLASSIC] {
        let answer = json(send(&east, post(uri, &ask(&json!("hi"), false))).await).await;
        let output = answer["output"].as_array().unwrap();
        assert_eq!((&output[0]["type"], &output[1]["type"]), (&json!("reasoning"), &json!("message")));
        let next = ask(&json!([output[0], {"role": "user", "content": "and then?"}]), false);
        assert_eq!(send(&east, post(uri, &next)).await.status(), StatusCode::OK);
        let refused = send(&west, post(uri, &next)).await;
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
        let error = json(refused).await;
        let code = if uri == V1 { json!("invalid_encrypted_content") } else { Value::Null };
        assert_eq!(error["error"]["code"], code);
        assert!(error["error"]["message"].as_str().unwrap().contains("could not be verified"));
    }
}

#[tokio::test]
async fn a_stream_tells_it_when_it_is_complete() {
    let east = backend("east");
    let events = text(send(&east, post(V1, &ask(&json!("hi"), true))).await).await;
    let contents: Vec<_> = events
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok())
        .filter(|data| data["item"]["type"] == "reasoning")
        .map(|data| (data["type"].clone(), data["item"]["encrypted_content"] != ""))
        .collect();
    assert_eq!(contents, [(json!("response.output_item.added"), false), (json!("response.output_item.done"), true)]);
}

#[tokio::test]
async fn nobody_gets_it_who_did_not_ask() {
    let body = json!({"model": "gpt-4o", "input": "hi"}).to_string();
    let answer = text(send(&backend("east"), post(V1, &body)).await).await;
    assert!(!answer.contains("encrypted_content"), "{answer}");
}
