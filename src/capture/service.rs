use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower::BoxError;
use tower_service::Service;

use super::CaptureLayer;
use super::watch::{Shared, Watch, lock};
use crate::announced::Announced;
use crate::body::Body;
use crate::context::order::{self, LayerName};
use crate::context::{Client, Ending};
use crate::refusable;

/// Writes requests and answers down. See the [module docs](super).
#[derive(Clone, Debug)]
pub struct Capture<S> {
    pub(super) inner: S,
    pub(super) layer: CaptureLayer,
}

impl<S, ResBody> Service<Request<Body>> for Capture<S>
where
    S: Service<Request<Body>, Response = Response<ResBody>, Error: Into<BoxError>>,
    ResBody: HttpBody<Data = Bytes>,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let client = request.extensions().get::<Client>();
        let Some(settings) = self.layer.of(client.map(Client::id)) else {
            return ResponseFuture { future: refusable::ResponseFuture::called(self.inner.call(request)), watch: None };
        };
        if let Err(misplaced) = order::enter(LayerName::Capture, request.extensions_mut()) {
            return ResponseFuture { future: refusable::ResponseFuture::refused(misplaced), watch: None };
        }
        let watch = Box::new(Watch::start(&mut request, settings));
        let request = match watch.request() {
            Some(tape) => request.map(|body| tee(body, tape)),
            None => request,
        };
        ResponseFuture { future: refusable::ResponseFuture::called(self.inner.call(request)), watch: Some(watch) }
    }
}

/// Notes at once what is in hand, and the body stays one that can be repeated.
fn tee(body: Body, tape: Shared) -> Body {
    match body.as_bytes() {
        Some(bytes) => {
            lock(&tape).pass(bytes);
            body
        }
        None => Body::new(Tee { body, tape }),
    }
}

pin_project! {
    /// A body whose frames are noted as they pass.
    struct Tee {
        #[pin]
        body: Body,
        tape: Shared,
    }
}

impl HttpBody for Tee {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.project();
        let frame = ready!(this.body.poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            lock(this.tape).pass(data);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

pin_project! {
    /// Response future of [`Capture`].
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        // Dropped before the watch, so that what ends with it is part of the record.
        #[pin]
        future: refusable::ResponseFuture<F>,
        watch: Option<Box<Watch>>,
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: HttpBody<Data = Bytes>,
    E: Into<BoxError>,
{
    type Output = Result<Response<ResponseBody<B>>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answered = ready!(this.future.poll(cx));
        let mut watch = this.watch.take();
        match (&answered, &mut watch) {
            (Ok(answer), Some(watch)) => head(answer, watch),
            (Err(error), Some(watch)) => watch.failed(error),
            (_, None) => {}
        }
        Poll::Ready(answered.map(|answer| {
            let announced = Announced::of(answer.headers());
            answer.map(|body| ResponseBody { body, watch, announced })
        }))
    }
}

fn head<B: HttpBody>(answer: &Response<B>, watch: &mut Watch) {
    watch.answered(answer.status(), answer.headers());
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        watch.ending = Ending::Upgraded;
    } else if answer.body().is_end_stream() {
        watch.ending = Ending::Whole;
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

pin_project! {
    /// The body of a captured answer; it is written down when it is dropped, or has ended.
    pub struct ResponseBody<B> {
        #[pin]
        body: B,
        watch: Option<Box<Watch>>,
        announced: Announced,
    }
}

impl<B: HttpBody<Data = Bytes>> HttpBody for ResponseBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.body.as_mut().poll_frame(cx));
        if let Some(watch) = this.watch.as_mut() {
            if let Some(Ok(frame)) = &frame
                && let Some(data) = frame.data_ref()
            {
                watch.passed(data);
            }
            // The last frame is on its way before the record is made: that is done when the body is dropped.
            match (this.announced.ending(frame.as_ref(), &*this.body), watch.ending) {
                (Some(Ending::Broken), _) => watch.ending = Ending::Broken,
                (Some(ending), Ending::Left) => watch.ending = ending,
                _ => {}
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").finish_non_exhaustive()
    }
}
