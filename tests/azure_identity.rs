//! Identities through the transport seam, and one over loopback HTTP.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use azure_core::Bytes;
use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::error::ErrorKind;
use azure_core::http::headers::Headers;
use azure_core::http::{AsyncRawResponse, Body, HttpClient, Request, StatusCode};
use tower_azure_openai::pool::{BearerTokens, Credential};
use tower_azure_openai::reissue::azure::{DEFAULT_SCOPE, Identity, TokenCredentialSource};
use tower_azure_openai::reissue::{TokenKeeper, TokenSource};

const SECRET: &str = "hunter2";
const TENANT: &str = "contoso.example";

/// Answers every request alike; `{n}` in a body is the number of the request.
#[derive(Clone, Debug)]
struct Fake(Arc<State>);

#[derive(Debug)]
struct State {
    status: u16,
    body: String,
    seen: Mutex<Vec<Seen>>,
}

#[derive(Clone, Debug)]
struct Seen {
    url: String,
    headers: Vec<(String, String)>,
    form: String,
}

impl Fake {
    fn new(status: u16, body: impl Into<String>) -> Self {
        Self(Arc::new(State { status, body: body.into(), seen: Mutex::default() }))
    }

    fn managed_identity() -> Self {
        Self::new(200, managed_token("t{n}"))
    }

    fn authority() -> Self {
        Self::new(200, r#"{"token_type":"Bearer","expires_in":3599,"ext_expires_in":3599,"access_token":"t{n}"}"#)
    }

    fn seam(&self) -> Arc<dyn HttpClient> {
        Arc::new(self.clone())
    }

    fn seen(&self) -> Vec<Seen> {
        self.0.seen.lock().unwrap().clone()
    }
}

#[async_trait]
impl HttpClient for Fake {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let Body::Bytes(form) = request.body() else { panic!("a streamed body") };
        let headers = request.headers().iter().map(|(n, v)| (n.as_str().to_owned(), v.as_str().to_owned())).collect();
        let form = String::from_utf8(form.to_vec()).unwrap();
        let mut seen = self.0.seen.lock().unwrap();
        seen.push(Seen { url: request.url().to_string(), headers, form });
        let body = self.0.body.replace("{n}", &seen.len().to_string());
        Ok(AsyncRawResponse::from_bytes(StatusCode::from(self.0.status), Headers::new(), Bytes::from(body)))
    }
}

fn managed_token(token: &str) -> String {
    let end = SystemTime::now() + Duration::from_secs(3_600);
    let end = end.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    format!(r#"{{"access_token":"{token}","expires_on":"{end}","token_type":"Bearer","resource":"r"}}"#)
}

async fn token(keeper: &TokenKeeper) -> String {
    keeper.wait().await.unwrap().to_str().unwrap().to_owned()
}

async fn problem(keeper: &TokenKeeper) -> String {
    let error = keeper.wait().await.unwrap_err();
    let (debug, display) = (format!("{error:?}"), error.to_string());
    assert!(!debug.contains(SECRET) && !debug.contains("http"), "{debug}");
    assert!(!display.contains(SECRET) && !display.contains("http"), "{display}");
    display
}

#[tokio::test]
async fn a_managed_identity_asks_the_metadata_service() {
    let fake = Fake::managed_identity();
    let identity = Identity::managed_identity().client_id("of the user").transport(fake.seam());
    assert_eq!(token(&identity.keeper().unwrap()).await, "Bearer t1");

    let seen = fake.seen();
    let resource = "https%3A%2F%2Fcognitiveservices.azure.com";
    let expected = format!(
        "http://169.254.169.254/metadata/identity/oauth2/token?api-version=2019-08-01&resource={resource}&client_id=of+the+user"
    );
    assert_eq!(seen[0].url, expected);
    assert!(seen[0].headers.contains(&("metadata".to_owned(), "true".to_owned())), "{:?}", seen[0].headers);
}

#[tokio::test]
async fn the_sdk_repeats_nothing() {
    let fake = Fake::new(404, r#"{"error":"invalid_request","error_description":"hunter2 at https://x"}"#);
    let keeper = Identity::managed_identity().transport(fake.seam()).keeper().unwrap();
    assert_eq!(problem(&keeper).await, "no token: the identity endpoint answered 404 (invalid_request)");
    assert_eq!(fake.seen().len(), 1);
}

#[tokio::test]
async fn an_application_shows_its_secret_to_the_authority_of_its_cloud() {
    let fake = Fake::authority();
    let identity = Identity::client_secret(TENANT, "app", SECRET)
        .authority_host("https://login.microsoftonline.us")
        .scope("https://cognitiveservices.azure.us/.default")
        .transport(fake.seam());
    assert_eq!(token(&identity.keeper().unwrap()).await, "Bearer t1");

    let seen = fake.seen();
    assert_eq!(seen[0].url, "https://login.microsoftonline.us/contoso.example/oauth2/v2.0/token");
    let scope = "https%3A%2F%2Fcognitiveservices.azure.us%2F.default";
    let expected = format!("client_id=app&client_secret=hunter2&grant_type=client_credentials&scope={scope}");
    assert_eq!(seen[0].form, expected);
}

#[tokio::test]
async fn a_workload_reads_its_token_file_for_every_fetch() {
    let fake = Fake::authority();
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("azure_identity_workload");
    std::fs::write(&file, "assertion-1").unwrap();
    let identity = Identity::workload_identity().tenant_id(TENANT).client_id("app").token_file(&file);
    let keeper = identity.transport(fake.seam()).keeper().unwrap();
    let first = keeper.wait().await.unwrap();

    std::fs::write(&file, "assertion-2").unwrap();
    assert!(keeper.rejected(&first).await);
    let forms: Vec<_> = fake.seen().into_iter().map(|seen| seen.form).collect();
    assert!(forms[0].starts_with("client_assertion=assertion-1&"), "{}", forms[0]);
    assert!(forms[1].starts_with("client_assertion=assertion-2&"), "{}", forms[1]);
    assert!(forms[1].contains("client_id=app&grant_type=client_credentials&scope="), "{}", forms[1]);
}

#[tokio::test]
async fn a_refused_token_does_not_come_back_out_of_the_sdks_cache() {
    for (fake, identity) in [
        (Fake::managed_identity(), Identity::managed_identity()),
        (Fake::authority(), Identity::client_secret(TENANT, "app", SECRET)),
    ] {
        let keeper = identity.transport(fake.seam()).keeper().unwrap();
        let first = keeper.wait().await.unwrap();
        assert!(keeper.rejected(&first).await, "another token should be in hand");
        assert_eq!(token(&keeper).await, "Bearer t2");
        assert_eq!(fake.seen().len(), 2);
    }
}

#[tokio::test]
async fn a_refusal_shows_codes_and_neither_body_nor_secret() {
    let body = r#"{"error":"invalid_client","error_codes":[7000215],"error_description":"hunter2\r\nat https://x"}"#;
    let fake = Fake::new(401, body);
    let keeper = Identity::client_secret(TENANT, "app", SECRET).transport(fake.seam()).keeper().unwrap();
    let expected = "no token: the identity endpoint answered 401 (invalid_client, AADSTS7000215)";
    assert_eq!(problem(&keeper).await, expected);
    assert!(!keeper.problem().unwrap().contains(SECRET));
}

#[tokio::test]
async fn an_answer_that_is_no_token_is_none() {
    for (body, expected) in [
        ("<html>hunter2</html>", "no token: the answer of the identity endpoint cannot be read"),
        (r#"{"hunter2":"https://x"}"#, "no token: the identity endpoint answered without a token"),
    ] {
        let fake = Fake::new(200, body);
        let keeper = Identity::client_secret(TENANT, "app", SECRET).transport(fake.seam()).keeper().unwrap();
        assert_eq!(problem(&keeper).await, expected);
    }
}

#[tokio::test]
async fn nobody_listens() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let identity = Identity::client_secret(TENANT, "app", SECRET).authority_host(format!("https://{closed}"));
    let said = problem(&identity.keeper().unwrap()).await;
    assert!(said.starts_with("no token: the identity endpoint could not be reached: "), "{said}");
    assert!(said.contains("refused") && !said.contains("127.0.0.1"), "{said}");
}

#[test]
fn a_description_that_cannot_work_says_so() {
    let workload = || Identity::workload_identity().tenant_id(TENANT).client_id("app");
    for (identity, expected) in [
        (Identity::client_secret("a/b", "app", SECRET), "the tenant id must be a GUID or a domain"),
        (Identity::client_secret(TENANT, "", SECRET), "the client id is empty"),
        (Identity::client_secret(TENANT, "app", ""), "the client secret is empty"),
        (Identity::managed_identity().scope(""), "the scope must be one word"),
        (workload(), "AZURE_FEDERATED_TOKEN_FILE is not set"),
        (workload().token_file("/nowhere"), "the token file cannot be read: entity not found"),
        (
            Identity::client_secret(TENANT, "app", SECRET).authority_host("http://login.example"),
            "the authority host must be an https URL without credentials",
        ),
    ] {
        assert_eq!(identity.keeper().unwrap_err().to_string(), expected, "{identity:?}");
    }
}

#[test]
fn nothing_shows_a_secret() {
    let identity = Identity::client_secret(TENANT, "app", SECRET);
    let keeper = identity.keeper().unwrap();
    let shown = format!("{identity:?} {keeper:?}");
    assert!(shown.contains("client_secret") && !shown.contains(SECRET), "{shown}");
}

#[test]
fn developer_tools_need_nothing_to_be_described() {
    let credential = Credential::bearer(Arc::new(Identity::developer_tools().keeper().unwrap()));
    assert!(credential.as_bearer().unwrap().current().is_none());
}

/// A credential that somebody else wrote.
#[derive(Debug)]
struct Foreign;

#[async_trait]
impl TokenCredential for Foreign {
    async fn get_token(&self, scopes: &[&str], _: Option<TokenRequestOptions<'_>>) -> azure_core::Result<AccessToken> {
        if scopes == [DEFAULT_SCOPE] {
            return Ok(AccessToken::new("t", (SystemTime::now() + Duration::from_secs(3_600)).into()));
        }
        Err(azure_core::Error::with_message(ErrorKind::Credential, "hunter2 at https://x"))
    }
}

#[tokio::test]
async fn any_credential_of_the_sdk_is_a_source() {
    let source = TokenCredentialSource::new(Arc::new(Foreign), DEFAULT_SCOPE);
    assert_eq!(source.fetch(false).await.unwrap().secret, "t");
    let keeper = TokenKeeper::new(TokenCredentialSource::new(Arc::new(Foreign), "another"));
    assert_eq!(problem(&keeper).await, "no token: the credential gave no token");
}

/// The environment belongs to the whole process, so that the inner test runs in one of its own.
#[tokio::test]
async fn app_service_is_asked_over_http() {
    let (tell, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let answer = move |request: axum::extract::Request| {
        let header = request.headers().get("x-identity-header").map(|value| value.to_str().unwrap().to_owned());
        let target = request.uri().to_string();
        let moved = target.contains("client_id=moved");
        tell.send((target, header)).unwrap();
        async move {
            if moved {
                return (http::StatusCode::FOUND, [("location", "/elsewhere")], String::new());
            }
            (http::StatusCode::OK, [("content-type", "application/json")], managed_token("of app service"))
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/msi/token", listener.local_addr().unwrap());
    let server = tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(answer)).await });

    let inner = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "inside_app_service", "--nocapture"])
        .env("IDENTITY_ENDPOINT", endpoint)
        .env("IDENTITY_HEADER", SECRET)
        .output();
    let output = inner.await.unwrap();
    server.abort();
    let printed = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}");

    let resource = "resource=https%3A%2F%2Fcognitiveservices.azure.com";
    let first = format!("/msi/token?api-version=2019-08-01&{resource}");
    let second = format!("{first}&client_id=moved");
    assert_eq!(seen.recv().await.unwrap(), (first, Some(SECRET.to_owned())));
    assert_eq!(seen.recv().await.unwrap(), (second, Some(SECRET.to_owned())));
    assert!(seen.try_recv().is_err(), "a redirect should not be followed");
}

#[tokio::test]
async fn inside_app_service() {
    if std::env::var_os("IDENTITY_ENDPOINT").is_none() {
        return;
    }
    assert_eq!(token(&Identity::managed_identity().keeper().unwrap()).await, "Bearer of app service");
    let moved = Identity::managed_identity().client_id("moved").keeper().unwrap();
    assert_eq!(problem(&moved).await, "no token: the identity endpoint answered 302");
}
