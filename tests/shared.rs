//! What replicas know together in Redis, by the handles that a stack takes.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![cfg(unix)]

#[path = "support/redis.rs"]
mod redis;
#[path = "shared/slow.rs"]
mod slow;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::{HeaderValue, Request, Response};
use http_body_util::BodyExt;
use redis::Redis;
use tokio::time::{Instant, sleep, timeout};
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_azure_openai::azure::Outcome;
use tower_azure_openai::body::Body;
use tower_azure_openai::context::{Client, Limits};
use tower_azure_openai::directory::{self, ObjectKey, Remembered};
use tower_azure_openai::limit::{self, Decision, LimitStore};
use tower_azure_openai::meter::{Ledger, MeterUsageLayer};
use tower_azure_openai::pool::{Backend, BearerTokens, BoxFuture, Deployment, Pool, Query};
use tower_azure_openai::session::{MemoryStore, SessionStore};
use tower_azure_openai::shared::{Address, Login, OnFailure, Shared};

async fn replica(redis: &Redis) -> Shared {
    // The machine may be busy with other tests.
    let shared = Shared::with_patience(redis.url().parse().unwrap(), Login::Nobody, Duration::from_secs(5)).unwrap();
    shared.ready().await;
    assert!(shared.is_up(), "{:?}", shared.problem());
    shared
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(30), waiting).await.unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test]
async fn accounts_are_kept_as_any_store_keeps_them() {
    let Some(redis) = Redis::start(&[]) else { return };
    let limits = replica(&redis).await.limits(OnFailure::Refuse);
    limit::conformance::check(&limits, sleep).await;
    assert!(redis.ask(&["KEYS", "aoai:limit:*"]).contains("conformance-one"), "they are in Redis");
}

#[tokio::test]
async fn ids_are_kept_as_any_store_keeps_them() {
    let Some(redis) = Redis::start(&[]) else { return };
    let shared = replica(&redis).await;
    // Half a minute and more go by three times: the clock of Redis runs as it does everywhere.
    let ids = Hasty(shared.ids(MemoryStore::new(1_000)));
    directory::conformance::check(&ids, |time| sleep(time / 200)).await;
}

/// A store for which time goes by two hundred times as fast.
#[derive(Debug)]
struct Hasty<S>(S);

impl<S: SessionStore> SessionStore for Hasty<S> {
    fn look_up(&self, key: ObjectKey) -> directory::StoreFuture<'_, Option<Remembered>> {
        self.0.look_up(key)
    }

    fn remember(&self, key: ObjectKey, object: Remembered, lifetime: Duration) -> directory::StoreFuture<'_, ()> {
        self.0.remember(key, object, lifetime / 200)
    }

    fn forget(&self, key: ObjectKey) -> directory::StoreFuture<'_, ()> {
        self.0.forget(key)
    }
}

#[tokio::test]
async fn what_one_replica_remembers_another_knows_and_the_first_owner_stays() {
    let Some(redis) = Redis::start(&[]) else { return };
    let (a, b) = (replica(&redis).await, replica(&redis).await);
    let (a, b) = (a.ids(MemoryStore::new(100)), b.ids(MemoryStore::new(100)));
    let id = ObjectKey::of("resp_secret");
    let of = |owner: &str| Remembered::on("east").owner(Some(owner.into()));
    a.remember(id, of("team-a"), Duration::from_secs(60)).await.unwrap();
    b.remember(id, of("team-b"), Duration::from_secs(60)).await.unwrap();
    assert_eq!(b.look_up(id).await.unwrap(), Some(of("team-a")), "made by another at another replica");
    let video = ObjectKey::of("video_1");
    let made = Remembered::on("east").made_by(Some("sora".into()));
    a.remember(video, made.clone(), Duration::from_secs(60)).await.unwrap();
    assert_eq!(b.look_up(video).await.unwrap(), Some(made), "with the alias by which it was made");
    assert!(!redis.ask(&["KEYS", "*"]).contains("resp_"), "no id is in Redis");
    a.forget(id).await.unwrap();
    assert_eq!(a.look_up(id).await.unwrap(), None);
}

#[tokio::test]
async fn one_client_takes_its_share_of_what_is_remembered_and_no_more() {
    let Some(redis) = Redis::start(&[]) else { return };
    let (a, b) = (replica(&redis).await, replica(&redis).await);
    let ids = a.ids(MemoryStore::new(1_000)).per_client(20);
    let of = |client: &str| Remembered::on("east").on_behalf_of(Some(client.into()));
    let hour = Duration::from_secs(3_600);
    let key = |client: &str, number: u64| ObjectKey::of(&format!("resp_{client}_{number}"));
    for number in 0..5 {
        ids.remember(key("quiet", number), of("quiet"), hour).await.unwrap();
    }
    // What another client made, and this one heard of, stays the other's.
    ids.remember(key("quiet", 0), of("loud"), hour / 2).await.unwrap();
    let object = |number| (key("loud", number), of("loud"), hour + Duration::from_secs(number));
    ids.remember_all((0..500).map(object).collect()).await.unwrap();
    for number in 500..530 {
        let (key, object, lifetime) = object(number);
        ids.remember(key, object, lifetime).await.unwrap();
    }
    let kept = || redis.ask(&["KEYS", "aoai:id:*"]).lines().count();
    until("only twenty of the loud one's are left", || kept() == 25).await;
    let elsewhere = b.ids(MemoryStore::new(1_000));
    let keys = (0..5).map(|number| key("quiet", number)).chain((500..530).map(|number| key("loud", number)));
    let known: Vec<_> = elsewhere.look_up_all(keys.collect()).await.unwrap();
    let (quiet, loud) = known.split_at(5);
    assert!(quiet.iter().all(Option::is_some), "nobody else loses any");
    assert!(loud[10..].iter().all(Option::is_some) && loud[..10].iter().all(Option::is_none), "the latest stay");
    for (key, ends_in, _) in redis.everything() {
        assert!(ends_in > 0, "{key} stays for ever");
    }
}

#[tokio::test]
async fn a_crowd_at_two_replicas_is_admitted_as_at_one() {
    let Some(redis) = Redis::start(&[]) else { return };
    let (a, b) = (replica(&redis).await, replica(&redis).await);
    let stores = [a.limits(OnFailure::Refuse), b.limits(OnFailure::Refuse)];
    let (account, limits) = (Arc::from("team"), Limits::new().requests_per_minute(100).tokens_per_minute(1_000_000));
    let begun = Instant::now();
    let mut asking = tokio::task::JoinSet::new();
    for i in 0..500 {
        let (store, account) = (stores[i % 2].clone(), Arc::clone(&account));
        asking.spawn(async move { store.reserve(&account, limits, Some(10)).await });
    }
    let decisions = asking.join_all().await;
    let admitted = decisions.iter().filter(|said| matches!(said, Ok(Decision::Admitted { .. }))).count();
    let in_time = decisions.iter().filter(|said| said.is_ok()).count();
    // What has flowed in while they asked.
    let more = (begun.elapsed().as_secs_f64() * 100.0 / 60.0).ceil() as usize;
    assert_eq!(in_time, 500);
    assert!((100..=100 + more).contains(&admitted), "{admitted}, {more} of them new");
}

#[tokio::test]
async fn without_redis_each_replica_has_its_share_of_what_was_left() {
    let Some(mut redis) = Redis::start(&[]) else { return };
    let (a, b) = (replica(&redis).await, replica(&redis).await);
    until("both know of each other", || a.replicas() == 2 && b.replicas() == 2).await;
    let (account, limits) = (Arc::<str>::from("team"), Limits::new().requests_per_minute(8).tokens_per_day(1_000));
    let (at_a, at_b) = (a.limits(OnFailure::Local), b.limits(OnFailure::Local));
    let admits = async |store: &dyn LimitStore| {
        matches!(store.reserve(&account, limits, Some(10)).await, Ok(Decision::Admitted { .. }))
    };
    for _ in 0..2 {
        assert!(admits(&at_a).await && admits(&at_b).await);
    }
    redis.kill();
    until("both notice", || !a.is_up() && !b.is_up()).await;
    let mut more = [0, 0];
    for _ in 0..8 {
        more[0] += usize::from(admits(&at_a).await);
        more[1] += usize::from(admits(&at_b).await);
    }
    assert!(more.iter().all(|more| (1..=3).contains(more)), "four of eight were left, two for each: {more:?}");
    let why = a.problem().unwrap();
    assert!(why.contains("1/2 of each limit"), "{why}");
    assert!(a.limits(OnFailure::Refuse).reserve(&account, limits, None).await.is_err(), "or nobody is counted");

    redis.restart();
    until("both are back", || a.is_up() && b.is_up()).await;
    assert!(admits(&at_a).await && a.problem().is_none());
}

#[tokio::test]
async fn a_redis_that_hangs_or_is_full_counts_as_gone() {
    let Some(redis) = Redis::start(&[]) else { return };
    let shared = Shared::new(redis.url().parse().unwrap(), Login::Nobody).unwrap();
    until("it is there", || shared.is_up()).await;
    let limits = shared.limits(OnFailure::Local);
    let (account, many) = (Arc::<str>::from("team"), Limits::new().requests_per_minute(1_000));
    redis.signal("STOP");
    assert!(matches!(limits.reserve(&account, many, None).await, Ok(Decision::Admitted { .. })));
    assert!(!shared.is_up() && shared.problem().unwrap().contains("too long"), "{:?}", shared.problem());
    redis.signal("CONT");
    until("it is back", || shared.is_up()).await;

    redis.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    assert!(matches!(limits.reserve(&account, many, None).await, Ok(Decision::Admitted { .. })));
    until("it is found out", || shared.problem().is_some_and(|why| why.contains("OOM"))).await;
    redis.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    until("there is room again", || shared.is_up()).await;
}

#[tokio::test]
async fn a_circuit_that_opens_at_one_replica_opens_at_all() {
    let Some(redis) = Redis::start(&[]) else { return };
    let pool = || {
        let backend = |name: &str| {
            Backend::new(name, format!("https://{name}.example")).add_deployment(Deployment::new("gpt-4o"))
        };
        Pool::builder().add_backend(backend("east")).add_backend(backend("west")).build().unwrap()
    };
    let (a, b) = (replica(&redis).await, replica(&redis).await);
    let pools = [pool(), pool()];
    a.follow(pools[0].clone());
    b.follow(pools[1].clone());
    let circuit = |pool: &Pool| pool.status().backends[0].deployments[0].circuit;
    assert_eq!(circuit(&pools[1]), "closed");

    let mut permit = pools[0].acquire(&Query::new(Some("gpt-4o")), |_| 0).unwrap();
    assert_eq!(permit.target().backend(), "east");
    permit.record(&Outcome::Throttled { hint: Some(Duration::from_secs(30)) });
    until("the other opens", || circuit(&pools[1]) == "open").await;

    // Whoever closes it is not told again that it was open.
    pools[1].close_circuit("east", "gpt-4o").unwrap();
    let beats = || redis.ask(&["ZRANGE", "aoai:{replicas}", "0", "-1", "WITHSCORES"]);
    let before = beats();
    let is_new = || before.lines().skip(1).step_by(2).all(|beat| !beats().contains(beat));
    until("a heartbeat of each later", is_new).await;
    assert_eq!(circuit(&pools[1]), "closed");

    let c = replica(&redis).await;
    let late = pool();
    c.follow(late.clone());
    until("who comes later hears of it too", || circuit(&late) == "open").await;
    assert_eq!(circuit(&pools[0]), "open");
}

/// Tokens that a test renews.
struct Tokens(Mutex<HeaderValue>);

impl BearerTokens for Tokens {
    fn current(&self) -> Option<HeaderValue> {
        Some(self.0.lock().unwrap().clone())
    }

    fn wait(&self) -> BoxFuture<Result<HeaderValue, BoxError>> {
        let token = self.0.lock().unwrap().clone();
        Box::pin(async move { Ok(token) })
    }

    fn rejected(&self, _: &HeaderValue) -> BoxFuture<bool> {
        Box::pin(async { false })
    }

    fn problem(&self) -> Option<String> {
        None
    }
}

/// Where one server is reached, without TLS and with it.
fn addresses(redis: &Redis) -> [Address; 2] {
    let encrypted = redis.tls_url().parse::<Address>().unwrap().trust_ca(redis.ca()).unwrap();
    [redis.url().parse().unwrap(), encrypted]
}

#[tokio::test]
async fn an_identity_shows_a_newer_token_before_the_last_ends() {
    let Some(redis) = Redis::start_tls(&[]) else { return };
    for address in addresses(&redis) {
        shows_a_newer_token(&redis, address).await;
    }
}

async fn shows_a_newer_token(redis: &Redis, address: Address) {
    let token = |serial: u32| {
        let claims = BASE64_URL_SAFE_NO_PAD.encode(format!(r#"{{"oid":"gateway-id","serial":{serial}}}"#));
        format!("head.{claims}.signature")
    };
    let allow = |token: &str| {
        redis.ask(&["ACL", "SETUSER", "gateway-id", "reset", "on", &format!(">{token}"), "~*", "&*", "+@all"]);
    };
    let bearer = |token: &str| HeaderValue::try_from(format!("Bearer {token}")).unwrap();
    redis.ask(&["CONFIG", "RESETSTAT"]);
    allow(&token(1));
    let tokens = Arc::new(Tokens(Mutex::new(bearer(&token(1)))));
    let shared = Shared::new(address.clone(), Login::Tokens(tokens.clone())).unwrap();
    shared.ready().await;
    assert!(shared.is_up(), "{:?}", shared.problem());
    let clients = redis.ask(&["CLIENT", "LIST"]);
    assert!(clients.contains("user=gateway-id"), "{clients}");

    allow(&token(2));
    *tokens.0.lock().unwrap() = bearer(&token(2));
    let was_shown = || redis.ask(&["INFO", "commandstats"]).contains("cmdstat_auth:calls=");
    until("the newer one is shown", was_shown).await;
    until("and taken", || shared.is_up()).await;

    let refused = Arc::new(Tokens(Mutex::new(bearer(&token(3)))));
    let stranger = Shared::new(address, Login::Tokens(refused)).unwrap();
    stranger.ready().await;
    let why = stranger.problem().unwrap();
    assert!(why.contains("WRONGPASS") && !why.contains("head."), "{why}");
}

#[tokio::test]
async fn a_password_is_asked_for_and_never_told() {
    let Some(redis) = Redis::start_tls(&["--requirepass", "hunter2"]) else { return };
    for address in addresses(&redis) {
        let login = Login::Password { user: None, password: "hunter2".to_owned() };
        let shared = Shared::new(address.clone(), login).unwrap();
        shared.ready().await;
        assert!(shared.is_up(), "{:?}", shared.problem());
        assert!(!format!("{shared:?}").contains("hunter2"));
        for login in [Login::Nobody, Login::Password { user: None, password: "hunter3".to_owned() }] {
            let shared = Shared::new(address.clone(), login).unwrap();
            shared.ready().await;
            let why = shared.problem().unwrap();
            assert!(!shared.is_up() && !why.contains("hunter"), "{why}");
        }
    }
}

#[tokio::test]
async fn only_whom_a_trusted_ca_vouches_for_is_shown_a_password() {
    let Some(mut redis) = Redis::start_tls(&["--requirepass", "hunter2"]) else { return };
    let [_, trusted] = addresses(&redis);
    let login = || Login::Password { user: None, password: "hunter2".to_owned() };
    let otherwise = redis.tls_url().replace("localhost", "127.0.0.1").parse::<Address>().unwrap();
    for (address, expected) in [
        (redis.tls_url().parse().unwrap(), "the issuer of the certificate is not trusted"),
        (otherwise.trust_ca(redis.ca()).unwrap(), "the certificate is for another name"),
        // A server that speaks no TLS waits for the rest of what it takes for a command.
        (redis.url().replace("redis", "rediss").parse().unwrap(), "cannot be connected to in 2 s"),
    ] {
        let shared = Shared::new(address, login()).unwrap();
        shared.ready().await;
        let why = shared.problem().unwrap();
        assert!(why.contains(expected), "{why}");
    }
    let asked = redis.ask(&["-a", "hunter2", "--no-auth-warning", "INFO", "commandstats"]);
    assert!(!asked.contains("cmdstat_hello"), "none of them was told anything: {asked}");

    let shared = Shared::new(trusted, login()).unwrap();
    shared.ready().await;
    assert!(shared.is_up(), "{:?}", shared.problem());
    redis.kill();
    until("it is gone", || !shared.is_up()).await;
    redis.restart();
    until("it is back", || shared.is_up()).await;
}

/// A batch that has ended, as whoever reads it sees it.
const BATCH: &str =
    r#"{"id":"batch_1","object":"batch","status":"completed","usage":{"input_tokens":70,"output_tokens":30}}"#;

#[tokio::test]
async fn what_went_on_in_the_background_is_counted_by_one_replica() {
    let Some(mut redis) = Redis::start(&[]) else { return };
    let (a, b) = (replica(&redis).await, replica(&redis).await);
    let ledgers = [Ledger::new(), Ledger::new()];
    let read = async |shared: &Shared, ledger: &Ledger| {
        let counted = ledger.clone();
        let meter = MeterUsageLayer::new().count_once(shared.count_once()).on_usage(move |used| counted.enter(used));
        let backend = service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(Body::from(BATCH))));
        let request = Request::get("/openai/batches/batch_1?api-version=2024-10-21").body(Body::empty()).unwrap();
        let answer = meter.layer(backend).oneshot(request).await.unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), BATCH);
    };
    let counted = || ledgers.each_ref().map(|ledger| ledger.report(&[], None, None).rows.len());
    read(&a, &ledgers[0]).await;
    read(&b, &ledgers[1]).await;
    read(&a, &ledgers[0]).await;
    assert_eq!(counted(), [1, 0]);
    redis.kill();
    until("it is noticed", || !b.is_up()).await;
    read(&b, &ledgers[1]).await;
    assert_eq!(counted(), [1, 1], "alone, each counts for itself");
}

#[tokio::test]
async fn usage_is_told_for_all_replicas_and_outlasts_them() {
    let Some(redis) = Redis::start(&[]) else { return };
    let used = async |ledger: &Ledger, tokens: u64| {
        let counted = ledger.clone();
        let meter = MeterUsageLayer::new().on_usage(move |used| counted.enter(used));
        let backend = service_fn(move |_: Request<Body>| {
            let answer = format!(r#"{{"usage":{{"prompt_tokens":{tokens},"completion_tokens":1}}}}"#);
            async move { Ok::<_, BoxError>(Response::new(Body::from(answer))) }
        });
        let mut request = Request::post("/openai/deployments/gpt-4o/chat/completions").body(Body::empty()).unwrap();
        request.extensions_mut().insert(Client::new("team \"a\""));
        let answer = meter.layer(backend).oneshot(request).await.unwrap();
        answer.into_body().collect().await.unwrap();
    };
    let told = |ledger: &Ledger| ledger.used_today("team \"a\"");
    let (a, b) = (replica(&redis).await, replica(&redis).await);
    let ledgers = [Ledger::new(), Ledger::new()];
    used(&ledgers[0], 100).await;
    a.share_usage(&ledgers[0]);
    b.share_usage(&ledgers[1]);
    used(&ledgers[1], 20).await;
    until("both know both", || ledgers.iter().all(|ledger| told(ledger).input_tokens == 120)).await;
    assert_eq!((told(&ledgers[0]).requests, told(&ledgers[0]).output_tokens), (2, 2));

    drop((a, b));
    let later = Ledger::new();
    let c = replica(&redis).await;
    c.share_usage(&later);
    used(&later, 3).await;
    until("a restart forgets nothing", || told(&later).input_tokens == 123).await;
    assert_eq!(told(&later).requests, 3);
}
