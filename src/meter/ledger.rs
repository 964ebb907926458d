mod report;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

pub use self::report::{By, Report, Row, Sums, UnknownName};
use super::account::Metered;
use crate::context::Client;
use crate::date::Date;
use crate::pool::Target;

/// Number of days that are kept: 35.
pub(crate) const KEPT_DAYS: u64 = 35;

/// Number of different rows that a day has at most; what is beyond them is kept without names.
const MOST_ROWS: usize = 100_000;

/// Keeps usage by UTC day, client, alias and backend, for 35 days, in the memory of this process. Clones share it.
///
/// What a client typed is never a name in it: an alias is that of the target which served, and the client's id that of its
/// [`Client`].
///
/// ```
/// use tower_azure_openai::meter::{By, Ledger, MeterUsageLayer};
///
/// let ledger = Ledger::new();
/// let counting = ledger.clone();
/// let meter = MeterUsageLayer::new().on_usage(move |metered| counting.enter(metered));
/// # let _ = meter;
/// let report = ledger.report(&[By::Client], None, None);
/// assert!(report.rows.is_empty());
/// ```
#[derive(Clone)]
pub struct Ledger(Arc<Inner>);

struct Inner {
    days: Mutex<Days>,
    /// Entries that no other replica knows yet, where anything is shared.
    #[cfg(feature = "redis")]
    unshared: Mutex<Option<Days>>,
    /// One moment by both clocks. Days go by with the clock that does not jump.
    start: (Instant, Duration),
}

type Days = BTreeMap<Date, HashMap<Names, Sums>>;

/// Names by which a row is known; an unknown name is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Names {
    pub(crate) client: Option<Arc<str>>,
    pub(crate) alias: Option<Arc<str>>,
    pub(crate) backend: Option<Arc<str>>,
}

impl Ledger {
    /// Empty.
    #[must_use]
    pub fn new() -> Self {
        Self::since(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
    }

    /// Empty, as if it were so long after 1970 now, for tests of midnight.
    #[must_use]
    pub fn since(since_1970: Duration) -> Self {
        Self(Arc::new(Inner {
            days: Mutex::default(),
            #[cfg(feature = "redis")]
            unshared: Mutex::default(),
            start: (Instant::now(), since_1970),
        }))
    }

    /// Today.
    #[must_use]
    pub fn today(&self) -> Date {
        let (start, since_1970) = self.0.start;
        Date::of(since_1970.saturating_add(start.elapsed()))
    }

    /// Enters what was used under today's date.
    pub fn enter(&self, metered: &Metered<'_>) {
        let today = self.today();
        let names = Names {
            client: metered.client.map(Client::shared_id),
            alias: metered.target.and_then(Target::shared_alias),
            backend: metered.target.map(Target::backend_name),
        };
        let mut days = self.lock();
        days.retain(|day, _| *day >= today.before(KEPT_DAYS - 1));
        let rows = days.entry(today).or_default();
        let names = if rows.len() < MOST_ROWS || rows.contains_key(&names) { names } else { Names::default() };
        #[cfg(feature = "redis")]
        if let Some(unshared) = &mut *self.unshared() {
            unshared.entry(today).or_default().entry(names.clone()).or_default().add(&metered.usage, metered.source);
        }
        rows.entry(names).or_default().add(&metered.usage, metered.source);
    }

    /// Sums up by these names, from one day to another, both included: by default all that is kept.
    #[must_use]
    pub fn report(&self, by: &[By], from: Option<Date>, to: Option<Date>) -> Report {
        let today = self.today();
        let from = from.unwrap_or(today.before(KEPT_DAYS - 1));
        let to = to.unwrap_or(today);
        let named = |name: By, value: &Option<Arc<str>>| by.contains(&name).then(|| value.clone().unwrap_or_default());
        let mut sums = BTreeMap::<(Date, Names), Sums>::new();
        for (date, rows) in self.lock().iter().filter(|(date, _)| (from..=to).contains(*date)) {
            for (names, row) in rows {
                let names = Names {
                    client: named(By::Client, &names.client),
                    alias: named(By::Alias, &names.alias),
                    backend: named(By::Backend, &names.backend),
                };
                sums.entry((*date, names)).or_default().merge(row);
            }
        }
        let shown = |name: Option<Arc<str>>| name.map(|name| Box::from(&*name));
        let row = |((date, names), sums): ((Date, Names), Sums)| {
            let (client, alias, backend) = (shown(names.client), shown(names.alias), shown(names.backend));
            Row { date, client, alias, backend, sums }
        };
        Report { from, to, rows: sums.into_iter().map(row).collect() }
    }

    /// Returns what a client has used today.
    #[must_use]
    pub fn used_today(&self, client: &str) -> Sums {
        let mut used = Sums::default();
        let days = self.lock();
        let rows = days.get(&self.today()).into_iter().flatten();
        rows.filter(|(names, _)| names.client.as_deref() == Some(client)).for_each(|(_, row)| used.merge(row));
        used
    }

    fn lock(&self) -> MutexGuard<'_, Days> {
        self.0.days.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For whoever keeps the sums of several replicas together.
#[cfg(feature = "redis")]
impl Ledger {
    /// From now on what is entered is also kept until it is taken to be shared; what was before is as well.
    pub(crate) fn share(&self) {
        let days = self.lock();
        self.unshared().get_or_insert_with(|| days.clone());
    }

    /// Takes what is to be shared. It is in the sums of this ledger until [`adopt`](Self::adopt) tells what there is in all.
    pub(crate) fn take_unshared(&self) -> Vec<(Date, Vec<(Names, Sums)>)> {
        let taken = self.unshared().as_mut().map(std::mem::take).unwrap_or_default();
        taken.into_iter().map(|(date, rows)| (date, rows.into_iter().collect())).collect()
    }

    /// Takes what all replicas used on a day; what was entered here and is not shared yet comes to it.
    pub(crate) fn adopt(&self, date: Date, mut rows: HashMap<Names, Sums>) {
        if date < self.today().before(KEPT_DAYS - 1) {
            return;
        }
        // Locked in the order of `enter`.
        let mut days = self.lock();
        let unshared = self.unshared();
        for (names, more) in unshared.iter().filter_map(|days| days.get(&date)).flatten() {
            rows.entry(names.clone()).or_default().merge(more);
        }
        if !rows.is_empty() {
            days.insert(date, rows);
        }
    }

    fn unshared(&self) -> MutexGuard<'_, Option<Days>> {
        self.0.unshared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Ledger {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use tokio::time::advance;

    use super::*;
    use crate::azure::usage::Usage;
    use crate::context::{Route, UsageSource};

    fn enter(ledger: &Ledger, client: &str, input: u64, source: UsageSource) {
        let client = Client::new(client);
        let route = Route::parse(&Method::GET, &"/openai/v1/models".parse().unwrap()).unwrap();
        let usage = Usage { input, output: 1, ..Usage::default() };
        ledger.enter(&Metered {
            client: Some(&client),
            route: &route,
            target: None,
            usage,
            source,
            is_on_record: true,
        });
    }

    #[tokio::test(start_paused = true)]
    async fn days_are_apart_and_end() {
        let ledger = Ledger::since(Duration::from_secs(20_785 * 86_400 - 60));
        enter(&ledger, "a", 5, UsageSource::Reported);
        enter(&ledger, "b", 7, UsageSource::Estimated);
        advance(Duration::from_secs(60)).await;
        enter(&ledger, "a", 11, UsageSource::Reported);
        let rows = |by: &[By]| -> Vec<_> {
            let rows = ledger.report(by, None, None).rows.into_iter();
            rows.map(|row| (row.date.to_string(), row.client, row.sums.input_tokens, row.sums.estimated_tokens))
                .collect()
        };
        let (first, second) = ("2026-11-27".to_owned(), "2026-11-28".to_owned());
        assert_eq!(rows(&[]), [(first.clone(), None, 12, 8), (second.clone(), None, 11, 0)]);
        let by_client = [
            (first.clone(), Some("a".into()), 5, 0),
            (first, Some("b".into()), 7, 8),
            (second, Some("a".into()), 11, 0),
        ];
        assert_eq!(rows(&[By::Client]), by_client);
        assert_eq!(ledger.used_today("a").input_tokens, 11);
        let one = ledger.report(&[], "2026-11-27".parse().ok(), "2026-11-27".parse().ok());
        assert_eq!(one.rows.len(), 1);
        advance(Duration::from_secs(34 * 86_400)).await;
        enter(&ledger, "a", 1, UsageSource::Reported);
        assert_eq!(rows(&[]).len(), 2, "35 days are kept, today among them");
        advance(Duration::from_secs(86_400)).await;
        enter(&ledger, "a", 1, UsageSource::Reported);
        assert_eq!(rows(&[]).len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn no_name_breaks_a_table() {
        let ledger = Ledger::since(Duration::from_secs(20_785 * 86_400));
        for name in ["plain", "a,\"b\"\n", "=1+1"] {
            enter(&ledger, name, 1, UsageSource::Reported);
        }
        let by = [By::Client, By::Backend];
        let csv = ledger.report(&by, None, None).to_csv(&by);
        assert_eq!(
            csv,
            "date,client,backend,requests,input_tokens,output_tokens,input_cached_tokens,input_audio_tokens,output_reasoning_tokens,\
             output_audio_tokens,estimated_tokens,audio_seconds\r\n\
             2026-11-28,'=1+1,,1,1,1,0,0,0,0,0,0\r\n\
             2026-11-28,\"a,\"\"b\"\"\n\",,1,1,1,0,0,0,0,0,0\r\n\
             2026-11-28,plain,,1,1,1,0,0,0,0,0,0\r\n"
        );
    }
}
