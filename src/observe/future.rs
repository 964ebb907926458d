use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::watch::Watch;
use crate::announced::Announced;
use crate::context::{Ending, Observation, RequestId};

/// The header that client libraries show as the id of a request.
const SHOWN_ID: HeaderName = HeaderName::from_static("x-request-id");
const BACKEND: HeaderName = HeaderName::from_static("x-gateway-backend");
const ATTEMPTS: HeaderName = HeaderName::from_static("x-gateway-attempts");

pin_project! {
    /// The future of [`Observe`](super::Observe).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        // Dropped before the watch, so that an attempt that ends with it is part of the record.
        #[pin]
        future: F,
        watch: Option<Watch>,
        backend_headers: bool,
    }
}

impl<F> ResponseFuture<F> {
    pub(super) const fn new(future: F, watch: Watch, backend_headers: bool) -> Self {
        Self { future, watch: Some(watch), backend_headers }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: HttpBody,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let entered = this.watch.as_ref().map(|watch| watch.span.enter());
        let answered = ready!(this.future.poll(cx));
        drop(entered);
        let watch = this.watch.take();
        Poll::Ready(match answered {
            Ok(answer) => Ok(observed(answer, watch, *this.backend_headers)),
            Err(error) => {
                if let Some(mut watch) = watch {
                    watch.ending = Ending::Failed;
                }
                Err(error)
            }
        })
    }
}

fn observed<B: HttpBody>(
    mut answer: Response<B>,
    mut watch: Option<Watch>,
    backend_headers: bool,
) -> Response<ResponseBody<B>> {
    if let Some(watch) = &mut watch {
        watch.answered(answer.status());
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            watch.ending = Ending::Upgraded;
        } else if watch.has_no_body() || answer.body().is_end_stream() {
            watch.ending = Ending::Whole;
        }
        add_id(answer.headers_mut(), &watch.id);
        if backend_headers {
            add_backend(answer.headers_mut(), &watch.observation);
        }
    }
    let announced = Announced::of(answer.headers());
    answer.map(|body| ResponseBody { body, watch, announced })
}

fn add_id(headers: &mut HeaderMap, id: &RequestId) {
    headers.insert(RequestId::HEADER, id.as_header().clone());
    headers.entry(SHOWN_ID).or_insert_with(|| id.as_header().clone());
}

fn add_backend(headers: &mut HeaderMap, observation: &Observation) {
    let attempts = observation.attempts();
    let backend = attempts.last().and_then(|last| HeaderValue::from_str(last.target.backend()).ok());
    if let Some(backend) = backend {
        headers.insert(BACKEND, backend);
    }
    headers.insert(ATTEMPTS, HeaderValue::from(attempts.len()));
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

pin_project! {
    /// The body of an observed answer; the record is given when it is dropped, or has ended.
    pub struct ResponseBody<B> {
        #[pin]
        body: B,
        watch: Option<Watch>,
        announced: Announced,
    }
}

impl<B: HttpBody> HttpBody for ResponseBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let entered = this.watch.as_ref().map(|watch| watch.span.enter());
        let frame = ready!(this.body.as_mut().poll_frame(cx));
        drop(entered);
        if let Some(Ok(frame)) = &frame
            && frame.data_ref().is_some_and(Buf::has_remaining)
            && let Some(watch) = this.watch.as_mut()
        {
            watch.passed();
        }
        if let Some(ending) = this.announced.ending(frame.as_ref(), &*this.body)
            && let Some(mut watch) = this.watch.take()
            && watch.ending != Ending::Upgraded
        {
            watch.ending = ending;
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
