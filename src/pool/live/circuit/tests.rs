use proptest::prelude::*;

use super::*;

const FAILURE: Verdict = Verdict::Failure { may_open: true };

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn throttled(hint: u64) -> Verdict {
    Verdict::Throttled { hint: Some(ms(hint)) }
}

struct Clocked {
    circuit: Circuit,
    start: Instant,
}

impl Clocked {
    fn new() -> Self {
        Self { circuit: Circuit::new(CircuitConfig::default()), start: Instant::now() }
    }

    fn at(&self, at: u64) -> Instant {
        self.start + ms(at)
    }

    fn admit(&mut self, at: u64) -> Option<Ticket> {
        self.circuit.admit(self.at(at))
    }

    fn record(&mut self, ticket: Ticket, verdict: Verdict, at: u64) {
        self.circuit.record(ticket, verdict, self.at(at));
    }

    fn send(&mut self, verdict: Verdict, at: u64) {
        let ticket = self.admit(at).expect("the circuit should admit");
        self.record(ticket, verdict, at);
    }

    fn state(&self, at: u64) -> &'static str {
        self.circuit.state(self.at(at)).as_str()
    }

    /// Open by failures from 0 to 10,000 ms.
    fn failed() -> Self {
        let mut c = Self::new();
        for _ in 0..5 {
            c.send(FAILURE, 0);
        }
        assert_eq!(c.state(0), "open");
        c
    }
}

#[test]
fn a_hint_opens_to_the_millisecond_and_traffic_returns_at_once() {
    let mut c = Clocked::new();
    c.send(throttled(300), 0);
    assert!(c.admit(299).is_none());
    assert_eq!(c.state(300), "closed");
    let both = (c.admit(300), c.admit(300));
    assert!(both.0.is_some() && both.1.is_some(), "no probing after a hint");
}

#[test]
fn hints_are_bounded_below_and_above() {
    let mut c = Clocked::new();
    c.send(throttled(0), 0);
    assert!(c.admit(49).is_none(), "min_open");
    assert_eq!(c.state(50), "closed");

    let mut c = Clocked::new();
    c.send(throttled(86_400_000), 0);
    assert!(c.admit(59_999).is_none());
    assert_eq!(c.state(60_000), "half-open", "a hint that was cut is followed by a probe");

    let mut c = Clocked::new();
    c.send(Verdict::Throttled { hint: None }, 0);
    assert!(c.admit(9_999).is_none(), "default_open");
    assert_eq!(c.state(10_000), "closed");
}

#[test]
fn a_later_hint_extends_and_never_shortens() {
    let mut c = Clocked::new();
    let (short, long) = (c.admit(0).unwrap(), c.admit(0).unwrap());
    c.send(throttled(1_000), 0);
    c.record(short, throttled(100), 10);
    assert!(c.admit(999).is_none());
    c.record(long, throttled(2_000), 20);
    assert!(c.admit(2_019).is_none());
    assert_eq!(c.state(2_020), "closed");
}

#[test]
fn throttling_is_never_a_failure() {
    let mut c = Clocked::new();
    for i in 0..100 {
        c.send(throttled(50), i * 50);
    }
    assert_eq!(c.state(5_000), "closed");
    for _ in 0..4 {
        c.send(FAILURE, 5_000);
    }
    assert_eq!(c.state(5_000), "closed", "four failures are not five");
}

#[test]
fn consecutive_failures_open_and_a_success_starts_the_run_anew() {
    let mut c = Clocked::new();
    for verdict in [FAILURE, FAILURE, FAILURE, FAILURE, Verdict::Success, FAILURE, FAILURE, FAILURE, FAILURE] {
        c.send(verdict, 0);
    }
    assert_eq!(c.state(0), "closed");
    c.send(FAILURE, 0);
    assert_eq!(c.state(0), "open");
}

#[test]
fn the_ratio_opens_with_enough_requests() {
    let mut c = Clocked::new();
    for _ in 0..9 {
        c.send(FAILURE, 0);
        c.send(Verdict::Success, 0);
    }
    c.send(FAILURE, 0);
    assert_eq!(c.state(0), "closed", "10 of 19 is too few requests");
    c.send(FAILURE, 0);
    assert_eq!(c.state(0), "open", "11 of 20 is above one half");
}

#[test]
fn one_probe_then_one_more_each_interval() {
    let mut c = Clocked::failed();
    assert!(c.admit(9_999).is_none());
    let admitted = |c: &mut Clocked, at| (0..100).filter_map(|_| c.admit(at)).count();
    assert_eq!(admitted(&mut c, 10_000), 1);
    assert_eq!(admitted(&mut c, 10_249), 0);
    assert_eq!(admitted(&mut c, 10_250), 1);
    assert_eq!(admitted(&mut c, 10_500), 1);
}

#[test]
fn the_first_success_closes() {
    let mut c = Clocked::failed();
    c.send(Verdict::Success, 10_000);
    assert_eq!(c.state(10_000), "closed");
    for _ in 0..4 {
        c.send(FAILURE, 10_000);
    }
    assert_eq!(c.state(10_000), "closed", "the run before recovery is forgotten");
}

#[test]
fn failed_probes_double_the_time_up_to_max_open() {
    let mut c = Clocked::failed();
    let mut now = 10_000;
    for open_for in [20_000, 40_000, 60_000, 60_000] {
        c.send(FAILURE, now);
        assert!(c.admit(now + open_for - 1).is_none());
        now += open_for;
        assert_eq!(c.state(now), "half-open");
    }
}

#[test]
fn a_cancelled_probe_frees_its_place() {
    let mut c = Clocked::failed();
    let probe = c.admit(10_000).unwrap();
    assert!(c.admit(10_001).is_none());
    c.record(probe, Verdict::Neutral, 10_002);
    assert!(c.admit(10_002).is_some());
}

#[test]
fn a_committed_probe_frees_its_place_once_and_still_decides() {
    let mut c = Clocked::failed();
    let mut probe = c.admit(10_000).unwrap();
    let now = c.at(10_010);
    c.circuit.commit(&mut probe, now);
    let second = c.admit(10_010).expect("the place is free at commit");
    c.circuit.commit(&mut probe, now);
    assert!(c.admit(10_011).is_none(), "a place is given back once");
    c.record(probe, Verdict::Success, 10_020);
    assert_eq!(c.state(10_020), "closed");
    c.record(second, Verdict::Success, 10_030);
}

#[test]
fn answers_to_requests_from_before_the_trip_change_nothing() {
    let mut c = Clocked::new();
    let (late_success, late_failure) = (c.admit(0).unwrap(), c.admit(0).unwrap());
    for _ in 0..5 {
        c.send(FAILURE, 0);
    }
    c.record(late_success, Verdict::Success, 10_000);
    assert_eq!(c.state(10_000), "half-open", "a stale success does not close");
    c.record(late_failure, FAILURE, 10_001);
    assert_eq!(c.state(10_001), "half-open", "a stale failure does not open");
}

#[test]
fn a_probe_that_is_told_to_wait_waits_and_is_still_a_probe_after_failures() {
    let mut c = Clocked::failed();
    c.send(throttled(300), 10_000);
    assert!(c.admit(10_299).is_none());
    assert_eq!(c.state(10_300), "half-open");

    let mut c = Clocked::new();
    c.send(throttled(86_400_000), 0);
    c.send(throttled(300), 60_000);
    assert_eq!(c.state(60_300), "closed", "the backend said when, and nothing had failed");
}

#[test]
fn a_failure_that_may_not_open_counts() {
    let mut c = Clocked::new();
    for _ in 0..10 {
        c.send(Verdict::Failure { may_open: false }, 0);
    }
    assert_eq!(c.state(0), "closed");
    c.send(FAILURE, 0);
    assert_eq!(c.state(0), "open");
}

proptest! {
    #[test]
    fn invariants_hold_for_any_history(steps in prop::collection::vec((0_u8..6, 0_u64..40_000, 0_u64..100_000, any::<prop::sample::Index>()), 1..200)) {
        let mut c = Clocked::new();
        let (mut now, mut tickets, mut waits_until) = (0, Vec::new(), 0);
        for (step, pause, hint, which) in steps {
            now += pause;
            match step {
                0 | 1 => if let Some(ticket) = c.admit(now) {
                    prop_assert!(now >= waits_until, "no request during a hint");
                    tickets.push(ticket);
                },
                _ if tickets.is_empty() => {}
                _ => {
                    let ticket = tickets.swap_remove(which.index(tickets.len()));
                    let verdict = match step { 2 => throttled(hint), 3 => FAILURE, 4 => Verdict::Success, _ => Verdict::Neutral };
                    if step == 2 { waits_until = waits_until.max(now + hint.clamp(50, 60_000)); }
                    c.record(ticket, verdict, now);
                }
            }
            let at = c.at(now);
            prop_assert_eq!(c.circuit.admits(at), c.circuit.admit(at).map(|t| c.circuit.record(t, Verdict::Neutral, at)).is_some(), "admits() tells the truth");
            let reopens = c.circuit.admits_at().map_or(Duration::ZERO, |t| t.saturating_duration_since(at));
            prop_assert!(reopens <= CircuitConfig::default().max_open);
        }
    }
}

#[test]
fn what_cannot_be_reached_is_asked_each_second() {
    let mut c = Clocked::failed();
    for failed in 0..50 {
        let at = 10_000 + 1_000 * failed;
        c.send(Verdict::Unreachable, at);
        assert_eq!((c.state(at + 999), c.state(at + 1_000)), ("open", "half-open"), "{failed}");
    }
    c.send(FAILURE, 60_000);
    assert_eq!(c.state(119_999), "open", "what answers wrongly is left alone for longer each time");
}

#[test]
fn a_short_back_off_is_not_made_longer() {
    let config = CircuitConfig { default_open: ms(100), max_open: ms(400), ..CircuitConfig::default() };
    let mut c = Clocked { circuit: Circuit::new(config), start: Instant::now() };
    (0..5).for_each(|_| c.send(Verdict::Unreachable, 0));
    c.send(Verdict::Unreachable, 100);
    assert_eq!((c.state(299), c.state(300)), ("open", "half-open"));
}

#[test]
fn a_probe_before_its_time_shows_recovery_and_costs_no_time_when_it_fails() {
    let mut c = Clocked::failed();
    let early = c.circuit.admit_early(c.at(3_000)).unwrap();
    assert!(c.circuit.admit_early(c.at(3_100)).is_none(), "one at a time");
    c.record(early, FAILURE, 3_200);
    assert_eq!((c.state(9_999), c.state(10_000)), ("open", "half-open"), "as long as before, without doubling");
    c.send(FAILURE, 10_000);
    assert_eq!(c.state(29_999), "open", "only probes in turn double");

    let early = c.circuit.admit_early(c.at(12_000)).unwrap();
    c.record(early, Verdict::Success, 12_100);
    assert_eq!(c.state(12_100), "closed");
}

#[test]
fn a_backend_that_said_wait_is_not_probed_early() {
    let mut c = Clocked::failed();
    c.circuit.throttle(Some(ms(5_000)), c.at(1_000));
    assert!(c.circuit.admit_early(c.at(5_999)).is_none());
    assert!(c.circuit.admit_early(c.at(6_000)).is_some());

    let mut c = Clocked::new();
    c.send(throttled(1_000), 0);
    assert!(c.circuit.admit_early(c.at(500)).is_none());
    assert!(Clocked::new().circuit.admit_early(Instant::now()).is_none(), "nothing is wrong");
}

#[test]
fn a_hint_is_obeyed_to_the_millisecond_and_none_is_below_one() {
    for (hint, open) in [(0, 50), (1, 1), (7, 7), (49, 49), (50, 50)] {
        let mut c = Clocked::new();
        c.send(throttled(hint), 0);
        assert_eq!((c.state(open - 1), c.state(open)), ("open", "closed"), "{hint}");
    }
}

#[test]
fn what_is_open_elsewhere_is_open_here_for_as_long() {
    let mut c = Clocked::new();
    c.circuit.adopt(c.at(5_000), true, c.at(0));
    assert_eq!(
        (c.state(4_999), c.state(5_000)),
        ("open", "closed"),
        "a wait that was asked for ends in a closed circuit"
    );
    c.send(throttled(8_000), 6_000);
    c.circuit.adopt(c.at(9_000), false, c.at(7_000));
    assert_eq!(c.state(13_999), "open", "it never shortens");
    c.circuit.adopt(c.at(15_000), true, c.at(14_500));
    c.circuit.adopt(c.at(14_000), true, c.at(16_000));
    assert_eq!(c.state(16_000), "closed", "what is over opens nothing");

    let mut c = Clocked::new();
    let sent_before = c.admit(0).unwrap();
    c.circuit.adopt(c.at(5_000), false, c.at(0));
    c.record(sent_before, Verdict::Success, 100);
    assert_eq!((c.state(4_999), c.state(5_000)), ("open", "half-open"), "a failure ends with a probe");
    c.circuit.adopt(c.at(600_000), true, c.at(5_000));
    assert_eq!(c.state(65_000), "half-open", "no longer than here");
}

proptest! {
    #[test]
    fn adopting_never_shortens(openings in prop::collection::vec((0_u64..2_000, 0_u64..90_000, any::<bool>()), 1..20)) {
        let mut c = Clocked::new();
        let mut at = 0;
        for (passed, left, throttled) in openings {
            at += passed;
            let now = c.at(at);
            let before = c.circuit.admits_at().filter(|until| *until > now);
            c.circuit.adopt(now + ms(left), throttled, now);
            let after = c.circuit.admits_at().filter(|until| *until > now);
            prop_assert!(after >= before);
            prop_assert!(after.is_none_or(|until| until <= now + c.circuit.config.max_open));
        }
    }
}
