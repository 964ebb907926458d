//! The backends at one moment, arranged for looking targets up.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::Instant;

use crate::azure::stable_hash;
use crate::pool::describe::{
    Backend, Checked, CircuitConfig, Credential, Deployment, Endpoint, Override, Place, PoolBuilder, Release,
};
use crate::pool::live::{Announcer, Inner, Live, Names, Resource, Served, Target, TargetSet};

/// Everything but what RFC 3986 calls unreserved.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

pub(in crate::pool) struct Table {
    pub(in crate::pool) description: PoolBuilder,
    pub(in crate::pool) resources: Vec<Arc<Resource>>,
    /// Every backend without a deployment, then every backend with each of its deployments.
    targets: Vec<Target>,
    aliases: HashMap<Arc<str>, Alias>,
    /// Aliases that further names stand for.
    names: HashMap<Arc<str>, Arc<str>>,
    unnamed: Group,
    next_slot: u32,
    pub(in crate::pool) announcer: Announcer,
}

/// Whom an alias stands for.
pub(in crate::pool) struct Alias {
    pub(in crate::pool) all: Group,
    /// Those of releases with a share.
    pub(in crate::pool) offered: Group,
    /// The same targets by release; empty where they are all of one.
    pub(in crate::pool) releases: Vec<ReleaseGroup>,
}

pub(in crate::pool) struct ReleaseGroup {
    pub(in crate::pool) share: u32,
    pub(in crate::pool) identity: u64,
    pub(in crate::pool) group: Group,
}

impl Alias {
    fn new(name: &str, targets: Vec<Target>, description: &PoolBuilder) -> Self {
        let region = description.region.as_deref();
        let releases = || description.releases.iter().filter(|release| release.alias == name);
        let of = |keep: &dyn Fn(&Target) -> bool| {
            Group::new(targets.iter().filter(|target| keep(target)).cloned().collect(), region)
        };
        let group = |release: &Release| {
            let group = of(&|target| target.is_of(release));
            ReleaseGroup { share: release.share, identity: release.identity(), group }
        };
        let is_retired = |target: &Target| releases().any(|release| release.share == 0 && target.is_of(release));
        Self {
            releases: releases().map(group).collect(),
            offered: of(&|target| !is_retired(target)),
            all: Group::new(targets, region),
        }
    }
}

/// The targets of an alias by priority, the lowest number first, and inside a priority those of the own region first.
#[derive(Default)]
pub(in crate::pool) struct Group {
    tiers: Vec<Vec<Seat>>,
    /// Places of its backends; at most [`PLACES`].
    places: Vec<Place>,
}

/// So many different places are told apart.
const PLACES: usize = u64::BITS as usize;

/// A target of a group, with what is asked of it when a thousand are looked through.
pub(in crate::pool) struct Seat {
    target: Target,
    /// The bit of its place; [`PLACES`] if it has none, or if the target is not [plain](Target::is_plain).
    place: u8,
}

/// Some places of a group.
#[derive(Clone, Copy)]
pub(in crate::pool) struct Places {
    bits: u64,
    /// True if these are all of them.
    pub(in crate::pool) all: bool,
}

impl Seat {
    pub(in crate::pool) const fn target(&self) -> &Target {
        &self.target
    }

    /// Tells whether the target is plain and its place has a bit.
    pub(in crate::pool) const fn is_plain(&self) -> bool {
        (self.place as usize) < PLACES
    }

    /// Tells whether the target may be used for being in one of these places; `None` when it must be asked itself.
    pub(in crate::pool) fn is_in(&self, places: Places) -> Option<bool> {
        places.bits.checked_shr(u32::from(self.place)).map(|bits| bits & 1 == 1)
    }
}

impl Group {
    fn new(mut targets: Vec<Target>, region: Option<&str>) -> Self {
        let rank = |target: &Target| (target.priority(), region.is_some() && target.region() != region);
        targets.sort_by_key(rank);
        let mut places = Vec::new();
        let mut seat = |target: &Target| {
            let place = &target.inner.backend.place;
            let index = places.iter().position(|other| other == place).unwrap_or(places.len());
            if index == places.len() && index < PLACES {
                places.push(place.clone());
            }
            Seat { target: target.clone(), place: if target.is_plain() { index } else { PLACES } as u8 }
        };
        let tiers = targets.chunk_by(|a, b| rank(a) == rank(b)).map(|tier| tier.iter().map(&mut seat).collect());
        Self { tiers: tiers.collect(), places }
    }

    pub(in crate::pool) fn tiers(&self) -> impl Iterator<Item = &[Seat]> {
        self.tiers.iter().map(Vec::as_slice)
    }

    pub(in crate::pool) fn seats(&self) -> impl Iterator<Item = &Seat> {
        self.tiers.iter().flatten()
    }

    pub(in crate::pool) fn targets(&self) -> impl Iterator<Item = &Target> {
        self.seats().map(Seat::target)
    }

    /// Those that are allowed, each asked once however many targets are there.
    pub(in crate::pool) fn places(&self, allows: impl Fn(&Place) -> bool) -> Places {
        let bit = |(index, place)| u64::from(allows(place)) << index;
        let bits: u64 = self.places.iter().enumerate().map(bit).sum();
        Places { bits, all: bits.count_ones() as usize == self.places.len() }
    }
}

impl Table {
    /// Arranges a description; what `before` knew of a target that stays is kept.
    pub(in crate::pool) fn build(checked: Checked, epoch: Instant, before: Option<&Self>) -> Self {
        let Checked { description, endpoints } = checked;
        let mut maker = Maker::new(epoch, description.circuit, before);
        let pairs: Vec<_> = description.backends.iter().zip(endpoints).collect();
        let all: Arc<HashSet<_>> =
            Arc::new(description.backends.iter().flat_map(|backend| description.names_at(backend)).collect());
        let names = |backend: &Backend| Names { own: description.names_at(backend).collect(), all: all.clone() };
        let resource = |backend: &Backend, endpoint| {
            maker.resource(backend, endpoint, names(backend), description.overrides.of(&backend.name))
        };
        let resources: Vec<_> = pairs.into_iter().map(|(backend, endpoint)| resource(backend, endpoint)).collect();
        let described = || description.backends.iter().zip(&resources);
        let unnamed: Vec<_> = described().map(|(backend, resource)| maker.target(backend, resource, None)).collect();
        let deployed = described().flat_map(|(b, resource)| b.deployments.iter().map(move |d| (b, resource, d)));
        let deployed: Vec<_> = deployed.map(|(b, resource, d)| maker.target(b, resource, Some(d))).collect();

        let mut aliases: HashMap<Arc<str>, Vec<Target>> = HashMap::new();
        for target in &deployed {
            if let Some(served) = &target.inner.deployment {
                aliases.entry(served.alias.clone()).or_default().push(target.clone());
            }
        }
        let by_release = |(alias, targets): (Arc<str>, Vec<Target>)| {
            let served = Alias::new(&alias, targets, &description);
            (alias, served)
        };
        Self {
            next_slot: maker.next_slot,
            announcer: maker.announcer.clone(),
            resources,
            targets: unnamed.iter().chain(&deployed).cloned().collect(),
            aliases: aliases.into_iter().map(by_release).collect(),
            names: description
                .names
                .iter()
                .map(|(alias, name)| (name.as_str().into(), alias.as_str().into()))
                .collect(),
            unnamed: Group::new(unnamed, description.region.as_deref()),
            description,
        }
    }

    /// The targets of an alias, of all releases, or the backends as such for a call that names none.
    pub(in crate::pool) fn group(&self, alias: Option<&str>) -> Option<&Group> {
        alias.map_or(Some(&self.unnamed), |alias| Some(&self.alias(alias)?.all))
    }

    pub(in crate::pool) fn alias(&self, alias: &str) -> Option<&Alias> {
        self.aliases.get(alias).or_else(|| self.aliases.get(self.names.get(alias)?))
    }

    /// The alias that a name stands for, which is mostly itself.
    pub(in crate::pool) fn alias_of<'a>(&'a self, name: &'a str) -> &'a str {
        self.names.get(name).map_or(name, |alias| alias)
    }

    /// An alias, if anybody serves it, and its further names in the order of description.
    pub(in crate::pool) fn names_of(&self, name: &str) -> Vec<Arc<str>> {
        let Some((alias, _)) = self.aliases.get_key_value(self.alias_of(name)) else { return Vec::new() };
        let also =
            self.description.names.iter().filter(|(of, _)| **of == **alias).map(|(_, name)| name.as_str().into());
        std::iter::once(alias.clone()).chain(also).collect()
    }

    /// Every target, those of the backends as such first.
    pub(in crate::pool) fn all(&self) -> &[Target] {
        &self.targets
    }

    /// Every target with a deployment, in the order of configuration.
    pub(in crate::pool) fn deployed(&self) -> impl Iterator<Item = &Target> {
        self.targets.iter().filter(|target| target.inner.deployment.is_some())
    }

    /// Returns the target whose circuit has this name.
    pub(in crate::pool) fn circuit(&self, name: &str) -> Option<&Target> {
        self.targets.iter().find(|target| target.live.name() == name)
    }

    pub(in crate::pool) fn aliases(&self) -> Vec<Arc<str>> {
        let mut aliases: Vec<_> = self.aliases.keys().cloned().collect();
        aliases.sort();
        aliases
    }

    /// One target of each deployment, however many aliases it serves. Owned, so that a circuit can be changed while the table is
    /// replaced.
    pub(super) fn others(&self, mut keep: impl FnMut(&Target) -> bool) -> Vec<Target> {
        let mut listed = TargetSet::default();
        self.targets.iter().filter(|target| keep(target) && listed.insert(target)).cloned().collect()
    }

    fn find(&self, backend: &Backend, endpoint: &Endpoint, deployment: Option<&str>) -> Option<&Target> {
        let same = |target: &&Target| {
            target.backend() == backend.name
                && target.deployment() == deployment
                && target.endpoint().is_same_place(endpoint)
        };
        self.targets.iter().find(same)
    }
}

/// Parts of a target that stay while descriptions change, and its slot.
type Kept = (u32, Arc<Live>);

struct Maker<'a> {
    epoch: Instant,
    circuit: CircuitConfig,
    before: Option<&'a Table>,
    next_slot: u32,
    /// Deployments by backend and name: what one has learned belongs to all aliases under which its backend has it.
    made: HashMap<(Arc<str>, Option<String>), Kept>,
    announcer: Announcer,
}

impl<'a> Maker<'a> {
    fn new(epoch: Instant, circuit: CircuitConfig, before: Option<&'a Table>) -> Self {
        let next_slot = before.map_or(0, |table| table.next_slot);
        let announcer = before.map(|table| table.announcer.clone()).unwrap_or_default();
        Self { epoch, circuit, before, next_slot, made: HashMap::new(), announcer }
    }

    fn resource(&self, backend: &Backend, endpoint: Endpoint, names: Names, told: Override) -> Arc<Resource> {
        let known = self.before.and_then(|table| table.find(backend, &endpoint, None));
        let (in_flight, trouble) = match known.map(|target| &target.inner.backend) {
            Some(known) => (known.in_flight.clone(), known.trouble.clone()),
            None => <_>::default(),
        };
        Arc::new(Resource {
            name: backend.name.as_str().into(),
            kind: backend.kind,
            endpoint,
            credential: backend.credential.clone(),
            priority: backend.priority,
            weight: told.weight.unwrap_or(backend.weight),
            configured_weight: backend.weight,
            told,
            region: backend.region.as_deref().map(Into::into),
            place: Place { geography: backend.geography.as_deref().map(Into::into), processing: backend.processing },
            names,
            in_flight,
            trouble,
        })
    }

    fn target(&mut self, backend: &Backend, resource: &Arc<Resource>, deployment: Option<&Deployment>) -> Target {
        let name = deployment.map(|d| d.name.as_str());
        let identity = stable_hash([backend.name.as_bytes(), name.unwrap_or_default().as_bytes()]);
        let (slot, live) = self.live(backend, resource, name, identity);
        let weight = deployment.and_then(|d| d.weight).unwrap_or(resource.weight);
        let inner = Inner {
            priority: deployment.and_then(|d| d.priority).unwrap_or(backend.priority),
            max_in_flight: backend.max_in_flight,
            drained: resource.is_drained() || weight == 0,
            pass_through: backend.credential.as_ref().is_some_and(Credential::is_pass_through),
            backend: resource.clone(),
            deployment: deployment.map(|d| Served {
                name: d.name.as_str().into(),
                path_segment: utf8_percent_encode(&d.name, SEGMENT).to_string().into(),
                json_name: serde_json::Value::from(d.name.as_str()).to_string().into(),
                alias: d.alias_name().into(),
                model: d.model_name().into(),
                version: d.version.as_deref().map(Into::into),
                tokens_per_minute: d.tokens_per_minute,
            }),
            quota_group: deployment
                .and_then(|d| d.quota_group.as_deref())
                .or(backend.quota_group.as_deref())
                .map(Into::into),
        };
        Target::new(live, slot, identity, weight, inner)
    }

    fn live(&mut self, backend: &Backend, resource: &Resource, deployment: Option<&str>, identity: u64) -> Kept {
        let key = (resource.name.clone(), deployment.map(str::to_owned));
        if let Some(made) = self.made.get(&key) {
            return made.clone();
        }
        let known = self.before.and_then(|table| table.find(backend, &resource.endpoint, deployment));
        let made = match known {
            Some(target) => {
                target.live.configure(self.circuit, Instant::now());
                (target.slot, target.live.clone())
            }
            None => self.fresh(backend, deployment, identity),
        };
        self.made.insert(key, made.clone());
        made
    }

    fn fresh(&mut self, backend: &Backend, deployment: Option<&str>, identity: u64) -> Kept {
        let slot = self.next_slot;
        self.next_slot += 1;
        let name = deployment.map_or_else(|| backend.name.clone(), |name| format!("{}/{name}", backend.name));
        (slot, Live::new((name, identity), self.epoch, self.circuit, self.announcer.clone()))
    }
}
