use std::sync::Arc;

use loom::thread;

use self::ring::Ring;
use crate::models::model;

#[path = "../../../src/recorder/ring.rs"]
mod ring;

mod slot {
    pub(super) const SLOT: usize = 64;
}

pub(crate) fn a_copy_of_the_ring_has_no_gap_and_no_event_twice() {
    model(|| {
        let ring = Arc::new(Ring::new(4 * 64));
        ring.push((0..3).map(numbered));
        let writer = {
            let ring = ring.clone();
            thread::spawn(move || {
                ring.push((3..5).map(numbered));
                ring.push([numbered(5)]);
            })
        };
        let copied: Vec<_> = ring.copy().iter().map(|slot| slot[0]).collect();
        writer.join().unwrap();
        assert!(copied.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{copied:?}");
        assert!(
            copied.last().is_none_or(|last| [2, 4, 5].contains(last)),
            "what belongs together is not parted: {copied:?}"
        );
        let all: Vec<_> = ring.copy().iter().map(|slot| slot[0]).collect();
        assert_eq!(all, [2, 3, 4, 5]);
    });
}

fn numbered(number: u8) -> [u8; 64] {
    [number; 64]
}
