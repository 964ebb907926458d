use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use http_body::Body as HttpBody;
use tower_layer::Layer;
use tower_service::Service;

use super::watch::{Recorders, Watch};
use super::{ResponseBody, ResponseFuture};
use crate::context::Recorder;
use crate::context::order::{self, LayerName};

/// Tells what each request came to. See the [module docs](super).
#[derive(Clone)]
#[must_use]
pub struct ObserveLayer {
    recorders: Recorders,
    backend_headers: bool,
}

impl ObserveLayer {
    /// Ids and spans, for nobody's record yet.
    pub fn new() -> Self {
        Self { recorders: Arc::new([]), backend_headers: false }
    }

    /// Gives the records to one more recorder.
    pub fn add_recorder(mut self, recorder: impl Recorder + 'static) -> Self {
        let more: Arc<dyn Recorder> = Arc::new(recorder);
        self.recorders = self.recorders.iter().cloned().chain([more]).collect();
        self
    }

    /// Says in every answer which backend answered, by its configured name, and after how many attempts.
    pub const fn backend_headers(mut self, told: bool) -> Self {
        self.backend_headers = told;
        self
    }
}

impl Default for ObserveLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for ObserveLayer {
    type Service = Observe<S>;

    fn layer(&self, inner: S) -> Observe<S> {
        Observe { inner, layer: self.clone() }
    }
}

impl fmt::Debug for ObserveLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let recorders = self.recorders.len();
        f.debug_struct("ObserveLayer")
            .field("recorders", &recorders)
            .field("backend_headers", &self.backend_headers)
            .finish()
    }
}

/// Tells what each request came to. See the [module docs](super).
#[derive(Clone, Debug)]
pub struct Observe<S> {
    inner: S,
    layer: ObserveLayer,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for Observe<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: HttpBody,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        order::enter_without_errors(LayerName::Observe, request.extensions_mut());
        let watch = Watch::start(&mut request, self.layer.recorders.clone());
        let future = watch.span.in_scope(|| self.inner.call(request));
        ResponseFuture::new(future, watch, self.layer.backend_headers)
    }
}
