//! `TerminateCredentialsLayer` from outside.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use http::{HeaderName, HeaderValue, Request, Response};
use proptest::prelude::*;
use tokio::sync::oneshot;
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok, task};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
use tower_azure_openai::context::Client;
use tower_azure_openai::terminate::{
    Authenticate, ClientRegistry, Form, Presented, TerminateCredentialsLayer, from_fn,
};
use tower_azure_openai::{Error, ErrorKind};
use tower_test::mock;

type Seen = Result<Request<()>, ErrorKind>;

async fn pass<A: Authenticate>(layer: &TerminateCredentialsLayer<A>, request: Request<()>) -> Seen {
    let inner = service_fn(async |request: Request<()>| Ok::<_, BoxError>(Response::new(request)));
    match layer.layer(inner).oneshot(request).await {
        Ok(answer) => Ok(answer.into_body()),
        Err(error) => Err(Error::find(error.as_ref()).expect("a cause of the crate").kind()),
    }
}

fn request(query: &str, headers: &[(&str, &str)]) -> Request<()> {
    let builder = Request::post(format!("/openai/deployments/gpt-4o/completions{query}"));
    headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value)).body(()).expect("a request")
}

fn id(seen: &Request<()>) -> Option<&str> {
    seen.extensions().get::<Client>().map(Client::id)
}

fn registry() -> ClientRegistry {
    let (a, b) = (Client::new("a"), Client::new("b"));
    let builder = ClientRegistry::builder().add_key(a.clone(), "key-a1").add_key(a, "key-a2").add_key(b, "key-b");
    builder.build().expect("distinct keys")
}

fn layer() -> TerminateCredentialsLayer<ClientRegistry> {
    TerminateCredentialsLayer::new(registry())
}

// ===== who is it =====

#[tokio::test]
async fn every_form_identifies() {
    for (query, headers) in [
        ("", vec![("api-key", "key-a1")]),
        ("", vec![("api-key", "key-a2")]),
        ("", vec![("authorization", "Bearer key-a1")]),
        ("", vec![("authorization", "bearer   key-a1")]),
        ("", vec![("ocp-apim-subscription-key", "key-a1")]),
        ("?api-version=1&api-key=key-a1", vec![]),
        ("?API-Key=key%2Da1", vec![]),
        ("?subscription-key=key-a1", vec![]),
        ("", vec![("sec-websocket-protocol", "realtime, openai-insecure-api-key.key-a1, openai-beta.realtime-v1")]),
    ] {
        let seen = pass(&layer(), request(query, &headers)).await.unwrap();
        assert_eq!(id(&seen), Some("a"), "{query} {headers:?}");
        let all = format!("{} {:?}", seen.uri(), seen.headers());
        assert!(!all.contains("key-a") && !all.contains("key%2Da"), "{all}");
    }
}

#[tokio::test]
async fn whatever_identifies_nobody_is_refused() {
    for (query, headers) in [
        ("", vec![]),
        ("", vec![("api-key", "")]),
        ("", vec![("api-key", "KEY-A1")]),
        ("", vec![("api-key", "key-a")]),
        ("", vec![("authorization", "key-a1")]),
        ("", vec![("authorization", "Basic key-a1")]),
        ("", vec![("authorization", "Bearerkey-a1")]),
        ("", vec![("authorization", "Bearer")]),
        ("", vec![("cookie", "api-key=key-a1")]),
        ("?key=key-a1", vec![]),
        ("?api-key", vec![]),
    ] {
        let refused = pass(&layer(), request(query, &headers)).await.unwrap_err();
        assert_eq!(refused, ErrorKind::Unauthenticated, "{query} {headers:?}");
    }
}

#[tokio::test]
async fn the_first_form_that_identifies_wins() {
    let both = request("?api-key=key-a1", &[("authorization", "Bearer key-b")]);
    assert_eq!(id(&pass(&layer(), both).await.unwrap()), Some("b"));
    let unknown_first = request("?api-key=key-a1", &[("api-key", "unknown"), ("authorization", "Bearer key-b")]);
    assert_eq!(id(&pass(&layer(), unknown_first).await.unwrap()), Some("b"));
    let last = request("?api-key=x&subscription-key=key-a1", &[("api-key", "x"), ("authorization", "Bearer x")]);
    assert_eq!(id(&pass(&layer(), last).await.unwrap()), Some("a"));
}

#[tokio::test]
async fn forms_are_asked_about_in_order_and_each_once() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let layer = TerminateCredentialsLayer::new({
        let asked = asked.clone();
        move |presented: &Presented| {
            asked.lock().unwrap().push((presented.form(), presented.secret().to_vec()));
            None
        }
    });
    let all = request(
        "?subscription-key=5&api-key=4",
        &[
            ("sec-websocket-protocol", "openai-insecure-api-key.6"),
            ("ocp-apim-subscription-key", "3"),
            ("authorization", "Bearer 2"),
            ("api-key", "1"),
            ("api-key", "1"),
        ],
    );
    assert_eq!(pass(&layer, all).await.unwrap_err(), ErrorKind::Unauthenticated);
    let expected = [
        (Form::ApiKey, b"1".to_vec()),
        (Form::Bearer, b"2".to_vec()),
        (Form::SubscriptionKey, b"3".to_vec()),
        (Form::QueryApiKey, b"4".to_vec()),
        (Form::QuerySubscriptionKey, b"5".to_vec()),
        (Form::WebSocketProtocol, b"6".to_vec()),
    ];
    assert_eq!(*asked.lock().unwrap(), expected);
}

#[tokio::test]
async fn one_form_with_two_values_is_ambiguous_and_a_repeated_value_is_not() {
    for (query, headers) in [
        ("", vec![("api-key", "key-a1"), ("api-key", "key-b")]),
        ("", vec![("authorization", "Bearer key-a1"), ("authorization", "Bearer key-b")]),
        ("", vec![("authorization", "Bearer key-a1"), ("authorization", "Basic a2V5")]),
        ("", vec![("authorization", "Basic a2V5"), ("authorization", "Bearer key-a1")]),
        ("", vec![("authorization", "Basic a2V5"), ("authorization", "Digest a2V5"), ("api-key", "key-a1")]),
        ("", vec![("ocp-apim-subscription-key", "key-a1"), ("ocp-apim-subscription-key", "key-b")]),
        ("?api-key=key-a1&api-key=key-b", vec![]),
        ("?api-key=key-a1&API-KEY=key-b", vec![("api-key", "key-a1")]),
        ("?subscription-key=key-a1&subscription-key=key-b", vec![]),
        ("", vec![("sec-websocket-protocol", "openai-insecure-api-key.key-a1, openai-insecure-api-key.key-b")]),
    ] {
        let refused = pass(&layer(), request(query, &headers)).await.unwrap_err();
        assert_eq!(refused, ErrorKind::AmbiguousRequest, "{query} {headers:?}");
    }
    for (query, headers) in [
        ("", vec![("api-key", "key-a1"), ("api-key", "key-a1")]),
        ("", vec![("authorization", "Bearer key-a1"), ("authorization", "bearer  key-a1")]),
        ("", vec![("authorization", ""), ("authorization", "Bearer key-a1")]),
        ("", vec![("authorization", "Basic a2V5"), ("api-key", "key-a1")]),
        ("?api-key=key-a1&api-key=key%2da1", vec![]),
    ] {
        assert_eq!(id(&pass(&layer(), request(query, &headers)).await.unwrap()), Some("a"), "{query} {headers:?}");
    }
}

#[tokio::test]
async fn without_clients_everything_is_stripped_and_nobody_asked() {
    let layer = TerminateCredentialsLayer::without_clients();
    let headers =
        [("api-key", "1"), ("api-key", "2"), ("authorization", "Basic 3"), ("cookie", "a=b"), ("accept", "*/*")];
    let mut open = request("?api-key=1&api-version=2", &headers);
    let seen = pass(&layer, request("?api-key=1&api-version=2", &headers)).await.unwrap();
    assert_eq!(seen.uri(), "/openai/deployments/gpt-4o/completions?api-version=2");
    assert_eq!(seen.headers().keys().collect::<Vec<_>>(), ["accept"]);
    assert_eq!(id(&seen), None);

    open.extensions_mut().insert(Client::new("embedded"));
    assert_eq!(id(&pass(&layer, open).await.unwrap()), Some("embedded"));
}

#[tokio::test]
async fn a_registry_is_replaced_as_a_whole_while_it_serves() {
    let registry = registry();
    let layer = TerminateCredentialsLayer::new(registry.clone());
    registry.replace(&ClientRegistry::builder().add_key(Client::new("c"), "key-c").build().unwrap());
    assert_eq!(id(&pass(&layer, request("", &[("api-key", "key-c")])).await.unwrap()), Some("c"));
    let old = pass(&layer, request("", &[("api-key", "key-a1")])).await;
    assert_eq!(old.unwrap_err(), ErrorKind::Unauthenticated);
}

// ===== what leaves =====

fn spelling(name: &'static str) -> impl Strategy<Value = String> {
    proptest::collection::vec(0..3_u8, name.len()).prop_map(move |how| {
        let spelled = name.chars().zip(how).map(|(c, how)| match how {
            0 => c.to_string(),
            1 => c.to_ascii_uppercase().to_string(),
            _ => format!("%{:02x}", u32::from(c)),
        });
        spelled.collect()
    })
}

fn pair() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        spelling("api-key"),
        spelling("subscription-key"),
        Just("api-version".to_owned()),
        "[a-z%;+]{0,5}",
    ];
    prop_oneof![
        4 => (name, 0..3_u8).prop_map(|(name, value)| match value {
            0 => name,
            1 => format!("{name}=SECRET"),
            _ => format!("{name}==SECRET%00"),
        }),
        1 => Just(String::new()),
    ]
}

fn header() -> impl Strategy<Value = (HeaderName, HeaderValue)> {
    let name = prop_oneof![
        Just("api-key"),
        Just("authorization"),
        Just("ocp-apim-subscription-key"),
        Just("cookie"),
        Just("sec-websocket-protocol"),
    ];
    let value = prop_oneof![
        Just("SECRET".to_owned()),
        "(Bearer|Basic|) {0,3}SECRET",
        "[a-z, \u{e9}]{0,5}(openai-insecure-api-key|OpenAI-Insecure-API-Key)\\.SECRET[a-z, \u{e9}]{0,5}",
    ];
    (name, value).prop_filter_map("a subprotocol without a key is no credential", |(name, value)| {
        let is_credential = name != "sec-websocket-protocol" || value.to_ascii_lowercase().contains("openai-insecure");
        let value = HeaderValue::from_bytes(value.as_bytes()).ok().filter(|_| is_credential)?;
        Some((HeaderName::from_static(name), value))
    })
}

fn is_key(pair: &str) -> bool {
    let name = pair.split('=').next().unwrap_or_default();
    let name = percent_encoding::percent_decode_str(name).decode_utf8_lossy().to_ascii_lowercase();
    name == "api-key" || name == "subscription-key"
}

proptest! {
    #[test]
    fn no_credential_in_any_form_survives(
        pairs in proptest::collection::vec(pair(), 0..6),
        headers in proptest::collection::vec(header(), 0..6),
        absolute in any::<bool>(),
    ) {
        let authority = if absolute { "http://gateway:8080" } else { "" };
        let uri = format!("{authority}/openai/files?{}", pairs.join("&"));
        let mut request = Request::get(&uri).body(()).unwrap();
        request.headers_mut().extend(headers);
        let kept: Vec<_> = pairs.iter().filter(|pair| !is_key(pair)).collect();

        let everybody = TerminateCredentialsLayer::new(|_: &Presented| Some(Client::new("x")));
        let nobody = TerminateCredentialsLayer::without_clients();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let clone = request.clone();
        for seen in runtime.block_on(async { [pass(&everybody, request).await, pass(&nobody, clone).await] }) {
            let Ok(seen) = seen else { continue };
            let values: Vec<_> = seen.headers().values().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
            prop_assert!(!values.concat().contains("SECRET"), "{values:?}");
            let left: Vec<_> = seen.uri().query().unwrap_or_default().split('&').collect();
            prop_assert!(!left.iter().any(|pair| is_key(pair)), "{}", seen.uri());
            prop_assert_eq!(left.join("&"), kept.iter().map(|pair| pair.as_str()).collect::<Vec<_>>().join("&"));
            prop_assert_eq!(seen.uri().path(), "/openai/files");
            prop_assert_eq!(seen.uri().authority().is_some(), absolute);
        }
    }
}

#[tokio::test]
async fn debug_and_messages_show_no_secret() {
    let shown = Arc::new(Mutex::new(String::new()));
    let layer = TerminateCredentialsLayer::new({
        let shown = shown.clone();
        move |presented: &Presented| {
            *shown.lock().unwrap() += &format!("{presented:?}");
            None
        }
    });
    let inner = service_fn(async |_: Request<()>| Ok::<_, BoxError>(Response::new(())));
    let mut service = layer.layer(inner);
    let refused = service.call(request("?api-key=SECRET", &[("authorization", "Bearer SECRET")]));
    let future = format!("{refused:?} {layer:?} {service:?}", service = layer.layer(()));
    let ambiguous = service.call(request("?api-key=SECRET&api-key=SECRET2", &[])).await.unwrap_err();
    let text = format!("{future} {ambiguous:?} {:?}", refused.await.unwrap_err());
    let shown = shown.lock().unwrap();
    assert_eq!(*shown, "Presented { form: Bearer, .. }Presented { form: QueryApiKey, .. }");
    let registry = ClientRegistry::builder().add_key(Client::new("a"), "SECRET");
    let text = format!("{text} {registry:?} {:?}", registry.clone().build());
    assert!(!text.contains("SECRET"), "{text}");
}

// ===== contract =====

/// Answers when the test says so.
#[derive(Clone, Default)]
struct Slow(Arc<Mutex<Vec<oneshot::Sender<Option<Client>>>>>);

impl Slow {
    fn pending(&self) -> oneshot::Sender<Option<Client>> {
        self.0.lock().expect("no panic inside").pop().expect("asked")
    }
}

impl Authenticate for Slow {
    type Future = Pin<Box<dyn Future<Output = Result<Option<Client>, BoxError>> + Send>>;

    fn authenticate(&self, _: &Presented) -> Self::Future {
        let (send, receive) = oneshot::channel();
        self.0.lock().expect("no panic inside").push(send);
        Box::pin(async move { Ok(receive.await.ok().flatten()) })
    }
}

#[tokio::test]
async fn calls_the_service_that_was_ready_after_the_answer() {
    let slow = Slow::default();
    let layer = TerminateCredentialsLayer::new(slow.clone());
    let (mut service, mut handle) = mock::spawn_layer::<Request<()>, Response<()>, _>(layer);
    handle.allow(0);
    assert_pending!(service.poll_ready());
    handle.allow(1);
    assert_ready_ok!(service.poll_ready());

    let mut answer = task::spawn(service.call(request("?api-key=2", &[("api-key", "1")])));
    assert_pending!(answer.poll());
    slow.pending().send(None).unwrap();
    assert_pending!(answer.poll());
    assert_pending!(handle.poll_request());
    slow.pending().send(Some(Client::new("late"))).unwrap();
    assert!(answer.is_woken());
    assert_pending!(answer.poll());
    let (seen, respond) = assert_ready!(handle.poll_request()).unwrap();
    assert_eq!(id(&seen), Some("late"));
    assert_pending!(service.poll_ready(), "what is left is not ready");
    respond.send_error("down");
    assert_eq!(assert_ready_err!(answer.poll()).to_string(), "down");
}

#[tokio::test]
async fn a_refused_request_leaves_the_service_usable() {
    let (mut service, mut handle) = mock::spawn_layer::<Request<()>, Response<()>, _>(layer());
    handle.allow(1);
    assert_ready_ok!(service.poll_ready());
    assert_ready_err!(task::spawn(service.call(request("", &[]))).poll());
    assert_ready_ok!(service.poll_ready());
    let mut answer = task::spawn(service.call(request("", &[("api-key", "key-b")])));
    assert_pending!(answer.poll());
    assert_ready!(handle.poll_request()).unwrap().1.send_response(Response::new(()));
    assert_ready_ok!(answer.poll());
}

#[tokio::test]
async fn dropping_the_future_drops_what_it_waits_for() {
    let slow = Slow::default();
    let held = Arc::new(());
    let inner = service_fn({
        let held = held.clone();
        move |_: Request<()>| {
            let held = held.clone();
            async move {
                std::future::pending::<()>().await;
                drop(held);
                Ok::<_, BoxError>(Response::new(()))
            }
        }
    });
    let mut service = TerminateCredentialsLayer::new(slow.clone()).layer(inner);
    let resting = Arc::strong_count(&held);

    let mut asking = task::spawn(service.call(request("", &[("api-key", "1")])));
    assert_pending!(asking.poll());
    drop(asking);
    assert!(slow.pending().is_closed(), "the question");

    let mut called = task::spawn(service.call(request("", &[("api-key", "1")])));
    assert_pending!(called.poll());
    slow.pending().send(Some(Client::new("x"))).unwrap();
    assert_pending!(called.poll());
    assert!(Arc::strong_count(&held) > resting);
    drop(called);
    assert_eq!(Arc::strong_count(&held), resting, "the request below");
}

#[test]
fn is_send_and_sync() {
    fn check<T: Send + Sync>() {}
    check::<TerminateCredentialsLayer<ClientRegistry>>();
    check::<Presented>();
    check::<ClientRegistry>();
    let _: &dyn Authenticate<Future = std::future::Ready<Result<Option<Client>, BoxError>>> = &registry();
}

#[tokio::test]
async fn whoever_cannot_be_looked_up_is_not_unknown() {
    let looked_up = || {
        from_fn(|presented| {
            let secret = presented.secret().to_owned();
            async move {
                match &secret[..] {
                    b"fails" => Err(BoxError::from("the database is down")),
                    b"known" => Ok(Some(Client::new("a"))),
                    _ => Ok(None),
                }
            }
        })
    };
    let other = |presented: &Presented| (presented.secret() == b"other").then(|| Client::new("b"));
    let alone = TerminateCredentialsLayer::new(looked_up());
    let paired = TerminateCredentialsLayer::new((looked_up(), other));
    let overloaded = Err(ErrorKind::Overloaded);
    for (query, key, by_one, by_two) in [
        ("", "known", Ok("a"), Ok("a")),
        ("", "stranger", Err(ErrorKind::Unauthenticated), Err(ErrorKind::Unauthenticated)),
        ("", "other", Err(ErrorKind::Unauthenticated), Ok("b")),
        ("", "fails", overloaded, overloaded),
        ("?api-key=known", "fails", Ok("a"), Ok("a")),
        ("?api-key=stranger", "fails", overloaded, overloaded),
    ] {
        let asked = || request(query, &[("api-key", key)]);
        let who = |seen: Seen| seen.map(|seen| id(&seen).unwrap_or_default().to_owned());
        assert_eq!(who(pass(&alone, asked()).await), by_one.map(str::to_owned), "{query} {key}");
        assert_eq!(who(pass(&paired, asked()).await), by_two.map(str::to_owned), "{query} {key}, two are asked");
    }
}

// ===== who is known at once =====

/// Answers, and counts how often it was cloned.
struct Counted(Arc<AtomicUsize>);

impl Clone for Counted {
    fn clone(&self) -> Self {
        self.0.fetch_add(1, Relaxed);
        Self(self.0.clone())
    }
}

impl Service<Request<()>> for Counted {
    type Response = Response<Option<String>>;
    type Error = BoxError;
    type Future = std::future::Ready<Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), BoxError>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        std::future::ready(Ok(Response::new(id(&request).map(str::to_owned))))
    }
}

async fn clones_for(
    layer: TerminateCredentialsLayer<impl Authenticate>,
    headers: &[(&str, &str)],
) -> (Option<String>, usize) {
    let clones = Arc::new(AtomicUsize::new(0));
    let mut service = layer.layer(Counted(clones.clone()));
    let answer = service.ready().await.expect("it is always ready").call(request("", headers)).await;
    (answer.ok().and_then(Response::into_body), clones.load(Relaxed))
}

#[tokio::test]
async fn a_service_is_cloned_only_for_what_has_to_be_waited_for() {
    let looks_up = || {
        from_fn(|presented: &Presented| {
            let is_c = presented.secret() == b"key-c";
            async move { Ok(is_c.then(|| Client::new("c"))) }
        })
    };
    let known = [("api-key", "key-a1")];
    assert_eq!(clones_for(layer(), &known).await, (Some("a".to_owned()), 0));
    assert_eq!(
        clones_for(TerminateCredentialsLayer::new((registry(), looks_up())), &known).await.1,
        0,
        "the first knows"
    );
    let second = [("api-key", "nobody's"), ("authorization", "Bearer key-b")];
    assert_eq!(clones_for(layer(), &second).await, (Some("b".to_owned()), 0));
    let later = [("api-key", "key-c")];
    let asked = clones_for(TerminateCredentialsLayer::new((registry(), Some(looks_up()))), &later).await;
    assert_eq!(asked, (Some("c".to_owned()), 1));
    assert_eq!(
        clones_for(TerminateCredentialsLayer::new((registry(), None::<ClientRegistry>)), &later).await,
        (None, 0)
    );
}
