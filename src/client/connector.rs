//! From a URI to a connection: the address or the proxy, TCP, TLS, all of it in time.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use http::uri::Scheme;
use hyper::rt;
use hyper_rustls::{DefaultServerNameResolver, HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower::util::MapResponse;
use tower::{BoxError, ServiceExt};
use tower_service::Service;

use super::destination::Origin;
use super::failure;
use super::heads::Counted;
use super::link::Link;
use super::pace::Paced;
use super::proxy::{Proxy, Way};
use super::resolver::Resolver;
use super::tls::Trust;
use crate::context::Reason;

const KEEP_ALIVE: Duration = Duration::from_secs(60);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_PROBES: u32 = 3;

/// TLS over what `D` connects, the whole of it within a time.
///
/// Cheap to clone, for every request takes a clone along, connected or not.
pub(super) struct Connector<D>(Arc<Ways<D>>);

struct Ways<D> {
    dial: D,
    trust: Trust,
    timeout: Duration,
}

impl<D> Connector<D> {
    pub(super) fn new(dial: D, trust: Trust, timeout: Duration) -> Self {
        Self(Arc::new(Ways { dial, trust, timeout }))
    }
}

impl<D> Clone for Connector<D> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<D> Service<Uri> for Connector<D>
where
    D: Service<Uri> + Clone + Send + Sync + 'static,
    D::Response: Connection + rt::Read + rt::Write + Send + Unpin + 'static,
    D::Future: Send + 'static,
    D::Error: Into<BoxError>,
{
    type Response = TokioIo<Counted<MaybeHttpsStream<D::Response>>>;
    type Error = Reason;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Reason>> + Send>>;

    /// Always: what connects becomes ready within the time to connect.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Reason>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let ways = Arc::clone(&self.0);
        Box::pin(async move {
            let tls = Arc::clone(ways.trust.of(&uri));
            let names = Arc::new(DefaultServerNameResolver::default());
            let connecting = HttpsConnector::new(ways.dial.clone(), tls, false, names).oneshot(uri);
            match timeout(ways.timeout, connecting).await {
                Ok(connected) => connected.map(Counted::new).map_err(|error| failure::reason(error.as_ref())),
                Err(_) => Err(Reason::CONNECT_TIMEOUT),
            }
        })
    }
}

/// A connection to the host of a URI, to where it is really found, or to a proxy that leads there.
#[derive(Clone)]
pub(super) struct Dial {
    tcp: Tcp,
    addresses: Arc<HashMap<Origin, Uri>>,
    egress: Option<Egress>,
}

type Tcp = MapResponse<HttpConnector<Resolver>, fn(TokioIo<TcpStream>) -> TokioIo<Paced>>;

/// The way out through a proxy.
#[derive(Clone)]
pub(super) struct Egress {
    pub(super) proxy: Arc<Proxy>,
    /// Of a proxy that is reached by TLS, in HTTP/1.1.
    pub(super) trust: Arc<Trust>,
    /// True if plain http asks for a tunnel too: a WebSocket has to, for it is no HTTP once it is open.
    pub(super) tunnels_all: bool,
}

type Connecting = Pin<Box<dyn Future<Output = Result<Link, BoxError>> + Send>>;

impl Dial {
    /// `timeout` is shared by the addresses of a name, so that a dead one among them does not use it up.
    pub(super) fn new(addresses: HashMap<Origin, Uri>, egress: Option<Egress>, timeout: Duration) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(Resolver::system());
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(timeout));
        tcp.set_keepalive(Some(KEEP_ALIVE));
        tcp.set_keepalive_interval(Some(KEEP_ALIVE_INTERVAL));
        tcp.set_keepalive_retries(Some(KEEP_ALIVE_PROBES));
        Self { tcp: MapResponse::new(tcp, Paced::new), addresses: Arc::new(addresses), egress }
    }

    /// For connections of WebSockets.
    pub(super) fn for_handshakes(&self) -> Self {
        let egress = self.egress.clone().map(|egress| Egress { tunnels_all: true, ..egress });
        Self { egress, ..self.clone() }
    }

    fn directly(&mut self, uri: Uri) -> Connecting {
        let connecting = self.tcp.call(uri);
        Box::pin(async move { Ok(Link { io: MaybeHttpsStream::Http(connecting.await?), needs_whole_urls: false }) })
    }

    fn through(&self, egress: &Egress, way: &Way, uri: &Uri) -> Connecting {
        let tls = Arc::clone(egress.trust.of(way.uri()));
        let names = Arc::new(DefaultServerNameResolver::default());
        let needs_whole_urls = !is_https(uri) && !egress.tunnels_all;
        let mut proxy = HttpsConnector::new(self.tcp.clone(), tls, false, names)
            .map_response(move |io| Link { io, needs_whole_urls })
            .map_err(|error| failure::of_proxy(error.as_ref()));
        if needs_whole_urls {
            let connecting = proxy.call(way.uri().clone());
            return Box::pin(async move { Ok(connecting.await?) });
        }
        let tunnel = Tunnel::new(way.uri().clone(), proxy);
        let mut tunnel = match way.authorization() {
            Some(authorization) => tunnel.with_auth(authorization),
            None => tunnel,
        };
        let connecting = tunnel.call(with_port(uri));
        Box::pin(async move { connecting.await.map_err(|error| failure::of_proxy(&error).into()) })
    }
}

impl Service<Uri> for Dial {
    type Response = Link;
    type Error = BoxError;
    type Future = Connecting;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Connecting {
        // Where something is really found was said by somebody who knows the network: nobody else is asked the way.
        if let Some(address) = Origin::of(&uri).and_then(|origin| self.addresses.get(&origin)).cloned() {
            return self.directly(address);
        }
        match self.egress.as_ref().and_then(|egress| Some((egress, egress.proxy.to(&uri)?))) {
            Some((egress, way)) => self.through(egress, &way, &uri),
            None => self.directly(uri),
        }
    }
}

fn is_https(uri: &Uri) -> bool {
    uri.scheme() == Some(&Scheme::HTTPS)
}

/// The port that a tunnel leads to is always said, and is 443 to whoever says none.
fn with_port(uri: &Uri) -> Uri {
    let host = uri.host().unwrap_or_default();
    let port = uri.port_u16().unwrap_or(if is_https(uri) { 443 } else { 80 });
    let built = Uri::builder().scheme("http").authority(format!("{host}:{port}")).path_and_query("/").build();
    built.unwrap_or_else(|_| uri.clone())
}
