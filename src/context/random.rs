use std::cell::RefCell;

/// Bits that nobody else has, taken from the system for many ids at a time.
pub(super) fn random_bits() -> u128 {
    const IDS: usize = 64;
    thread_local! {
        static LEFT: RefCell<([u128; IDS], usize)> = const { RefCell::new(([0; IDS], 0)) };
    }
    LEFT.with_borrow_mut(|(bits, left)| {
        if *left == 0 {
            let mut bytes = [0; 16 * IDS];
            // Without randomness ids are alike, and requests are served all the same.
            let _ = getrandom::fill(&mut bytes);
            for (bits, bytes) in bits.iter_mut().zip(bytes.as_chunks().0) {
                *bits = u128::from_be_bytes(*bytes);
            }
            *left = IDS;
        }
        *left -= 1;
        bits.get(*left).copied().unwrap_or_default()
    })
}
