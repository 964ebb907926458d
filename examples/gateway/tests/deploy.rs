//! What is shipped for running the gateway fits the gateway.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response};
use tower_azure_openai::body::Body;

use crate::http_support::{self, CHAT, HELLO, get, send};
use crate::process::{self, Gateway, LISTEN, file, run, run_with};
use crate::{KEY, serve};

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(deploy(name)).unwrap()
}

/// Every word that begins as a metric does, without what a histogram adds.
fn metrics(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'));
    let of = |word: &str| {
        let histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end));
        histogram.unwrap_or(word).to_owned()
    };
    words.filter(|word| word.starts_with("gateway_")).map(of).collect()
}

#[tokio::test]
async fn dashboard_and_alerts_ask_for_metrics_that_exist() {
    let backend = http_support::serve(|_| {
        let usage =
            r#"{"usage":{"prompt_tokens":12,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":8}}}"#;
        let mut answer = Response::new(Body::from(usage));
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        async { answer }
    })
    .await;
    let limited = "tokens_per_minute = 1000000\nrequests_per_minute = 1\n";
    let config = [LISTEN, &process::backends(&[("east", &backend)]), &process::client(KEY), limited].concat();
    let mut gateway = Gateway::start(&config).await;
    for _ in 0..3 {
        let chat = Request::post(format!("{}{CHAT}", gateway.url)).header("api-key", KEY);
        send(chat.header("content-type", "application/json").body(Body::from(HELLO)).unwrap()).await;
    }
    let told = get(format!("{}/metrics", gateway.admin().await)).await.text();
    // What has not been counted yet is described all the same.
    let described =
        |line: &str| line.strip_prefix("# TYPE ").and_then(|line| line.split(' ').next().map(str::to_owned));
    let exist: BTreeSet<_> = told.lines().filter_map(described).collect();
    for name in ["grafana.json", "alerts.yaml"] {
        let asked = metrics(&read(name));
        assert!(asked.len() > 5, "{name}");
        let missing: Vec<_> = asked.difference(&exist).collect();
        assert!(missing.is_empty(), "{name}: {missing:?} of {exist:?}");
    }
    serde_json::from_str::<serde_json::Value>(&read("grafana.json")).unwrap();
}

#[tokio::test]
async fn the_configuration_is_valid_and_everybody_waits_for_its_end() {
    let gateway = deploy("gateway.toml");
    let secrets = [
        ("ADMIN_TOKEN", "token-of-the-operator"),
        ("TEAM_A_KEY", "key-of-team-a-0123456789"),
        ("SESSION_KEY", "key-of-sessions-0123456789-0123456789"),
    ];
    let args = ["--config".as_ref(), gateway.as_os_str(), "--check".as_ref()];
    let (status, _, stderr) = run_with(&args, &secrets).await;
    assert_eq!((status, &*stderr), (Some(0), ""));
    let seconds = |key: &str| {
        let text = read("gateway.toml");
        let line = text.lines().find(|line| line.starts_with(key)).unwrap().to_owned();
        line.split('"').nth(1).unwrap().strip_suffix('s').unwrap().parse::<u32>().unwrap()
    };
    let redis = read("containerapp.bicep");
    assert!(read("gateway.toml").contains("url = \"rediss://") && redis.contains("redisEnterprise/databases@"));
    let all = seconds("shutdown_delay") + seconds("shutdown_grace") + 15;
    for (name, key) in [
        ("aks.yaml", "terminationGracePeriodSeconds: "),
        ("containerapp.bicep", "terminationGracePeriodSeconds: "),
        ("aoai-gateway.service", "TimeoutStopSec="),
    ] {
        assert!(read(name).contains(&format!("{key}{all}\n")), "{name}");
    }
}

#[tokio::test]
async fn a_container_asks_whether_its_gateway_is_alive() {
    let (_east, server) = serve("east").await;
    let config = |admin: &str| {
        let head = format!("listen = \"127.0.0.1:0\"\nadmin = \"{admin}\"\nadmin_token = \"token-of-the-operator\"\n");
        [&*head, &process::backends(&[("east", &server.url())]), &process::client(KEY)].concat()
    };
    let mut gateway = Gateway::start(&config("127.0.0.1:0")).await;
    let admin = gateway.admin().await;
    let running = file(&config(admin.strip_prefix("http://").unwrap()));
    let health = async |file: &Path| run(&["--config".as_ref(), file.as_os_str(), "--health".as_ref()]).await;
    assert_eq!(health(&running).await, (Some(0), String::new(), String::new()));
    gateway.stop().await;
    let (status, _, stderr) = health(&running).await;
    assert!(status == Some(2) && stderr.contains("does not answer"), "{stderr}");
    let (status, _, stderr) = health(&file(&config("off"))).await;
    assert!(status == Some(2) && stderr.contains("admin is \"off\""), "{stderr}");
}
