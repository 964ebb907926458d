//! What is secret stays so in the `Debug` of every type that holds some of it.
#![allow(clippy::unwrap_used, reason = "the helpers are part of the tests")]

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use tokio::time::Instant;
use tower::{BoxError, Layer, service_fn};
use tower_azure_openai::body::Body;
use tower_azure_openai::client::HttpClient;
use tower_azure_openai::context::{Client, ClientToken, EphemeralKeys};
use tower_azure_openai::gateway;
use tower_azure_openai::pool::{Backend, BearerTokens, BoxFuture, Credential, Deployment, Pool};
use tower_azure_openai::reissue::azure::Identity;
use tower_azure_openai::reissue::{ReissueCredentialsLayer, Token, TokenKeeper, TokenSource};
use tower_azure_openai::session::{SessionCookie, StickySessionLayer};
use tower_azure_openai::terminate::{ClientRegistry, TerminateCredentialsLayer};

/// Every secret below begins so.
const SECRET: &str = "s3cr3t-";

#[derive(Default)]
struct Shown(Vec<String>);

impl Shown {
    fn add<T: Debug>(&mut self, it: &T) -> &mut Self {
        self.0.extend([format!("{it:?}"), format!("{it:#?}")]);
        self
    }
}

struct Issuer;

impl TokenSource for Issuer {
    fn fetch(&self, _: bool) -> BoxFuture<Result<Token, BoxError>> {
        Box::pin(async { Ok(Token::new(format!("{SECRET}token"), Instant::now() + Duration::from_secs(3_600))) })
    }
}

#[tokio::test(start_paused = true)]
async fn no_debug_shows_a_secret() {
    let secret = |name: &str| format!("{SECRET}{name}-0123456789abcdef0123456789abcdef");
    let mut shown = Shown::default();

    let keeper = Arc::new(TokenKeeper::new(Issuer));
    shown.add(&keeper.wait().await.unwrap()).add(&keeper).add(&Issuer.fetch(false).await.unwrap());
    let (key, bearer) = (Credential::api_key(secret("backend")).unwrap(), Credential::bearer(keeper));
    shown.add(&key).add(&bearer);
    let keyed = Backend::new("keyed", "https://keyed.example").credential(key);
    let identified = Backend::new("identified", "https://identified.example").credential(bearer);
    let builder = Pool::builder()
        .add_backend(keyed.add_deployment(Deployment::new("gpt-4o")))
        .add_backend(identified.add_deployment(Deployment::new("gpt-4o")));
    shown.add(&builder);
    let pool = builder.build().unwrap();
    shown.add(&pool).add(&pool.targets("gpt-4o")).add(&pool.status());
    shown.add(&Identity::client_secret("tenant", "client", secret("application")));

    let token = ClientToken::new(secret("of-the-client")).unwrap();
    shown.add(&token);
    let client = Client::new("team-a").with_token(token);
    shown.add(&client);
    let registry = ClientRegistry::builder().add_key(client.clone(), secret("key"));
    shown.add(&registry);
    let registry = registry.build().unwrap();
    let keys = EphemeralKeys::default();
    keys.remember(&secret("ek"), Some(client), "keyed", Duration::from_secs(60));
    shown.add(&registry).add(&keys).add(&keys.find(secret("ek").as_bytes()));

    let cookie = SessionCookie::new(secret("cookie").as_bytes()).unwrap();
    shown.add(&cookie);
    let session = StickySessionLayer::new(pool.clone()).cookie(cookie).ephemeral_keys(keys.clone());
    let terminate = TerminateCredentialsLayer::new(registry).ephemeral_keys(keys);
    shown.add(&session).add(&terminate);

    let inner = service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(Body::empty())));
    shown.add(&ReissueCredentialsLayer::new().layer(HttpClient::builder().build().unwrap()));
    let builder = gateway::builder(pool, terminate).session(session);
    shown.add(&builder).add(&builder.build(inner)).add(&Body::from(secret("body")));

    for shown in shown.0 {
        assert!(!shown.contains(SECRET), "{shown}");
    }
}
