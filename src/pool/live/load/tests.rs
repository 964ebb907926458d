use proptest::prelude::*;

use super::*;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-9
}

#[test]
fn bad_news_is_believed_at_once_and_good_news_slowly() {
    let start = Instant::now();
    let mut latency = Latency::new(start);
    latency.sample(ms(3_000), start + ms(10));
    assert!(close(latency.estimate, 3.0));
    latency.sample(ms(500), start + ms(20));
    assert!(latency.estimate > 2.99, "one fast answer right after a slow one says little");
    for tick in 1..=500 {
        latency.sent(start + ms(20 + tick * 100));
        latency.sample(ms(500), start + ms(20 + tick * 100));
    }
    assert!(latency.estimate < 0.52, "fifty seconds of fast answers say a lot");
}

#[test]
fn is_unknown_until_something_was_seen() {
    let start = Instant::now();
    let mut latency = Latency::new(start);
    assert!(latency.measured().is_infinite() && close(latency.projected(start), DEFAULT_LATENCY.as_secs_f64()));
    latency.sent(start);
    assert!(latency.measured().is_infinite());
    latency.sample(ms(0), start + ms(1));
    assert!(close(latency.measured(), MIN_LATENCY.as_secs_f64()));
}

#[test]
fn blends_with_one_minus_e_to_the_time_over_the_decay() {
    let start = Instant::now();
    let mut latency = Latency::new(start);
    latency.sample(ms(4_000), start);
    latency.sent(start + LATENCY_DECAY);
    latency.sample(ms(1_000), start + LATENCY_DECAY);
    assert!(close(latency.estimate, 4.0 - 3.0 * (1.0 - (-1.0_f64).exp())));
}

#[test]
fn looks_better_unused_until_it_is_tried() {
    let start = Instant::now();
    let mut latency = Latency::new(start);
    latency.sample(ms(2_000), start);
    let later = start + LATENCY_DECAY;
    assert!(close(latency.projected(later), 2.0 * (-1.0_f64).exp()));
    assert!(close(latency.estimate, 2.0), "reading changes nothing");
    latency.sent(later);
    assert!(close(latency.projected(later), 2.0), "one request finds out, not a crowd");
}

#[test]
fn a_failure_never_looks_fast() {
    let start = Instant::now();
    for (before, hint, after) in [
        (100, None, FAILURE_PENALTY),
        (100, Some(ms(1)), FAILURE_PENALTY),
        (100, Some(ms(20_000)), ms(20_000)),
        (100, Some(Duration::MAX), MAX_PENALTY),
        (90_000, None, ms(90_000)),
    ] {
        let mut latency = Latency::new(start);
        latency.sample(ms(before), start);
        latency.fail(hint, start);
        assert!((latency.estimate - after.as_secs_f64()).abs() < 1e-6, "{before} {hint:?}");
    }
}

#[test]
fn room_is_the_scarcest_of_what_is_reported_and_soon_forgotten() {
    let now = Instant::now();
    let mut room = Room::default();
    assert_eq!(room.at(now), None);
    let mut signals = Signals::default();
    signals.tokens.remaining = Some(1_000);
    room.report(&signals, now);
    assert_eq!(room.at(now), Some(1.0), "the most that was ever left stands for the limit");
    signals.tokens.remaining = Some(250);
    (signals.requests.remaining, signals.requests.limit) = (Some(9), Some(10));
    room.report(&signals, now);
    assert_eq!(room.at(now), Some(0.25));
    signals.utilization = Some(1.1);
    room.report(&signals, now);
    assert_eq!(room.at(now), Some(0.0));
    room.report(&Signals::default(), now + SIGNAL_LIFETIME / 2);
    assert_eq!(room.at(now + SIGNAL_LIFETIME - ms(1)), Some(0.0), "silence takes nothing back");
    assert_eq!(room.at(now + SIGNAL_LIFETIME), None);
}

#[test]
fn a_limit_of_nothing_divides_nothing() {
    let now = Instant::now();
    let mut signals = Signals::default();
    (signals.requests.remaining, signals.requests.limit) = (Some(0), Some(0));
    let mut room = Room::default();
    room.report(&signals, now);
    assert_eq!(room.at(now), Some(0.0));
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Sent,
    Sample(u64),
    Fail(Option<u64>),
}

fn events() -> impl Strategy<Value = Vec<(u64, Event)>> {
    let event = prop_oneof![
        Just(Event::Sent),
        (0..100_000_u64).prop_map(Event::Sample),
        proptest::option::of(0..u64::MAX).prop_map(Event::Fail),
    ];
    proptest::collection::vec((0..60_000_u64, event), 0..40)
}

proptest! {
    #[test]
    fn stays_between_the_extremes_and_ranks_as_it_projects(one in events(), other in events()) {
        let start = Instant::now();
        let play = |events: &[(u64, Event)]| {
            let (mut latency, mut now) = (Latency::new(start), start);
            let mut most = DEFAULT_LATENCY.max(FAILURE_PENALTY);
            for (wait, event) in events {
                now += ms(*wait);
                match event {
                    Event::Sent => latency.sent(now),
                    Event::Sample(sample) => latency.sample(ms(*sample), now),
                    Event::Fail(hint) => latency.fail(hint.map(ms), now),
                }
                if let Event::Sample(sample) = event {
                    most = most.max(ms(*sample));
                } else if matches!(event, Event::Fail(Some(_))) {
                    most = most.max(MAX_PENALTY);
                }
                assert!((MIN_LATENCY.as_secs_f64()..=most.as_secs_f64() + 1e-9).contains(&latency.estimate));
            }
            (latency, now)
        };
        let ((one, then), (other, later)) = (play(&one), play(&other));
        let now = then.max(later);
        let (a, b) = (one.projected(now), other.projected(now));
        // Below this the projections are the same number.
        if (a - b).abs() > 1e-9 * a.max(b) && a.min(b) > 1e-200 {
            prop_assert_eq!(one.rank(start) < other.rank(start), a < b);
        }
    }
}
