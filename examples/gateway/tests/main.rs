//! The full gateway as its users run it: the program, its configuration file, its signals, its output.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![cfg(unix)]

#[path = "../../../tests/support/forms.rs"]
mod forms;
#[path = "../../../tests/support/http.rs"]
mod http_support;
#[path = "../../../tests/support/protobuf.rs"]
mod protobuf;
#[path = "../../../tests/support/redis.rs"]
mod redis;
#[path = "../../../tests/support/tokens.rs"]
mod tokens;
#[path = "../../../tests/support/websocket.rs"]
mod websocket;

mod admin;
mod admission;
mod bad_backends;
mod capture;
mod connections;
mod cors;
mod deploy;
mod early;
mod egress;
mod http2;
mod hygiene;
mod identity;
mod leaving;
mod lifecycle;
mod live;
mod loops;
mod malformed;
mod memory;
mod metrics;
mod outages;
mod output;
mod places;
mod priorities;
mod process;
mod realtime;
mod recordings;
mod releases;
mod reload;
mod residency;
mod secrets;
mod sessions;
mod shared;
mod streams;
mod telemetry;
mod tls;
mod usage;

use tower_azure_openai::testkit::{SimulatedBackend, SimulatedDeployment, SimulatedServer};

/// The key of the client of [`process::client`], as the tests configure it.
const KEY: &str = "key-of-the-client-a1b2c3";

/// A backend as [`process::backends`] describes it.
fn simulated(name: &str) -> SimulatedBackend {
    SimulatedBackend::builder(name)
        .region("East US")
        .api_key(format!("key-of-{name}"))
        .deployment(SimulatedDeployment::standard("gpt-4o"))
        .build()
}

async fn serve(name: &str) -> (SimulatedBackend, SimulatedServer) {
    let backend = simulated(name);
    let server = backend.serve().await.unwrap();
    (backend, server)
}

/// A gateway before one backend, with more configuration after its own.
async fn gateway_before(server: &SimulatedServer, more: &str) -> process::Gateway {
    let config =
        [process::LISTEN, &process::backends(&[("east", &server.url())]), &process::client(KEY), more].concat();
    process::Gateway::start(&config).await
}
