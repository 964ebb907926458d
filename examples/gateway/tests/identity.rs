//! Managed identity out: one keeper for an identity and a scope, from the start of the program and over its reloads.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use http::{Request, Response};
use tokio::sync::Semaphore;
use tower_azure_openai::body::Body;
use tower_azure_openai::testkit::{Fault, SimulatedBackend, SimulatedDeployment, SimulatedServer};

use crate::http_support::{self, Answer, CHAT, HELLO, chat, get, send, soon};
use crate::process::{self, Gateway, LISTEN, is};
use crate::tokens::{APP, AUDIENCE, Signer, TENANT, claims, jwks};
use crate::{KEY, serve};

/// What the endpoint of an App Service is shown.
const HEADER: &str = "secret-of-the-identity-endpoint";

/// The identity endpoint of an App Service; its tokens are `token-of-SCOPE-1`, ….
pub(crate) struct Endpoint {
    pub(crate) url: String,
    state: Arc<State>,
}

struct State {
    asked: AtomicU32,
    /// What it answers instead of a token.
    fails: Mutex<Option<(u16, &'static str)>>,
    /// Closed: it hangs.
    open: Semaphore,
}

impl Endpoint {
    pub(crate) async fn start() -> Self {
        let state = Arc::new(State { asked: AtomicU32::new(0), fails: Mutex::default(), open: Semaphore::new(1) });
        let url = {
            let state = state.clone();
            http_support::serve(move |request| {
                let state = state.clone();
                async move {
                    let number = state.asked.fetch_add(1, SeqCst) + 1;
                    drop(state.open.acquire().await);
                    assert_eq!(request.headers()["x-identity-header"], HEADER);
                    let fails = *state.fails.lock().unwrap();
                    let (status, body) = match fails {
                        Some((status, body)) => (status, body.to_owned()),
                        None => (200, token(request.uri().query().unwrap(), number)),
                    };
                    Response::builder().status(status).body(Body::from(body)).unwrap()
                }
            })
            .await
        };
        Self { url: format!("{url}/msi/token"), state }
    }

    pub(crate) fn environment(&self) -> [(&str, &str); 2] {
        [("IDENTITY_ENDPOINT", &self.url), ("IDENTITY_HEADER", HEADER)]
    }

    fn asked(&self) -> u32 {
        self.state.asked.load(SeqCst)
    }

    pub(crate) fn fail(&self, with: Option<(u16, &'static str)>) {
        *self.state.fails.lock().unwrap() = with;
    }

    fn hang(&self) {
        self.state.open.forget_permits(1);
    }

    fn resume(&self) {
        self.state.open.add_permits(1);
    }
}

fn token(query: &str, number: u32) -> String {
    let scope = if query.contains("ai.azure.com") { "foundry" } else { "openai" };
    let end = SystemTime::now() + Duration::from_secs(86_400);
    let end = end.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    format!(
        r#"{{"access_token":"token-of-{scope}-{number}","expires_on":"{end}","token_type":"Bearer","resource":"r"}}"#
    )
}

/// A backend that takes the tokens of a scope.
pub(crate) async fn takes_tokens(name: &str, scope: &str) -> (SimulatedBackend, SimulatedServer) {
    let backend = SimulatedBackend::builder(name).deployment(SimulatedDeployment::standard("gpt-4o"));
    let backend = (1..20).fold(backend, |backend, n| backend.bearer(format!("token-of-{scope}-{n}"))).build();
    let server = backend.serve().await.unwrap();
    (backend, server)
}

pub(crate) fn described(name: &str, url: &str, priority: u32, more: &str) -> String {
    format!(
        "[[backends]]\nname = \"{name}\"\nendpoint = \"{url}\"\npriority = {priority}\n\
         credential = {{ managed_identity = {{}}{more} }}\ndeployments = [{{ name = \"gpt-4o\" }}]\n"
    )
}

const TELL: &str = "[telemetry]\nbackend_header = true\n";

async fn start(endpoint: &Endpoint, backends: &[String]) -> Gateway {
    let config = [LISTEN, &backends.concat(), &process::client(KEY), TELL].concat();
    Gateway::start_with(&process::file(&config), &endpoint.environment()).await
}

fn served_by(answer: &Answer) -> &str {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.header("x-gateway-backend").unwrap()
}

/// Until this backend serves.
async fn comes_back(gateway: &Gateway, name: &str) {
    let served = async { while served_by(&chat(&gateway.url, KEY).await) != name {} };
    soon("an answer of the backend with the identity", served).await;
}

#[tokio::test]
async fn backends_of_one_identity_share_its_tokens_and_a_reload_keeps_them() {
    let endpoint = Endpoint::start().await;
    let (east, west) = (takes_tokens("east", "openai").await, takes_tokens("west", "openai").await);
    let foundry = takes_tokens("foundry", "foundry").await;
    let mut gateway = start(
        &endpoint,
        &[
            described("east", &east.1.url(), 0, ""),
            described("west", &west.1.url(), 1, ""),
            described("foundry", &foundry.1.url(), 2, ", scope = \"https://ai.azure.com/.default\""),
        ],
    )
    .await;
    comes_back(&gateway, "east").await;
    soon("a token for every scope", async {
        while endpoint.asked() < 2 {
            tokio::task::yield_now().await
        }
    })
    .await;

    gateway.signal("HUP").await;
    gateway.stderr.line(&["the configuration was reloaded"]).await;
    for (backend, name) in [(&east.0, "east"), (&west.0, "west"), (&foundry.0, "foundry")] {
        assert_eq!(served_by(&chat(&gateway.url, KEY).await), name);
        // The next request takes notice of that.
        backend.faults().always(Fault::throttled_for(Duration::from_secs(50)));
        chat(&gateway.url, KEY).await;
    }
    assert_eq!(endpoint.asked(), 2, "one token for each scope, and none anew");
}

#[tokio::test]
async fn the_listener_does_not_wait_for_tokens_and_other_backends_serve() {
    let endpoint = Endpoint::start().await;
    endpoint.hang();
    let (east, (_west, server)) = (takes_tokens("east", "openai").await, serve("west").await);
    let backends = [described("east", &east.1.url(), 0, ""), process::backends(&[("west", &server.url())])];
    let gateway = start(&endpoint, &backends).await;
    for _ in 0..3 {
        assert_eq!(served_by(&chat(&gateway.url, KEY).await), "west");
    }
    endpoint.resume();
    comes_back(&gateway, "east").await;
}

#[tokio::test]
async fn the_status_tells_what_is_wrong_with_an_identity() {
    let endpoint = Endpoint::start().await;
    endpoint.fail(Some((400, r#"{"error":"invalid_request","error_description":"hunter2 at https://x"}"#)));
    let (_east, server) = takes_tokens("east", "openai").await;
    let mut gateway = start(&endpoint, &[described("east", &server.url(), 0, "")]).await;
    let sentence = "No token could be fetched: the identity endpoint answered 400 (invalid_request).";
    gateway.status_becomes("the reason", |status| status["backends"][0]["identity"] == sentence).await;
    let readyz = format!("{}/readyz", gateway.admin().await);
    assert_eq!(get(&readyz).await.status, 503);
    is(&chat(&gateway.url, KEY).await, 503, "no_target_available");

    endpoint.fail(None);
    soon("ready again", async { while get(&readyz).await.status != 200 {} }).await;
    assert_eq!(served_by(&chat(&gateway.url, KEY).await), "east");
    gateway.status_becomes("well", |status| status["backends"][0]["identity"] == "ok").await;
}

#[tokio::test]
async fn whatever_the_identity_endpoint_answers_other_backends_serve_and_it_comes_back() {
    for (status, body, why) in [
        (404, "", "the identity endpoint answered 404"),
        (429, r#"{"error":"too_many_requests"}"#, "the identity endpoint answered 429 (too_many_requests)"),
        (500, "<html>hunter2</html>", "the identity endpoint answered 500"),
        (200, "hunter2", "the answer of the identity endpoint cannot be read"),
    ] {
        let endpoint = Endpoint::start().await;
        endpoint.fail(Some((status, body)));
        let (east, (_west, server)) = (takes_tokens("east", "openai").await, serve("west").await);
        let backends = [described("east", &east.1.url(), 0, ""), process::backends(&[("west", &server.url())])];
        let mut gateway = start(&endpoint, &backends).await;
        let sentence = format!("No token could be fetched: {why}.");
        gateway.status_becomes("the reason", |status| status["backends"][0]["identity"] == *sentence).await;
        assert_eq!(served_by(&chat(&gateway.url, KEY).await), "west", "{why}");
        endpoint.fail(None);
        comes_back(&gateway, "east").await;
    }
}

#[tokio::test]
async fn a_role_that_is_missing_on_one_backend_harms_no_other_of_the_identity() {
    let endpoint = Endpoint::start().await;
    let ((east, east_server), (_west, west_server)) =
        (takes_tokens("east", "openai").await, takes_tokens("west", "openai").await);
    east.faults().always(Fault::status(401).body(r#"{"error":{"code":"PermissionDenied","message":"no role"}}"#));
    let mut gateway =
        start(&endpoint, &[described("east", &east_server.url(), 0, ""), described("west", &west_server.url(), 1, "")])
            .await;
    for _ in 0..10 {
        assert_eq!(served_by(&chat(&gateway.url, KEY).await), "west");
    }
    assert!(endpoint.asked() <= 3, "{}", endpoint.asked());
    assert!(east.request_count() <= 3, "{}", east.request_count());
    let status = gateway.status().await;
    let identity = |at: usize| status["backends"][at]["identity"].as_str().unwrap().to_owned();
    assert_eq!(identity(0), "The backend refuses the token of the gateway's identity.");
    assert_eq!(identity(1), "ok");
}

#[tokio::test]
async fn nothing_that_the_program_writes_tells_a_token() {
    const SECRET: &str = "secret-of-the-application";
    let endpoint = Endpoint::start().await;
    let (east, server) = takes_tokens("east", "openai").await;
    let application = format!(
        "[[backends]]\nname = \"app\"\nendpoint = \"{}\"\npriority = 1\ncredential = {{ client_secret = {{ \
         tenant_id = \"contoso.example\", client_id = \"app\", secret = \"{SECRET}\" }} }}\n\
         deployments = [{{ name = \"gpt-4o\" }}]\n",
        server.url()
    );
    let trace = "[telemetry]\nlog = \"trace\"\n";
    let backends = described("east", &server.url(), 0, "");
    let config = [LISTEN, &backends, &application, &process::client(KEY), trace].concat();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let authority = format!("https://{nobody}");
    let environment = [&endpoint.environment()[..], &[("AZURE_AUTHORITY_HOST", &authority)]].concat();
    let mut gateway = Gateway::start_with(&process::file(&config), &environment).await;

    let mut written = String::new();
    for fault in [None, Some(Fault::status(401)), Some(Fault::status(403)), Some(Fault::status(500))] {
        fault.map(|fault| east.faults().push(fault));
        let answer = chat(&gateway.url, KEY).await;
        written += &format!("{:?}{}\n", answer.headers, answer.text());
    }
    written += &gateway.status().await.to_string();
    assert!(written.contains("No token could be fetched: the identity endpoint could not be reached"), "{written}");
    written += &gateway.stop().await;
    assert!(written.contains("a token could not be fetched"), "the trace should be there");
    for secret in ["token-of-", HEADER, SECRET, KEY] {
        let line = written.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret}");
    }
}

#[tokio::test]
async fn tokens_of_entra_in_and_managed_identity_or_the_clients_own_token_out() {
    let (endpoint, signer) = (Endpoint::start().await, Signer::new("k"));
    let token = signer.token(&claims());
    let document = jwks([&signer]).to_string();
    let authority = http_support::serve(move |_| std::future::ready(Response::new(Body::from(document.clone())))).await;
    let own =
        SimulatedBackend::builder("own").bearer(&token).deployment(SimulatedDeployment::standard("gpt-4o")).build();
    let (own_server, east) = (own.serve().await.unwrap(), takes_tokens("east", "openai").await);
    let passing = described("own", &own_server.url(), 0, "").replace("managed_identity = {}", "pass_through = true");
    let entra = format!(
        "[[clients]]\nid = \"jobs\"\nentra = {{ app_id = \"{APP}\" }}\nallow = [\"gpt-4o\"]\n\
         [entra]\ntenant_id = \"{TENANT}\"\naudience = [\"{AUDIENCE}\"]\njwks_url = \"{authority}\"\n"
    );
    let mut gateway = start(&endpoint, &[passing, described("east", &east.1.url(), 1, ""), entra]).await;
    let with_token = async || {
        let request = Request::post(format!("{}{CHAT}", gateway.url)).header("content-type", "application/json");
        send(request.header("authorization", format!("Bearer {token}")).body(Body::from(HELLO)).unwrap()).await
    };
    assert_eq!(served_by(&with_token().await), "own");
    assert_eq!(served_by(&chat(&gateway.url, KEY).await), "east", "a key is never passed on");

    own.faults().push(Fault::throttled_for(Duration::from_secs(50)));
    assert_eq!(served_by(&with_token().await), "east");
    let shown: Vec<_> = east.0.requests().iter().map(|seen| seen.header("authorization").unwrap().to_owned()).collect();
    assert_eq!(shown, ["Bearer token-of-openai-1", "Bearer token-of-openai-1"]);

    gateway.signal("HUP").await;
    gateway.stderr.line(&["the configuration was reloaded"]).await;
    assert_eq!(served_by(&with_token().await), "east", "what was learned is kept");
    assert_eq!((endpoint.asked(), own.request_count()), (1, 2));
    assert!(!gateway.stop().await.contains(&token));
}
