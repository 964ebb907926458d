//! Checks of everything that a [`SessionStore`] must do.
//!
//! ```
//! use tower_azure_openai::directory::{MemoryStore, conformance};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
//! conformance::check(&MemoryStore::new(1_000), tokio::time::advance).await;
//! # });
//! ```

use std::sync::Arc;
use std::time::Duration;

use super::store::{ObjectKey, Remembered, SessionStore};

const MINUTE: Duration = Duration::from_secs(60);

/// Checks a store with room for a hundred ids. `pass` lets a time go by, in the store's view: by advancing a paused clock, or
/// by waiting.
///
/// # Panics
/// The store does not do what the trait says.
pub async fn check<F: Future<Output = ()>>(store: &dyn SessionStore, pass: impl Fn(Duration) -> F) {
    remembers_until_told_otherwise(store).await;
    keeps_the_first_owner(store).await;
    makes_up_no_alias(store).await;
    expires(store, pass).await;
}

async fn look_up(store: &dyn SessionStore, id: &str) -> Option<Remembered> {
    store.look_up(ObjectKey::of(id)).await.expect("the store can be reached")
}

async fn remember(store: &dyn SessionStore, id: &str, object: Remembered, lifetime: Duration) {
    store.remember(ObjectKey::of(id), object, lifetime).await.expect("the store can be reached");
}

fn owned(backend: &str, owner: &str) -> Remembered {
    Remembered::on(backend).owner(Some(Arc::from(owner)))
}

async fn remembers_until_told_otherwise(store: &dyn SessionStore) {
    assert_eq!(look_up(store, "conformance-1").await, None, "an id that nobody told it is unknown");
    remember(store, "conformance-1", Remembered::on("east"), MINUTE).await;
    remember(store, "conformance-2", owned("west", "a"), MINUTE).await;
    assert_eq!(look_up(store, "conformance-1").await, Some(Remembered::on("east")));
    assert_eq!(look_up(store, "conformance-2").await, Some(owned("west", "a")));

    remember(store, "conformance-1", Remembered::on("west"), MINUTE).await;
    assert_eq!(look_up(store, "conformance-1").await, Some(Remembered::on("west")), "the latest backend counts");

    for id in ["conformance-1", "conformance-1", "conformance-3"] {
        store.forget(ObjectKey::of(id)).await.expect("forgetting twice, or what is unknown, is no error");
    }
    assert_eq!(look_up(store, "conformance-1").await, None, "forgotten");
    assert_eq!(look_up(store, "conformance-2").await, Some(owned("west", "a")), "and nothing else with it");
}

async fn keeps_the_first_owner(store: &dyn SessionStore) {
    remember(store, "conformance-4", owned("east", "a"), MINUTE).await;
    remember(store, "conformance-4", owned("west", "b"), MINUTE).await;
    assert_eq!(look_up(store, "conformance-4").await, Some(owned("east", "a")), "another owner changes nothing");
    remember(store, "conformance-4", Remembered::on("west"), MINUTE).await;
    assert_eq!(look_up(store, "conformance-4").await, Some(owned("west", "a")), "an object keeps its owner");

    remember(store, "conformance-5", Remembered::on("east"), MINUTE).await;
    remember(store, "conformance-5", owned("east", "b"), MINUTE).await;
    assert_eq!(look_up(store, "conformance-5").await, Some(owned("east", "b")), "an object without owner takes one");
}

async fn makes_up_no_alias(store: &dyn SessionStore) {
    let alias = |known: Option<Remembered>| known.expect("it was remembered").alias;
    remember(store, "conformance-8", Remembered::on("east"), MINUTE).await;
    assert_eq!(alias(look_up(store, "conformance-8").await), None);
    remember(store, "conformance-8", Remembered::on("east").made_by(Some("sora".into())), MINUTE).await;
    assert!(
        matches!(alias(look_up(store, "conformance-8").await).as_deref(), None | Some("sora")),
        "the alias is kept, or forgotten"
    );
}

async fn expires<F: Future<Output = ()>>(store: &dyn SessionStore, pass: impl Fn(Duration) -> F) {
    remember(store, "conformance-6", owned("east", "a"), MINUTE).await;
    remember(store, "conformance-7", Remembered::on("east"), MINUTE).await;
    pass(MINUTE * 2 / 3).await;
    remember(store, "conformance-7", Remembered::on("east"), MINUTE).await;
    pass(MINUTE * 2 / 3).await;
    assert_eq!(look_up(store, "conformance-6").await, None, "its time is over");
    assert!(look_up(store, "conformance-7").await.is_some(), "its time began anew");
    remember(store, "conformance-6", owned("west", "b"), MINUTE).await;
    assert_eq!(look_up(store, "conformance-6").await, Some(owned("west", "b")), "an owner's time is over with it");
}
