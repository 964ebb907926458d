//! State that lives on one backend, through the whole program.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use http::{Request, Response};
use tower_azure_openai::body::Body;

use crate::KEY;
use crate::http_support::{self, Answer, send};
use crate::process::{self, Gateway, LISTEN, is};

/// A resource that holds one thread, `thread_NAME`, and makes others; it counts what it is asked.
async fn resource(name: &'static str) -> (String, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    let url = http_support::serve(move |request| {
        counter.fetch_add(1, Relaxed);
        let path = request.uri().path().to_owned();
        let is_known = path == "/openai/threads" || path.contains(&format!("thread_{name}"));
        async move {
            let (status, body) = match is_known {
                true => (200, format!(r#"{{"id":"thread_{name}","object":"thread"}}"#)),
                false => (404, r#"{"error":{"message":"No thread found.","code":null}}"#.to_owned()),
            };
            let answer = Response::builder().status(status).header("content-type", "application/json");
            answer.header("set-cookie", "infrastructure=1").body(Body::from(body)).unwrap()
        }
    });
    (url.await, asked)
}

fn request(method: &str, url: &str, path: &str) -> Request<Body> {
    let request = Request::builder().method(method).uri(format!("{url}/openai/{path}?api-version=2024-10-21"));
    request.header("api-key", KEY).body(Body::empty()).unwrap()
}

async fn ok(request: Request<Body>) -> Answer {
    let answer = send(request).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
}

#[tokio::test]
async fn objects_are_found_again_after_a_restart_and_by_another_process() {
    let ((east, asked_of_east), (west, asked_of_west)) = (resource("east").await, resource("west").await);
    let config = [LISTEN, &process::backends(&[("east", &east), ("west", &west)]), &process::client(KEY)].concat();
    let file = process::file(&config);
    let (mut first, second) = (Gateway::start_file(&file).await, Gateway::start_file(&file).await);
    for _ in 0..2 {
        for url in [&first.url, &second.url] {
            ok(request("GET", url, "threads/thread_west/messages")).await;
        }
    }
    // Who is asked in vain may be let go before he was reached: the other one has answered.
    let in_vain = asked_of_east.load(Relaxed);
    assert!(in_vain <= 2, "each has asked once");
    assert_eq!(asked_of_west.load(Relaxed), 6);

    first.stderr.line(&["WARN", "session.key"]).await;

    first.signal("HUP").await;
    first.stderr.line(&["was reloaded"]).await;
    ok(request("GET", &first.url, "threads/thread_west/messages")).await;
    assert_eq!((asked_of_east.load(Relaxed), asked_of_west.load(Relaxed)), (in_vain, 7), "a reload forgets nothing");

    first.stop().await;
    let again = Gateway::start_file(&file).await;
    ok(request("GET", &again.url, "threads/thread_west/messages")).await;
    assert!(asked_of_east.load(Relaxed) <= in_vain + 1);
    assert_eq!(asked_of_west.load(Relaxed), 9);
    is(&send(request("GET", &again.url, "threads/thread_nobodys")).await, 404, "not_found");
}

#[tokio::test]
async fn the_cookie_is_the_gateways_and_leads_back() {
    let ((east, _), (west, _)) = (resource("east").await, resource("west").await);
    let session = "[session]\nkey = \"0123456789abcdef0123456789abcdef\"\n";
    let config = [LISTEN, &process::backends(&[("east", &east), ("west", &west)]), &process::client(KEY), session];
    let gateway = Gateway::start(&config.concat()).await;
    let answer = ok(request("GET", &gateway.url, "threads/thread_west")).await;
    let cookies: Vec<_> = answer.headers.get_all("set-cookie").iter().map(|value| value.to_str().unwrap()).collect();
    let [cookie] = cookies[..] else { panic!("one cookie, and not the backend's: {cookies:?}") };
    assert!(cookie.starts_with("aoai-session=") && cookie.contains("HttpOnly") && !cookie.contains("west"), "{cookie}");

    let made = async |cookie: Option<&str>| {
        let mut request = request("POST", &gateway.url, "threads");
        if let Some(cookie) = cookie {
            request.headers_mut().insert("cookie", cookie.split(';').next().unwrap().parse().unwrap());
        }
        ok(request).await.json()["id"].as_str().unwrap().to_owned()
    };
    assert_eq!(made(None).await, "thread_east", "home is in the first priority group");
    assert_eq!(made(Some(cookie)).await, "thread_west");
}
