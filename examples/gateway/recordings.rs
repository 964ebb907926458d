//! Recordings of a running gateway: asked for, or written down when much goes wrong.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;
use tower_azure_openai::observe::{Record, Recorder};
use tower_azure_openai::recorder::FlightRecorder;

/// Path at which one is asked for.
pub(crate) const PATH: &str = "/recorder/dump";

/// So many answers of 500 and above within [`BURST_TIME`] are worth a recording.
const BURST: u32 = 50;
const BURST_TIME: Duration = Duration::from_secs(10);
/// Bursts write no more than one recording in this time, so that a bad night does not fill the disk.
const PAUSE: Duration = Duration::from_secs(600);

/// Writes recordings into a directory. Clones share what they know.
#[derive(Clone)]
pub(crate) struct Recordings {
    flight: FlightRecorder,
    directory: Arc<Mutex<Option<PathBuf>>>,
    errors: Arc<Mutex<Errors>>,
}

#[derive(Default)]
struct Errors {
    since: Option<Instant>,
    seen: u32,
    written: Option<Instant>,
}

/// A recording, or where it was written.
pub(crate) enum Dumped {
    File(PathBuf),
    Recording(Vec<u8>),
}

impl Recordings {
    pub(crate) fn new(flight: FlightRecorder) -> Self {
        Self { flight, directory: Arc::default(), errors: Arc::default() }
    }

    pub(crate) const fn flight(&self) -> &FlightRecorder {
        &self.flight
    }

    pub(crate) fn set_directory(&self, directory: Option<PathBuf>) {
        *self.directory.lock().unwrap_or_else(PoisonError::into_inner) = directory;
    }

    /// Takes a recording on a thread of its own: copying and hashing some megabytes must not hold up requests.
    pub(crate) async fn dump(&self) -> std::io::Result<Dumped> {
        let (flight, directory) = (self.flight.clone(), self.directory());
        let taken = tokio::task::spawn_blocking(move || {
            let recording = flight.dump();
            match directory {
                Some(directory) => write(&directory, &recording).map(Dumped::File),
                None => Ok(Dumped::Recording(recording)),
            }
        });
        taken.await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
    }

    /// Writes a recording, and says so in the log.
    pub(crate) async fn write_down(&self, why: &'static str) {
        match self.dump().await {
            Ok(Dumped::File(path)) => tracing::info!(why, path = %path.display(), "a recording was written"),
            Ok(Dumped::Recording(_)) => tracing::warn!(why, "no recording was written: recorder.directory is empty"),
            Err(error) => tracing::error!(why, %error, "no recording was written"),
        }
    }

    fn directory(&self) -> Option<PathBuf> {
        self.directory.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Counts errors, of which a burst is written down.
impl Recorder for Recordings {
    fn record(&self, record: &Record) {
        let is_error = record.status.is_some_and(|status| status.is_server_error());
        if !is_error || self.directory().is_none() {
            return;
        }
        let is_due = self.errors.lock().unwrap_or_else(PoisonError::into_inner).count(Instant::now());
        if let (true, Ok(runtime)) = (is_due, tokio::runtime::Handle::try_current()) {
            let recordings = self.clone();
            runtime.spawn(async move { recordings.write_down("a burst of errors").await });
        }
    }
}

impl Errors {
    /// Tells whether this one makes a burst that is worth a recording.
    fn count(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.duration_since(since) > BURST_TIME) {
            (self.since, self.seen) = (Some(now), 0);
        }
        self.seen += 1;
        let is_rested = self.written.is_none_or(|written| now.duration_since(written) > PAUSE);
        if self.seen < BURST || !is_rested {
            return false;
        }
        self.written = Some(now);
        true
    }
}

/// Under a name of its own, of which nobody else can read it.
fn write(directory: &Path, recording: &[u8]) -> std::io::Result<PathBuf> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let path = directory.join(format!("aoai-{}-{}.rec", now.as_millis(), std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    let written = file.write_all(recording).and_then(|()| file.sync_all());
    if let Err(error) = written {
        // Half a recording is of no use.
        let _ = std::fs::remove_file(&path);
        return Err(error);
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_written_down_once() {
        let mut errors = Errors::default();
        let start = Instant::now();
        let due = |errors: &mut Errors, at: Duration| errors.count(start + at);
        for second in 0..200 {
            assert!(!due(&mut errors, Duration::from_secs(second)), "one each second is no burst");
        }
        let later = Duration::from_secs(300);
        let written = (0..500).filter(|millis| due(&mut errors, later + Duration::from_millis(*millis))).count();
        assert_eq!(written, 1);
        let much_later = later + PAUSE + Duration::from_secs(1);
        let again = (0..500).filter(|millis| due(&mut errors, much_later + Duration::from_millis(*millis))).count();
        assert_eq!(again, 1);
    }
}
