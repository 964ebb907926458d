//! Everything that can lead a request anywhere, all at once, while those who may serve it cannot.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::time::{advance, timeout};
use tower::ServiceExt;
use tower_azure_openai::body::Body;
use tower_azure_openai::context::Handshake;
use tower_azure_openai::gateway::Gateway;
use tower_azure_openai::inspect::{GEOGRAPHY_HEADER, PROCESSING_HEADER};
use tower_azure_openai::pool::{Pin, Processing, Target};
use tower_azure_openai::session::{SESSION_HEADER, WhenUnavailable};
use tower_azure_openai::testkit::{Fault, SimulatedBackend, StreamError};

use super::policies::policies;
use super::world::{CLIENTS, Demand, REPLAY_LIMIT, SITES, World, key};

/// How many requests are on their way at once.
const CROWD: usize = 8;

#[derive(Clone, Copy, Debug)]
enum Weather {
    Fair,
    Broken,
    Down,
    Drained,
    Flapping,
    Silent,
    Throttled,
}

const TROUBLES: [Weather; 6] =
    [Weather::Broken, Weather::Down, Weather::Drained, Weather::Flapping, Weather::Silent, Weather::Throttled];

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// Clients who keep nothing to themselves: any of them may come with another's ids, cookies and sessions.
struct Crowd {
    dice: Dice,
    ids: Vec<String>,
    cookies: Vec<String>,
}

/// How many answers there were, by who asked and what the answer was.
type Answers = BTreeMap<(&'static str, u16), usize>;

/// What an answer told.
struct Told {
    status: StatusCode,
    by: Option<Target>,
    cookies: Vec<String>,
    ids: Vec<String>,
}

impl Crowd {
    fn new(seed: u64) -> Self {
        Self { dice: Dice(seed), ids: Vec::new(), cookies: Vec::new() }
    }

    /// The id of an object that somebody made, or of none.
    fn id(&mut self, prefix: &str) -> String {
        let known: Vec<_> = self.ids.iter().filter(|id| id.starts_with(prefix)).cloned().collect();
        if known.is_empty() || self.dice.one_in(5) {
            format!("{prefix}{:016x}", self.dice.next())
        } else {
            self.dice.pick(&known).clone()
        }
    }

    fn call(&mut self) -> (Method, String, Value) {
        const QUERY: &str = "api-version=2025-04-01-preview";
        let alias = *self.dice.pick(&["gpt-4o", "gpt-4o", "mine", "released", "nobodys"]);
        let (stream, user) = (self.dice.one_in(2), self.dice.below(5).to_string());
        let (collection, prefix) = *self.dice.pick(&[
            ("assistants", "asst_"),
            ("conversations", "conv_"),
            ("files", "file-"),
            ("threads", "thread_"),
            ("vector_stores", "vs_"),
        ]);
        let (root, query) = *self.dice.pick(&[("/openai", "?api-version=2025-04-01-preview"), ("/openai/v1", "")]);
        let post = |path: String, body: Value| (Method::POST, path, body);
        let chat = |length: usize| json!({"messages": [{"role": "user", "content": "x".repeat(length)}], "stream": stream, "user": user});
        match self.dice.below(16) {
            0 => post(format!("/openai/deployments/{alias}/chat/completions?{QUERY}"), chat(5)),
            1 => post(format!("/openai/deployments/{alias}/chat/completions?{QUERY}"), chat(2 * REPLAY_LIMIT)),
            2 => post("/openai/v1/chat/completions".into(), with(chat(5), &json!({"model": alias}))),
            3 => post(format!("/openai/deployments/{alias}/embeddings?{QUERY}"), json!({"input": "Hi"})),
            4 => post(format!("{root}/responses{query}"), json!({"model": alias, "input": "Hi", "stream": stream})),
            5 => {
                let parent = json!({"previous_response_id": self.id("resp_"), "stream": stream});
                post(format!("{root}/responses{query}"), with(parent, &json!({"model": "gpt-4o", "input": "Hi"})))
            }
            6 => {
                let file = json!([{"role": "user", "content": [{"type": "input_file", "file_id": self.id("file-")}]}]);
                post("/openai/v1/responses".into(), json!({"model": alias, "input": file}))
            }
            7 | 8 => post(format!("{root}/{collection}{query}"), json!({"model": alias})),
            9 => (Method::GET, format!("{root}/{collection}/{}{query}", self.id(prefix)), Value::Null),
            10 => (Method::DELETE, format!("{root}/{collection}/{}{query}", self.id(prefix)), Value::Null),
            11 => {
                let message = json!({"role": "user", "content": "Hi"});
                post(format!("{root}/threads/{}/messages{query}", self.id("thread_")), message)
            }
            12 => {
                let run = json!({"assistant_id": self.id("asst_"), "model": alias});
                post(format!("{root}/threads/{}/runs{query}", self.id("thread_")), run)
            }
            13 => (Method::GET, format!("{root}/{collection}{query}"), Value::Null),
            14 => (Method::GET, format!("/openai/v1/realtime?model={alias}"), Value::Null),
            _ => (Method::GET, format!("{root}/models{query}"), Value::Null),
        }
    }

    /// A request, and all that is demanded for it.
    fn request(&mut self) -> (&'static str, Request<Body>, Vec<Demand>) {
        let (client, demand) = *self.dice.pick(&CLIENTS);
        let (method, uri, body) = self.call();
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let request = Request::builder().method(method).uri(&uri).header("content-type", "application/json");
        let mut request = request.body(body).unwrap();
        if uri.contains("/realtime") {
            self.handshake(client, &mut request);
        } else {
            request.headers_mut().insert("api-key", client.parse().unwrap());
        }
        self.lead_astray(&mut request);
        let mut demands = vec![demand];
        self.narrow(&mut request, &mut demands);
        (client, request, demands)
    }

    /// As another upgrade layer above would pass it on, some with a key of whichever backend.
    fn handshake(&mut self, client: &str, request: &mut Request<Body>) {
        let ephemeral = format!("Bearer {}", key(client, self.dice.pick(&SITES).name));
        let credential = if self.dice.one_in(2) { format!("Bearer {client}") } else { ephemeral };
        for (name, value) in [
            ("authorization", credential.as_str()),
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ] {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        request.extensions_mut().insert(Handshake);
    }

    /// Another's cookie, the name of a session, an embedder's own pin.
    fn lead_astray(&mut self, request: &mut Request<Body>) {
        if self.dice.one_in(3) && !self.cookies.is_empty() {
            request.headers_mut().insert("cookie", self.dice.pick(&self.cookies).parse().unwrap());
        }
        if self.dice.one_in(4) {
            request.headers_mut().insert(SESSION_HEADER, self.dice.below(4).into());
        }
        if self.dice.one_in(6) {
            let names = [self.dice.pick(&SITES).name, self.dice.pick(&SITES).name].map(Arc::<str>::from);
            let pin = match self.dice.below(3) {
                0 => Pin::movable(names),
                1 => Pin::preferred(names),
                _ => Pin::required(names[0].clone()),
            };
            request.extensions_mut().insert(pin);
        }
    }

    /// By a header, by an extension, or by both.
    fn narrow(&mut self, request: &mut Request<Body>, demands: &mut Vec<Demand>) {
        const SCOPES: [(&str, &[Processing]); 3] = [
            ("regional", &[Processing::Regional]),
            ("regional, data-zone", &[Processing::Regional, Processing::DataZone]),
            ("global", &[Processing::Global]),
        ];
        if self.dice.one_in(6) {
            let geography = *self.dice.pick(&["eu", "us", "us", "ap"]);
            request.headers_mut().insert(GEOGRAPHY_HEADER, geography.parse().unwrap());
            demands.push(Demand { geography: Some(geography), ..Demand::default() });
        }
        if self.dice.one_in(8) {
            let (words, scopes) = *self.dice.pick(&SCOPES);
            request.headers_mut().insert(PROCESSING_HEADER, words.parse().unwrap());
            demands.push(Demand { processing: Some(scopes), ..Demand::default() });
        }
        if self.dice.one_in(8) {
            let narrowed = Demand { geography: Some(*self.dice.pick(&["eu", "us"])), ..Demand::default() };
            request.extensions_mut().insert(narrowed.constraints());
            demands.push(narrowed);
        }
    }

    async fn storm(&mut self, world: &mut World, answers: &mut Answers, context: &str) {
        let mut sent = Vec::with_capacity(CROWD);
        for _ in 0..CROWD {
            let (client, request, demands) = self.request();
            let request = world.admit(request, &demands);
            let may_see = world.last_visit().may_see.clone();
            let leaves = self.dice.one_in(10);
            let gateway = world.gateway.clone();
            sent.push(async move { (client, may_see, ask(gateway, request, leaves).await) });
        }
        for (client, may_see, told) in join_all(sent).await {
            let Some(told) = told else { continue };
            if let Some(by) = &told.by {
                assert!(may_see.contains(&by.backend()), "{context}: {client} was answered by {}", by.backend());
            }
            *answers.entry((client, told.status.as_u16())).or_default() += 1;
            self.ids.extend(told.ids);
            self.cookies.extend(told.cookies);
        }
    }
}

fn with(mut body: Value, more: &Value) -> Value {
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// `None` for a client that has left.
async fn ask(gateway: Gateway, request: Request<Body>, leaves: bool) -> Option<Told> {
    let patience = Duration::from_millis(if leaves { 400 } else { 60_000 });
    let answer = timeout(patience, gateway.oneshot(request)).await.ok()?.unwrap();
    let (head, body) = answer.into_parts();
    let cookies = head.headers.get_all("set-cookie").iter();
    let cookies = cookies.map(|cookie| cookie.to_str().unwrap().split(';').next().unwrap().to_owned()).collect();
    let body = timeout(Duration::from_secs(5), body.collect()).await;
    let text = body.ok().and_then(Result::ok).map(|body| body.to_bytes()).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let ids = text.split("\"id\":\"").skip(1).filter_map(|rest| rest.split('"').next());
    let ids = ids.filter(|_| head.status.is_success()).map(str::to_owned).collect();
    Some(Told { status: head.status, by: head.extensions.get().cloned(), cookies, ids })
}

/// What the weather does to all who may serve a client; everybody else is well.
fn befall(world: &World, whom: &Demand, weather: Weather, dice: &mut Dice) {
    for (site, backend) in SITES.iter().zip(&world.backends) {
        backend.faults().clear();
        world.pool.undrain(site.name).unwrap();
        if !whom.accepts(site) {
            continue;
        }
        let fault = match weather {
            Weather::Broken => Fault::status(*dice.pick(&[500, 502, 503])),
            Weather::Down => Fault::refused(),
            Weather::Silent => Fault::hang(),
            Weather::Throttled => Fault::throttled_for(Duration::from_millis(dice.next() % 9_000)),
            Weather::Fair => continue,
            Weather::Drained => {
                world.pool.drain(site.name).unwrap();
                continue;
            }
            Weather::Flapping => {
                for _ in 0..CROWD {
                    backend.faults().push(whim(dice));
                }
                continue;
            }
        };
        backend.faults().always(fault);
    }
}

/// What may happen to one request of many.
fn whim(dice: &mut Dice) -> Fault {
    let wait = Duration::from_millis(dice.next() % 9_000);
    match dice.below(8) {
        0 => Fault::status(500),
        1 => Fault::refused(),
        2 => Fault::reset(),
        3 => Fault::throttled_for(wait),
        4 => Fault::stream_error(StreamError::throttled_for(wait)),
        5 => Fault::cut_stream(2),
        6 => Fault::status(401),
        _ => Fault::slow_head(Duration::from_millis(300)),
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_comes_together_no_backend_sees_what_it_may_not() {
    let (mut answers, mut received, mut searched) = (BTreeMap::new(), 0, 0);
    for seed in 0..2 * policies().len() {
        let (name, policy) = policies().swap_remove(seed / 2);
        let when_unavailable = [WhenUnavailable::Move, WhenUnavailable::Refuse][seed % 2];
        let is_owned = seed % 3 == 2;
        let mut world = World::new(policy, when_unavailable, is_owned);
        let mut crowd = Crowd::new(seed as u64);
        for (whom, trouble) in CLIENTS[..5].iter().flat_map(|client| TROUBLES.map(|trouble| (client.1, trouble))) {
            for weather in [Weather::Fair, trouble] {
                befall(&world, &whom, weather, &mut crowd.dice);
                let context =
                    format!("{name}, {when_unavailable:?}, {is_owned}, seed {seed}: {weather:?} for {whom:?}");
                crowd.storm(&mut world, &mut answers, &context).await;
                advance(Duration::from_millis(crowd.dice.next() % 8_000)).await;
            }
        }
        world.assert_residency();
        received += world.backends.iter().map(SimulatedBackend::request_count).sum::<usize>();
        searched += world.searches();
    }
    let count = |client: &str, statuses: &[u16]| -> usize {
        let of = answers.iter().filter(|((who, status), _)| *who == client && statuses.contains(status));
        of.map(|(_, count)| count).sum()
    };
    for (client, _) in &CLIENTS[..5] {
        let (served, refused) = (count(client, &[101, 200]), count(client, &[429, 503]));
        assert!(served > 200 && refused > 50, "{client} {answers:?}");
    }
    assert!(received > 3_000 && searched > 1_000, "{received} requests came, {searched} of them to find something");
}
