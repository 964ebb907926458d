use std::sync::PoisonError;

use super::slot::SLOT;
use crate::sync::{Mutex, MutexGuard};

/// Events that are copied under one lock: 256 KiB, which takes some 10 µs.
const PIECE: u64 = if cfg!(loom) { 2 } else { 4096 };

/// The last events, in as much memory as they were given.
#[derive(Debug)]
pub(super) struct Ring {
    slots: Mutex<Slots>,
}

#[derive(Debug)]
struct Slots {
    kept: Box<[[u8; SLOT]]>,
    /// Events since the beginning; the last of them are there.
    pushed: u64,
}

impl Ring {
    /// Keeps what fits into so many bytes.
    pub(super) fn new(bytes: usize) -> Self {
        let kept = vec![[0; SLOT]; bytes / SLOT].into_boxed_slice();
        Self { slots: Mutex::new(Slots { kept, pushed: 0 }) }
    }

    /// Adds events that belong together.
    pub(super) fn push(&self, events: impl IntoIterator<Item = [u8; SLOT]>) {
        let mut slots = self.lock();
        for event in events {
            slots.push(event);
        }
    }

    /// The events that there are now, the oldest first.
    ///
    /// Copied in pieces, so that nobody who writes waits for long; what is pushed out meanwhile is missing at the beginning.
    pub(super) fn copy(&self) -> Vec<[u8; SLOT]> {
        let end = self.lock().pushed;
        let (mut copied, mut at) = (Vec::new(), 0);
        while at < end {
            let slots = self.lock();
            at = at.max(slots.oldest());
            let piece = at..(at + PIECE).min(end);
            copied.extend(piece.clone().filter_map(|event| slots.get(event)));
            at = piece.end;
        }
        copied
    }

    // A panic cannot leave it half changed: no step between its writes can panic.
    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slots {
    fn push(&mut self, event: [u8; SLOT]) {
        let place = self.place(self.pushed);
        if let Some(slot) = place.and_then(|place| self.kept.get_mut(place)) {
            *slot = event;
        }
        self.pushed += 1;
    }

    fn get(&self, event: u64) -> Option<[u8; SLOT]> {
        self.kept.get(self.place(event)?).copied()
    }

    fn oldest(&self) -> u64 {
        self.pushed.saturating_sub(self.kept.len() as u64)
    }

    const fn place(&self, event: u64) -> Option<usize> {
        match event.checked_rem(self.kept.len() as u64) {
            Some(place) => Some(place as usize),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(number: u8) -> [u8; SLOT] {
        [number; SLOT]
    }

    #[test]
    fn keeps_the_last_ones_in_their_order() {
        let ring = Ring::new(3 * SLOT + 1);
        for number in 1..=2 {
            ring.push([numbered(number)]);
        }
        assert_eq!(ring.copy(), [1, 2].map(numbered));
        ring.push([3, 4, 5].map(numbered));
        assert_eq!(ring.copy(), [3, 4, 5].map(numbered));
    }

    #[test]
    fn without_memory_it_keeps_nothing() {
        let ring = Ring::new(SLOT - 1);
        ring.push([numbered(1)]);
        assert!(ring.copy().is_empty());
    }
}
