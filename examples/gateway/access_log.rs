//! One line for every request: client, alias, status, attempts, backend, duration.

use tower_azure_openai::context::Client;
use tower_azure_openai::observe::{Record, Recorder};

use crate::output;

/// Writes the record of a request as a line of the log: after the last byte, when the client left, or with the handshake of a
/// WebSocket.
#[derive(Debug)]
pub(crate) struct AccessLog;

impl Recorder for AccessLog {
    fn record(&self, record: &Record) {
        tracing::info!(
            client = record.client.as_ref().map(Client::id),
            alias = record.alias().map(output::cut),
            operation = record.operation().map(|operation| operation.as_str()),
            // A client that left before the head of the answer got none.
            status = record.status.map_or(499, |status| status.as_u16()),
            attempts = record.attempts.len(),
            backend = record.target().map(|target| target.backend()),
            duration_ms = record.total.as_millis() as u64,
            "request"
        );
    }
}
