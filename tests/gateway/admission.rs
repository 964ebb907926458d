//! Who gets in, before anybody is asked for a key, and with which versions of the API.

use http::Request;
use tower_azure_openai::body::Body;

use crate::http_support::{chat, chat_request, get, send};
use crate::process::is;
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
