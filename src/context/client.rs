use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use http::header::InvalidHeaderValue;

use super::Limits;
use crate::azure::operation::Operation;
use crate::pool::{Constraints, Priority, Processing};

/// Caller, with what it may do. Cheap to clone.
///
/// ```
/// use tower_azure_openai::context::Client;
///
/// let client = Client::new("team-a").allow(["gpt-4o"]).geography("us");
/// assert!(client.may_use("gpt-4o") && !client.may_use("o3"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Client(Arc<Inner>, Option<ClientToken>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Inner {
    id: Arc<str>,
    allow: Option<BTreeSet<Box<str>>>,
    routes: BTreeMap<Box<str>, Box<str>>,
    /// Names of deployments, and the aliases as which lines of files are understood that have them.
    deployments: BTreeMap<Box<str>, Box<str>>,
    operations: Vec<Operation>,
    constraints: Constraints,
    limits: Limits,
    priority: Priority,
}

impl Client {
    /// A client by its id, which appears in logs. It may use every alias on every backend until said otherwise.
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        let inner = Inner {
            id: id.into(),
            allow: None,
            routes: BTreeMap::new(),
            deployments: BTreeMap::new(),
            operations: Vec::new(),
            constraints: Constraints::default(),
            limits: Limits::NONE,
            priority: Priority::default(),
        };
        Self(Arc::new(inner), None)
    }

    /// Only these aliases, by the names that the client uses; where an alias has several, [`Pool::names_of`](crate::pool::Pool::names_of)
    /// lists them.
    pub fn allow<A: Into<Box<str>>>(self, aliases: impl IntoIterator<Item = A>) -> Self {
        self.with(|inner| inner.allow = Some(aliases.into_iter().map(Into::into).collect()))
    }

    /// Serves this client by the targets of `stands_for` when it says `alias`. One step: what the other name stands for is
    /// not looked up again.
    ///
    /// What the client may use is asked by the name that it says, so to allow the one is not to allow the other.
    ///
    /// ```
    /// # use tower_azure_openai::context::Client;
    /// let client = Client::new("team-a").allow(["gpt-4o"]).route("gpt-4o", "gpt-4o-team-a");
    /// assert_eq!(client.resolve("gpt-4o"), "gpt-4o-team-a");
    /// assert!(client.may_use("gpt-4o") && !client.may_use("gpt-4o-team-a"));
    /// ```
    pub fn route(self, alias: impl Into<Box<str>>, stands_for: impl Into<Box<str>>) -> Self {
        self.with(|inner| drop(inner.routes.insert(alias.into(), stands_for.into())))
    }

    /// In the lines of a batch file, the name of this deployment stands for the alias: such files may be older than the gateway, and
    /// name what there is on their resource. Nowhere else is it a name.
    pub fn deployment(self, deployment: impl Into<Box<str>>, alias: impl Into<Box<str>>) -> Self {
        self.with(|inner| drop(inner.deployments.insert(deployment.into(), alias.into())))
    }

    /// Calls that it may make although nobody can see which models they use, when it is held to a list of aliases, each by its own
    /// operation: batches, fine-tuning, evals, realtime calls, ingestion jobs, deleting a model, agents
    /// ([`Responses`](Operation::Responses)); and what goes on with a video, or runs ([`Threads`](Operation::Threads)) or changes an
    /// assistant without naming its model, where it is not known that one of the client's aliases made it
    /// ([`AuthorizeLayer::objects_decide`](crate::authorize::AuthorizeLayer::objects_decide)).
    /// [`Other`](Operation::Other) opens unknown paths and all of these but batches, fine-tuning and evals. Default: none.
    pub fn operations(self, operations: impl IntoIterator<Item = Operation>) -> Self {
        self.with(|inner| inner.operations = operations.into_iter().collect())
    }

    /// Residency: only backends of this geography, ever.
    pub fn geography(self, geography: impl Into<Box<str>>) -> Self {
        self.with(|inner| inner.constraints = std::mem::take(&mut inner.constraints).geography(geography))
    }

    /// Residency: only backends that process prompts in one of these scopes.
    pub fn processing(self, scopes: impl IntoIterator<Item = Processing>) -> Self {
        self.with(|inner| inner.constraints = std::mem::take(&mut inner.constraints).processing(scopes))
    }

    /// Limits its use. Default: no limit. Held by [`ClientLimitLayer`](crate::limit::ClientLimitLayer).
    pub fn limits(self, limits: Limits) -> Self {
        self.with(|inner| inner.limits = limits)
    }

    /// Rank by which clients give way when there is not room for all. Default: [`Priority::Normal`].
    pub fn priority(self, priority: Priority) -> Self {
        self.with(|inner| inner.priority = priority)
    }

    /// The token by which it was known, for backends with [`Credential::pass_through`]. Whoever identifies clients by tokens
    /// adds it for the request at hand; a key is none.
    ///
    /// [`Credential::pass_through`]: crate::pool::Credential::pass_through
    pub fn with_token(mut self, token: ClientToken) -> Self {
        self.1 = Some(token);
        self
    }

    /// The same client for later, when its token is nobody's business any more.
    pub(crate) fn without_token(mut self) -> Self {
        self.1 = None;
        self
    }

    /// The client's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// The id, for whoever keeps it.
    pub(crate) fn shared_id(&self) -> Arc<str> {
        self.0.id.clone()
    }

    /// Returns the limits of its use.
    pub fn limited_to(&self) -> Limits {
        self.0.limits
    }

    /// Its priority, which a single request may lower.
    #[must_use]
    pub fn own_priority(&self) -> Priority {
        self.0.priority
    }

    /// The aliases that the client may use, if it is held to a list.
    pub(crate) fn allowed(&self) -> Option<impl Iterator<Item = &str>> {
        self.0.allow.as_ref().map(|allowed| allowed.iter().map(|alias| &**alias))
    }

    /// Tells whether the client may use an alias.
    #[must_use]
    pub fn may_use(&self, alias: &str) -> bool {
        self.0.allow.as_ref().is_none_or(|allowed| allowed.contains(alias))
    }

    /// The alias of the pool that a name of this client stands for.
    #[must_use]
    pub fn resolve<'a>(&'a self, alias: &'a str) -> &'a str {
        self.0.routes.get(alias).map_or(alias, |stands_for| stands_for)
    }

    /// Tells whether it may use what a line of a file names.
    pub(crate) fn may_use_in_lines(&self, name: &str) -> bool {
        self.may_use(name) || self.0.deployments.get(name).is_some_and(|alias| self.may_use(alias))
    }

    /// The alias of the pool that a name in a line of a file stands for.
    pub(crate) fn resolve_in_lines<'a>(&'a self, name: &'a str) -> &'a str {
        self.resolve(self.0.deployments.get(name).map_or(name, |alias| alias))
    }

    /// The names of this client that stand for others.
    pub fn routed(&self) -> impl Iterator<Item = &str> {
        self.0.routes.keys().map(|name| &**name)
    }

    /// Tells whether the client is held to a list of aliases.
    #[must_use]
    pub fn is_restricted(&self) -> bool {
        self.0.allow.is_some()
    }

    /// Tells whether the client may make a call of which nobody can see which models it uses.
    #[must_use]
    pub fn may_call(&self, operation: Operation) -> bool {
        let opens = |operation| self.0.operations.contains(&operation);
        let is_apart = matches!(operation, Operation::Batches | Operation::Evals | Operation::FineTuning);
        !self.is_restricted() || opens(operation) || !is_apart && opens(Operation::Other)
    }

    /// Returns its demands on every backend.
    #[must_use]
    pub fn constraints(&self) -> &Constraints {
        &self.0.constraints
    }

    /// The token by which it was known, if it was one.
    #[must_use]
    pub const fn token(&self) -> Option<&ClientToken> {
        self.1.as_ref()
    }

    fn with(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }
}

/// A client's own Entra token, in the form in which a backend is shown it. `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientToken(HeaderValue);

impl ClientToken {
    /// A token as it stands behind `Bearer`, once it is known to be one.
    ///
    /// # Errors
    /// It holds a byte that a header cannot carry.
    pub fn new(token: impl AsRef<[u8]>) -> Result<Self, InvalidHeaderValue> {
        let mut value = HeaderValue::from_maybe_shared(Bytes::from([b"Bearer ", token.as_ref()].concat()))?;
        value.set_sensitive(true);
        Ok(Self(value))
    }

    /// The value of `Authorization`.
    pub(crate) const fn as_header(&self) -> &HeaderValue {
        &self.0
    }
}

impl fmt::Debug for ClientToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientToken")
    }
}
