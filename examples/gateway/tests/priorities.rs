//! Who gives way, when backends or the gateway itself have no room for all.

use std::time::Duration;

use tower_azure_openai::testkit::Fault;

use crate::http_support::{Answer, chat_request, get, send, soon};
use crate::process::{self, Gateway};
use crate::{KEY, gateway_before, serve};

const HIGH: &str = "key-of-somebody-who-waits";
const LOW: &str = "key-of-a-batch-0123456789";
const OTHER: &str = "key-of-another-batch-012345";
const UTILIZATION: &str = "azure-openai-deployment-utilization";

fn client(id: &str, key: &str) -> String {
    format!("[[clients]]\nid = \"{id}\"\nkey = \"{key}\"\npriority = \"{id}\"\n")
}

fn clients() -> String {
    [client("high", HIGH), client("low", LOW)].concat()
}

/// With what the request itself says of its priority.
async fn ask(gateway: &Gateway, key: &str, said: Option<&str>) -> Answer {
    let mut request = chat_request(&gateway.url, key);
    if let Some(said) = said {
        request.headers_mut().insert("x-gateway-priority", said.parse().unwrap());
    }
    send(request).await
}

#[tokio::test]
async fn a_busy_target_is_left_to_others() {
    let (ptu, first) = serve("ptu").await;
    let (paygo, second) = serve("paygo").await;
    let backends = process::backends(&[("ptu", &first.url()), ("paygo", &second.url())]);
    let config = [process::LISTEN, &backends, &process::client(KEY), &clients()].concat();
    let gateway = Gateway::start(&config).await;
    let served = || (ptu.request_count(), paygo.request_count());
    ptu.faults().push(Fault::status(200).header(UTILIZATION, "80%").body("{}"));
    ask(&gateway, LOW, None).await;
    assert_eq!(served(), (1, 0), "nothing is known of it");
    for (key, said, expected) in [
        (LOW, None, (1, 1)),
        (LOW, Some("high"), (1, 2)),
        (KEY, None, (2, 2)),
        (KEY, Some("low"), (2, 3)),
        (HIGH, Some("low"), (2, 4)),
        (HIGH, None, (3, 4)),
    ] {
        assert_eq!(ask(&gateway, key, said).await.status, 200);
        assert_eq!(served(), expected, "{key} says {said:?}");
    }
    assert!(paygo.requests().iter().all(|request| !request.headers.contains_key("x-gateway-priority")));
    let refused = ask(&gateway, HIGH, Some("urgent")).await;
    assert_eq!((refused.status.as_u16(), &*refused.code()), (400, "invalid_constraint"));
}

#[tokio::test]
async fn what_is_left_is_reserved_and_said_so() {
    let (ptu, server) = serve("east").await;
    let gateway = gateway_before(&server, &clients()).await;
    ptu.faults().push(Fault::status(200).header(UTILIZATION, "96%").body("{}"));
    assert_eq!(ask(&gateway, HIGH, None).await.status, 200);
    for key in [KEY, LOW] {
        let refused = ask(&gateway, key, None).await;
        assert_eq!((refused.status.as_u16(), &*refused.code()), (429, "no_target_available"));
        assert_eq!(refused.header("retry-after-ms"), Some("1000"));
    }
    assert_eq!(ask(&gateway, HIGH, None).await.status, 200);
}

#[tokio::test]
async fn nothing_is_left_to_a_class_that_nobody_is_in() {
    let (ptu, server) = serve("east").await;
    let gateway = gateway_before(&server, "").await;
    ptu.faults().push(Fault::status(200).header(UTILIZATION, "99%").body("{}"));
    for _ in 0..3 {
        assert_eq!(ask(&gateway, KEY, None).await.status, 200);
    }
}

#[tokio::test]
async fn the_gateway_itself_sheds_low_ones_first() {
    let (backend, server) = serve("east").await;
    let other = client("low", OTHER).replacen("\"low\"", "\"other\"", 1);
    let mut gateway = gateway_before(&server, &[&*clients(), &other, "[limits]\nin_flight = 10\n"].concat()).await;
    backend.faults().always(Fault::slow_head(Duration::from_secs(600)));
    let mut running = Vec::new();
    for (keys, class) in
        [(&[LOW, OTHER, LOW, OTHER, LOW, OTHER, LOW, OTHER][..], "low"), (&[KEY], "normal"), (&[HIGH], "high")]
    {
        let (so_far, key) = (running.len(), keys[0]);
        running.extend(keys.iter().map(|key| tokio::spawn(send(chat_request(&gateway.url, key)))));
        soon("the requests at the backend", backend.wait_for_requests(so_far + keys.len())).await;
        let shed = ask(&gateway, key, None).await;
        assert_eq!((shed.status.as_u16(), &*shed.code()), (503, "overloaded"), "{class}");
        assert_eq!((shed.header("retry-after-ms"), shed.header("retry-after")), (Some("1000"), Some("1")));
        let metrics = get(format!("{}/metrics", gateway.admin().await)).await.text();
        assert!(metrics.contains(&format!("gateway_shed_total{{priority=\"{class}\"}} 1")), "{metrics}");
    }
    running.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn one_client_leaves_half_of_the_gateway_to_the_others() {
    let (backend, server) = serve("east").await;
    let limits = "[limits]\nin_flight = 6\n";
    let mut gateway = gateway_before(&server, &[&*clients(), limits].concat()).await;
    backend.faults().always(Fault::slow_head(Duration::from_secs(600)));
    let ask_by = |key, url: &str| tokio::spawn(send(chat_request(url, key)));
    let mut running: Vec<_> = (0..3).map(|_| ask_by(HIGH, &gateway.url)).collect();
    soon("the requests at the backend", backend.wait_for_requests(3)).await;
    let refused = ask(&gateway, HIGH, None).await;
    process::is(&refused, 503, "overloaded");
    assert!(refused.text().contains("This client has"), "{}", refused.text());
    running.push(ask_by(KEY, &gateway.url));
    soon("another client's request", backend.wait_for_requests(4)).await;
    running.iter().for_each(tokio::task::JoinHandle::abort);
    gateway.becomes_idle_and_has_learnt_nothing().await;
}

#[tokio::test]
async fn the_only_client_has_the_whole_gateway() {
    let (backend, server) = serve("east").await;
    let gateway = gateway_before(&server, "[limits]\nin_flight = 10\n").await;
    backend.faults().always(Fault::slow_head(Duration::from_secs(600)));
    let running: Vec<_> = (0..9).map(|_| tokio::spawn(send(chat_request(&gateway.url, KEY)))).collect();
    soon("the requests at the backend", backend.wait_for_requests(9)).await;
    process::is(&ask(&gateway, KEY, None).await, 503, "overloaded");
    running.iter().for_each(tokio::task::JoinHandle::abort);
}
