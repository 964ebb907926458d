//! Weighted rendezvous hashing: where a name is at home, and where it goes when it cannot be there.

use std::sync::Arc;

/// The backends in the order in which `name` prefers them; one of weight 0 is left out.
///
/// The share of names that prefer a backend is its share of the weights. The order of two backends depends on nothing but the
/// name and these two, so adding or removing a backend moves only what comes to it or was there. It is the same in every
/// process.
pub(super) fn order(name: &str, backends: impl IntoIterator<Item = (Arc<str>, u32)>) -> Vec<Arc<str>> {
    let weighted = backends.into_iter().filter(|(_, weight)| *weight > 0);
    let mut ranked: Vec<_> = weighted.map(|(backend, weight)| (distance(name, &backend, weight), backend)).collect();
    ranked.sort_by(|(a, left), (b, right)| a.total_cmp(b).then_with(|| left.cmp(right)));
    ranked.into_iter().map(|(_, backend)| backend).collect()
}

/// Exponentially distributed over names, with the weight as its rate: the least of several is that of each with its share.
fn distance(name: &str, backend: &str, weight: u32) -> f64 {
    let uniform = ((hash(name, backend) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -uniform.ln() / f64::from(weight)
}

/// FNV-1a, and the finalizer of SplitMix64 to spread it over all bits.
fn hash(name: &str, backend: &str) -> u64 {
    let bytes = name.bytes().chain([0xff]).chain(backend.bytes());
    let mut hash =
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    use super::*;

    fn pool() -> impl Strategy<Value = Vec<(Arc<str>, u32)>> {
        btree_map("[a-z]{1,8}", 1_u32..100, 1..12).prop_map(|m| m.into_iter().map(|(n, w)| (n.into(), w)).collect())
    }

    proptest! {
        #[test]
        fn removal_moves_only_what_was_there(pool in pool(), gone in any::<prop::sample::Index>(), name in ".{0,20}") {
            let gone = gone.index(pool.len());
            let mut left = pool.clone();
            let (removed, _) = left.remove(gone);
            let expected: Vec<_> = order(&name, pool).into_iter().filter(|backend| *backend != removed).collect();
            prop_assert_eq!(order(&name, left), expected);
        }

        #[test]
        fn every_backend_with_a_weight_is_there_once(pool in pool(), drained in vec(any::<bool>(), 12), name in ".{0,20}") {
            let pool: Vec<_> = pool.into_iter().zip(drained).map(|((n, w), d)| (n, if d { 0 } else { w })).collect();
            let mut found = order(&name, pool.clone());
            found.sort();
            let expected: Vec<_> = pool.into_iter().filter(|(_, w)| *w > 0).map(|(n, _)| n).collect();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn shares_follow_weights() {
        let pool = [("a", 1), ("b", 2), ("c", 5)].map(|(name, weight)| (Arc::from(name), weight));
        let mut counts = std::collections::BTreeMap::new();
        for i in 0..8_000 {
            *counts.entry(order(&format!("client-{i}"), pool.clone())[0].to_string()).or_insert(0) += 1;
        }
        for (name, expected) in [("a", 1_000_f64), ("b", 2_000.0), ("c", 5_000.0)] {
            let share = f64::from(counts[name]);
            assert!((share - expected).abs() < expected * 0.1, "{name} got {share} of {expected}");
        }
    }

    #[test]
    fn is_the_same_in_every_process() {
        let pool = ["a", "b", "c", "d"].map(|name| (Arc::from(name), 1));
        let order = order("team-a", pool).join(",");
        assert_eq!(order, "a,d,b,c", "changing the hash moves every client of every deployed gateway");
    }
}
