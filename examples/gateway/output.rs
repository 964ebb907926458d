//! Output of the program: nobody who serves a request ever waits for its reader, or fails with it.
//!
//! Lines go into a bounded queue in memory, from which a thread of its own writes. What has no room is dropped and counted; when
//! the reader takes lines again, one of them says how many are missing. A reader always gets whole lines.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Bytes that wait for each reader.
const QUEUE: usize = 1 << 20;
/// Bytes of the longest line; the rest of it is cut.
const LONGEST_LINE: usize = 64 << 10;
/// Bytes of the longest value that a client can put there.
const LONGEST_VALUE: usize = 1 << 10;
/// Time for which a descriptor that others made non-blocking is left alone when it is full.
const FULL_PAUSE: Duration = Duration::from_millis(10);
/// Time for which lines gather after some were written: waking the writer for each costs more than writing it.
const GATHERING: Duration = Duration::from_millis(5);
/// Time for which the end of the process waits for a reader.
const PATIENCE: Duration = Duration::from_secs(1);

static STDOUT: LazyLock<Output> = LazyLock::new(|| Output::start(&io::stdout()));
static STDERR: LazyLock<Output> = LazyLock::new(|| Output::start(&io::stderr()));

/// Writes to the standard output.
pub(crate) fn print(text: &str) {
    text.lines().for_each(|line| STDOUT.queue.push(line.as_bytes()));
}

/// Writes to the standard error.
pub(crate) fn complain(text: &str) {
    text.lines().for_each(|line| STDERR.queue.push(line.as_bytes()));
}

/// Cuts what a client chose to the length that is logged.
pub(crate) fn cut(text: &str) -> &str {
    if text.len() <= LONGEST_VALUE {
        return text;
    }
    let end = (0..=LONGEST_VALUE).rev().find(|end| text.is_char_boundary(*end));
    end.and_then(|end| text.get(..end)).unwrap_or_default()
}

/// Lines of the log that nobody took.
pub(crate) fn dropped() -> u64 {
    STDERR.queue.dropped.load(Relaxed)
}

/// Gives what was written a moment to reach its readers.
pub(crate) fn finish() {
    for output in [&STDOUT, &STDERR] {
        output.queue.drained(PATIENCE);
    }
}

/// Panics are told like everything else.
pub(crate) fn take_panics() {
    std::panic::set_hook(Box::new(|panicked| complain(&panicked.to_string())));
}

/// Sink of the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Log;

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        Self
    }
}

/// One event is one call.
impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        STDERR.queue.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Output {
    queue: &'static Queue,
}

impl Output {
    /// Without a descriptor or a thread there is nobody to read.
    fn start(descriptor: &impl AsFd) -> Self {
        let queue: &'static Queue = Box::leak(Box::default());
        let file = descriptor.as_fd().try_clone_to_owned().map(File::from);
        let writing = file.and_then(|file| {
            let run = move || Writer { file, is_within_line: false }.run(queue);
            thread::Builder::new().name("output".to_owned()).spawn(run)
        });
        queue.lock().is_closed = writing.is_err();
        Self { queue }
    }
}

/// Whole lines that wait.
#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    dropped: AtomicU64,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    /// The writer sleeps until there are lines.
    is_idle: bool,
    is_writing: bool,
    is_closed: bool,
}

impl Queue {
    /// Never blocks, never fails.
    fn push(&self, text: &[u8]) {
        let (text, is_cut) = match text.get(..LONGEST_LINE) {
            Some(start) => (start, text.len() > LONGEST_LINE),
            None => (text, false),
        };
        let mut state = self.lock();
        if state.is_closed || state.waiting.len() + text.len() >= QUEUE {
            self.dropped.fetch_add(1, Relaxed);
            return;
        }
        state.waiting.extend_from_slice(text);
        if is_cut || !text.ends_with(b"\n") {
            state.waiting.push(b'\n');
        }
        if state.is_idle {
            self.changed.notify_all();
        }
    }

    /// Waits for lines, and takes all that there are.
    fn take(&self) -> Vec<u8> {
        let mut state = self.lock();
        state.is_writing = false;
        self.changed.notify_all();
        let waits = |state: &mut State| {
            state.is_idle = state.waiting.is_empty();
            state.is_idle
        };
        let mut state = self.changed.wait_while(state, waits).unwrap_or_else(PoisonError::into_inner);
        state.is_writing = true;
        std::mem::take(&mut state.waiting)
    }

    fn drained(&self, patience: Duration) {
        let waits = |state: &mut State| !state.is_closed && (state.is_writing || !state.waiting.is_empty());
        drop(self.changed.wait_timeout_while(self.lock(), patience, waits));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Writer<W> {
    file: W,
    /// A line was begun that could not be ended.
    is_within_line: bool,
}

impl<W: Write> Writer<W> {
    fn run(mut self, queue: &Queue) {
        let mut told = 0;
        loop {
            let lines = queue.take();
            let lost = self.write(&lines);
            queue.dropped.fetch_add(lost, Relaxed);
            let dropped = queue.dropped.load(Relaxed);
            if lost == 0 && dropped > told {
                tracing::warn!(lines = dropped - told, "lines of the log were dropped: nobody took them");
                told = dropped;
            }
            thread::sleep(GATHERING);
        }
    }

    /// The number of lines that did not arrive as a whole.
    fn write(&mut self, lines: &[u8]) -> u64 {
        let opening: &[u8] = if self.is_within_line { b"\n" } else { b"" };
        if self.write_all(opening) < opening.len() {
            return count(lines);
        }
        let written = self.write_all(lines);
        let (written, lost) = lines.split_at(written);
        self.is_within_line = if written.is_empty() { false } else { !written.ends_with(b"\n") };
        count(lost)
    }

    /// The number of bytes that were taken.
    fn write_all(&mut self, bytes: &[u8]) -> usize {
        let mut left = bytes;
        while !left.is_empty() {
            match self.file.write(left) {
                Ok(0) => break,
                Ok(written) => left = left.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(FULL_PAUSE),
                Err(_) => break,
            }
        }
        bytes.len() - left.len()
    }
}

fn count(lines: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', lines).count() as u64
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Takes so many bytes with each call, or fails.
    struct Reader {
        takes: VecDeque<Option<usize>>,
        read: Vec<u8>,
    }

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let takes = self.takes.pop_front().unwrap_or(Some(usize::MAX)).ok_or(ErrorKind::StorageFull)?;
            let taken = bytes.get(..takes).unwrap_or(bytes);
            self.read.extend_from_slice(taken);
            Ok(taken.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn writer(takes: &[Option<usize>]) -> Writer<Reader> {
        Writer { file: Reader { takes: takes.iter().copied().collect(), read: Vec::new() }, is_within_line: false }
    }

    #[test]
    fn a_line_that_broke_off_is_ended_before_the_next() {
        let mut writer = writer(&[Some(3), None, None, Some(1)]);
        assert_eq!(writer.write(b"one\ntwo\n"), 2);
        assert_eq!(writer.write(b"three\n"), 1);
        assert_eq!(writer.write(b"four\nfive\n"), 0);
        assert_eq!(writer.file.read, b"one\nfour\nfive\n");
    }

    #[test]
    fn what_has_no_room_is_dropped_and_counted() {
        let queue = Queue::default();
        let line = [&[b'x'; 1023][..], b"\n"].concat();
        for _ in 0..2000 {
            queue.push(&line);
        }
        let taken = queue.take();
        assert!(taken.len() < QUEUE && taken.len() > QUEUE - 2048, "{}", taken.len());
        assert_eq!(count(&taken) + queue.dropped.load(Relaxed), 2000);
        assert!(taken.chunks(1024).all(|taken| taken == line));
    }

    #[test]
    fn a_line_has_an_end() {
        let queue = Queue::default();
        queue.push(&[b'x'; 3 * LONGEST_LINE]);
        queue.push(b"without");
        let taken = queue.take();
        assert_eq!((count(&taken), taken.len()), (2, LONGEST_LINE + 1 + 8));
        queue.lock().is_writing = false;
        queue.drained(Duration::from_secs(60));
    }

    #[test]
    fn a_value_is_cut_between_characters() {
        for (value, length) in [("", 0), ("short", 5), (&"x".repeat(2000), 1024), (&"\u{20ac}".repeat(1000), 1023)] {
            assert_eq!(cut(value), &value[..length]);
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_taken_is_whole_lines_or_the_start_of_one(
            takes in proptest::collection::vec(proptest::option::weighted(0.8, 1_usize..20), 0..40),
            batches in proptest::collection::vec(1_usize..5, 1..10),
        ) {
            let mut writer = writer(&takes);
            let (mut number, mut lost) = (0, 0);
            for lines in batches {
                let text: String = (0..lines).map(|_| { number += 1; format!("<line {number}>\n") }).collect();
                lost += writer.write(text.as_bytes());
            }
            let read = String::from_utf8(writer.file.read).unwrap();
            let whole = read.lines().filter(|line| line.starts_with('<') && line.ends_with('>')).count() as u64;
            // A line whose last byte alone was missing is counted as lost, and read all the same.
            proptest::prop_assert!(whole + lost >= number && whole <= number, "{read:?}");
            proptest::prop_assert!(read.lines().all(|line| "<line ".starts_with(line) || line.starts_with("<line ")));
            proptest::prop_assert!(read.lines().all(|line| line.matches('<').count() <= 1));
        }
    }
}
