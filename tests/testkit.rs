//! The simulated backend from outside: in process under a paused clock, and over loopback with hyper.
#![allow(clippy::unwrap_used, reason = "the helpers are part of the tests")]

use std::error::Error as _;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::time::Instant;
use tower::ServiceExt;
use tower_azure_openai::body::Body;
use tower_azure_openai::testkit::{Fault, SimulatedBackend, SimulatedDeployment, TransportError};

const CHAT: &str = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21";
/// Two tokens of prompt.
const HELLO: &str = r#"{"messages":[{"role":"user","content":"Hi there"}]}"#;

fn open() -> SimulatedBackend {
    with(SimulatedDeployment::standard("gpt-4o"))
}

fn with(deployment: SimulatedDeployment) -> SimulatedBackend {
    SimulatedBackend::builder("eastus").deployment(deployment).build()
}

fn post(uri: &str, body: &str) -> Request<Body> {
    Request::post(uri).body(Body::from(body.to_owned())).unwrap()
}

fn chat() -> Request<Body> {
    post(CHAT, HELLO)
}

async fn send(backend: &SimulatedBackend, request: Request<Body>) -> Response<Body> {
    backend.clone().oneshot(request).await.unwrap()
}

async fn status(backend: &SimulatedBackend, request: Request<Body>) -> StatusCode {
    send(backend, request).await.status()
}

async fn text(response: Response<Body>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

async fn json(response: Response<Body>) -> Value {
    serde_json::from_str(&text(response).await).unwrap()
}

fn header<'a, B>(response: &'a Response<B>, name: &str) -> Option<&'a str> {
    response.headers().get(name).map(|value| value.to_str().unwrap())
}

mod answers {
    use super::*;

    #[tokio::test]
    async fn chat_says_who_served_it() {
        let backend = SimulatedBackend::builder("eastus")
            .region("East US")
            .deployment(SimulatedDeployment::standard("prod").model("gpt-4o"))
            .build();
        let mut request = post("/openai/deployments/prod/chat/completions?api-version=2024-10-21", HELLO);
        request.headers_mut().insert("x-ms-client-request-id", "mine".parse().unwrap());

        let response = send(&backend, request).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(header(&response, "content-type"), Some("application/json"));
        assert_eq!(header(&response, "x-ms-region"), Some("East US"));
        assert_eq!(header(&response, "x-ms-client-request-id"), Some("mine"));
        assert_eq!(header(&response, "x-ms-deployment-name"), Some("prod"));
        assert!(header(&response, "apim-request-id").is_some());
        assert!(header(&response, "x-request-id").is_some());

        let body = json(response).await;
        assert_eq!(body["object"], "chat.completion");
        assert_eq!(body["model"], "gpt-4o");
        assert_eq!(body["choices"][0]["message"]["content"], "Hello from eastus");
        assert_eq!(body["usage"]["prompt_tokens"], 2);
        assert_eq!(body["usage"]["completion_tokens"], 5);
        assert_eq!(body["usage"]["total_tokens"], 7);
    }

    #[tokio::test]
    async fn completions_and_embeddings_on_both_surfaces() {
        let backend = open();
        let body = r#"{"model":"gpt-4o","prompt":"Hi","input":["a","b"]}"#;
        for prefix in ["/openai/deployments/gpt-4o", "/openai/v1"] {
            let uri = format!("{prefix}/completions?api-version=2024-10-21");
            assert_eq!(json(send(&backend, post(&uri, body)).await).await["choices"][0]["text"], "Hello from eastus");

            let uri = format!("{prefix}/embeddings?api-version=2024-10-21");
            let embeddings = json(send(&backend, post(&uri, body)).await).await;
            assert_eq!(embeddings["data"].as_array().unwrap().len(), 2);
            assert_eq!(embeddings["data"][1]["index"], 1);
        }
    }

    #[tokio::test]
    async fn streams_what_azure_streams() {
        let body = r#"{"messages":[],"stream":true,"stream_options":{"include_usage":true}}"#;
        let response = send(&open(), post(CHAT, body)).await;
        assert!(header(&response, "content-type").unwrap().starts_with("text/event-stream"));

        let text = text(response).await;
        let mut events: Vec<_> =
            text.split_terminator("\n\n").map(|event| event.strip_prefix("data: ").unwrap()).collect();
        assert_eq!(events.pop(), Some("[DONE]"));
        let events: Vec<Value> = events.into_iter().map(|event| serde_json::from_str(event).unwrap()).collect();

        let (first, events) = events.split_first().unwrap();
        assert_eq!(first["id"], "");
        assert_eq!(first["choices"], json!([]));
        assert!(first["prompt_filter_results"].is_array());
        assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
        let (usage, events) = events.split_last().unwrap();
        assert_eq!(usage["choices"], json!([]));
        assert_eq!(usage["usage"]["completion_tokens"], 5);
        let said: String = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
        assert_eq!(said, "Hello from eastus");
        assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], "stop");
    }

    #[tokio::test]
    async fn creating_calls_give_fresh_ids() {
        let (east, west) = (open(), SimulatedBackend::builder("westus").build());
        let mut ids = std::collections::HashSet::new();
        for (path, prefix) in [("threads", "thread_"), ("files", "file-"), ("batches", "batch_")] {
            for uri in [format!("/openai/{path}?api-version=1"), format!("/openai/v1/{path}")] {
                for backend in [&east, &west] {
                    let body = json(send(backend, post(&uri, "{}")).await).await;
                    let id = body["id"].as_str().unwrap().to_owned();
                    assert!(id.starts_with(prefix), "{id}");
                    ids.insert(id);
                }
            }
        }
        assert_eq!(ids.len(), 12);

        let form = "--x\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nassistants\r\n--x--\r\n";
        let file = json(send(&west, post("/openai/v1/files", form)).await).await;
        assert!(file["id"].as_str().unwrap().starts_with("assistant-"));
    }

    #[tokio::test]
    async fn lists_its_models() {
        for uri in ["/openai/models?api-version=2024-10-21", "/openai/v1/models"] {
            let models = json(send(&open(), Request::get(uri).body(Body::empty()).unwrap()).await).await;
            assert_eq!(models["data"][0]["id"], "gpt-4o");
        }
    }

    #[tokio::test]
    async fn what_is_not_there_is_not_found() {
        for (uri, body, code) in [
            ("/openai/deployments/o1/chat/completions?api-version=1", "{}", "DeploymentNotFound"),
            ("/openai/deployments/gpt-4o/chat/completions", "{}", "404"),
            ("/openai/v1/chat/completions", r#"{"model":"o1"}"#, "model_not_found"),
            ("/openai/deployments/gpt-4o/threads?api-version=1", "{}", "404"),
            ("/", "", "404"),
        ] {
            let response = send(&open(), post(uri, body)).await;
            assert_eq!(response.status(), StatusCode::NOT_FOUND, "{uri}");
            assert_eq!(json(response).await["error"]["code"], code, "{uri}");
        }
    }

    #[tokio::test]
    async fn a_body_must_be_what_it_should_be() {
        for (uri, body) in [(CHAT, "{"), (CHAT, "{}"), (CHAT, "[]"), ("/openai/v1/chat/completions", "{}")] {
            assert_eq!(status(&open(), post(uri, body)).await, StatusCode::BAD_REQUEST, "{uri} {body}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn thinks_as_long_as_it_was_told() {
        let backend = with(SimulatedDeployment::standard("gpt-4o").latency(Duration::from_secs(3)));
        let start = Instant::now();
        assert_eq!(status(&backend, chat()).await, StatusCode::OK);
        assert_eq!(start.elapsed(), Duration::from_secs(3));
    }
}

mod access {
    use super::*;

    fn guarded() -> SimulatedBackend {
        SimulatedBackend::builder("eastus")
            .api_key("key-1")
            .api_key("key-2")
            .bearer("token")
            .deployment(SimulatedDeployment::standard("gpt-4o"))
            .build()
    }

    fn chat_with(credentials: &[(&'static str, &'static str)]) -> Request<Body> {
        let mut request = chat();
        for (name, value) in credentials {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        request
    }

    #[tokio::test]
    async fn accepts_its_own_credentials() {
        for credential in [
            ("api-key", "key-1"),
            ("api-key", "key-2"),
            ("authorization", "Bearer key-2"),
            ("authorization", "bearer token"),
        ] {
            assert_eq!(status(&guarded(), chat_with(&[credential])).await, StatusCode::OK, "{credential:?}");
        }
    }

    #[tokio::test]
    async fn refuses_any_other() {
        for (credentials, blames_token) in [
            (&[][..], true),
            (&[("authorization", "Bearer other")], true),
            (&[("authorization", "Basic key-1")], true),
            (&[("api-key", "other")], false),
            (&[("api-key", "token")], false),
            (&[("api-key", "")], false),
            (&[("ocp-apim-subscription-key", "key-1")], false),
            (&[("api-key", "key-1"), ("api-key", "key-1")], false),
            (&[("api-key", "key-1"), ("authorization", "Bearer token")], false),
        ] {
            let response = send(&guarded(), chat_with(credentials)).await;
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{credentials:?}");
            let body = json(response).await;
            assert_eq!(body["statusCode"] == 401, blames_token, "{credentials:?}: {body}");
            assert_eq!(body["error"]["code"] == "401", !blames_token, "{credentials:?}: {body}");
        }
    }

    #[tokio::test]
    async fn keys_in_the_query_count() {
        let backend = guarded();
        let mut request = chat_with(&[("api-key", "key-1")]);
        *request.uri_mut() = format!("{CHAT}&api-key=key-1").parse().unwrap();
        assert_eq!(status(&backend, request).await, StatusCode::UNAUTHORIZED);
        assert!(backend.requests()[0].uri.query().unwrap().contains("api-key=key-1"), "and are recorded");
    }

    #[tokio::test]
    async fn without_keys_anyone_may_call_with_one_credential() {
        assert_eq!(status(&open(), chat()).await, StatusCode::OK);
        assert_eq!(status(&open(), chat_with(&[("api-key", "any")])).await, StatusCode::OK);
        assert_eq!(status(&open(), post(&format!("{CHAT}&api-key=any"), HELLO)).await, StatusCode::OK);
        let two = chat_with(&[("api-key", "any"), ("authorization", "Bearer any")]);
        assert_eq!(status(&open(), two).await, StatusCode::UNAUTHORIZED);
    }

    #[tokio::test]
    async fn serves_its_own_host_only() {
        let backend = SimulatedBackend::builder("eastus")
            .host("contoso.openai.azure.com")
            .deployment(SimulatedDeployment::standard("gpt-4o"))
            .build();
        let own = "https://contoso.openai.azure.com";
        for (base, host, expected) in [
            (own, None, StatusCode::OK),
            ("", Some("Contoso.OpenAI.azure.com:443"), StatusCode::OK),
            (own, Some("contoso.openai.azure.com"), StatusCode::OK),
            (own, Some("gateway.example"), StatusCode::NOT_FOUND),
            ("https://gateway.example", Some("contoso.openai.azure.com"), StatusCode::NOT_FOUND),
            ("", None, StatusCode::NOT_FOUND),
        ] {
            let mut request = post(&format!("{base}{CHAT}"), HELLO);
            if let Some(host) = host {
                request.headers_mut().insert("host", host.parse().unwrap());
            }
            assert_eq!(status(&backend, request).await, expected, "{base} {host:?}");
        }
    }

    #[tokio::test]
    async fn debug_shows_no_key() {
        let backend = guarded();
        let mut request = chat_with(&[("api-key", "key-1"), ("authorization", "Bearer token")]);
        *request.uri_mut() = format!("{CHAT}&api-key=key-2").parse().unwrap();
        send(&backend, request).await;
        let builder = SimulatedBackend::builder("x").api_key("key-1").bearer("token");
        let shown = format!("{backend:?} {:?} {builder:?}", backend.requests());
        assert!(shown.contains("api-key"), "names of headers are shown");
        for secret in ["key-1", "key-2", "\"token\"", "Bearer"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}

mod limits {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn tokens_by_the_minute() {
        let backend = with(SimulatedDeployment::standard("gpt-4o").tokens_per_minute(30));
        let served = send(&backend, chat()).await;
        assert_eq!(header(&served, "x-ratelimit-remaining-tokens"), Some("12"));

        tokio::time::advance(Duration::from_millis(26_500)).await;
        let refused = send(&backend, chat()).await;
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(header(&refused, "retry-after"), Some("34"));
        assert_eq!(header(&refused, "x-ratelimit-reset-tokens"), Some("34"));
        assert_eq!(header(&refused, "x-ratelimit-remaining-tokens"), Some("12"));
        assert_eq!(header(&refused, "retry-after-ms"), None);
        let body = json(refused).await;
        assert_eq!(body["error"]["code"], "429");
        let message = body["error"]["message"].as_str().unwrap();
        assert!(message.starts_with("Requests to the ChatCompletions_Create Operation"), "{message}");
        assert!(message.contains("2024-10-21 have exceeded token rate limit"), "{message}");
        assert!(message.contains("Please retry after 34 seconds."), "{message}");

        tokio::time::advance(Duration::from_secs(34)).await;
        assert_eq!(status(&backend, chat()).await, StatusCode::OK);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_by_ten_seconds() {
        let backend = with(SimulatedDeployment::standard("gpt-4o").requests_per_minute(12));
        assert_eq!(status(&backend, chat()).await, StatusCode::OK);
        assert_eq!(status(&backend, post(CHAT, "not JSON")).await, StatusCode::BAD_REQUEST);
        let refused = send(&backend, chat()).await;
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS, "a failed request counts too");
        assert_eq!(header(&refused, "retry-after"), Some("10"));
        assert_eq!(header(&refused, "x-ratelimit-reset-requests"), Some("10"));
        assert_eq!(header(&refused, "x-ratelimit-remaining-requests"), Some("0"));
        assert!(text(refused).await.contains("exceeded call rate limit"));

        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(status(&backend, chat()).await, StatusCode::OK);
    }

    #[tokio::test(start_paused = true)]
    async fn provisioned_by_utilization() {
        let backend = with(SimulatedDeployment::provisioned("gpt-4o").tokens_per_minute(16));
        let first = send(&backend, chat()).await;
        assert_eq!(header(&first, "azure-openai-deployment-utilization"), Some("112.5%"));

        let refused = send(&backend, chat()).await;
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(header(&refused, "retry-after-ms"), Some("7500"));
        assert_eq!(header(&refused, "retry-after"), Some("8"));
        assert_eq!(header(&refused, "azure-openai-deployment-utilization"), Some("112.5%"));

        text(first).await;
        let second = send(&backend, chat()).await;
        assert_eq!(second.status(), StatusCode::OK, "the estimate of 18 was corrected to 7");
        assert_eq!(header(&second, "azure-openai-deployment-utilization"), Some("156.2%"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_hint_of_a_provisioned_deployment_is_long_enough() {
        let backend = with(SimulatedDeployment::provisioned("gpt-4o").tokens_per_minute(7));
        let answers = [send(&backend, chat()).await, send(&backend, chat()).await];
        let hint = header(&answers[1], "retry-after-ms").unwrap().parse().unwrap();
        tokio::time::advance(Duration::from_millis(hint) - Duration::from_millis(1)).await;
        assert_eq!(status(&backend, chat()).await, StatusCode::TOO_MANY_REQUESTS);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(status(&backend, chat()).await, StatusCode::OK);
    }

    #[tokio::test(start_paused = true)]
    async fn deployments_do_not_share_limits() {
        let backend = SimulatedBackend::builder("eastus")
            .deployment(SimulatedDeployment::standard("gpt-4o").tokens_per_minute(1))
            .deployment(SimulatedDeployment::standard("other"))
            .build();
        assert_eq!(status(&backend, chat()).await, StatusCode::TOO_MANY_REQUESTS);
        let other = post("/openai/deployments/other/chat/completions?api-version=1", HELLO);
        assert_eq!(status(&backend, other).await, StatusCode::OK);
    }
}

mod faults {
    use super::*;

    fn io_kind(error: &TransportError) -> Option<io::ErrorKind> {
        error.source()?.downcast_ref::<io::Error>().map(io::Error::kind)
    }

    #[tokio::test]
    async fn a_status_with_any_headers() {
        let backend = open();
        backend
            .faults()
            .push(Fault::status(429).header("retry-after-ms", "300").header("x-ratelimit-reset-tokens", "-1"))
            .push(Fault::status(502).body("<html>").header("content-type", "text/html"));

        let response = send(&backend, chat()).await;
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(header(&response, "retry-after-ms"), Some("300"));
        assert_eq!(header(&response, "x-ratelimit-reset-tokens"), Some("-1"));
        assert_eq!(header(&response, "retry-after"), None);
        assert_eq!(json(response).await["error"]["code"], "429");

        let response = send(&backend, chat()).await;
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
        assert_eq!(header(&response, "content-type"), Some("text/html"));
        assert_eq!(text(response).await, "<html>");

        assert_eq!(status(&backend, chat()).await, StatusCode::OK, "the script is over");
    }

    #[tokio::test]
    async fn headers_on_a_success() {
        let backend = open();
        backend.faults().push(Fault::status(200).header("x-ms-spillover-from-deployment", "ptu"));
        let response = send(&backend, chat()).await;
        assert_eq!(header(&response, "x-ms-spillover-from-deployment"), Some("ptu"));
        assert!(text(response).await.contains("Hello from eastus"));
    }

    #[tokio::test]
    async fn every_error_status_has_a_body_in_azures_shape() {
        let backend = open();
        for code in [400, 401, 403, 404, 408, 409, 413, 424, 429, 500, 502, 503, 504, 599] {
            backend.faults().push(Fault::status(code));
            let response = send(&backend, chat()).await;
            assert_eq!(response.status(), code);
            assert!(json(response).await["error"]["message"].is_string(), "{code}");
        }
    }

    #[tokio::test]
    async fn throttling_with_and_without_a_hint() {
        let backend = open();
        backend.faults().push(Fault::throttled()).push(Fault::throttled_for(Duration::from_secs(86_400)));

        let bare = send(&backend, chat()).await;
        assert_eq!(bare.status(), StatusCode::TOO_MANY_REQUESTS);
        assert!(bare.headers().keys().all(|name| !name.as_str().contains("retry") && !name.as_str().contains("reset")));
        assert!(!text(bare).await.contains(" seconds"));

        let day = send(&backend, chat()).await;
        assert_eq!(header(&day, "retry-after"), Some("86400"));
        assert_eq!(header(&day, "retry-after-ms"), Some("86400000"));
        assert!(text(day).await.contains("Try again in 86400 seconds."));
    }

    #[tokio::test]
    async fn resets_and_refusals_are_errors() {
        let backend = open();
        backend.faults().push(Fault::reset()).push(Fault::refused());

        let error = backend.clone().oneshot(chat()).await.unwrap_err();
        assert!(error.is_reset());
        assert_eq!(io_kind(&error), Some(io::ErrorKind::ConnectionReset));
        assert_eq!(backend.request_count(), 1);

        let error = backend.clone().oneshot(chat()).await.unwrap_err();
        assert!(error.is_refused());
        assert_eq!(io_kind(&error), Some(io::ErrorKind::ConnectionRefused));
        assert_eq!(backend.request_count(), 1, "what was refused was not received");
        assert_eq!(backend.in_flight(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn slow_heads_and_bodies() {
        let backend = open();
        backend.faults().push(Fault::slow_head(Duration::from_secs(5))).push(Fault::slow_body(Duration::from_secs(1)));

        let start = Instant::now();
        assert_eq!(status(&backend, chat()).await, StatusCode::OK);
        assert_eq!(start.elapsed(), Duration::from_secs(5));

        let start = Instant::now();
        let response = send(&backend, chat()).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert!(text(response).await.ends_with('}'));
        assert_eq!(start.elapsed(), Duration::from_secs(3), "four quarters, three pauses");
    }

    #[tokio::test(start_paused = true)]
    async fn slow_streams_pause_between_events() {
        let backend = open();
        backend.faults().push(Fault::slow_body(Duration::from_secs(1)));
        let start = Instant::now();
        let mut body = send(&backend, post(CHAT, r#"{"messages":[],"stream":true}"#)).await.into_body();
        let mut events = 0;
        while let Some(frame) = body.frame().await {
            let event = frame.unwrap().into_data().unwrap();
            assert!(event.starts_with(b"data: ") && event.ends_with(b"\n\n"));
            assert_eq!(start.elapsed(), Duration::from_secs(events));
            events += 1;
        }
        assert_eq!(events, 7);
    }

    #[tokio::test]
    async fn bodies_are_cut_where_told() {
        let backend = open();
        for (after, expected) in [(0, 0), (7, 7), (usize::MAX, 9)] {
            backend.faults().push(Fault::cut_body(after).body("0123456789"));
            let mut body = send(&backend, chat()).await.into_body();
            let mut read = 0;
            let error = loop {
                match body.frame().await.unwrap() {
                    Ok(frame) => read += frame.into_data().unwrap().len(),
                    Err(error) => break error,
                }
            };
            assert_eq!(read, expected);
            let error = error.downcast_ref::<TransportError>().unwrap();
            assert!(error.is_cut());
            assert_eq!(io_kind(error), Some(io::ErrorKind::UnexpectedEof));
            assert!(body.frame().await.is_none());
            assert_eq!(backend.in_flight(), 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_hang_ends_with_the_caller() {
        let backend = open();
        backend.faults().push(Fault::hang());
        let answer = tokio::time::timeout(Duration::from_secs(3_600), backend.clone().oneshot(chat()));
        let (answer, ()) = tokio::join!(answer, async {
            backend.wait_for_requests(1).await;
            assert_eq!(backend.in_flight(), 1);
        });
        assert!(answer.is_err());
        assert_eq!(backend.in_flight(), 0);
    }

    #[tokio::test]
    async fn standing_and_aimed_faults() {
        let backend = SimulatedBackend::builder("eastus")
            .deployment(SimulatedDeployment::standard("gpt-4o"))
            .deployment(SimulatedDeployment::standard("other"))
            .build();
        backend.faults().push_n(Fault::status(500).for_deployment("other"), 2).always(Fault::status(503));
        assert_eq!(status(&backend, chat()).await, 503);

        let other = || post("/openai/v1/chat/completions", r#"{"model":"other","messages":[]}"#);
        for expected in [500, 500, 503] {
            assert_eq!(status(&backend, other()).await, expected);
        }
        backend.faults().clear();
        assert_eq!(status(&backend, other()).await, 200);
    }
}

mod records {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn keeps_what_it_received() {
        let backend = open();
        tokio::time::advance(Duration::from_secs(7)).await;
        let mut request = chat();
        request.headers_mut().append("x-twice", "1".parse().unwrap());
        request.headers_mut().append("x-twice", "2".parse().unwrap());
        *request.version_mut() = Version::HTTP_2;
        send(&backend, request).await;
        send(&backend, post("/nowhere", "")).await;

        let [first, second] = &backend.requests()[..] else { panic!("two requests") };
        assert_eq!(first.method, "POST");
        assert_eq!(first.uri, CHAT);
        assert_eq!(first.version, Version::HTTP_2);
        assert_eq!(first.headers.get_all("x-twice").iter().count(), 2);
        assert_eq!(first.header("x-twice"), Some("1"));
        assert_eq!(first.body, HELLO);
        assert_eq!(first.at, Instant::now());
        assert_eq!(second.uri, "/nowhere", "whatever it was answered");

        backend.clear_requests();
        assert_eq!(backend.request_count(), 0);
        assert!(tokio::time::timeout(Duration::from_secs(1), backend.wait_for_requests(1)).await.is_err());
    }

    #[tokio::test]
    async fn in_flight_until_the_last_byte_or_the_drop() {
        let backend = open();
        let answer = backend.clone().oneshot(chat());
        assert_eq!(backend.in_flight(), 0, "not before it is called");
        let mut response = answer.await.unwrap();
        assert_eq!(backend.in_flight(), 1);
        response.body_mut().frame().await.unwrap().unwrap();
        assert_eq!(backend.in_flight(), 0);

        let response = send(&backend, chat()).await;
        assert_eq!(backend.in_flight(), 1);
        drop(response);
        assert_eq!(backend.in_flight(), 0);
    }

    #[tokio::test]
    async fn a_broken_upload_is_not_received() {
        let backend = open();
        let broken = http_body_util::StreamBody::new(futures_util::stream::iter([
            Ok(http_body::Frame::data(Bytes::from_static(b"{"))),
            Err(io::Error::other("gone")),
        ]));
        let error = backend.clone().oneshot(Request::post(CHAT).body(broken).unwrap()).await.unwrap_err();
        assert!(error.is_request_body());
        assert_eq!(error.source().unwrap().to_string(), "gone");
        assert_eq!((backend.request_count(), backend.in_flight()), (0, 0));
    }

    #[test]
    fn handles_can_be_shared() {
        fn assert_shared<T: Send + Sync + Clone>() {}
        fn assert_send<T: Send>() {}
        assert_shared::<SimulatedBackend>();
        assert_send::<tower_azure_openai::testkit::ResponseFuture>();
        assert_send::<tower_azure_openai::testkit::SimulatedServer>();
    }
}

mod loopback {
    use super::*;

    const VERSIONS: [Version; 2] = [Version::HTTP_11, Version::HTTP_2];

    fn client(version: Version) -> Client<HttpConnector, Full<Bytes>> {
        Client::builder(TokioExecutor::new())
            .http2_only(version == Version::HTTP_2)
            .retry_canceled_requests(false)
            .build_http()
    }

    fn chat_at(url: &str) -> Request<Full<Bytes>> {
        Request::post(format!("{url}{CHAT}")).body(Full::from(HELLO)).unwrap()
    }

    /// Whether an error of the socket of this kind is behind an error.
    fn is_io(error: &(dyn std::error::Error + 'static), kind: io::ErrorKind) -> bool {
        std::iter::successors(Some(error), |&error| error.source())
            .any(|error| error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == kind))
    }

    #[tokio::test]
    async fn serves_over_both_versions() {
        let backend = open();
        let server = backend.serve().await.unwrap();
        for version in VERSIONS {
            let response = client(version).request(chat_at(&server.url())).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(response.version(), version);
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert!(String::from_utf8_lossy(&body).contains("Hello from eastus"));
            assert_eq!(backend.requests().pop().unwrap().version, version);
        }
        backend.wait_until_idle().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn admits_what_fits_and_not_one_more() {
        let backend = with(SimulatedDeployment::standard("gpt-4o").tokens_per_minute(18 * 50));
        let server = backend.serve().await.unwrap();
        let client = client(Version::HTTP_11);
        let answers = (0..200).map(|_| client.request(chat_at(&server.url())));
        let answers = futures_util::future::try_join_all(answers).await.unwrap();
        assert_eq!(answers.iter().filter(|response| response.status() == StatusCode::OK).count(), 50);
        assert_eq!(backend.request_count(), 200);
        drop(answers);
        backend.wait_until_idle().await;
    }

    #[tokio::test]
    async fn its_address_is_its_host() {
        let server = open().serve().await.unwrap();
        let mut request = chat_at(&server.url());
        request.headers_mut().insert("host", "gateway.example".parse().unwrap());
        let response = client(Version::HTTP_11).request(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::NOT_FOUND);

        let named = SimulatedBackend::builder("eastus").host("contoso.openai.azure.com");
        let named = named.deployment(SimulatedDeployment::standard("gpt-4o")).build().serve().await.unwrap();
        let response = client(Version::HTTP_11).request(chat_at(&named.url())).await.unwrap();
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        let mut request = chat_at(&named.url());
        request.headers_mut().insert("host", "contoso.openai.azure.com".parse().unwrap());
        let response = client(Version::HTTP_11).request(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn a_reset_aborts_the_socket() {
        let backend = open();
        let server = backend.serve().await.unwrap();
        backend.faults().push_n(Fault::reset(), 2);
        for version in VERSIONS {
            let error = client(version).request(chat_at(&server.url())).await.unwrap_err();
            assert!(!error.is_connect(), "{error:?}");
            assert!(is_io(&error, io::ErrorKind::ConnectionReset), "{error:?}");
        }
        assert_eq!(backend.request_count(), 2);
        backend.wait_until_idle().await;
    }

    #[tokio::test]
    async fn a_cut_body_is_incomplete() {
        let backend = open();
        let server = backend.serve().await.unwrap();
        for version in VERSIONS {
            backend.faults().push(Fault::cut_body(10).body("0123456789".repeat(10)));
            let response = client(version).request(chat_at(&server.url())).await.unwrap();
            assert_eq!(header(&response, "content-length"), Some("100"));
            let mut body = response.into_body();
            let mut read = 0;
            let cut = loop {
                match body.frame().await.unwrap() {
                    Ok(frame) => read += frame.into_data().unwrap().len(),
                    Err(error) => break error,
                }
            };
            assert_eq!(read, 10, "all that was not cut arrives before {cut:?}");
        }
        backend.wait_until_idle().await;
    }

    #[tokio::test]
    async fn a_cut_stream_breaks_off() {
        let backend = open();
        let server = backend.serve().await.unwrap();
        for version in VERSIONS {
            backend.faults().push(Fault::cut_body(600));
            let request = chat_at(&server.url()).map(|_| Full::from(r#"{"messages":[],"stream":true}"#));
            let response = client(version).request(request).await.unwrap();
            assert_eq!(header(&response, "content-length"), None);
            assert!(response.into_body().collect().await.is_err());
        }
    }

    #[tokio::test]
    async fn a_client_that_leaves_ends_its_request() {
        let backend = open();
        let server = backend.serve().await.unwrap();
        for version in VERSIONS {
            for fault in [Fault::hang(), Fault::slow_head(Duration::from_secs(600))] {
                backend.clear_requests();
                backend.faults().push(fault);
                let request = tokio::spawn(client(version).request(chat_at(&server.url())));
                backend.wait_for_requests(1).await;
                assert_eq!(backend.in_flight(), 1);
                request.abort();
                backend.wait_until_idle().await;
            }

            backend.faults().push(Fault::slow_body(Duration::from_secs(600)));
            let mut response = client(version).request(chat_at(&server.url())).await.unwrap();
            response.body_mut().frame().await.unwrap().unwrap();
            assert_eq!(backend.in_flight(), 1);
            drop(response);
            backend.wait_until_idle().await;
        }
    }

    #[tokio::test]
    async fn a_stopped_server_resets_and_refuses_until_it_is_back() {
        let backend = open();
        let server = backend.serve().await.unwrap();
        let (addr, url) = (server.addr(), server.url());
        let client = client(Version::HTTP_11);
        backend.faults().push(Fault::hang());
        let hanging = tokio::spawn(client.request(chat_at(&url)));
        backend.wait_for_requests(1).await;

        server.stop().await;
        assert!(is_io(&hanging.await.unwrap().unwrap_err(), io::ErrorKind::ConnectionReset));
        assert_eq!(backend.in_flight(), 0);
        let error = client.request(chat_at(&url)).await.unwrap_err();
        assert!(error.is_connect() && is_io(&error, io::ErrorKind::ConnectionRefused), "{error:?}");

        let server = backend.serve_on(addr).await.unwrap();
        assert_eq!(server.url(), url);
        assert_eq!(client.request(chat_at(&url)).await.unwrap().status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn a_dropped_server_stops() {
        let backend = open();
        let server = backend.serve().await.unwrap();
        let url = server.url();
        backend.faults().push(Fault::hang());
        let hanging = tokio::spawn(client(Version::HTTP_11).request(chat_at(&url)));
        backend.wait_for_requests(1).await;
        drop(server);
        assert!(hanging.await.unwrap().is_err());
        backend.wait_until_idle().await;
        assert!(client(Version::HTTP_11).request(chat_at(&url)).await.unwrap_err().is_connect());
    }

    #[tokio::test(start_paused = true)]
    async fn a_shutdown_finishes_what_was_begun() {
        for version in VERSIONS {
            let backend = open();
            let server = backend.serve().await.unwrap();
            let url = server.url();
            backend.faults().push(Fault::slow_head(Duration::from_secs(5)));
            let request = tokio::spawn(client(version).request(chat_at(&url)));
            let idle = tokio::net::TcpStream::connect(server.addr()).await.unwrap();
            backend.wait_for_requests(1).await;
            let (response, ()) = tokio::join!(request, server.shutdown());
            drop(idle);
            assert_eq!(response.unwrap().unwrap().status(), StatusCode::OK);
            assert!(client(version).request(chat_at(&url)).await.unwrap_err().is_connect());
        }
    }
}
