use super::*;

#[tokio::test(start_paused = true)]
async fn keeps_what_it_received() {
    let backend = open();
    tokio::time::advance(Duration::from_secs(7)).await;
    let mut request = chat();
    request.headers_mut().append("x-twice", "1".parse().unwrap());
    request.headers_mut().append("x-twice", "2".parse().unwrap());
    *request.version_mut() = Version::HTTP_2;
    send(&backend, request).await;
    send(&backend, post("/nowhere", "")).await;

    let [first, second] = &backend.requests()[..] else { panic!("two requests") };
    assert_eq!(first.method, "POST");
    assert_eq!(first.uri, CHAT);
    assert_eq!(first.version, Version::HTTP_2);
    assert_eq!(first.headers.get_all("x-twice").iter().count(), 2);
    assert_eq!(first.header("x-twice"), Some("1"));
    assert_eq!(first.body, HELLO);
    assert_eq!(first.at, Instant::now());
    assert_eq!(second.uri, "/nowhere", "whatever it was answered");

    backend.clear_requests();
    assert_eq!(backend.request_count(), 0);
    assert!(tokio::time::timeout(Duration::from_secs(1), backend.wait_for_requests(1)).await.is_err());
}

#[tokio::test]
async fn in_flight_until_the_last_byte_or_the_drop() {
    let backend = open();
    let answer = backend.clone().oneshot(chat());
    assert_eq!(backend.in_flight(), 0, "not before it is called");
    let mut response = answer.await.unwrap();
    assert_eq!(backend.in_flight(), 1);
    response.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(backend.in_flight(), 0);

    let response = send(&backend, chat()).await;
    assert_eq!(backend.in_flight(), 1);
    drop(response);
    assert_eq!(backend.in_flight(), 0);
}

#[tokio::test]
async fn a_broken_upload_is_not_received() {
    let backend = open();
    let broken = http_body_util::StreamBody::new(futures_util::stream::iter([
        Ok(http_body::Frame::data(Bytes::from_static(b"{"))),
        Err(io::Error::other("gone")),
    ]));
    let error = backend.clone().oneshot(Request::post(CHAT).body(broken).unwrap()).await.unwrap_err();
    assert!(error.is_request_body());
    assert_eq!(error.source().unwrap().to_string(), "gone");
    assert_eq!((backend.request_count(), backend.in_flight()), (0, 0));
}

#[test]
fn handles_can_be_shared() {
    fn assert_shared<T: Send + Sync + Clone>() {}
    fn assert_send<T: Send>() {}
    assert_shared::<SimulatedBackend>();
    assert_send::<tower_azure_openai::testkit::ResponseFuture>();
    assert_send::<tower_azure_openai::testkit::SimulatedServer>();
}
