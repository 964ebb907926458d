//! Several versions of a model behind one alias.

use crate::azure::stable_hash;

/// One of several models or versions that an alias stands for, with its share of the clients.
///
/// Every target of the alias belongs to the release that names its model and version. Which release a request gets:
///
/// 1. The one that an earlier attempt of it was sent to: failover never crosses, though the shares have changed in between.
/// 2. One with a target that meets the client's constraints, on the backend that a [`Pin`](crate::pool::Pin) leads to, if any is there;
///    where the pin is required even one without a share: state stays where it is, and what is new goes to none of those.
/// 3. Among several of these its key decides: the id of its [`Client`](crate::context::Client), else the name of its
///    [`Session`](crate::context::Session). A client is thus on one release, whatever it calls its sessions. Whoever wants to
///    split the users of one application gives each of them a `Client` of its own.
/// 4. A request with neither is drawn, one by one, in proportion to the shares. A session cookie is no key: it names a backend,
///    and its requests get a release that is there.
///
/// A release whose targets are all down or throttled keeps its clients waiting: a release that fails must not be hidden by the
/// others.
///
/// # Who gets which
///
/// Weighted rendezvous hashing. For each key and release a number `u` between 0 and 1 is drawn from their hashes alone, and the
/// highest score `share / −ln(1 − u)` has the key.
///
/// Why the shares come out right: `−ln(1 − u) / share` is exponentially distributed with the share as its rate, and the least of
/// such independent times is that of `i` with the probability `shareᵢ / Σ share`. Why nobody moves who need not: a change of one
/// share changes one score of each key, so that keys move to that release only when it grows, away from it only when it shrinks,
/// and just as many as its part of the whole has changed by. When several shares change, keys move from `a` to `b` only if `b` grew
/// relative to `a`. The same shares give the same clients again, in every process, whatever order and targets the releases have.
/// (Thaler and Ravishankar, "Using name-based mappings to increase hit rates"; the weights after Schindelhauer and Schomaker,
/// "Weighted distributed hash tables".)
///
/// ```
/// use tower_azure_openai::pool::{Backend, Deployment, Pool, Release};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = Pool::builder()
///     .add_backend(
///         Backend::new("east", "https://east.example")
///             .add_deployment(Deployment::new("old").alias("gpt-4o").version("2024-08-06"))
///             .add_deployment(Deployment::new("new").alias("gpt-4o").version("2024-11-20")),
///     )
///     .add_release(Release::new("gpt-4o", "gpt-4o", "2024-08-06").share(90))
///     .add_release(Release::new("gpt-4o", "gpt-4o", "2024-11-20").share(10))
///     .build()?;
/// pool.set_share("gpt-4o", "gpt-4o", "2024-11-20", 90)?;
/// assert_eq!(pool.status().releases[1].share, 90);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Release {
    pub(crate) alias: String,
    pub(crate) model: String,
    pub(crate) version: String,
    pub(crate) share: u32,
}

impl Release {
    /// A release of an alias by its model and version, with a share of 0.
    pub fn new(alias: impl Into<String>, model: impl Into<String>, version: impl Into<String>) -> Self {
        Self { alias: alias.into(), model: model.into(), version: version.into(), share: 0 }
    }

    /// Sets how many of the clients it gets, relative to the other releases of the alias; 0 is none. At most
    /// [`MAX_WEIGHT`](crate::pool::MAX_WEIGHT).
    pub const fn share(mut self, share: u32) -> Self {
        self.share = share;
        self
    }

    pub(crate) fn is(&self, alias: &str, model: &str, version: &str) -> bool {
        self.alias == alias && self.model == model && self.version == version
    }

    pub(crate) fn is_of(&self, alias: &str, model: &str, version: Option<&str>) -> bool {
        version.is_some_and(|version| self.is(alias, model, version))
    }

    pub(in crate::pool) fn identity(&self) -> u64 {
        stable_hash([&self.alias, &self.model, &self.version].map(|part| part.as_bytes()))
    }
}
