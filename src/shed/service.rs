use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{Request, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower::BoxError;
use tower_service::Service;

use super::WAIT;
use super::layer::{Full, Place, ShedLayer};
use crate::context::order::{self, LayerName};
use crate::context::{Client, SocketFrame, priority};
use crate::error::{Error, ErrorKind};
use crate::pool::Priority;
use crate::refusable;

/// Refuses requests of lower priority while room runs out. See the [module docs](super).
#[derive(Clone, Debug)]
pub struct Shed<S> {
    pub(super) inner: S,
    pub(super) layer: ShedLayer,
}

impl<S> Shed<S> {
    /// `None` for what needs no place.
    fn admit<B>(&self, request: &mut Request<B>) -> Result<Option<Place>, Error> {
        order::enter(LayerName::Shed, request.extensions_mut())?;
        let mut headers = std::mem::take(request.headers_mut());
        let taken = priority::take(&mut headers, request.extensions_mut());
        *request.headers_mut() = headers;
        taken?;
        if request.extensions().get() == Some(&SocketFrame::Settings) {
            return Ok(None);
        }
        let priority = priority::of(request.extensions());
        let client = request.extensions().get().map(Client::id);
        self.layer.admit(priority, client).map(Some).map_err(|full| refusal(full, priority))
    }
}

fn refusal(full: Full, priority: Priority) -> Error {
    let message = match (full, priority) {
        (Full::OfOneClient, _) => {
            "This client has as many requests in progress as one client may, so that there is room for others. Wait as the headers say."
        }
        (Full::OfAll, Priority::High) => {
            "The gateway has as many requests in progress as it may. Wait as the headers say."
        }
        (Full::OfAll, Priority::Normal | Priority::Low) => {
            "The gateway is nearly full, and what room is left is for requests of higher priority. Wait as the headers say."
        }
    };
    Error::new(ErrorKind::Overloaded, message).with_retry_after(WAIT)
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for Shed<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>, Error: Into<BoxError>>,
    ResBody: HttpBody,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        match self.admit(&mut request) {
            Ok(place) => ResponseFuture { future: refusable::ResponseFuture::called(self.inner.call(request)), place },
            Err(error) => ResponseFuture { future: refusable::ResponseFuture::refused(error), place: None },
        }
    }
}

pin_project! {
    /// Response future of [`Shed`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        future: refusable::ResponseFuture<F>,
        place: Option<Place>,
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: HttpBody,
    E: Into<BoxError>,
{
    type Output = Result<Response<ResponseBody<B>>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answered = ready!(this.future.poll(cx));
        let place = this.place.take();
        Poll::Ready(answered.map(|answer| {
            // The body of an answer that switches protocols is empty, and lasts as long as the connection.
            let lasts = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
            answer.map(|body| ResponseBody::new(body, place, lasts))
        }))
    }
}

pin_project! {
    /// The body of an answer that came through [`Shed`]: holds the request's place until it ends.
    #[derive(Debug)]
    pub struct ResponseBody<B> {
        #[pin]
        inner: B,
        place: Option<Place>,
    }
}

impl<B: HttpBody> ResponseBody<B> {
    fn new(inner: B, place: Option<Place>, lasts: bool) -> Self {
        // Servers need not ask a body for more once it says that it has ended.
        let place = place.filter(|_| lasts || !inner.is_end_stream());
        Self { inner, place }
    }
}

impl<B: HttpBody> HttpBody for ResponseBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.inner.as_mut().poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) || this.inner.is_end_stream() {
            drop(this.place.take());
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.place.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
