//! The gateway as a child process.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::http_support::{Answer, get, soon};

/// What tests that do not care about logs, limits and timeouts use.
pub(crate) const LISTEN: &str = "listen = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n";

/// A file in a directory of its own.
pub(crate) fn file(text: &str) -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("gateway-{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join("gateway.toml");
    std::fs::write(&file, text).unwrap();
    file
}

/// Backends with the deployment `gpt-4o` and the key `key-of-NAME`, the first in the first priority group, and so on.
pub(crate) fn backends(described: &[(&str, &str)]) -> String {
    let table = |(priority, (name, url)): (usize, &(&str, &str))| {
        format!(
            "[[backends]]\nname = \"{name}\"\nendpoint = \"{url}\"\npriority = {priority}\n\
             credential = {{ api_key = \"key-of-{name}\" }}\ndeployments = [{{ name = \"gpt-4o\" }}]\n"
        )
    };
    described.iter().enumerate().map(table).collect()
}

/// A client `team` with this key.
pub(crate) fn client(key: &str) -> String {
    format!("[[clients]]\nid = \"team\"\nkey = \"{key}\"\n")
}

/// What a process has written so far, and is going to.
#[derive(Clone)]
pub(crate) struct Output(watch::Receiver<String>);

impl Output {
    fn read(from: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let (text, seen) = watch::channel(String::new());
        tokio::spawn(async move {
            let (mut from, mut line) = (BufReader::new(from), Vec::new());
            while from.read_until(b'\n', &mut line).await.is_ok_and(|read| read > 0) {
                text.send_modify(|text| text.push_str(&String::from_utf8_lossy(&line)));
                line.clear();
            }
        });
        Self(seen)
    }

    pub(crate) fn text(&self) -> String {
        self.0.borrow().clone()
    }

    /// The lines that contain all of these, in order.
    pub(crate) fn lines(&self, wanted: &[&str]) -> Vec<String> {
        let text = self.0.borrow();
        text.lines().filter(|line| wanted.iter().all(|part| line.contains(part))).map(str::to_owned).collect()
    }

    /// Waits until what was written is as wanted.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&str) -> bool) {
        drop(self.0.wait_for(|text| wanted(text)).await);
    }

    /// Waits for a line that contains all of these.
    pub(crate) async fn line(&mut self, wanted: &[&str]) -> String {
        let has = |line: &str| wanted.iter().all(|part| line.contains(part));
        let found = soon(&format!("a line with {wanted:?}"), self.0.wait_for(|text| text.lines().any(has))).await;
        let text = found.unwrap_or_else(|_| panic!("the process ended without a line with {wanted:?}")).clone();
        text.lines().find(|line| has(line)).unwrap().to_owned()
    }

    /// Waits for so many lines that contain all of these.
    pub(crate) async fn count(&mut self, wanted: &[&str], number: usize) {
        let has = |line: &&str| wanted.iter().all(|part| line.contains(part));
        let reached = self.0.wait_for(|text| text.lines().filter(has).count() >= number);
        drop(soon(&format!("{number} lines with {wanted:?}"), reached).await.unwrap());
    }

    /// Everything, once the process has closed it.
    async fn whole(&mut self) -> String {
        soon("the end of the output", async { while self.0.changed().await.is_ok() {} }).await;
        self.text()
    }
}

/// What a gateway has written down of the requests of a test, if it did: looked through when the gateway is gone.
///
/// With `CAPTURE_EVERYTHING` in the environment all do whose file says nothing of it.
struct Captures(Option<PathBuf>);

/// How every credential of these tests begins.
const CREDENTIALS: [&str; 5] = ["Bearer ", "ek_", "eyJ", "key-of-", "nobodys-key"];

impl Captures {
    fn of(config: &Path) -> Self {
        if std::env::var_os("CAPTURE_EVERYTHING").is_none() {
            return Self(None);
        }
        let text = std::fs::read_to_string(config).unwrap();
        let directory = config.with_extension("captures");
        if !text.contains("[capture]") {
            let more = format!("\n[capture]\nsink = \"jsonl\"\ndirectory = {directory:?}\nbody = \"1MiB\"\n");
            std::fs::write(config, text + &more).unwrap();
        }
        Self(Some(directory))
    }
}

impl Drop for Captures {
    fn drop(&mut self) {
        let Some(files) = self.0.take().and_then(|directory| std::fs::read_dir(directory).ok()) else { return };
        if std::thread::panicking() {
            return;
        }
        for file in files {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            for line in text.lines() {
                assert!(!CREDENTIALS.iter().any(|credential| line.contains(credential)), "a credential: {line}");
            }
        }
    }
}

/// A running gateway; killed when it is dropped.
pub(crate) struct Gateway {
    child: Child,
    _captures: Captures,
    pub(crate) url: String,
    pub(crate) stdout: Output,
    pub(crate) stderr: Output,
}

fn program() -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_aoai-gateway"));
    program.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    program
}

impl Gateway {
    /// Starts it with a configuration, and waits until it listens.
    pub(crate) async fn start(config: &str) -> Self {
        Self::start_file(&file(config)).await
    }

    pub(crate) async fn start_file(file: &Path) -> Self {
        let captures = Captures::of(file);
        Self { _captures: captures, ..Self::spawn([OsStr::new("--config"), file.as_os_str()]).await }
    }

    pub(crate) async fn spawn(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        Self::running(program().args(args)).await
    }

    /// With variables in its environment.
    pub(crate) async fn start_with(file: &Path, environment: &[(&str, &str)]) -> Self {
        let captures = Captures::of(file);
        let running = Self::running(program().arg("--config").arg(file).envs(environment.iter().copied())).await;
        Self { _captures: captures, ..running }
    }

    /// With so many files that it may have open.
    pub(crate) async fn start_with_descriptors(number: u32, config: &str) -> Self {
        let (program, mut shell) = (program(), Command::new("sh"));
        shell.args(["-c", &format!("ulimit -n {number}; exec \"$0\" \"$@\"")]);
        shell.arg(program.as_std().get_program()).arg("--config").arg(file(config));
        shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        Self::running(&mut shell).await
    }

    /// Its log goes there, and is not read here.
    pub(crate) async fn start_logging_to(log: impl Into<Stdio>, config: &str) -> Self {
        Self::running(program().arg("--config").arg(file(config)).stderr(log)).await
    }

    async fn running(program: &mut Command) -> Self {
        let mut child = program.spawn().unwrap();
        let mut stdout = Output::read(child.stdout.take().unwrap());
        let stderr = child.stderr.take().map_or_else(|| Output::read(tokio::io::empty()), Output::read);
        let line = stdout.line(&["listening on "]).await;
        Self { url: line.replace("listening on ", ""), child, _captures: Captures(None), stdout, stderr }
    }

    pub(crate) async fn admin(&mut self) -> String {
        self.stdout.line(&["admin on "]).await.replace("admin on ", "")
    }

    pub(crate) async fn status(&mut self) -> serde_json::Value {
        let admin = self.admin().await;
        get(format!("{admin}/status")).await.json()
    }

    /// Asks for the status page until it is as wanted.
    pub(crate) async fn status_becomes(&mut self, what: &str, wanted: impl Fn(&serde_json::Value) -> bool) {
        let page = format!("{}/status", self.admin().await);
        soon(what, async { while !wanted(&get(&page).await.json()) {} }).await;
    }

    /// Nothing in flight, every circuit closed, no failure counted.
    pub(crate) async fn becomes_idle_and_has_learnt_nothing(&mut self) {
        self.status_becomes("no request in flight", |status| {
            status["backends"].as_array().unwrap().iter().all(|backend| backend["in_flight"] == 0)
        })
        .await;
        for backend in self.status().await["backends"].as_array().unwrap() {
            let deployment = &backend["deployments"][0];
            assert_eq!((&deployment["circuit"], &deployment["failures"]), (&"closed".into(), &0.into()), "{backend}");
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    pub(crate) async fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status().await.unwrap();
        assert!(sent.success());
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        soon("the end of the process", self.child.wait()).await.unwrap()
    }

    /// Stops it and gives all that it has written.
    pub(crate) async fn stop(mut self) -> String {
        self.signal("TERM").await;
        assert!(self.ended().await.success(), "{}", self.stderr.text());
        format!("{}{}", self.stdout.whole().await, self.stderr.whole().await)
    }

    /// That it answers, and has never panicked.
    pub(crate) async fn is_well(&mut self) {
        let admin = self.admin().await;
        assert_eq!(get(format!("{admin}/livez")).await.status, 200);
        assert_eq!(self.stderr.lines(&["panicked"]), [""; 0]);
    }
}

/// Starts it with that standard output; the caller knows where it listens.
pub(crate) fn start_printing_to(stdout: impl Into<Stdio>, config: &str) -> Child {
    program().arg("--config").arg(file(config)).stdout(stdout).stderr(Stdio::null()).spawn().unwrap()
}

/// Runs it to its end: status, stdout, stderr.
pub(crate) async fn run(args: &[&OsStr]) -> (Option<i32>, String, String) {
    run_with(args, &[]).await
}

/// The same, with variables in its environment.
pub(crate) async fn run_with(args: &[&OsStr], environment: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let mut program = program();
    program.args(args).envs(environment.iter().copied());
    let output = soon("the end of the process", program.output()).await.unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// The same, with something on its standard input.
pub(crate) async fn run_with_input(args: &[&str], input: &[u8]) -> (Option<i32>, String, String) {
    let mut child = program().args(args).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).await.unwrap();
    let output = soon("the end of the process", child.wait_with_output()).await.unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// The answer that a line of the demo asks for.
pub(crate) async fn shell(command: &str) -> std::process::Output {
    soon("a shell command", Command::new("sh").arg("-c").arg(command).kill_on_drop(true).output()).await.unwrap()
}

pub(crate) fn is(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (status, code), "{}", answer.text());
}
