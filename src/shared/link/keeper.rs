//! What is done for a link by the clock: connections are made, watched and made anew.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::Script;
use tokio::time::{Instant, sleep, timeout};

use super::{CONNECT_TIME, Call, Inner, LATE, Lazy, OPEN, REPLICAS, Told, described, lock};

const HEARTBEAT: Duration = Duration::from_secs(1);
const RECONNECT: Duration = Duration::from_millis(250);

static BEAT: Lazy = Lazy::new(|| Script::new(include_str!("../heartbeat.lua")));

/// Tends the connection for as long as somebody has it.
pub(super) async fn keep(link: Weak<Inner>) {
    loop {
        let Some(inner) = link.upgrade() else { return };
        match inner.tend().await {
            Ok(()) => {
                inner.recover();
                inner.pay().await;
            }
            Err(why) => {
                inner.connection.store(None);
                inner.fail(why);
            }
        }
        let pause = if inner.is_up.load(Relaxed) { HEARTBEAT } else { RECONNECT };
        if inner.is_up.load(Relaxed) {
            let _ = timeout(pause, inner.trouble.notified()).await;
        } else {
            sleep(pause).await;
        }
    }
}

/// News that one heartbeat brings: how many replicas there are, the time, and which circuits are open until when, in milliseconds.
type Beat = (u32, u64, HashMap<String, u64>);

impl Inner {
    /// Connects if need be, shows a newer token if there is one, and finds out whether Redis takes what it is told.
    pub(super) async fn tend(&self) -> Result<(), String> {
        let known = self.connection.load_full().filter(|connected| !connected.is_over());
        let is_new = known.is_none();
        let connected = match known {
            Some(connected) => connected,
            None => {
                let connecting = timeout(CONNECT_TIME, self.dial.connect()).await;
                let connected = connecting.unwrap_or_else(|_| Err("it cannot be connected to in 2 s".to_owned()))?;
                Arc::new(connected)
            }
        };
        let mut connection = connected.connection.clone();
        if let Some(renewal) = self.dial.renewal(&connected) {
            let renewed = timeout(CONNECT_TIME, connected.renew(&mut connection, renewal)).await;
            renewed.map_err(|_| LATE.to_owned())?.map_err(|error| described(&error))?;
        }
        let beat = Call::new(&BEAT, REPLICAS).key(OPEN).arg(&self.replica);
        let begun = Instant::now();
        let patience = if is_new { CONNECT_TIME } else { self.patience };
        let beat: Beat = match timeout(patience, beat.run(&mut connection)).await {
            Ok(beat) => beat.map_err(|error| described(&error))?,
            Err(_) => return Err(LATE.to_owned()),
        };
        let took = begun.elapsed();
        if took > self.patience {
            return Err(LATE.to_owned());
        }
        self.is_slow.store(took > self.short_patience(), Relaxed);
        self.replicas.store(beat.0, Relaxed);
        if is_new {
            self.connection.store(Some(connected));
        }
        if let Some(listener) = &*lock(&self.listener) {
            let left = |until: u64| Duration::from_millis(until.saturating_sub(beat.1));
            beat.2.iter().for_each(|(circuit, until)| {
                listener(Told { circuit, until: *until, left: left(*until), by: None });
            });
        }
        Ok(())
    }

    fn recover(&self) {
        let was_down = !self.is_up.swap(true, Relaxed);
        let was_known = self.is_known.send_replace(true);
        if was_down && was_known {
            tracing::info!(replicas = self.replicas.load(Relaxed), "Redis is back: state is shared again");
        }
    }

    /// Says what could not be said while Redis was away.
    async fn pay(&self) {
        let owed = std::mem::take(&mut *lock(&self.owed));
        for (i, call) in owed.iter().enumerate() {
            let Some(mut connection) = self.connection() else {
                lock(&self.owed).extend_from_slice(&owed[i..]);
                return;
            };
            if let Ok(Ok(())) =
                timeout(CONNECT_TIME, call.run::<redis::Value>(&mut connection)).await.map(|said| said.map(drop))
            {
                continue;
            }
            return;
        }
    }
}
