//! From a URI to a connection: the address, TCP, TLS, all of it in time.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper::rt;
use hyper_rustls::{DefaultServerNameResolver, HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::{Connection, HttpConnector};
use tokio::time::timeout;
use tower::BoxError;
use tower_service::Service;

use super::destination::Origin;
use super::failure;
use super::resolver::Resolver;
use super::tls::Trust;
use crate::context::Reason;

const KEEP_ALIVE: Duration = Duration::from_secs(60);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_PROBES: u32 = 3;

/// TLS over what `D` connects, the whole of it within a time.
#[derive(Clone)]
pub(super) struct Connector<D> {
    dial: D,
    trust: Arc<Trust>,
    timeout: Duration,
}

impl<D> Connector<D> {
    pub(super) fn new(dial: D, trust: Trust, timeout: Duration) -> Self {
        Self { dial, trust: Arc::new(trust), timeout }
    }
}

impl<D> Service<Uri> for Connector<D>
where
    D: Service<Uri> + Clone,
    D::Response: Connection + rt::Read + rt::Write + Send + Unpin + 'static,
    D::Future: Send + 'static,
    D::Error: Into<BoxError>,
{
    type Response = MaybeHttpsStream<D::Response>;
    type Error = Reason;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Reason>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Reason>> {
        self.dial.poll_ready(cx).map_err(|error| failure::reason(error.into().as_ref()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let tls = Arc::clone(self.trust.of(&uri));
        let ready = self.dial.clone();
        let dial = std::mem::replace(&mut self.dial, ready);
        let connecting =
            HttpsConnector::new(dial, tls, false, Arc::new(DefaultServerNameResolver::default())).call(uri);
        let limit = self.timeout;
        Box::pin(async move {
            match timeout(limit, connecting).await {
                Ok(connected) => connected.map_err(|error| failure::reason(error.as_ref())),
                Err(_) => Err(Reason::CONNECT_TIMEOUT),
            }
        })
    }
}

/// TCP to the host of a URI, or to where it is really found.
#[derive(Clone)]
pub(super) struct Dial {
    tcp: HttpConnector<Resolver>,
    addresses: Arc<HashMap<Origin, Uri>>,
}

impl Dial {
    /// `timeout` is shared by the addresses of a name, so that a dead one among them does not use it up.
    pub(super) fn new(addresses: HashMap<Origin, Uri>, timeout: Duration) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(Resolver::system());
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(timeout));
        tcp.set_keepalive(Some(KEEP_ALIVE));
        tcp.set_keepalive_interval(Some(KEEP_ALIVE_INTERVAL));
        tcp.set_keepalive_retries(Some(KEEP_ALIVE_PROBES));
        Self { tcp, addresses: Arc::new(addresses) }
    }
}

impl Service<Uri> for Dial {
    type Response = <HttpConnector<Resolver> as Service<Uri>>::Response;
    type Error = <HttpConnector<Resolver> as Service<Uri>>::Error;
    type Future = <HttpConnector<Resolver> as Service<Uri>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.tcp.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let address = Origin::of(&uri).and_then(|origin| self.addresses.get(&origin)).cloned();
        self.tcp.call(address.unwrap_or(uri))
    }
}
