//! Circuits that open at one replica, and so at all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redis::Script;
use tokio::time::Instant;

use super::dial::CHANNEL;
use super::link::{Call, Lazy, Link, OPEN, Told, lock};
use crate::pool::{Opening, Pool};

static PUBLISH: Lazy = Lazy::new(|| Script::new(include_str!("open.lua")));

/// More circuits than any configuration has.
const MOST_HEARD: usize = 10_000;

/// Prefix of the name of a circuit that is open because its backend asked to wait, or failed.
const THROTTLED: &str = "throttled ";
const FAILED: &str = "failed ";

pub(super) fn follow(link: &Link, pool: Pool) {
    let mut openings = pool.openings();
    // One that is heard of again is none: it may have been closed here since, and rightly.
    let own = link.replica().to_owned();
    let heard = Mutex::new(HashMap::<String, u64>::new());
    link.listen(move |Told { circuit: told, until, left, by }| {
        let mut heard = lock(&heard);
        if heard.get(told).is_some_and(|known| *known >= until) {
            return;
        }
        if heard.len() < MOST_HEARD || heard.contains_key(told) {
            heard.insert(told.to_owned(), until);
        }
        drop(heard);
        if by == Some(&*own) {
            return;
        }
        let circuit = told.strip_prefix(THROTTLED).map(|circuit| (circuit, true));
        let Some((circuit, throttled)) = circuit.or_else(|| told.strip_prefix(FAILED).map(|circuit| (circuit, false)))
        else {
            return;
        };
        pool.adopt(&Opening::new(Arc::from(circuit), Instant::now() + left, throttled));
    });
    let (telling, own_name) = (link.downgrade(), link.replica().to_owned());
    let publishing = tokio::spawn(async move {
        while let Some(opening) = openings.next().await {
            let left = opening.until.saturating_duration_since(Instant::now());
            if left > Duration::ZERO {
                let kind = if opening.throttled { THROTTLED } else { FAILED };
                let call = Call::new(&PUBLISH, OPEN)
                    .arg(CHANNEL)
                    .arg(format!("{kind}{}", opening.circuit))
                    .arg(ms(left))
                    .arg(&own_name);
                // Of no use later.
                let Some(link) = telling.upgrade() else { return };
                let _ = link.ask::<()>(&call).await;
            }
        }
    });
    link.keep_task("openings", publishing.abort_handle());
}

/// Rounded up, so that nobody comes too early.
fn ms(left: Duration) -> u128 {
    left.as_nanos().div_ceil(1_000_000)
}
