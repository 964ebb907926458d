//! The event loops that serve: one thread each, with its own connections on both sides.
//!
//! A connection of a client stays on the loop that it was dealt to, and what is sent to backends for it goes over connections of that
//! loop, so that a request wakes no other thread. One listener deals, instead of one for each loop (`SO_REUSEPORT`): the kernel deals
//! by a hash, which puts three of four long-lived connections on one loop as often as not, leaves those waiting that fell to a loop
//! without places while others have some, and loses what waits in the queue of a listener that closes.
//!
//! Requests of one HTTP/2 connection are work for more than one loop: those that are too many for its own are dealt to others.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

use hyper::rt::Executor;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;
use tower_azure_openai::metrics::Samples;

/// Requests that a loop may run more than the least busy one, and a quarter of that one's, before one of HTTP/2 goes there: to read and
/// write from another thread costs more than to wait for a few others.
const SLACK: usize = 4;

/// Runs one program on this thread.
pub(crate) fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// Running loops; dropped, they end with all that they run.
pub(crate) struct Loops {
    dealer: Dealer,
    threads: Vec<Running>,
}

struct Running {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Loops {
    /// Starts so many, or one for each core that this process may use.
    pub(crate) fn start(threads: usize) -> io::Result<Self> {
        let number = match threads {
            0 => thread::available_parallelism().map_or(1, usize::from),
            _ => threads,
        };
        let mut loops = Vec::with_capacity(number);
        let mut running = Vec::with_capacity(number);
        for index in 0..number {
            let runtime = runtime()?;
            loops.push(Loop::of(&runtime));
            let (stop, stopped) = oneshot::channel::<()>();
            let run = move || drop(runtime.block_on(stopped));
            let thread = thread::Builder::new().name(format!("loop-{index}")).spawn(run)?;
            running.push(Running { stop: Some(stop), thread: Some(thread) });
        }
        Ok(Self { dealer: Dealer(loops.into()), threads: running })
    }

    pub(crate) fn dealer(&self) -> Dealer {
        self.dealer.clone()
    }
}

impl Drop for Loops {
    fn drop(&mut self) {
        self.threads.iter_mut().for_each(|running| drop(running.stop.take()));
        for thread in self.threads.iter_mut().filter_map(|running| running.thread.take()) {
            // A panic has been told by its hook.
            drop(thread.join());
        }
    }
}

/// Deals connections and requests to loops.
#[derive(Clone)]
pub(crate) struct Dealer(Arc<[Arc<Loop>]>);

/// Written with every request, so that no two loops may share a line of the cache.
#[repr(align(128))]
pub(crate) struct Loop {
    runtime: Handle,
    connections: AtomicUsize,
    requests: AtomicUsize,
}

impl Loop {
    fn of(runtime: &Runtime) -> Arc<Self> {
        Arc::new(Self { runtime: runtime.handle().clone(), connections: 0.into(), requests: 0.into() })
    }

    fn requests(&self) -> usize {
        self.requests.load(Relaxed)
    }
}

impl Dealer {
    /// The loop with the fewest connections, and among these the one with the fewest requests.
    pub(crate) fn home(&self) -> Home {
        let load = |at: &&Arc<Loop>| (at.connections.load(Relaxed), at.requests());
        let at = self.0.iter().min_by_key(load).cloned();
        Home(at.map(|at| (self.clone(), at)))
    }

    /// Returns where a request of a connection of HTTP/2 runs that has this home.
    fn for_request<'a>(&'a self, home: &'a Arc<Loop>) -> &'a Arc<Loop> {
        let least = self.0.iter().min_by_key(|at| at.requests()).unwrap_or(home);
        let is_too_many = home.requests() > least.requests() + least.requests() / 4 + SLACK;
        if is_too_many { least } else { home }
    }

    /// Connections of clients, by loop.
    pub(crate) fn connections(&self) -> Samples {
        self.samples(|at| &at.connections)
    }

    /// Requests that run, by loop.
    pub(crate) fn requests(&self) -> Samples {
        self.samples(|at| &at.requests)
    }

    fn samples(&self, count: Count) -> Samples {
        let of = |(index, at): (usize, &Arc<Loop>)| (vec![("loop", index.to_string())], count(at).load(Relaxed) as f64);
        self.0.iter().enumerate().map(of).collect()
    }
}

type Count = fn(&Loop) -> &AtomicUsize;

/// A place at a loop, counted for as long as it is held.
pub(crate) struct Seat {
    at: Arc<Loop>,
    count: Count,
}

impl Seat {
    fn take(at: &Arc<Loop>, count: Count) -> Self {
        count(at).fetch_add(1, Relaxed);
        Self { at: Arc::clone(at), count }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        (self.count)(&self.at).fetch_sub(1, Relaxed);
    }
}

/// The loop of one connection.
#[derive(Clone)]
pub(crate) struct Home(Option<(Dealer, Arc<Loop>)>);

impl Home {
    /// The loop that accepted it; nothing is dealt or counted.
    pub(crate) const HERE: Self = Self(None);

    /// Counts the connection.
    pub(crate) fn connection(&self) -> Option<Seat> {
        self.0.as_ref().map(|(_, at)| Seat::take(at, |at| &at.connections))
    }

    /// Counts a request that runs where its connection does.
    pub(crate) fn request(&self) -> Option<Seat> {
        self.0.as_ref().map(|(_, at)| Seat::take(at, |at| &at.requests))
    }

    /// Runs the connection itself.
    pub(crate) fn spawn(&self, connection: impl Future<Output = ()> + Send + 'static) {
        match &self.0 {
            Some((_, at)) => drop(at.runtime.spawn(connection)),
            None => drop(tokio::spawn(connection)),
        }
    }
}

/// Runs the requests of connections of HTTP/2.
impl<F> Executor<F> for Home
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, request: F) {
        let Some((dealer, home)) = &self.0 else { return drop(tokio::spawn(request)) };
        let at = dealer.for_request(home);
        let seat = Seat::take(at, |at| &at.requests);
        at.runtime.spawn(async move {
            let _seat = seat;
            request.await
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| runtime().unwrap());

    fn dealer(loops: usize) -> Dealer {
        Dealer((0..loops).map(|_| Loop::of(&RUNTIME)).collect())
    }

    fn counts(samples: &Samples) -> Vec<f64> {
        samples.iter().map(|(_, count)| *count).collect()
    }

    #[test]
    fn connections_are_dealt_evenly_whatever_ended_before() {
        let dealer = dealer(3);
        let mut seats: Vec<_> = (0..9).filter_map(|_| dealer.home().connection()).collect();
        assert_eq!(counts(&dealer.connections()), [3.0, 3.0, 3.0]);
        seats.retain(|seat| Arc::ptr_eq(&seat.at, &dealer.0[1]));
        assert_eq!(counts(&dealer.connections()), [0.0, 3.0, 0.0]);
        seats.extend((0..6).filter_map(|_| dealer.home().connection()));
        assert_eq!(counts(&dealer.connections()), [3.0, 3.0, 3.0]);
        drop(seats);
        assert_eq!(counts(&dealer.connections()), [0.0, 0.0, 0.0]);
    }

    #[test]
    fn among_equals_the_next_connection_goes_where_fewer_requests_run() {
        let dealer = dealer(2);
        let busy = dealer.home();
        let _running = busy.request();
        let (_, next) = dealer.home().0.unwrap();
        assert!(!Arc::ptr_eq(&busy.0.unwrap().1, &next));
    }

    #[test]
    fn loops_run_what_is_dealt_to_them_and_end_with_it() {
        let loops = Loops::start(2).unwrap();
        let (names, told) = std::sync::mpsc::channel();
        for _ in 0..2 {
            let (home, names) = (loops.dealer().home(), names.clone());
            let seat = home.connection();
            home.spawn(async move {
                let _seat = seat;
                names.send(thread::current().name().map(str::to_owned)).unwrap();
                std::future::pending::<()>().await;
            });
        }
        let mut told: Vec<_> = (0..2).map(|_| told.recv().unwrap().unwrap()).collect();
        told.sort();
        assert_eq!(told, ["loop-0", "loop-1"]);
        let dealer = loops.dealer();
        drop(loops);
        assert_eq!(counts(&dealer.connections()), [0.0, 0.0]);
    }

    proptest::proptest! {
        /// Requests of one connection come and go: while few run they stay, and further ones go where the fewest run.
        #[test]
        fn requests_of_one_connection_are_dealt_when_they_are_too_many(
            ends in proptest::collection::vec(proptest::option::weighted(0.3, 0_usize..1000), 1..400),
        ) {
            let dealer = dealer(4);
            let home = Arc::clone(&dealer.0[2]);
            let mut running: Vec<Seat> = Vec::new();
            for end in ends {
                if let Some(which) = end.filter(|_| !running.is_empty()) {
                    running.swap_remove(which % running.len());
                    continue;
                }
                let least = dealer.0.iter().map(|at| at.requests()).min().unwrap();
                let is_few = home.requests() <= least + least / 4 + SLACK;
                let at = dealer.for_request(&home);
                proptest::prop_assert_eq!(Arc::ptr_eq(at, &home), is_few);
                proptest::prop_assert!(is_few || at.requests() == least);
                running.push(Seat::take(at, |at| &at.requests));
            }
        }
    }
}
