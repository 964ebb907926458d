//! The last decisions, written down by a running gateway and run again by the program.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use http::Request;
use tower_azure_openai::azure::Outcome;
use tower_azure_openai::body::Body;
use tower_azure_openai::recorder::{Event, Recording};
use tower_azure_openai::testkit::Fault;

use crate::http_support::{CHAT, get, send};
use crate::process::{self, Gateway, LISTEN};
use crate::{KEY, serve};

const PROMPT: &str = "what-nobody-may-read";

async fn chat(gateway: &Gateway) -> u16 {
    let body = format!(r#"{{"messages":[{{"role":"user","content":"{PROMPT}"}}],"max_tokens":16}}"#);
    let request = Request::post(format!("{}{CHAT}", gateway.url)).header("content-type", "application/json");
    send(request.header("api-key", KEY).body(Body::from(body)).unwrap()).await.status.as_u16()
}

fn directory() -> PathBuf {
    process::file("").parent().unwrap().join("recordings")
}

async fn run(args: &[&str], file: &Path) -> (Option<i32>, String, String) {
    let args: Vec<_> = args.iter().map(|arg| if *arg == "FILE" { file.as_os_str() } else { OsStr::new(arg) }).collect();
    process::run(&args).await
}

#[tokio::test]
async fn an_incident_is_written_down_and_run_again() {
    let ((east, first), (_west, second)) = (serve("east").await, serve("west").await);
    let directory = directory();
    std::fs::create_dir_all(&directory).unwrap();
    let backends = process::backends(&[("east", &first.url()), ("west", &second.url())]);
    let recorder = format!("[recorder]\ndirectory = {directory:?}\n");
    let mut gateway = Gateway::start(&[LISTEN, &backends, &process::client(KEY), &recorder].concat()).await;
    let admin = gateway.admin().await;

    assert_eq!(chat(&gateway).await, 200);
    east.faults().push(Fault::throttled_for(std::time::Duration::from_secs(30)));
    for _ in 0..3 {
        assert_eq!(chat(&gateway).await, 200);
    }
    let drained = send(Request::post(format!("{admin}/backends/east/drain")).body(Body::empty()).unwrap()).await;
    assert_eq!(drained.status, 200);

    assert_eq!(get(format!("{admin}/recorder/dump")).await.status, 405);
    let dumped = send(Request::post(format!("{admin}/recorder/dump")).body(Body::empty()).unwrap()).await;
    assert_eq!(dumped.status, 200, "{}", dumped.text());
    let path = PathBuf::from(dumped.text().trim());
    assert_eq!(path.parent(), Some(&*directory));
    gateway.signal("USR1").await;
    gateway.stderr.line(&["a recording was written", "SIGUSR1"]).await;

    let bytes = std::fs::read(&path).unwrap();
    for secret in [PROMPT, KEY, "key-of-east", &first.url(), "team"] {
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret}");
    }
    let recording = Recording::read(&bytes).unwrap();
    assert_eq!(recording.requests().count(), 4);
    let outcomes: Vec<_> = recording.attempts().filter_map(|attempted| attempted.outcome).collect();
    assert!(matches!(outcomes[1], Outcome::Throttled { hint: Some(_) }), "{outcomes:?}");
    let actions = recording.events().iter().filter(|event| matches!(event, Event::Action { .. }));
    assert_eq!(actions.count(), 2, "it was configured and drained: {recording:?}");

    let (status, report, problems) = run(&["--replay", "FILE"], &path).await;
    assert_eq!((status, &*problems), (Some(0), ""));
    assert!(report.contains("policy round-robin") && report.contains("0.00 % of the requests"), "{report}");
    assert!(std::fs::read_to_string(path.with_extension("svg")).unwrap().contains("<svg"));
    let (status, test, _) = run(&["--replay", "FILE", "--emit-test"], &path).await;
    assert!(status == Some(0) && test.contains("#[test]") && test.contains("assert_hints_obeyed"), "{test}");
    let (status, compared, problems) =
        run(&["--what-if", "FILE", "--add", "standard:westus:450000", "--without", "west"], &path).await;
    assert_eq!((status, &*problems), (Some(0), ""), "{compared}");
    assert!(compared.contains("as it was") && compared.contains("tokens at added-1/gpt-4o"), "{compared}");
}

#[tokio::test]
async fn without_a_directory_the_answer_is_the_recording() {
    let (_east, server) = serve("east").await;
    let mut gateway = crate::gateway_before(&server, "").await;
    assert_eq!(chat(&gateway).await, 200);
    let admin = gateway.admin().await;
    let dumped = send(Request::post(format!("{admin}/recorder/dump")).body(Body::empty()).unwrap()).await;
    assert_eq!(dumped.header("content-type"), Some("application/octet-stream"));
    assert_eq!(Recording::read(&dumped.body).unwrap().requests().count(), 1);
}

#[tokio::test]
async fn what_is_no_recording_is_told_by_its_name() {
    let file = process::file("listen");
    let (status, stdout, problems) = run(&["--replay", "FILE"], &file).await;
    assert_eq!((status, &*stdout), (Some(2), ""));
    assert_eq!(problems, format!("{}: this is no recording: it does not begin with `aoai-rec`\n", file.display()));
    let gone = file.with_file_name("gone.rec");
    let (status, _, problems) = run(&["--what-if", "FILE"], &gone).await;
    assert!(status == Some(2) && problems.contains("gone.rec"), "{problems}");
}
