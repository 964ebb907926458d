//! Checks of everything that is read, for any bytes: the fuzzers of `tests/fuzz` run them without end, the tests below over what
//! those have found.
//!
//! A check panics where a reader says something else than a slower one that knows only the format, or than itself when the same
//! bytes come in other pieces. Only built for tests and for fuzzers, which set `cfg(fuzzing)`.

mod answers;
mod batches;
mod bodies;
mod cookies;
mod envelopes;
mod events;
mod forms;
mod hints;
mod locations;
mod media_types;
mod names;
mod paths;
mod recordings;
mod references;
#[cfg(test)]
mod tests;
mod tree;
mod usage;

use self::tree::Tree;

/// Takes any bytes, and panics where it finds something.
pub type Check = fn(&[u8]);

/// Every check, by the name of its fuzzer.
pub const CHECKS: [(&str, Check); 15] = [
    ("answers", answers::check),
    ("batches", batches::check),
    ("bodies", bodies::check),
    ("cookies", cookies::check),
    ("envelopes", envelopes::check),
    ("events", events::check),
    ("forms", forms::check),
    ("hints", hints::check),
    ("locations", locations::check),
    ("media_types", media_types::check),
    ("names", names::check),
    ("paths", paths::check),
    ("recordings", recordings::check),
    ("references", references::check),
    ("usage", usage::check),
];

/// Runs the check of this name.
///
/// # Panics
/// There is none of that name, or it has found something.
pub fn run(name: &str, data: &[u8]) {
    let (_, check) = CHECKS.iter().find(|(known, _)| *known == name).expect("a check of that name");
    check(data);
}

/// The same bytes one by one, in two pieces, and in pieces whose lengths they decide themselves.
fn choppings(data: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    let seed = data
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |seed, byte| (seed ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    let halves = data.split_at(seed as usize % (data.len() + 1));
    [data.chunks(1).collect(), vec![halves.0, halves.1], pieces(data, seed, 7), pieces(data, !seed, 64)].into_iter()
}

fn pieces(mut rest: &[u8], mut seed: u64, longest: usize) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        // An empty piece is one, too.
        let (piece, after) = rest.split_at((seed as usize % (longest + 1)).min(rest.len()));
        pieces.push(piece);
        rest = after;
        seed |= 1;
    }
    pieces
}
