//! Listening, probes, signals, logs, and what is printed without a configuration.

use std::sync::Arc;

use http::{Method, Request, Response, StatusCode};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tower_azure_openai::body::Body;
use tower_azure_openai::testkit::Fault;

use crate::http_support::{self, Answer, authority, chat, chat_request, client, connect, get, send, soon};
use crate::process::{self, Gateway, LISTEN, is, shell};
use crate::{KEY, gateway_before, serve};

#[tokio::test]
async fn probes_and_status() {
    let (_east, server) = serve("east").await;
    let mut gateway = gateway_before(&server, "").await;
    let admin = gateway.admin().await;
    for url in [format!("{admin}/livez"), format!("{admin}/readyz"), format!("{}/status-0123456789abcdef", gateway.url)]
    {
        for method in [Method::GET, Method::HEAD] {
            let answer = send(Request::builder().method(method).uri(&url).body(Body::empty()).unwrap()).await;
            assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, 0), "{url}");
        }
    }
    assert_eq!(chat(&gateway.url, KEY).await.status, 200);
    let status = gateway.status().await;
    assert_eq!((&status["ready"], &status["backends"][0]["name"]), (&true.into(), &"east".into()));
    assert_eq!(status["backends"][0]["deployments"][0]["requests"], 1);

    is(&get(format!("{}/status", gateway.url)).await, 404, "404");
    is(&get(format!("{}/", gateway.url)).await, 404, "404");
    is(&chat(&gateway.url, "wrong").await, 401, "401");
    assert_eq!(get(format!("{admin}/openai/models")).await.status, 404);
}

#[tokio::test]
async fn without_an_admin_listener() {
    let (_east, server) = serve("east").await;
    let head = "listen = \"127.0.0.1:0\"\nadmin = \"off\"\n";
    let backends = process::backends(&[("east", &server.url())]);
    let gateway = Gateway::start(&[head, &backends, &process::client(KEY)].concat()).await;
    assert_eq!(chat(&gateway.url, KEY).await.status, 200);
    assert!(!gateway.stop().await.contains("admin on"));
}

#[tokio::test]
async fn a_running_request_is_finished_before_the_end() {
    let (arrived, released) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let seen = (arrived.clone(), released.clone());
    let url = http_support::serve(move |_| {
        let (arrived, released) = seen.clone();
        async move {
            arrived.notify_one();
            released.notified().await;
            Response::new(Body::from("held"))
        }
    })
    .await;
    let backends = process::backends(&[("east", &url)]);
    let mut gateway = Gateway::start(&[LISTEN, &backends, &process::client(KEY)].concat()).await;
    let admin = gateway.admin().await;
    let running = tokio::spawn(client().request(chat_request(&gateway.url, KEY)));
    soon("the request at the backend", arrived.notified()).await;
    gateway.signal("TERM").await;
    gateway.stderr.line(&["stopping"]).await;
    assert_eq!(get(format!("{admin}/readyz")).await.status, 503);
    assert_eq!(get(format!("{admin}/livez")).await.status, 200);
    assert!(TcpStream::connect(authority(&gateway.url)).await.is_err(), "new connections are refused");
    released.notify_one();
    assert_eq!(Answer::read(running.await.unwrap().unwrap()).await.status, 200);
    assert_eq!(gateway.ended().await.code(), Some(0));
}

#[tokio::test]
async fn front_ends_have_shutdown_delay_to_notice() {
    let (_east, server) = serve("east").await;
    let backends = process::backends(&[("east", &server.url())]);
    let head = format!("shutdown_delay = \"1h\"\n{LISTEN}");
    let mut gateway = Gateway::start(&[&head, &*backends, &process::client(KEY)].concat()).await;
    let admin = gateway.admin().await;
    gateway.signal("TERM").await;
    gateway.stderr.line(&["shutdown_delay"]).await;
    assert_eq!(get(format!("{admin}/readyz")).await.status, 503);
    drop(TcpStream::connect(authority(&gateway.url)).await.unwrap());
    let answer = chat(&gateway.url, KEY).await;
    assert_eq!(answer.status, 200, "requests are served to the end");
    assert_eq!(answer.header("connection"), Some("close"), "and the next one goes elsewhere");
    gateway.signal("TERM").await;
    assert_eq!(gateway.ended().await.code(), Some(0), "a second signal does not wait");
}

/// The types of the frames of HTTP/2 that come until the other side closes the connection.
async fn frames(connection: &mut TcpStream, mut each: impl FnMut(u8)) {
    let mut head = [0; 9];
    while connection.read_exact(&mut head).await.is_ok() {
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        connection.read_exact(&mut payload).await.unwrap();
        each(head[3]);
        if (head[3], head[4]) == (PING, 0) {
            let answer = [&[0, 0, 8, PING, ACK, 0, 0, 0, 0], &*payload].concat();
            connection.write_all(&answer).await.unwrap();
        }
    }
}

const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;

#[tokio::test]
async fn who_is_connected_and_asks_nothing_is_told() {
    let (_east, server) = serve("east").await;
    let mut gateway = gateway_before(&server, "").await;
    let (mut idle, mut shared) = (connect(&gateway.url).await, connect(&gateway.url).await);
    let head = format!("GET /openai/v1/models HTTP/1.1\r\nhost: x\r\napi-key: {KEY}\r\n\r\n");
    idle.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    soon("an answer", idle.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    shared.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut settings = [0; 3];
    soon("settings", shared.read_exact(&mut settings)).await.unwrap();
    let mut rest = vec![0; 6 + usize::from(settings[2])];
    soon("the rest of them", shared.read_exact(&mut rest)).await.unwrap();

    gateway.signal("TERM").await;
    let mut seen = Vec::new();
    soon("the end of the shared connection", frames(&mut shared, |kind| seen.push(kind))).await;
    assert!(seen.contains(&GOAWAY), "{seen:?}");
    soon("the end of the idle connection", idle.read_to_end(&mut Vec::new())).await.unwrap();
    assert_eq!(gateway.ended().await.code(), Some(0), "long before shutdown_grace");
}

#[tokio::test]
async fn what_outlives_the_grace_is_cut_off() {
    for signal in ["TERM", "INT"] {
        let (east, server) = serve("east").await;
        let backends = process::backends(&[("east", &server.url())]);
        let head = format!("shutdown_grace = \"100ms\"\n{LISTEN}");
        let mut gateway = Gateway::start(&[&head, &*backends, &process::client(KEY)].concat()).await;
        east.faults().push(Fault::hang());
        let running = tokio::spawn(client().request(chat_request(&gateway.url, KEY)));
        soon("the request at the backend", east.wait_for_requests(1)).await;
        gateway.signal(signal).await;
        assert_eq!(gateway.ended().await.code(), Some(0));
        assert!(running.await.unwrap().is_err());
        soon("the end of the request at the backend", east.wait_until_idle()).await;
    }
}

#[tokio::test]
async fn a_reload_takes_effect_and_an_invalid_one_does_not() {
    let (east, server) = serve("east").await;
    let (_west, other) = serve("west").await;
    let config = |key: &str| {
        [LISTEN, &process::backends(&[("east", &server.url()), ("west", &other.url())]), &process::client(key)].concat()
    };
    let file = process::file(&config(KEY));
    let mut gateway = Gateway::start_file(&file).await;
    east.faults().push(Fault::status(429).header("retry-after", "60"));
    assert_eq!(chat(&gateway.url, KEY).await.status, 200);

    std::fs::write(&file, config("the-new-key-of-the-client")).unwrap();
    gateway.signal("HUP").await;
    gateway.stderr.line(&["was reloaded"]).await;
    assert_eq!(chat(&gateway.url, "the-new-key-of-the-client").await.status, 200);
    is(&chat(&gateway.url, KEY).await, 401, "401");
    let status = gateway.status().await;
    assert_eq!(status["backends"][0]["deployments"][0]["circuit"], "open", "the state of a target that stays is kept");
    assert_eq!(status["backends"][0]["deployments"][0]["throttled"], 1);

    std::fs::write(&file, config(KEY).replace("priority = 1", "priority = \"high\"")).unwrap();
    gateway.signal("HUP").await;
    gateway.stderr.line(&["gateway.toml: backends", "priority"]).await;
    gateway.stderr.line(&["was not reloaded"]).await;
    assert_eq!(chat(&gateway.url, "the-new-key-of-the-client").await.status, 200);
}

#[tokio::test]
async fn where_the_log_is_json_problems_of_the_configuration_are_events() {
    let (_east, server) = serve("east").await;
    let good = [LISTEN, &process::backends(&[("east", &server.url())]), &process::client(KEY)].concat();
    let more = "[telemetry]\nlog_format = \"json\"\n";
    let wrong = [&good, more, "[failover]\nbugdet = 1\n"].concat();
    let problems = |stderr: &str| {
        let lines: Vec<Value> = stderr.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
        let problem = |line: &Value| line["fields"]["message"] == "a problem of the configuration";
        let of =
            |line: &Value| (line["level"].clone(), line["fields"]["key"].clone(), line["fields"]["problem"].clone());
        lines.iter().filter(|line| problem(line)).map(of).collect::<Vec<_>>()
    };
    let budget = ["ERROR", "failover.bugdet", "unknown key, did you mean budget?"].map(Value::from).into();

    let file = process::file(&wrong);
    let (code, _, stderr) = process::run(&["--config".as_ref(), file.as_os_str()]).await;
    assert_eq!((code, problems(&stderr)), (Some(2), vec![budget]), "{stderr}");

    std::fs::write(&file, [&*good, more].concat()).unwrap();
    let mut gateway = Gateway::start_file(&file).await;
    for again in [wrong, "listen = ".to_owned()] {
        std::fs::write(&file, again).unwrap();
        let before = gateway.stderr.lines(&["was not reloaded"]).len();
        gateway.signal("HUP").await;
        gateway.stderr.count(&["was not reloaded"], before + 1).await;
    }
    let found = problems(&gateway.stderr.text());
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(found[1].1, "line 1, column 10", "what is no TOML has a place too");
}

#[tokio::test]
async fn one_line_for_a_request_and_one_for_a_transition() {
    let (east, server) = serve("east").await;
    let more = "[telemetry]\nlog_format = \"json\"\nbackend_header = true\n";
    let gateway = gateway_before(&server, more).await;
    let answer = chat(&gateway.url, KEY).await;
    assert_eq!(answer.header("x-gateway-backend"), Some("east"));
    assert_eq!(answer.header("x-gateway-attempts"), Some("1"));
    east.faults().push(Fault::status(429).header("retry-after", "60"));
    assert_eq!(chat(&gateway.url, KEY).await.status, 429);
    let stderr = gateway.stop().await;

    let lines: Vec<Value> = stderr.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let of = |message: &str| -> Vec<Value> {
        lines.iter().map(|line| line["fields"].clone()).filter(|fields| fields["message"] == message).collect()
    };
    let (requests, transitions) = (of("request"), of("circuit"));
    assert_eq!((requests.len(), transitions.len()), (2, 1), "{stderr}");
    let first = &requests[0];
    for (field, value) in [("client", "team"), ("alias", "gpt-4o"), ("backend", "east")] {
        assert_eq!(first[field], value, "{first}");
    }
    assert_eq!((&first["status"], &first["attempts"]), (&200.into(), &1.into()));
    assert!(first["duration_ms"].is_u64());
    assert_eq!((&transitions[0]["from"], &transitions[0]["to"]), (&"closed".into(), &"open".into()));
}

#[tokio::test]
async fn answers_do_not_name_backends_unless_asked_to() {
    let (_east, server) = serve("east").await;
    let gateway = gateway_before(&server, "").await;
    let answer = chat(&gateway.url, KEY).await;
    assert!(answer.headers.keys().all(|name| !name.as_str().starts_with("x-gateway-")), "{:?}", answer.headers);
}

#[tokio::test]
async fn without_arguments_the_printed_lines_work_as_they_stand() {
    let mut gateway = Gateway::spawn([""; 0]).await;
    gateway.stdout.line(&["curl -sS", "/status"]).await;
    let printed = gateway.stdout.text();
    let commands: Vec<_> = printed.split("\n# ").skip(1).map(|block| block.split_once('\n').unwrap().1).collect();
    assert_eq!(commands.len(), 5, "{printed}");
    if shell("curl --version").await.status.code() == Some(127) {
        return;
    }
    let output = async |command: &str| String::from_utf8(shell(command).await.stdout).unwrap();
    assert!(output(commands[0]).await.contains("Hello from ptu-eastus"));
    let streamed = output(commands[1]).await;
    assert!(streamed.contains("data: ") && streamed.ends_with("data: [DONE]\n\n"), "{streamed}");
    let spilled = output(commands[2]).await;
    assert_eq!(spilled.matches("200 OK").count(), 6, "{spilled}");
    assert!(spilled.contains("ptu-eastus") && spilled.contains("paygo-"), "{spilled}");
    assert!(output(commands[3]).await.starts_with("HTTP/1.1 401 "));
    assert!(output(commands[4]).await.contains("\"backends\""));
}
