//! The backends and their live state, behind one handle that is cheap to clone. No I/O.
//!
//! A [`Pool`] is built once from a description that is checked as a whole ([`PoolBuilder::build`]) and can be changed while
//! it serves: [`replace`](Pool::replace), [`set_weight`](Pool::set_weight), [`drain`](Pool::drain). Requests that are
//! running finish where they are, and the circuit, the counters and the places of a target that stays are kept. For a change
//! of everything at once, with no request between two configurations, there is [`successor`](Pool::successor).
//!
//! ```
//! use tower_azure_openai::pool::{Backend, Credential, Deployment, Pool};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = Pool::builder()
//!     .add_backend(
//!         Backend::new("ptu-eastus", "https://contoso-eastus.openai.azure.com")
//!             .credential(Credential::api_key("…key one…".as_bytes())?)
//!             .add_deployment(Deployment::new("gpt-4o-ptu").alias("gpt-4o").version("2024-08-06")),
//!     )
//!     .add_backend(
//!         Backend::new("paygo-westus", "https://contoso-westus.openai.azure.com")
//!             .credential(Credential::api_key("…key two…".as_bytes())?)
//!             .priority(1)
//!             .add_deployment(Deployment::new("gpt-4o").version("2024-08-06")),
//!     )
//!     .build()?;
//! assert_eq!(pool.targets("gpt-4o").len(), 2);
//!
//! pool.drain("ptu-eastus")?;
//! assert!(pool.is_ready() && pool.status().backends[0].drained);
//! # Ok(())
//! # }
//! ```
//!
//! Where there is not room for all, what is left of a target that is much used goes to those of higher [`Priority`]: [`Thresholds`]
//! say from which [utilization](Target::utilization) on. Nothing is queued. Whoever finds all that is left reserved is told so as
//! if the targets were full.
//!
//! Who may see a request is a matter of [`Constraints`], those of its client and those of the request itself. Whoever does not
//! comply with both is, for this request, not there: not chosen, not pinned, not asked for objects, not waited for.

mod describe;
mod find;
mod live;
mod tell;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arc_swap::ArcSwap;
use tokio::time::Instant;

#[cfg(any(feature = "azure-identity", feature = "client", feature = "entra"))]
pub(crate) use self::describe::is_loopback;
pub use self::describe::{
    Backend, BackendKind, BearerTokens, BoxFuture, BuildError, CircuitConfig, Constraints, Credential, Deployment,
    Endpoint, MAX_PRIORITY, MAX_WEIGHT, PoolBuilder, Priority, Processing, Release, Thresholds,
};
pub use self::find::{Pin, Pool, Query, Strength};
pub(crate) use self::find::{in_range, rendezvous};
pub(crate) use self::live::ceil_ms;
pub(crate) use self::live::{Breaker, BreakerPermit};
pub use self::live::{
    CircuitState, NoTarget, NoTargetReason, Opening, Openings, Permit, RouteKind, Target, TargetSet, Transition, load,
};
pub use self::tell::{
    BackendStatus, DeploymentStatus, Explained, Explanation, FirstContent, Obstacle, PoolStatus, ReleaseStatus,
};

use self::describe::{Checked, Override};
use self::find::{Shared, Table};
use self::live::Neighbours;

impl PoolBuilder {
    /// Checks the description and makes the pool.
    ///
    /// # Errors
    /// Every problem at once, each naming the backend or alias and what to change.
    pub fn build(self) -> Result<Pool, BuildError> {
        Pool::from_description(self.checked()?)
    }
}

impl Pool {
    /// Starts a description.
    pub fn builder() -> PoolBuilder {
        PoolBuilder::default()
    }

    fn from_description(checked: Checked) -> Result<Self, BuildError> {
        let epoch = Instant::now();
        let table = ArcSwap::from_pointee(Table::build(checked, epoch, None));
        Ok(Self(Arc::new(Shared {
            epoch,
            table,
            changing: Arc::default(),
            draws: AtomicU64::new(0),
            spread: <_>::default(),
        })))
    }

    /// Takes another description. Running requests finish where they are; what a target learned is kept where its backend
    /// (by name and endpoint) and its deployment (by name) stay.
    ///
    /// # Errors
    /// Every problem of the description; then nothing has changed.
    pub fn replace(&self, description: PoolBuilder) -> Result<(), BuildError> {
        let _changing = self.changing();
        self.rebuild(description)
    }

    /// Another pool with another description, which shares with this one what a target has learned and is doing, where its
    /// backend (by name and endpoint) and its deployment (by name) are in both.
    ///
    /// With [`replace`](Self::replace) a running request that looks for its next target finds the new ones. A stack over a
    /// successor takes the place of a stack over this pool as a whole: clients, aliases and backends of two configurations
    /// never meet in one request. Circuits that both have get the successor's settings at once.
    ///
    /// # Errors
    /// Every problem of the description; then nothing has changed.
    pub fn successor(&self, description: PoolBuilder) -> Result<Self, BuildError> {
        let _changing = self.changing();
        let table = ArcSwap::from_pointee(self.rebuilt(description)?);
        Ok(Self(Arc::new(Shared {
            epoch: self.0.epoch,
            table,
            changing: self.0.changing.clone(),
            draws: AtomicU64::new(0),
            spread: <_>::default(),
        })))
    }

    /// Gives a backend another share inside its priority group than its description says; 0 sends nothing new there. Deployments
    /// with a weight of their own keep it.
    ///
    /// Holds, as all that is said of a backend beside its description, through [`replace`](Self::replace) and for a
    /// [`successor`](Self::successor), also while the backend is not described.
    ///
    /// # Errors
    /// No backend has that name, or the weight is out of range; then nothing has changed.
    pub fn set_weight(&self, backend: &str, weight: u32) -> Result<(), BuildError> {
        if weight > MAX_WEIGHT {
            return Err(BuildError::weight_above_max(backend));
        }
        self.tell(backend, |told| told.weight = Some(weight))
    }

    /// Gives a backend the share back that its description says.
    ///
    /// # Errors
    /// No backend has that name.
    pub fn reset_weight(&self, backend: &str) -> Result<(), BuildError> {
        self.tell(backend, |told| told.weight = None)
    }

    /// Gives a release another share of the clients of its alias; 0 is none.
    ///
    /// # Errors
    /// There is no such release, the share is out of range, or no release of the alias is left with any; then nothing has
    /// changed.
    pub fn set_share(&self, alias: &str, model: &str, version: &str, share: u32) -> Result<(), BuildError> {
        let _changing = self.changing();
        let mut description = self.0.table.load().description.clone();
        let found = description.releases.iter_mut().find(|release| release.is(alias, model, version));
        found.ok_or_else(|| BuildError::no_release(alias, model, version))?.share = share;
        self.rebuild(description)
    }

    /// Sends nothing new to a backend until [`undrain`](Self::undrain); what runs there finishes, and state that it holds stays
    /// reachable. As with [`set_weight`](Self::set_weight), another description changes nothing of it.
    ///
    /// # Errors
    /// No backend has that name.
    pub fn drain(&self, backend: &str) -> Result<(), BuildError> {
        self.tell(backend, |told| told.is_drained = true)
    }

    /// Takes [`drain`](Self::drain) back. A backend without weight still gets nothing.
    ///
    /// # Errors
    /// No backend has that name.
    pub fn undrain(&self, backend: &str) -> Result<(), BuildError> {
        self.tell(backend, |told| told.is_drained = false)
    }

    /// Closes the circuit of a deployment, for somebody who knows that it is well. Requests that are under way teach it nothing any
    /// more; the next ones do.
    ///
    /// # Errors
    /// No backend has that name, or it has no such deployment.
    pub fn close_circuit(&self, backend: &str, deployment: &str) -> Result<(), BuildError> {
        let table = self.0.table.load();
        let mut own = table.deployed().filter(|target| target.backend() == backend).peekable();
        if own.peek().is_none() {
            return Err(BuildError::no_backend(backend));
        }
        let found = own.find(|target| target.deployment() == Some(deployment));
        let target = found.ok_or_else(|| BuildError::no_deployment(backend, deployment))?;
        target.live.close(Instant::now());
        Ok(())
    }

    /// Listens to circuits that open, in this pool and its successors.
    #[must_use]
    pub fn openings(&self) -> Openings {
        self.0.table.load().announcer.listen()
    }

    /// Opens a circuit because it is open at another replica, and for as long. A failure, which a request of somebody there may have
    /// brought about, opens nothing that is the last to admit here.
    pub fn adopt(&self, opening: &Opening) {
        let now = Instant::now();
        let table = self.0.table.load();
        let Some(target) = table.circuit(&opening.circuit) else { return };
        let adopt = || target.live.adopt(opening.until, opening.throttled, now);
        if opening.throttled {
            return adopt();
        }
        self.0.with_others_admitting(target, now, &mut |others| {
            if others {
                adopt();
            }
        });
    }

    /// Tells whether any backend could serve: not drained, with a usable identity, and not down. A throttled one could.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let now = Instant::now();
        // All of them, so that the tokens of those that only stand by are kept fresh too.
        self.0.table.load().deployed().filter(|target| target.is_able(now)).count() > 0
    }

    /// Tells of every change of a circuit from now on, of this pool and of all its [successors](Self::successor).
    ///
    /// Called by the request that brought the change about, without a lock; what takes long belongs into a queue.
    pub fn on_transition(&self, listener: impl Fn(&Transition<'_>) + Send + Sync + 'static) {
        self.0.table.load().announcer.add(&(Arc::new(listener) as _));
    }

    pub(crate) fn circuit_config(&self) -> CircuitConfig {
        self.0.table.load().description.circuit
    }

    /// Every target, those of the backends as such first.
    pub(crate) fn all_targets(&self) -> Vec<Target> {
        self.0.table.load().all().to_vec()
    }

    /// The targets that serve an alias, in the order of priority, the own region first, and then of configuration.
    #[must_use]
    pub fn targets(&self, alias: &str) -> Vec<Target> {
        self.0.table.load().group(Some(alias)).map_or_else(Vec::new, |group| group.targets().cloned().collect())
    }

    /// The target of a backend that serves an alias there, if any; the one that is tried first, where there are several.
    #[must_use]
    pub fn target_at(&self, backend: &str, alias: &str) -> Option<Target> {
        let table = self.0.table.load();
        let found = table.alias(alias)?.offered.targets().find(|target| target.backend() == backend);
        found.cloned()
    }

    /// Every name that clients may use for an alias: the alias itself, then its further names. Any of them may be asked about;
    /// what nobody serves has none.
    #[must_use]
    pub fn names_of(&self, alias: &str) -> Vec<Arc<str>> {
        self.0.table.load().names_of(alias)
    }

    /// Every alias, sorted; the further names are told by [`names_of`](Self::names_of).
    #[must_use]
    pub fn aliases(&self) -> Vec<Arc<str>> {
        self.0.table.load().aliases()
    }

    /// The names of all backends, in the order of configuration.
    #[must_use]
    pub fn backends(&self) -> Vec<Arc<str>> {
        self.0.table.load().resources.iter().map(|resource| resource.name.clone()).collect()
    }

    fn tell(&self, backend: &str, change: impl FnOnce(&mut Override)) -> Result<(), BuildError> {
        let _changing = self.changing();
        let mut description = self.0.table.load().description.clone();
        if !description.backends.iter().any(|described| described.name == backend) {
            return Err(BuildError::no_backend(backend));
        }
        description.overrides.change(backend, change);
        self.0.table.store(Arc::new(self.arranged(description)?));
        Ok(())
    }

    fn rebuild(&self, description: PoolBuilder) -> Result<(), BuildError> {
        self.0.table.store(Arc::new(self.rebuilt(description)?));
        Ok(())
    }

    /// Rebuilds the table with what was told beside the description before.
    fn rebuilt(&self, mut description: PoolBuilder) -> Result<Table, BuildError> {
        description.overrides = self.0.table.load().description.overrides.clone();
        self.arranged(description)
    }

    fn arranged(&self, description: PoolBuilder) -> Result<Table, BuildError> {
        Ok(Table::build(description.checked()?, self.0.epoch, Some(&self.0.table.load())))
    }
}
