//! Two gateways and one Redis.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use futures_util::future::join_all;
use http::{Request, Response, StatusCode};
use tokio::time::Instant;
use tower_azure_openai::body::Body;

use crate::http_support::{self, CHAT, HELLO, chat, get, send};
use crate::process::{self, Gateway, LISTEN, is};
use crate::redis::{Redis, Slow};
use crate::{KEY, serve};

const FREE_KEY: &str = "key-of-a-client-without-limits";

fn config(redis: &Redis, backends: &[(&str, &str)], limits: &str, more: &str) -> String {
    let free = format!("[[clients]]\nid = \"free\"\nkey = \"{FREE_KEY}\"\n");
    let redis = format!("[redis]\nurl = \"{}\"\n", redis.url());
    [LISTEN, &process::backends(backends), &process::client(KEY), limits, &free, &redis, more].concat()
}

/// Two processes that know of each other.
async fn two(config: &str) -> [Gateway; 2] {
    let file = process::file(config);
    let mut gateways = [Gateway::start_file(&file).await, Gateway::start_file(&file).await];
    for gateway in &mut gateways {
        gateway.status_becomes("both are known", |status| status["replicas"] == 2).await;
    }
    gateways
}

#[tokio::test]
async fn a_crowd_at_two_gateways_is_admitted_as_at_one() {
    let Some(redis) = Redis::start(&[]) else { return };
    let (_east, server) = serve("east").await;
    let gateways = two(&config(&redis, &[("east", &server.url())], "requests_per_minute = 100\n", "")).await;
    let begun = Instant::now();
    let answers = join_all((0..500).map(|i| chat(&gateways[i % 2].url, KEY))).await;
    let flowed_in = usize::try_from(begun.elapsed().as_millis() * 100 / 60_000).unwrap() + 1;
    let served = answers.iter().filter(|answer| answer.status == 200).count();
    let refused = answers.iter().filter(|answer| answer.status == 429);
    assert_eq!(refused.count(), 500 - served);
    // On a busy machine an answer of Redis may come too late; then they are in shares, and not exact.
    if gateways.iter().all(|gateway| gateway.stderr.lines(&["ERROR"]).is_empty()) {
        assert!((100..=100 + flowed_in).contains(&served), "{served} of 500, {flowed_in} of them new");
    } else {
        assert!(served <= 200 + flowed_in, "{served} of 500, {flowed_in} of them new");
    }
}

#[tokio::test]
async fn without_redis_requests_are_served_and_limits_are_shares() {
    let Some(mut redis) = Redis::start(&[]) else { return };
    let (_east, server) = serve("east").await;
    let mut gateways = two(&config(&redis, &[("east", &server.url())], "requests_per_minute = 10\n", "")).await;
    for gateway in &mut gateways {
        assert_eq!(chat(&gateway.url, KEY).await.status, 200);
    }
    redis.signal("STOP");
    for gateway in &gateways {
        assert_eq!(chat(&gateway.url, FREE_KEY).await.status, 200, "a client without limits is not concerned");
    }
    redis.kill();
    for gateway in &mut gateways {
        gateway
            .status_becomes("Redis is away", |status| {
                status["shared_state"].as_str().is_some_and(|sentence| sentence.contains("out of reach"))
            })
            .await;
        let admin = gateway.admin().await;
        assert!(get(format!("{admin}/metrics")).await.text().contains("gateway_shared_state_up 0"));
        assert_eq!(get(format!("{admin}/readyz")).await.status, 200, "nobody is unable to serve for that");
        let mut served = 0;
        for _ in 0..10 {
            let answer = chat(&gateway.url, KEY).await;
            assert!(matches!(answer.status.as_u16(), 200 | 429), "{}", answer.status);
            served += usize::from(answer.status == 200);
            assert_eq!(chat(&gateway.url, FREE_KEY).await.status, 200);
        }
        assert!((1..=6).contains(&served), "of ten, most of which were left: {served}");
        gateway.stderr.line(&["ERROR", "Redis is out of reach"]).await;
    }
    redis.restart();
    for gateway in &mut gateways {
        gateway.status_becomes("Redis is back", |status| status["shared_state"] == "ok").await;
        gateway.stderr.line(&["INFO", "Redis is back"]).await;
        assert_eq!(gateway.stderr.lines(&["ERROR"]).len(), 1, "told once: {}", gateway.stderr.text());
    }
}

#[tokio::test]
async fn whoever_must_not_count_alone_refuses_without_redis() {
    let Some(mut redis) = Redis::start(&[]) else { return };
    let (_east, server) = serve("east").await;
    let backends = [("east", &*server.url())];
    let config = config(&redis, &backends, "tokens_per_day = 100000\n", "on_failure = \"refuse\"\n");
    let mut gateway = Gateway::start(&config).await;
    assert_eq!(chat(&gateway.url, KEY).await.status, 200);
    redis.kill();
    gateway.status_becomes("Redis is away", |status| status["shared_state"] != "ok").await;
    is(&chat(&gateway.url, KEY).await, 503, "overloaded");
    assert_eq!(chat(&gateway.url, FREE_KEY).await.status, 200);
    redis.restart();
    gateway.status_becomes("Redis is back", |status| status["shared_state"] == "ok").await;
    assert_eq!(chat(&gateway.url, KEY).await.status, 200);
}

/// A resource with threads of its own, which counts what it is asked.
async fn resource(name: &'static str) -> (String, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    let url = http_support::serve(move |request| {
        counter.fetch_add(1, Relaxed);
        let is_own = request.method() == "POST" || request.uri().path().contains(name);
        async move {
            let status = if is_own { StatusCode::OK } else { StatusCode::NOT_FOUND };
            let body = format!(r#"{{"id":"thread_{name}","object":"thread"}}"#);
            let answer = Response::builder().status(status).header("content-type", "application/json");
            answer.body(Body::from(body)).unwrap()
        }
    });
    (url.await, asked)
}

#[tokio::test]
async fn what_was_made_at_one_gateway_is_found_at_the_other_without_asking() {
    let Some(redis) = Redis::start(&[]) else { return };
    let ((east, asked_of_east), (west, asked_of_west)) = (resource("east").await, resource("west").await);
    let mut gateways = two(&config(&redis, &[("east", &east), ("west", &west)], "", "")).await;
    let call = |method: &str, gateway: &Gateway, path: &str| {
        let uri = format!("{}/openai/{path}?api-version=2024-10-21", gateway.url);
        let request = Request::builder().method(method).uri(uri).header("content-type", "application/json");
        send(request.header("api-key", FREE_KEY).body(Body::from(if method == "POST" { "{}" } else { "" })).unwrap())
    };
    let made = call("POST", &gateways[0], "threads").await;
    assert_eq!(made.status, 200);
    let thread = made.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(call("GET", &gateways[1], &format!("threads/{thread}")).await.status, 200);
    let asked = [asked_of_east.load(Relaxed), asked_of_west.load(Relaxed)];
    let mut late = 0;
    for gateway in &mut gateways {
        late += gateway.status().await["shared_state_late"].as_u64().unwrap();
    }
    // On a busy machine an answer of Redis may come too late, and then both backends are asked.
    if late == 0 {
        let mut exactly = asked;
        exactly.sort_unstable();
        assert_eq!(exactly, [0, 2], "one call makes it and one reads it, both at the backend that has it");
    } else {
        assert!((2..=4).contains(&asked.iter().sum::<usize>()), "{asked:?}, and {late} answers of Redis were late");
    }
    let keys = redis.ask(&["KEYS", "*"]);
    assert!(keys.contains("aoai:id:") && !keys.contains("thread_"), "{keys}");
}

#[tokio::test]
async fn a_circuit_that_opens_at_one_gateway_is_open_at_the_other_before_it_asks() {
    let Some(redis) = Redis::start(&[]) else { return };
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    let throttled = http_support::serve(move |_| {
        counter.fetch_add(1, Relaxed);
        async { Response::builder().status(429).header("retry-after-ms", "30000").body(Body::empty()).unwrap() }
    });
    let (throttled, (_west, west)) = (throttled.await, serve("west").await);
    let mut gateways = two(&config(&redis, &[("east", &throttled), ("west", &west.url())], "", "")).await;
    assert_eq!(chat(&gateways[0].url, FREE_KEY).await.status, 200, "the other backend serves");
    assert_eq!(asked.load(Relaxed), 1);
    let is_open = |status: &serde_json::Value| status["backends"][0]["deployments"][0]["circuit"] == "open";
    gateways[1].status_becomes("it is open there too", is_open).await;
    assert_eq!(chat(&gateways[1].url, FREE_KEY).await.status, 200);
    assert_eq!(asked.load(Relaxed), 1, "nobody asked it again");
}

#[tokio::test]
async fn a_check_finds_out_whether_redis_lets_us_in() {
    let Some(redis) = Redis::start(&["--requirepass", "hunter2"]) else { return };
    let (_east, server) = serve("east").await;
    let backends = [("east", &*server.url())];
    for (credential, status, wanted) in [
        ("credential = { password_env = \"REDIS_KEY\" }\n", 0, "ok: it takes what it is told"),
        ("", 2, "FAILED: it answers NOAUTH"),
    ] {
        let file = process::file(&config(&redis, &backends, "", credential));
        let args = ["--config".as_ref(), file.as_os_str(), "--check".as_ref(), "--live".as_ref()];
        let (code, printed, complaints) = process::run_with(&args, &[("REDIS_KEY", "hunter2")]).await;
        let row = printed.lines().find(|line| line.starts_with("redis")).unwrap_or_default();
        assert!(code == Some(status) && row.ends_with(wanted), "{code:?} {printed}{complaints}");
        assert!(!printed.contains("hunter2") && !complaints.contains("hunter2"));
    }
}

#[tokio::test]
async fn nothing_of_a_prompt_or_a_key_is_in_redis() {
    let Some(redis) = Redis::start(&[]) else { return };
    let (_east, server) = serve("east").await;
    let limits = "requests_per_minute = 100\ntokens_per_minute = 100000\n";
    let gateway = Gateway::start(&config(&redis, &[("east", &server.url())], limits, "")).await;
    let call = async |path: &str, key: &str, body: &str| {
        let request = Request::post(format!("{}{path}", gateway.url)).header("content-type", "application/json");
        let request = request.header("api-key", key).header("x-session-affinity", "secret-session");
        send(request.header("user-agent", "secret-agent").body(Body::from(body.to_owned())).unwrap()).await
    };
    let version = "?api-version=2024-10-21";
    let mut secrets = vec![KEY.to_owned(), FREE_KEY.to_owned(), "key-of-east".to_owned(), "secret-".to_owned()];
    for (path, body) in [
        (CHAT, HELLO.replace("Hi", "secret-prompt")),
        (CHAT, r#"{"messages":[{"role":"user","content":"secret-prompt"}],"stream":true}"#.to_owned()),
        (
            "/openai/v1/responses",
            r#"{"model":"gpt-4o","input":"secret-prompt","metadata":{"a":"secret-tag"}}"#.to_owned(),
        ),
        (
            "/openai/v1/responses",
            r#"{"model":"gpt-4o","input":[{"type":"reasoning","encrypted_content":"secret-thought"}],"stream":true}"#
                .to_owned(),
        ),
        (
            &*format!("/openai/threads{version}"),
            r#"{"messages":[{"role":"user","content":"secret-prompt"}]}"#.to_owned(),
        ),
        (&*format!("/openai/assistants{version}"), r#"{"model":"gpt-4o","instructions":"secret-prompt"}"#.to_owned()),
        ("/openai/v1/embeddings", r#"{"model":"gpt-4o","input":"secret-prompt"}"#.to_owned()),
        ("/openai/v1/responses/resp_secret-id/cancel", "{}".to_owned()),
    ] {
        for key in [KEY, FREE_KEY, "secret-key-of-nobody-at-all"] {
            let answer = call(path, key, &body).await;
            let told = serde_json::from_slice::<serde_json::Value>(&answer.body).unwrap_or_default();
            secrets.extend(told["id"].as_str().map(str::to_owned));
        }
    }
    assert!(secrets.len() > 8, "objects were made: {secrets:?}");
    let mut kept = redis.everything();
    // Usage is told every other second.
    while !kept.iter().any(|(key, ..)| key.starts_with("aoai:usage:")) {
        tokio::task::yield_now().await;
        kept = redis.everything();
    }
    for kind in ["aoai:limit:team", "aoai:id:", "aoai:ids:", "aoai:usage:", "aoai:{replicas}"] {
        assert!(kept.iter().any(|(key, ..)| key.starts_with(kind)), "{kind}: {kept:?}");
    }
    for (key, ends_in, kept) in kept {
        assert!(ends_in > 0, "{key} stays for ever");
        for secret in &secrets {
            assert!(!key.contains(secret) && !kept.contains(secret), "{secret} in {key}: {kept}");
        }
    }
}

#[tokio::test]
async fn a_redis_that_is_full_or_slow_holds_nobody_up_and_is_told_of() {
    let Some(redis) = Redis::start(&[]) else { return };
    let (_east, server) = serve("east").await;
    let slow = Slow::before(&redis).await;
    let config = config(&redis, &[("east", &server.url())], "requests_per_minute = 1000\n", "");
    let mut gateway = Gateway::start(&config.replace(&redis.url(), &slow.url())).await;
    let is_there = |status: &serde_json::Value| status["shared_state"] == "ok";
    gateway.status_becomes("Redis is there", is_there).await;
    let says = |text: &'static str| {
        move |status: &serde_json::Value| status["shared_state"].as_str().is_some_and(|said| said.contains(text))
    };
    redis.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    for key in [KEY, FREE_KEY] {
        assert_eq!(chat(&gateway.url, key).await.status, 200);
    }
    gateway.status_becomes("it is full", says("OOM")).await;
    redis.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    gateway.status_becomes("there is room again", is_there).await;
    for delay in [Some(Duration::from_millis(200)), Some(Duration::from_secs(5)), None] {
        slow.answers_after(delay);
        for key in [KEY, FREE_KEY] {
            assert_eq!(chat(&gateway.url, key).await.status, 200, "{delay:?}");
        }
        gateway.status_becomes("it is slow", says("goes on alone")).await;
        assert!(gateway.status().await["shared_state_late"].as_u64().unwrap() > 0);
        slow.answers_after(Some(Duration::ZERO));
        gateway.status_becomes("it is quick again", is_there).await;
    }
    assert_eq!(
        gateway.stderr.lines(&["ERROR", "Redis is out of reach"]).len(),
        4,
        "once each: {}",
        gateway.stderr.text()
    );
}
