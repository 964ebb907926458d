//! `--check --live`: a table of what each backend would do in service.

use std::ffi::OsStr;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower_azure_openai::testkit::Fault;

use crate::KEY;
use crate::identity::{Endpoint, described, takes_tokens};
use crate::process::{self, LISTEN, run, run_with};
use crate::{http_support, serve};

/// What is printed for a configuration, after it was found to be valid.
async fn check(backends: &str, environment: &[(&str, &str)]) -> (Option<i32>, Vec<String>) {
    let file = process::file(&[LISTEN, backends, &process::client(KEY)].concat());
    let args = ["--config".as_ref(), file.as_os_str(), "--check".as_ref(), "--live".as_ref()];
    let (status, stdout, stderr) = run_with(&args, environment).await;
    assert_eq!(stderr, "");
    for secret in [KEY, "key-of-", "token-of-", "secret-of-"] {
        assert!(!stdout.contains(secret), "{stdout}");
    }
    let (served, table) = stdout.split_once("\n\n").unwrap();
    assert!(served.starts_with("gpt-4o gpt-4o -: "), "{served}");
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut lines = table.lines().map(words);
    assert_eq!(lines.next().unwrap(), "backend check result");
    (status, lines.collect())
}

/// One with a deployment beside `gpt-4o`.
fn with_another(name: &str, url: &str, key: &str, deployment: &str) -> String {
    format!(
        "[[backends]]\nname = \"{name}\"\nendpoint = \"{url}\"\ncredential = {{ api_key = \"{key}\" }}\n\
         deployments = [{{ name = \"gpt-4o\" }}, {{ name = \"{deployment}\" }}]\n"
    )
}

#[tokio::test]
async fn what_works_is_told_and_costs_nothing() {
    let endpoint = Endpoint::start().await;
    let ((east, east_server), (west, west_server)) = (serve("east").await, takes_tokens("west", "openai").await);
    west.faults().push_n(Fault::throttled().for_deployment("gpt-4o"), 1);
    let backends = [process::backends(&[("east", &east_server.url())]), described("west", &west_server.url(), 1, "")];
    let (status, lines) = check(&backends.concat(), &endpoint.environment()).await;
    assert_eq!(
        lines,
        [
            "east name ok: 127.0.0.1 (private)",
            "east connection ok: plain http, and it answers",
            "east credential ok: a key; whether it is taken shows below",
            "east deployment gpt-4o ok: it exists and may be used",
            "west name ok: 127.0.0.1 (private)",
            "west connection ok: plain http, and it answers",
            "west credential ok: a token for https://cognitiveservices.azure.com/.default",
            "west deployment gpt-4o ok: it exists and may be used, but is throttled now",
        ]
    );
    assert_eq!(status, Some(0));
    for backend in [&east, &west] {
        for request in backend.requests() {
            assert!(matches!(&request.body[..], b"" | b"{}"), "nothing that could be answered");
        }
    }
}

#[tokio::test]
async fn what_would_fail_is_told_for_each_backend() {
    let endpoint = Endpoint::start().await;
    endpoint.fail(Some((400, r#"{"error":"invalid_request","error_description":"secret-of-the-endpoint"}"#)));
    let (servers, dead) = ([serve("east").await, serve("south").await, serve("west").await], serve("dead").await.1);
    let [east, south, west] = servers.each_ref().map(|(_, server)| server.url());
    let dead_url = dead.url();
    dead.stop().await;
    servers[1].0.faults().always(Fault::status(403));
    let backends = [
        with_another("missing", &east, "key-of-east", "o3"),
        with_another("wrong-key", &east, "key-of-nobody", "o4"),
        process::backends(&[("south", &south)]),
        described("identity", &west, 0, ""),
        process::backends(&[("dead", &dead_url)]),
        process::backends(&[("tls", &west.replace("http:", "https:"))]),
        process::backends(&[("name", "https://no-such-name.invalid")]),
    ];
    let (status, lines) = check(&backends.concat(), &endpoint.environment()).await;
    for expected in [
        "missing deployment gpt-4o ok: it exists and may be used",
        "missing deployment o3 FAILED: 404: there is no such deployment",
        "wrong-key deployment gpt-4o FAILED: 401: the key is refused",
        "south deployment gpt-4o FAILED: 403: it takes no keys, or lets in no requests from here",
        "identity credential FAILED: no token: the identity endpoint answered 400 (invalid_request)",
        "identity deployment gpt-4o not checked: for want of what stands above",
        "dead connection FAILED: no connection to the backend: connection refused",
        "tls connection FAILED: no connection to the backend: TLS: the handshake failed",
        "name name FAILED: it cannot be resolved",
        "name deployment gpt-4o not checked: for want of what stands above",
    ] {
        assert!(lines.iter().any(|line| line == expected), "{expected}\nin\n{}", lines.join("\n"));
    }
    assert_eq!(status, Some(2));
}

#[tokio::test]
async fn another_kind_of_server_is_asked_in_its_own_words() {
    let paths = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = paths.clone();
    let url = http_support::serve(move |request| {
        seen.lock().unwrap().push(request.uri().path().to_owned());
        let taken = request.headers().get("authorization").is_some_and(|value| value == "Bearer key-of-site");
        let status = if taken { 400 } else { 401 };
        async move { http::Response::builder().status(status).body(tower_azure_openai::body::Body::empty()).unwrap() }
    })
    .await;
    let backends = process::backends(&[("site", &url)]).replace("priority = 0\n", "priority = 0\nkind = \"openai\"\n");
    let (status, lines) = check(&backends, &[]).await;
    assert_eq!(lines[3], "site deployment gpt-4o ok: it exists and may be used");
    assert_eq!((status, paths.lock().unwrap().last().unwrap().as_str()), (Some(0), "/v1/chat/completions"));
}

#[tokio::test]
async fn what_is_no_azure_openai_is_told() {
    let url = http_support::serve(async |_| {
        let answer = http::Response::builder().status(404);
        answer.body(tower_azure_openai::body::Body::from("<html>secret-of-somebody</html>")).unwrap()
    })
    .await;
    let (status, lines) = check(&process::backends(&[("site", &url)]), &[]).await;
    assert_eq!(lines[3], "site deployment gpt-4o FAILED: 404: the endpoint does not serve deployments");
    assert_eq!(status, Some(2));
}

#[tokio::test]
async fn it_goes_with_check_only() {
    let (status, stdout, stderr) = run(&["--live".as_ref() as &OsStr, "--config".as_ref(), "x".as_ref()]).await;
    assert_eq!((status, stdout.as_str()), (Some(2), ""));
    assert!(stderr.starts_with("--live needs --check\n"), "{stderr}");
}

#[tokio::test]
async fn tls_is_checked_as_the_gateway_would() {
    let (url, ca_pem) = https().await;
    let ca = process::file("").with_file_name("ca.pem");
    std::fs::write(&ca, ca_pem).unwrap();
    let trusting = process::backends(&[("site", &url)])
        .replace("priority = 0\n", &format!("priority = 0\nca_file = \"{}\"\n", ca.display()));
    for (backends, expected) in [
        (trusting, "ok: TLS, and it answers"),
        (
            process::backends(&[("site", &url)]),
            "FAILED: no connection to the backend: TLS: the issuer of the certificate is not trusted",
        ),
    ] {
        let (_, lines) = check(&backends, &[]).await;
        assert_eq!(lines[1], format!("site connection {expected}"));
    }
}

/// A server that answers 400 over TLS, and the CA behind it.
async fn https() -> (String, String) {
    let mut ca = CertificateParams::new([]).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let (issuer, key) = (Issuer::new(ca, ca_key), KeyPair::generate().unwrap());
    let leaf = CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![leaf.der().clone()], key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            // Who does not trust it leaves.
            let Ok(mut tls) = acceptor.accept(tcp).await else { continue };
            tokio::spawn(async move {
                let mut head = [0; 4096];
                drop(tls.read(&mut head).await);
                drop(
                    tls.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await,
                );
                drop(tls.shutdown().await);
            });
        }
    });
    (url, ca_pem)
}
