//! What leads without an id in JSON: the `Location` of a realtime call, and the aliases that a client may use.

use http::{Request, Response};
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
use tower_azure_openai::authorize::AuthorizeLayer;
use tower_azure_openai::body::Body;
use tower_azure_openai::context::Client;
use tower_azure_openai::inspect::InspectLayer;
use tower_azure_openai::pool::{Backend, Deployment, Pool, Target};
use tower_azure_openai::respond::RespondLayer;
use tower_azure_openai::select::SelectBackendLayer;
use tower_azure_openai::session::{ALIAS_HEADER, StickySessionLayer};

use super::estate::{Estate, Trouble, call_as};
use super::support::{Stack, error, send};

/// Three backends, each with an alias of its own; one places realtime calls and answers everything else.
fn gateway() -> Stack {
    let backend =
        |name: &str| Backend::new(name, format!("https://{name}.example")).add_deployment(Deployment::new(name));
    let pool = ["a", "b", "c"].iter().fold(Pool::builder(), |pool, name| pool.add_backend(backend(name)));
    let pool = pool.build().unwrap();
    let network = service_fn(async |request: Request<Body>| {
        let mut answer = Response::new(Body::empty());
        assert!(!request.headers().contains_key(ALIAS_HEADER), "it is ours");
        if request.uri().path().ends_with("/realtime/calls") {
            let backend = request.extensions().get::<Target>().unwrap().backend().to_owned();
            let location = format!("/openai/v1/realtime/calls/rtc_{backend}1?api-version=1");
            *answer.status_mut() = http::StatusCode::CREATED;
            answer.headers_mut().insert("location", location.parse().unwrap());
        }
        Ok::<_, BoxError>(answer)
    });
    let stack = ServiceBuilder::new()
        .layer(RespondLayer::new())
        .layer(InspectLayer::new())
        .layer(AuthorizeLayer::new())
        .layer(StickySessionLayer::new(pool.clone()))
        .layer(SelectBackendLayer::new(pool));
    Stack::new(stack.service(network))
}

fn request(client: &Client, method: &str, path: &str) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    request.extensions_mut().insert(client.clone());
    request
}

async fn goes_to(stack: &Stack, request: Request<Body>) -> String {
    let answer = stack.clone().oneshot(request).await.unwrap();
    answer.extensions().get::<Target>().map(|target| target.backend().to_owned()).unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_of_a_realtime_call_goes_where_it_was_made() {
    let (stack, client) = (gateway(), Client::new("team"));
    for _ in 0..3 {
        let made = goes_to(&stack, request(&client, "POST", "/openai/v1/realtime/calls?model=b")).await;
        let call = format!("rtc_{made}1");
        for _ in 0..4 {
            for rest in ["accept", "hangup", "refer", "reject"] {
                let path = format!("/openai/v1/realtime/calls/{call}/{rest}");
                assert_eq!(goes_to(&stack, request(&client, "POST", &path)).await, made, "{rest}");
            }
            let joined = request(&client, "GET", &format!("/openai/v1/realtime?call_id={call}"));
            assert_eq!(goes_to(&stack, joined).await, made);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_home_serves_an_alias_that_the_client_may_use() {
    let stack = gateway();
    for i in 0..20 {
        for path in ["/openai/v1/files", "/openai/threads", "/openai/v1/vector_stores"] {
            let held = Client::new(format!("team-{i}")).allow(["b", "nobody-serves-it"]);
            assert_eq!(goes_to(&stack, request(&held, "POST", path)).await, "b");
            assert_eq!(goes_to(&stack, request(&held, "GET", path)).await, "b");
            let routed = Client::new(format!("team-{i}")).allow(["model"]).route("model", "c");
            assert_eq!(goes_to(&stack, request(&routed, "POST", path)).await, "c");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_home_serves_the_alias_that_the_request_names() {
    let stack = gateway();
    let named = |client: &Client, alias: &str| {
        let mut request = request(client, "POST", "/openai/v1/files");
        request.headers_mut().insert(ALIAS_HEADER, alias.parse().unwrap());
        request
    };
    for i in 0..10 {
        let client = Client::new(format!("team-{i}"));
        for alias in ["a", "b", "c"] {
            assert_eq!(goes_to(&stack, named(&client, alias)).await, alias);
        }
        let held = client.clone().allow(["a", "b"]);
        assert_eq!(goes_to(&stack, named(&held, "a")).await, "a");
        assert_eq!(error(send(&stack, named(&held, "c")).await).await.0, 403);
        assert_eq!(error(send(&stack, named(&client, "d")).await).await, (404, "DeploymentNotFound".to_owned()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_that_its_home_cannot_give_is_not_asked_for_elsewhere() {
    for path in ["/openai/files", "/openai/v1/batches?limit=3", "/openai/v1/evals"] {
        let estate = Estate::new();
        let gateway = estate.gateway();
        (0..3).for_each(|i| estate.trouble(i, Some(Trouble::Broken)));
        let answer = send(&gateway, call_as("team", "GET", path, &serde_json::Value::Null)).await;
        assert_eq!((answer.status().as_u16(), estate.seen().len()), (500, 1), "{path}");
    }
}
