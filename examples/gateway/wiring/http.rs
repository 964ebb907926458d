//! HTTP client that a configuration asks for.

use tower::BoxError;
use tower_azure_openai::client::{AliasTimeouts, Destination, HttpClient};

use crate::config::Config;
use crate::config::aliases;
use crate::config::backends;

/// Backends that are reached in a way of their own.
pub(crate) fn special(config: &Config) -> impl Iterator<Item = &backends::Backend> {
    config.backends.iter().filter(|backend| backend.address.is_some() || backend.ca_pem.is_some())
}

/// Makes the client that speaks to the backends.
pub(crate) fn client(config: &Config) -> Result<HttpClient, BoxError> {
    let timeouts = &config.timeouts;
    let client = HttpClient::builder()
        .connect_timeout(timeouts.connect)
        .first_byte_timeout(timeouts.first_byte)
        .answer_timeout(timeouts.answer)
        .idle_timeout(timeouts.idle);
    let client = match &config.forward.proxy {
        Some(proxy) => client.proxy(proxy.clone()),
        None => client,
    };
    let client = config.aliases.iter().fold(client, |client, alias| client.add_alias(&alias.name, own(alias.timeouts)));
    Ok(special(config).fold(client, |client, backend| client.add_destination(destination(backend))).build()?)
}

fn own(described: aliases::Timeouts) -> AliasTimeouts {
    let mut timeouts = AliasTimeouts::new();
    if let Some(limit) = described.first_byte {
        timeouts = timeouts.first_byte(limit);
    }
    if let Some(limit) = described.answer {
        timeouts = timeouts.answer(limit);
    }
    if let Some(limit) = described.idle {
        timeouts = timeouts.idle(limit);
    }
    timeouts
}

fn destination(backend: &backends::Backend) -> Destination {
    let mut destination = Destination::new(backend.endpoint.to_string());
    if let Some(address) = backend.address {
        destination = destination.address(address.to_string());
    }
    match &backend.ca_pem {
        Some(pem) => destination.ca_pem(pem.clone()),
        None => destination,
    }
}
