//! The known word that a misspelt one was meant to be.

/// The known word with the fewest letters wrong, if these are few: one in three at most. Case and the kind of dash count for
/// nothing.
pub(super) fn of<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word = plain(word);
    let most = (word.len() / 3).max(1);
    let near = known.map(|known| (mistakes(&word, &plain(known)), known)).filter(|(wrong, _)| *wrong <= most);
    near.min_by_key(|(wrong, _)| *wrong).map(|(_, known)| known)
}

fn plain(word: &str) -> Vec<char> {
    // No key is longer, and what is compared with each of them has a bound.
    word.chars().take(64).map(|letter| if letter == '-' { '_' } else { letter.to_ascii_lowercase() }).collect()
}

/// Letters missing, added, replaced, or exchanged with their neighbours (optimal string alignment).
fn mistakes(a: &[char], b: &[char]) -> usize {
    let mut above: Vec<usize> = vec![0; b.len() + 1];
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let replaced = row[j] + usize::from(x != y);
            let mut fewest = replaced.min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                fewest = fewest.min(above[j - 1] + 1);
            }
            next.push(fewest);
        }
        above = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        let known = ["listen", "admin", "max_in_flight", "api_key_env", "session", "budget"];
        for (word, meant) in [
            ("lisen", Some("listen")),
            ("listten", Some("listen")),
            ("Listen", Some("listen")),
            ("sessions", Some("session")),
            ("bugdet", Some("budget")),
            ("max-inflight", Some("max_in_flight")),
            ("api-key-env", Some("api_key_env")),
            ("amdin", Some("admin")),
            ("x", None),
            ("", None),
            ("retry", None),
            ("weight", None),
        ] {
            assert_eq!(of(word, known.into_iter()), meant, "{word}");
        }
        assert_eq!(of(&"s".repeat(1 << 20), known.into_iter()), None);
    }

    #[test]
    fn counts_mistakes() {
        let count = |a: &str, b: &str| mistakes(&plain(a), &plain(b));
        assert_eq!(
            (count("", ""), count("abc", ""), count("", "ab"), count("ab", "ba"), count("abcd", "abxd")),
            (0, 3, 2, 1, 1)
        );
    }
}
