//! Calls that go on with a video or an assistant, and with the model by which it was made.

use http::Request;
use serde_json::{Value, json};
use tower::ServiceBuilder;
use tower_azure_openai::authorize::AuthorizeLayer;
use tower_azure_openai::body::Body;
use tower_azure_openai::context::Client;
use tower_azure_openai::failover::FailoverLayer;
use tower_azure_openai::forward::ForwardLayer;
use tower_azure_openai::inspect::InspectLayer;
use tower_azure_openai::pool::{Backend, Deployment, Pool};
use tower_azure_openai::respond::RespondLayer;
use tower_azure_openai::select::SelectBackendLayer;
use tower_azure_openai::session::StickySessionLayer;

use super::estate::{Estate, answered, call, id, ok};
use super::support::Stack;

/// Three resources, which have `sora` by names of their own, and `veo` too.
fn videos(keeps_sessions: bool) -> (Estate, Stack) {
    let mut estate = Estate::new();
    let backend = |i| {
        let backend = Backend::new(format!("b{i}"), format!("https://b{i}.example"));
        backend
            .add_deployment(Deployment::new(format!("sora-{i}")).alias("sora"))
            .add_deployment(Deployment::new("veo"))
    };
    let pool = (0..3).fold(Pool::builder(), |pool, i| pool.add_backend(backend(i)));
    estate.pool = pool.add_alias_name("sora", "sora-latest").build().unwrap();
    let session = keeps_sessions.then(|| StickySessionLayer::new(estate.pool.clone()));
    let stack = ServiceBuilder::new()
        .layer(RespondLayer::new())
        .layer(InspectLayer::new())
        .layer(AuthorizeLayer::new().objects_decide(true))
        .option_layer(session)
        .layer(FailoverLayer::new())
        .layer(SelectBackendLayer::new(estate.pool.clone()))
        .layer(ForwardLayer::new());
    let stack = Stack::new(stack.service(estate.network()));
    (estate, stack)
}

fn by(client: &Client, path: &str, body: &Value) -> Request<Body> {
    let mut request = call("POST", path, body);
    request.extensions_mut().insert(client.clone());
    request
}

async fn made(stack: &Stack, client: &Client, model: &str) -> String {
    id(&ok(stack, by(client, "/openai/v1/videos", &json!({"model": model, "prompt": "x"}))).await)
}

/// Every way to go on with a video.
fn ways(id: &str) -> [(String, Value); 3] {
    [
        (format!("/openai/v1/videos/{id}/remix"), json!({"prompt": "y"})),
        ("/openai/v1/videos/edits".to_owned(), json!({"video": {"id": id}, "prompt": "y"})),
        ("/openai/v1/videos/extensions".to_owned(), json!({"video": {"id": id}, "prompt": "y"})),
    ]
}

async fn statuses(stack: &Stack, client: &Client, id: &str) -> Vec<u16> {
    let mut statuses = Vec::new();
    for (path, body) in ways(id) {
        statuses.push(answered(stack, by(client, &path, &body)).await.1);
    }
    statuses
}

fn held(id: &str) -> Client {
    Client::new(id).allow(["sora"])
}

#[tokio::test(start_paused = true)]
async fn are_open_to_whoever_may_use_its_alias() {
    let (_estate, stack) = videos(true);
    let video = made(&stack, &held("a"), "sora").await;
    assert_eq!(statuses(&stack, &held("a"), &video).await, [200; 3]);
    let by_other_names = [
        Client::new("b").allow(["sora-latest"]),
        Client::new("c").allow(["mine"]).route("mine", "sora"),
        Client::new("d").allow(["mine"]).route("mine", "sora-latest"),
        Client::new("free"),
    ];
    for client in by_other_names {
        assert_eq!(statuses(&stack, &client, &video).await, [200; 3], "{}", client.id());
    }
    for client in [Client::new("e").allow(["veo"]), Client::new("f").allow(["sora"]).route("sora", "veo")] {
        assert_eq!(statuses(&stack, &client, &video).await, [403; 3], "{}", client.id());
    }
}

#[tokio::test(start_paused = true)]
async fn go_on_from_what_went_on() {
    let (_estate, stack) = videos(true);
    let mut video = made(&stack, &Client::new("free"), "sora-latest").await;
    for turn in 0..6 {
        let (path, body) = ways(&video)[turn % 3].clone();
        let answer = ok(&stack, by(&held("a"), &path, &body)).await;
        video = match answer["object"] == "inner" {
            // What a remix makes is called by an id of its own, which this resource does not do.
            true => made(&stack, &held("a"), "sora").await,
            false => id(&answer),
        };
        ok(&stack, call("GET", &format!("/openai/v1/videos/{video}"), &Value::Null)).await;
    }
    assert_eq!(statuses(&stack, &held("b"), &video).await, [200; 3], "reading it changes nothing");
}

#[tokio::test(start_paused = true)]
async fn of_videos_that_nobody_remembers_need_their_operation() {
    let (estate, stack) = videos(true);
    estate.plant(1, "videos", "video_1");
    assert_eq!(statuses(&stack, &held("a"), "video_1").await, [403; 3]);
    let (_, _, answer) =
        answered(&stack, by(&held("a"), "/openai/v1/videos/video_1/remix", &json!({"prompt": "y"}))).await;
    assert_eq!(answer["error"]["code"], "operation_not_allowed");
    assert!(answer["error"]["message"].as_str().unwrap().contains("\"videos\""), "{answer}");
    let opened = held("b").operations([tower_azure_openai::azure::operation::Operation::Videos]);
    assert_eq!(statuses(&stack, &opened, "video_1").await, [200; 3]);
    assert_eq!(statuses(&stack, &held("a"), "video_1").await, [403; 3], "found is not made");
}

#[tokio::test(start_paused = true)]
async fn name_no_other_deployment() {
    let (estate, stack) = videos(true);
    let video = made(&stack, &held("a"), "sora").await;
    for (path, mut body) in ways(&video) {
        body["model"] = "veo".into();
        assert_eq!(answered(&stack, by(&held("a"), &path, &body)).await.1, 403, "{path}");
    }
    estate.forget_seen();
    let both = json!({"video": {"id": video, "other": 1}, "prompt": "x", "metadata": {"id": "video_x"}});
    assert_eq!(answered(&stack, by(&held("a"), "/openai/v1/videos/edits", &both)).await.1, 200);
}

#[tokio::test(start_paused = true)]
async fn are_refused_where_nobody_remembers_anything() {
    let (estate, stack) = videos(false);
    estate.plant(0, "videos", "video_1");
    assert_eq!(statuses(&stack, &held("a"), "video_1").await, [403; 3]);
    assert_eq!(estate.counts(), [0, 0, 0]);
}

/// Every way to use an assistant without naming a model.
fn runs(assistant: &str, thread: &str) -> [(String, Value); 3] {
    [
        (format!("/openai/threads/{thread}/runs"), json!({"assistant_id": assistant})),
        ("/openai/threads/runs".to_owned(), json!({"assistant_id": assistant, "thread": {"messages": []}})),
        (format!("/openai/v1/assistants/{assistant}"), json!({"name": "another"})),
    ]
}

async fn run(stack: &Stack, client: &Client, assistant: &str) -> Vec<u16> {
    let thread = id(&ok(stack, by(&Client::new("free"), "/openai/threads", &json!({}))).await);
    let mut statuses = Vec::new();
    for (path, body) in runs(assistant, &thread) {
        statuses.push(answered(stack, by(client, &path, &body)).await.1);
    }
    statuses
}

async fn assistant(stack: &Stack, client: &Client, model: &str) -> String {
    id(&ok(stack, by(client, "/openai/assistants", &json!({"model": model}))).await)
}

#[tokio::test(start_paused = true)]
async fn an_assistant_runs_for_whoever_may_use_its_alias() {
    let (_estate, stack) = videos(true);
    // The threads of one client lie where its assistants do.
    let made = assistant(&stack, &Client::new("free"), "sora-latest").await;
    for client in [held("a"), Client::new("c").allow(["mine"]).route("mine", "sora"), Client::new("free")] {
        assert_eq!(run(&stack, &client, &made).await, [200; 3], "{}", client.id());
    }
    for client in [Client::new("e").allow(["veo"]), Client::new("f").allow(["sora"]).route("sora", "veo")] {
        assert_eq!(run(&stack, &client, &made).await, [403; 3], "{}", client.id());
    }
}

#[tokio::test(start_paused = true)]
async fn an_assistant_that_changes_its_model_changes_who_may_run_it() {
    let (_estate, stack) = videos(true);
    let made = assistant(&stack, &Client::new("free"), "veo").await;
    let change = async |path: &str, body: &Value| ok(&stack, by(&Client::new("free"), path, body)).await;
    change(&format!("/openai/assistants/{made}"), &json!({"name": "x"})).await;
    assert_eq!(run(&stack, &held("a"), &made).await, [403; 3], "its model is what it was");
    change(&format!("/openai/assistants/{made}"), &json!({"model": "sora"})).await;
    assert_eq!(run(&stack, &held("a"), &made).await, [200; 3]);
    change(&format!("/openai/deployments/veo/assistants/{made}"), &json!({})).await;
    assert_eq!(run(&stack, &held("a"), &made).await, [403; 3], "the name is put into the body");
}

/// What names a deployment and changes nothing says nothing of the model by which an object was made.
#[tokio::test(start_paused = true)]
async fn what_mentions_an_object_does_not_open_it() {
    let (_estate, stack) = videos(true);
    let free = Client::new("free");
    let (video, made) = (made(&stack, &free, "veo").await, assistant(&stack, &free, "veo").await);
    for (method, path) in [
        ("GET", format!("/openai/deployments/sora/videos/{video}")),
        ("GET", format!("/openai/v1/videos/{video}?model=sora")),
        ("GET", "/openai/deployments/sora/videos".to_owned()),
        ("GET", format!("/openai/deployments/sora/assistants/{made}")),
        ("POST", format!("/openai/deployments/sora/assistants/{made}")),
    ] {
        let mut request = call(method, &path, &Value::Null);
        request.extensions_mut().insert(held("a"));
        ok(&stack, request).await;
    }
    assert_eq!(statuses(&stack, &held("a"), &video).await, [403; 3]);
    assert_eq!(run(&stack, &held("a"), &made).await, [403; 3]);
}

#[tokio::test(start_paused = true)]
async fn an_assistant_that_stands_behind_what_is_read_is_another() {
    let (_estate, stack) = videos(true);
    let own = assistant(&stack, &held("a"), "sora").await;
    let other = assistant(&stack, &Client::new("free"), "veo").await;
    let run = async |body: String| {
        let mut request = call("POST", "/openai/threads/runs", &json!({}));
        *request.body_mut() = Body::from(body);
        request.extensions_mut().insert(held("a"));
        answered(&stack, request).await.1
    };
    assert_eq!(run(format!(r#"{{"assistant_id":"{own}"}}"#)).await, 200);
    for both in [
        format!(r#"{{"assistant_id":"{own}","assistant_id":"{other}"}}"#),
        format!(r#"{{"assistant_id":"{own}","Assistant_Id":"{other}"}}"#),
        format!(r#"{{"assistant_id":"{own}","assistant\u005fid":"{other}"}}"#),
        format!(r#"{{"assistant_id":["{own}"]}}"#),
        format!(
            r#"{{"assistant_id":"{own}","thread":{{"messages":[{{"file_ids":[{}"x"]}}]}},"assistant_id":"{other}"}}"#,
            (0..600).map(|i| format!("\"f{i}\",")).collect::<String>()
        ),
    ] {
        assert_eq!(run(both.clone()).await, 403, "{}", both.chars().take(200).collect::<String>());
    }
}
