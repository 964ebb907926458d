//! The proxies that are compared, as child processes.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::sleep;
use tower::BoxError;

pub(crate) const KEY: &str = "key-of-the-benchmark-0123";

/// How to start one.
pub(crate) struct Proxy {
    name: String,
    what: What,
}

enum What {
    Gateway,
    Nginx,
    Other(String),
    Pair,
}

/// One that runs, until it is dropped.
pub(crate) struct Running {
    pub(crate) name: String,
    pub(crate) address: String,
    child: Child,
}

impl Proxy {
    /// The first is what the others are compared with.
    pub(crate) fn known(args: &[String]) -> Result<Vec<Self>, BoxError> {
        let mut known = Vec::new();
        match Command::new("nginx").arg("-v").stderr(Stdio::null()).status() {
            Ok(_) => known.push(Self { name: "nginx".to_owned(), what: What::Nginx }),
            Err(_) => eprintln!("left out: nginx, which this machine does not have"),
        }
        known.push(Self { name: "hyper pair".to_owned(), what: What::Pair });
        known.push(Self { name: "gateway".to_owned(), what: What::Gateway });
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let with = args.next().filter(|_| arg == "--with").and_then(|with| with.split_once('='));
            let (name, command) = with.ok_or("--with NAME=COMMAND, or memory")?;
            known.push(Self { name: name.to_owned(), what: What::Other(command.to_owned()) });
        }
        Ok(known)
    }

    pub(crate) fn gateway() -> Self {
        Self { name: "gateway".to_owned(), what: What::Gateway }
    }

    pub(crate) async fn start(&self, backend: &str) -> Result<Running, BoxError> {
        // Free a moment ago, which is good enough here.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let directory =
            std::env::temp_dir().join(format!("proxy-{}-{}", std::process::id(), self.name.replace(' ', "-")));
        std::fs::create_dir_all(&directory)?;
        let mut command = self.command(&directory, &address, backend)?;
        command.env("LISTEN", &address).env("BACKEND", backend).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|error| format!("{}: {error}", self.name))?;
        let running = Running { name: self.name.clone(), address, child };
        for _ in 0..200 {
            if TcpStream::connect(&running.address).await.is_ok() {
                return Ok(running);
            }
            sleep(Duration::from_millis(50)).await;
        }
        Err(format!("{} does not listen", self.name).into())
    }

    fn command(&self, directory: &Path, address: &str, backend: &str) -> Result<Command, BoxError> {
        match &self.what {
            What::Gateway => {
                let file = directory.join("gateway.toml");
                std::fs::write(&file, gateway(address, backend))?;
                let mut command = pinned(&program()?.to_string_lossy(), 0);
                command.arg("--config").arg(file);
                Ok(command)
            }
            What::Nginx => {
                let file = directory.join("nginx.conf");
                std::fs::write(&file, nginx(directory, address, backend))?;
                let mut command = pinned("nginx", 0);
                command.arg("-c").arg(file).arg("-p").arg(directory);
                Ok(command)
            }
            What::Other(shell) => {
                let mut command = pinned("sh", 0);
                command.args(["-c", &format!("exec {shell}")]);
                Ok(command)
            }
            What::Pair => Ok(own("pair", 0)?),
        }
    }
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The time that its threads, and those of its workers, have run.
    pub(crate) fn cpu(&self) -> Duration {
        let mut ids = vec![self.pid()];
        let of = format!("/proc/{0}/task/{0}/children", self.pid());
        let workers = std::fs::read_to_string(of).unwrap_or_default();
        ids.extend(workers.split_whitespace().filter_map(|id| id.parse::<u32>().ok()));
        Duration::from_nanos(ids.into_iter().map(nanoseconds).sum())
    }
}

fn nanoseconds(pid: u32) -> u64 {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    let of = |task: std::fs::DirEntry| {
        std::fs::read_to_string(task.path().join("schedstat")).ok()?.split(' ').next()?.parse::<u64>().ok()
    };
    tasks.flatten().filter_map(of).sum()
}

impl Drop for Running {
    fn drop(&mut self) {
        // The shell and nginx end their children when they are asked, not when they are killed.
        drop(Command::new("kill").arg(self.pid().to_string()).status());
        drop(self.child.wait());
    }
}

/// A backend of its own process, which has told where it listens.
pub(crate) fn backend() -> Result<Running, BoxError> {
    let mut child = own("backend", 1)?.stdout(Stdio::piped()).spawn()?;
    let mut address = String::new();
    let stdout = child.stdout.take().ok_or("the backend has no output")?;
    BufReader::new(stdout).read_line(&mut address)?;
    Ok(Running { name: "backend".to_owned(), address: address.trim().to_owned(), child })
}

fn own(what: &str, core: usize) -> Result<Command, BoxError> {
    let mut command = pinned(&std::env::current_exe()?.to_string_lossy(), core);
    command.arg(what);
    Ok(command)
}

/// On one core, where `taskset` and so many cores are there.
fn pinned(program: &str, core: usize) -> Command {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let is_there = Command::new("taskset").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !is_there || cores < 2 {
        return Command::new(program);
    }
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string(), program]);
    command
}

/// Built with the profile of this benchmark, or where `GATEWAY` says.
fn program() -> Result<PathBuf, BoxError> {
    if let Some(given) = std::env::var_os("GATEWAY") {
        return Ok(given.into());
    }
    let own = std::env::current_exe()?;
    let beside = own.ancestors().nth(2).ok_or("no directory of builds")?.join("aoai-gateway");
    if beside.exists() { Ok(beside) } else { Err(format!("there is no {}: build it first", beside.display()).into()) }
}

fn gateway(address: &str, backend: &str) -> String {
    format!(
        "listen = \"{address}\"\nadmin = \"off\"\nthreads = 1\n[limits]\nconnections = 100000\n\
         [[backends]]\nname = \"east\"\nendpoint = \"http://{backend}\"\ncredential = {{ api_key = \"key-of-east\" }}\n\
         deployments = [{{ name = \"gpt-4o\" }}]\n[[clients]]\nid = \"team\"\nkey = \"{KEY}\"\n"
    )
}

fn nginx(directory: &Path, address: &str, backend: &str) -> String {
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {}/{kind};", directory.display()))
        .concat();
    format!(
        "worker_processes 1; daemon off; pid {0}/pid; error_log {0}/error.log;\n\
         events {{ worker_connections 40000; }}\n\
         http {{ access_log {0}/access.log; {temporary}\n\
         upstream backend {{ server {backend}; keepalive 256; }}\n\
         server {{ listen {address}; keepalive_requests 1000000000; location / {{ proxy_pass http://backend; proxy_http_version 1.1;\n\
         proxy_set_header Connection \"\"; proxy_buffering off; }} }} }}\n",
        directory.display()
    )
}
