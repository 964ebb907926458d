//! What every layer keeps that passes a request on as it is, or refuses it.

use std::sync::Arc;

use http::{Request, Response};
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok, task};
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Layer, Service, service_fn};
use tower_test::mock::{self, Mock};

/// Passes when the service below is called only after it was ready, a clone is not ready, and an error passes.
pub(crate) fn assert_keeps_readiness<L>(layer: L, request: Request<()>)
where
    L: Layer<Mock<Request<()>, Response<()>>>,
    L::Service: Service<Request<()>, Response = Response<()>, Error = BoxError> + Clone,
{
    let (mut service, mut handle) = mock::spawn_layer::<Request<()>, Response<()>, _>(layer);
    handle.allow(0);
    assert_pending!(service.poll_ready());
    handle.allow(1);
    assert_ready_ok!(service.poll_ready());
    let mut clone = service.get_ref().clone();
    let mut answer = task::spawn(service.call(request));
    assert_pending!(answer.poll());
    assert_pending!(task::spawn(std::future::poll_fn(|cx| clone.poll_ready(cx))).poll(), "a clone is not ready");
    let (_, send) = assert_ready!(task::spawn(handle.next_request()).poll()).expect("a request");
    send.send_error("down");
    assert_eq!(assert_ready_err!(answer.poll()).to_string(), "down");
}

/// A service that never answers.
pub(crate) type Endless = BoxCloneSyncService<Request<()>, Response<()>, BoxError>;

/// Passes when dropping the future drops the request below.
pub(crate) fn assert_drops_what_is_below<L>(layer: &L, request: Request<()>)
where
    L: Layer<Endless>,
    L::Service: Service<Request<()>, Response = Response<()>, Error = BoxError>,
{
    let held = Arc::new(());
    let below = held.clone();
    let endless = service_fn(move |_: Request<()>| {
        let held = below.clone();
        async move {
            std::future::pending::<()>().await;
            drop(held);
            Ok::<_, BoxError>(Response::new(()))
        }
    });
    let mut service = layer.layer(Endless::new(endless));
    let mut answer = task::spawn(service.call(request));
    assert_pending!(answer.poll());
    assert_eq!(Arc::strong_count(&held), 3);
    drop(answer);
    assert_eq!(Arc::strong_count(&held), 2);
}
