//! What is written down of the last requests, and what is not.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use proptest::prelude::*;
use tokio::time::{advance, sleep};
use tower::util::BoxCloneSyncService;
use tower::{BoxError, ServiceExt, service_fn};
use tower_azure_openai::azure::Outcome;
use tower_azure_openai::body::Body;
use tower_azure_openai::context::Client;
use tower_azure_openai::gateway::{self, Gateway};
use tower_azure_openai::observe::{Ending, ObserveLayer};
use tower_azure_openai::pool::{Backend, Deployment, Pool};
use tower_azure_openai::recorder::{Action, FlightRecorder, ReadRecordingError, Recording};
use tower_azure_openai::terminate::{ClientRegistry, TerminateCredentialsLayer};

use support::CHAT;

const KEY: &str = "key-of-team-a-0123456789";
const MEMORY: usize = 1 << 20;

fn pool() -> Pool {
    let backend = |name: &str, priority| {
        let deployment = Deployment::new(format!("{name}-deployment")).alias("gpt-4o").tokens_per_minute(9_000);
        Backend::new(name, format!("https://{name}.example")).priority(priority).add_deployment(deployment)
    };
    Pool::builder().add_backend(backend("ptu", 0)).add_backend(backend("paygo", 1)).build().unwrap()
}

/// A gateway whose PTU is throttled for 250 ms and whose pay-as-you-go answers after 40 ms.
fn gateway(pool: &Pool, recorder: &FlightRecorder) -> Gateway {
    let clients = ClientRegistry::builder().add_key(Client::new("team-a"), KEY).build().unwrap();
    let backends = BoxCloneSyncService::new(service_fn(async |request: Request<Body>| {
        request.into_body().collect().await?;
        sleep(Duration::from_millis(40)).await;
        let usage = r#"{"choices":[],"usage":{"prompt_tokens":11,"completion_tokens":3}}"#;
        Ok::<_, BoxError>(Response::new(Body::from(usage)))
    }));
    let throttled = service_fn(async |_: Request<Body>| {
        let answer = Response::builder().status(429).header("retry-after-ms", "250");
        Ok::<_, BoxError>(answer.body(Body::from("{}"))?)
    });
    let serves = service_fn(move |request: Request<Body>| {
        let is_ptu = request.uri().host().is_some_and(|host| host.starts_with("ptu"));
        let (throttled, backends) = (throttled, backends.clone());
        async move { if is_ptu { throttled.oneshot(request).await } else { backends.oneshot(request).await } }
    });
    gateway::builder(pool.clone(), TerminateCredentialsLayer::new(clients))
        .observe(ObserveLayer::new().add_recorder(recorder.clone()))
        .build(serves)
}

async fn ask(gateway: &Gateway, request: http::request::Builder, body: &str) -> StatusCode {
    let request = request.header("content-type", "application/json").body(Body::from(body.to_owned())).unwrap();
    let answer = gateway.clone().oneshot(request).await.unwrap();
    let status = answer.status();
    answer.into_body().collect().await.unwrap();
    status
}

fn chat() -> http::request::Builder {
    Request::post(CHAT).header("api-key", KEY)
}

async fn recorded() -> FlightRecorder {
    let pool = pool();
    let recorder = FlightRecorder::new(MEMORY, &pool);
    let gateway = gateway(&pool, &recorder);
    advance(Duration::from_millis(5)).await;
    let body = r#"{"messages":[{"role":"user","content":"Hello"}],"max_tokens":64,"stream":false}"#;
    assert_eq!(ask(&gateway, chat(), body).await, 200);
    assert_eq!(ask(&gateway, Request::post("/openai/deployments/gpt-5-secret/chat/completions"), "{}").await, 401);
    recorder
}

#[tokio::test(start_paused = true)]
async fn a_request_that_moved_on_is_told_with_its_attempts_and_the_circuit() {
    let recorder = recorded().await;
    recorder.note(Action::Configure { fingerprint: 0xabcd });
    let recording = Recording::read(&recorder.dump()).unwrap();

    let requests: Vec<_> = recording.requests().copied().collect();
    let [first, second] = requests[..] else { panic!("{recording:?}") };
    assert_eq!((first.status, first.ending, first.attempts), (Some(StatusCode::OK), Ending::Whole, 2));
    assert_eq!((first.max_tokens, first.is_streamed, first.bytes), (Some(64), false, 79));
    assert_eq!((recording.alias(first.alias), first.tokens), (Some("gpt-4o"), Some((11, 3))));
    assert_eq!(first.total, Duration::from_millis(40));
    assert!(first.at >= Duration::from_millis(5) && first.client != 0, "{first:?}");
    assert_eq!((second.status, second.attempts, second.client), (Some(StatusCode::UNAUTHORIZED), 0, 0));
    assert_eq!(recording.alias(second.alias), None, "nobody serves it");

    let attempts: Vec<_> = recording.attempts().copied().collect();
    let names = attempts.iter().map(|attempt| recording.target(attempt.target).unwrap().backend.as_str());
    assert_eq!(names.collect::<Vec<_>>(), ["ptu", "paygo"]);
    let hint = Some(Duration::from_millis(250));
    assert_eq!(attempts[0].outcome, Some(Outcome::Throttled { hint }));
    assert_eq!((attempts[1].outcome, attempts[1].number), (Some(Outcome::Success), first.number));
    let circuits: Vec<_> = recording.circuits().copied().collect();
    assert_eq!((circuits.len(), circuits[0].opened, circuits[0].is_throttled), (1, hint, true));
    assert_eq!(circuits[0].target, attempts[0].target);

    let quotas = recording.targets().iter().filter_map(|target| target.tokens_per_minute);
    assert_eq!(quotas.collect::<Vec<_>>(), [9_000, 9_000]);
    let table = format!("{recording:?}");
    for line in
        ["ptu/ptu-deployment", "throttled, wait 250 ms", "open for 250 ms, as it was told", "200 whole after 40 ms"]
    {
        assert!(table.contains(line), "{line}\n{table}");
    }
    assert!(table.contains("configuration 000000000000abcd"), "{table}");
}

#[tokio::test(start_paused = true)]
async fn nothing_that_a_client_typed_is_in_the_file() {
    let pool = pool();
    let recorder = FlightRecorder::new(MEMORY, &pool);
    let gateway = gateway(&pool, &recorder);
    let typed =
        ["a-secret-prompt", "a-metadata-value", "x-header-of-mine", "its-value", "deployment-of-nobody", "q-in-query"];
    let [prompt, metadata, header, value, alias, query] = typed;
    let body = format!(
        r#"{{"messages":[{{"role":"user","content":"{prompt}"}}],"metadata":{{"a":"{metadata}"}},"user":"{value}"}}"#
    );
    ask(&gateway, Request::post(format!("{CHAT}&{query}=1")).header("api-key", KEY).header(header, value), &body).await;
    let path = format!("/openai/deployments/{alias}/chat/completions?api-version=2024-10-21");
    ask(&gateway, Request::post(path).header("api-key", KEY).header("x-request-id", value), &body).await;

    let file = recorder.dump();
    assert_eq!(Recording::read(&file).unwrap().requests().count(), 2);
    for text in typed.iter().chain(&[KEY, "team-a"]) {
        assert!(!file.windows(text.len()).any(|window| window == text.as_bytes()), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_older_than_the_memory_is_forgotten() {
    let pool = pool();
    let recorder = FlightRecorder::new(64 * 4, &pool);
    let gateway = gateway(&pool, &recorder);
    for _ in 0..5 {
        ask(&gateway, chat(), r#"{"messages":[]}"#).await;
    }
    let recording = Recording::read(&recorder.dump()).unwrap();
    assert_eq!(recording.events().len(), 4);
    assert_eq!(recording.requests().last().unwrap().number, 4);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_not_whole_is_refused_by_what_is_wrong() {
    let file = recorded().await.dump();
    for length in 0..file.len() {
        let error = Recording::read(&file[..length]).unwrap_err();
        let expected =
            if length < 8 { ReadRecordingError::Foreign } else { ReadRecordingError::CutOff { bytes: length } };
        assert_eq!(error, expected);
    }
    for at in 0..file.len() {
        let mut damaged = file.clone();
        damaged[at] ^= 1;
        assert!(Recording::read(&damaged).is_err(), "byte {at}");
    }
    let mut newer = file.clone();
    newer[8] = 2;
    let error = Recording::read(&newer).unwrap_err();
    assert_eq!(error.to_string(), "the recording is of format 2, and only format 1 can be read here");
    let longer = [&file[..], b"!"].concat();
    assert_eq!(
        Recording::read(&longer).unwrap_err().to_string(),
        "the recording is not well formed: 1 bytes follow its end"
    );
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(tail in prop::collection::vec(any::<u8>(), 0..400), begins in any::<bool>()) {
        let file = if begins { [b"aoai-rec\x01\0", &tail[..]].concat() } else { tail };
        prop_assert!(Recording::read(&file).is_err());
    }
}

/// The checksum is made right again, so that what lies behind it is reached.
#[tokio::test(start_paused = true)]
async fn events_that_say_what_cannot_be_are_refused() {
    use sha2::{Digest, Sha256};

    let file = recorded().await.dump();
    let events = Recording::read(&file).unwrap().events().len();
    let begin = file.len() - 32 - 64 * events;
    for at in begin..file.len() - 32 {
        for value in [0, 7, 99, 255] {
            let mut changed = file[..file.len() - 32].to_vec();
            changed[at] = value;
            let checksum = Sha256::digest(&changed);
            changed.extend(checksum);
            match Recording::read(&changed) {
                Ok(recording) => drop(format!("{recording:?}")),
                Err(error) => assert!(matches!(error, ReadRecordingError::Malformed { .. }), "{error}"),
            }
        }
    }
}
