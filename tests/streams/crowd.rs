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
async fn listen(client: Client<HttpConnector, Body>, request: Request<Body>, patience: Duration) -> (usize, bool) {
    let mut events = 0;
    let all = async {
        let mut body = client.request(request).await.unwrap().into_body();
        while let Some(frame) = body.frame().await {
            let data = frame.unwrap().into_data().unwrap();
            events += data.windows(2).filter(|two| two == b"\n\n").count();
        }
    };
    let finished = tokio::time::timeout(patience, all).await.is_ok();
    (events, finished)
}

/// Of each answer the head takes ten seconds and every event one more; clients leave before, during and after that. The clock
/// is paused, so nobody waits for it.
#[tokio::test(start_paused = true)]
async fn nothing_is_left_of_a_thousand_streams_whose_clients_leave_when_they_like() {
    // The filter, the role, the words, the end, the usage and the end mark.
    let words = "word ".repeat(EVENTS - 4);
    let (backend, server) = simulated(SimulatedDeployment::standard("gpt-4o").says(words)).await;
    backend.faults().always(Fault::slow_head(SECOND * 10).and(Fault::slow_body(SECOND)));
    let front = Front::of(server.url()).await;

    let clock = hold_clock();
    let mut dice = Dice(7);
    // Connections are few and streams many, as behind a load balancer; some have HTTP/1.1 and a connection each.
    let shared: Vec<_> = (0..20).map(|_| client(Version::HTTP_2)).collect();
    let listeners = (0..STREAMS).map(|number| {
        let client = if number % 10 == 0 { client(Version::HTTP_11) } else { shared[number % shared.len()].clone() };
        let patience = Duration::from_millis(1 + dice.roll(130_000));
        tokio::spawn(listen(client, front.stream_request(), patience))
    });
    let listeners: Vec<_> = listeners.collect();

    backend.wait_for_requests(STREAMS).await;
    assert_eq!((backend.in_flight(), front.target().in_flight as usize), (STREAMS, STREAMS));
    assert!(front.inspect.replay_memory_in_use() > 0);
    drop(clock);

    let seen: Vec<_> = join_all(listeners).await.into_iter().map(Result::unwrap).collect();
    backend.wait_until_idle().await;
    assert_eq!((front.target().in_flight, front.inspect.replay_memory_in_use()), (0, 0));
    assert_eq!((front.target().failures, front.target().circuit), (0, "closed"), "nobody's failure");

    let count = |what: fn(&(usize, bool)) -> bool| seen.iter().filter(|seen| what(seen)).count();
    assert!(count(|(events, _)| *events == 0) > 20, "some left before the first event");
    assert!(count(|(events, finished)| !finished && *events > 0) > 500, "most left in the middle");
    assert!(count(|(_, finished)| *finished) > 50, "some stayed");
    assert!(seen.iter().all(|(events, finished)| !finished || *events == EVENTS), "and saw everything");
}
