//! Reading the configuration again, however long its files take.

use std::path::PathBuf;
use std::thread;

use tokio::sync::mpsc;

use crate::config::{Config, Problems};
use crate::{Weaknesses, load};

/// Reads on a thread of its own, for a file may hang: one at a time, and once more when that was asked for meanwhile.
pub(crate) struct Reloads {
    file: Option<PathBuf>,
    is_reading: bool,
    is_wanted: bool,
    read: mpsc::UnboundedReceiver<Result<Config, Problems>>,
    reader: mpsc::UnboundedSender<Result<Config, Problems>>,
}

impl Reloads {
    /// Without a file there is nothing to read again.
    pub(crate) fn of(file: Option<PathBuf>) -> Self {
        let (reader, read) = mpsc::unbounded_channel();
        Self { file, is_reading: false, is_wanted: false, read, reader }
    }

    pub(crate) fn begin(&mut self) {
        let Some(file) = self.file.clone() else { return };
        if self.is_reading {
            self.is_wanted = true;
            tracing::warn!("the configuration is still being read: one of its files does not come");
            return;
        }
        let reader = self.reader.clone();
        // Nobody is left to tell when the process ends meanwhile.
        let run = move || drop(reader.send(load(&file, Weaknesses::Told)));
        match thread::Builder::new().name("reload".to_owned()).spawn(run) {
            Ok(_) => self.is_reading = true,
            Err(error) => tracing::error!(%error, "the configuration was not reloaded"),
        }
    }

    /// What was read. Cancelling loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Config, Problems> {
        // The sender lives as long as `self`.
        let Some(read) = self.read.recv().await else { return std::future::pending().await };
        self.is_reading = false;
        if std::mem::take(&mut self.is_wanted) {
            self.begin();
        }
        read
    }
}
