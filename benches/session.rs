//! What it costs to remember 100,000 ids, and what the layer adds to a request: one without state, and one that names a thread.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion};
use futures_util::FutureExt;
use http::{Request, Response};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
use tower_azure_openai::body::Body;
use tower_azure_openai::pool::{Backend, Deployment, Pool};
use tower_azure_openai::session::{MemoryStore, ObjectKey, Remembered, SessionStore, StickySessionLayer};

const IDS: usize = 100_000;
const DAY: Duration = Duration::from_secs(86_400);
const CHAT: &str =
    r#"{"model":"gpt-4o","max_tokens":100,"messages":[{"role":"user","content":"Hello, how are you?"}]}"#;

fn main() -> Result<(), BoxError> {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    store(&mut criterion);
    layer(&mut criterion)?;
    criterion.final_summary();
    Ok(())
}

fn id(i: usize) -> String {
    format!("thread_{:032x}", (i as u128).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

/// A store of `IDS` ids, each with an owner.
fn full() -> MemoryStore {
    let store = MemoryStore::new(IDS);
    let (backend, owner) = (Remembered::on("paygo-westus"), "team-a".into());
    let object = backend.owner(Some(owner));
    for i in 0..IDS {
        let _ = store.remember(ObjectKey::of(&id(i)), object.clone(), DAY).now_or_never();
    }
    store
}

fn store(criterion: &mut Criterion) {
    let mut kept = None;
    let memory = allocation_counter::measure(|| kept = Some(full()));
    println!("store/memory of {IDS} ids: {:.1} MiB", memory.bytes_current as f64 / f64::from(1 << 20));
    let Some(store) = kept else { return };
    let ids: Vec<_> = (0..IDS).map(id).collect();
    let mut next = ids.iter().cycle();
    criterion.bench_function("store/look up", |bencher| {
        bencher.iter(|| store.look_up(ObjectKey::of(next.next().map_or("", String::as_str))).now_or_never());
    });
    let mut new = IDS..;
    criterion.bench_function("store/remember a new one", |bencher| {
        bencher.iter_batched(
            || id(new.next().unwrap_or_default()),
            |id| store.remember(ObjectKey::of(&id), Remembered::on("paygo-westus"), DAY).now_or_never(),
            BatchSize::SmallInput,
        );
    });
}

fn layer(criterion: &mut Criterion) -> Result<(), BoxError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let backend =
        |i| Backend::new(format!("b{i}"), format!("https://b{i}.example")).add_deployment(Deployment::new("gpt-4o"));
    let pool = (0..3).fold(Pool::builder(), |pool, i| pool.add_backend(backend(i))).build()?;
    let store = MemoryStore::new(IDS);
    let _ = store.remember(ObjectKey::of("thread_1"), Remembered::on("b1"), DAY).now_or_never();
    let bare = service_fn(answer);
    let sticky = StickySessionLayer::new(pool).store(store).layer(bare);
    let chat = || request("/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21", CHAT);
    let run =
        || request("/openai/threads/thread_1/messages?api-version=2024-10-21", r#"{"role":"user","content":"Hi"}"#);
    measure(criterion, &runtime, "bare/chat", bare, chat);
    measure(criterion, &runtime, "layer/chat", sticky.clone(), chat);
    measure(criterion, &runtime, "layer/a thread's message", sticky, run);
    Ok(())
}

fn measure<S>(
    criterion: &mut Criterion,
    runtime: &tokio::runtime::Runtime,
    name: &str,
    mut service: S,
    request: impl Fn() -> Request<Body>,
) where
    S: Service<Request<Body>, Response = Response<Body>>,
{
    criterion.bench_function(name, |bencher| {
        bencher.iter_batched(
            &request,
            |request| {
                black_box(runtime.block_on(async { service.ready().await.ok()?.call(request).await.ok() }));
            },
            BatchSize::SmallInput,
        );
    });
}

fn request(uri: &'static str, body: &'static str) -> Request<Body> {
    let mut request = Request::new(Body::from(body));
    (*request.method_mut(), *request.uri_mut()) = (http::Method::POST, http::Uri::from_static(uri));
    request
}

fn answer(_: Request<Body>) -> Ready<Result<Response<Body>, Infallible>> {
    ready(Ok(Response::new(Body::empty())))
}
