//! Weighted rendezvous hashing: everybody draws a number for a key, and the highest score has it.
//!
//! With the score `weight / −ln(1 − draw)` each has a share of the keys in proportion to its weight, and whoever changes its
//! weight, comes or goes moves only keys to or from itself: the scores of the others stay. For a uniform draw, `−ln(1 − draw) /
//! weight` is exponentially distributed with the rate `weight`; the least of independent ones is the i-th with the probability
//! `weightᵢ / Σ weight`.
//!
//! Rendezvous hashing is Thaler and Ravishankar's ("Using name-based mappings to increase hit rates"), the score that of the
//! logarithmic method of Schindelhauer and Schomaker ("Weighted distributed hash tables"), the draw a folded multiplication as in
//! wyhash.

/// A number between 0 and 1, both excluded: the same for the same key and identity in every process.
pub(crate) fn draw(key: u64, identity: u64) -> f64 {
    let product = u128::from(key ^ identity) * 0xa076_1d64_78bd_642f;
    let mixed = (product >> 64) as u64 ^ product as u64;
    // Signed, for which processors have an instruction.
    ((mixed >> 12) as i64 as f64 + 0.5) / (1_u64 << 52) as f64
}

/// Never above `weight / draw`, by which most are seen to be lower than another without computing them.
pub(crate) fn score(weight: f64, draw: f64) -> f64 {
    weight / -libm::log1p(-draw)
}
