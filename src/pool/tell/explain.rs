//! Reasons why a target would, or would not, be given a request.

use std::fmt;
use std::time::Duration;

use crate::pool::describe::{Constraints, Place, Processing};
use crate::pool::find::{Barrier, Pool, Query, Surveyed, View};
use crate::pool::live::{CircuitState, Target, ceil_ms};

/// Forecast of a request now: for every target of the pool, whether it is a candidate, and if not, all that stands in
/// its way.
///
/// Displays as a table, for tests that fail and for logs. Holds no endpoint and no credential.
///
/// ```
/// use http::{Method, Uri};
/// use tower_azure_openai::context::{Client, Route};
/// use tower_azure_openai::pool::{Backend, Deployment, Pool};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let serving = |name| Backend::new(name, format!("https://{name}.example")).add_deployment(Deployment::new("gpt-4o"));
/// let pool = Pool::builder()
///     .add_backend(serving("ptu").geography("us"))
///     .add_backend(serving("paygo").geography("us").priority(1))
///     .add_backend(serving("sweden").geography("eu").weight(0))
///     .build()?;
/// let route = Route::parse(&Method::POST, &Uri::from_static("/openai/deployments/gpt-4o/embeddings"))?;
/// let explanation = pool.explain(&route, Some(&Client::new("team-a").geography("us")));
/// assert_eq!(explanation.to_string(), "\
/// gpt-4o: 1 of 3 targets is a candidate
///   ptu/gpt-4o     priority 0  candidate: weight 1, 0 in flight
///   sweden/gpt-4o  priority 0  no: geography is eu, not us; drained
///   paygo/gpt-4o   priority 1  no: others come first
/// ");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Explanation {
    alias: Option<Box<str>>,
    targets: Vec<Explained>,
}

/// One target of an [`Explanation`].
#[derive(Clone, Debug)]
pub struct Explained {
    target: Target,
    obstacles: Vec<Obstacle>,
}

/// Obstacle between a target and a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Obstacle {
    /// A target of a lower priority number, or of the gateway's own region, can take the request.
    Behind,
    /// It gets nothing new.
    Drained,
    /// Its backend has as many requests in flight as it may.
    Full {
        /// Number of places that it has.
        max_in_flight: u32,
    },
    /// It stands where the client's data must not go.
    Geography {
        /// Geography in which it stands, if that was told.
        is: Option<Box<str>>,
        /// Geography in which the client's data must stay.
        wanted: Box<str>,
    },
    /// It does not comply with what this one request demands beside its client.
    Narrowed,
    /// Its token is not at hand, or was refused: it is chosen only when nobody else could be.
    NoIdentity,
    /// Its backend does not serve what else the request names.
    NotBeside,
    /// It serves another alias, or none.
    NotServed,
    /// The state that the request refers to is at another backend.
    PinnedElsewhere,
    /// Its circuit is open.
    Open {
        /// The backend asked to wait, rather than failed.
        throttled: bool,
        /// Time for which it is.
        wait: Duration,
    },
    /// It is of another release than the client's.
    OtherRelease,
    /// Its circuit lets single requests through to find out whether it is well, and one was just sent.
    Probing {
        /// Time until the next one.
        wait: Duration,
    },
    /// It may process prompts where the client does not accept it.
    Processing {
        /// Processing that it promises.
        is: Processing,
    },
    /// The rest of it is for requests of higher [priority](crate::pool::Priority).
    Reserved {
        /// Percentage of it that is used.
        percent: u32,
    },
    /// It is shown the client's own token, and the client has none.
    TokenMissing,
    /// The request was sent there before.
    Tried,
}

impl Explanation {
    /// The alias that is asked for.
    #[must_use]
    pub fn alias(&self) -> Option<&str> {
        self.alias.as_deref()
    }

    /// Every target: first those that serve the alias, in the order in which they are tried, then the others in the order of
    /// configuration.
    #[must_use]
    pub fn targets(&self) -> &[Explained] {
        &self.targets
    }

    /// Those among which the policy would choose.
    pub fn candidates(&self) -> impl Iterator<Item = &Target> {
        self.targets.iter().filter(|explained| explained.is_candidate()).map(Explained::target)
    }
}

impl Explained {
    /// Whom it is about.
    #[must_use]
    pub const fn target(&self) -> &Target {
        &self.target
    }

    /// All that stands in the way, the weightiest first.
    #[must_use]
    pub fn obstacles(&self) -> &[Obstacle] {
        &self.obstacles
    }

    /// Tells whether nothing does.
    #[must_use]
    pub fn is_candidate(&self) -> bool {
        self.obstacles.is_empty()
    }
}

impl Pool {
    /// Says for every target why a request would, or would not, be given to it now.
    #[must_use]
    pub fn explain_query(&self, query: &Query<'_>) -> Explanation {
        let table = self.0.table.load();
        let view = self.view(&table, query);
        let targets = self.survey(&table, view).into_iter().map(|surveyed| Explained::new(view, surveyed)).collect();
        Explanation { alias: query.alias.map(Into::into), targets }
    }
}

impl Explained {
    pub(super) fn new(view: View<'_>, (target, barriers): Surveyed) -> Self {
        let obstacles = barriers.iter().flat_map(|barrier| obstacles(barrier, view, &target)).collect();
        Self { target, obstacles }
    }
}

/// A barrier in the words of those who read explanations; demands on places are one each.
fn obstacles(barrier: Barrier, view: View<'_>, target: &Target) -> Vec<Obstacle> {
    let wait = target.live.admits_in(view.since_epoch);
    vec![match barrier {
        Barrier::Behind => Obstacle::Behind,
        Barrier::Drained => Obstacle::Drained,
        Barrier::Failing | Barrier::Throttled => match target.live.state(view.now) {
            CircuitState::Open { throttled, .. } => Obstacle::Open { throttled, wait },
            CircuitState::Closed | CircuitState::HalfOpen => Obstacle::Probing { wait },
        },
        Barrier::Full => Obstacle::Full { max_in_flight: target.inner.max_in_flight },
        // What a request keeps to may come from a header, of which nothing is shown.
        Barrier::Narrowed => Obstacle::Narrowed,
        Barrier::NoIdentity => Obstacle::NoIdentity,
        Barrier::NotBeside => Obstacle::NotBeside,
        Barrier::NotServed => Obstacle::NotServed,
        Barrier::OtherRelease => Obstacle::OtherRelease,
        Barrier::PinnedElsewhere => Obstacle::PinnedElsewhere,
        Barrier::Reserved => Obstacle::Reserved { percent: percent(view, target) },
        Barrier::Residency => return view.query.constraints.map_or_else(Vec::new, |c| violations(c, target.place())),
        Barrier::TokenMissing => Obstacle::TokenMissing,
        Barrier::Tried => Obstacle::Tried,
    }]
}

/// Whole per cent of the target that are used.
fn percent(view: View<'_>, target: &Target) -> u32 {
    (target.utilization(view.now).unwrap_or(1.0) * 100.0).round() as u32
}

fn violations(constraints: &Constraints, place: &Place) -> Vec<Obstacle> {
    let elsewhere = constraints
        .missed(place)
        .map(|wanted| Obstacle::Geography { is: place.geography.clone(), wanted: wanted.into() });
    let unaccepted = constraints.refuse_processing_of(place);
    elsewhere.chain(unaccepted.then_some(Obstacle::Processing { is: place.processing })).collect()
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (candidates, all) = (self.candidates().count(), self.targets.len());
        let verb = if candidates == 1 { "is a candidate" } else { "are candidates" };
        // Whoever calls chose the name.
        let alias = self.alias().unwrap_or("no alias").escape_debug();
        writeln!(f, "{alias}: {candidates} of {all} targets {verb}")?;
        let width = self.targets.iter().map(|explained| Name(&explained.target).to_string().len()).max().unwrap_or(0);
        for Explained { target, obstacles } in &self.targets {
            write!(f, "  {:width$}  priority {}  ", Name(target).to_string(), target.priority())?;
            match &obstacles[..] {
                [] => writeln!(f, "candidate: weight {}, {} in flight", target.weight(), target.in_flight())?,
                [first, others @ ..] => {
                    write!(f, "no: {first}")?;
                    others.iter().try_for_each(|other| write!(f, "; {other}"))?;
                    writeln!(f)?;
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Behind => f.write_str("others come first"),
            Self::Drained => f.write_str("drained"),
            Self::Full { max_in_flight } => write!(f, "full, {max_in_flight} in flight"),
            Self::Geography { is: Some(is), wanted } => write!(f, "geography is {is}, not {wanted}"),
            Self::Geography { is: None, wanted } => write!(f, "geography is unknown, not {wanted}"),
            Self::Narrowed => f.write_str("outside of what the request keeps to"),
            Self::NoIdentity => f.write_str("has no identity, and goes last"),
            Self::NotBeside => f.write_str("its backend does not serve what else the request names"),
            Self::NotServed => f.write_str("serves another alias"),
            Self::OtherRelease => f.write_str("is of another release"),
            Self::Open { throttled: true, wait } => write!(f, "asked to wait, {} ms left", ceil_ms(*wait)),
            Self::Open { throttled: false, wait } => write!(f, "failed, {} ms until it is probed", ceil_ms(*wait)),
            Self::PinnedElsewhere => f.write_str("the state is elsewhere"),
            Self::Probing { wait } => write!(f, "being probed, {} ms until the next", ceil_ms(*wait)),
            Self::Processing { is } => write!(f, "processing is {}, which the client does not accept", is.as_str()),
            Self::Reserved { percent } => write!(f, "{percent} % used, and the rest is left to higher priorities"),
            Self::TokenMissing => f.write_str("takes tokens of clients, and this one has none"),
            Self::Tried => f.write_str("tried already"),
        }
    }
}

struct Name<'a>(&'a Target);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.backend())?;
        self.0.deployment().map_or(Ok(()), |deployment| write!(f, "/{deployment}"))
    }
}
