//! A proxy on loopback, and certificates for what lies behind it.
#![allow(dead_code, reason = "each test file uses its part")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// What the credentials of its URL become.
pub(crate) const AUTHORIZATION: &str = "Basic dXNlcjpodW50ZXIy";

/// A certificate for one name, which is its own root.
pub(crate) fn tls(name: &str) -> (TlsAcceptor, String) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new([name.to_owned()]).unwrap().self_signed(&key).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    (TlsAcceptor::from(Arc::new(config)), certificate.pem())
}

pub(crate) async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// What a proxy does once it has read a head.
#[derive(Clone)]
pub(crate) enum Does {
    LeadTo(SocketAddr),
    Say(&'static str),
    Wait,
}

/// A proxy, and the heads that it has read.
pub(crate) struct Middleman {
    pub(crate) address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Middleman {
    pub(crate) async fn new(does: Does) -> Self {
        Self::with(does, None).await
    }

    pub(crate) async fn with(does: Does, tls: Option<TlsAcceptor>) -> Self {
        let (listener, address) = listen().await;
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&heads);
        tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let (does, seen, tls) = (does.clone(), Arc::clone(&seen), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => mediate(tcp, does, &seen).await,
                        Some(tls) => mediate(tls.accept(tcp).await.unwrap(), does, &seen).await,
                    }
                });
            }
        });
        Self { address, heads }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://user:hunter2@{}", self.address)
    }

    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn mediate(mut stream: impl AsyncRead + AsyncWrite + Unpin, does: Does, seen: &Mutex<Vec<String>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    seen.lock().unwrap().push(String::from_utf8(head).unwrap());
    match does {
        Does::LeadTo(address) => {
            stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
            let mut there = TcpStream::connect(address).await.unwrap();
            drop(copy_bidirectional(&mut stream, &mut there).await);
        }
        Does::Say(answer) => stream.write_all(answer.as_bytes()).await.unwrap(),
        Does::Wait => std::future::pending().await,
    }
}
