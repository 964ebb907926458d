//! A thread of an assistant and a chain of responses, which live on one of three simulated backends each, and a client that
//! knows nothing of it: no cookie, no header, only the ids that it was given.
//!
//! In the middle the gateway is started anew with an empty memory. It asks the backends for the first id that it does not
//! know, and both conversations go on where they were.

use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::{BoxError, ServiceExt, service_fn};
use tower_azure_openai::body::Body;
use tower_azure_openai::gateway::{self, Gateway};
use tower_azure_openai::pool::{Backend, Deployment, Pool, Target};
use tower_azure_openai::terminate::TerminateCredentialsLayer;
use tower_azure_openai::testkit::{SimulatedBackend, SimulatedDeployment};

const NAMES: [&str; 3] = ["east", "north", "west"];

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let backends = NAMES.map(|name| {
        let deployment = SimulatedDeployment::standard("gpt-4o");
        SimulatedBackend::builder(name).deployment(deployment).build()
    });
    let gateway = start(&backends)?;

    println!("A client makes an assistant, a file and a thread, one by one:");
    let assistant = create(&gateway, "assistants", &json!({ "model": "gpt-4o", "instructions": "Be brief." })).await?;
    let file = create(&gateway, "files", &json!({ "purpose": "assistants", "filename": "notes.txt" })).await?;
    let thread = create(&gateway, "threads", &json!({})).await?;
    let question = json!({ "role": "user", "content": "What is in my notes?", "attachments": [{ "file_id": file }] });
    create(&gateway, &format!("threads/{thread}/messages"), &question).await?;
    create(&gateway, &format!("threads/{thread}/runs"), &json!({ "assistant_id": assistant })).await?;

    println!("A chain of responses may begin anywhere, and stays there:");
    let mut last = create(&gateway, "responses", &json!({ "model": "gpt-4o", "input": "Hello" })).await?;
    for input in ["Go on.", "And then?"] {
        last = respond(&gateway, input, &last).await?;
    }

    println!("The gateway starts anew and remembers nothing:");
    let gateway = start(&backends)?;
    let asked = || backends.iter().map(SimulatedBackend::request_count).sum::<usize>();
    let before = asked();
    create(&gateway, &format!("threads/{thread}/runs"), &json!({ "assistant_id": assistant })).await?;
    println!("  {} calls to find both ids and one to use them", asked() - before - 1);
    last = respond(&gateway, "Where were we?", &last).await?;
    respond(&gateway, "Thank you.", &last).await?;
    let messages = call(&gateway, Method::GET, &format!("threads/{thread}/messages"), &Value::Null).await?;
    println!("The thread, the newest message first:");
    for message in messages["data"].as_array().into_iter().flatten() {
        let text = |pointer| message.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        println!("  {:9}  {}", text("/role"), text("/content/0/text/value"));
    }

    println!("An id that nobody has:");
    match call(&gateway, Method::GET, "threads/thread_of_another_world", &Value::Null).await {
        Ok(_) => Err("a thread from nowhere".into()),
        Err(error) => {
            println!("  {error}");
            Ok(())
        }
    }
}

/// A gateway without any memory in front of the backends.
fn start(backends: &[SimulatedBackend; 3]) -> Result<Gateway, BoxError> {
    let mut pool = Pool::builder();
    for name in NAMES {
        pool = pool.add_backend(
            Backend::new(name, format!("https://{name}.example")).add_deployment(Deployment::new("gpt-4o")),
        );
    }
    let backends = backends.clone();
    let azure = service_fn(move |request: Request<Body>| {
        let host = request.uri().host().unwrap_or_default();
        let position = NAMES.iter().position(|name| host.strip_suffix(".example") == Some(name)).unwrap_or_default();
        backends[position].clone().oneshot(request)
    });
    Ok(gateway::builder(pool.build()?, TerminateCredentialsLayer::without_clients()).build(azure))
}

/// Makes something, and says where it landed.
async fn create(gateway: &Gateway, path: &str, body: &Value) -> Result<String, BoxError> {
    let made = call(gateway, Method::POST, path, body).await?;
    Ok(made["id"].as_str().ok_or("an object without an id")?.to_owned())
}

async fn respond(gateway: &Gateway, input: &str, previous: &str) -> Result<String, BoxError> {
    let body = json!({ "model": "gpt-4o", "input": input, "previous_response_id": previous });
    create(gateway, "responses", &body).await
}

async fn call(gateway: &Gateway, method: Method, path: &str, body: &Value) -> Result<Value, BoxError> {
    let request = Request::builder().method(&method).uri(format!("/openai/v1/{path}"));
    let request = request.header("content-type", "application/json");
    let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
    let Ok(answer) = gateway.clone().oneshot(request.body(body)?).await;
    let (status, backend) = (answer.status(), answer.extensions().get::<Target>().cloned());
    let body: Value = serde_json::from_slice(&answer.into_body().collect().await?.to_bytes())?;
    if status != StatusCode::OK {
        return Err(format!("{status}: {}", body.pointer("/error/message").unwrap_or(&body)).into());
    }
    println!("  {:5} {method:4} {path}", backend.as_ref().map_or("", Target::backend));
    Ok(body)
}
