//! What connections and streams hold that do nothing.

use futures_util::future::try_join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tower::BoxError;

use crate::load::{Kind, request};
use crate::proxies::{self, Proxy, Running};

/// Fewer where fewer files may be open.
const NUMBER: usize = 10_000;
/// How many are opened at the same time.
const AT_ONCE: usize = 100;

pub(crate) async fn run() -> Result<(), BoxError> {
    let number = NUMBER.min(open_files()? / 5);
    let backend = proxies::backend()?;
    for (title, asks) in [("client connections", None), ("open streams, both sides", Some(request(Kind::Idle)))] {
        let gateway = Proxy::gateway().start(&backend.address).await?;
        // The first ones make the tables that all share.
        let _first = open(&gateway, 2 * AT_ONCE, asks.as_deref()).await?;
        let before = memory(&gateway)?;
        let _all = open(&gateway, number, asks.as_deref()).await?;
        let each = (memory(&gateway)? - before) / number as f64;
        println!("{number} idle {title}: {each:.1} KiB each");
    }
    Ok(())
}

/// How many files a process may have open here: the backend has one for each stream, the gateway two, and this program one.
fn open_files() -> Result<usize, BoxError> {
    let limits = std::fs::read_to_string("/proc/self/limits")?;
    let soft = limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next());
    Ok(soft.and_then(|soft| soft.parse().ok()).unwrap_or(usize::MAX))
}

async fn open(gateway: &Running, number: usize, asks: Option<&[u8]>) -> Result<Vec<TcpStream>, BoxError> {
    let mut all = Vec::with_capacity(number);
    while all.len() < number {
        all.extend(try_join_all((0..AT_ONCE).map(|_| one(&gateway.address, asks))).await?);
    }
    Ok(all)
}

async fn one(address: &str, asks: Option<&[u8]>) -> Result<TcpStream, BoxError> {
    let mut stream = TcpStream::connect(address).await?;
    if let Some(asks) = asks {
        stream.write_all(asks).await?;
        let mut read = Vec::new();
        while memchr::memmem::find(&read, b"at=").is_none() {
            if stream.read_buf(&mut read).await? == 0 {
                return Err("the connection has ended".into());
            }
        }
    }
    Ok(stream)
}

/// In KiB.
fn memory(gateway: &Running) -> Result<f64, BoxError> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid()))?;
    let found = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
    Ok(found.ok_or("no VmRSS")?)
}
