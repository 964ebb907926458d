//! Every policy of the crate, for tests of what holds under all of them. The same choices in every run.
#![allow(unreachable_pub, reason = "tests have no outside")]

use std::time::Duration;

use tower_azure_openai::select::{LeastLoad, LowestLatency, Policy, PromptCache, RoundRobin, SlowStart, Weighted};

pub fn policies() -> Vec<(&'static str, Box<dyn Policy>)> {
    vec![
        ("round robin", Box::new(RoundRobin::default())),
        ("weighted", Box::new(Weighted::default())),
        ("least load", Box::new(LeastLoad::with_seed(7))),
        ("lowest latency", Box::new(LowestLatency::with_seed(12))),
        ("prompt cache", Box::new(PromptCache::or_else(LeastLoad::with_seed(8)))),
        ("slow start", Box::new(SlowStart::new(LowestLatency::with_seed(12), Duration::from_secs(10)).seed(9))),
    ]
}
