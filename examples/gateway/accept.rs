//! Accepting connections: no more than there are places for, and without an end when descriptors run out.

use std::fs::File;
use std::io;
use std::net;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};

use crate::loops::{Home, Seat};

/// How long a listener that cannot accept waits before it tries again.
const PAUSE: Duration = Duration::from_millis(50);
/// Once in so long it is said.
const TELL: Duration = Duration::from_secs(1);
/// A peer that vanished without a word is noticed after about twice as long.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// Descriptors for what is no connection of a client or to a backend.
const RESERVED: usize = 32;
/// How many of them are given up for probes when there are no others. One that is free again may be taken by a connection to a backend
/// before it is back here.
const SPARE: usize = 8;
/// Connections to the admin listener.
const ADMIN: usize = 64;

pub(crate) struct Door {
    name: &'static str,
    listener: TcpListener,
    places: Arc<Semaphore>,
    /// Held by every connection that is open.
    open: Arc<()>,
    /// Descriptors that are given up for connections when there are no others.
    spare: Vec<File>,
    has_spare: bool,
    told: Option<Instant>,
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
    _open: Arc<()>,
    _seat: Option<Seat>,
}

impl Place {
    /// Counts at its loop too.
    pub(crate) fn at(self, home: &Home) -> Self {
        Self { _seat: home.connection(), ..self }
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
        Self::new("listen", listener, places.min(Semaphore::MAX_PERMITS), false)
    }

    pub(crate) fn for_admin(listener: TcpListener) -> Self {
        Self::new("admin", listener, ADMIN, true)
    }

    fn new(name: &'static str, listener: TcpListener, places: usize, has_spare: bool) -> Self {
        Self {
            name,
            listener,
            places: Arc::new(Semaphore::new(places)),
            open: Arc::default(),
            spare: Vec::new(),
            has_spare,
            told: None,
        }
    }

    /// The next connection. Cancelling loses none.
    pub(crate) async fn accept(&mut self) -> Accepted {
        let place = loop {
            if let Ok(place) = Arc::clone(&self.places).acquire_owned().await {
                break place;
            }
        };
        loop {
            while self.has_spare
                && self.spare.len() < SPARE
                && let Ok(file) = File::open("/dev/null")
            {
                self.spare.push(file);
            }
            match self.listener.accept().await {
                Ok((stream, _)) => match free(stream) {
                    Ok(stream) => return Accepted { stream, place: self.place(place), is_last: false },
                    Err(error) => self.tell(&error),
                },
                Err(error) => {
                    self.tell(&error);
                    if self.spare.pop().is_some()
                        && let Ok(Ok((stream, _))) = timeout(PAUSE, self.listener.accept()).await
                        && let Ok(stream) = free(stream)
                    {
                        return Accepted { stream, place: self.place(place), is_last: true };
                    }
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// The next of those that have come already, if there is one and a place for it.
    ///
    /// Who is in the queue of a listener that is closed gets a reset, and may have sent a request by then.
    pub(crate) fn waiting(&self) -> Option<Accepted> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let (socket, _) = SockRef::from(&self.listener).accept().ok()?;
        socket.set_nonblocking(true).ok()?;
        let stream = TcpStream::from_std(socket.into()).and_then(free).ok()?;
        Some(Accepted { stream, place: self.place(place), is_last: false })
    }

    fn place(&self, permit: OwnedSemaphorePermit) -> Place {
        Place { _permit: permit, _open: self.open.clone(), _seat: None }
    }

    /// Counts the connections that are open, whenever it is called.
    pub(crate) fn count(&self) -> impl Fn() -> usize + Send + Sync + use<> {
        let open = Arc::downgrade(&self.open);
        // One is the door's own.
        move || open.strong_count().saturating_sub(1)
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
    let keep_alive = TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(KEEP_ALIVE / 6);
    let set = stream.set_nodelay(true).and_then(|()| SockRef::from(&stream).set_tcp_keepalive(&keep_alive));
    if let Err(error) = set {
        tracing::debug!(%error, "nodelay, keep-alive");
    }
    stream.into_std()
}

/// How many files this process may have open, where that can be known.
fn descriptors() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next()?.parse().ok())
}
