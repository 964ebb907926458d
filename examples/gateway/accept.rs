//! Accepting connections: no more than there are places for, and without an end when descriptors run out.

use std::fs::File;
use std::io;
use std::net;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use socket2::{SockRef, Socket, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};

use crate::loops::{Home, Seat};
use crate::patience::Vigil;

/// Time for which a listener that cannot accept waits before it tries again.
const PAUSE: Duration = Duration::from_millis(50);
/// Once in so long it is said.
const TELL: Duration = Duration::from_secs(1);
/// A peer that vanished without a word is noticed after about twice as long.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// Descriptors for what is no connection of a client or to a backend.
const RESERVED: usize = 32;
/// Number of them that are given up for probes when there are no others.
const SPARE: usize = 8;
/// Connections to the admin listener.
const ADMIN: usize = 64;

pub(crate) struct Door {
    name: &'static str,
    listener: TcpListener,
    places: Arc<Semaphore>,
    open: Arc<Open>,
    /// Connection that has come and has no place yet.
    arrived: Option<Arrived>,
    /// Descriptors that are given up for connections when there are no others.
    spare: Vec<File>,
    spares: usize,
    told: Option<Instant>,
}

struct Arrived {
    stream: net::TcpStream,
    is_last: bool,
}

pub(crate) struct Accepted {
    /// With no event loop yet.
    pub(crate) stream: net::TcpStream,
    pub(crate) place: Place,
    /// It took the last descriptor, and should give it back soon.
    pub(crate) is_last: bool,
}

/// A connection's place, for as long as it is open.
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
    open: Arc<Open>,
    _seat: Option<Seat>,
}

impl Place {
    fn new(permit: OwnedSemaphorePermit, open: &Arc<Open>) -> Self {
        open.number.fetch_add(1, Relaxed);
        Self { _permit: permit, open: Arc::clone(open), _seat: None }
    }

    /// Counts at its loop too.
    pub(crate) fn at(mut self, home: &Home) -> Self {
        self._seat = home.connection();
        self
    }

    /// The connection gives its place to another, as these clocks allow it.
    pub(crate) fn is_watched_by(&self, vigil: &Arc<Vigil>) {
        let mut watched = self.open.lock();
        if watched.len() >= 2 * self.open.number.load(Relaxed).max(ADMIN) {
            watched.retain(|vigil| vigil.strong_count() > 0);
        }
        watched.push(Arc::downgrade(vigil));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.number.fetch_sub(1, Relaxed);
    }
}

/// The connections of a listener that are open.
#[derive(Default)]
struct Open {
    number: AtomicUsize,
    /// And some that were.
    watched: Mutex<Vec<Weak<Vigil>>>,
}

impl Open {
    /// Closes the connection that is worth least, if there is one that is not in use.
    fn make_room(&self) -> bool {
        let mut watched = self.lock();
        watched.retain(|vigil| vigil.strong_count() > 0);
        let open = watched.iter().filter_map(Weak::upgrade);
        let least = open.filter_map(|vigil| Some((vigil.worth()?, vigil))).min_by_key(|(worth, _)| *worth);
        least.map(|(_, vigil)| vigil.give_way()).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Vigil>>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Door {
    /// For clients. Each connection can need another one to a backend, so that at most half of the descriptors are theirs.
    pub(crate) fn for_clients(listener: TcpListener, connections: usize) -> Self {
        let places = match descriptors().map(|limit| (limit.saturating_sub(RESERVED) / 2).max(1)) {
            Some(room) if room < connections => {
                tracing::info!(connections = room, "limits.connections: the limit of open files has room for fewer");
                room
            }
            _ => connections,
        };
        Self::new("listen", listener, places.min(Semaphore::MAX_PERMITS), 1)
    }

    pub(crate) fn for_admin(listener: TcpListener) -> Self {
        Self::new("admin", listener, ADMIN, SPARE)
    }

    fn new(name: &'static str, listener: TcpListener, places: usize, spares: usize) -> Self {
        Self {
            name,
            listener,
            places: Arc::new(Semaphore::new(places)),
            open: Arc::default(),
            arrived: None,
            spare: Vec::new(),
            spares,
            told: None,
        }
    }

    /// The next connection. Cancelling loses none.
    pub(crate) async fn accept(&mut self) -> Accepted {
        loop {
            if self.arrived.is_none() {
                self.arrived = Some(self.arrival().await);
            }
            let permit = self.room().await;
            if let Some(Arrived { stream, is_last }) = self.arrived.take() {
                return Accepted { stream, place: Place::new(permit, &self.open), is_last };
            }
        }
    }

    async fn arrival(&mut self) -> Arrived {
        loop {
            while self.spare.len() < self.spares
                && let Ok(file) = File::open("/dev/null")
            {
                self.spare.push(file);
            }
            let accepting = self.listener.accept();
            let accepted = if self.spare.len() == self.spares {
                accepting.await
            } else {
                // What was given up is taken back as soon as it can be had, and not only when the next one comes.
                let Ok(accepted) = timeout(PAUSE, accepting).await else { continue };
                accepted
            };
            match accepted.and_then(|(stream, _)| free(stream)) {
                Ok(stream) => return Arrived { stream, is_last: false },
                Err(error) => self.tell(&error),
            }
            match self.by_spare() {
                Some(Ok(stream)) => return Arrived { stream, is_last: true },
                // Nobody waits: without a descriptor, the kernel does not look.
                Some(Err(_)) => sleep(PAUSE).await,
                None => {
                    let has_made_room = self.open.make_room();
                    sleep(if has_made_room { PAUSE / 10 } else { PAUSE }).await;
                }
            }
        }
    }

    /// Gives descriptors up until one of them is the connection's: what connects to backends may be faster than this.
    ///
    /// An error is that nobody waits; `None`, that all are gone.
    fn by_spare(&mut self) -> Option<io::Result<net::TcpStream>> {
        while let Some(file) = self.spare.pop() {
            drop(file);
            match self.waiting_in_queue() {
                Ok(stream) => return Some(Ok(stream)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Some(Err(error)),
                Err(_) => {}
            }
        }
        None
    }

    /// A place, for which the connection that needs its own the least gives way if there is no other.
    async fn room(&self) -> OwnedSemaphorePermit {
        loop {
            if let Ok(permit) = Arc::clone(&self.places).try_acquire_owned() {
                return permit;
            }
            self.open.make_room();
            if let Ok(Ok(permit)) = timeout(PAUSE, Arc::clone(&self.places).acquire_owned()).await {
                return permit;
            }
        }
    }

    /// The next of those that have come already, if there is one and a place for it.
    ///
    /// Who is in the queue of a listener that is closed gets a reset, and may have sent a request by then.
    pub(crate) fn waiting(&mut self) -> Option<Accepted> {
        let permit = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let stream = match self.arrived.take() {
            Some(arrived) => arrived.stream,
            None => self.waiting_in_queue().ok()?,
        };
        Some(Accepted { stream, place: Place::new(permit, &self.open), is_last: false })
    }

    fn waiting_in_queue(&self) -> io::Result<net::TcpStream> {
        let (socket, _) = SockRef::from(&self.listener).accept()?;
        socket.set_nonblocking(true)?;
        set_up(&socket);
        Ok(socket.into())
    }

    /// Counts the connections that are open, whenever it is called.
    pub(crate) fn count(&self) -> impl Fn() -> usize + Send + Sync + use<> {
        let open = Arc::clone(&self.open);
        move || open.number.load(Relaxed)
    }

    fn tell(&mut self, error: &io::Error) {
        if self.told.is_none_or(|told| told.elapsed() >= TELL) {
            self.told = Some(Instant::now());
            tracing::warn!(listener = self.name, %error, "accept");
        }
    }
}

/// Sets it up, and takes it from the loop that accepted it.
fn free(stream: TcpStream) -> io::Result<net::TcpStream> {
    set_up(&SockRef::from(&stream));
    stream.into_std()
}

fn set_up(socket: &Socket) {
    let keep_alive = TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(KEEP_ALIVE / 6);
    if let Err(error) = socket.set_tcp_nodelay(true).and_then(|()| socket.set_tcp_keepalive(&keep_alive)) {
        tracing::debug!(%error, "nodelay, keep-alive");
    }
}

/// Returns how many files this process may have open, where that can be known.
fn descriptors() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next()?.parse().ok())
}
