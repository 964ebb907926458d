//! Without a configuration: three simulated backends on loopback, and what to try against them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use tokio::net::TcpListener;
use tower::BoxError;
use tower_azure_openai::testkit::{SimulatedBackend, SimulatedDeployment, SimulatedServer};

use crate::config::behaviour::{LogFormat, Telemetry};
use crate::config::{Config, Sources};
use crate::{output, server};

const FILE: &str = include_str!("demo.toml");
const KEY: &str = "demo-key-of-team-a";

/// Returns how the demo logs.
pub(crate) fn telemetry() -> Telemetry {
    Telemetry { log: "info".to_owned(), log_format: LogFormat::Text, otlp_endpoint: None, backend_header: true }
}

/// Starts the backends, and the gateway in front of them.
pub(crate) async fn run() -> Result<(), BoxError> {
    let backends = [
        // Room for three short requests: the fourth spills over.
        simulate("ptu-eastus", "East US", SimulatedDeployment::provisioned("gpt-4o-ptu").tokens_per_minute(20)).await?,
        simulate("paygo-westus", "West US", SimulatedDeployment::standard("gpt-4o").tokens_per_minute(100_000)).await?,
        simulate(
            "paygo-northeurope",
            "North Europe",
            SimulatedDeployment::standard("gpt-4o").tokens_per_minute(100_000),
        )
        .await?,
    ];
    let places = ["$PTU_URL", "$WESTUS_URL", "$NORTHEUROPE_URL"];
    let filled = |text: String, (place, server): (&&str, &SimulatedServer)| text.replace(place, &server.url());
    let text = places.iter().zip(&backends).fold(FILE.to_owned(), filled);
    let sources = Sources { file: &|_: &Path| Ok(text.clone().into_bytes()), ..Sources::PROCESS };
    let config = Config::load(Path::new("demo.toml"), &sources).map_err(|problems| problems.to_string())?.config;

    let (listener, admin) = (bind(config.listen).await?, bind(config.admin.unwrap_or(ANY)).await?);
    server::serve(config, None, listener, Some(admin), |url, admin| greet(url, admin.unwrap_or_default())).await
}

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

async fn simulate(name: &str, region: &str, deployment: SimulatedDeployment) -> std::io::Result<SimulatedServer> {
    let key = format!("key-of-{name}");
    SimulatedBackend::builder(name).api_key(&key).region(region).deployment(deployment).build().serve().await
}

/// The usual port, or any other when that is taken.
async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind(ANY).await,
    }
}

fn greet(url: &str, admin: &str) {
    let call = format!(
        "curl -sS '{url}/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21' \\\n    \
         -H 'content-type: application/json' -d '{{\"messages\":[{{\"role\":\"user\",\"content\":\"Hello\"}}]}}'"
    );
    output::print(&format!(
        "
Three simulated backends serve the deployment gpt-4o: a PTU with room for a few tokens, and two pay-as-you-go ones.

# a plain call
  {call} \\
    -H 'api-key: {KEY}'

# the same deployment by the v1 API, streamed
  curl -sSN '{url}/openai/v1/chat/completions' -H 'authorization: Bearer {KEY}' \\
    -H 'content-type: application/json' \\
    -d '{{\"model\":\"gpt-4o\",\"stream\":true,\"messages\":[{{\"role\":\"user\",\"content\":\"Hello\"}}]}}'

# the PTU serves until it is full, then the others do; every answer is 200
  for i in 1 2 3 4 5 6; do {call} \\
    -H 'api-key: {KEY}' -o /dev/null -D - | grep -iE '^http|gateway-backend'; done

# a key that nobody has: 401
  {call} \\
    -H 'api-key: wrong' -i

# backends, circuits, requests
  curl -sS {admin}/status
"
    ));
}
