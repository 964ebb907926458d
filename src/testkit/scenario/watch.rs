//! State of circuits and backends over time.

use super::site::Fate;
use super::traffic::Job;
use super::world::Azure;
use crate::pool::{Obstacle, Pool, Query};

/// Looks in each moment of the timeline.
pub(super) const LOOKS: u64 = 8;

/// State of one target in one moment of the timeline, as numbers of looks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stood {
    pub(super) looks: u64,
    pub(super) able: u64,
    pub(super) throttled: u64,
    pub(super) failing: u64,
    pub(super) probing: u64,
}

/// Looks from time to time until the end; gives one row for each moment with one entry for each site.
pub(super) async fn watch(pool: Pool, azure: Azure, moment: u64, horizon: u64, job: Job) -> Vec<Vec<Stood>> {
    let keys: Vec<_> = azure.state().sites.iter().map(|site| (site.backend.clone(), site.deployment.clone())).collect();
    let mut aliases: Vec<_> = azure.state().sites.iter().map(|site| site.alias.clone()).collect();
    aliases.sort();
    aliases.dedup();
    let mut moments = Vec::new();
    for start in (0..horizon).step_by(usize::try_from(moment).unwrap_or(usize::MAX)) {
        let mut stood = vec![Stood::default(); keys.len()];
        for look in 0..LOOKS {
            tokio::time::sleep_until(azure.at(start + look * moment / LOOKS)).await;
            for alias in &aliases {
                circuits(&pool, alias, &keys, &mut stood);
            }
            let now = azure.now();
            for (site, stood) in azure.state().sites.iter().zip(&mut stood) {
                stood.looks += 1;
                stood.able += u64::from(matches!(site.fate(&job, now), Fate::Served(_)));
            }
        }
        moments.push(stood);
    }
    moments
}

fn circuits(pool: &Pool, alias: &str, keys: &[(String, String)], stood: &mut [Stood]) {
    for explained in pool.explain_query(&Query::new(Some(alias))).targets() {
        let target = explained.target();
        let is_it = |key: &&(String, String)| target.backend() == key.0 && target.deployment() == Some(&*key.1);
        let found = keys.iter().zip(&mut *stood).find(|(key, _)| target.alias() == Some(alias) && is_it(key));
        let Some((_, stood)) = found else { continue };
        for obstacle in explained.obstacles() {
            match obstacle {
                Obstacle::Open { throttled: true, .. } => stood.throttled += 1,
                Obstacle::Open { .. } => stood.failing += 1,
                Obstacle::Probing { .. } => stood.probing += 1,
                _ => {}
            }
        }
    }
}
