//! Whatever a client presents, on whatever surface: each backend sees one credential, and it is its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, Response};
use tokio::time::Instant;
use tower::{BoxError, ServiceExt, service_fn};
use tower_azure_openai::body::Body;
use tower_azure_openai::context::{Client, ClientToken, Handshake};
use tower_azure_openai::gateway;
use tower_azure_openai::pool::{Backend, BearerTokens, BoxFuture, Credential, Deployment, Pool};
use tower_azure_openai::reissue::{Token, TokenKeeper, TokenSource};
use tower_azure_openai::session::StickySessionLayer;
use tower_azure_openai::terminate::{Presented, TerminateCredentialsLayer};

#[path = "support/forms.rs"]
mod forms;

use forms::forms;

const KEY: &str = "key-of-the-client";
const TOKEN: &str = "clients.own.token";
const NOBODYS: &str = "credential-of-nobody";

/// What is asked for: method, target with a query, content type, body; whether it opens a WebSocket.
type Surface = (&'static str, &'static str, &'static str, &'static str, bool);

const JSON: &str = "application/json";
const SURFACES: [Surface; 9] = [
    ("POST", "/openai/deployments/gpt-4o/chat/completions?api-version=1", JSON, r#"{"messages":[]}"#, false),
    ("POST", "/openai/v1/chat/completions?a=1", JSON, r#"{"model":"gpt-4o","messages":[]}"#, false),
    ("POST", "/openai/v1/responses?a=1", JSON, r#"{"model":"gpt-4o","input":"Hi","stream":true}"#, false),
    ("POST", "/openai/deployments/gpt-4o/audio/transcriptions?api-version=1", FORM, FORM_BODY, false),
    ("POST", "/openai/v1/audio/transcriptions?a=1", FORM, FORM_BODY, false),
    ("GET", "/openai/realtime?api-version=1&deployment=gpt-4o", "", "", true),
    ("GET", "/openai/v1/realtime?model=gpt-4o", "", "", true),
    ("GET", "/openai/v1/responses/resp_1?a=1", "", "", false),
    ("GET", "/openai/threads/thread_1?api-version=1", "", "", false),
];
const FORM: &str = "multipart/form-data; boundary=b";
const FORM_BODY: &str = "--b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\ngpt-4o\r\n\
    --b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\nRIFF\r\n--b--\r\n";

fn request(surface: Surface, headers: &[(&'static str, String)], query: &str) -> Request<Body> {
    let (method, target, content_type, body, is_handshake) = surface;
    let mut request = Request::builder().method(method).uri(format!("{target}{query}"));
    if !content_type.is_empty() {
        request = request.header("content-type", content_type);
    }
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    if is_handshake {
        let request = request.header("connection", "upgrade").header("upgrade", "websocket").extension(Handshake);
        return request.body(Body::empty()).unwrap();
    }
    request.body(Body::from(body)).unwrap()
}

/// What a backend is shown.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// A token that must be waited for.
    Cold,
    Key,
    PassThrough,
    /// A token that is refused once.
    Stale,
    /// A token in hand.
    Warm,
}

const KINDS: [Kind; 5] = [Kind::Cold, Kind::Key, Kind::PassThrough, Kind::Stale, Kind::Warm];

struct Issuer {
    name: &'static str,
    issued: AtomicU32,
}

impl TokenSource for Issuer {
    fn fetch(&self, _: bool) -> BoxFuture<Result<Token, BoxError>> {
        let token = format!("token-of-{}-{}", self.name, self.issued.fetch_add(1, SeqCst) + 1);
        Box::pin(async { Ok(Token::new(token, Instant::now() + Duration::from_secs(3_600))) })
    }
}

impl Kind {
    async fn backend(self, name: &'static str, priority: u32) -> Backend {
        let keeper = Arc::new(TokenKeeper::new(Issuer { name, issued: AtomicU32::new(0) }));
        if matches!(self, Self::Stale | Self::Warm) {
            keeper.wait().await.unwrap();
        }
        let credential = match self {
            Self::Key => Credential::api_key(format!("key-of-{name}")).unwrap(),
            Self::PassThrough => Credential::pass_through(),
            Self::Cold | Self::Stale | Self::Warm => Credential::bearer(keeper),
        };
        let backend = Backend::new(name, format!("https://{name}.example")).priority(priority).credential(credential);
        backend.add_deployment(Deployment::new("gpt-4o"))
    }

    /// The credentials that the backend should have seen, one for each request.
    fn shown(self, name: &str) -> Vec<(&'static str, String)> {
        let token = |number| ("authorization", format!("Bearer token-of-{name}-{number}"));
        match self {
            Self::Cold | Self::Warm => vec![token(1)],
            Self::Key => vec![("api-key", format!("key-of-{name}"))],
            Self::PassThrough => vec![("authorization", format!("Bearer {TOKEN}"))],
            Self::Stale => vec![token(1), token(2)],
        }
    }
}

/// Everything in a request that could be a credential.
fn credentials(request: &Request<Body>) -> Vec<(&str, String)> {
    let is_one = |name: &str, value: &str| {
        let is_own = ["api-key", "authorization", "ocp-apim-subscription-key", "cookie", "proxy-authorization"];
        is_own.contains(&name) || value.contains(KEY) || value.contains(TOKEN) || value.contains(NOBODYS)
    };
    let values = request.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap().to_owned()));
    let uri = ("uri", request.uri().to_string());
    values.chain([uri]).filter(|(name, value)| is_one(name, value)).collect()
}

fn who(presented: &Presented) -> Option<Client> {
    match std::str::from_utf8(presented.secret()).ok()? {
        KEY => Some(Client::new("team")),
        TOKEN => Some(Client::new("app").with_token(ClientToken::new(TOKEN).unwrap())),
        _ => None,
    }
}

type Seen = Arc<Mutex<Vec<(String, Vec<(String, String)>)>>>;

/// Sends a request to a gateway whose first backend throttles and whose second answers; what they saw, in order.
async fn exchange(
    kinds: [Kind; 2],
    sessions: bool,
    request: Request<Body>,
) -> (u16, Vec<(String, Vec<(String, String)>)>) {
    let backends = [kinds[0].backend("first", 0).await, kinds[1].backend("second", 1).await];
    let pool = backends.into_iter().fold(Pool::builder(), |pool, backend| pool.add_backend(backend)).build().unwrap();
    let seen = Seen::default();
    let network = {
        let seen = seen.clone();
        service_fn(move |request: Request<Body>| {
            let name = request.uri().host().unwrap().trim_end_matches(".example").to_owned();
            let kind = kinds[usize::from(name == "second")];
            let mut seen = seen.lock().unwrap();
            let before = seen.iter().filter(|(backend, _)| *backend == name).count();
            let shown = credentials(&request).into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            let status = match (before, name.as_str()) {
                (0, _) if kind == Kind::Stale => 401,
                (_, "first") => 429,
                _ => 200,
            };
            seen.push((name, shown));
            let answer = Response::builder().status(status).header("retry-after-ms", "50").body(Body::empty());
            std::future::ready(Ok::<_, BoxError>(answer.unwrap()))
        })
    };
    let session = sessions.then(|| StickySessionLayer::new(pool.clone()));
    let gateway = gateway::builder(pool, TerminateCredentialsLayer::new(who)).session(session).build(network);
    let status = gateway.oneshot(request).await.unwrap().status().as_u16();
    let seen = seen.lock().unwrap().clone();
    (status, seen)
}

#[tokio::test(start_paused = true)]
async fn each_backend_sees_one_credential_and_it_is_its_own() {
    for credential in [KEY, TOKEN] {
        for (headers, query) in forms(credential, NOBODYS) {
            for surface in SURFACES {
                for (first, second) in KINDS.iter().flat_map(|first| KINDS.map(|second| (*first, second))) {
                    let case = format!("{headers:?} {query} {} {first:?} {second:?}", surface.1);
                    let (status, mut seen) = exchange([first, second], false, request(surface, &headers, &query)).await;
                    // Attempts of one backend follow one another; which backend comes first is not what this is about.
                    seen.sort_by_key(|(name, _)| name.clone());
                    let can_be_used = |kind: Kind| kind != Kind::PassThrough || credential == TOKEN;
                    let is_passed_over = first == Kind::Cold && second != Kind::Cold && can_be_used(second);
                    let asked = [
                        (first, "first", can_be_used(first) && !is_passed_over),
                        (second, "second", can_be_used(second)),
                    ];
                    let expected: Vec<_> = asked
                        .iter()
                        .filter(|(.., is_asked)| *is_asked)
                        .flat_map(|(kind, name, _)| kind.shown(name).into_iter().map(move |shown| (*name, shown)))
                        .map(|(name, (header, value))| (name.to_owned(), vec![(header.to_owned(), value)]))
                        .collect();
                    assert_eq!(seen, expected, "{case}");
                    let answered = match (can_be_used(first), can_be_used(second)) {
                        (_, true) => 200,
                        (true, false) => 429,
                        (false, false) => 401,
                    };
                    assert_eq!(status, answered, "{case}");
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_looks_for_an_id_shows_each_backend_its_own_credential() {
    let surface = ("GET", "/openai/v1/responses/resp_1?a=1", "", "", false);
    for credential in [KEY, TOKEN] {
        for kinds in KINDS.iter().flat_map(|first| KINDS.map(|second| [*first, second])) {
            let headers = [("authorization", format!("Bearer {credential}"))];
            let (_, seen) = exchange(kinds, true, request(surface, &headers, "")).await;
            let own = kinds.into_iter().zip(["first", "second"]);
            let own: Vec<_> =
                own.flat_map(|(kind, name)| kind.shown(name).into_iter().map(move |own| (name, own))).collect();
            for (backend, shown) in &seen {
                let [(header, value)] = &shown[..] else { panic!("{kinds:?}: {shown:?}") };
                let is_own =
                    |(name, own): &(&str, (&str, String))| name == backend && (own.0, &own.1) == (header, value);
                assert!(own.iter().any(is_own), "{kinds:?}: {backend} saw {header}: {value}");
            }
        }
    }
}
