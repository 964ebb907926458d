//! A thousand streams at once.

use futures_util::future::join_all;
use tower_azure_openai::testkit::Fault;

use super::*;

const STREAMS: usize = 1_000;
const EVENTS: usize = 100;

/// Numbers that look random and are the same each time (SplitMix64).
struct Dice(u64);

impl Dice {
    /// A number below `bound`.
    fn roll(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// How many events a client saw, and whether it saw the end.
async fn listen(gateway: gateway::Gateway, request: Request<Body>, patience: Duration) -> (usize, bool) {
    let mut events = 0;
    let all = async {
        let mut body = gateway.oneshot(request).await.unwrap().into_body();
        while let Some(frame) = body.frame().await {
            let data = frame.unwrap().into_data().unwrap();
            events += data.windows(2).filter(|two| two == b"\n\n").count();
        }
    };
    let finished = tokio::time::timeout(patience, all).await.is_ok();
    (events, finished)
}

/// Of each answer the head takes ten seconds and every event one more; clients leave before, during and after that. Nothing in
/// it is a socket, so that the paused clock is exact and a thousand of them need no file descriptors.
#[tokio::test(start_paused = true)]
async fn nothing_is_left_of_a_thousand_streams_whose_clients_leave_when_they_like() {
    // The filter, the role, the words, the end, the usage and the end mark.
    let words = "word ".repeat(EVENTS - 4);
    let deployment = SimulatedDeployment::standard("gpt-4o").says(words);
    let backend = SimulatedBackend::builder("east").deployment(deployment).build();
    backend.faults().always(Fault::slow_head(SECOND * 10).and(Fault::slow_body(SECOND)));
    let described = Backend::new("only", "http://east").add_deployment(Deployment::new("gpt-4o"));
    let pool = Pool::builder().add_backend(described).build().unwrap();
    let inspect = InspectLayer::new();
    let gateway = gateway::builder(pool.clone(), TerminateCredentialsLayer::without_clients())
        .inspect(inspect.clone())
        .build(backend.clone());
    let target = || pool.status().backends[0].deployments[0].clone();

    let mut dice = Dice(7);
    let listeners = (0..STREAMS).map(|_| {
        let request = Request::post(CHAT).header("content-type", "application/json").body(Body::from(STREAM)).unwrap();
        let patience = Duration::from_millis(1 + dice.roll(130_000));
        tokio::spawn(listen(gateway.clone(), request, patience))
    });
    let listeners: Vec<_> = listeners.collect();

    backend.wait_for_requests(STREAMS).await;
    assert_eq!((backend.in_flight(), target().in_flight as usize), (STREAMS, STREAMS));
    assert!(inspect.replay_memory_in_use() > 0);

    let seen: Vec<_> = join_all(listeners).await.into_iter().map(Result::unwrap).collect();
    // What it has received it remembers, with the bodies.
    backend.clear_requests();
    assert_eq!((backend.in_flight(), target().in_flight, inspect.replay_memory_in_use()), (0, 0, 0));
    assert_eq!((target().failures, target().circuit), (0, "closed"), "nobody's failure");

    let count = |what: fn(&(usize, bool)) -> bool| seen.iter().filter(|seen| what(seen)).count();
    assert!(count(|(events, _)| *events == 0) > 20, "some left before the first event");
    assert!(count(|(events, finished)| !finished && *events > 0) > 500, "most left in the middle");
    assert!(count(|(_, finished)| *finished) > 50, "some stayed");
    assert!(seen.iter().all(|(events, finished)| !finished || *events == EVENTS), "and saw everything");
}
