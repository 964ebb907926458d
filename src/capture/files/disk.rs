use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::date;

/// Place in which files are made.
pub(super) trait Disk {
    type File: Write;

    /// A new file, for its owner only.
    fn create(&mut self, now: SystemTime) -> io::Result<Self::File>;

    /// Takes off what was written behind so many bytes.
    fn cut(&self, file: &Self::File, length: u64) -> io::Result<()>;

    /// Deletes what is older.
    fn sweep(&mut self, keep: Duration, now: SystemTime);
}

#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    number: u64,
    current: Option<PathBuf>,
}

impl Directory {
    pub(super) fn new(path: PathBuf) -> io::Result<Self> {
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&path)?;
        fs::read_dir(&path)?;
        Ok(Self { path, number: 0, current: None })
    }

    pub(super) fn sweep(&mut self, keep: Duration, now: SystemTime) {
        let Ok(entries) = fs::read_dir(&self.path) else { return };
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            if is_ours(&path) && self.current.as_ref() != Some(&path) && is_older(&path, keep, now) {
                // Another process may have been quicker.
                let _ = fs::remove_file(&path);
            }
        }
    }
}

fn is_ours(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.starts_with("capture-") && path.extension().is_some_and(|extension| extension == "jsonl")
}

fn is_older(path: &Path, keep: Duration, now: SystemTime) -> bool {
    let written = fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
    written.is_ok_and(|written| now.duration_since(written).is_ok_and(|age| age > keep))
}

impl Disk for Directory {
    type File = File;

    fn create(&mut self, now: SystemTime) -> io::Result<File> {
        let moment = date::moment(now.duration_since(UNIX_EPOCH).unwrap_or_default());
        let moment: String = moment.chars().take("2026-11-28T15:36:32".len()).filter(|c| *c != ':').collect();
        let mut options = OpenOptions::new();
        options.append(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        loop {
            self.number += 1;
            let path = self.path.join(format!("capture-{moment}-{}-{}.jsonl", process::id(), self.number));
            match options.open(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                opened => {
                    self.current = opened.is_ok().then_some(path);
                    return opened;
                }
            }
        }
    }

    fn cut(&self, file: &File, length: u64) -> io::Result<()> {
        file.set_len(length)
    }

    fn sweep(&mut self, keep: Duration, now: SystemTime) {
        Self::sweep(self, keep, now);
    }
}
