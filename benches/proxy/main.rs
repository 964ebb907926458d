//! The gateway against plain reverse proxies, side by side on loopback: CPU per request and per chunk of a stream, as medians and ratios.
//!
//! ```console
//! cargo build --profile dist -p aoai-gateway
//! cargo bench --profile dist --bench proxy                       # requests and streams, five rounds in turn
//! cargo bench --profile dist --bench proxy -- memory             # 10,000 idle connections, 10,000 idle streams
//! ```
//!
//! Measured are the nginx of this machine, if there is one, a bare hyper server and client without any policy, and the gateway with
//! everything of its default stack on. `--with NAME=COMMAND` adds any other: `COMMAND` is run by the shell with `LISTEN` and `BACKEND`
//! (`host:port`) in its environment, such as a Pingora or Envoy of your own. Each proxy runs on one core, the load and the backend on
//! another where there is one. All of them are asked in turn, round by round, so that whatever else the machine does hits all alike.

mod backend;
mod load;
mod memory;
mod pair;
mod proxies;

use std::time::Duration;

use proxies::{Proxy, Running};
use tower::BoxError;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 5;
const CONNECTIONS: usize = 32;
const REQUESTS: usize = 20_000;
/// Chunks of one stream, and the time between them.
pub(crate) const CHUNKS: usize = 100;
pub(crate) const PAUSE: Duration = Duration::from_millis(2);

fn main() -> Result<(), BoxError> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match args.first().map(String::as_str) {
        Some("backend") => runtime.block_on(backend::run()),
        Some("pair") => runtime.block_on(pair::run()),
        Some("memory") => runtime.block_on(memory::run()),
        _ => runtime.block_on(compare(&Proxy::known(&args)?)),
    }
}

async fn compare(proxies: &[Proxy]) -> Result<(), BoxError> {
    let backend = proxies::backend()?;
    let mut running = Vec::new();
    for proxy in proxies {
        running.push(proxy.start(&backend.address).await?);
    }
    for kind in [load::Kind::Whole, load::Kind::Streamed] {
        let mut costs: Vec<Vec<Cost>> = vec![Vec::new(); running.len()];
        for round in 0..=ROUNDS {
            for (proxy, costs) in running.iter().zip(&mut costs) {
                let cost = measure(proxy, kind).await?;
                // The first round fills caches and pools.
                if round > 0 {
                    costs.push(cost);
                }
            }
        }
        print(kind, &running, &costs);
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Cost {
    /// Microseconds of CPU for one request or chunk.
    cpu: f64,
    /// How much later than it was sent a chunk arrived, in milliseconds.
    lag: (f64, f64),
}

async fn measure(proxy: &Running, kind: load::Kind) -> Result<Cost, BoxError> {
    let before = proxy.cpu();
    let done = load::run(&proxy.address, kind, CONNECTIONS, REQUESTS).await?;
    let cpu = proxy.cpu().saturating_sub(before);
    Ok(Cost { cpu: cpu.as_secs_f64() * 1e6 / done.units as f64, lag: (done.lag(0.5), done.lag(0.99)) })
}

fn print(kind: load::Kind, proxies: &[Running], costs: &[Vec<Cost>]) {
    println!("\n{}", kind.title());
    println!("{:<12}{:>12}{:>12}{:>14}{:>14}", "", "µs of CPU", "x the first", "lag p50, ms", "lag p99, ms");
    let middle = |of: fn(&Cost) -> f64, costs: &[Cost]| median(costs.iter().map(of).collect());
    let first = costs.first().map_or(1.0, |costs| middle(|cost| cost.cpu, costs));
    for (proxy, costs) in proxies.iter().zip(costs) {
        let cpu = middle(|cost| cost.cpu, costs);
        print!("{:<12}{cpu:>12.2}{:>12.2}", proxy.name, cpu / first);
        if kind == load::Kind::Streamed {
            print!("{:>14.3}{:>14.3}", middle(|cost| cost.lag.0, costs), middle(|cost| cost.lag.1, costs));
        }
        println!();
    }
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
