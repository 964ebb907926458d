//! A Redis of a test's own.
#![allow(dead_code, reason = "each test uses some of it")]

use std::io::Write;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// A server on a port that nobody else has; killed when it is dropped.
pub(crate) struct Redis {
    child: Child,
    port: u16,
    directory: PathBuf,
    options: Vec<String>,
}

impl Redis {
    /// `None` where there is no `redis-server`, which is told whatever the test runner hides.
    pub(crate) fn start(options: &[&str]) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let name = format!("redis-{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let options: Vec<_> = options.iter().map(|option| (*option).to_owned()).collect();
        match spawn(port, &directory, &options) {
            Ok(child) => Some(Self { child, port, directory, options }),
            Err(error) => {
                let missing = format!("NOT TESTED, for want of redis-server ({error}): {}\n", test());
                std::io::stderr().write_all(missing.as_bytes()).unwrap();
                None
            }
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// What it answers to a command, by `redis-cli`.
    pub(crate) fn ask(&self, command: &[&str]) -> String {
        let mut program = Command::new("redis-cli");
        let output = program.args(["-p", &self.port.to_string()]).args(command).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Ends it at once, and what it knew with it.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn restart(&mut self) {
        self.child = spawn(self.port, &self.directory, &self.options).unwrap();
    }

    /// `STOP` or `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn test() -> String {
    std::thread::current().name().unwrap_or("a test").to_owned()
}

fn spawn(port: u16, directory: &PathBuf, options: &[String]) -> std::io::Result<Child> {
    let mut program = Command::new("redis-server");
    program.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"]);
    program.arg(directory).args(options).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = program.spawn()?;
    // It listens soon; whoever is refused comes again.
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        std::thread::yield_now();
    }
    Ok(child)
}
