use std::io::{self, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::disk::Disk;
use super::queue::Queue;
use crate::date::Date;

/// Interval at which old files are looked for.
const SWEEP: Duration = Duration::from_secs(600);
/// Once in so long it is said that lines are lost.
const TELL: Duration = Duration::from_secs(60);

/// The one who writes.
pub(super) struct Writer<D: Disk> {
    disk: D,
    rotate: u64,
    keep: Duration,
    open: Option<Open<D::File>>,
    swept: SystemTime,
    told: SystemTime,
}

struct Open<F> {
    file: F,
    length: u64,
    day: Date,
}

impl<D: Disk> Writer<D> {
    pub(super) const fn new(disk: D, rotate: u64, keep: Duration) -> Self {
        Self { disk, rotate, keep, open: None, swept: UNIX_EPOCH, told: UNIX_EPOCH }
    }

    pub(super) fn run(mut self, queue: &Queue) {
        while let Some(lines) = queue.next(SWEEP) {
            for line in lines {
                let now = SystemTime::now();
                if let Err(error) = self.write(line, now) {
                    queue.lost();
                    self.tell(&error, now);
                }
            }
            self.tidy(SystemTime::now());
        }
    }

    /// All of the line, or nothing.
    fn write(&mut self, mut line: String, now: SystemTime) -> io::Result<()> {
        line.push('\n');
        let (day, more) = (day(now), line.len() as u64);
        let is_full = |open: &Open<D::File>| open.day != day || open.length > 0 && open.length + more > self.rotate;
        if self.open.as_ref().is_some_and(is_full) {
            self.open = None;
        }
        if self.open.is_none() {
            self.disk.sweep(self.keep, now);
            self.open = Some(Open { file: self.disk.create(now)?, length: 0, day });
        }
        let Some(open) = &mut self.open else { return Ok(()) };
        match open.file.write_all(line.as_bytes()) {
            Ok(()) => {
                open.length += more;
                Ok(())
            }
            Err(error) => {
                // Where not even that works, nothing more is added to this file.
                if self.disk.cut(&open.file, open.length).is_err() {
                    self.open = None;
                }
                Err(error)
            }
        }
    }

    fn tidy(&mut self, now: SystemTime) {
        if now.duration_since(self.swept).is_ok_and(|since| since >= SWEEP) {
            self.swept = now;
            self.disk.sweep(self.keep, now);
        }
    }

    fn tell(&mut self, error: &io::Error, now: SystemTime) {
        if now.duration_since(self.told).is_ok_and(|since| since >= TELL) {
            self.told = now;
            tracing::warn!(%error, "captures are dropped: they cannot be written");
        }
    }
}

fn day(now: SystemTime) -> Date {
    Date::of(now.duration_since(UNIX_EPOCH).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use proptest::prelude::*;

    use super::*;

    /// Takes so many bytes in all, and the beginning of what does not fit.
    #[derive(Clone, Default)]
    struct Memory(Rc<RefCell<Files>>);

    #[derive(Default)]
    struct Files {
        room: usize,
        files: Vec<Vec<u8>>,
    }

    struct Nth(Memory, usize);

    impl Write for Nth {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut files = self.0.0.borrow_mut();
            let taken = bytes.len().min(files.room);
            if taken == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            files.room -= taken;
            files.files[self.1].extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Disk for Memory {
        type File = Nth;

        fn create(&mut self, _: SystemTime) -> io::Result<Nth> {
            let mut files = self.0.borrow_mut();
            files.files.push(Vec::new());
            Ok(Nth(self.clone(), files.files.len() - 1))
        }

        fn cut(&self, file: &Nth, length: u64) -> io::Result<()> {
            let mut files = self.0.borrow_mut();
            let over = files.files[file.1].split_off(length as usize);
            files.room += over.len();
            Ok(())
        }

        fn sweep(&mut self, _: Duration, _: SystemTime) {}
    }

    const NOON: SystemTime = UNIX_EPOCH;

    #[test]
    fn a_new_file_is_begun_by_size_and_by_day() {
        let memory = Memory::default();
        memory.0.borrow_mut().room = usize::MAX;
        let mut writer = Writer::new(memory.clone(), 10, Duration::ZERO);
        for (line, day) in [("12345", 0), ("123", 0), ("1", 0), ("12345678901234", 0), ("1", 0), ("1", 1)] {
            writer.write(line.to_owned(), NOON + Duration::from_secs(day * 86_400)).unwrap();
        }
        let files: Vec<_> =
            memory.0.borrow().files.iter().map(|file| String::from_utf8_lossy(file).into_owned()).collect();
        assert_eq!(files, ["12345\n123\n", "1\n", "12345678901234\n", "1\n", "1\n"]);
    }

    proptest! {
        #[test]
        fn a_full_disk_leaves_whole_lines_and_takes_up_again(
            lengths in proptest::collection::vec(1_usize..40, 1..40), room in 0_usize..400, more in 0_usize..400,
        ) {
            let memory = Memory::default();
            memory.0.borrow_mut().room = room;
            let mut writer = Writer::new(memory.clone(), 100, Duration::ZERO);
            let mut expected = Vec::new();
            for (at, length) in lengths.iter().enumerate() {
                if at == lengths.len() / 2 {
                    memory.0.borrow_mut().room += more;
                }
                let line = "x".repeat(*length);
                let fits = memory.0.borrow().room > *length;
                prop_assert_eq!(writer.write(line.clone(), NOON).is_ok(), fits);
                if fits {
                    expected.push(line);
                }
            }
            let written: String = memory.0.borrow().files.iter().map(|file| String::from_utf8_lossy(file).into_owned()).collect();
            prop_assert!(written.is_empty() || written.ends_with('\n'));
            prop_assert_eq!(written.lines().map(str::to_owned).collect::<Vec<_>>(), expected);
        }
    }
}
