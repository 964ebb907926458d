//! https: which certificate, which protocol, and what a reload does to them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::{Request, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower_azure_openai::body::Body;

use crate::http_support::{Answer, CHAT, HELLO, connect, soon};
use crate::process::{self, Gateway, LISTEN};
use crate::{KEY, serve};

struct Certificate {
    der: CertificateDer<'static>,
    pem: String,
    key: String,
}

impl Certificate {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec!["gateway.example".to_owned()]).unwrap().self_signed(&key).unwrap();
        Self { der: certificate.der().clone(), pem: certificate.pem(), key: key.serialize_pem() }
    }

    fn write(&self, directory: &Path) {
        std::fs::write(directory.join("cert.pem"), &self.pem).unwrap();
        std::fs::write(directory.join("key.pem"), &self.key).unwrap();
    }

    /// A connection to somebody who has this certificate.
    async fn connect(&self, gateway: &Gateway, protocols: &[&str]) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let stream = connect(&gateway.url.replace("https", "http")).await;
        let name = ServerName::try_from("gateway.example").unwrap();
        soon("a TLS handshake", TlsConnector::from(Arc::new(config)).connect(name, stream)).await
    }

    /// Version and status of the answer to a chat request, with the protocol that was agreed on.
    async fn chat(&self, gateway: &Gateway, protocols: &[&str]) -> (Version, StatusCode) {
        let stream = self.connect(gateway, protocols).await.unwrap();
        let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let request = Request::post(format!("{}{CHAT}", if is_h2 { "https://gateway.example" } else { "" }))
            .header("host", "gateway.example")
            .header("content-type", "application/json")
            .header("api-key", KEY)
            .body(Body::from(HELLO))
            .unwrap();
        let io = TokioIo::new(stream);
        let answer = if is_h2 {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
            tokio::spawn(connection);
            soon("an answer", sender.send_request(request)).await.unwrap()
        } else {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
            tokio::spawn(connection);
            soon("an answer", sender.send_request(request)).await.unwrap()
        };
        (answer.version(), Answer::read(answer).await.status)
    }
}

/// The configuration file of a gateway with `cert.pem` and `key.pem` beside it.
fn config(url: &str, certificate: &Certificate) -> PathBuf {
    let file = process::file("");
    let directory = file.parent().unwrap();
    certificate.write(directory);
    let tls = format!(
        "[tls]\ncert_file = {:?}\nkey_file = {:?}\n",
        directory.join("cert.pem").to_str().unwrap(),
        directory.join("key.pem").to_str().unwrap()
    );
    let config = [LISTEN, &process::backends(&[("east", url)]), &process::client(KEY), &tls].concat();
    std::fs::write(&file, config).unwrap();
    file
}

#[tokio::test]
async fn speaks_both_versions_of_http_over_tls_only() {
    let (_east, server) = serve("east").await;
    let certificate = Certificate::new();
    let mut gateway = Gateway::start_file(&config(&server.url(), &certificate)).await;
    assert!(gateway.url.starts_with("https://127.0.0.1:"), "{}", gateway.url);
    for (protocols, version) in
        [(&["h2", "http/1.1"][..], Version::HTTP_2), (&["http/1.1"], Version::HTTP_11), (&[], Version::HTTP_11)]
    {
        assert_eq!(certificate.chat(&gateway, protocols).await, (version, StatusCode::OK), "{protocols:?}");
    }
    assert!(certificate.connect(&gateway, &["spdy/3"]).await.is_err(), "nothing in common");

    let mut plain = connect(&gateway.url.replace("https", "http")).await;
    tokio::io::AsyncWriteExt::write_all(&mut plain, b"GET /status-0123456789abcdef HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let _ = soon("the end of the connection", plain.read_to_end(&mut answer)).await;
    assert!(!answer.starts_with(b"HTTP/"), "no plain HTTP beside it");
    gateway.is_well().await;
}

#[tokio::test]
async fn a_reload_takes_the_new_pair_and_leaves_connections_alone() {
    let (_east, server) = serve("east").await;
    let (old, new) = (Certificate::new(), Certificate::new());
    let file = config(&server.url(), &old);
    let directory = file.parent().unwrap();
    let mut gateway = Gateway::start_file(&file).await;
    let stream = old.connect(&gateway, &["http/1.1"]).await.unwrap();
    let (mut kept, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);

    std::fs::write(directory.join("key.pem"), &new.key).unwrap();
    gateway.signal("HUP").await;
    gateway.stderr.line(&["tls.key_file: is not the key of the certificate in cert_file"]).await;
    gateway.stderr.line(&["was not reloaded"]).await;
    assert_eq!(old.chat(&gateway, &["h2"]).await.1, 200, "the old pair stays");

    new.write(directory);
    gateway.signal("HUP").await;
    gateway.stderr.line(&["was reloaded"]).await;
    assert_eq!(new.chat(&gateway, &["h2"]).await.1, 200);
    assert!(old.connect(&gateway, &["h2"]).await.is_err());
    let probe = Request::get("/status-0123456789abcdef").header("host", "gateway.example").body(Body::empty()).unwrap();
    assert_eq!(soon("an answer", kept.send_request(probe)).await.unwrap().status(), 200);
    gateway.is_well().await;
}

#[tokio::test]
async fn silence_ends_a_connection_before_in_and_after_the_handshake() {
    let (_east, server) = serve("east").await;
    let certificate = Certificate::new();
    let file = config(&server.url(), &certificate);
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}[timeouts]\nhead = \"1s\"\n")).unwrap();
    let mut gateway = Gateway::start_file(&file).await;
    // Nothing, the beginning of a record, and a record that announces more than there is.
    for begun in [&b""[..], b"\x16\x03", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"] {
        let mut silent = connect(&gateway.url.replace("https", "http")).await;
        tokio::io::AsyncWriteExt::write_all(&mut silent, begun).await.unwrap();
        let mut rest = Vec::new();
        let _ = soon("the end of the connection", silent.read_to_end(&mut rest)).await;
        assert!(!rest.starts_with(b"HTTP"), "{rest:?}");
    }
    for protocols in [&["http/1.1"], &["h2"]] {
        let mut silent = certificate.connect(&gateway, protocols).await.unwrap();
        let _ = soon("the end of the connection", silent.read_to_end(&mut Vec::new())).await;
    }
    assert_eq!(certificate.chat(&gateway, &["h2"]).await.1, 200);
    gateway.is_well().await;
}

#[tokio::test]
async fn a_handshake_that_does_not_end_holds_nobody_up() {
    let (_east, server) = serve("east").await;
    let certificate = Certificate::new();
    let gateway = Gateway::start_file(&config(&server.url(), &certificate)).await;
    let _silent = connect(&gateway.url.replace("https", "http")).await;
    assert_eq!(certificate.chat(&gateway, &["h2"]).await.1, 200);
}
