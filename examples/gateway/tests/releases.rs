//! Shares of releases that an operator changes in the file, with SIGHUP.

use std::collections::BTreeMap;
use std::path::Path;

use http::{Request, Response, StatusCode};
use serde_json::json;
use tower_azure_openai::body::Body;

use crate::http_support::{self, CHAT, HELLO, send, soon};
use crate::process::{self, Gateway, LISTEN};
use crate::reload::{reload, write};

const CLIENTS: usize = 20;

/// A backend that answers with its name what is meant for its own deployment.
async fn named(name: &'static str) -> String {
    http_support::serve(move |request| {
        let is_own = request.uri().path().contains(&format!("/deployments/of-{name}/"));
        let mut answer = Response::new(Body::from(name));
        *answer.status_mut() = if is_own { StatusCode::OK } else { StatusCode::IM_A_TEAPOT };
        async { answer }
    })
    .await
}

/// Version 1 on `old` and version 2 on `new`, with these shares.
fn config(old: &str, new: &str, shares: (u32, u32), callers: &str) -> String {
    let backend = |name: &str, url: &str, version: u32, share: u32| {
        format!(
            "[[backends]]\nname = \"{name}\"\nendpoint = \"{url}\"\ncredential = {{ api_key = \"key-of-{name}\" }}\n\
             deployments = [{{ name = \"of-{name}\", alias = \"gpt-4o\", version = \"{version}\" }}]\n\
             [[releases]]\nalias = \"gpt-4o\"\nmodel = \"gpt-4o\"\nversion = \"{version}\"\nshare = {share}\n"
        )
    };
    [LISTEN, callers, &backend("old", old, 1, shares.0), &backend("new", new, 2, shares.1)].concat()
}

fn clients() -> String {
    (0..CLIENTS)
        .map(|client| format!("[[clients]]\nid = \"team-{client}\"\nkey = \"key-of-the-team-{client}\"\n"))
        .collect()
}

async fn served_by(gateway: &Gateway, header: &str, value: &str) -> String {
    let request = Request::post(format!("{}{CHAT}", gateway.url)).header("content-type", "application/json");
    let answer = send(request.header(header, value).body(Body::from(HELLO)).unwrap()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.text()
}

/// Which of them are on the new version, each asked twice.
async fn on_new(gateway: &Gateway, header: &str, prefix: &str) -> Vec<bool> {
    let mut on_new = Vec::new();
    for caller in 0..CLIENTS {
        let value = format!("{prefix}-{caller}");
        let backend = served_by(gateway, header, &value).await;
        assert_eq!(served_by(gateway, header, &value).await, backend, "{value} keeps its release");
        on_new.push(backend == "new");
    }
    on_new
}

async fn shares(gateway: &mut Gateway) -> serde_json::Value {
    gateway.status().await["releases"].take()
}

fn shown(old: u32, new: u32) -> serde_json::Value {
    let release =
        |version: &str, share| json!({ "alias": "gpt-4o", "model": "gpt-4o", "version": version, "share": share });
    json!([release("1", old), release("2", new)])
}

/// Through all shares and back: who is on the new version depends on its share alone.
async fn rollout(gateway: &mut Gateway, file: &Path, config: impl Fn((u32, u32)) -> String, caller: (&str, &str)) {
    let mut seen = BTreeMap::<u32, Vec<bool>>::new();
    let (mut share, mut before) = (0, vec![false; CLIENTS]);
    for new in [10, 50, 100, 50, 10, 0] {
        reload(gateway, file, &config((100 - new, new))).await;
        assert_eq!(shares(gateway).await, shown(100 - new, new));
        let now = on_new(gateway, caller.0, caller.1).await;
        let follows = |(was, is): (&bool, &bool)| was == is || *is == (new > share);
        assert!(before.iter().zip(&now).all(follows), "nobody moves against the shares: {before:?} {now:?}");
        assert_eq!(*seen.entry(new).or_insert_with(|| now.clone()), now, "the same shares, the same callers");
        (share, before) = (new, now);
    }
    let count = |share: u32| seen[&share].iter().filter(|new| **new).count();
    assert_eq!((count(0), count(100)), (0, CLIENTS));
    assert!(count(10) < count(50) && (4..=16).contains(&count(50)), "{seen:?}");
}

#[tokio::test]
async fn clients_move_with_the_shares_in_the_file() {
    let (old, new) = (named("old").await, named("new").await);
    let config = |shares| config(&old, &new, shares, &clients());
    let file = process::file(&config((100, 0)));
    let mut gateway = Gateway::start_file(&file).await;
    rollout(&mut gateway, &file, config, ("api-key", "key-of-the-team")).await;

    write(&file, &config((0, 0)));
    gateway.signal("HUP").await;
    gateway.stderr.line(&["releases[0].share", "no release of", "has a share"]).await;
    assert_eq!(shares(&mut gateway).await, shown(100, 0), "an invalid file changes nothing");
    soon("an answer", served_by(&gateway, "api-key", "key-of-the-team-1")).await;
}

#[tokio::test]
async fn without_clients_sessions_do() {
    let (old, new) = (named("old").await, named("new").await);
    let config = |shares| config(&old, &new, shares, "authentication = \"none\"\n");
    let file = process::file(&config((100, 0)));
    let mut gateway = Gateway::start_file(&file).await;
    rollout(&mut gateway, &file, config, ("x-session-affinity", "session")).await;
}
