//! Several versions of a model behind one alias.

use super::rendezvous;
use super::table::{Alias, Group, ReleaseGroup, Table};
use super::{Pool, Query};
use crate::azure::stable_hash;

/// One of several models or versions that an alias stands for, with its share of the clients.
///
/// Every target of the alias belongs to the release that names its model and version. A client keeps its release as long as the
/// shares allow it: when they change, no more clients move than must, and a request never leaves the release that it was first
/// sent to. Requests of which nobody knows the client are drawn one by one.
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
    pub(super) alias: String,
    pub(super) model: String,
    pub(super) version: String,
    pub(super) share: u32,
}

impl Release {
    /// A release of an alias by its model and version, with a share of 0.
    pub fn new(alias: impl Into<String>, model: impl Into<String>, version: impl Into<String>) -> Self {
        Self { alias: alias.into(), model: model.into(), version: version.into(), share: 0 }
    }

    /// How many of the clients it gets, relative to the other releases of the alias; 0 is none. At most
    /// [`MAX_WEIGHT`](super::MAX_WEIGHT).
    pub const fn share(mut self, share: u32) -> Self {
        self.share = share;
        self
    }

    pub(super) fn is(&self, alias: &str, model: &str, version: &str) -> bool {
        self.alias == alias && self.model == model && self.version == version
    }

    pub(super) fn is_of(&self, alias: &str, model: &str, version: Option<&str>) -> bool {
        version.is_some_and(|version| self.is(alias, model, version))
    }

    pub(super) fn identity(&self) -> u64 {
        stable_hash([&self.alias, &self.model, &self.version].map(|part| part.as_bytes()))
    }
}

impl Pool {
    /// Whom a request is for now; for a request of nobody in particular, the release is drawn.
    pub(super) fn group_of<'t>(&self, table: &'t Table, query: &Query<'_>) -> Option<&'t Group> {
        let alias = match query.alias {
            Some(alias) => table.alias(alias)?,
            None => return table.group(None),
        };
        let key = || query.client.map_or_else(|| self.next_draw(), |client| stable_hash([client.as_bytes()]));
        Some(alias.release(query, key).map_or(&alias.all, |release| &release.group))
    }

    /// The same without a draw: where the release is not known, all of them.
    pub(super) fn known_group_of<'t>(&self, table: &'t Table, query: &Query<'_>) -> Option<&'t Group> {
        let begun = query.tried.is_some_and(|tried| !tried.is_empty());
        if query.client.is_some() || begun { self.group_of(table, query) } else { table.group(query.alias) }
    }
}

impl Alias {
    /// The release that the request was sent to before, or else the one that the key falls to.
    fn release(&self, query: &Query<'_>, key: impl FnOnce() -> u64) -> Option<&ReleaseGroup> {
        let tried = query.tried.filter(|tried| !tried.is_empty());
        let begun = tried.and_then(|tried| {
            self.releases.iter().find(|release| release.group.targets().any(|target| tried.contains(target)))
        });
        // State stays where it is, whatever release the client has by now.
        begun.or_else(|| if query.is_required() { None } else { self.assigned(query, key) })
    }

    /// Among those that could ever serve the request.
    fn assigned(&self, query: &Query<'_>, key: impl FnOnce() -> u64) -> Option<&ReleaseGroup> {
        let complies = |release: &&ReleaseGroup| release.group.targets().any(|target| query.allows(target));
        let [_, ..] = &self.releases[..] else { return None };
        let key = key();
        let score = |release: &ReleaseGroup| {
            rendezvous::score(f64::from(release.share), rendezvous::draw(key, release.identity))
        };
        let able = self.releases.iter().filter(|release| release.share > 0).filter(complies);
        able.max_by(|a, b| score(a).total_cmp(&score(b)))
    }
}
