//! Figures that are read from the pool when somebody asks.

use std::collections::BTreeMap;

use super::recorder::Samples;
use crate::pool::PoolStatus;

/// State and requests by deployment. One that serves several aliases says the same for each of them.
#[derive(Default)]
struct OfDeployment {
    circuit: u8,
    in_flight: u32,
}

pub(super) fn gauges(status: &PoolStatus) -> [(&'static str, &'static str, Samples); 3] {
    let mut deployments = BTreeMap::<(&str, &str), OfDeployment>::new();
    for backend in &status.backends {
        for served in &backend.deployments {
            let of = deployments.entry((&backend.name, &served.name)).or_default();
            of.circuit = circuit(served.circuit);
            of.in_flight = served.in_flight;
        }
    }
    let by_deployment = |read: fn(&OfDeployment) -> f64| -> Samples {
        let labels = |backend: &str, deployment: &str| {
            vec![("backend", backend.to_owned()), ("deployment", deployment.to_owned())]
        };
        deployments.iter().map(|((backend, deployment), of)| (labels(backend, deployment), read(of))).collect()
    };
    let identities = status.backends.iter().map(|backend| {
        let is_ok = matches!(&*backend.identity, "ok" | "key");
        (vec![("backend", backend.name.clone())], f64::from(u8::from(is_ok)))
    });
    [
        ("gateway_circuit_state", "Circuits: 0 closed, 1 half-open, 2 open", by_deployment(|of| f64::from(of.circuit))),
        (
            "gateway_in_flight",
            "Requests now, streams counted to their end",
            by_deployment(|of| f64::from(of.in_flight)),
        ),
        ("gateway_identity_ok", "Whether a credential for the backend is at hand", identities.collect()),
    ]
}

fn circuit(state: &str) -> u8 {
    match state {
        "closed" => 0,
        "half-open" => 1,
        _ => 2,
    }
}
