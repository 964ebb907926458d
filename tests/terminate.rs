//! Credentials of clients: recognised in every form, and gone afterwards.
#![allow(clippy::unwrap_used, reason = "the helpers are part of the tests")]

mod support;

use std::future::{Future, pending, ready};
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use http::{HeaderName, HeaderValue, Request, Response};
use proptest::prelude::*;
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_azure_openai::body::Body;
use tower_azure_openai::context::Client;
use tower_azure_openai::terminate::{
    Authenticate, ClientRegistry, Form, KeyDigest, Presented, TerminateCredentialsLayer,
};
use tower_azure_openai::{Error, ErrorKind};

use support::answer;

const KEY: &str = "key-of-team-a";
const PATH: &str = "/openai/models";

fn registry() -> ClientRegistry {
    let registry = ClientRegistry::builder()
        .add_key(Client::new("team-a"), KEY)
        .add_key(Client::new("team-a"), "next-key-of-team-a")
        .add_key(Client::new("team-b"), "key-of-team-b");
    registry.build().unwrap()
}

fn request(uri: &str, headers: &[(&'static str, &str)]) -> Request<Body> {
    let mut request = Request::get(uri).body(Body::empty()).unwrap();
    for (name, value) in headers {
        request.headers_mut().append(HeaderName::from_static(name), value.parse().unwrap());
    }
    request
}

/// The client that was found and the request as it went on.
async fn terminate<A>(
    layer: &TerminateCredentialsLayer<A>,
    request: Request<Body>,
) -> Result<(Option<String>, http::request::Parts), ErrorKind>
where
    A: Authenticate,
{
    let seen = Arc::new(Mutex::new(None));
    let log = seen.clone();
    let inner = service_fn(move |request: Request<Body>| {
        *log.lock().unwrap() = Some(request.into_parts().0);
        async { Ok::<_, BoxError>(answer(200)) }
    });
    match layer.layer(inner).oneshot(request).await {
        Ok(_) => {
            let parts = seen.lock().unwrap().take().unwrap();
            Ok((parts.extensions.get::<Client>().map(|client| client.id().to_owned()), parts))
        }
        Err(error) => {
            assert!(seen.lock().unwrap().is_none(), "nothing goes on");
            Err(Error::find(error.as_ref()).unwrap().kind())
        }
    }
}

async fn client(request: Request<Body>) -> Result<String, ErrorKind> {
    terminate(&TerminateCredentialsLayer::new(registry()), request).await.map(|(client, _)| client.unwrap())
}

/// The same secret in each form, in the order in which they are tried.
fn forms(secret: &str) -> [(Form, Request<Body>); 6] {
    [
        (Form::ApiKey, request(PATH, &[("api-key", secret)])),
        (Form::Bearer, request(PATH, &[("authorization", &format!("Bearer {secret}"))])),
        (Form::SubscriptionKey, request(PATH, &[("ocp-apim-subscription-key", secret)])),
        (Form::QueryApiKey, request(&format!("{PATH}?api-key={secret}"), &[])),
        (Form::QuerySubscriptionKey, request(&format!("{PATH}?subscription-key={secret}"), &[])),
        (
            Form::WebSocketProtocol,
            request(PATH, &[("sec-websocket-protocol", &format!("realtime, openai-insecure-api-key.{secret}"))]),
        ),
    ]
}

mod recognises {
    use super::*;

    #[tokio::test]
    async fn every_form_and_removes_it() {
        for (form, request) in forms(KEY) {
            let layer = TerminateCredentialsLayer::new(registry());
            let (client, parts) = terminate(&layer, request).await.unwrap();
            assert_eq!(client.as_deref(), Some("team-a"), "{form:?}");
            assert!(!format!("{parts:?}").contains(KEY), "{form:?}");
            assert_eq!(parts.uri, PATH, "{form:?}");
        }
    }

    #[tokio::test]
    async fn other_spellings_of_a_form() {
        for (uri, headers) in [
            (PATH, vec![("authorization", "bearer key-of-team-a")]),
            (PATH, vec![("authorization", "BEARER   key-of-team-a ")]),
            (PATH, vec![("authorization", "Basic eDp5"), ("authorization", "Bearer key-of-team-a")]),
            ("/openai/models?API-KEY=key-of-team-a", vec![]),
            ("/openai/models?api%2Dkey=key%2Dof%2Dteam-a", vec![]),
            ("/openai/models?&&Subscription-Key=key-of-team-a&", vec![]),
            (
                PATH,
                vec![
                    ("sec-websocket-protocol", "a"),
                    ("sec-websocket-protocol", "openai-insecure-api-key.key-of-team-a,b"),
                ],
            ),
        ] {
            assert_eq!(client(request(uri, &headers)).await.as_deref(), Ok("team-a"), "{uri} {headers:?}");
        }
    }

    #[tokio::test]
    async fn several_keys_of_one_client() {
        for (key, id) in [(KEY, "team-a"), ("next-key-of-team-a", "team-a"), ("key-of-team-b", "team-b")] {
            assert_eq!(client(request(PATH, &[("api-key", key)])).await.as_deref(), Ok(id));
        }
    }

    #[tokio::test]
    async fn nobody_by_what_is_not_a_key() {
        for headers in [
            vec![],
            vec![("api-key", "")],
            vec![("api-key", "key-of-team-")],
            vec![("api-key", "key-of-team-aa")],
            vec![("api-key", "KEY-OF-TEAM-A")],
            vec![("authorization", KEY)],
            vec![("authorization", "Basic key-of-team-a")],
            vec![("authorization", "Bearer")],
            vec![("authorization", "Bearer ")],
            vec![("cookie", "api-key=key-of-team-a")],
            vec![("x-api-key", KEY)],
        ] {
            let refused = client(request(PATH, &headers)).await;
            assert_eq!(refused, Err(ErrorKind::Unauthenticated), "{headers:?}");
        }
    }

    #[tokio::test]
    async fn the_first_form_that_identifies_a_client() {
        for first in 0..6 {
            for second in first + 1..6 {
                let mut both = request(PATH, &[]);
                for (i, key) in [(second, "key-of-team-b"), (first, KEY)] {
                    add(&mut both, i, key);
                }
                assert_eq!(client(both).await.as_deref(), Ok("team-a"), "{first} goes before {second}");

                let mut only_the_second = request(PATH, &[]);
                for (i, key) in [(first, "of-nobody"), (second, "key-of-team-b")] {
                    add(&mut only_the_second, i, key);
                }
                let layer = TerminateCredentialsLayer::new(registry());
                let (client, parts) = terminate(&layer, only_the_second).await.unwrap();
                assert_eq!(client.as_deref(), Some("team-b"), "{second} after {first}");
                let left = format!("{parts:?}");
                assert!(!left.contains("of-nobody") && !left.contains("key-of-team-b"), "{left}");
            }
        }
    }

    fn add(request: &mut Request<Body>, form: usize, key: &str) {
        let (_, other) = forms(key).into_iter().nth(form).unwrap();
        for (name, value) in other.headers() {
            request.headers_mut().append(name.clone(), value.clone());
        }
        if let Some(query) = other.uri().query() {
            let query = [request.uri().query().unwrap_or_default(), query].join("&");
            *request.uri_mut() = format!("{PATH}?{}", query.trim_start_matches('&')).parse().unwrap();
        }
    }

    #[tokio::test]
    async fn one_value_of_a_form_only() {
        for (uri, headers) in [
            (PATH, vec![("api-key", KEY), ("api-key", "other")]),
            (PATH, vec![("api-key", KEY), ("api-key", "")]),
            (PATH, vec![("authorization", "Bearer key-of-team-a"), ("authorization", "Bearer other")]),
            (PATH, vec![("ocp-apim-subscription-key", "x"), ("ocp-apim-subscription-key", KEY)]),
            ("/openai/models?api-key=key-of-team-a&API-Key=other", vec![]),
            ("/openai/models?subscription-key=x&a=b&subscription%2Dkey=key-of-team-a", vec![]),
            (PATH, vec![("sec-websocket-protocol", "openai-insecure-api-key.a, openai-insecure-api-key.b")]),
        ] {
            let refused = client(request(uri, &headers)).await;
            assert_eq!(refused, Err(ErrorKind::AmbiguousRequest), "{uri} {headers:?}");
            let layer = TerminateCredentialsLayer::without_clients();
            let refused = terminate(&layer, request(uri, &headers)).await.map(drop);
            assert_eq!(refused, Err(ErrorKind::AmbiguousRequest), "without clients: {uri} {headers:?}");
        }
    }

    #[tokio::test]
    async fn the_same_value_twice() {
        for (uri, headers) in [
            (PATH, vec![("api-key", KEY), ("api-key", KEY)]),
            (PATH, vec![("authorization", "Bearer key-of-team-a"), ("authorization", "bearer key-of-team-a")]),
            ("/openai/models?api-key=key-of-team-a&api-key=key%2Dof-team-a", vec![]),
        ] {
            assert_eq!(client(request(uri, &headers)).await.as_deref(), Ok("team-a"), "{uri} {headers:?}");
        }
    }
}

mod removes {
    use super::*;

    const SECRET: &str = "s3cr3t";

    fn header() -> impl Strategy<Value = (HeaderName, HeaderValue)> {
        let name = prop::sample::select(vec![
            "api-key",
            "authorization",
            "ocp-apim-subscription-key",
            "cookie",
            "sec-websocket-protocol",
        ]);
        let noise = "[a-z, .]{0,8}";
        (name, noise, noise, any::<bool>()).prop_map(|(name, before, after, odd)| {
            let mut value = match name {
                "authorization" => format!("Bearer {SECRET}"),
                "sec-websocket-protocol" => format!("{before},openai-insecure-api-key.{SECRET},{after}"),
                _ => SECRET.to_owned(),
            }
            .into_bytes();
            if odd {
                value.push(0xff);
            }
            (HeaderName::from_static(name), HeaderValue::from_bytes(&value).unwrap())
        })
    }

    fn parameter() -> impl Strategy<Value = String> {
        prop_oneof![
            Just("api-version=2024-10-21".to_owned()),
            Just(String::new()),
            Just("a".to_owned()),
            Just(format!("api-key={SECRET}")),
            Just(format!("API-KEY={SECRET}")),
            Just(format!("%61pi-%6Bey={SECRET}")),
            Just(format!("subscription-key={SECRET}")),
            Just(format!("Subscription%2dKey={SECRET}")),
            Just(format!("api-key={SECRET}=x?y/z")),
        ]
    }

    fn uri() -> impl Strategy<Value = String> {
        let base = prop::sample::select(vec![
            "/openai/models",
            "/",
            "http://gateway.example",
            "https://gateway.example:8443/openai/deployments/a%2Bb/chat/completions",
        ]);
        (base, prop::collection::vec(parameter(), 0..5)).prop_map(|(base, query)| format!("{base}?{}", query.join("&")))
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2_000, ..ProptestConfig::default() })]

        #[test]
        fn every_form_from_headers_and_query(uri in uri(), headers in prop::collection::vec(header(), 0..4)) {
            let mut request = request(&uri, &[("x-kept", "1")]);
            for (name, value) in headers {
                request.headers_mut().append(name, value);
            }
            let path = request.uri().path().to_owned();
            let version = uri.contains("api-version");
            let layer = TerminateCredentialsLayer::without_clients();
            let Some(Ok((client, parts))) = terminate(&layer, request).now_or_never() else {
                return Ok(()); // Two values of one form.
            };
            prop_assert_eq!(client, None);
            prop_assert!(!parts.uri.to_string().contains(SECRET), "{}", parts.uri);
            for (name, value) in &parts.headers {
                prop_assert!(!String::from_utf8_lossy(value.as_bytes()).contains(SECRET), "{}: {:?}", name, value);
            }
            prop_assert_eq!(&parts.headers["x-kept"], "1");
            prop_assert_eq!(parts.uri.path(), path);
            prop_assert_eq!(parts.uri.query().unwrap_or_default().contains("api-version=2024-10-21"), version);
        }
    }

    #[tokio::test]
    async fn no_header_that_is_not_a_credential() {
        let layer = TerminateCredentialsLayer::without_clients();
        let headers = [("openai-beta", "assistants=v2"), ("sec-websocket-protocol", "realtime, v1"), ("host", "h")];
        let (_, parts) = terminate(&layer, request("/openai/models?a=1&&b", &headers)).await.unwrap();
        assert_eq!(parts.headers.len(), 3);
        assert_eq!(parts.headers["sec-websocket-protocol"], "realtime, v1");
        assert_eq!(parts.uri, "/openai/models?a=1&&b", "untouched");
    }

    #[tokio::test]
    async fn an_embedders_client_is_replaced() {
        let mut forged = request(PATH, &[("api-key", KEY)]);
        forged.extensions_mut().insert(Client::new("somebody"));
        assert_eq!(client(forged).await.as_deref(), Ok("team-a"));
    }
}

mod registries {
    use super::*;

    #[tokio::test]
    async fn are_replaced_for_all_clones_while_they_serve() {
        let registry = registry();
        let layer = TerminateCredentialsLayer::new(registry.clone());
        registry.replace(&ClientRegistry::builder().add_key(Client::new("team-c"), "key-of-team-c").build().unwrap());
        let old = terminate(&layer, request(PATH, &[("api-key", KEY)])).await.map(drop);
        assert_eq!(old, Err(ErrorKind::Unauthenticated));
        let (client, _) = terminate(&layer, request(PATH, &[("api-key", "key-of-team-c")])).await.unwrap();
        assert_eq!(client.as_deref(), Some("team-c"));
    }

    #[test]
    fn refuse_a_key_of_two_clients_and_an_empty_one() {
        let two = ClientRegistry::builder().add_key(Client::new("a"), KEY).add_key(Client::new("b"), KEY).build();
        let message = two.unwrap_err().to_string();
        assert!(message.contains("`a`") && message.contains("`b`") && !message.contains(KEY), "{message}");
        assert!(ClientRegistry::builder().add_key(Client::new("a"), "").build().is_err());
        let same = ClientRegistry::builder().add_key(Client::new("a"), KEY).add_key(Client::new("a"), KEY).build();
        assert_eq!(same.unwrap().client(KEY.as_bytes()).unwrap().id(), "a");
    }

    #[test]
    fn take_digests() {
        let digest = KeyDigest::of(KEY.as_bytes());
        let hex = digest.to_string();
        assert_eq!(hex.to_uppercase().parse::<KeyDigest>().unwrap(), digest);
        let registry = ClientRegistry::builder().add_digest(Client::new("a"), hex.parse().unwrap()).build().unwrap();
        assert!(registry.client(KEY.as_bytes()).is_some() && registry.client(hex.as_bytes()).is_none());
        for wrong in ["", "ab", &"g".repeat(64), &"é".repeat(32), &format!("+{}", &hex[1..]), &hex[1..]] {
            assert!(wrong.parse::<KeyDigest>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn show_no_key() {
        let shown = Arc::new(Mutex::new(String::new()));
        let log = shown.clone();
        let closure = move |presented: &Presented| {
            *log.lock().unwrap() = format!("{presented:?} {presented:#?}");
            None
        };
        let layer = TerminateCredentialsLayer::new(closure);
        let asked = terminate(&layer, request(PATH, &[("api-key", KEY)])).now_or_never().unwrap().map(drop);
        assert_eq!(asked, Err(ErrorKind::Unauthenticated));
        let registered = TerminateCredentialsLayer::new(registry());
        let service = registered.layer(support::Strict::default());
        let builder = ClientRegistry::builder().add_key(Client::new("a"), KEY);
        let digest = KeyDigest::of(KEY.as_bytes());
        let shown = format!(
            "{} {layer:?} {registered:?} {service:?} {:?} {builder:?} {digest:?}",
            shown.lock().unwrap(),
            registry()
        );
        assert!(shown.contains("ApiKey"), "the form is shown: {shown}");
        assert!(!shown.contains(KEY) && !shown.contains(&digest.to_string()), "{shown}");
    }
}

mod authenticators {
    use super::*;

    type Asked = Pin<Box<dyn Future<Output = Option<Client>> + Send>>;

    /// Knows after a while who it is, or never.
    #[derive(Clone)]
    struct Slow(Arc<Mutex<Vec<Form>>>, bool);

    impl Authenticate for Slow {
        type Future = Asked;

        fn authenticate(&self, presented: &Presented) -> Asked {
            self.0.lock().unwrap().push(presented.form());
            if self.1 {
                return pending().boxed();
            }
            let found = (presented.form() == Form::QueryApiKey).then(|| Client::new("slow"));
            async move {
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                ready(found).await
            }
            .boxed()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn may_take_their_time_and_are_asked_in_order_until_one_is_found() {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let layer = TerminateCredentialsLayer::new(Slow(asked.clone(), false));
        let headers = [("ocp-apim-subscription-key", "c"), ("authorization", "Bearer b"), ("api-key", "a")];
        let request = request("/openai/models?subscription-key=e&api-key=d", &headers);
        assert_eq!(terminate(&layer, request).await.unwrap().0.as_deref(), Some("slow"));
        assert_eq!(*asked.lock().unwrap(), [Form::ApiKey, Form::Bearer, Form::SubscriptionKey, Form::QueryApiKey]);
    }

    #[tokio::test(start_paused = true)]
    async fn that_are_cancelled_call_nothing() {
        let layer = TerminateCredentialsLayer::new(Slow(Arc::default(), true));
        let (mock, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
        let mut asking = Box::pin(layer.layer(mock).oneshot(request(PATH, &[("api-key", KEY)])));
        assert!(asking.as_mut().now_or_never().is_none());
        drop(asking);
        assert!(handle.next_request().now_or_never().flatten().is_none());
    }

    #[tokio::test]
    async fn are_not_asked_when_nothing_is_presented() {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let layer = TerminateCredentialsLayer::new(Slow(asked.clone(), true));
        let refused = terminate(&layer, request(PATH, &[])).await.map(drop);
        assert_eq!((refused, asked.lock().unwrap().len()), (Err(ErrorKind::Unauthenticated), 0));
    }
}

#[tokio::test]
async fn only_what_was_ready_is_called() {
    let with_key = || request(PATH, &[("api-key", KEY)]);
    support::assert_keeps_the_readiness_contract(&TerminateCredentialsLayer::new(registry()), with_key).await;
    support::assert_keeps_the_readiness_contract(&TerminateCredentialsLayer::without_clients(), with_key).await;
}
