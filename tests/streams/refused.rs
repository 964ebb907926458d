//! Streams that tell an error after their head said 200.

use tower_azure_openai::testkit::{Fault, StreamError};

use super::*;
use crate::http_support::{Answer, send};

const RESPONSES: &str = "/openai/v1/responses";

/// A gateway before two backends, of which the first is tried first.
struct Pair {
    url: String,
    pool: Pool,
    first: SimulatedBackend,
    second: SimulatedBackend,
    _servers: [SimulatedServer; 2],
}

impl Pair {
    async fn new() -> Self {
        let backends = ["first", "second"]
            .map(|name| SimulatedBackend::builder(name).deployment(SimulatedDeployment::standard("gpt-4o")).build());
        let servers = [backends[0].serve().await.unwrap(), backends[1].serve().await.unwrap()];
        let mut pool = Pool::builder();
        for (priority, server) in (0..).zip(&servers) {
            let backend = Backend::new(format!("b{priority}"), server.url()).priority(priority);
            pool = pool.add_backend(backend.add_deployment(Deployment::new("gpt-4o")));
        }
        let pool = pool.build().unwrap();
        let gateway = gateway::builder(pool.clone(), TerminateCredentialsLayer::without_clients())
            .build(HttpClient::builder().build().unwrap());
        let url = serve(move |request: Request<Incoming>| {
            let gateway = gateway.clone();
            async move { gateway.oneshot(request).await.unwrap() }
        });
        let [first, second] = backends;
        Self { url: url.await, pool, first, second, _servers: servers }
    }

    async fn ask(&self, path: &str) -> Answer {
        let body = r#"{"model":"gpt-4o","messages":[],"prompt":"Hi","input":"Hi","stream":true}"#;
        let request = Request::post(format!("{}{path}", self.url)).header("content-type", "application/json");
        send(request.body(Body::from(body)).unwrap()).await
    }

    fn circuit(&self) -> (&'static str, Option<u64>) {
        let status = self.pool.status().backends[0].deployments[0].clone();
        (status.circuit, status.reopens_in_ms)
    }
}

/// In every shape that this API has, and in pieces.
fn faults(path: &str, error: &StreamError) -> Vec<Fault> {
    let shapes = match path {
        RESPONSES => vec![
            error.clone(),
            error.clone().flat(),
            error.clone().as_failure(),
            error.clone().after_bare_failure(),
            error.clone().after_events(0),
            error.clone().after_bare_failure().after_events(1),
        ],
        _ => vec![error.clone(), error.clone().after_events(0)],
    };
    let whole = shapes.into_iter().map(Fault::stream_error);
    whole.flat_map(|fault| [fault.clone(), fault.and(Fault::chopped(1))]).collect()
}

const PATHS: [&str; 3] = [CHAT, "/openai/v1/completions", RESPONSES];

#[tokio::test]
async fn before_content_the_other_backend_answers_and_nobody_notices() {
    let wait = Duration::from_secs(7);
    for (error, opens) in [
        (StreamError::throttled_for(wait), true),
        (StreamError::high_demand(), false),
        (StreamError::server_error(), false),
    ] {
        for path in PATHS {
            for fault in faults(path, &error) {
                let pair = Pair::new().await;
                let case = format!("{path} {fault:?}");
                pair.first.faults().push(fault);
                let answer = pair.ask(path).await;
                assert_eq!(answer.status, 200, "{case}");
                let text = answer.text();
                assert!(text.contains("second") && !text.contains("error\":{"), "{case}: {text}");
                assert_eq!((pair.first.request_count(), pair.second.request_count()), (1, 1), "{case}");
                if opens {
                    let (circuit, reopens) = pair.circuit();
                    assert_eq!(circuit, "open", "{case}");
                    assert!(reopens.is_some_and(|ms| (5_000..=7_000).contains(&ms)), "{case}: {reopens:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn before_content_a_filtered_prompt_is_a_400_and_not_repeated() {
    for path in PATHS {
        for fault in faults(path, &StreamError::content_filter()) {
            let pair = Pair::new().await;
            let case = format!("{path} {fault:?}");
            pair.first.faults().push(fault);
            let answer = pair.ask(path).await;
            assert_eq!((answer.status.as_u16(), answer.code().as_str()), (400, "content_filter"), "{case}");
            assert_eq!(pair.second.request_count(), 0, "{case}");
        }
    }
}

#[tokio::test]
async fn when_all_refuse_so_the_answer_is_a_429() {
    for path in PATHS {
        let pair = Pair::new().await;
        pair.first.faults().push(Fault::stream_error(StreamError::throttled_for(Duration::from_secs(30))));
        pair.second.faults().push(Fault::stream_error(StreamError::throttled_for(Duration::from_secs(7))));
        let answer = pair.ask(path).await;
        assert_eq!(answer.status, 429, "{path}");
        assert_eq!(answer.header("retry-after"), Some("7"), "{path}");
    }
}

#[tokio::test]
async fn after_content_the_client_sees_it_and_the_circuit_learns() {
    for path in PATHS {
        let pair = Pair::new().await;
        pair.first
            .faults()
            .push(Fault::stream_error(StreamError::throttled_for(Duration::from_secs(7)).after_events(6)));
        let answer = pair.ask(path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.text().contains("rate_limit_exceeded"), "{path}: {}", answer.text());
        assert_eq!(pair.second.request_count(), 0, "{path}: nothing is repeated");
        assert_eq!(pair.circuit().0, "open", "{path}");
    }
}
