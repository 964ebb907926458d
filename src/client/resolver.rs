//! From a name to its addresses, however long that takes.
//!
//! The system's resolver blocks for as long as the name servers let it, half a minute and more when none of them answers. So it
//! runs on threads of its own, at most [`LOOKUPS`] of them, which no other part of the program shares and nobody waits for at
//! the end. Requests for one host share one look-up; a host for which no thread is free waits for one, within the time to
//! connect, and is passed over when nobody waits for it any more.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::thread;

use hyper_util::client::legacy::connect::dns::Name;
use tokio::sync::watch;
use tower_service::Service;

use crate::context::{Reason, is_exhaustion};

/// Look-ups at the same time.
const LOOKUPS: usize = 16;

type Found = Result<Vec<SocketAddr>, Reason>;
type Lookup = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// The system's resolver, bounded. Clones share its threads.
#[derive(Clone)]
pub(super) struct Resolver(Arc<Shared>);

struct Shared {
    lookup: Box<Lookup>,
    desk: Mutex<Desk>,
}

#[derive(Default)]
struct Desk {
    /// Every host that is being looked up, or waits for that, with those who want to know.
    asked: HashMap<Box<str>, watch::Sender<Option<Found>>>,
    waiting: VecDeque<Box<str>>,
    threads: usize,
}

impl Resolver {
    pub(super) fn system() -> Self {
        Self::new(|host| Ok((host, 0).to_socket_addrs()?.collect()))
    }

    fn new(lookup: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(Shared { lookup: Box::new(lookup), desk: Mutex::default() }))
    }

    /// Joins the look-up of a host, or begins it.
    fn ask(&self, host: &str) -> watch::Receiver<Option<Found>> {
        let mut desk = self.0.desk();
        if let Some(tell) = desk.asked.get(host) {
            return tell.subscribe();
        }
        let (tell, told) = watch::channel(None);
        desk.asked.insert(host.into(), tell);
        desk.waiting.push_back(host.into());
        if desk.threads < LOOKUPS {
            let shared = Arc::clone(&self.0);
            match thread::Builder::new().name("resolver".to_owned()).spawn(move || shared.work()) {
                Ok(_) => desk.threads += 1,
                Err(_) if desk.threads > 0 => {}
                Err(_) => {
                    desk.waiting.pop_back();
                    if let Some(tell) = desk.asked.remove(host) {
                        tell.send_replace(Some(Err(Reason::EXHAUSTED)));
                    }
                }
            }
        }
        told
    }
}

impl Shared {
    fn work(&self) {
        while let Some(host) = self.next() {
            let found = self.resolve(&host);
            let tell = self.desk().asked.remove(&host);
            if let Some(tell) = tell {
                tell.send_replace(Some(found));
            }
        }
    }

    /// The next host that somebody waits for; without one the thread has ended.
    fn next(&self) -> Option<Box<str>> {
        let mut desk = self.desk();
        while let Some(host) = desk.waiting.pop_front() {
            if desk.asked.get(&host).is_some_and(|tell| tell.receiver_count() > 0) {
                return Some(host);
            }
            desk.asked.remove(&host);
        }
        desk.threads -= 1;
        None
    }

    /// The error of the resolver may hold the name, and want of a descriptor looks like an unknown name in it.
    fn resolve(&self, host: &str) -> Found {
        match (self.lookup)(host) {
            Ok(addresses) => Ok(addresses),
            Err(error) if is_exhaustion(&error) || !has_room_for_a_socket() => Err(Reason::EXHAUSTED),
            Err(_) => Err(Reason::UNRESOLVED),
        }
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn has_room_for_a_socket() -> bool {
    UdpSocket::bind(("127.0.0.1", 0)).err().is_none_or(|error| !is_exhaustion(&error))
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Reason;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Reason>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Reason>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, host: Name) -> Self::Future {
        let mut told = self.ask(host.as_str());
        Box::pin(async move {
            let found = told.wait_for(Option::is_some).await.ok().and_then(|found| found.clone());
            found.unwrap_or(Err(Reason::UNRESOLVED)).map(Vec::into_iter)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures_util::future::join_all;
    use tokio::task::yield_now;

    use super::*;

    const HERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    async fn ask(resolver: &Resolver, host: &str) -> Result<Vec<SocketAddr>, String> {
        let found = resolver.clone().call(host.parse().unwrap()).await;
        found.map(Iterator::collect).map_err(|error| error.to_string())
    }

    /// A resolver that says whom it is looking up, and hangs until it is told to go on.
    fn hanging() -> (Resolver, mpsc::Receiver<String>, mpsc::Sender<()>) {
        let (begin, begun) = mpsc::channel();
        let (go_on, gone_on) = mpsc::channel();
        let gone_on = Mutex::new(gone_on);
        let resolver = Resolver::new(move |host| {
            begin.send(host.to_owned()).unwrap();
            gone_on.lock().unwrap().recv().map_err(io::Error::other)?;
            Ok(vec![HERE])
        });
        (resolver, begun, go_on)
    }

    #[tokio::test]
    async fn requests_for_one_host_share_a_look_up() {
        let (resolver, begun, go_on) = hanging();
        let all = tokio::spawn({
            let resolver = resolver.clone();
            async move { join_all((0..1_000).map(|_| ask(&resolver, "east.example"))).await }
        });
        while resolver.0.desk().asked.values().map(watch::Sender::receiver_count).sum::<usize>() < 1_000 {
            yield_now().await;
        }
        go_on.send(()).unwrap();
        assert!(all.await.unwrap().into_iter().all(|found| found == Ok(vec![HERE])));
        assert_eq!(begun.try_iter().collect::<Vec<_>>(), ["east.example"]);
        go_on.send(()).unwrap();
        assert_eq!(ask(&resolver, "east.example").await, Ok(vec![HERE]), "what was found is not kept");
        assert_eq!(begun.try_iter().count(), 1);
    }

    #[tokio::test]
    async fn a_resolver_that_hangs_holds_no_more_than_its_threads() {
        let (resolver, begun, go_on) = hanging();
        let asked: Vec<_> = (0..3 * LOOKUPS)
            .map(|i| {
                tokio::spawn({
                    let resolver = resolver.clone();
                    async move { ask(&resolver, &format!("host-{i}.example")).await }
                })
            })
            .collect();
        while resolver.0.desk().asked.len() < 3 * LOOKUPS {
            yield_now().await;
        }
        let first: Vec<_> = begun.iter().take(LOOKUPS).collect();
        assert!(begun.try_recv().is_err(), "no more than {LOOKUPS} at once");
        assert_eq!(resolver.0.desk().threads, LOOKUPS);
        // Those whose time is over are passed over.
        let (gone, kept) = (&asked[LOOKUPS..2 * LOOKUPS], &asked[2 * LOOKUPS..]);
        gone.iter().for_each(tokio::task::JoinHandle::abort);
        while resolver.0.desk().asked.values().filter(|tell| tell.receiver_count() > 0).count() > 2 * LOOKUPS {
            yield_now().await;
        }
        (0..2 * LOOKUPS).for_each(|_| go_on.send(()).unwrap());
        let mut looked_up = first;
        looked_up.extend(begun.iter().take(LOOKUPS));
        looked_up.sort_unstable();
        let wanted = (0..LOOKUPS).chain(2 * LOOKUPS..3 * LOOKUPS).map(|i| format!("host-{i}.example"));
        let mut wanted: Vec<_> = wanted.collect();
        wanted.sort_unstable();
        assert_eq!(looked_up, wanted);
        while !kept.iter().all(tokio::task::JoinHandle::is_finished) || resolver.0.desk().threads > 0 {
            yield_now().await;
        }
        assert!(resolver.0.desk().asked.is_empty() && resolver.0.desk().waiting.is_empty());
    }

    #[tokio::test]
    async fn an_unknown_name_is_told_from_want_of_descriptors() {
        let resolver = Resolver::new(|host| match host {
            "full.example" => Err(io::Error::from(io::ErrorKind::OutOfMemory)),
            host => Err(io::Error::other(format!("no such host: {host}"))),
        });
        assert_eq!(ask(&resolver, "gone.example").await, Err(Reason::UNRESOLVED.to_string()));
        assert_eq!(ask(&resolver, "full.example").await, Err(Reason::EXHAUSTED.to_string()));
    }
}
