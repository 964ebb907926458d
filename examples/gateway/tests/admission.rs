//! Who gets in, before anybody is asked for a key, and with which versions of the API.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use http::{Request, Response};
use tower_azure_openai::body::Body;

use crate::http_support::{self, Answer, CHAT, HELLO, chat, chat_request, get, send};
use crate::process::{is, run_with_input};
use crate::tokens::{APP, AUDIENCE, Signer, TENANT, claims, claims_with, jwks};
use crate::{KEY, gateway_before, serve};

const ID: &str = "0d2d7b25-5d5e-4b7b-8a4f-9a3c6a3f1c11";

fn through(mut request: Request<Body>, id: &str) -> Request<Body> {
    request.headers_mut().insert("x-azure-fdid", id.parse().unwrap());
    request
}

#[tokio::test]
async fn behind_front_door() {
    let (east, server) = serve("east").await;
    let gateway = gateway_before(&server, &format!("[front_door]\nids = [\"other\", \"{ID}\"]\n")).await;
    is(&chat(&gateway.url, KEY).await, 403, "front_door_required");
    is(&chat(&gateway.url, "wrong").await, 403, "front_door_required");
    is(&get(format!("{}/", gateway.url)).await, 403, "front_door_required");
    is(&send(through(chat_request(&gateway.url, "wrong"), ID)).await, 401, "401");
    assert_eq!(send(through(chat_request(&gateway.url, KEY), ID)).await.status, 200);
    assert_eq!(get(format!("{}/status-0123456789abcdef", gateway.url)).await.status, 200);
    assert!(east.requests().iter().all(|request| request.header("x-azure-fdid").is_none()));
}

#[tokio::test]
async fn versions_of_the_api() {
    let (east, server) = serve("east").await;
    let config = "[api_version]\nallow = [\"2024-10-21\"]\ndefault = \"2024-06-01\"\n";
    let gateway = gateway_before(&server, config).await;
    let with = |query: &str| {
        let mut request = chat_request(&gateway.url, KEY);
        let path = "/openai/deployments/gpt-4o/chat/completions";
        *request.uri_mut() = format!("{}{path}{query}", gateway.url).parse().unwrap();
        request
    };
    assert_eq!(chat(&gateway.url, KEY).await.status, 200);
    assert_eq!(send(with("")).await.status, 200);
    let refused = send(with("?API-version=2023-05-15")).await;
    is(&refused, 400, "api_version_not_allowed");
    assert!(refused.text().contains("Allowed: 2024-10-21."), "{}", refused.text());
    is(&send(with("?api-version=2024-10-21&api-version=2023-05-15")).await, 400, "api_version_not_allowed");

    let versions: Vec<_> = east.requests().iter().map(|request| request.uri.to_string()).collect();
    assert_eq!(versions.len(), 2);
    assert!(versions[0].ends_with("?api-version=2024-10-21"), "{versions:?}");
    assert!(versions[1].ends_with("?api-version=2024-06-01"), "{versions:?}");
}

async fn with_token(url: &str, token: &str) -> Answer {
    let request = Request::post(format!("{url}{CHAT}")).header("content-type", "application/json");
    send(request.header("authorization", format!("Bearer {token}")).body(Body::from(HELLO)).unwrap()).await
}

#[tokio::test]
async fn tokens_of_entra_beside_keys() {
    let (east, server) = serve("east").await;
    let (signer, fetches) = (Signer::new("k"), Arc::new(AtomicUsize::new(0)));
    let (document, count) = (jwks([&signer]).to_string(), fetches.clone());
    let authority = http_support::serve(move |_| {
        count.fetch_add(1, SeqCst);
        let answer = Response::new(Body::from(document.clone()));
        async { answer }
    })
    .await;
    let entra = format!(
        "[[clients]]\nid = \"jobs\"\nentra = {{ app_id = \"{APP}\" }}\nallow = [\"gpt-4o\"]\n\
         [entra]\ntenant_id = \"{TENANT}\"\naudience = [\"{AUDIENCE}\"]\njwks_url = \"{authority}/{{tenant_id}}/keys\"\n\
         [telemetry]\nlog = \"trace\"\n"
    );
    let mut gateway = gateway_before(&server, &entra).await;
    assert_eq!(with_token(&gateway.url, KEY).await.status, 200, "a bearer value that is no token is tried as a key");
    assert_eq!(fetches.load(SeqCst), 0);

    let token = signer.token(&claims());
    assert_eq!(with_token(&gateway.url, &token).await.status, 200);
    gateway.stderr.line(&["client=\"jobs\""]).await;
    for refused in [claims_with("azp", "another"), claims_with("exp", 1), claims_with("aud", "x")] {
        is(&with_token(&gateway.url, &signer.token(&refused)).await, 401, "401");
    }
    assert_eq!(fetches.load(SeqCst), 1);

    assert!(east.requests().iter().all(|request| request.header("authorization").is_none()));
    assert!(!gateway.stop().await.contains(&token), "no token is written down");
}

#[tokio::test]
async fn a_key_of_which_the_file_knows_the_digest_only() {
    let (_east, server) = serve("east").await;
    let key = "a-key-of-sixteen-or-more";
    let (status, digest, stderr) = run_with_input(&["--hash-key"], format!("{key}\n").as_bytes()).await;
    assert_eq!((status, stderr.as_str(), digest.len()), (Some(0), "", 65));
    let client = format!("[[clients]]\nid = \"hashed\"\nkey_sha256 = \"{}\"\n", digest.trim());
    let gateway = gateway_before(&server, &client).await;
    assert_eq!(chat(&gateway.url, key).await.status, 200);
    is(&chat(&gateway.url, digest.trim()).await, 401, "401");

    for wrong in ["", "\n", "too-short", "spaces in the long key"] {
        let (status, stdout, stderr) = run_with_input(&["--hash-key"], wrong.as_bytes()).await;
        assert_eq!((status, stdout.as_str()), (Some(2), ""), "{wrong:?}");
        assert!(stderr.starts_with("the key ") && (wrong.trim().is_empty() || !stderr.contains(wrong)), "{stderr}");
    }
}

#[tokio::test]
async fn several_keys_of_one_client() {
    let (_east, server) = serve("east").await;
    let client =
        "[[clients]]\nid = \"rotating\"\nkey = [\"the-old-key-of-the-client\", \"the-new-key-of-the-client\"]\n";
    let gateway = gateway_before(&server, client).await;
    for key in ["the-old-key-of-the-client", "the-new-key-of-the-client"] {
        assert_eq!(chat(&gateway.url, key).await.status, 200, "{key}");
    }
}
