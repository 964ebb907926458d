//! Captures as lines of JSON in files. A thread of its own writes them; nobody waits for the disk, or fails with it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use super::{Captured, Sink};

mod disk;
mod queue;
mod writer;

use self::disk::Directory;
use self::queue::Queue;
use self::writer::Writer;

/// From which size on a new file is begun by default: 64 MiB.
const ROTATE: u64 = 64 << 20;
/// Time for which files are kept by default: 7 days.
const KEEP: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Bytes that may wait for the disk by default: 8 MiB.
const QUEUE: usize = 8 << 20;

/// Writes captures into files of a directory, one line of JSON each.
///
/// 1. A file is `capture-DAY-TIME-PROCESS-NUMBER.jsonl`, for its owner only (mode 0600). A new one is begun each day (by UTC), by each
///    process, and when the next line would make it longer than [`rotate`](JsonLinesBuilder::rotate).
/// 2. Files that nobody has written to for [`keep`](JsonLinesBuilder::keep) are deleted, whichever process wrote them.
/// 3. Lines wait in a queue of [`queue`](JsonLinesBuilder::queue) bytes. What finds no room there, or none on the disk, is
///    [dropped and counted](Self::dropped): there are no half lines.
///
/// Clones share the files. When the last one is gone, what waits is still written.
#[derive(Clone)]
pub struct JsonLines(Arc<Handle>);

struct Handle(Arc<Queue>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Collects settings; made by [`JsonLines::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct JsonLinesBuilder {
    directory: PathBuf,
    rotate: u64,
    keep: Duration,
    queue: usize,
}

impl JsonLines {
    /// Files in this directory, which is made where there is none.
    pub fn builder(directory: impl Into<PathBuf>) -> JsonLinesBuilder {
        JsonLinesBuilder { directory: directory.into(), rotate: ROTATE, keep: KEEP, queue: QUEUE }
    }

    /// Number of captures that were not written.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.0.0.dropped()
    }

    /// Waits until everything is written, at most so long. It blocks: for the end of a process.
    pub fn finish(&self, patience: Duration) {
        self.0.0.drained(patience);
    }
}

impl JsonLinesBuilder {
    /// The longest file, in bytes, one with a single longer line aside.
    pub const fn rotate(mut self, bytes: u64) -> Self {
        self.rotate = bytes;
        self
    }

    /// Keeps files for so long.
    pub const fn keep(mut self, time: Duration) -> Self {
        self.keep = time;
        self
    }

    /// Lets so many bytes wait for the disk at most.
    pub const fn queue(mut self, bytes: usize) -> Self {
        self.queue = bytes;
        self
    }

    /// Starts the thread that writes.
    ///
    /// # Errors
    /// The directory cannot be made or written to, or there is no thread.
    pub fn build(self) -> std::io::Result<JsonLines> {
        let mut directory = Directory::new(self.directory)?;
        directory.sweep(self.keep, SystemTime::now());
        let queue = Arc::new(Queue::new(self.queue));
        let writer = Writer::new(directory, self.rotate, self.keep);
        let of_thread = queue.clone();
        thread::Builder::new().name("capture".to_owned()).spawn(move || writer.run(&of_thread))?;
        Ok(JsonLines(Arc::new(Handle(queue))))
    }
}

impl Sink for JsonLines {
    fn take(&self, captured: &Captured) {
        self.0.0.push(captured.to_json());
    }
}

impl fmt::Debug for JsonLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonLines").field("dropped", &self.dropped()).finish_non_exhaustive()
    }
}
