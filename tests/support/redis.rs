//! A Redis of a test's own.
#![allow(dead_code, reason = "each test uses some of it")]

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;

/// A server on a port that nobody else has; killed when it is dropped.
pub(crate) struct Redis {
    child: Child,
    port: u16,
    directory: PathBuf,
    options: Vec<String>,
    tls: Option<Tls>,
}

/// What a server shows, and who vouches for it.
struct Tls {
    port: u16,
    ca: String,
}

impl Redis {
    /// `None` where there is no `redis-server`, which is told whatever the test runner hides.
    pub(crate) fn start(options: &[&str]) -> Option<Self> {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        Self::spawn(directory(), options, None)
    }

    /// The same, which also speaks TLS, with a certificate for `localhost` by a CA of its own.
    pub(crate) fn start_tls(options: &[&str]) -> Option<Self> {
        let (directory, port) = (directory(), free_port());
        let path = |name: &str| directory.join(name).to_str().unwrap().to_owned();
        let ca = certify(&path("cert.pem"), &path("key.pem"));
        let mut all: Vec<_> = options.iter().map(|option| (*option).to_owned()).collect();
        for (name, value) in [
            ("--tls-port", port.to_string()),
            ("--tls-cert-file", path("cert.pem")),
            ("--tls-key-file", path("key.pem")),
            ("--tls-auth-clients", "no".to_owned()),
        ] {
            all.extend([name.to_owned(), value]);
        }
        Self::spawn(directory, all, Some(Tls { port, ca }))
    }

    fn spawn(directory: PathBuf, options: Vec<String>, tls: Option<Tls>) -> Option<Self> {
        let port = free_port();
        match spawn(port, &directory, &options) {
            Ok(child) => Some(Self { child, port, directory, options, tls }),
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

    pub(crate) fn tls_url(&self) -> String {
        format!("rediss://localhost:{}", self.tls.as_ref().unwrap().port)
    }

    /// The CA by whom its certificate is, in PEM form.
    pub(crate) fn ca(&self) -> &str {
        &self.tls.as_ref().unwrap().ca
    }

    /// What it answers to a command, by `redis-cli`.
    pub(crate) fn ask(&self, command: &[&str]) -> String {
        let mut program = Command::new("redis-cli");
        let output = program.args(["-p", &self.port.to_string()]).args(command).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Every key, the milliseconds until it ends, and what is kept there.
    pub(crate) fn everything(&self) -> Vec<(String, i64, String)> {
        let keys = self.ask(&["KEYS", "*"]);
        let kept = |key: &str| match &*self.ask(&["TYPE", key]) {
            "hash" => self.ask(&["HGETALL", key]),
            "zset" => self.ask(&["ZRANGE", key, "0", "-1", "WITHSCORES"]),
            "string" => self.ask(&["GET", key]),
            other => panic!("{key} is a {other}"),
        };
        let keys = keys.lines().filter(|key| !key.is_empty());
        keys.map(|key| (key.to_owned(), self.ask(&["PTTL", key]).parse().unwrap(), kept(key))).collect()
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

/// A Redis that answers as late as a test wants.
pub(crate) struct Slow {
    address: SocketAddr,
    delay: watch::Sender<Option<Duration>>,
}

impl Slow {
    /// In front of a real one, and quick so far.
    pub(crate) async fn before(redis: &Redis) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, port) = (listener.local_addr().unwrap(), redis.port);
        let (delay, delays) = watch::channel(Some(Duration::ZERO));
        tokio::spawn(async move {
            while let Ok((here, _)) = listener.accept().await {
                let delays = delays.clone();
                tokio::spawn(async move {
                    let Ok(there) = TcpStream::connect(("127.0.0.1", port)).await else { return };
                    let ((mut asked, answered), (answers, mut asks)) = (here.into_split(), there.into_split());
                    tokio::join!(
                        async { drop(tokio::io::copy(&mut asked, &mut asks).await) },
                        hold_back(answers, answered, delays)
                    );
                });
            }
        });
        Self { address, delay }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// From now on each answer comes so much later, or never.
    pub(crate) fn answers_after(&self, delay: Option<Duration>) {
        self.delay.send_replace(delay);
    }
}

async fn hold_back(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut delays: watch::Receiver<Option<Duration>>) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut bytes).await {
        let Ok(delay) = delays.wait_for(Option::is_some).await.map(|delay| delay.unwrap_or_default()) else { return };
        tokio::time::sleep(delay).await;
        if to.write_all(&bytes[..length]).await.is_err() {
            return;
        }
    }
}

fn directory() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("redis-{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&directory).unwrap();
    directory
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Writes a certificate and its key; the CA that signed it.
fn certify(cert: &str, key: &str) -> String {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&ca_key).unwrap();
    let own_key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let own = own.signed_by(&own_key, &Issuer::new(params, ca_key)).unwrap();
    std::fs::write(cert, own.pem()).unwrap();
    std::fs::write(key, own_key.serialize_pem()).unwrap();
    ca.pem()
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
