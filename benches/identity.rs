//! What the state of an identity adds to a request: nothing, while a token is in hand.
//!
//! Selection and re-issue around a service that answers at once, with an API key, with a token, and with a token whose refresh
//! is due and does not come. The clock of the runtime stands still, so that the token never ends; the one that measures does not.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use criterion::{BatchSize, Criterion};
use futures_util::FutureExt;
use http::{Request, Response, StatusCode};
use tokio::time::{Instant, advance};
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
use tower_azure_openai::body::Body;
use tower_azure_openai::forward::ForwardLayer;
use tower_azure_openai::pool::{Backend, BearerTokens, BoxFuture, Credential, Deployment, Pool};
use tower_azure_openai::reissue::{ReissueCredentialsLayer, Token, TokenKeeper, TokenSource};
use tower_azure_openai::select::SelectBackendLayer;

const CHAT: &str = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21";
const LIFE: Duration = Duration::from_secs(3_600);

/// A token at first, and then nothing any more.
#[derive(Default)]
struct Once(AtomicBool);

impl TokenSource for Once {
    fn fetch(&self, _: bool) -> BoxFuture<Result<Token, BoxError>> {
        if self.0.swap(true, Relaxed) {
            return Box::pin(std::future::pending());
        }
        // As long as one of Entra.
        Box::pin(async { Ok(Token::new("x".repeat(1_800), Instant::now() + LIFE)) })
    }
}

fn main() -> Result<(), BoxError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    let keeper = || {
        let keeper = Arc::new(TokenKeeper::new(Once::default()));
        runtime.block_on(keeper.wait()).map(|_| keeper)
    };
    let due = keeper()?;
    runtime.block_on(advance(LIFE - Duration::from_secs(200)));
    let fresh = keeper()?;

    let _entered = runtime.enter();
    let mut criterion = Criterion::default().configure_from_args();
    for (name, credential) in [
        ("an API key", Credential::api_key("0123456789abcdef0123456789abcdef")?),
        ("a token", Credential::bearer(fresh)),
        ("a token while its refresh hangs", Credential::bearer(due)),
    ] {
        measure(&mut criterion, name, credential)?;
    }
    criterion.final_summary();
    Ok(())
}

fn measure(criterion: &mut Criterion, name: &str, credential: Credential) -> Result<(), BoxError> {
    let backend = Backend::new("east", "https://east.example").credential(credential);
    let pool = Pool::builder().add_backend(backend.add_deployment(Deployment::new("gpt-4o"))).build()?;
    let service = ServiceBuilder::new()
        .layer(SelectBackendLayer::new(pool))
        .layer(ForwardLayer::new())
        .layer(ReissueCredentialsLayer::new())
        .service(service_fn(async |_: Request<Body>| Ok::<_, Infallible>(Response::new(Body::empty()))));
    let request = Request::post(CHAT).body(Body::empty())?;
    criterion.benchmark_group("identity").bench_function(name, |bencher| {
        let call = |request| {
            let answer = service.clone().oneshot(request).now_or_never().expect("nothing is waited for");
            assert!(answer.is_ok_and(|answer| answer.status() == StatusCode::OK));
        };
        bencher.iter_batched(|| clone(&request), call, BatchSize::SmallInput);
    });
    Ok(())
}

fn clone(request: &Request<Body>) -> Request<Body> {
    let mut clone = Request::new(Body::empty());
    *clone.method_mut() = request.method().clone();
    *clone.uri_mut() = request.uri().clone();
    clone
}
