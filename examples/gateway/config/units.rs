//! Durations and sizes, which are strings with a unit.

use std::time::Duration;

/// Longer than any sensible setting and short enough to be added to any clock.
const MAX_DURATION: Duration = Duration::from_secs(8760 * 60 * 60);
const MAX_SIZE: u64 = 1 << 40;

/// `250ms`, `10s`, `2m`, `1h`, `7d`; at most a year.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let malformed = "must be a duration such as \"250ms\", \"10s\", \"2m\", \"1h\" or \"7d\"";
    let (number, unit) = split(text).ok_or(malformed)?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 60 * 60 * 1000,
        "d" => 24 * 60 * 60 * 1000,
        "" => return Err("has no unit: ms, s, m, h or d".to_owned()),
        _ => return Err(malformed.to_owned()),
    };
    scale(number, millis)
        .map(Duration::from_millis)
        .filter(|duration| *duration <= MAX_DURATION)
        .ok_or_else(|| "is too long: at most \"8760h\"".to_owned())
}

/// `512B`, `64KiB`, `4MiB`, `1GiB`; at most a tebibyte.
pub(super) fn size(text: &str) -> Result<usize, String> {
    let malformed = "must be a size such as \"512B\", \"64KiB\", \"4MiB\" or \"1GiB\"";
    let (number, unit) = split(text).ok_or(malformed)?;
    let bytes = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "" => return Err("has no unit: B, KiB, MiB or GiB".to_owned()),
        _ => return Err(malformed.to_owned()),
    };
    scale(number, bytes)
        .filter(|size| *size <= MAX_SIZE)
        .and_then(|size| usize::try_from(size).ok())
        .ok_or_else(|| "is too large: at most \"1024GiB\"".to_owned())
}

fn split(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at_checked(end).filter(|(number, _)| !number.is_empty())
}

/// `None` when the result does not fit.
fn scale(number: &str, unit: u64) -> Option<u64> {
    number.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_durations() {
        for (text, millis) in
            [("0s", 0), ("250ms", 250), ("10s", 10_000), ("2m", 120_000), ("1h", 3_600_000), ("7d", 604_800_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(duration("8760h"), Ok(MAX_DURATION));
    }

    #[test]
    fn reads_sizes() {
        for (text, bytes) in [("0B", 0), ("7B", 7), ("64KiB", 65_536), ("4MiB", 4_194_304), ("1GiB", 1_073_741_824)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn refuses_everything_else() {
        for text in ["", "s", "-1s", "+1s", "1.5s", "10 s", " 10s", "10s ", "1m30s", "10S", "10sec", "10µs", "١s"] {
            assert!(duration(text).is_err_and(|e| e.starts_with("must be a duration")), "{text:?}");
        }
        for text in ["", "KiB", "-1B", "1.5MiB", "64 KiB", "64kib", "64K", "64KB", "64MB"] {
            assert!(size(text).is_err_and(|e| e.starts_with("must be a size")), "{text:?}");
        }
        assert_eq!(duration("10"), Err("has no unit: ms, s, m, h or d".to_owned()));
        assert_eq!(size("10"), Err("has no unit: B, KiB, MiB or GiB".to_owned()));
        for text in ["8761h", "366d", "18446744073709551615h", "18446744073709551616ms"] {
            assert!(duration(text).is_err_and(|e| e.starts_with("is too long")), "{text:?}");
        }
        for text in ["1025GiB", "18446744073709551615GiB", "99999999999999999999B"] {
            assert!(size(text).is_err_and(|e| e.starts_with("is too large")), "{text:?}");
        }
    }
}
