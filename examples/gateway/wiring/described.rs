//! Pool that a configuration describes: its backends, deployments, releases and circuits.

use tower::BoxError;
use tower_azure_openai::pool::{
    self, Backend, CircuitConfig, Credential, Deployment, Pool, PoolBuilder, Priority, Release, Thresholds,
};

use crate::config::backends;
use crate::config::behaviour::{self, Circuit};
use crate::config::releases;
use crate::config::{Authentication, Config};
use crate::identities::Identities;

/// The description of the pool that a configuration asks for.
pub(crate) fn pool(config: &Config, identities: &mut Identities) -> Result<PoolBuilder, BoxError> {
    let mut described = Pool::builder().circuit(circuit(&config.circuit)).thresholds(thresholds(config));
    if let Some(region) = &config.region {
        described = described.region(region);
    }
    let described = config.releases.iter().fold(described, |pool, described| pool.add_release(release(described)));
    let names = config.aliases.iter().flat_map(|alias| alias.also.iter().map(|name| (&alias.name, name)));
    let described = names.fold(described, |pool, (alias, name)| pool.add_alias_name(alias, name));
    identities.leave_through(config.forward.proxy.as_ref());
    config.backends.iter().try_fold(described, |pool, described| Ok(pool.add_backend(backend(described, identities)?)))
}

/// The defaults leave nothing to a class that nobody is in.
fn thresholds(config: &Config) -> Thresholds {
    let named = config.clients.iter().map(|client| client.priority).max();
    let highest = match config.authentication {
        Authentication::Clients => named.unwrap_or_default(),
        Authentication::None => Priority::Normal,
    };
    let (given, default) = (config.priority, behaviour::Thresholds::DEFAULT);
    let share = |given: f64, default: f64, class| {
        if highest > class || given.to_bits() != default.to_bits() { given } else { 1.0 }
    };
    Thresholds::OFF.normal(share(given.normal, default.normal, Priority::Normal)).low(share(
        given.low,
        default.low,
        Priority::Low,
    ))
}

fn backend(described: &backends::Backend, identities: &mut Identities) -> Result<Backend, BoxError> {
    let credential = credential(&described.credential, identities)
        .map_err(|error| format!("backends: the credential of `{}`: {error}", described.name))?;
    let mut backend = Backend::new(&described.name, described.endpoint.to_string())
        .credential(credential)
        .kind(described.kind.into())
        .priority(described.priority)
        .weight(described.weight)
        .processing(processing(described.processing))
        .max_in_flight(described.max_in_flight.map_or(0, Into::into));
    if let Some(region) = &described.region {
        backend = backend.region(region);
    }
    if let Some(geography) = &described.geography {
        backend = backend.geography(geography);
    }
    let weight = described.weight;
    Ok(described
        .deployments
        .iter()
        .fold(backend, |backend, described| backend.add_deployment(deployment(described, weight))))
}

fn release(described: &releases::Release) -> Release {
    Release::new(&described.alias, &described.model, &described.version).share(described.share)
}

fn deployment(described: &backends::Deployment, of_backend: u32) -> Deployment {
    let mut deployment =
        Deployment::new(&described.name).alias(&described.alias).model(&described.model).priority(described.priority);
    // What is as its backend has it follows when that is weighed anew.
    if described.weight != of_backend {
        deployment = deployment.weight(described.weight);
    }
    if let Some(version) = &described.version {
        deployment = deployment.version(version);
    }
    if let Some(tokens) = described.tokens_per_minute {
        deployment = deployment.tokens_per_minute(u64::from(tokens.get()));
    }
    match &described.quota_group {
        Some(group) => deployment.quota_group(group),
        None => deployment,
    }
}

fn credential(described: &backends::Credential, identities: &mut Identities) -> Result<Credential, BoxError> {
    Ok(match described {
        backends::Credential::ApiKey(key) => Credential::api_key(key.expose())?,
        backends::Credential::PassThrough => Credential::pass_through(),
        backends::Credential::Token { source, scope } => Credential::bearer(identities.keeper(source, scope)?),
    })
}

pub(crate) fn circuit(described: &Circuit) -> CircuitConfig {
    let mut config = CircuitConfig::default();
    config.min_open = described.min_open;
    config.max_open = described.max_open;
    config.default_open = described.default_open;
    config.probe_interval = described.probe_interval;
    config.consecutive_failures = described.consecutive_failures;
    config.failure_ratio = described.failure_ratio;
    config.window = described.window;
    config.min_requests = described.min_requests;
    config
}

pub(super) const fn processing(described: backends::Processing) -> pool::Processing {
    match described {
        backends::Processing::DataZone => pool::Processing::DataZone,
        backends::Processing::Global => pool::Processing::Global,
        backends::Processing::Regional => pool::Processing::Regional,
    }
}
