use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, TRAILER, TRANSFER_ENCODING};
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body::{Body as HttpBody, Frame};
use http_body_util::{BodyExt, Empty};
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};
use tower::BoxError;

use super::Plan;
use super::keep_alive::KeepAlive;
use super::preamble::{Preamble, Verdict};
use crate::azure::Outcome;
use crate::azure::sse;
use crate::azure::stream_event::{HeadHint, StreamError};
use crate::below::Answering;
use crate::body::Body;
use crate::context::{Attempt, AttemptFailed, ClassifyError, DefaultClassify};
use crate::error::polled_again;
use crate::pool::ceil_ms;

const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

pin_project! {
    /// The future of [`StreamCommit`](super::StreamCommit).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProjected]
    enum State<F> {
        Called { #[pin] future: F, plan: Plan },
        Held { held: Option<Held> },
    }
}

impl<F> ResponseFuture<F> {
    pub(super) const fn new(future: F, plan: Plan) -> Self {
        Self { state: State::Called { future, plan } }
    }
}

impl<F: Answering> Future for ResponseFuture<F> {
    type Output = Result<Response<Body>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            match state.as_mut().project() {
                StateProjected::Called { future, plan } => {
                    let answer = ready!(future.poll_answer(cx))?;
                    if !is_stream(&answer) {
                        return Poll::Ready(Ok(answer));
                    }
                    if plan.bounds.is_none() {
                        return Poll::Ready(Ok(kept_alive(answer, plan.keep_alive)));
                    }
                    let held = Held::new(answer, plan);
                    state.set(State::Held { held: Some(held) });
                }
                StateProjected::Held { held } => {
                    let Some(waiting) = held else { return Poll::Ready(Err(polled_again())) };
                    let end = ready!(waiting.poll_end(cx));
                    let Some(held) = held.take() else { return Poll::Ready(Err(polled_again())) };
                    return Poll::Ready(held.settle(end));
                }
            }
        }
    }
}

fn is_stream<B>(answer: &Response<B>) -> bool {
    answer.status() == StatusCode::OK && sse::is_event_stream(answer.headers())
}

/// A stream whose client knows nothing of it yet.
struct Held {
    head: Parts,
    body: Body,
    preamble: Preamble,
    patience: Pin<Box<Sleep>>,
    plan: Plan,
}

/// End of the holding.
enum End {
    /// At a verdict, with the stream still running.
    Judged(Verdict),
    /// At the end of the stream, or what stands in place of one: its trailers.
    Over(Option<Frame<Bytes>>),
    Broken(BoxError),
}

impl Held {
    fn new(answer: Response<Body>, plan: &Plan) -> Self {
        let (head, body) = answer.into_parts();
        let bounds = plan.bounds.unwrap_or_default();
        Self { head, body, preamble: Preamble::new(&bounds), patience: Box::pin(sleep(bounds.time)), plan: *plan }
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
                ready!(self.patience.as_mut().poll(cx));
                return Poll::Ready(End::Judged(Verdict::Commit));
            };
            let frame = match frame.transpose() {
                Ok(frame) => frame,
                Err(error) => return Poll::Ready(End::Broken(error)),
            };
            match frame.map(Frame::into_data) {
                Some(Ok(data)) => {
                    if let Some(verdict) = self.preamble.push(data) {
                        return Poll::Ready(End::Judged(verdict));
                    }
                }
                Some(Err(trailers)) => return Poll::Ready(End::Over(Some(trailers))),
                None => return Poll::Ready(End::Over(None)),
            }
        }
    }

    fn settle(mut self, end: End) -> Result<Response<Body>, BoxError> {
        let verdict = match end {
            End::Judged(verdict) => verdict,
            End::Over(trailers) => {
                self.body = trailers.map_or_else(Body::empty, only_trailers);
                self.preamble.finish()
            }
            End::Broken(error) => return Err(broken(error).into()),
        };
        Ok(match verdict {
            Verdict::Refuse(error) => refuse(self.head, &error),
            Verdict::Nothing if self.plan.begins => {
                tracing::debug!("a stream ended without having delivered anything");
                let attempt = Attempt::of_mut(&mut self.head.extensions);
                (attempt.is_in_preamble, attempt.outcome) = (true, Some(Outcome::Unfinished));
                Response::from_parts(self.head, Body::prefixed(self.preamble.into_bytes(), self.body))
            }
            Verdict::Commit | Verdict::Nothing => {
                let body = Body::prefixed(self.preamble.into_bytes(), self.body);
                kept_alive(Response::from_parts(self.head, body), self.plan.keep_alive)
            }
        })
    }
}

/// Keeps a stream alive, unless its head tells a length: nothing can be added then.
fn kept_alive(answer: Response<Body>, every: Option<Duration>) -> Response<Body> {
    match every.filter(|_| !answer.headers().contains_key(CONTENT_LENGTH)) {
        Some(every) => answer.map(|body| Body::new(KeepAlive::new(body, every))),
        None => answer,
    }
}

fn only_trailers(frame: Frame<Bytes>) -> Body {
    let trailers = frame.into_trailers().ok().map(Ok);
    Body::new(Empty::new().with_trailers(std::future::ready(trailers)))
}

/// Classifies what broke a stream; what nobody can classify is an answer that was cut.
fn broken(error: BoxError) -> AttemptFailed {
    let outcome = match DefaultClassify.classify(error.as_ref()) {
        outcome @ (Outcome::Abandoned | Outcome::TimedOut(_)) => outcome,
        _ => Outcome::Reset,
    };
    AttemptFailed::new(outcome, error).in_preamble()
}

fn refuse(mut head: Parts, error: &StreamError) -> Response<Body> {
    tracing::debug!(status = %error.status(), "a stream was refused in its preamble");
    head.status = error.status();
    Attempt::of_mut(&mut head.extensions).is_in_preamble = true;
    for framing in [CONTENT_LENGTH, TRAILER, TRANSFER_ENCODING] {
        head.headers.remove(framing);
    }
    head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(wait) = error.hint().filter(|_| !names_a_wait(&head.headers)) {
        head.headers.insert(RETRY_AFTER_MS, HeaderValue::from(ceil_ms(wait)));
    }
    Response::from_parts(head, Body::from(error.body().clone()))
}

fn names_a_wait(headers: &HeaderMap) -> bool {
    HeadHint::of(headers, SystemTime::now()).is_named()
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
