//! `FrontDoorLayer` from outside.

#[path = "support/passing.rs"]
mod passing;

use http::{HeaderValue, Request, Response};
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_azure_openai::front_door::FrontDoorLayer;
use tower_azure_openai::{Error, ErrorKind};

const ONE: &str = "0d2d7b25-5d5e-4b7b-8a4f-9a3c6a3f1c11";
const OTHER: &str = "7e1b6a52-86a5-4f4f-9d0c-2f1f5e0c9a10";

fn request(values: &[&[u8]]) -> Request<()> {
    let mut request = Request::get("/openai/models").body(()).expect("a request");
    for value in values {
        request.headers_mut().append("x-azure-fdid", HeaderValue::from_bytes(value).expect("a value"));
    }
    request
}

async fn refusal(layer: &FrontDoorLayer, values: &[&[u8]]) -> Option<ErrorKind> {
    let inner = service_fn(async |_: Request<()>| Ok::<_, BoxError>(Response::new(())));
    let error = layer.layer(inner).oneshot(request(values)).await.err()?;
    Some(Error::find(error.as_ref()).expect("a cause of the crate").kind())
}

#[tokio::test]
async fn only_requests_with_an_accepted_id_pass() {
    let layer = FrontDoorLayer::new([ONE, OTHER]);
    let (one, other, upper) = (ONE.as_bytes(), OTHER.as_bytes(), ONE.to_uppercase());
    for values in [&[one][..], &[other], &[upper.as_bytes()], &[one, one], &[one, other]] {
        assert_eq!(refusal(&layer, values).await, None, "{values:?}");
    }
    let (short, long) = (&one[..35], [one, b"0"].concat());
    let list = [one, b", ", other].concat();
    let none: &[&[u8]] = &[];
    for values in [
        none,
        &[b""],
        &[short],
        &[&long],
        &[&list],
        &[b"\xff\xfe"],
        &[one, b"8f2f2b39-5f0e-44f2-8dd8-6f8f8e1f2a11"],
        &[b"", one],
    ] {
        assert_eq!(refusal(&layer, values).await, Some(ErrorKind::FrontDoorRequired), "{values:?}");
    }
}

#[tokio::test]
async fn without_an_id_nothing_passes() {
    for layer in [FrontDoorLayer::new([""; 0]), FrontDoorLayer::new([""])] {
        let none: &[&[u8]] = &[];
        for values in [none, &[b""], &[ONE.as_bytes()]] {
            assert_eq!(refusal(&layer, values).await, Some(ErrorKind::FrontDoorRequired), "{values:?}");
        }
    }
}

#[test]
fn ids_are_not_shown() {
    let layer = FrontDoorLayer::new([ONE]);
    assert_eq!(format!("{layer:?} {:?}", layer.layer(())), "FrontDoorLayer { ids: 1 } FrontDoor { inner: (), ids: 1 }");
}

#[tokio::test]
async fn calls_the_inner_service_only_when_it_is_ready() {
    passing::assert_keeps_readiness(FrontDoorLayer::new([ONE]), request(&[ONE.as_bytes()]));
}

#[test]
fn dropping_the_future_drops_the_request_below() {
    passing::assert_drops_what_is_below(&FrontDoorLayer::new([ONE]), request(&[ONE.as_bytes()]));
}
