//! Reading the configuration again, however long its files take.

use std::path::PathBuf;
use std::thread;

use tokio::sync::mpsc;

use crate::admin::Reloaded;
use crate::config::{Config, Loaded, Problems, Sources};

/// Reads on a thread of its own, for a file may hang: one at a time, and once more when that was asked for meanwhile.
pub(crate) struct Reloads {
    file: Option<PathBuf>,
    is_reading: bool,
    /// Askers who wait for what is being read.
    waiting: Vec<Reloaded>,
    is_wanted: bool,
    /// Askers who came too late for that.
    late: Vec<Reloaded>,
    read: mpsc::UnboundedReceiver<Result<Config, Problems>>,
    reader: mpsc::UnboundedSender<Result<Config, Problems>>,
}

impl Reloads {
    /// Without a file there is nothing to read again.
    pub(crate) fn of(file: Option<PathBuf>) -> Self {
        let (reader, read) = mpsc::unbounded_channel();
        Self { file, is_reading: false, waiting: Vec::new(), is_wanted: false, late: Vec::new(), read, reader }
    }

    /// Reads, and remembers who wants to know what comes of it.
    pub(crate) fn begin(&mut self, waiting: Option<Reloaded>) {
        let Some(file) = self.file.clone() else {
            let none = || Err("there is no configuration file to be read again\n".to_owned());
            waiting.into_iter().for_each(|reloaded| drop(reloaded.send(none())));
            return;
        };
        if self.is_reading {
            self.is_wanted = true;
            self.late.retain(|reloaded| !reloaded.is_closed());
            self.late.extend(waiting);
            tracing::warn!("the configuration is still being read: one of its files does not come");
            return;
        }
        let reader = self.reader.clone();
        // Nobody is left to tell when the process ends meanwhile.
        let run = move || drop(reader.send(Config::load(&file, &Sources::PROCESS).map(Loaded::told)));
        match thread::Builder::new().name("reload".to_owned()).spawn(run) {
            Ok(_) => {
                self.is_reading = true;
                self.waiting.extend(waiting);
            }
            Err(error) => {
                tracing::error!(%error, "the configuration was not reloaded");
                waiting.into_iter().for_each(|reloaded| drop(reloaded.send(Err(format!("{error}\n")))));
            }
        }
    }

    /// Returns what was read, and who wants to know what comes of it. Cancelling loses nothing.
    pub(crate) async fn next(&mut self) -> (Result<Config, Problems>, Vec<Reloaded>) {
        // The sender lives as long as `self`.
        let Some(read) = self.read.recv().await else { return std::future::pending().await };
        self.is_reading = false;
        let waiting = std::mem::take(&mut self.waiting);
        if std::mem::take(&mut self.is_wanted) {
            self.begin(None);
            self.waiting.append(&mut self.late);
        }
        (read, waiting)
    }
}
