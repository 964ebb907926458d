//! An outage of everything, as a client library feels it: the whole stack in virtual time.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use http::{HeaderMap, Request, Response, StatusCode};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tower::{BoxError, ServiceExt, service_fn};
use tower_azure_openai::azure::Outcome;
use tower_azure_openai::body::Body;
use tower_azure_openai::context::AttemptFailed;
use tower_azure_openai::gateway::{self, Gateway};
use tower_azure_openai::pool::{Backend, Deployment, Pool};
use tower_azure_openai::terminate::TerminateCredentialsLayer;

const CHAT: &str = "/openai/v1/chat/completions";

/// A gateway whose three resources all refuse connections until then.
fn all_refuse_until(end: Instant) -> Gateway {
    let backend = |i| Backend::new(format!("b{i}"), format!("https://b{i}.example"));
    let pool = (0..3).fold(Pool::builder(), |pool, i| {
        pool.add_backend(backend(i).priority(i / 2).add_deployment(Deployment::new("gpt-4o")))
    });
    let network = service_fn(move |_: Request<Body>| async move {
        // A refusal takes as long as it takes to hear of it.
        sleep(Duration::from_millis(2)).await;
        match Instant::now() < end {
            true => Err::<_, BoxError>(AttemptFailed::new(Outcome::Unreachable, "refused").into()),
            false => Ok(Response::new(Body::from("{}"))),
        }
    });
    gateway::builder(pool.build().unwrap(), TerminateCredentialsLayer::without_clients()).build(network)
}

async fn ask(gateway: &Gateway) -> (StatusCode, HeaderMap) {
    let body = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"Hi"}]}"#;
    let request = Request::post(CHAT).header("content-type", "application/json").body(Body::from(body)).unwrap();
    let (head, _) = gateway.clone().oneshot(request).await.unwrap().into_parts();
    (head.status, head.headers)
}

/// What openai-python does by default: two repeats; it waits as long as it is told, up to a minute, and else half a second and
/// then one, less up to a quarter by chance, of which this is the `share`.
async fn ask_as_openai_python(gateway: &Gateway, share: f64) -> (StatusCode, HeaderMap) {
    for tried in 0..2 {
        let (status, headers) = ask(gateway).await;
        if !matches!(status.as_u16(), 408 | 409 | 429 | 500..)
            || headers.get("x-should-retry").is_some_and(|x| x == "false")
        {
            return (status, headers);
        }
        let own = Duration::from_millis(500 << tried).mul_f64(1.0 - share / 4.0);
        sleep(asked(&headers).unwrap_or(own)).await;
    }
    ask(gateway).await
}

fn asked(headers: &HeaderMap) -> Option<Duration> {
    let number = |name| headers.get(name)?.to_str().ok()?.parse::<f64>().ok();
    let seconds = number("retry-after-ms").map(|ms| ms / 1_000.0).or_else(|| number("retry-after"))?;
    (seconds > 0.0 && seconds <= 60.0).then(|| Duration::from_secs_f64(seconds))
}

/// Requests that nobody repeats, at this distance, until then.
async fn keep_asking(gateway: &Gateway, every: Duration, until: Instant) {
    let mut asking = JoinSet::new();
    while Instant::now() < until {
        let gateway = gateway.clone();
        asking.spawn(async move { ask(&gateway).await });
        sleep(every).await;
    }
    asking.join_all().await;
}

#[tokio::test(start_paused = true)]
async fn a_library_with_two_retries_rides_out_a_second_and_a_half() {
    // One that has just begun, and some of which the gateway has known for a while.
    for known in [0, 1_000, 4_000, 15_000] {
        for others in [20, 700] {
            let now = Instant::now();
            let known = now + Duration::from_millis(known);
            let gateway = all_refuse_until(known + Duration::from_millis(1_500));
            keep_asking(&gateway, Duration::from_millis(others), known).await;
            sleep_until(known).await;
            let mut riding = JoinSet::new();
            for i in 0..40_u32 {
                let gateway = gateway.clone();
                riding.spawn(async move {
                    // At any moment of what is left.
                    sleep(Duration::from_millis(37) * i).await;
                    ask_as_openai_python(&gateway, f64::from(i % 5) / 4.0).await
                });
            }
            for (status, headers) in riding.join_all().await {
                assert_eq!(status, StatusCode::OK, "known for {:?}, every {others} ms: {headers:?}", known - now);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_answer_comes_within_a_second_of_the_return() {
    for seconds in [1, 3, 15, 120] {
        for every in [50, 200] {
            let (end, every) = (Instant::now() + Duration::from_secs(seconds), Duration::from_millis(every));
            let gateway = all_refuse_until(end);
            keep_asking(&gateway, every, end).await;
            while ask(&gateway).await.0 != StatusCode::OK {
                sleep(every).await;
            }
            let took = Instant::now() - end;
            assert!(took < Duration::from_secs(1), "{took:?} after {seconds} s, asked every {every:?}");
        }
    }
}
