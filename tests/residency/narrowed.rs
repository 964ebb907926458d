//! What one request demands beside its client.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Request, Response};
use proptest::prelude::*;
use serde_json::{Value, json};
use tower::{BoxError, Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_azure_openai::body::Body;
use tower_azure_openai::context::{Client, Route};
use tower_azure_openai::forward::ForwardLayer;
use tower_azure_openai::inspect::{GEOGRAPHY_HEADER, InspectLayer, PROCESSING_HEADER};
use tower_azure_openai::models::ListModelsLayer;
use tower_azure_openai::pool::{
    Backend, Constraints, Credential, Deployment, NoTargetReason, Pin, Pool, Processing, Query, Release, Target,
};
use tower_azure_openai::reissue::ReissueCredentialsLayer;
use tower_azure_openai::respond::RespondLayer;
use tower_azure_openai::select::{RoundRobin, SelectBackendLayer};
use tower_azure_openai::session::WhenUnavailable;
use tower_azure_openai::testkit::{Fault, SimulatedBackend};
use tower_azure_openai::{Error, ErrorKind};

use super::support::{CHAT, HELLO, bytes, chat, chunked, error, header, json, post, waits};
use super::world::World;

fn geography(name: &str) -> Constraints {
    Constraints::default().geography(name)
}

fn processing(scopes: &[Processing]) -> Constraints {
    Constraints::default().processing(scopes.iter().copied())
}

// ===== selection =====

/// `east` and `west` in `us`, `sweden` in `eu`; all serve `gpt-4o`, and `o3` is at `west` only.
fn pool() -> Pool {
    let serving = |name: &str, geography: &str| {
        let backend = Backend::new(name, format!("https://{name}.example")).geography(geography);
        backend.add_deployment(Deployment::new("gpt-4o"))
    };
    Pool::builder()
        .add_backend(serving("east", "us"))
        .add_backend(serving("west", "us").processing(Processing::Global).add_deployment(Deployment::new("o3")))
        .add_backend(serving("sweden", "eu").priority(1))
        .build()
        .unwrap()
}

/// Who is chosen by the layer alone, over and over.
async fn chosen(client: Option<Client>, narrowed: Option<Constraints>) -> Result<Vec<String>, ErrorKind> {
    let echo = service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(Body::empty())));
    let service = (SelectBackendLayer::new(pool()), ForwardLayer::new()).layer(echo);
    let mut chosen = Vec::new();
    for _ in 0..6 {
        let mut request = chat();
        client.clone().map(|client| request.extensions_mut().insert(client));
        narrowed.clone().map(|narrowed| request.extensions_mut().insert(narrowed));
        match service.clone().oneshot(request).await {
            Ok(answer) => chosen.push(answer.extensions().get::<Target>().unwrap().backend().to_owned()),
            Err(error) => return Err(Error::find(error.as_ref()).unwrap().kind()),
        }
    }
    chosen.sort_unstable();
    chosen.dedup();
    Ok(chosen)
}

#[tokio::test]
async fn selection_alone_obeys_what_an_embedder_inserts() {
    let us = || Some(Client::new("team").geography("us"));
    let none = Err(ErrorKind::DeploymentNotFound);
    let names = |names: &[&str]| Ok(names.iter().map(|name| (*name).to_owned()).collect());
    assert_eq!(chosen(None, None).await, names(&["east", "west"]));
    assert_eq!(chosen(None, Some(geography("eu"))).await, names(&["sweden"]));
    assert_eq!(chosen(us(), Some(processing(&[Processing::Regional]))).await, names(&["east"]));
    assert_eq!(chosen(us(), Some(geography("us"))).await, names(&["east", "west"]));
    assert_eq!(chosen(us(), Some(Constraints::default())).await, names(&["east", "west"]), "nothing is widened");
    assert_eq!(chosen(us(), Some(geography("eu"))).await, none);
    assert_eq!(chosen(None, Some(geography("us").and(geography("eu")))).await, none);
    assert_eq!(chosen(None, Some(processing(&[]))).await, none);
}

#[tokio::test]
async fn a_pin_outside_is_not_followed() {
    let (pool, eu) = (pool(), geography("eu"));
    for pin in [Pin::required("east"), Pin::preferred(["east".into()]), Pin::movable(["east".into()])] {
        let query = Query::new(Some("gpt-4o")).pinned(Some(&pin));
        let free = pool.acquire(&query, |_| 0).map(|permit| permit.target().backend().to_owned());
        assert_eq!(free.as_deref(), Ok("east"));
        let narrowed = pool.acquire(&query.narrowed(Some(&eu)), |_| 0);
        match narrowed.map(|permit| permit.target().backend().to_owned()) {
            Ok(backend) => assert_eq!((backend.as_str(), pin.backends().len()), ("sweden", 1)),
            Err(none) => assert_eq!(none.reason, NoTargetReason::NotServedThere, "{pin:?}"),
        }
    }
}

#[test]
fn a_token_that_only_those_inside_ask_for_is_missed() {
    let shown = Backend::new("sweden", "https://sweden.example").geography("eu").credential(Credential::pass_through());
    let east = Backend::new("east", "https://east.example").geography("us");
    let [shown, east] = [shown, east].map(|backend| backend.add_deployment(Deployment::new("gpt-4o")));
    let pool = Pool::builder().add_backend(shown).add_backend(east).build().unwrap();
    let (query, eu) = (Query::new(Some("gpt-4o")), geography("eu"));
    assert!(pool.has_eligible(&query));
    assert_eq!(pool.outlook(&query.narrowed(Some(&eu))).reason, NoTargetReason::TokenMissing);
}

#[test]
fn a_release_that_cannot_comply_is_passed_over() {
    let serving = |name: &str, geography: &str, version: &str| {
        let backend = Backend::new(name, format!("https://{name}.example")).geography(geography);
        backend.add_deployment(Deployment::new("d").alias("gpt-4o").version(version))
    };
    let pool = Pool::builder()
        .add_backend(serving("east", "us", "1"))
        .add_backend(serving("sweden", "eu", "2"))
        .add_release(Release::new("gpt-4o", "gpt-4o", "1").share(50))
        .add_release(Release::new("gpt-4o", "gpt-4o", "2").share(50))
        .build()
        .unwrap();
    let eu = geography("eu");
    let at = |query: &Query<'_>| pool.acquire(query, |_| 0).unwrap().target().backend().to_owned();
    let clients: Vec<_> = (0..40).map(|i| format!("client-{i}")).collect();
    let query = |client| Query::new(Some("gpt-4o")).client(client);
    assert!(clients.iter().any(|client| at(&query(client)) == "east"));
    assert!(clients.iter().all(|client| at(&query(client).narrowed(Some(&eu))) == "sweden"));
}

#[test]
fn an_explanation_says_who_is_outside_and_not_of_what() {
    let (pool, us, eu) = (pool(), geography("us"), geography("eu"));
    let query = Query::new(Some("o3")).constraints(&us);
    let explained = pool.explain_query(&query.narrowed(Some(&eu))).to_string();
    assert!(
        explained.contains("  west/o3        priority 0  no: outside of what the request keeps to\n"),
        "{explained}"
    );
    assert!(!explained.contains("eu"), "{explained}");
    assert_eq!(pool.explain_query(&query.narrowed(Some(&us))).candidates().count(), 1);
}

// ===== inspection =====

/// Lines of headers, as they come.
type Lines<'a> = [(&'a str, &'a [u8])];

/// What inspection makes of these headers, and what it leaves of them.
async fn inspected(mut request: Request<Body>, lines: &Lines<'_>) -> Result<Option<Constraints>, ErrorKind> {
    for (name, line) in lines {
        let name: http::HeaderName = name.parse().unwrap();
        request.headers_mut().append(name, HeaderValue::from_bytes(line).unwrap());
    }
    let below = service_fn(async |request: Request<Body>| {
        let left = request.headers().keys().find(|name| name.as_str().starts_with("x-gateway-"));
        assert_eq!(left, None);
        assert!(request.extensions().get::<Route>().is_some());
        Ok::<_, BoxError>(Response::new(request.extensions().get::<Constraints>().cloned()))
    });
    let answer = InspectLayer::new().replay_limit(100).layer(below).oneshot(request).await;
    answer.map(Response::into_body).map_err(|error| Error::find(error.as_ref()).unwrap().kind())
}

const GEOGRAPHY: &str = "x-gateway-geography";
const PROCESSING: &str = "X-Gateway-Processing";

#[tokio::test]
async fn headers_narrow() {
    use Processing::{DataZone, Global, Regional};

    assert_eq!((GEOGRAPHY_HEADER, PROCESSING_HEADER.as_str()), (GEOGRAPHY.parse().unwrap(), "x-gateway-processing"));
    let table: [(&Lines<'_>, Option<Constraints>); 7] = [
        (&[], None),
        (&[(GEOGRAPHY, b"eu")], Some(geography("eu"))),
        (&[(GEOGRAPHY, " Großer Süden ".as_bytes())], Some(geography("Großer Süden"))),
        (&[(PROCESSING, b"global")], Some(processing(&[Global]))),
        (&[(PROCESSING, b"regional,data-zone")], Some(processing(&[Regional, DataZone]))),
        (&[(PROCESSING, b" data-zone ,\tregional, regional")], Some(processing(&[Regional, DataZone]))),
        (&[(PROCESSING, b"global"), (GEOGRAPHY, b"eu")], Some(geography("eu").processing([Global]))),
    ];
    for (lines, expected) in table {
        assert_eq!(inspected(chat(), lines).await, Ok(expected.clone()), "{lines:?}");
        let streamed = post(CHAT, chunked([vec![b'x'; 80], vec![b'x'; 80]]));
        assert_eq!(inspected(streamed, lines).await, Ok(expected), "{lines:?}, with a body that is streamed once");
    }
}

#[tokio::test]
async fn headers_add_to_what_an_embedder_demands() {
    let mut request = chat();
    request.extensions_mut().insert(geography("us").processing([Processing::Regional, Processing::Global]));
    let all = inspected(request, &[(GEOGRAPHY, b"eu"), (PROCESSING, b"regional, data-zone")]).await;
    assert_eq!(all, Ok(Some(geography("eu").and(geography("us")).processing([Processing::Regional]))));
}

#[tokio::test]
async fn what_cannot_be_understood_is_refused() {
    let table: [&Lines<'_>; 14] = [
        &[(GEOGRAPHY, b"")],
        &[(GEOGRAPHY, b" \t")],
        &[(GEOGRAPHY, b"eu, us")],
        &[(GEOGRAPHY, b"eu,")],
        &[(GEOGRAPHY, b"\xff")],
        &[(GEOGRAPHY, b"eu"), (GEOGRAPHY, b"us")],
        &[(GEOGRAPHY, b"eu"), (GEOGRAPHY, b"eu")],
        &[(PROCESSING, b"")],
        &[(PROCESSING, b"zone")],
        &[(PROCESSING, b"Regional")],
        &[(PROCESSING, b"regional data-zone")],
        &[(PROCESSING, b"regional,")],
        &[(PROCESSING, b"regional\xff")],
        &[(PROCESSING, b"regional"), (PROCESSING, b"data-zone")],
    ];
    for lines in table {
        assert_eq!(inspected(chat(), lines).await, Err(ErrorKind::InvalidConstraint), "{lines:?}");
    }
    let below = service_fn(async |_: Request<Body>| Err::<Response<Body>, BoxError>("nothing is sent".into()));
    let service = ServiceBuilder::new().layer(RespondLayer::new()).layer(InspectLayer::new()).service(below);
    let mut request = chat();
    request.headers_mut().insert(PROCESSING_HEADER, "secret".parse().unwrap());
    let answer = service.oneshot(request).await.unwrap();
    assert_eq!(answer.status(), 400);
    let said = json(answer).await["error"].clone();
    assert_eq!((&said["code"], &said["type"]), (&"invalid_constraint".into(), &"invalid_request_error".into()));
    let message = said["message"].as_str().unwrap();
    assert!(message.contains("`x-gateway-processing`") && message.contains("data-zone"), "{message}");
    assert!(!message.contains("secret"), "{message}");
}

// ===== the list of models =====

#[tokio::test]
async fn models_are_those_that_are_served_inside() {
    let below = service_fn(async |_: Request<Body>| Err::<Response<Body>, BoxError>("nothing is sent".into()));
    let service = ListModelsLayer::new(pool()).layer(below);
    for (narrowed, expected) in [
        (None, &["gpt-4o", "o3"][..]),
        (Some(geography("us")), &["gpt-4o", "o3"]),
        (Some(geography("eu")), &["gpt-4o"]),
        (Some(processing(&[Processing::Regional])), &["gpt-4o"]),
        (Some(geography("ap")), &[]),
    ] {
        let mut request = Request::get("/openai/v1/models").body(Body::empty()).unwrap();
        request.extensions_mut().insert(Client::new("team"));
        narrowed.map(|narrowed| request.extensions_mut().insert(narrowed));
        let answer = service.clone().oneshot(request).await.unwrap();
        let list: Value = serde_json::from_slice(&bytes(answer).await).unwrap();
        let ids: Vec<_> = list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
        assert_eq!(ids, expected);
    }
}

// ===== the whole stack =====

struct Gateway(World);

impl Gateway {
    fn new() -> Self {
        Self(World::new(RoundRobin::default(), WhenUnavailable::Refuse, false))
    }

    /// Sends a request of this client with these headers.
    async fn send(
        &mut self,
        client: &str,
        headers: &[(&str, &str)],
        method: &str,
        uri: &str,
        body: &Value,
    ) -> Response<Body> {
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let request = Request::builder().method(method).uri(uri).header("content-type", "application/json");
        let mut request = request.header("api-key", client).body(body).unwrap();
        let own = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        request.headers_mut().extend(own.collect::<HeaderMap>());
        let request = self.0.admit(request, &[]);
        self.0.gateway.clone().oneshot(request).await.unwrap()
    }

    async fn chat(&mut self, client: &str, headers: &[(&str, &str)]) -> Response<Body> {
        self.send(client, headers, "POST", CHAT, &serde_json::from_str(HELLO).unwrap()).await
    }

    fn counts(&self) -> Vec<usize> {
        self.0.backends.iter().map(SimulatedBackend::request_count).collect()
    }

    fn befalls(&self, geography: &str, fault: &Fault) {
        for backend in self.0.backends.iter().filter(|backend| backend.name().starts_with(geography)) {
            backend.faults().always(fault.clone());
        }
    }
}

const EU: &[(&str, &str)] = &[(GEOGRAPHY, "eu")];

fn place(answer: &Response<Body>) -> String {
    answer.extensions().get::<Target>().unwrap().backend().split('-').next().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn failover_stays_inside_and_the_wait_is_that_of_those_inside() {
    let mut gateway = Gateway::new();
    gateway.befalls("eu", &Fault::throttled_for(Duration::from_secs(9)));
    for _ in 0..3 {
        let answer = gateway.chat("anywhere", EU).await;
        assert_eq!((answer.status().as_u16(), waits(&answer)), (429, (Some("9000"), Some("9"))));
    }
    assert_eq!(gateway.counts(), [1, 1, 0, 0, 0, 0]);
    assert_eq!(gateway.chat("anywhere", &[]).await.status(), 200, "the others are well");
    assert_eq!(error(gateway.chat("us", EU).await).await, (404, "DeploymentNotFound".to_owned()));
    assert_eq!(error(gateway.chat("anywhere", &[(GEOGRAPHY, "")]).await).await, (400, "invalid_constraint".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn an_id_outside_is_unknown_and_stays_known_to_others() {
    let mut gateway = Gateway::new();
    let made = gateway.send("us", &[], "POST", "/openai/v1/files", &json!({})).await;
    let id = json(made).await["id"].as_str().unwrap().to_owned();
    let (file, before) = (format!("/openai/v1/files/{id}"), gateway.counts());
    for _ in 0..2 {
        let unknown = gateway.send("anywhere", EU, "GET", &file, &Value::Null).await;
        assert_eq!(error(unknown).await, (404, "not_found".to_owned()));
    }
    let after = gateway.counts();
    assert_eq!(after[2..], before[2..], "nobody outside is asked");
    assert_eq!(after[..2], [2, 2], "those inside are, once for each set of headers that decides about the answer");
    for headers in [&[][..], &[(GEOGRAPHY, "us")]] {
        assert_eq!(gateway.send("anywhere", headers, "GET", &file, &Value::Null).await.status(), 200);
    }
}

#[tokio::test(start_paused = true)]
async fn cookies_sessions_and_homes_lead_nowhere_outside() {
    let mut gateway = Gateway::new();
    let thread = json!({});
    let outside = gateway.send("us", &[], "POST", "/openai/v1/threads", &thread).await;
    let cookie = header(&outside, "set-cookie").unwrap().split(';').next().unwrap().to_owned();
    assert_eq!(
        place(&gateway.send("anywhere", &[("cookie", &cookie)], "POST", "/openai/v1/threads", &thread).await),
        "us"
    );
    for name in ["1", "2", "3", "4", "5"] {
        let session = ("x-session-affinity", name);
        for headers in
            [&[EU[0], session][..], &[EU[0], session, ("cookie", &cookie)], &[EU[0], ("cookie", &cookie)], EU]
        {
            let answer = gateway.send("anywhere", headers, "POST", "/openai/v1/threads", &thread).await;
            assert_eq!((answer.status().as_u16(), place(&answer).as_str()), (200, "eu"), "{headers:?}");
        }
    }
}

#[tokio::test]
async fn backends_are_told_nothing_of_it_without_inspection_either() {
    let below = service_fn(async |request: Request<Body>| {
        assert!(request.headers().keys().all(|name| !name.as_str().starts_with("x-gateway-")));
        Ok::<_, BoxError>(Response::new(Body::empty()))
    });
    let service = (SelectBackendLayer::new(pool()), ForwardLayer::new(), ReissueCredentialsLayer::new()).layer(below);
    let mut request = chat();
    request.headers_mut().insert(GEOGRAPHY_HEADER, "eu".parse().unwrap());
    request.headers_mut().insert(PROCESSING_HEADER, "regional".parse().unwrap());
    assert_eq!(service.oneshot(request).await.unwrap().status(), 200);
}

// ===== any sequence =====

#[derive(Clone, Debug)]
struct Asked {
    geography: Option<&'static str>,
    scopes: Option<Vec<Processing>>,
}

impl Asked {
    fn constraints(&self) -> Constraints {
        let asked = Constraints::default();
        let asked = self.geography.into_iter().fold(asked, Constraints::geography);
        self.scopes.iter().fold(asked, |asked, scopes| asked.processing(scopes.iter().copied()))
    }
}

fn scope() -> impl Strategy<Value = Processing> {
    prop_oneof![Just(Processing::DataZone), Just(Processing::Global), Just(Processing::Regional)]
}

fn place_of() -> impl Strategy<Value = Option<&'static str>> {
    prop_oneof![Just(None), Just(Some("eu")), Just(Some("us")), Just(Some("ap"))]
}

fn asked() -> impl Strategy<Value = Asked> {
    let scopes = proptest::option::of(proptest::collection::vec(scope(), 0..3));
    (place_of(), scopes).prop_map(|(geography, scopes)| Asked { geography, scopes })
}

fn any_pool() -> impl Strategy<Value = Pool> {
    proptest::collection::vec((place_of(), scope(), 0_u32..3), 1..8).prop_map(|sites| {
        let backend = |(i, (geography, processing, priority)): (usize, (Option<&'static str>, _, _))| {
            let backend = Backend::new(format!("b{i}"), format!("https://b{i}.example"));
            let backend = backend.processing(processing).priority(priority).add_deployment(Deployment::new("gpt-4o"));
            geography.into_iter().fold(backend, Backend::geography)
        };
        let backends = sites.into_iter().enumerate().map(backend);
        backends.fold(Pool::builder(), |pool, backend| pool.add_backend(backend)).build().unwrap()
    })
}

fn name(target: &Target) -> String {
    target.backend().to_owned()
}

proptest! {
    #[test]
    fn no_sequence_of_demands_widens(pool in any_pool(), client in asked(), demands in proptest::collection::vec(asked(), 0..5)) {
        let names = |query: &Query<'_>| pool.compliant(query).iter().map(name).collect::<Vec<_>>();
        let (client, query) = (client.constraints(), Query::new(Some("gpt-4o")));
        let query = query.constraints(&client);
        let mut all = Constraints::default();
        let mut left = names(&query);
        for demand in demands {
            let demand = demand.constraints();
            let alone = names(&Query::new(Some("gpt-4o")).constraints(&demand));
            left.retain(|name| alone.contains(name));
            all = all.and(demand);
            let narrowed = query.narrowed(Some(&all));
            prop_assert_eq!(&names(&narrowed), &left, "those who comply with each of them");
            let merged = client.clone().and(all.clone());
            prop_assert_eq!(&names(&Query::new(Some("gpt-4o")).constraints(&merged)), &left);
            prop_assert_eq!(&all.clone().and(client.clone()), &merged, "in any order");
            let chosen = pool.acquire(&narrowed, |_| 0).map(|permit| name(permit.target()));
            prop_assert!(chosen.map_or(left.is_empty(), |name| left.contains(&name)));
            let explained = pool.explain_query(&narrowed);
            prop_assert!(explained.candidates().all(|target| left.contains(&name(target))));
            prop_assert_eq!(explained.candidates().next().is_none(), left.is_empty());
        }
    }
}
