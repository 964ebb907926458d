//! Number of calls that searches may make.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// One client makes at most one part in this many of all calls.
const CLIENT_SHARE: f64 = 2.0;
/// So many clients are remembered before those are left out who have all their calls left.
const MANY_CLIENTS: usize = 1024;

/// Number of calls that may be made, by all and by each client.
pub(super) struct Rates {
    all: Rate,
    clients: HashMap<Arc<str>, Rate>,
}

impl Rates {
    pub(super) fn new(per_second: f64, now: Instant) -> Self {
        Self { all: Rate::new(per_second, now), clients: HashMap::new() }
    }

    /// Takes the calls of one search from both, or says how long to wait for them.
    pub(super) fn take(&mut self, client: &Arc<str>, calls: f64, now: Instant) -> Result<(), Duration> {
        if client.is_empty() {
            return self.all.take(calls, now);
        }
        if self.clients.len() > MANY_CLIENTS {
            self.clients.retain(|_, rate| !rate.is_full(now));
        }
        let share = self.all.per_second / CLIENT_SHARE;
        let own = self.clients.entry(client.clone()).or_insert_with(|| Rate::new(share, now));
        own.check(calls, now)?;
        self.all.take(calls, now)?;
        own.left -= calls;
        Ok(())
    }
}

/// So many calls in a second, saved up for one.
struct Rate {
    per_second: f64,
    left: f64,
    at: Instant,
}

impl Rate {
    const fn new(per_second: f64, now: Instant) -> Self {
        Self { per_second, left: per_second, at: now }
    }

    fn is_full(&mut self, now: Instant) -> bool {
        self.check(self.per_second, now).is_ok()
    }

    fn take(&mut self, calls: f64, now: Instant) -> Result<(), Duration> {
        self.check(calls, now)?;
        self.left -= calls;
        Ok(())
    }

    /// Tells whether the calls may be made, or how long to wait for them. More than a second's worth are allowed when all of them are left.
    fn check(&mut self, calls: f64, now: Instant) -> Result<(), Duration> {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed * self.per_second).min(self.per_second);
        self.at = now;
        let needed = calls.min(self.per_second);
        if self.left < needed {
            return Err(Duration::from_secs_f64((needed - self.left) / self.per_second));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn calls_are_bounded_in_every_second() {
        let mut rate = Rate::new(10.0, Instant::now());
        assert!((0..3).all(|_| rate.take(3.0, Instant::now()).is_ok()));
        assert_eq!(rate.take(3.0, Instant::now()), Err(Duration::from_millis(200)));
        tokio::time::advance(Duration::from_millis(200)).await;
        assert_eq!(rate.take(3.0, Instant::now()), Ok(()));
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(rate.take(40.0, Instant::now()), Ok(()), "a pool may be larger than a second's worth");
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(rate.take(1.0, Instant::now()).is_err(), "and pays for it afterwards");
    }

    #[tokio::test(start_paused = true)]
    async fn one_client_leaves_half_of_the_calls_to_others() {
        let (mut rates, now) = (Rates::new(20.0, Instant::now()), Instant::now());
        let [a, b, nobody] = ["a", "b", ""].map(Arc::from);
        assert_eq!((0..9).filter(|_| rates.take(&a, 3.0, now).is_ok()).count(), 3);
        assert_eq!(rates.take(&a, 3.0, now), Err(Duration::from_millis(200)));
        assert!((0..3).all(|_| rates.take(&b, 3.0, now).is_ok()));
        assert_eq!(rates.take(&nobody, 2.0, now), Ok(()), "who is not known shares what is left");
        assert!(rates.take(&nobody, 1.0, now).is_err());
        let before = rates.clients[&b].left;
        assert!(rates.take(&b, 1.0, now).is_err());
        assert!((rates.clients[&b].left - before).abs() < 1e-9, "what is refused costs nothing");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(rates.take(&a, 3.0, Instant::now()), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn clients_who_ask_for_nothing_are_forgotten() {
        let mut rates = Rates::new(1e6, Instant::now());
        for i in 0..3 * MANY_CLIENTS {
            rates.take(&format!("c{i}").into(), 1.0, Instant::now()).unwrap();
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert!(rates.clients.len() <= MANY_CLIENTS + 1, "{}", rates.clients.len());
    }
}
