use super::*;

const VERSIONS: [Version; 2] = [Version::HTTP_11, Version::HTTP_2];

fn client(version: Version) -> Client<HttpConnector, Full<Bytes>> {
    Client::builder(TokioExecutor::new())
        .http2_only(version == Version::HTTP_2)
        .retry_canceled_requests(false)
        .build_http()
}

fn chat_at(url: &str) -> Request<Full<Bytes>> {
    Request::post(format!("{url}{CHAT}")).body(Full::from(HELLO)).unwrap()
}

/// Whether an error of the socket of this kind is behind an error.
fn is_io(error: &(dyn std::error::Error + 'static), kind: io::ErrorKind) -> bool {
    std::iter::successors(Some(error), |&error| error.source())
        .any(|error| error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == kind))
}

#[tokio::test]
async fn serves_over_both_versions() {
    let backend = open();
    let server = backend.serve().await.unwrap();
    for version in VERSIONS {
        let response = client(version).request(chat_at(&server.url())).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.version(), version);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(String::from_utf8_lossy(&body).contains("Hello from eastus"));
        assert_eq!(backend.requests().pop().unwrap().version, version);
    }
    backend.wait_until_idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn admits_what_fits_and_not_one_more() {
    let backend = with(SimulatedDeployment::standard("gpt-4o").tokens_per_minute(18 * 50));
    let server = backend.serve().await.unwrap();
    let client = client(Version::HTTP_11);
    let answers = (0..200).map(|_| client.request(chat_at(&server.url())));
    let answers = futures_util::future::try_join_all(answers).await.unwrap();
    assert_eq!(answers.iter().filter(|response| response.status() == StatusCode::OK).count(), 50);
    assert_eq!(backend.request_count(), 200);
    drop(answers);
    backend.wait_until_idle().await;
}

#[tokio::test]
async fn its_address_is_its_host() {
    let server = open().serve().await.unwrap();
    let mut request = chat_at(&server.url());
    request.headers_mut().insert("host", "gateway.example".parse().unwrap());
    let response = client(Version::HTTP_11).request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::NOT_FOUND);

    let named = SimulatedBackend::builder("eastus").host("contoso.openai.azure.com");
    let named = named.deployment(SimulatedDeployment::standard("gpt-4o")).build().serve().await.unwrap();
    let response = client(Version::HTTP_11).request(chat_at(&named.url())).await.unwrap();
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    let mut request = chat_at(&named.url());
    request.headers_mut().insert("host", "contoso.openai.azure.com".parse().unwrap());
    let response = client(Version::HTTP_11).request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_reset_aborts_the_socket() {
    let backend = open();
    let server = backend.serve().await.unwrap();
    backend.faults().push_n(Fault::reset(), 2);
    for version in VERSIONS {
        let error = client(version).request(chat_at(&server.url())).await.unwrap_err();
        assert!(!error.is_connect(), "{error:?}");
        assert!(is_io(&error, io::ErrorKind::ConnectionReset), "{error:?}");
    }
    assert_eq!(backend.request_count(), 2);
    backend.wait_until_idle().await;
}

#[tokio::test]
async fn a_cut_body_is_incomplete() {
    let backend = open();
    let server = backend.serve().await.unwrap();
    for version in VERSIONS {
        backend.faults().push(Fault::cut_body(10).body("0123456789".repeat(10)));
        let response = client(version).request(chat_at(&server.url())).await.unwrap();
        assert_eq!(header(&response, "content-length"), Some("100"));
        let mut body = response.into_body();
        let mut read = 0;
        let cut = loop {
            match body.frame().await.unwrap() {
                Ok(frame) => read += frame.into_data().unwrap().len(),
                Err(error) => break error,
            }
        };
        assert_eq!(read, 10, "all that was not cut arrives before {cut:?}");
    }
    backend.wait_until_idle().await;
}

#[tokio::test]
async fn a_cut_stream_breaks_off() {
    let backend = open();
    let server = backend.serve().await.unwrap();
    for version in VERSIONS {
        backend.faults().push(Fault::cut_body(600));
        let request = chat_at(&server.url()).map(|_| Full::from(r#"{"messages":[],"stream":true}"#));
        let response = client(version).request(request).await.unwrap();
        assert_eq!(header(&response, "content-length"), None);
        assert!(response.into_body().collect().await.is_err());
    }
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_request() {
    let backend = open();
    let server = backend.serve().await.unwrap();
    for version in VERSIONS {
        for fault in [Fault::hang(), Fault::slow_head(Duration::from_secs(600))] {
            backend.clear_requests();
            backend.faults().push(fault);
            let request = tokio::spawn(client(version).request(chat_at(&server.url())));
            backend.wait_for_requests(1).await;
            assert_eq!(backend.in_flight(), 1);
            request.abort();
            backend.wait_until_idle().await;
        }

        backend.faults().push(Fault::slow_body(Duration::from_secs(600)));
        let mut response = client(version).request(chat_at(&server.url())).await.unwrap();
        response.body_mut().frame().await.unwrap().unwrap();
        assert_eq!(backend.in_flight(), 1);
        drop(response);
        backend.wait_until_idle().await;
    }
}

#[tokio::test]
async fn a_stopped_server_resets_and_refuses_until_it_is_back() {
    let backend = open();
    let server = backend.serve().await.unwrap();
    let (addr, url) = (server.addr(), server.url());
    let client = client(Version::HTTP_11);
    backend.faults().push(Fault::hang());
    let hanging = tokio::spawn(client.request(chat_at(&url)));
    backend.wait_for_requests(1).await;

    server.stop().await;
    assert!(is_io(&hanging.await.unwrap().unwrap_err(), io::ErrorKind::ConnectionReset));
    assert_eq!(backend.in_flight(), 0);
    let error = client.request(chat_at(&url)).await.unwrap_err();
    assert!(error.is_connect() && is_io(&error, io::ErrorKind::ConnectionRefused), "{error:?}");

    let server = backend.serve_on(addr).await.unwrap();
    assert_eq!(server.url(), url);
    assert_eq!(client.request(chat_at(&url)).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_dropped_server_stops() {
    let backend = open();
    let server = backend.serve().await.unwrap();
    let url = server.url();
    backend.faults().push(Fault::hang());
    let hanging = tokio::spawn(client(Version::HTTP_11).request(chat_at(&url)));
    backend.wait_for_requests(1).await;
    drop(server);
    assert!(hanging.await.unwrap().is_err());
    backend.wait_until_idle().await;
    assert!(client(Version::HTTP_11).request(chat_at(&url)).await.unwrap_err().is_connect());
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_finishes_what_was_begun() {
    for version in VERSIONS {
        let backend = open();
        let server = backend.serve().await.unwrap();
        let url = server.url();
        backend.faults().push(Fault::slow_head(Duration::from_secs(5)));
        let request = tokio::spawn(client(version).request(chat_at(&url)));
        let idle = tokio::net::TcpStream::connect(server.addr()).await.unwrap();
        backend.wait_for_requests(1).await;
        let (response, ()) = tokio::join!(request, server.shutdown());
        drop(idle);
        assert_eq!(response.unwrap().unwrap().status(), StatusCode::OK);
        assert!(client(version).request(chat_at(&url)).await.unwrap_err().is_connect());
    }
}
