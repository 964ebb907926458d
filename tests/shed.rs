//! Who is refused while the process runs out of room.
#![allow(clippy::unwrap_used, reason = "the helpers are part of the tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use proptest::collection::vec;
use proptest::prelude::*;
use tokio_test::{assert_pending, assert_ready_ok, task};
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
use tower_azure_openai::body::Body;
use tower_azure_openai::context::{Client, PRIORITY_HEADER, SocketFrame};
use tower_azure_openai::pool::Priority;
use tower_azure_openai::shed::ShedLayer;
use tower_azure_openai::{Error, ErrorKind};
use tower_test::mock;

/// Goes on until it is dropped.
fn endless() -> Body {
    Body::new(StreamBody::new(futures_util::stream::pending::<Result<Frame<Bytes>, BoxError>>()))
}

fn from(client: Client) -> Request<Body> {
    Request::get("/openai/models").extension(client).body(Body::empty()).unwrap()
}

/// A request of somebody who has no other.
fn of(priority: Priority) -> Request<Body> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    from(Client::new(format!("client-{}", NUMBER.fetch_add(1, Relaxed))).priority(priority))
}

/// What a request comes to; its answer goes on.
async fn ask(shed: &ShedLayer, request: Request<Body>) -> Result<Response<Body>, BoxError> {
    let backend = service_fn(async |request: Request<Body>| {
        assert!(!request.headers().contains_key(PRIORITY_HEADER), "the header goes no further");
        Ok::<_, BoxError>(Response::new(endless()))
    });
    let answer = ServiceBuilder::new().layer(shed.clone()).service(backend).oneshot(request).await?;
    Ok(answer.map(Body::new))
}

fn kind(refused: Result<Response<Body>, BoxError>) -> ErrorKind {
    let error = refused.unwrap_err();
    let error = error.downcast_ref::<Error>().unwrap();
    if error.kind() == ErrorKind::Overloaded {
        assert_eq!(error.retry_after(), Some(Duration::from_secs(1)));
    }
    error.kind()
}

#[tokio::test]
async fn the_last_places_are_for_the_higher_priorities() {
    let shed = ShedLayer::new().in_flight(20);
    let mut running = Vec::new();
    for (priority, places) in [(Priority::Low, 16), (Priority::Normal, 2), (Priority::High, 2)] {
        for _ in 0..places {
            running.push(ask(&shed, of(priority)).await.unwrap());
        }
        assert_eq!(kind(ask(&shed, of(priority)).await), ErrorKind::Overloaded, "{priority}");
    }
    assert_eq!(Priority::ALL.map(|priority| shed.shed(priority)), [1, 1, 1]);
    running.truncate(15);
    ask(&shed, of(Priority::Low)).await.unwrap();
}

#[tokio::test]
async fn one_client_leaves_half_to_the_others() {
    let mut running = Vec::new();
    let shed = ShedLayer::new().in_flight(9);
    let (greedy, other) = (Client::new("greedy").priority(Priority::High), Client::new("other"));
    for _ in 0..5 {
        running.push(ask(&shed, from(greedy.clone())).await.unwrap());
    }
    let refused = ask(&shed, from(greedy.clone())).await.unwrap_err();
    let refused = refused.downcast_ref::<Error>().unwrap();
    assert_eq!((refused.kind(), refused.retry_after()), (ErrorKind::Overloaded, Some(Duration::from_secs(1))));
    assert!(refused.message().starts_with("This client has"), "{refused}");
    assert_eq!(shed.shed(Priority::High), 1);
    // What is another's, and what is nobody's, is not counted with it.
    running.push(ask(&shed, from(other)).await.unwrap());
    running.push(ask(&shed, Request::new(Body::empty())).await.unwrap());
    running.remove(0);
    running.push(ask(&shed, from(greedy.clone())).await.unwrap());
    assert_eq!(kind(ask(&shed, from(greedy)).await), ErrorKind::Overloaded);
    assert_eq!(shed.requests_in_flight(), 7);
}

#[tokio::test]
async fn what_one_client_may_have_can_be_said() {
    let client = || from(Client::new("only").priority(Priority::High));
    for (layer, most) in [
        (ShedLayer::new().in_flight(1), 1),
        (ShedLayer::new().in_flight(2), 1),
        (ShedLayer::new().in_flight(8).of_one_client(8), 8),
        (ShedLayer::new().in_flight(8).of_one_client(usize::MAX), 8),
        (ShedLayer::new().in_flight(8).of_one_client(3), 3),
    ] {
        let mut running = Vec::new();
        while let Ok(answer) = ask(&layer, client()).await {
            running.push(answer);
        }
        assert_eq!(running.len(), most, "{layer:?}");
    }
    // Where as many are in progress as anybody likes, nobody is held to a part of them.
    let shed = ShedLayer::new().of_one_client(1);
    let _running = [ask(&shed, client()).await.unwrap(), ask(&shed, client()).await.unwrap()];
}

#[tokio::test]
async fn the_header_only_lowers() {
    let shed = ShedLayer::new().in_flight(10);
    let mut running = Vec::new();
    for _ in 0..8 {
        running.push(ask(&shed, of(Priority::Low)).await.unwrap());
    }
    let said = |client: Priority, said: &str| {
        let mut request = of(client);
        request.headers_mut().append(PRIORITY_HEADER, said.parse().unwrap());
        request
    };
    for (client, said_of, is_admitted) in [
        (Priority::Low, "high", false),
        (Priority::Normal, "low", false),
        (Priority::High, " low ", false),
        (Priority::Normal, "high", true),
        (Priority::High, "normal", true),
    ] {
        let answer = ask(&shed, said(client, said_of)).await;
        assert_eq!(answer.is_ok(), is_admitted, "{client} says {said_of}");
    }
    for wrong in ["urgent", "", "HIGH", "low, high", "\u{fc}"] {
        assert_eq!(kind(ask(&shed, said(Priority::High, wrong)).await), ErrorKind::InvalidConstraint, "{wrong:?}");
    }
    let mut twice = said(Priority::High, "low");
    twice.headers_mut().append(PRIORITY_HEADER, "low".parse().unwrap());
    assert_eq!(kind(ask(&shed, twice).await), ErrorKind::InvalidConstraint);
}

#[tokio::test]
async fn what_is_watched_sheds_low_ones_first_and_high_ones_never() {
    let used = [Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0))];
    let watch = |used: &Arc<AtomicU64>| {
        let used = used.clone();
        move || used.load(Relaxed) as f64 / 100.0
    };
    let shed = ShedLayer::new().watch(watch(&used[0])).watch(watch(&used[1]));
    for (each, percent, admitted) in [
        (0, 79, [true, true, true]),
        (0, 80, [false, true, true]),
        (1, 89, [false, true, true]),
        (1, 90, [false, false, true]),
        (0, 100, [false, false, true]),
    ] {
        used[each].store(percent, Relaxed);
        for (priority, is_admitted) in Priority::ALL.into_iter().zip(admitted) {
            assert_eq!(ask(&shed, of(priority)).await.is_ok(), is_admitted, "{priority} at {percent} %");
        }
    }
}

#[tokio::test]
async fn a_place_is_held_to_the_end_of_the_answer() {
    let (mut service, mut handle) = mock::spawn_layer(ShedLayer::new().in_flight(1));
    assert_ready_ok!(service.poll_ready());
    let mut dropped = task::spawn(service.call(of(Priority::High)));
    assert_pending!(dropped.poll());
    assert!(refuses(&mut service), "while the answer is waited for");
    drop(dropped);
    let _given_up = handle.next_request().await.unwrap();

    assert_ready_ok!(service.poll_ready());
    let mut answered = task::spawn(service.call(of(Priority::High)));
    assert_pending!(answered.poll());
    let (_, answer) = handle.next_request().await.unwrap();
    answer.send_response(Response::new(Body::from("whole")));
    let body = assert_ready_ok!(answered.poll()).into_body();
    assert!(refuses(&mut service), "while its body is read");
    body.collect().await.unwrap();

    assert_ready_ok!(service.poll_ready());
    let mut failed = task::spawn(service.call(of(Priority::High)));
    let (_, answer) = handle.next_request().await.unwrap();
    answer.send_error("broken");
    assert!(matches!(failed.poll(), std::task::Poll::Ready(Err(_))));

    assert_ready_ok!(service.poll_ready());
    let mut switched = task::spawn(service.call(of(Priority::High)));
    let (_, answer) = handle.next_request().await.unwrap();
    let mut switching = Response::new(Body::empty());
    *switching.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    answer.send_response(switching);
    let body = assert_ready_ok!(switched.poll()).into_body();
    assert!(refuses(&mut service), "while the connection lasts");
    let mut settings = of(Priority::Low);
    settings.extensions_mut().insert(SocketFrame::Settings);
    assert_ready_ok!(service.poll_ready());
    let mut session = task::spawn(service.call(settings));
    assert_pending!(session.poll());
    drop((session, body));
    let _settings = handle.next_request().await.unwrap();
    assert!(!refuses(&mut service), "nothing is in progress any more");
}

type Mocked = mock::Spawn<tower_azure_openai::shed::Shed<mock::Mock<Request<Body>, Response<Body>>>>;

fn refuses(service: &mut Mocked) -> bool {
    assert_ready_ok!(service.poll_ready());
    matches!(task::spawn(service.call(of(Priority::High))).poll(), std::task::Poll::Ready(Err(_)))
}

proptest! {
    #[test]
    fn no_interleaving_leaks_a_place_or_lets_one_class_into_that_of_another(
        limit in 1_usize..40,
        steps in vec((0..4_usize, any::<prop::sample::Index>()), 0..120),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let shed = ShedLayer::new().in_flight(limit);
            let mut running = Vec::new();
            for (step, at) in steps {
                match Priority::ALL.get(step) {
                    Some(priority) => {
                        let share = [0.8, 0.9, 1.0][step];
                        let has_room = (running.len() as f64) < limit as f64 * share - 1e-6;
                        let answer = ask(&shed, of(*priority)).await;
                        prop_assert_eq!(answer.is_ok(), has_room, "{} at {} of {}", priority, running.len(), limit);
                        running.extend(answer);
                    }
                    None if running.is_empty() => {}
                    None => drop(running.swap_remove(at.index(running.len()))),
                }
                prop_assert_eq!(shed.requests_in_flight(), running.len());
            }
            drop(running);
            prop_assert_eq!(shed.requests_in_flight(), 0);
            Ok(())
        })?;
    }
}

proptest! {
    #[test]
    fn no_client_has_more_than_half_and_every_place_comes_back(
        limit in 1_usize..20,
        steps in vec((0..5_usize, any::<prop::sample::Index>()), 0..120),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let shed = ShedLayer::new().in_flight(limit);
            let mut running: Vec<(usize, Response<Body>)> = Vec::new();
            for (client, at) in steps {
                if client == 4 {
                    if !running.is_empty() {
                        drop(running.swap_remove(at.index(running.len())));
                    }
                    continue;
                }
                let held = running.iter().filter(|(of, _)| *of == client).count();
                let asked = from(Client::new(client.to_string()).priority(Priority::High));
                let answer = ask(&shed, asked).await;
                let has_room = running.len() < limit && held < limit.div_ceil(2);
                prop_assert_eq!(answer.is_ok(), has_room, "{} of {}, {} of {}", held, client, running.len(), limit);
                running.extend(answer.ok().map(|answer| (client, answer)));
                prop_assert_eq!(shed.requests_in_flight(), running.len());
            }
            drop(running);
            let mut again = Vec::new();
            while let Ok(answer) = ask(&shed, from(Client::new("0").priority(Priority::High))).await {
                again.push(answer);
            }
            prop_assert_eq!(again.len(), limit.div_ceil(2));
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn a_reload_counts_on() {
    let shed = ShedLayer::new();
    let running = ask(&shed, of(Priority::High)).await.unwrap();
    let after = shed.clone().in_flight(1);
    assert_eq!(kind(ask(&after, of(Priority::High)).await), ErrorKind::Overloaded);
    drop(running);
    ask(&after, of(Priority::High)).await.unwrap();
    assert_eq!(shed.shed(Priority::High), 1);
}
