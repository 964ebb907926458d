//! Identities from outside: what the SDK is made to send, through the transport seam and over loopback.
#![expect(clippy::unwrap_used, reason = "a helper that panics has failed its test")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use azure_core::http::headers::Headers;
use azure_core::http::{AsyncRawResponse, Body as SdkBody, HttpClient, Request, StatusCode};
use tower_azure_openai::pool::BearerTokens;
use tower_azure_openai::reissue::azure::Identity;

const SECRET: &str = "hunter2-the-secret";

/// What was asked of the fake, and what it answers with, in turn; the last answer repeats.
#[derive(Debug)]
struct Fake {
    asked: Mutex<Vec<Asked>>,
    answers: Mutex<Vec<(u16, String)>>,
}

#[derive(Clone, Debug)]
struct Asked {
    method: String,
    url: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Asked {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl Fake {
    fn answering(answers: impl IntoIterator<Item = (u16, String)>) -> Arc<Self> {
        let mut answers: Vec<_> = answers.into_iter().collect();
        answers.reverse();
        Arc::new(Self { asked: Mutex::default(), answers: Mutex::new(answers) })
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

#[async_trait]
impl HttpClient for Fake {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let body = match request.body() {
            SdkBody::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            _ => String::new(),
        };
        let headers = request.headers().iter().map(|(n, v)| (n.as_str().to_owned(), v.as_str().to_owned())).collect();
        let (method, url) = (request.method().as_str().to_owned(), request.url().to_string());
        self.asked.lock().unwrap().push(Asked { method, url, headers, body });
        let mut answers = self.answers.lock().unwrap();
        let (status, body) = if answers.len() > 1 { answers.pop().unwrap() } else { answers[0].clone() };
        Ok(AsyncRawResponse::from_bytes(StatusCode::from(status), Headers::new(), body.into_bytes()))
    }
}

fn in_an_hour() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 3_600
}

fn managed(token: &str) -> (u16, String) {
    let expires_on = in_an_hour();
    let body = format!(
        r#"{{"access_token":"{token}","expires_on":"{expires_on}","resource":"https://cognitiveservices.azure.com","token_type":"Bearer"}}"#
    );
    (200, body)
}

fn issued(token: &str) -> (u16, String) {
    (200, format!(r#"{{"access_token":"{token}","expires_in":3600,"token_type":"Bearer"}}"#))
}

async fn token(identity: Identity) -> String {
    identity.keeper().unwrap().wait().await.unwrap().to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_managed_identity_asks_the_instance_metadata_service() {
    let fake = Fake::answering([managed("one")]);
    let identity = Identity::managed_identity().client_id("the-user-assigned").transport(fake.clone());
    assert_eq!(token(identity).await, "Bearer one");
    let asked = fake.asked();
    assert_eq!((asked.len(), asked[0].method.as_str()), (1, "GET"));
    assert!(asked[0].url.starts_with("http://169.254.169.254/metadata/identity/oauth2/token?"), "{}", asked[0].url);
    assert!(
        asked[0].url.contains("resource=https%3A%2F%2Fcognitiveservices.azure.com&"),
        "the scope without /.default"
    );
    assert!(asked[0].url.contains("client_id=the-user-assigned"), "{}", asked[0].url);
    assert_eq!(asked[0].header("metadata"), Some("true"));
}

#[tokio::test]
async fn a_client_secret_is_sent_in_a_form_to_the_authority_of_its_cloud() {
    let fake = Fake::answering([issued("one")]);
    let identity = Identity::client_secret("contoso.example", "the-client", SECRET)
        .authority_host("https://login.microsoftonline.us")
        .scope("https://cognitiveservices.azure.us/.default")
        .transport(fake.clone());
    assert!(!format!("{identity:?}").contains(SECRET));
    assert_eq!(token(identity).await, "Bearer one");
    let asked = fake.asked();
    assert_eq!(asked[0].url, "https://login.microsoftonline.us/contoso.example/oauth2/v2.0/token");
    for part in [
        "client_id=the-client",
        "grant_type=client_credentials",
        "scope=https%3A%2F%2Fcognitiveservices.azure.us%2F.default",
    ] {
        assert!(asked[0].body.contains(part), "{part} in {}", asked[0].body);
    }
    assert!(asked[0].body.contains(SECRET) && !asked[0].url.contains(SECRET));
}

#[tokio::test]
async fn a_workload_identity_reads_its_token_file_for_every_fetch() {
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("federated-token");
    std::fs::write(&file, "assertion-one").unwrap();
    let fake = Fake::answering([issued("one"), issued("two")]);
    let identity = Identity::workload_identity()
        .tenant_id("contoso.example")
        .client_id("the-client")
        .token_file(&file)
        .transport(fake.clone());
    let keeper = identity.keeper().unwrap();
    let first = keeper.wait().await.unwrap();
    std::fs::write(&file, "assertion-two").unwrap();
    assert!(keeper.rejected(&first).await, "a forced fetch is not answered out of the SDK's cache");
    assert_eq!(keeper.current().unwrap(), "Bearer two");
    let asked = fake.asked();
    assert!(asked[0].body.contains("client_assertion=assertion-one"), "{}", asked[0].body);
    assert!(asked[1].body.contains("client_assertion=assertion-two"), "{}", asked[1].body);
}

#[tokio::test]
async fn a_forced_fetch_asks_anew_and_ten_refusals_in_a_row_ask_at_most_three_times() {
    let fake = Fake::answering([managed("same")]);
    let keeper = Identity::managed_identity().transport(fake.clone()).keeper().unwrap();
    let refused = keeper.wait().await.unwrap();
    for _ in 0..10 {
        assert!(!keeper.rejected(&refused).await, "the platform gave the same token again");
    }
    assert!(fake.asked().len() <= 3, "{} fetches", fake.asked().len());
}

#[tokio::test]
async fn a_refusal_says_why_and_nothing_else() {
    let body = format!(
        r#"{{"error":"invalid_client","error_description":"secret {SECRET} is wrong","error_codes":[7000215]}}"#
    );
    let fake = Fake::answering([(401, body)]);
    let identity = Identity::client_secret("contoso.example", "the-client", SECRET).transport(fake);
    let keeper = identity.keeper().unwrap();
    let error = keeper.wait().await.unwrap_err();
    let shown = format!("{error} {error:?} {:?} {}", keeper, keeper.problem().unwrap());
    assert!(shown.contains("AADSTS7000215"), "{shown}");
    assert!(!shown.contains(SECRET) && !shown.contains("microsoftonline"), "{shown}");
}

#[test]
fn a_description_that_cannot_work_is_refused_at_once() {
    let wrong = |identity: Identity| identity.keeper().unwrap_err().to_string();
    assert!(wrong(Identity::client_secret("contoso.example", "c", "")).contains("secret is empty"));
    assert!(wrong(Identity::client_secret("../evil", "c", "s")).contains("tenant"));
    assert!(wrong(Identity::client_secret("t", "c", "s").authority_host("http://login.example")).contains("https"));
    assert!(wrong(Identity::managed_identity().scope("two words")).contains("scope"));
    let missing = Identity::workload_identity().tenant_id("t").client_id("c").token_file("no-such-file");
    assert!(wrong(missing).contains("token file"));
}

/// The App Service form is told by the environment, which belongs to the whole process: the test runs itself in a child.
#[tokio::test]
async fn a_managed_identity_in_its_app_service_form() {
    if std::env::var_os("IDENTITY_ENDPOINT").is_some() {
        assert_eq!(token(Identity::managed_identity()).await, "Bearer from-the-fake");
        return;
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/msi/token", listener.local_addr().unwrap());
    let served = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut stream, _) = listener.accept().await.unwrap();
        let (mut head, mut chunk) = (Vec::new(), [0; 4096]);
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            let read = stream.read(&mut chunk).await.unwrap();
            head.extend_from_slice(&chunk[..read]);
        }
        let (_, body) = managed("from-the-fake");
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(head).unwrap().to_ascii_lowercase()
    });
    let child = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_managed_identity_in_its_app_service_form"])
        .env("IDENTITY_ENDPOINT", &endpoint)
        .env("IDENTITY_HEADER", "the-header")
        .output();
    let output = tokio::time::timeout(Duration::from_secs(30), child).await.expect("the child ends").unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let head = served.await.unwrap();
    assert!(head.starts_with("get /msi/token?") && head.contains("x-identity-header: the-header"), "{head}");
}
