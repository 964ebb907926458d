use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Moments of the process on the clock of the wall.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    now: Instant,
    wall: Duration,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self { now: Instant::now(), wall: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() }
    }

    pub(super) fn now(&self) -> u64 {
        nanos(self.wall)
    }

    /// Nanoseconds since 1970.
    pub(super) fn at(&self, moment: Instant) -> u64 {
        let ago = self.now.saturating_duration_since(moment);
        nanos(self.wall.saturating_sub(ago) + moment.saturating_duration_since(self.now))
    }
}

pub(super) fn since_1970(moment: SystemTime) -> u64 {
    nanos(moment.duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
