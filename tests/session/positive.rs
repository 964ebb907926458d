//! Whatever is not a place for an id never changes where a request goes.

use http::Request;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::estate::{Estate, call};
use super::support::{Stack, send};

/// A documented call, and a body of it that names no object.
#[derive(Clone, Debug)]
struct Call {
    path: String,
    body: Value,
}

/// Every call that takes a body, as the specifications list them, and some of them with more in it.
fn calls() -> Vec<Call> {
    let mut calls = rich();
    calls.extend(listed().map(|(path, model)| {
        let body = match model {
            "body" | "default" => json!({"model": "gpt-4o"}),
            "session" => json!({"session": {"model": "gpt-4o"}}),
            _ => json!({}),
        };
        Call { path: format!("/openai/v1{}", path.replace("{}", &planted_in(path))), body }
    }));
    calls
}

/// The paths, and where a call names its model.
fn listed() -> impl Iterator<Item = (&'static str, &'static str)> {
    let lines = include_str!("../specifications/operations.txt").lines().filter(|line| !line.starts_with('#'));
    let columns = lines.map(|line| line.split(" | ").collect::<Vec<_>>());
    columns.filter(|columns| columns[0].contains("POST")).map(|columns| (columns[1], columns[3]))
}

/// The object that there is where a path leads.
fn planted_in(path: &str) -> String {
    format!("there-{}", collection(path).replace('/', "-"))
}

fn collection(path: &str) -> &str {
    path.split("/{}").next().unwrap_or_default().trim_start_matches('/')
}

fn rich() -> Vec<Call> {
    let message = json!({"role": "user", "content": [{"type": "input_text", "text": "hi"}]});
    let function = json!({"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}});
    let chat = "/openai/deployments/gpt-4o/chat/completions";
    [
        ("/openai/assistants", json!({"model": "gpt-4o", "tool_resources": {"code_interpreter": {}}})),
        ("/openai/batches", json!({"endpoint": "/chat/completions", "completion_window": "24h"})),
        (chat, json!({"messages": [{"role": "user", "content": "hi"}], "tools": [function], "metadata": {}})),
        ("/openai/deployments/gpt-4o/completions", json!({"prompt": "x"})),
        ("/openai/deployments/gpt-4o/embeddings", json!({"input": ["x"]})),
        ("/openai/deployments/gpt-4o/images/generations", json!({"prompt": "x"})),
        ("/openai/v1/containers", json!({"name": "c", "expires_after": {"anchor": "last_active_at"}})),
        ("/openai/v1/conversations", json!({"items": [message], "metadata": {}})),
        (
            "/openai/v1/evals",
            json!({"data_source_config": {"type": "custom", "item_schema": {}}, "testing_criteria": [{}]}),
        ),
        ("/openai/v1/fine_tuning/jobs", json!({"model": "gpt-4o", "method": {"type": "supervised"}})),
        (
            "/openai/v1/responses",
            json!({
                "model": "gpt-4o", "input": [message, {"type": "function_call", "arguments": "{}", "call_id": "c"}],
                "tools": [function], "text": {"format": {"type": "json_schema", "schema": {}}}, "metadata": {},
            }),
        ),
        ("/openai/threads", json!({"messages": [{"role": "user", "content": "hi"}], "metadata": {}})),
        ("/openai/vector_stores", json!({"name": "v", "chunking_strategy": {"type": "auto"}})),
        ("/openai/v1/videos", json!({"model": "gpt-4o", "prompt": "x"})),
    ]
    .map(|(path, body)| Call { path: path.to_owned(), body })
    .to_vec()
}

/// The names that the API gives to ids anywhere: where it gives them to nothing, they are a client's own.
const NAMES: [&str; 24] = [
    "assistant_id",
    "batch_id",
    "container_id",
    "conversation_id",
    "encrypted_content",
    "eval_id",
    "file_id",
    "files",
    "id",
    "item",
    "item_reference",
    "client_metadata",
    "metadata",
    "previous_response",
    "response_id",
    "run_id",
    "session_id",
    "structured_inputs",
    "thread_id",
    "turn_id",
    "upload_id",
    "vector_store_id",
    "video_id",
    "x",
];

/// What a client could write: names and ids of the API, in a shape of its own.
fn anything() -> impl Strategy<Value = Value> {
    let id = prop_oneof![
        Just(json!("thread_planted")),
        Just(json!("file-planted")),
        Just(json!("resp_planted")),
        "(thread_|file-|conv_|vs_|asst_|resp_|msg_|rs_)[a-z0-9]{1,6}".prop_map(Value::String),
        "[ -~]{0,12}".prop_map(Value::String),
        any::<bool>().prop_map(Value::Bool),
        any::<i32>().prop_map(Value::from),
        Just(Value::Null),
    ];
    id.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::Array),
            vec((prop::sample::select(&NAMES[..]), inner), 0..4).prop_map(members),
        ]
    })
}

fn members(members: Vec<(&'static str, Value)>) -> Value {
    Value::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>())
}

/// Where in a body a client's own things are put: below a name that the API does not know there, or where it takes anything.
const OWN: [&str; 8] = [
    "",
    "/metadata",
    "/text/format/schema",
    "/tools/0/parameters",
    "/tools/0/parameters/properties",
    "/data_source_config/item_schema",
    "/method",
    "/expires_after",
];

/// The body, and the same with something of the client's own in it.
fn with_own(body: &Value, at: &str, name: &str, own: Value) -> Value {
    let mut body = body.clone();
    let at = if body.pointer(at).is_some_and(Value::is_object) { at } else { "" };
    // These names have a meaning at the root of some call.
    let is_taken = at.is_empty() && matches!(name, "assistant_id" | "file_id" | "files");
    let name = if is_taken { format!("own_{name}") } else { name.to_owned() };
    if let Some(members) = body.pointer_mut(at).and_then(Value::as_object_mut) {
        members.insert(name, own);
    }
    body
}

/// To which backend each of these requests goes, in a gateway that has seen nothing before, and how many calls it took.
fn sent(path: &str, bodies: &[Value]) -> (Vec<Vec<usize>>, Vec<u16>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let estate = Estate::new();
        estate.plant(1, "threads", "thread_planted");
        estate.plant(2, "files", "file-planted");
        for (path, _) in listed().filter(|(path, _)| path.contains("{}")) {
            estate.plant(1, collection(path), &planted_in(path));
        }
        let gateway: Stack = estate.gateway();
        let (mut counts, mut statuses) = (Vec::new(), Vec::new());
        for body in bodies {
            let request: Request<_> = call("POST", path, body);
            statuses.push(send(&gateway, request).await.status().as_u16());
            counts.push(estate.counts());
        }
        (counts, statuses)
    })
}

/// Ten thousand bodies in all, of every call.
const CASES: u32 = 400;
const BODIES: usize = 25;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn what_is_a_clients_own_changes_nothing(
        call in prop::sample::select(calls()),
        at in prop::sample::select(&OWN[..]),
        name in prop::sample::select(&NAMES[..]),
        own in vec(anything(), BODIES),
    ) {
        let plain: Vec<_> = own.iter().map(|_| call.body.clone()).collect();
        let filled: Vec<_> = own.iter().map(|own| with_own(&call.body, at, name, own.clone())).collect();
        let (expected, _) = sent(&call.path, &plain);
        let (counts, statuses) = sent(&call.path, &filled);
        prop_assert_eq!(counts, expected, "{} {:?} {:?}", call.path, filled, statuses);
    }
}
