//! Two simulated Azure OpenAI resources on loopback, and the configuration of a gateway in front of them.
//!
//! Every deployment has another name than its alias, and another one on each resource, so that whatever the gateway forgets to
//! rewrite is answered with an error. Prints the configuration and serves until standard input ends:
//!
//! ```text
//! cargo run --example simulated_backends > gateway.toml
//! cargo run --release -p aoai-gateway -- --config gateway.toml
//! ```
//!
//! Scripts that drive a gateway with the client libraries of others start from it, see `tests/clients`.

use std::fmt::Write;

use tokio::io::{AsyncReadExt, stdin};
use tower::BoxError;
use tower_azure_openai::testkit::{SimulatedBackend, SimulatedDeployment, SimulatedServer};

const RESOURCES: [&str; 2] = ["east", "west"];
const ALIASES: [&str; 6] = ["gpt-5", "gpt-4o", "text-embedding-3-small", "gpt-image-1", "whisper", "gpt-realtime"];

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let mut servers = Vec::new();
    let mut file = String::from("listen = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n");
    for resource in RESOURCES {
        let server = serve(resource).await?;
        describe(&mut file, resource, &server)?;
        servers.push(server);
    }
    writeln!(file, "\n[[clients]]\nid = \"team-a\"\nkey = \"key-of-team-a-0123\"")?;
    writeln!(file, "\n[telemetry]\nbackend_header = true")?;
    println!("{file}");

    // Whoever started this holds the other end.
    stdin().read_to_end(&mut Vec::new()).await?;
    for server in servers {
        server.stop().await;
    }
    Ok(())
}

async fn serve(resource: &str) -> std::io::Result<SimulatedServer> {
    let builder = SimulatedBackend::builder(resource).api_key(key(resource));
    let deployments = ALIASES.map(|alias| SimulatedDeployment::standard(deployment(resource, alias)).model(alias));
    deployments.into_iter().fold(builder, |builder, deployment| builder.deployment(deployment)).build().serve().await
}

fn describe(file: &mut String, resource: &str, server: &SimulatedServer) -> std::fmt::Result {
    let (url, key) = (server.url(), key(resource));
    writeln!(
        file,
        "\n[[backends]]\nname = \"{resource}\"\nendpoint = \"{url}\"\ncredential = {{ api_key = \"{key}\" }}"
    )?;
    for alias in ALIASES {
        let name = deployment(resource, alias);
        writeln!(file, "\n  [[backends.deployments]]\n  name = \"{name}\"\n  alias = \"{alias}\"\n  version = \"1\"")?;
    }
    Ok(())
}

fn deployment(resource: &str, alias: &str) -> String {
    format!("{alias}-of-{resource}")
}

fn key(resource: &str) -> String {
    format!("key-of-{resource}")
}
