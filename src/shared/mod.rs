//! State that several replicas of a gateway share in Redis: limits, where objects lie, which circuits are open.
//!
//! 1. [`SharedLimits`]: one account for each client, in one script, by the clock of Redis's server. So many replicas admit together
//!    what one would.
//! 2. [`SharedIds`]: where an object lies and whose it is. What one replica learned, the others use without asking backends.
//! 3. A circuit that opens at one replica opens at the others for as long ([`Shared::follow`]). Closing is never shared: each
//!    replica finds out for itself.
//! 4. The usage of an object that went on in the background is counted once, whichever replica sees it first ([`SharedOnce`]).
//! 5. Usage is summed up by day for all replicas together ([`Shared::share_usage`]).
//! 6. Nothing waits for Redis longer than 40 ms, and nothing at all while it is known to be away: that is told once in the
//!    log (ERROR) and by [`Shared::problem`]. Limits then go on as [`OnFailure`] says, in shares of what was left when Redis went;
//!    ids are remembered and discovered by each replica for itself, and circuits are its own.
//!
//! In Redis are ids as digests, names of clients, backends and deployments, and numbers. Nothing of a prompt, an answer or a key is.
//! Not shared: ephemeral keys of realtime sessions, retry budgets, in-flight places, latencies.
//!
//! Redis has to be of version 6.2 or later, without cluster mode on the client's side. A [`Login`] with tokens is Azure's.
//!
//! ```no_run
//! use tower_azure_openai::limit::ClientLimitLayer;
//! use tower_azure_openai::session::{MemoryStore, StickySessionLayer};
//! use tower_azure_openai::shared::{Login, OnFailure, Shared};
//! # use tower_azure_openai::pool::Pool;
//!
//! # async fn example(pool: Pool) -> Result<(), Box<dyn std::error::Error>> {
//! let shared = Shared::new("redis://127.0.0.1:6379".parse()?, Login::Nobody)?;
//! let limits = ClientLimitLayer::new(shared.limits(OnFailure::Local));
//! let session = StickySessionLayer::new(pool.clone()).store(shared.ids(MemoryStore::new(100_000)));
//! shared.follow(pool);
//! # Ok(())
//! # }
//! ```

mod address;
mod dial;
mod ids;
mod limits;
mod link;
mod once;
mod openings;
mod usage;

use std::fmt;
use std::time::Duration;

pub use self::address::{Address, InvalidAddress, Login};
pub use self::ids::{CLIENT_IDS, SharedIds};
pub use self::limits::{OnFailure, SharedLimits};
use self::link::Link;
use self::link::PATIENCE;
pub use self::once::SharedOnce;
use crate::directory::SessionStore;
use crate::meter::Ledger;
use crate::pool::Pool;

/// One Redis, for all that is shared. Clones share its connection.
///
/// The connection is made, watched and made anew by a task that ends with the last clone.
#[derive(Clone)]
pub struct Shared(Link);

impl Shared {
    /// Begins to connect. Has to be called within a runtime.
    ///
    /// # Errors
    /// The address has no name that TLS could prove, or TLS cannot be set up.
    pub fn new(address: Address, login: Login) -> Result<Self, InvalidAddress> {
        Self::with_patience(address, login, PATIENCE)
    }

    /// The same for a Redis that is waited for so long, rather than 40 ms.
    ///
    /// # Errors
    /// As of [`new`](Self::new).
    pub fn with_patience(address: Address, login: Login, patience: Duration) -> Result<Self, InvalidAddress> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|_| InvalidAddress("there is no randomness for this replica's name"))?;
        let replica = random.iter().fold(String::new(), |name, byte| format!("{name}{byte:02x}"));
        Ok(Self(Link::new(address, login, replica, patience)?))
    }

    /// Waits until the first attempt to connect has ended, well or not.
    pub async fn ready(&self) {
        self.0.known().await;
    }

    /// Finds out now whether Redis can be used.
    ///
    /// # Errors
    /// Why not, as a sentence without secrets.
    pub async fn check(&self) -> Result<(), String> {
        self.0.try_now().await
    }

    /// Accounts of clients that all replicas share.
    #[must_use]
    pub fn limits(&self, on_failure: OnFailure) -> SharedLimits {
        SharedLimits::new(self.0.clone(), on_failure)
    }

    /// Ids that all replicas remember, behind a store of this one.
    #[must_use]
    pub fn ids<S: SessionStore>(&self, own: S) -> SharedIds<S> {
        SharedIds::new(self.0.clone(), own)
    }

    /// Has objects that go on in the background counted by one replica only.
    #[must_use]
    pub fn count_once(&self) -> SharedOnce {
        SharedOnce::new(self.0.clone())
    }

    /// Has a ledger tell what all replicas used: what is entered here is added within a few seconds, and what others used appears.
    /// While Redis is away it tells what was known and what this replica used since; nothing is lost but with its process.
    pub fn share_usage(&self, ledger: &Ledger) {
        usage::share(&self.0, ledger);
    }

    /// Opens in this pool what is open at other replicas, and tells them what opens here.
    ///
    /// Called again with a successor, it follows that instead.
    pub fn follow(&self, pool: Pool) {
        openings::follow(&self.0, pool);
    }

    /// Tells whether Redis is there.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.0.is_up()
    }

    /// Returns why it is not, as a sentence without secrets; `None` while it is.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let (why, replicas) = (self.0.problem()?, self.0.replicas());
        Some(format!("Redis is out of reach ({why}): this replica goes on alone, with 1/{replicas} of each limit."))
    }

    /// Returns how often Redis answered too late to be of use, or not at all: requests went on without. An answer about an id is of use
    /// for a fifth of the time that requests wait.
    #[must_use]
    pub fn late(&self) -> u64 {
        self.0.late()
    }

    /// Returns how many replicas there were when that was last known, this one among them.
    #[must_use]
    pub fn replicas(&self) -> u32 {
        self.0.replicas()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shared").field(&self.0).finish()
    }
}
