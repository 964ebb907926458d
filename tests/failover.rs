//! Failover from outside: with inspection above it, selection and circuits below, over simulated backends.
#![allow(clippy::unwrap_used, reason = "the helpers are part of the tests")]

mod support;

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio::time::{Instant, advance};
use tower::{BoxError, Layer as _, ServiceBuilder, ServiceExt, service_fn};
use tower_azure_openai::azure::{Outcome, Phase};
use tower_azure_openai::body::Body;
use tower_azure_openai::context::{Attempt, AttemptFailed, Client, Tried};
use tower_azure_openai::failover::{Condition, FailoverLayer, RetryBudget};
use tower_azure_openai::forward::ForwardLayer;
use tower_azure_openai::inspect::InspectLayer;
use tower_azure_openai::pool::Deployment;
use tower_azure_openai::respond::RespondLayer;
use tower_azure_openai::select::SelectBackendLayer;
use tower_azure_openai::testkit::Fault;
use tower_azure_openai::{Error, ErrorKind};

use support::{
    CHAT, Fleet, HELLO, Service, Stack, answer, broken, bytes, chat, chunked, error, header, post, send, stalled, waits,
};

const THREADS: &str = "/openai/threads?api-version=2024-10-21";

/// Makes a backend show one condition for ever.
type Break = fn(&Fleet, usize);

const UNKNOWN: [(&str, Break); 7] = [
    ("408", |fleet, i| fleet.always(i, Fault::status(408))),
    ("500", |fleet, i| fleet.always(i, Fault::status(500))),
    ("502", |fleet, i| fleet.always(i, Fault::status(502))),
    ("503", |fleet, i| fleet.always(i, Fault::status(503))),
    ("504", |fleet, i| fleet.always(i, Fault::status(504))),
    ("first-byte-timeout", |fleet, i| fleet.fail(i, Outcome::TimedOut(Phase::FirstByte))),
    ("stream-preamble", |fleet, i| {
        fleet.reply(i, |_| Err(AttemptFailed::new(Outcome::Reset, "scripted").in_preamble().into()));
    }),
];

const REFUSALS: [(&str, Break); 5] = [
    ("401", |fleet, i| fleet.always(i, Fault::status(401))),
    ("403", |fleet, i| fleet.always(i, Fault::status(403))),
    ("404-deployment", |fleet, i| fleet.always(i, Fault::status(404))),
    ("429", |fleet, i| fleet.always(i, Fault::throttled())),
    ("connect", |fleet, i| fleet.fail(i, Outcome::Unreachable)),
];

fn conditions() -> impl Iterator<Item = (&'static str, Break)> {
    UNKNOWN.into_iter().chain(REFUSALS)
}

mod conditions {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_moves_a_request_on_at_once() {
        for (name, fails) in conditions() {
            let fleet = Fleet::new(3);
            fails(&fleet, 0);
            fails(&fleet, 1);
            let start = Instant::now();
            let answer = send(&fleet.gateway(), chat()).await;
            assert_eq!(answer.status(), StatusCode::OK, "{name}");
            assert_eq!(fleet.counts(), [1, 1, 1], "{name}: each target is tried once");
            assert_eq!(start.elapsed(), Duration::ZERO, "{name}: nobody sleeps");
            assert!(support::json(answer).await["choices"].to_string().contains("Hello from b2"), "{name}");
            assert_eq!(fleet.in_flight(), 0, "{name}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn content_that_only_its_maker_reads_moves_on_whatever_is_switched_off() {
        const CODE: &str = r#"{"error":{"message":"x","code":"invalid_encrypted_content"}}"#;
        const MESSAGE: &str =
            r#"{"error":{"message":"The encrypted content gAAA... could not be verified. Reason: y","code":null}}"#;
        for body in [CODE, MESSAGE] {
            let fleet = Fleet::new(3);
            let refuse = move |_| Ok(Response::builder().status(400).body(Body::from(body)).unwrap());
            (0..2).for_each(|i| fleet.reply(i, refuse));
            let answer = send(&fleet.stack(FailoverLayer::new().on([]).attempts(1)), chat()).await;
            assert_eq!((answer.status(), fleet.counts()), (StatusCode::OK, vec![1, 1, 1]));
            assert_eq!(fleet.circuits(), ["closed", "closed", "closed"]);

            fleet.reply(2, refuse);
            let answer = send(&fleet.gateway(), chat()).await;
            assert_eq!(
                (answer.status(), bytes(answer).await),
                (StatusCode::BAD_REQUEST, body.into()),
                "nobody reads it"
            );
        }
    }

    #[test]
    fn those_are_all_that_are_on_by_default() {
        let tested: std::collections::HashSet<Condition> =
            conditions().map(|(name, _)| name.parse().unwrap()).collect();
        assert_eq!(tested, Condition::DEFAULT.into_iter().collect());
    }

    #[tokio::test(start_paused = true)]
    async fn with_one_backend_nothing_is_repeated() {
        for (name, fails) in conditions() {
            let fleet = Fleet::new(1);
            fails(&fleet, 0);
            let answer = send(&fleet.gateway(), chat()).await;
            assert_ne!(answer.status(), StatusCode::OK, "{name}");
            assert_eq!(fleet.counts(), [1], "{name}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_condition_that_is_left_out_passes_its_outcome() {
        for (name, fails) in conditions() {
            let fleet = Fleet::new(2);
            fails(&fleet, 0);
            let others = Condition::DEFAULT.into_iter().filter(|condition| condition.to_string() != name);
            let answer = send(&fleet.stack(FailoverLayer::new().on(others)), chat()).await;
            let expected = match name {
                "401" | "403" => 502,
                "404-deployment" => 404,
                "connect" => 503,
                "stream-preamble" => 502,
                "first-byte-timeout" => 504,
                status => status.parse().unwrap(),
            };
            assert_eq!(answer.status(), expected, "{name}");
            assert_eq!(fleet.counts(), [1, 0], "{name}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn some_are_off_until_they_are_asked_for() {
        let optional: [(Condition, u16, Break); 3] = [
            (Condition::Conflict, 409, |fleet, i| fleet.always(i, Fault::status(409).header("retry-after", "1"))),
            (Condition::DependencyFailed, 424, |fleet, i| fleet.always(i, Fault::status(424))),
            (Condition::AnswerTimeout, 504, |fleet, i| fleet.fail(i, Outcome::TimedOut(Phase::Answer))),
        ];
        for (condition, status, fails) in optional {
            let fleet = Fleet::new(2);
            fails(&fleet, 0);
            assert_eq!(send(&fleet.gateway(), chat()).await.status(), status, "{condition}");
            assert_eq!(fleet.counts(), [1, 0], "{condition}");

            let on = Condition::DEFAULT.into_iter().chain([condition]);
            let answer = send(&fleet.stack(FailoverLayer::new().on(on)), chat()).await;
            assert_eq!(answer.status(), StatusCode::OK, "{condition}");
            assert_eq!(fleet.counts(), [2, 1], "{condition}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn faults_of_the_client_return_at_once_and_untouched() {
        let filtered = r#"{"error":{"message":"The response was filtered","type":null,"param":"prompt","code":"content_filter","status":400,"innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#;
        for status in [400, 404, 405, 409, 410, 413, 415, 422, 431] {
            let fleet = Fleet::new(2);
            let fault = Fault::status(status).body(filtered).header("x-odd", "kept").header("retry-after-ms", "");
            fleet.always(0, fault);
            let answer = send(&fleet.gateway(), chat()).await;
            assert_eq!(answer.status(), status);
            assert_eq!(header(&answer, "x-odd"), Some("kept"));
            assert_eq!(header(&answer, "x-should-retry"), None);
            assert!(header(&answer, "apim-request-id").is_some());
            assert_eq!(bytes(answer).await, filtered, "{status}");
            assert_eq!(fleet.counts(), [1, 0], "{status}");
        }
    }
}

mod bodies {
    use super::*;

    /// Every way in which `whole` may arrive, with and without a known length.
    fn ways(whole: &Bytes) -> Vec<(&'static str, Body)> {
        let pieces: Vec<_> = whole.chunks(70_001).map(Bytes::copy_from_slice).collect();
        vec![
            ("in hand", Body::from(whole.clone())),
            ("with a length", Body::new(Full::new(whole.clone()))),
            ("in chunks", chunked(pieces)),
        ]
    }

    #[tokio::test(start_paused = true)]
    async fn arrive_the_same_at_every_target() {
        for len in [0, 1, 2 * 1024 * 1024] {
            let whole: Bytes = (0..len).map(|i: usize| (i * 7 + i / 251) as u8).collect();
            for (name, fails) in conditions() {
                for (way, body) in ways(&whole) {
                    let fleet = Fleet::new(3);
                    fails(&fleet, 0);
                    fails(&fleet, 1);
                    fleet.reply(2, |_| Ok(answer(200)));
                    assert_eq!(send(&fleet.gateway(), post(CHAT, body)).await.status(), 200, "{name}, {len} B {way}");
                    let bodies: Vec<_> = fleet.received().into_iter().map(|request| request.body).collect();
                    assert!(bodies == [whole.clone(), whole.clone(), whole.clone()], "{name}, {len} B {way}");
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn that_are_streamed_are_sent_once() {
        let fleet = Fleet::new(2);
        fleet.always(0, Fault::status(500));
        let stack = ServiceBuilder::new().layer(RespondLayer::new()).service(fleet.core(FailoverLayer::new()));
        let answer = send(&Stack::new(stack), post(CHAT, chunked(["{", "}"]))).await;
        assert_eq!(answer.status(), 500);
        assert_eq!(fleet.counts(), [1, 0]);
        assert_eq!(fleet.received()[0].body, "{}");
    }

    #[tokio::test(start_paused = true)]
    async fn that_are_larger_than_the_replay_limit_are_sent_once() {
        let fleet = Fleet::new(2);
        fleet.always(0, Fault::status(500));
        let layers = ServiceBuilder::new().layer(RespondLayer::new()).layer(InspectLayer::new().replay_limit(10));
        let stack = Stack::new(layers.service(fleet.core(FailoverLayer::new())));
        assert_eq!(send(&stack, post(CHAT, chunked(["0123456789", "x"]))).await.status(), 500);
        assert_eq!(send(&stack, post(CHAT, chunked(["01234", "56789"]))).await.status(), 400, "b1 sees no JSON");
        assert_eq!(fleet.counts(), [2, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn whose_upload_fails_are_answered_and_teach_no_circuit() {
        for (kind, status) in
            [(ErrorKind::RequestTimeout, 408), (ErrorKind::RequestTooLarge, 413), (ErrorKind::UploadFailed, 400)]
        {
            let fleet = Fleet::new(2);
            let stack = ServiceBuilder::new().layer(RespondLayer::new()).service(fleet.core(FailoverLayer::new()));
            let stack = Stack::new(stack);
            for _ in 0..30 {
                let body = broken(["{"], Error::new(kind, "the upload failed"));
                let answer = send(&stack, post(CHAT, body)).await;
                assert_eq!(answer.status(), status, "{kind:?}");
                assert_eq!(support::json(answer).await["error"]["message"], "the upload failed");
            }
            assert_eq!(fleet.circuits(), ["closed"; 2], "{kind:?}");
            let status = fleet.pool.status();
            assert!(status.backends.iter().all(|backend| backend.deployments[0].failures == 0), "{kind:?}");
            assert_eq!(status.backends[1].deployments[0].requests, 0, "a failed upload is not repeated");
            assert_eq!(fleet.in_flight(), 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn that_stall_while_they_are_streamed_teach_no_circuit() {
        let fleet = Fleet::new(1);
        let inspect = InspectLayer::new().replay_limit(1).request_timeout(Duration::from_secs(5));
        let layers = ServiceBuilder::new().layer(RespondLayer::new()).layer(inspect);
        let stack = Stack::new(layers.service(fleet.core(FailoverLayer::new())));
        for _ in 0..10 {
            let start = Instant::now();
            assert_eq!(error(send(&stack, post(CHAT, stalled(["{}"]))).await).await, (408, "request_timeout".into()));
            assert_eq!(start.elapsed().as_secs(), 5);
        }
        assert_eq!(fleet.pool.status().backends[0].deployments[0].failures, 0);
        assert_eq!((fleet.circuits(), fleet.in_flight()), (vec!["closed"], 0));
    }
}

mod fleets {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_twelfth_serves_when_eleven_refuse() {
        for attempts in [1, 2, 3] {
            let fleet = Fleet::new(12);
            for i in 0..11 {
                fleet.always(i, if i % 2 == 0 { Fault::throttled() } else { Fault::refused() });
            }
            let start = Instant::now();
            let answer = send(&fleet.stack(FailoverLayer::new().attempts(attempts)), chat()).await;
            assert_eq!(answer.status(), StatusCode::OK, "attempts = {attempts}");
            assert_eq!(start.elapsed(), Duration::ZERO);
            assert_eq!(fleet.counts()[11], 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_tried_at_most_so_many_times() {
        for attempts in [1, 2, 3, 5] {
            let fleet = Fleet::new(12);
            (0..12).for_each(|i| fleet.always(i, Fault::status(500)));
            let answer = send(&fleet.stack(FailoverLayer::new().attempts(attempts)), chat()).await;
            assert_eq!(answer.status(), 500);
            assert_eq!(fleet.received().len(), attempts as usize);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_between_failures_cost_nothing() {
        let fleet = Fleet::new(8);
        for (i, status) in [429, 500, 429, 401, 500, 404, 429].into_iter().enumerate() {
            fleet.always(i, Fault::status(status));
        }
        assert_eq!(send(&fleet.gateway(), chat()).await.status(), StatusCode::OK);
        assert_eq!(fleet.counts(), [1; 8]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_budget_bounds_what_a_storm_adds() {
        const REQUESTS: usize = 1_000;
        // Circuits that open would end the storm by themselves.
        let fleet = Fleet::undaunted(4);
        (0..4).for_each(|i| fleet.always(i, Fault::status(500)));
        let stack = ServiceBuilder::new()
            .layer(FailoverLayer::new())
            .layer(SelectBackendLayer::new(fleet.pool.clone()))
            .layer(ForwardLayer::new())
            .service(fleet.network());
        for _ in 0..REQUESTS {
            assert_eq!(stack.clone().oneshot(chat()).await.unwrap().status(), 500);
            advance(Duration::from_millis(10)).await;
        }
        let extra = fleet.received().len() - REQUESTS;
        assert!(extra <= 100 + REQUESTS / 5, "{extra} extra attempts");
        assert!(extra >= 200, "the budget is there to be used: {extra}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_client_cannot_spend_the_budget_of_all() {
        // A circuit that opens would spare the first backend.
        let fleet = Fleet::undaunted(2);
        fleet.always(0, Fault::status(500));
        let stack = ServiceBuilder::new()
            .layer(FailoverLayer::new().budget(RetryBudget::new(0.0)))
            .layer(SelectBackendLayer::new(fleet.pool.clone()))
            .layer(ForwardLayer::new())
            .service(fleet.network());
        let served = async |client: &str, requests: usize| {
            let mut served = 0;
            for _ in 0..requests {
                let mut request = chat();
                request.extensions_mut().insert(Client::new(client));
                served += usize::from(stack.clone().oneshot(request).await.unwrap().status() == 200);
            }
            served
        };
        assert_eq!(served("greedy", 500).await, 50);
        assert_eq!(served("modest", 20).await, 20);
        assert_eq!(served("greedy", 20).await, 0);
        advance(Duration::from_secs(11)).await;
        assert_eq!(served("greedy", 20).await, 20);
    }

    #[tokio::test(start_paused = true)]
    async fn a_spent_budget_ends_with_the_answer_in_hand() {
        let fleet = Fleet::new(3);
        (0..3).for_each(|i| fleet.always(i, Fault::status(500)));
        let stack = fleet.stack(FailoverLayer::new().budget(RetryBudget::new(0.0)));
        let mut attempts = 0;
        for _ in 0..200 {
            assert_eq!(send(&stack, chat()).await.status(), 500);
            attempts = fleet.received().len();
        }
        assert!(attempts <= 300, "{attempts}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_budget_is_spent_on_what_is_sent_only() {
        let layer = FailoverLayer::new();
        let alone = Fleet::new(1);
        alone.always(0, Fault::status(500));
        for _ in 0..2_000 {
            send(&alone.stack(layer.clone()), chat()).await;
        }
        let fleet = Fleet::new(2);
        fleet.always(0, Fault::status(500));
        assert_eq!(send(&fleet.stack(layer), chat()).await.status(), StatusCode::OK, "the budget is untouched");
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_are_not_bounded_by_the_budget() {
        let fleet = Fleet::new(3);
        fleet.always(0, Fault::status(403));
        fleet.always(1, Fault::status(404));
        let stack = fleet.stack(FailoverLayer::new().budget(RetryBudget::new(0.0)));
        for _ in 0..300 {
            assert_eq!(send(&stack, chat()).await.status(), StatusCode::OK);
        }
    }
}

mod creating_calls {
    use super::*;

    const CALLS: [&str; 3] =
        [THREADS, "/openai/files?api-version=2024-10-21", "/openai/batches?api-version=2024-10-21"];

    #[tokio::test(start_paused = true)]
    async fn are_not_repeated_when_nobody_knows_what_became_of_them() {
        let resets: [(&str, Break); 1] = [("reset", |fleet, i| fleet.always(i, Fault::reset()))];
        for uri in CALLS {
            for (name, fails) in UNKNOWN.into_iter().chain(resets) {
                let fleet = Fleet::new(2);
                fails(&fleet, 0);
                let answer = send(&fleet.gateway(), post(uri, "{}")).await;
                assert!(!answer.status().is_success(), "{uri} {name}");
                assert_eq!(header(&answer, "x-should-retry"), Some("false"), "{uri} {name}");
                assert_eq!(fleet.counts(), [1, 0], "{uri} {name}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn move_on_after_a_refusal() {
        for uri in CALLS {
            for (name, fails) in REFUSALS {
                let fleet = Fleet::new(2);
                fails(&fleet, 0);
                let answer = send(&fleet.gateway(), post(uri, "{}")).await;
                assert_eq!(answer.status(), StatusCode::OK, "{uri} {name}");
                assert_eq!(header(&answer, "x-should-retry"), None, "{uri} {name}");
                assert_eq!(fleet.counts(), [1, 1], "{uri} {name}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn may_be_repeated_by_the_client_when_all_refuse() {
        let fleet = Fleet::new(2);
        (0..2).for_each(|i| fleet.always(i, Fault::throttled()));
        let answer = send(&fleet.gateway(), post(THREADS, "{}")).await;
        assert_eq!((answer.status().as_u16(), header(&answer, "x-should-retry")), (429, None));
    }

    #[tokio::test(start_paused = true)]
    async fn that_fail_after_a_refusal_say_so() {
        let fleet = Fleet::new(3);
        fleet.always(0, Fault::throttled_for(Duration::from_secs(20)));
        fleet.fail(1, Outcome::TimedOut(Phase::FirstByte));
        let answer = send(&fleet.gateway(), post(THREADS, "{}")).await;
        assert_eq!(header(&answer, "x-should-retry"), Some("false"));
        assert_eq!(error(answer).await, (504, "backend_timeout".into()), "it may have been done, so it is no 429");
        assert_eq!(fleet.counts(), [1, 1, 0]);
    }
}

mod endings {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn everything_throttled_is_429_and_tells_the_soonest_opening() {
        let fleet = Fleet::new(3);
        for (i, ms) in [40_000, 1_500, 20_000].into_iter().enumerate() {
            fleet.always(i, Fault::throttled_for(Duration::from_millis(ms)));
        }
        let stack = fleet.gateway();
        let first = send(&stack, chat()).await;
        assert_eq!((first.status().as_u16(), waits(&first)), (429, (Some("1500"), Some("2"))));
        assert_eq!(error(first).await.1, "429", "the answer of a backend");

        advance(Duration::from_millis(700)).await;
        let second = send(&stack, chat()).await;
        assert_eq!(waits(&second), (Some("800"), Some("1")));
        assert_eq!(error(second).await, (429, "no_target_available".into()));
        assert_eq!(fleet.counts(), [1, 1, 1], "nobody is asked before its time");

        for backend in &fleet.backends {
            backend.faults().clear();
        }
        advance(Duration::from_millis(800)).await;
        assert_eq!(send(&stack, chat()).await.status(), StatusCode::OK);
        assert_eq!(fleet.counts(), [1, 2, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_of_a_day_is_told_as_59_seconds() {
        let fleet = Fleet::new(1);
        fleet.always(0, Fault::throttled_for(Duration::from_secs(86_400)));
        let stack = fleet.gateway();
        for _ in 0..2 {
            let answer = send(&stack, chat()).await;
            assert_eq!((answer.status().as_u16(), waits(&answer)), (429, (Some("59000"), Some("59"))));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn everything_down_is_503() {
        let fleet = Fleet::new(2);
        (0..2).for_each(|i| fleet.always(i, Fault::refused()));
        let stack = fleet.gateway();
        for _ in 0..5 {
            let answer = send(&stack, chat()).await;
            assert!(waits(&answer).0.is_some() && waits(&answer).1.is_some());
            assert_eq!(error(answer).await, (503, "no_target_available".into()));
        }
        assert_eq!(fleet.circuits(), ["open", "open"]);
        let answer = send(&stack, chat()).await;
        let told: u64 = waits(&answer).0.unwrap().parse().unwrap();
        assert!((1_000..2_000).contains(&told), "one of them is probed soon: {told}");
        assert_eq!(waits(&answer).1, Some("2"));
        assert_eq!(error(answer).await, (503, "no_target_available".into()));
    }

    #[tokio::test(start_paused = true)]
    async fn some_throttled_and_some_down_is_429() {
        for throttled in [0, 1] {
            let fleet = Fleet::new(2);
            fleet.always(throttled, Fault::throttled_for(Duration::from_secs(30)));
            fleet.always(1 - throttled, Fault::refused());
            let stack = fleet.gateway();
            assert_eq!(error(send(&stack, chat()).await).await, (429, "429".into()));
            for _ in 0..6 {
                let answer = send(&stack, chat()).await;
                assert_eq!(error(answer).await, (429, "no_target_available".into()));
            }
            assert_eq!(fleet.circuits(), ["open", "open"]);
            assert_eq!(
                waits(&send(&stack, chat()).await),
                (Some("10000"), Some("10")),
                "the one that is down is sooner"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn timeouts_are_504_and_resets_502() {
        let fleet = Fleet::new(2);
        (0..2).for_each(|i| fleet.fail(i, Outcome::TimedOut(Phase::FirstByte)));
        assert_eq!(error(send(&fleet.gateway(), chat()).await).await, (504, "backend_timeout".into()));

        let fleet = Fleet::new(2);
        (0..2).for_each(|i| fleet.always(i, Fault::reset()));
        let answer = send(&fleet.gateway(), chat()).await;
        assert_eq!(header(&answer, "x-should-retry"), None);
        assert_eq!(error(answer).await, (502, "backend_failed".into()));
        assert_eq!(fleet.counts(), [1, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_gateway_itself_has_run_out_of_is_503_and_nobodys_failure() {
        type Fail = fn() -> BoxError;
        let fails: [(&str, Fail); 3] = [
            ("EMFILE", || io::Error::from_raw_os_error(24).into()),
            ("EADDRNOTAVAIL", || io::Error::other(io::Error::from(io::ErrorKind::AddrNotAvailable)).into()),
            ("ENOMEM", || AttemptFailed::new(Outcome::Abandoned, io::Error::from_raw_os_error(12)).into()),
        ];
        for (name, fail) in fails {
            let fleet = Fleet::new(2);
            fleet.reply(0, move |_| Err(fail()));
            for _ in 0..30 {
                let answer = send(&fleet.gateway(), chat()).await;
                assert_eq!(waits(&answer), (Some("1000"), Some("1")), "{name}");
                assert_eq!(error(answer).await, (503, "overloaded".into()), "{name}");
            }
            assert_eq!(fleet.counts(), [30, 0], "{name}: elsewhere it would want another one");
            assert_eq!(fleet.circuits(), ["closed"; 2], "{name}");
            let failures = fleet.pool.status().backends[0].deployments[0].failures;
            assert_eq!((failures, fleet.in_flight()), (0, 0), "{name}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_429_to_what_no_quota_has_room_for_opens_nothing() {
        let sends = |body: String| post(CHAT, body);
        let too_long = format!(r#"{{"messages":[{{"role":"user","content":"{}"}}]}}"#, "word ".repeat(1_000));
        let too_much = r#"{"messages":[],"max_tokens":600,"n":2}"#.to_owned();
        let declared = || Deployment::new("gpt-4o").tokens_per_minute(1_000);
        for body in [too_long, too_much] {
            for is_declared in [false, true] {
                let (deployment, limit) =
                    if is_declared { (declared(), None) } else { (Deployment::new("gpt-4o"), Some("1000")) };
                let fleet = Fleet::of(2, &deployment);
                (0..2).for_each(|i| fleet.reply(i, move |_| Ok(throttled(limit))));
                for _ in 0..3 {
                    let answer = send(&fleet.gateway(), sends(body.clone())).await;
                    assert_eq!(answer.status(), 429);
                    assert_eq!(waits(&answer), (Some("30000"), Some("30")));
                }
                assert_eq!((fleet.counts(), fleet.circuits()), (vec![3, 3], vec!["closed"; 2]));
                assert_eq!(send(&fleet.gateway(), sends(HELLO.to_owned())).await.status(), 429);
                assert_eq!(fleet.circuits(), ["open"; 2], "this one has room when the quota has");
            }
        }
        let fleet = Fleet::new(1);
        fleet.reply(0, |_| Ok(throttled(None)));
        send(&fleet.gateway(), sends(r#"{"messages":[],"max_tokens":99999999}"#.to_owned())).await;
        assert_eq!(fleet.circuits(), ["open"], "where no quota is known");
    }

    fn throttled(limit: Option<&str>) -> Response<Body> {
        let mut answer = answer(429);
        answer.headers_mut().insert("retry-after", "30".parse().unwrap());
        if let Some(limit) = limit {
            answer.headers_mut().insert("x-ratelimit-limit-tokens", limit.parse().unwrap());
        }
        answer
    }

    #[tokio::test(start_paused = true)]
    async fn the_latest_of_timeout_and_reset_decides() {
        for (first, last, status) in [
            (Outcome::Reset, Outcome::TimedOut(Phase::FirstByte), 504),
            (Outcome::TimedOut(Phase::FirstByte), Outcome::Reset, 502),
            (Outcome::Unreachable, Outcome::TimedOut(Phase::FirstByte), 504),
        ] {
            let fleet = Fleet::new(2);
            fleet.fail(0, first);
            fleet.fail(1, last);
            assert_eq!(send(&fleet.gateway(), chat()).await.status(), status, "{first:?}, {last:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_credential_that_nobody_accepts_is_502() {
        for statuses in [[401, 401], [403, 403], [401, 403]] {
            let fleet = Fleet::new(2);
            (0..2).for_each(|i| fleet.always(i, Fault::status(statuses[i])));
            let answer = send(&fleet.gateway(), chat()).await;
            assert_eq!(header(&answer, "www-authenticate"), None);
            assert_eq!(error(answer).await, (502, "backend_credential_rejected".into()), "{statuses:?}");
            assert_eq!(fleet.circuits(), ["closed", "closed"]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_best_real_answer_is_returned() {
        for (statuses, best) in [
            ([429, 500, 502], 429),
            ([500, 429, 502], 429),
            ([500, 502, 429], 429),
            ([500, 502, 503], 503),
            ([503, 502, 500], 500),
            ([500, 401, 401], 500),
            ([404, 401, 403], 404),
            ([401, 500, 400], 400),
            ([429, 500, 400], 400),
        ] {
            let fleet = Fleet::new(3);
            for (i, status) in statuses.into_iter().enumerate() {
                fleet.always(i, Fault::status(status).header("x-of", i));
            }
            let answer = send(&fleet.gateway(), chat()).await;
            assert_eq!(answer.status(), best, "{statuses:?}");
            let of = statuses.into_iter().rposition(|status| status == best).unwrap().to_string();
            assert_eq!(header(&answer, "x-of"), Some(&*of), "{statuses:?}");
            assert_eq!(waits(&answer).0.is_some(), matches!(best, 429 | 503), "{statuses:?}");
            assert_eq!(waits(&answer).1.is_some(), matches!(best, 429 | 503), "{statuses:?}");
            assert!(!bytes(answer).await.is_empty(), "{statuses:?}: the whole answer");
            assert_eq!(fleet.in_flight(), 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_real_answer_goes_before_none() {
        let fleet = Fleet::new(3);
        fleet.fail(0, Outcome::Reset);
        fleet.always(1, Fault::status(502));
        fleet.fail(2, Outcome::TimedOut(Phase::FirstByte));
        assert_eq!(error(send(&fleet.gateway(), chat()).await).await, (502, "502".into()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_alias_that_nobody_serves_is_404() {
        let fleet = Fleet::new(2);
        let unknown = post("/openai/deployments/o3/chat/completions", HELLO);
        assert_eq!(error(send(&fleet.gateway(), unknown).await).await, (404, "DeploymentNotFound".into()));
        assert_eq!(fleet.counts(), [0, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_fleet_that_is_drained_is_503_with_both_wait_headers() {
        let fleet = Fleet::new(1);
        fleet.pool.drain("b0").unwrap();
        let answer = send(&fleet.gateway(), chat()).await;
        assert_eq!(waits(&answer), (Some("59000"), Some("59")));
        assert_eq!(error(answer).await, (503, "no_target_available".into()));
    }
}

mod same_target {
    use super::*;

    fn refused(fresh: bool) -> Result<Response<Body>, BoxError> {
        let mut answer = answer(401);
        if fresh {
            Attempt::of_mut(answer.extensions_mut()).has_fresh_credential = true;
        }
        Ok(answer)
    }

    #[tokio::test(start_paused = true)]
    async fn is_asked_once_more_with_a_fresh_credential() {
        let fleet = Fleet::new(2);
        fleet.reply(0, |before| if before == 0 { refused(true) } else { Ok(answer(200)) });
        let stack = fleet.stack(FailoverLayer::new().attempts(1));
        assert_eq!(send(&stack, chat()).await.status(), StatusCode::OK);
        assert_eq!(fleet.counts(), [2, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn is_asked_no_more_than_once_again() {
        let fleet = Fleet::new(3);
        fleet.reply(0, |_| refused(true));
        fleet.reply(1, |_| refused(true));
        assert_eq!(send(&fleet.gateway(), chat()).await.status(), StatusCode::OK);
        assert_eq!(fleet.counts(), [2, 2, 1], "then the next target, with a repeat of its own");
    }

    #[tokio::test(start_paused = true)]
    async fn is_not_asked_again_without_one() {
        let fleet = Fleet::new(2);
        fleet.reply(0, |_| refused(false));
        assert_eq!(send(&fleet.gateway(), chat()).await.status(), StatusCode::OK);
        assert_eq!(fleet.counts(), [1, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn is_asked_again_outside_attempts_and_for_creating_calls() {
        let fleet = Fleet::new(1);
        fleet.reply(0, |before| if before == 0 { refused(true) } else { Ok(answer(500)) });
        let answer = send(&fleet.stack(FailoverLayer::new().attempts(1)), post(THREADS, "{}")).await;
        assert_eq!((answer.status().as_u16(), header(&answer, "x-should-retry")), (500, Some("false")));
        assert_eq!(fleet.counts(), [2]);
    }

    #[tokio::test(start_paused = true)]
    async fn is_not_asked_again_for_a_streamed_body() {
        let fleet = Fleet::new(1);
        fleet.reply(0, |_| refused(true));
        let layers = ServiceBuilder::new().layer(RespondLayer::new());
        let stack = Stack::new(layers.service(fleet.core(FailoverLayer::new())));
        let answer = send(&stack, post(CHAT, chunked(["{}"]))).await;
        assert_eq!(error(answer).await, (502, "backend_credential_rejected".into()));
        assert_eq!(fleet.counts(), [1]);
    }
}

mod cancellation {
    use super::*;

    fn settled(fleet: &Fleet) {
        assert_eq!(fleet.in_flight(), 0, "every place is given back");
        assert!(fleet.circuits().iter().all(|circuit| *circuit == "closed"));
    }

    #[tokio::test(start_paused = true)]
    async fn while_an_attempt_hangs_ends_it() {
        let fleet = Fleet::new(3);
        fleet.always(0, Fault::status(500));
        fleet.always(1, Fault::hang());
        for _ in 0..3 {
            let mut sending = Box::pin(fleet.gateway().oneshot(chat()));
            assert!(sending.as_mut().now_or_never().is_none());
            assert_eq!(fleet.in_flight(), 2, "in the pool and at the backend");
            drop(sending);
            settled(&fleet);
        }
        assert_eq!(fleet.counts(), [3, 3, 0], "nothing is sent afterwards");
        assert_eq!(fleet.pool.status().backends[1].deployments[0].failures, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn between_attempts_sends_nothing_more() {
        let fleet = Fleet::new(2);
        let slow = || Ok(Response::builder().status(500).body(stalled(["{"]))?);
        fleet.reply(0, move |_| slow());
        let mut sending = Box::pin(fleet.gateway().oneshot(chat()));
        assert!(sending.as_mut().now_or_never().is_none(), "the answer is being kept");
        drop(sending);
        settled(&fleet);
        advance(Duration::from_secs(1)).await;
        assert_eq!(fleet.counts(), [1, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn while_the_body_of_a_404_is_read_teaches_nothing() {
        let fleet = Fleet::new(2);
        fleet.reply(0, |_| Ok(Response::builder().status(404).body(stalled(["{"]))?));
        let mut sending = Box::pin(fleet.gateway().oneshot(chat()));
        assert!(sending.as_mut().now_or_never().is_none());
        drop(sending);
        settled(&fleet);
        assert_eq!(fleet.counts(), [1, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn while_waiting_for_readiness_sends_nothing() {
        let (mock, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
        handle.allow(0);
        let mut sending = Box::pin(FailoverLayer::new().layer(mock).oneshot(chat()));
        assert!(sending.as_mut().now_or_never().is_none());
        drop(sending);
        handle.allow(1);
        assert!(handle.next_request().now_or_never().flatten().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn of_the_body_gives_the_place_back() {
        let fleet = Fleet::new(1);
        fleet.always(0, Fault::slow_body(Duration::from_secs(1)));
        let answer = send(&fleet.gateway(), chat()).await;
        assert_eq!(fleet.in_flight(), 2);
        drop(answer);
        settled(&fleet);
    }

    #[tokio::test(start_paused = true)]
    async fn at_any_moment_leaves_nothing_behind() {
        for after in 0..60 {
            let fleet = Fleet::new(4);
            fleet.reply(0, |_| Ok(Response::builder().status(503).body(stalled(["{"]))?));
            fleet.always(1, Fault::slow_head(Duration::from_millis(20)));
            fleet.backends[1].faults().push(Fault::throttled());
            fleet.reply(2, |_| Ok(Response::builder().status(404).body(stalled(["{"]))?));
            let sending = tokio::time::timeout(Duration::from_millis(after * 10), fleet.gateway().oneshot(chat()));
            drop(sending.await);
            assert_eq!(fleet.in_flight(), 0, "after {after}0 ms");
            assert!(fleet.counts().iter().all(|count| *count <= 1));
        }
    }
}

mod around_one_service {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn without_selection_it_ends() {
        for status in [401, 403, 429, 500, 503] {
            let calls = Arc::new(Mutex::new(0));
            let counter = calls.clone();
            let inner = service_fn(move |_: Request<Body>| {
                *counter.lock().unwrap() += 1;
                async move { Ok::<_, BoxError>(answer(status)) }
            });
            let stack = ServiceBuilder::new().layer(RespondLayer::new()).layer(FailoverLayer::new()).service(inner);
            let answer = stack.oneshot(chat()).await.unwrap();
            assert_eq!(answer.status(), if status < 404 { 502 } else { status });
            assert_eq!(*calls.lock().unwrap(), 3, "{status}: a refusal counts where nothing goes elsewhere");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn errors_that_are_not_about_a_target_pass() {
        let inner = service_fn(async |_: Request<Body>| {
            Err::<Response<Body>, BoxError>(Error::new(ErrorKind::InvalidBody, "not so").into())
        });
        let failed = FailoverLayer::new().layer(inner).oneshot(chat()).await.unwrap_err();
        assert_eq!(Error::find(failed.as_ref()).unwrap().kind(), ErrorKind::InvalidBody);
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_does_not_become_ready_again_is_given_up() {
        for (first, status) in [(Ok(answer(500)), 500), (Err(AttemptFailed::new(Outcome::Unreachable, "x")), 503)] {
            let (mock, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
            handle.allow(1);
            let stack = ServiceBuilder::new().layer(RespondLayer::new()).layer(FailoverLayer::new()).service(mock);
            let start = Instant::now();
            let sending = tokio::spawn(stack.oneshot(chat()));
            let (_, respond) = handle.next_request().await.unwrap();
            match first {
                Ok(answer) => respond.send_response(answer),
                Err(failed) => respond.send_error(failed),
            }
            assert_eq!(sending.await.unwrap().unwrap().status(), status);
            assert_eq!(start.elapsed().as_secs(), 10);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn every_attempt_waits_for_a_readiness_of_its_own() {
        let (mock, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
        handle.allow(1);
        let service = FailoverLayer::new().layer(mock);
        let mut sending = tokio_test::task::spawn(service.oneshot(chat()));
        assert!(sending.poll().is_pending());
        let (_, first) = handle.next_request().await.unwrap();
        first.send_response(answer(500));
        assert!(sending.poll().is_pending());
        assert!(handle.next_request().now_or_never().is_none(), "not ready, so not called");
        handle.allow(1);
        assert!(sending.is_woken());
        assert!(sending.poll().is_pending());
        let (_, second) = handle.next_request().await.unwrap();
        second.send_response(answer(200));
        assert_eq!(sending.await.unwrap().status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn only_what_was_ready_is_called() {
        support::assert_keeps_the_readiness_contract(&FailoverLayer::new(), chat).await;
    }
}

mod extensions {
    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Mine(&'static str);

    #[tokio::test(start_paused = true)]
    async fn of_the_request_reach_every_attempt() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let fleet = Fleet::new(3);
        let (log, pool) = (seen.clone(), fleet.pool.clone());
        let inner = service_fn(move |request: Request<Body>| {
            let mine = request.extensions().get::<Mine>().cloned();
            let sent = request.extensions().get::<Tried>().map(Tried::sent);
            log.lock().unwrap().push((mine, sent, request.headers().contains_key("x-mine")));
            async { Ok::<_, AttemptFailed>(answer(500)) }
        });
        let service = ServiceBuilder::new()
            .layer(FailoverLayer::new())
            .layer(SelectBackendLayer::new(pool))
            .layer(ForwardLayer::new().headers(["x-mine"]).unwrap())
            .service(inner);
        let mut request = chat();
        request.headers_mut().insert("x-mine", "1".parse().unwrap());
        request.extensions_mut().insert(Mine("theirs"));
        let answer = service.oneshot(request).await.unwrap();
        assert_eq!(answer.status(), 500);
        let mine = || Some(Mine("theirs"));
        assert_eq!(*seen.lock().unwrap(), [(mine(), Some(1), true), (mine(), Some(2), true), (mine(), Some(3), true)]);
        let last = Attempt::of(&answer);
        assert_eq!(last.number, 3, "the answer tells it");
        assert_eq!(last.target.unwrap().backend(), "b2");
    }

    #[tokio::test(start_paused = true)]
    async fn of_the_answer_name_target_and_outcome() {
        let fleet = Fleet::new(2);
        fleet.always(0, Fault::throttled());
        let service: Service = fleet.core(FailoverLayer::new());
        let answer = service.oneshot(chat()).await.unwrap();
        let target = answer.extensions().get::<tower_azure_openai::pool::Target>().unwrap();
        assert_eq!(target.backend(), "b1");
        assert_eq!(Attempt::of(&answer).outcome, Some(Outcome::Success));
        assert!(answer.into_body().collect().await.is_ok());
    }
}
