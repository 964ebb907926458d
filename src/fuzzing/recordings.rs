use sha2::{Digest, Sha256};

use crate::recorder::{self, Recording};

/// Recordings, with a checksum put behind them where they have none: nothing in one is believed, and every event that is read is
/// written the same.
pub(super) fn check(data: &[u8]) {
    let _ = Recording::read(data);
    let whole = [data, &Sha256::digest(data)[..]].concat();
    if let Ok(recording) = Recording::read(&whole) {
        let _ = (format!("{recording:?}"), recording.span(), recording.circuit(), recording.began(), recording.taken());
        for request in recording.requests() {
            let _ = recording.alias(request.alias);
        }
        for attempt in recording.attempts() {
            let _ = recording.target(attempt.target);
        }
    }
    for slot in data.as_chunks().0 {
        recorder::check_slot(slot);
    }
}
