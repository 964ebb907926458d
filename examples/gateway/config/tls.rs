//! `[tls]`: the certificate that clients see.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

use super::reader::Section;

/// A certificate with its key, ready to be served over HTTP/2 or HTTP/1.1.
#[derive(Clone)]
pub(crate) struct Tls(pub(crate) Arc<ServerConfig>);

impl Tls {
    pub(super) fn read(s: &mut Section<'_>) -> Option<Self> {
        let (has_chain, has_key) = (s.require("cert_file"), s.require("key_file"));
        let sources = s.findings.sources;
        let read =
            |path: &str| (sources.file)(Path::new(path)).map_err(|error| format!("cannot read {path:?}: {error}"));
        let chain = s.parsed("cert_file", |path| {
            certificates(&read(path)?).ok_or("holds no certificate in PEM form".to_owned())
        });
        let key = s.parsed("key_file", |path| {
            PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|_| "holds no private key in PEM form".to_owned())
        });
        if !has_chain || !has_key {
            return None;
        }
        serve(chain?, key?).map_err(|why| s.problem(why.key(), why.text())).ok()
    }
}

fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    chain.ok().filter(|chain| !chain.is_empty())
}

fn serve(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Tls, Unfit> {
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|_| Unfit::Certificate)?;
    let mut config = builder.with_no_client_auth().with_single_cert(chain, key).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => Unfit::Pair,
        rustls::Error::InvalidCertificate(_) => Unfit::Certificate,
        _ => Unfit::Key,
    })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Tls(Arc::new(config)))
}

enum Unfit {
    Certificate,
    Key,
    Pair,
}

impl Unfit {
    const fn key(&self) -> &'static str {
        match self {
            Self::Certificate => "cert_file",
            Self::Key | Self::Pair => "key_file",
        }
    }

    const fn text(&self) -> &'static str {
        match self {
            Self::Certificate => "holds a certificate that cannot be served",
            Self::Key => "holds a key of a kind that cannot be used",
            Self::Pair => "is not the key of the certificate in cert_file",
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}
