use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use super::SERIES;

/// Figures by what they are about; what comes after [`SERIES`] of these is about nothing.
#[derive(Debug)]
pub(super) struct Table<K, V>(Mutex<HashMap<Option<K>, V>>);

impl<K: Eq + Hash, V> Table<K, V> {
    pub(super) fn change(&self, key: K, new: impl FnOnce() -> V, change: impl FnOnce(&mut V)) {
        let mut figures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = Some(key);
        let key = if figures.len() < SERIES || figures.contains_key(&key) { key } else { None };
        change(figures.entry(key).or_insert_with(new));
    }

    pub(super) fn each(&self, mut of: impl FnMut(Option<&K>, &V)) {
        let figures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        figures.iter().for_each(|(key, value)| of(key.as_ref(), value));
    }
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_is_counted_together() {
        let table: Table<usize, u64> = Table::default();
        for key in 0..2 * SERIES {
            table.change(key % (SERIES + 5), || 0, |count| *count += 1);
        }
        let (mut series, mut all, mut others) = (0, 0, 0);
        table.each(|key, count| {
            series += 1;
            all += count;
            if key.is_none() {
                others = *count;
            }
        });
        assert_eq!((series, all, others), (SERIES + 1, 2 * SERIES as u64, 5));
    }
}
