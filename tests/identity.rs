//! Backends with and without an identity: who is chosen, who comes back, and what a refused token leads to.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use tokio::time::{Instant, advance, sleep};
use tower::{BoxError, ServiceExt, service_fn};
use tower_azure_openai::body::Body;
use tower_azure_openai::context::{Client, ClientToken, Route};
use tower_azure_openai::gateway::{self, Gateway};
use tower_azure_openai::health::Health;
use tower_azure_openai::pool::{Backend, BearerTokens, BoxFuture, Credential, Deployment, Pool, Target};
use tower_azure_openai::reissue::{Token, TokenKeeper, TokenSource};
use tower_azure_openai::terminate::{Form, Presented, TerminateCredentialsLayer};
use tower_azure_openai::testkit::{Fault, SimulatedBackend, SimulatedDeployment};

const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

const CHAT: &str = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21";
const HELLO: &str = r#"{"messages":[{"role":"user","content":"Hi"}]}"#;

/// What a fetch comes to, after a tenth of a second; the last one is repeated.
#[derive(Clone, Copy)]
enum Step {
    Fails,
    Hangs,
    Lives(u64),
}

/// An identity endpoint whose tokens are `t1`, `t2`, …
#[derive(Clone)]
struct Endpoint {
    steps: Arc<Mutex<VecDeque<Step>>>,
    fetches: Arc<AtomicU32>,
}

impl Endpoint {
    fn new(steps: impl IntoIterator<Item = Step>) -> (Self, Arc<TokenKeeper>) {
        let steps = Arc::new(Mutex::new(steps.into_iter().collect()));
        let endpoint = Self { steps, fetches: Arc::default() };
        (endpoint.clone(), Arc::new(TokenKeeper::new(endpoint)))
    }

    fn fetches(&self) -> u32 {
        self.fetches.load(SeqCst)
    }
}

impl TokenSource for Endpoint {
    fn fetch(&self, _: bool) -> BoxFuture<Result<Token, BoxError>> {
        let number = self.fetches.fetch_add(1, SeqCst) + 1;
        let mut steps = self.steps.lock().unwrap();
        let step = if steps.len() > 1 { steps.pop_front().unwrap() } else { steps[0] };
        Box::pin(async move {
            sleep(Duration::from_millis(100)).await;
            match step {
                Step::Fails => Err("the identity endpoint answered 500".into()),
                Step::Hangs => std::future::pending().await,
                Step::Lives(life) => Ok(Token::new(format!("t{number}"), Instant::now() + Duration::from_secs(life))),
            }
        })
    }
}

/// Simulated backends in a priority group each, in the order in which they are tried, and a gateway before them.
struct Scene {
    pool: Pool,
    gateway: Gateway,
    backends: Vec<SimulatedBackend>,
}

impl Scene {
    /// Keys are `key-of-NAME`; every token from `t1` to `t9`, and the client's own, is accepted.
    fn new(described: Vec<(&'static str, Credential)>) -> Self {
        let simulated = |name: &str| {
            let builder = SimulatedBackend::builder(name).api_key(format!("key-of-{name}")).bearer(CLIENTS_OWN);
            let builder = (1..10).fold(builder, |builder, number| builder.bearer(format!("t{number}")));
            builder.deployment(SimulatedDeployment::standard("gpt-4o")).build()
        };
        let backends: Vec<_> = described.iter().map(|(name, _)| simulated(name)).collect();
        let describe = |(priority, (name, credential)): (usize, (&str, Credential))| {
            let backend = Backend::new(name, format!("https://{name}.example")).priority(priority as u32);
            backend.credential(credential).add_deployment(Deployment::new("gpt-4o"))
        };
        let described = described.into_iter().enumerate().map(describe);
        let pool = described.fold(Pool::builder(), |pool, backend| pool.add_backend(backend)).build().unwrap();
        let gateway = stack(&pool, &backends);
        Self { pool, gateway, backends }
    }

    /// A gateway that remembers nothing.
    fn restarted(&self) -> Gateway {
        stack(&self.pool, &self.backends)
    }

    async fn chat(&self) -> Response<Body> {
        self.send("key-of-the-client").await
    }

    async fn send(&self, credential: &str) -> Response<Body> {
        let request = Request::post(CHAT).header("authorization", format!("Bearer {credential}"));
        self.gateway.clone().oneshot(request.body(Body::from(HELLO)).unwrap()).await.unwrap()
    }

    fn counts(&self) -> Vec<usize> {
        self.backends.iter().map(SimulatedBackend::request_count).collect()
    }

    fn identity(&self, backend: usize) -> String {
        self.pool.status().backends.remove(backend).identity
    }

    fn readyz(&self) -> StatusCode {
        Health::new(self.pool.clone()).answer(&http::Method::GET, "/readyz").status()
    }
}

fn stack(pool: &Pool, backends: &[SimulatedBackend]) -> Gateway {
    let backends = backends.to_vec();
    let network = service_fn(move |request: Request<Body>| {
        let host = request.uri().host().unwrap().to_owned();
        let backend = backends.iter().find(|backend| host == format!("{}.example", backend.name()));
        backend.unwrap().clone().oneshot(request)
    });
    gateway::builder(pool.clone(), TerminateCredentialsLayer::new(who)).build(network)
}

const CLIENTS_OWN: &str = "header.payload.signature";

/// A client by its token, or by its key.
fn who(presented: &Presented) -> Option<Client> {
    let secret = std::str::from_utf8(presented.secret()).ok()?;
    match secret {
        CLIENTS_OWN if presented.form() == Form::Bearer => {
            Some(Client::new("app").with_token(ClientToken::new(secret).ok()?))
        }
        "key-of-the-client" => Some(Client::new("team")),
        "key-of-another" => Some(Client::new("another").allow(["o3"])),
        _ => None,
    }
}

fn key(name: &str) -> Credential {
    Credential::api_key(format!("key-of-{name}")).unwrap()
}

fn bearer(keeper: &Arc<TokenKeeper>) -> Credential {
    Credential::bearer(keeper.clone())
}

fn served_by(answer: &Response<Body>) -> Option<&str> {
    assert_eq!(answer.status(), StatusCode::OK);
    answer.extensions().get::<Target>().map(Target::backend)
}

async fn code(answer: Response<Body>) -> (u16, String) {
    let status = answer.status().as_u16();
    let body = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    (status, body["error"]["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test(start_paused = true)]
async fn others_serve_until_the_first_token_is_there_and_nobody_waits() {
    for slow in [Step::Lives(3_600), Step::Fails, Step::Hangs] {
        let (_, keeper) = Endpoint::new([slow, Step::Lives(3_600)]);
        let scene = Scene::new(vec![("east", bearer(&keeper)), ("west", key("west"))]);
        let start = Instant::now();
        for _ in 0..5 {
            assert_eq!(served_by(&scene.chat().await), Some("west"));
        }
        assert_eq!(start.elapsed(), Duration::ZERO, "nobody waits for a fetch");
        assert_eq!(scene.counts(), [0, 5]);

        sleep(FETCH_TIMEOUT + Duration::from_secs(1)).await;
        // Whoever looks begins the next fetch.
        scene.readyz();
        sleep(Duration::from_millis(101)).await;
        assert_eq!(served_by(&scene.chat().await), Some("east"), "it comes back by itself");
    }
}

#[tokio::test(start_paused = true)]
async fn with_nobody_else_the_first_token_is_waited_for() {
    let (endpoint, keeper) = Endpoint::new([Step::Lives(3_600)]);
    let scene = Scene::new(vec![("east", bearer(&keeper))]);
    let answers = futures_util::future::join_all((0..10).map(|_| scene.chat())).await;
    assert!(answers.iter().all(|answer| served_by(answer) == Some("east")));
    assert_eq!(endpoint.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn readiness_and_status_tell_of_an_identity_that_fails_and_of_its_return() {
    let (endpoint, keeper) = Endpoint::new([Step::Fails, Step::Fails, Step::Lives(3_600)]);
    let scene = Scene::new(vec![("east", bearer(&keeper))]);
    assert_eq!((scene.readyz(), scene.identity(0).as_str()), (StatusCode::OK, "ok"), "the first is being fetched");
    sleep(Duration::from_millis(101)).await;
    assert_eq!(scene.readyz(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(scene.identity(0), "No token could be fetched: the identity endpoint answered 500.");
    let start = Instant::now();
    let refused = scene.chat().await;
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(code(refused).await, (503, "no_target_available".to_owned()));
    assert_eq!(start.elapsed(), Duration::ZERO, "the failure is shared");

    // Probes alone bring it back: nothing else may come while it is not ready.
    for _ in 0..10 {
        scene.readyz();
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!((scene.readyz(), scene.identity(0).as_str()), (StatusCode::OK, "ok"));
    assert_eq!((endpoint.fetches(), scene.counts()), (3, vec![0]));
}

#[tokio::test(start_paused = true)]
async fn a_token_in_hand_is_used_without_a_pause_whatever_the_endpoint_does() {
    for later in [Step::Fails, Step::Hangs, Step::Lives(60)] {
        let (_, keeper) = Endpoint::new([Step::Lives(60), later]);
        let scene = Scene::new(vec![("east", bearer(&keeper))]);
        scene.chat().await;
        for _ in 0..40 {
            advance(Duration::from_secs(1)).await;
            let start = Instant::now();
            assert_eq!(served_by(&scene.chat().await), Some("east"));
            assert_eq!(start.elapsed(), Duration::ZERO, "no request awaits a fetch");
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_fetched_anew_once_and_shown_to_the_same_backend() {
    let (endpoint, keeper) = Endpoint::new([Step::Lives(3_600)]);
    let scene = Scene::new(vec![("east", bearer(&keeper)), ("west", key("west"))]);
    keeper.wait().await.unwrap();
    scene.backends[0].faults().push(Fault::status(401));
    assert_eq!(served_by(&scene.chat().await), Some("east"));
    let shown: Vec<_> =
        scene.backends[0].requests().iter().map(|r| r.header("authorization").unwrap().to_owned()).collect();
    assert_eq!((shown, endpoint.fetches()), (vec!["Bearer t1".to_owned(), "Bearer t2".to_owned()], 2));
    assert_eq!(scene.identity(0), "ok");
}

#[tokio::test(start_paused = true)]
async fn ten_refusals_in_a_row_ask_for_a_token_at_most_three_times() {
    let (endpoint, keeper) = Endpoint::new([Step::Lives(3_600)]);
    let scene = Scene::new(vec![("east", bearer(&keeper))]);
    scene.backends[0].faults().always(Fault::status(401));
    for _ in 0..10 {
        assert_eq!(code(scene.chat().await).await, (502, "backend_credential_rejected".to_owned()));
    }
    assert_eq!((endpoint.fetches(), scene.counts()), (2, vec![11]));
    assert_eq!(scene.identity(0), "The backend refuses the token of the gateway's identity.");
    assert_eq!(scene.readyz(), StatusCode::SERVICE_UNAVAILABLE);

    scene.backends[0].faults().clear();
    assert_eq!(served_by(&scene.chat().await), Some("east"), "with nobody else it is tried all the same");
    assert_eq!((scene.readyz(), scene.identity(0).as_str()), (StatusCode::OK, "ok"));
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_refuses_a_fresh_token_is_passed_over_and_asked_every_thirty_seconds() {
    let (endpoint, keeper) = Endpoint::new([Step::Lives(36_000)]);
    let scene = Scene::new(vec![("east", bearer(&keeper)), ("west", bearer(&keeper))]);
    keeper.wait().await.unwrap();
    scene.backends[0].faults().always(Fault::status(401));
    for _ in 0..10 {
        assert_eq!(served_by(&scene.chat().await), Some("west"));
    }
    assert_eq!((scene.counts(), endpoint.fetches()), (vec![2, 10], 2), "refused with the old and the new token");
    assert_eq!(scene.identity(1), "ok", "the same identity is fine elsewhere");
    assert_eq!(scene.readyz(), StatusCode::OK);

    sleep(Duration::from_secs(30)).await;
    let answers = futures_util::future::join_all((0..10).map(|_| scene.chat())).await;
    assert!(answers.iter().all(|answer| served_by(answer) == Some("west")));
    assert_eq!(scene.counts(), [4, 20], "one request asks, and is repeated with another token");

    scene.backends[0].faults().clear();
    sleep(Duration::from_secs(30)).await;
    assert_eq!(served_by(&scene.chat().await), Some("east"), "a role was granted meanwhile");
    assert_eq!(served_by(&scene.chat().await), Some("east"));
    assert_eq!(scene.identity(0), "ok");
}

#[tokio::test(start_paused = true)]
async fn explanations_tell_who_has_no_identity() {
    let (_, keeper) = Endpoint::new([Step::Fails]);
    let scene = Scene::new(vec![("east", bearer(&keeper)), ("own", Credential::pass_through()), ("west", key("west"))]);
    let route = Route::parse(&http::Method::POST, &CHAT.parse().unwrap()).unwrap();
    let explanation = scene.pool.explain(&route, Some(&Client::new("team"))).to_string();
    let expected = "\
gpt-4o: 1 of 3 targets is a candidate
  east/gpt-4o  priority 0  no: has no identity, and goes last
  own/gpt-4o   priority 1  no: takes tokens of clients, and this one has none
  west/gpt-4o  priority 2  candidate: weight 1, 0 in flight
";
    assert_eq!(explanation, expected);
}

#[tokio::test(start_paused = true)]
async fn a_reload_forgets_that_a_token_was_refused() {
    let (_, keeper) = Endpoint::new([Step::Lives(3_600)]);
    let describe = || {
        let backend = Backend::new("east", "https://east.example").credential(bearer(&keeper));
        Pool::builder().add_backend(backend.add_deployment(Deployment::new("gpt-4o")))
    };
    let pool = describe().build().unwrap();
    pool.targets("gpt-4o")[0].refuse_token();
    assert!(!pool.is_ready());
    pool.replace(describe()).unwrap();
    assert!(pool.is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_source_that_panics_is_asked_again() {
    struct Panics(AtomicU32);
    impl TokenSource for Panics {
        fn fetch(&self, _: bool) -> BoxFuture<Result<Token, BoxError>> {
            let first = self.0.fetch_add(1, SeqCst) == 0;
            Box::pin(async move {
                assert!(!first, "a source of somebody else");
                Ok(Token::new("t", Instant::now() + Duration::from_secs(60)))
            })
        }
    }
    let keeper = TokenKeeper::new(Panics(AtomicU32::new(0)));
    assert!(keeper.current().is_none());
    sleep(FETCH_TIMEOUT + Duration::from_secs(1)).await;
    assert!(keeper.current().is_none(), "which begins the next");
    sleep(Duration::from_millis(1)).await;
    assert!(keeper.current().is_some());
}

#[tokio::test]
async fn a_clients_own_token_is_passed_on_and_never_its_key() {
    let scene = Scene::new(vec![("east", Credential::pass_through()), ("west", key("west"))]);
    assert_eq!(served_by(&scene.send(CLIENTS_OWN).await), Some("east"));
    let headers = scene.backends[0].requests().remove(0).headers;
    assert_eq!(headers["authorization"], format!("Bearer {CLIENTS_OWN}"));
    assert!(headers["authorization"].is_sensitive() && !headers.contains_key("api-key"));

    assert_eq!(served_by(&scene.chat().await), Some("west"), "known by a key: for whoever is shown another credential");
    assert_eq!(scene.counts(), [1, 1]);
    assert_eq!((scene.identity(0), scene.identity(1)), ("ok".to_owned(), "key".to_owned()));
}

#[tokio::test]
async fn what_was_made_with_a_clients_own_token_is_found_again() {
    let scene = Scene::new(vec![("east", Credential::pass_through()), ("west", key("west"))]);
    let send = async |gateway: &Gateway, method: &str, path: &str| {
        let request = Request::builder().method(method).uri(format!("/openai/{path}?api-version=2024-10-21"));
        let request = request.header("authorization", format!("Bearer {CLIENTS_OWN}"));
        let request = request.header("content-type", "application/json").body(Body::from("{}")).unwrap();
        gateway.clone().oneshot(request).await.unwrap()
    };
    let made = send(&scene.gateway, "POST", "threads").await;
    assert_eq!(served_by(&made), Some("east"));
    let made = http_body_util::BodyExt::collect(made.into_body()).await.unwrap().to_bytes();
    let made: serde_json::Value = serde_json::from_slice(&made).unwrap();
    let path = format!("threads/{}", made["id"].as_str().unwrap());
    assert_eq!(served_by(&send(&scene.gateway, "GET", &path).await), Some("east"), "remembered");

    let restarted = scene.restarted();
    assert_eq!(served_by(&send(&restarted, "GET", &path).await), Some("east"), "the only one that cannot be asked");
}

#[tokio::test]
async fn a_client_without_a_token_is_told_what_a_backend_wants() {
    let scene = Scene::new(vec![("east", Credential::pass_through())]);
    let answer = scene.chat().await;
    assert_eq!(answer.headers()["www-authenticate"], "Bearer");
    assert_eq!(code(answer).await, (401, "401".to_owned()));
    assert_eq!(code(scene.send("key-of-another").await).await, (403, "alias_not_allowed".to_owned()));
    assert_eq!(scene.counts(), [0]);
    let models = Request::get("/openai/models").header("api-key", "key-of-the-client").body(Body::empty()).unwrap();
    let list = scene.gateway.clone().oneshot(models).await.unwrap();
    let list = http_body_util::BodyExt::collect(list.into_body()).await.unwrap().to_bytes();
    assert!(!String::from_utf8_lossy(&list).contains("gpt-4o"));
}

#[tokio::test]
async fn what_a_backend_says_of_a_clients_own_token_goes_to_the_client() {
    for status in [401, 403] {
        let scene = Scene::new(vec![("east", Credential::pass_through()), ("west", key("west"))]);
        scene.backends[0].faults().always(Fault::status(status));
        assert_eq!(scene.send(CLIENTS_OWN).await.status().as_u16(), status);
        assert_eq!(scene.counts(), [1, 0], "nobody else is asked, and nothing is repeated");
        assert_eq!(scene.readyz(), StatusCode::OK);
        let status = &scene.pool.status().backends[0];
        assert_eq!((status.identity.as_str(), status.deployments[0].circuit), ("ok", "closed"));
    }
}

#[test]
fn debug_shows_no_token() {
    let client = Client::new("app").with_token(ClientToken::new("hunter2").unwrap());
    let shown = format!("{client:?} {:?} {:?}", client.token(), Credential::pass_through());
    assert!(shown.contains("ClientToken") && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn a_clients_own_token_goes_over_https_only() {
    let backend = Backend::new("east", "http://east.example").credential(Credential::pass_through());
    let problem = Pool::builder().add_backend(backend.add_deployment(Deployment::new("gpt-4o"))).build().unwrap_err();
    assert!(problem.to_string().contains("must be https"), "{problem}");
}
