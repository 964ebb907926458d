use std::fmt;

/// Priority of a client, by which one gives way when there is not room for all; the lowest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Priority {
    /// Work that can wait: batches, say.
    Low,
    /// Everything of which nothing else was said.
    #[default]
    Normal,
    /// Calls that somebody is waiting for.
    High,
}

impl Priority {
    /// All of them, the lowest first.
    pub const ALL: [Self; 3] = [Self::Low, Self::Normal, Self::High];

    /// `low`, `normal` or `high`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
        }
    }

    /// The priority of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|priority| priority.as_str() == name)
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Thresholds of use by priority: up to which [utilization](crate::pool::Target::utilization), from 0 to 1.
///
/// ```
/// use tower_azure_openai::pool::{Backend, Deployment, Pool, Priority, Query, Thresholds};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = Pool::builder()
///     .add_backend(Backend::new("ptu", "https://ptu.example").max_in_flight(2).add_deployment(Deployment::new("gpt-4o")))
///     .thresholds(Thresholds::OFF.low(0.5))
///     .build()?;
/// let of = |priority| Query::new(Some("gpt-4o")).priority(priority);
/// let batch = pool.acquire(&of(Priority::Low), |_| 0);
/// assert!(batch.is_ok() && pool.acquire(&of(Priority::Low), |_| 0).is_err(), "half of the places are left to others");
/// assert!(pool.acquire(&of(Priority::High), |_| 0).is_ok());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use]
pub struct Thresholds {
    normal: f64,
    low: f64,
}

impl Thresholds {
    /// Everybody uses every target for as long as it admits.
    pub const OFF: Self = Self { normal: 1.0, low: 1.0 };

    /// Leaves targets that are used more than this to [`Priority::High`]. 1 switches it off.
    pub const fn normal(mut self, utilization: f64) -> Self {
        self.normal = utilization;
        self
    }

    /// Leaves targets that are used more than this to [`Priority::High`] and [`Priority::Normal`]. 1 switches it off. It never
    /// gets further than [`normal`](Self::normal).
    pub const fn low(mut self, utilization: f64) -> Self {
        self.low = utilization;
        self
    }

    /// `None` where there is none.
    pub(in crate::pool) fn of(&self, priority: Priority) -> Option<f64> {
        let threshold = match priority {
            Priority::High => 1.0,
            Priority::Normal => self.normal,
            Priority::Low => self.low.min(self.normal),
        };
        Some(threshold).filter(|threshold| *threshold < 1.0)
    }

    pub(in crate::pool) fn problem(&self) -> Option<(&'static str, &'static str)> {
        let is_wrong = |share: f64| !(0.0..=1.0).contains(&share);
        match (is_wrong(self.normal), is_wrong(self.low)) {
            (true, _) => Some(("normal", "must lie between 0 and 1")),
            (_, true) => Some(("low", "must lie between 0 and 1")),
            (false, false) => None,
        }
    }
}

impl Default for Thresholds {
    fn default() -> Self {
        Self::OFF
    }
}
