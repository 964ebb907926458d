//! Home of a name, and the way on when it cannot be there: by [rendezvous].

use std::sync::Arc;

use crate::azure::stable_hash;
use crate::pool::rendezvous;

/// The backends in the order in which `name` prefers them; one of weight 0 is left out.
///
/// The share of names that prefer a backend is its share of the weights. The order of two backends depends on nothing but the
/// name and these two, so adding or removing a backend moves only what comes to it or was there. It is the same in every
/// process.
pub(super) fn order(name: &str, backends: impl IntoIterator<Item = (Arc<str>, u32)>) -> Vec<Arc<str>> {
    let key = stable_hash([name.as_bytes()]);
    let score = |backend: &str, weight| {
        rendezvous::score(f64::from(weight), rendezvous::draw(key, stable_hash([backend.as_bytes()])))
    };
    let weighted = backends.into_iter().filter(|(_, weight)| *weight > 0);
    let mut ranked: Vec<_> = weighted.map(|(backend, weight)| (score(&backend, weight), backend)).collect();
    ranked.sort_by(|(a, left), (b, right)| b.total_cmp(a).then_with(|| left.cmp(right)));
    ranked.into_iter().map(|(_, backend)| backend).collect()
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
        assert_eq!(order, "b,c,a,d", "changing the hash moves every client of every deployed gateway");
    }
}
