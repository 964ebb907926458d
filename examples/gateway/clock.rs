//! The time of lines of the log: as tracing's own clock writes it, of which all but the fraction is the same for a second.

use std::cell::RefCell;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{self, FormatTime};

/// Bytes up to the seconds, as in `2026-11-28T19:05:00`.
const WHOLE: usize = 19;

thread_local! {
    /// The last second that was written, and how.
    static LAST: RefCell<Option<(u64, String)>> = const { RefCell::new(None) };
}

/// Writes what tracing's own clock would.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock;

impl FormatTime for Clock {
    fn format_time(&self, line: &mut Writer<'_>) -> fmt::Result {
        let Ok(now) = SystemTime::now().duration_since(UNIX_EPOCH) else { return time::SystemTime.format_time(line) };
        LAST.with_borrow_mut(|last| match last {
            Some((second, text)) if *second == now.as_secs() => write!(line, "{text}.{:06}Z", now.subsec_micros()),
            _ => {
                let mut text = String::new();
                time::SystemTime.format_time(&mut Writer::new(&mut text))?;
                line.write_str(&text)?;
                *last = second().filter(|second| *second == now.as_secs()).and_then(|second| {
                    text.truncate(WHOLE);
                    (text.len() == WHOLE).then_some((second, text))
                });
                Ok(())
            }
        })
    }
}

fn second() -> Option<u64> {
    SystemTime::now().duration_since(UNIX_EPOCH).ok().map(|now| now.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(clock: impl FormatTime) -> String {
        let mut text = String::new();
        clock.format_time(&mut Writer::new(&mut text)).unwrap();
        text
    }

    #[test]
    fn tells_the_time_as_the_usual_clock_does() {
        for _ in 0..1_000 {
            let (before, told, after) = (written(time::SystemTime), written(Clock), written(time::SystemTime));
            assert!(before <= told && told <= after, "{before} {told} {after}");
            assert_eq!(told.len(), before.len());
        }
    }
}
