//! Clients that a configuration names, and the ways in which they are known.

use tower::BoxError;
use tower_azure_openai::context::Client;
use tower_azure_openai::terminate::ClientRegistry;
use tower_azure_openai::terminate::entra::{Caller, Entra};

use super::described::processing;
use crate::config::{self, Config};
use crate::kept::Kept;

pub(super) fn registry(config: &Config) -> Result<ClientRegistry, BoxError> {
    let keys = config.clients.iter().flat_map(|described| described.keys.iter().map(move |key| (described, key)));
    let names = own_names(config);
    let registry = keys.fold(ClientRegistry::builder(), |registry, (described, key)| {
        registry.add_key_sha256(known_client(described, &names), key.0)
    });
    Ok(registry.build()?)
}

pub(super) fn entra(config: &Config, kept: &Kept) -> Result<Option<Entra>, BoxError> {
    let (Some(described), Some(keys)) = (&config.entra, kept.keys()) else { return Ok(None) };
    let mut entra = Entra::builder(&described.tenant_id, keys).issuer(&described.issuer);
    for audience in &described.audience {
        entra = entra.add_audience(audience);
    }
    let names = own_names(config);
    for client in &config.clients {
        if let Some(described) = &client.entra {
            entra = entra.add_client(caller(described), known_client(client, &names));
        }
    }
    Ok(Some(entra.build()?))
}

fn caller(described: &config::entra::Caller) -> Caller {
    match described {
        config::entra::Caller::AppId(id) => Caller::app_id(id),
        config::entra::Caller::ObjectId(id) => Caller::object_id(id),
        config::entra::Caller::Role(role) => Caller::role(role),
    }
}

pub(crate) fn clients(config: &Config) -> Vec<Client> {
    let names = own_names(config);
    config.clients.iter().map(|described| known_client(described, &names)).collect()
}

/// Names of deployments that are no aliases and serve one alias only, with that alias.
fn own_names(config: &Config) -> Vec<(&str, &str)> {
    let all = || config.backends.iter().flat_map(|backend| &backend.deployments);
    let is_alias = |name: &str| {
        let is_further =
            config.aliases.iter().any(|alias| alias.name == name || alias.also.iter().any(|also| also == name));
        is_further || all().any(|deployment| deployment.alias == name)
    };
    let is_clear = |name: &str, alias: &str| all().all(|other| other.name != name || other.alias == alias);
    all()
        .map(|deployment| (deployment.name.as_str(), deployment.alias.as_str()))
        .filter(|(name, alias)| !is_alias(name) && is_clear(name, alias))
        .collect()
}

fn known_client(described: &config::clients::Client, names: &[(&str, &str)]) -> Client {
    let mut client = Client::new(described.id.as_str());
    if let Some(allow) = &described.allow {
        client = client.allow(allow.iter().map(String::as_str));
    }
    for (alias, stands_for) in &described.route {
        client = client.route(alias.as_str(), stands_for.as_str());
    }
    for &(deployment, alias) in names {
        client = client.deployment(deployment, alias);
    }
    client =
        client.operations(described.operations.iter().copied()).limits(described.limits).priority(described.priority);
    if let Some(geography) = &described.geography {
        client = client.geography(geography.as_str());
    }
    if let Some(scopes) = &described.processing {
        client = client.processing(scopes.iter().copied().map(processing));
    }
    client
}
