//! What it costs to remember 100,000 ids, what the layer adds to a request (one without state, and one that names a thread), and
//! what it costs to look for ids in 16 MiB that were made to be slow, beside plainly scanning them as JSON.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput};
use futures_util::FutureExt;
use http::{Request, Response};
use serde::de::IgnoredAny;
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
use tower_azure_openai::azure::object_id::{Answered, Family, References};
use tower_azure_openai::azure::operation::Operation;
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
    reading(&mut criterion);
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

/// So many bytes of a hostile body.
const HOSTILE: usize = 16 << 20;

/// A body that says `part` over and over between its ends.
fn filled(start: &str, part: &str, end: &str) -> Vec<u8> {
    let times = (HOSTILE - start.len() - end.len()) / part.len();
    [start.to_owned(), part.repeat(times), end.to_owned()].concat().into_bytes()
}

fn reading(criterion: &mut Criterion) {
    let five_hundred: String = (0..500).map(|i| format!("\"file-{i}\",")).collect();
    let requests = [
        ("prose", filled(r#"{"input":""#, "What is it that you want? ", r#""}"#)),
        ("id keys", filled(r#"{"input":[{"#, r#""id":0,"#, r#""id":0}]}"#)),
        ("items with ids", filled(r#"{"input":["#, r#"{"id":"a"},"#, r#"{"id":"a"}]}"#)),
        (
            "500 ids, then one again",
            filled(&format!(r#"{{"tools":[{{"vector_store_ids":[{five_hundred}"#), r#""file-499","#, r#""x"]}]}"#),
        ),
        ("sealed contents", filled(r#"{"input":["#, r#"{"encrypted_content":"gAAAAABo0000000000"},"#, "{}]}")),
    ];
    let answers = [
        ("one sealed content", filled(r#"{"output":[{"encrypted_content":""#, "gAAAAABo00000000", r#""}]}"#)),
        ("sealed contents", filled(r#"{"output":["#, r#"{"encrypted_content":"gAAAAABo0000000000"},"#, "{}]}")),
        ("objects of a list", filled(r#"{"data":["#, r#"{"id":"file-0"},"#, "{}]}")),
        ("nothing but nesting", filled(r#"{"data":"#, "[", "")),
        ("numbers", filled(r#"{"data":["#, "0.0123,", "0]}")),
    ];
    let mut group = criterion.benchmark_group("reading 16 MiB");
    group.sample_size(10).throughput(Throughput::Bytes(HOSTILE as u64));
    let scan = |body: &[u8]| serde_json::from_slice::<IgnoredAny>(black_box(body)).is_ok();
    for (name, body) in &requests {
        group.bench_function(format!("request/{name}/as JSON"), |bencher| bencher.iter(|| scan(body)));
        group.bench_function(format!("request/{name}/for ids"), |bencher| {
            bencher.iter(|| References::read(Operation::Responses, black_box(body)).is_ok());
        });
    }
    for (name, body) in &answers {
        group.bench_function(format!("answer/{name}/as JSON"), |bencher| bencher.iter(|| scan(body)));
        group.bench_function(format!("answer/{name}/for ids"), |bencher| {
            bencher.iter(|| Answered::read(black_box(body), Some(Family::Response)).ids().len());
        });
    }
    group.finish();
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
