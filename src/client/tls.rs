//! Certificates that are trusted.

use std::collections::HashMap;
use std::sync::Arc;

use http::Uri;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::destination::Origin;

const HTTP1: &[u8] = b"http/1.1";

/// The TLS configuration of each destination: the system's roots, and a CA of its own where one was given.
pub(super) struct Trust {
    common: Arc<ClientConfig>,
    own: HashMap<Origin, Arc<ClientConfig>>,
}

impl Trust {
    pub(super) fn new(own: HashMap<Origin, Vec<CertificateDer<'static>>>) -> Result<Self, rustls::Error> {
        let roots = system_roots();
        let own = own.into_iter().map(|(origin, certificates)| {
            let mut roots = roots.clone();
            for certificate in certificates {
                roots.add(certificate)?;
            }
            Ok((origin, config(roots)?))
        });
        let own = own.collect::<Result<_, rustls::Error>>()?;
        Ok(Self { common: config(roots)?, own })
    }

    /// The same without HTTP/2, on which a connection cannot become a WebSocket.
    pub(super) fn http1_only(&self) -> Self {
        let http1_only = |config: &Arc<ClientConfig>| {
            let mut config = ClientConfig::clone(config);
            config.alpn_protocols = vec![HTTP1.to_vec()];
            Arc::new(config)
        };
        let own = self.own.iter().map(|(origin, config)| (origin.clone(), http1_only(config))).collect();
        Self { common: http1_only(&self.common), own }
    }

    pub(super) fn of(&self, uri: &Uri) -> &Arc<ClientConfig> {
        Origin::of(uri).and_then(|origin| self.own.get(&origin)).unwrap_or(&self.common)
    }
}

/// The system's roots and a CA of one's own, for a protocol other than HTTP.
#[cfg(feature = "redis")]
pub(crate) fn trust_for_other(own: &[CertificateDer<'static>]) -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut roots = system_roots();
    own.iter().cloned().try_for_each(|certificate| roots.add(certificate))?;
    let mut config = ClientConfig::clone(&*config(roots)?);
    config.alpn_protocols.clear();
    Ok(Arc::new(config))
}

/// The certificates of a PEM file, each of which could be a root.
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, &'static str> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let read = read.map_err(|_| "is not valid PEM")?;
    if read.is_empty() {
        return Err("holds no certificate");
    }
    let mut probe = RootCertStore::empty();
    for certificate in &read {
        probe.add(certificate.clone()).map_err(|_| "holds a certificate that cannot be read")?;
    }
    Ok(read)
}

/// A machine without a CA bundle can still use plain http, and https with a CA of its own.
fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if added == 0 {
        tracing::warn!("the system has no root certificates: https works only where a CA is configured");
    }
    roots
}

fn config(roots: RootCertStore) -> Result<Arc<ClientConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), HTTP1.to_vec()];
    Ok(Arc::new(config))
}
