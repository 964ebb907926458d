//! Streams that are refused after they have begun, through the program and its configuration file.

use std::time::Duration;

use http::Request;
use http_body_util::BodyExt;
use tower_azure_openai::testkit::Fault;

use crate::http_support::{Answer, CHAT, client, send, soon};
use crate::process::{self, Gateway};
use crate::{KEY, serve};

const BODY: &str = r#"{"messages":[{"role":"user","content":"Hi"}],"stream":true}"#;
const FILTERED: &str = "data: {\"choices\":[],\"prompt_filter_results\":[]}\n\n";
const WORD: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\n";
const REFUSED: &str = "data: {\"error\":{\"code\":\"429\",\"message\":\"Please retry after 50 seconds.\"}}\n\n";

fn stream(events: &[&str]) -> Fault {
    Fault::status(200).header("content-type", "text/event-stream").body(events.concat())
}

async fn chat(gateway: &Gateway) -> Answer {
    let request = Request::post(format!("{}{CHAT}", gateway.url)).header("api-key", KEY);
    send(request.header("content-type", "application/json").body(BODY.into()).unwrap()).await
}

#[tokio::test]
async fn the_client_sees_a_clean_stream_or_a_real_429() {
    let ((east, east_server), (west, west_server)) = (serve("east").await, serve("west").await);
    let backends = process::backends(&[("east", &east_server.url()), ("west", &west_server.url())]);
    let mut gateway = Gateway::start(&[process::LISTEN, &backends, &process::client(KEY)].concat()).await;

    east.faults().always(stream(&[FILTERED, REFUSED]));
    let answer = chat(&gateway).await;
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("west") && !answer.text().contains("error"), "{}", answer.text());
    assert!(answer.text().ends_with("data: [DONE]\n\n"));
    gateway
        .status_becomes("an open circuit", |status| status["backends"][0]["deployments"][0]["circuit"] == "open")
        .await;

    west.faults().push(stream(&[FILTERED, WORD, REFUSED]));
    assert_eq!(chat(&gateway).await.text(), [FILTERED, WORD, REFUSED].concat(), "after content it is the client's");
    let answer = chat(&gateway).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (429, "no_target_available"));
    let wait: u64 = answer.headers["retry-after-ms"].to_str().unwrap().parse().unwrap();
    assert!((1..=50_000).contains(&wait), "{wait}");
    assert_eq!((east.request_count(), west.request_count()), (1, 2));
}

#[tokio::test]
async fn the_configuration_says_how_long_a_stream_is_held() {
    let (east, server) = serve("east").await;
    let more = "[stream]\npreamble_time = \"100ms\"\n";
    let gateway = crate::gateway_before(&server, more).await;
    east.faults().push(Fault::slow_body(Duration::from_secs(600)));
    let request = Request::post(format!("{}{CHAT}", gateway.url)).header("api-key", KEY).body(BODY.into()).unwrap();
    let answer = soon("the head", client().request(request)).await.unwrap();
    let mut body = answer.into_body();
    let first = soon("the preamble", body.frame()).await.unwrap().unwrap().into_data().unwrap();
    assert!(first.starts_with(b"data: {\"choices\":[]"), "{first:?}");
}
