//! The usual layers in their order, around an HTTP client.

use std::convert::Infallible;

use http::{Request, Response};
use tower::ServiceExt;
use tower::util::{BoxCloneSyncService, Either};
use tower_layer::{Identity, Layer};
use tower_service::Service;

use super::{Builder, DefaultUpgrade, Gateway};
use crate::api_version::ApiVersionLayer;
use crate::authorize::AuthorizeLayer;
use crate::body::Body;
use crate::capture::CaptureLayer;
use crate::failover::FailoverLayer;
use crate::forward::ForwardLayer;
use crate::front_door::FrontDoorLayer;
use crate::inspect::InspectLayer;
use crate::limit::ClientLimitLayer;
use crate::meter::MeterUsageLayer;
use crate::models::ListModelsLayer;
use crate::observe::{self, ObserveLayer};
use crate::ownership::OwnershipLayer;
use crate::reissue::ReissueCredentialsLayer;
use crate::respond::{DrainLayer, RespondLayer};
use crate::select::SelectBackendLayer;
use crate::session::StickySessionLayer;
use crate::shed::ShedLayer;
use crate::stream_commit::StreamCommitLayer;

type Optional<L> = Either<L, Identity>;
type Front<R, B> = (ObserveLayer, DrainLayer, R, RespondLayer, Optional<FrontDoorLayer>, B, DefaultUpgrade);
type Admission<T, A> = (
    T,
    CaptureLayer,
    ShedLayer,
    InspectLayer,
    A,
    Optional<ApiVersionLayer>,
    AuthorizeLayer,
    ClientLimitLayer,
    MeterUsageLayer,
    ListModelsLayer,
);
type Attempts<P, N> = (
    Optional<OwnershipLayer>,
    Optional<StickySessionLayer>,
    FailoverLayer,
    SelectBackendLayer<P>,
    StreamCommitLayer,
    ForwardLayer,
    N,
    ReissueCredentialsLayer,
);
type Stack<T, P, R, B, A, N> = (Front<R, B>, Admission<T, A>, Attempts<P, N>);

impl<T, P, R, B, A, N> Builder<T, P, R, B, A, N> {
    /// Stacks the layers around an HTTP client.
    pub fn build<H>(self, client: H) -> Gateway
    where
        Stack<T, P, R, B, A, N>: Layer<H>,
        <Stack<T, P, R, B, A, N> as Layer<H>>::Service: Service<
                Request<Body>,
                Response = Response<observe::ResponseBody<Body>>,
                Error = Infallible,
                Future: Send + 'static,
            > + Clone
            + Send
            + Sync
            + 'static,
    {
        let usual = self.usual;
        #[cfg(feature = "client")]
        let upgrade = usual.upgrade.account(usual.inspect.account());
        #[cfg(not(feature = "client"))]
        let upgrade = usual.upgrade;
        let front = (
            usual.observe,
            DrainLayer::new(),
            self.around_answers,
            RespondLayer::new(),
            optional(usual.front_door),
            self.before_clients,
            upgrade,
        );
        let admission = (
            self.terminate,
            usual.capture,
            usual.shed,
            usual.inspect,
            self.after_inspection,
            optional(usual.api_version),
            usual.authorize.objects_decide(usual.session.is_some()),
            usual.limits,
            usual.meter,
            usual.models,
        );
        let attempts = (
            optional(usual.ownership),
            optional(usual.session),
            usual.failover,
            self.select,
            usual.stream_commit,
            usual.forward,
            self.before_backends,
            ReissueCredentialsLayer::new(),
        );
        let stack = (front, admission, attempts).layer(client);
        Gateway(BoxCloneSyncService::new(stack.map_response(|answer| answer.map(Body::new))))
    }
}

fn optional<L>(layer: Option<L>) -> Optional<L> {
    layer.map_or_else(|| Either::Right(Identity::new()), Either::Left)
}
