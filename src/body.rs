//! The one body type of the crate: collected bytes, or a stream.
//!
//! Layers hand bodies to one another as [`Body`]. Making a `Body` of a `Body` is free, so a body that passes ten layers is
//! boxed at most once. A body made of [`Bytes`] is cheap to repeat: see [`Body::try_clone`].
//!
//! It is `Send` and `Sync`, whatever it is made of, and a stream of its data on demand ([`Body::into_data_stream`]), so that any
//! HTTP client can send it.

use std::any::Any;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, timeout_at};
use tower::BoxError;

/// A request or response body.
pub struct Body(Kind);

enum Kind {
    Bytes(Bytes),
    /// Part in hand, and the rest that is still to come.
    Prefixed(Box<(Bytes, Body)>),
    Stream(Exclusive),
}

impl Body {
    /// Wraps any body; one that is a [`Body`] already is returned as it is.
    pub fn new<B>(body: B) -> Self
    where
        B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let mut body = Some(body);
        if let Some(same) = (&mut body as &mut dyn Any).downcast_mut::<Option<Self>>() {
            return same.take().unwrap_or_default();
        }
        body.map_or_else(Self::empty, |body| Self(Kind::Stream(Exclusive::new(ErasedError { body }))))
    }

    /// A body without content.
    #[must_use]
    pub const fn empty() -> Self {
        Self(Kind::Bytes(Bytes::new()))
    }

    /// A second body of the same bytes, or `None` when this one is a stream, which can be read only once.
    #[must_use]
    pub fn try_clone(&self) -> Option<Self> {
        self.as_bytes().map(|bytes| Self(Kind::Bytes(bytes.clone())))
    }

    /// Returns what has not been read yet, or `None` when this is a stream.
    #[must_use]
    pub const fn as_bytes(&self) -> Option<&Bytes> {
        match &self.0 {
            Kind::Bytes(bytes) => Some(bytes),
            Kind::Prefixed(_) | Kind::Stream(_) => None,
        }
    }

    /// Returns what is in hand of the beginning of this body: all of it, or the part that was read before the rest is streamed.
    #[must_use]
    pub const fn head(&self) -> Option<&Bytes> {
        match &self.0 {
            Kind::Bytes(bytes) => Some(bytes),
            Kind::Prefixed(parts) => Some(&parts.0),
            Kind::Stream(_) => None,
        }
    }

    /// Returns what is in hand of the body, and whether that is all of it.
    pub(crate) fn in_hand(&self) -> (&[u8], bool) {
        match &self.0 {
            Kind::Bytes(bytes) => (bytes, true),
            Kind::Prefixed(parts) => (&parts.0, parts.1.is_end_stream()),
            Kind::Stream(_) => (&[], false),
        }
    }

    /// Splits what is in hand of the beginning from what follows it.
    #[must_use]
    pub fn split_head(self) -> (Bytes, Self) {
        match self.0 {
            Kind::Bytes(bytes) => (bytes, Self::empty()),
            Kind::Prefixed(parts) => *parts,
            Kind::Stream(_) => (Bytes::new(), self),
        }
    }

    /// Reads until the end, until more than `limit` bytes are in hand, or until `patience` is over, whichever comes first.
    ///
    /// Trailers are dropped from a body that was read whole. Cancelling loses what was read.
    ///
    /// # Errors
    /// The error of the body itself.
    pub async fn collect_up_to(mut self, limit: usize, patience: Duration) -> Result<Collected, BoxError> {
        if let Kind::Bytes(bytes) = self.0 {
            return Ok(Collected::Whole(bytes));
        }
        let (mut read, until) = (Joined::default(), Instant::now() + patience);
        while read.len() <= limit {
            match timeout_at(until, poll_fn(|cx| Pin::new(&mut self).poll_frame(cx))).await {
                Ok(Some(frame)) => {
                    if let Ok(data) = frame?.into_data() {
                        read.push(data);
                    }
                }
                Ok(None) => return Ok(Collected::Whole(read.into_bytes())),
                Err(_) => break,
            }
        }
        Ok(Collected::Partial(Self::prefixed(read.into_bytes(), self)))
    }

    /// Turns the body into a stream of its data, without its trailers.
    pub const fn into_data_stream(self) -> DataStream {
        DataStream(self)
    }

    /// `prefix`, then what is left of `rest`. It can be read only once.
    #[must_use]
    pub fn prefixed(prefix: Bytes, rest: Self) -> Self {
        if prefix.is_empty() {
            return rest;
        }
        Self(Kind::Prefixed(Box::new((prefix, rest))))
    }
}

/// Result of [`Body::collect_up_to`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Collected {
    /// The body was longer than the limit, or slower: all of it, what was read first.
    Partial(Body),
    /// The whole body.
    Whole(Bytes),
}

impl Collected {
    /// Returns what was read.
    pub(crate) fn start(self) -> Option<Bytes> {
        match self {
            Self::Whole(bytes) => Some(bytes),
            Self::Partial(mut body) => {
                // What was read is the first frame, which waits for nothing.
                let mut cx = Context::from_waker(Waker::noop());
                match Pin::new(&mut body).poll_frame(&mut cx) {
                    Poll::Ready(Some(Ok(frame))) => frame.into_data().ok(),
                    _ => None,
                }
            }
        }
    }
}

impl From<Collected> for Body {
    fn from(collected: Collected) -> Self {
        match collected {
            Collected::Partial(body) => body,
            Collected::Whole(bytes) => Self::from(bytes),
        }
    }
}

/// Chunks joined into one; a single chunk is not copied.
#[derive(Debug, Default)]
pub(crate) struct Joined {
    first: Bytes,
    all: BytesMut,
}

impl Joined {
    pub(crate) fn push(&mut self, chunk: Bytes) {
        if self.len() == 0 {
            self.first = chunk;
            return;
        }
        if self.all.is_empty() {
            self.all.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.all.extend_from_slice(&chunk);
    }

    pub(crate) fn len(&self) -> usize {
        self.first.len() + self.all.len()
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        if self.all.is_empty() { self.first } else { self.all.freeze() }
    }
}

// ===== impl Body =====

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.0 {
            Kind::Bytes(bytes) if bytes.is_empty() => Poll::Ready(None),
            Kind::Bytes(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Kind::Prefixed(parts) if parts.0.is_empty() => Pin::new(&mut parts.1).poll_frame(cx),
            Kind::Prefixed(parts) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut parts.0))))),
            Kind::Stream(stream) => stream.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Bytes(bytes) => bytes.is_empty(),
            Kind::Prefixed(parts) => parts.0.is_empty() && parts.1.is_end_stream(),
            Kind::Stream(stream) => stream.has_ended,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Prefixed(parts) => after(parts.0.len() as u64, &parts.1.size_hint()),
            Kind::Stream(stream) => stream.lock().size_hint(),
        }
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::empty()
    }
}

/// The length, never the content.
impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Bytes(bytes) => f.debug_struct("Body").field("len", &bytes.len()).finish(),
            Kind::Prefixed(parts) => f.debug_struct("Body").field("head", &parts.0.len()).finish_non_exhaustive(),
            Kind::Stream(_) => f.debug_struct("Body").finish_non_exhaustive(),
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self(Kind::Bytes(bytes))
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self::from(Bytes::from(bytes))
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self::from(Bytes::from(text))
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Self::from(Bytes::from_static(text.as_bytes()))
    }
}

/// Returns the size of `read` bytes and a rest of this size.
fn after(read: u64, rest: &SizeHint) -> SizeHint {
    let mut hint = SizeHint::new();
    hint.set_lower(read + rest.lower());
    if let Some(upper) = rest.upper() {
        hint.set_upper(read + upper);
    }
    hint
}

// ===== impl DataStream =====

/// The data of a [`Body`], in the pieces in which it comes; made by [`Body::into_data_stream`].
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct DataStream(Body);

impl Stream for DataStream {
    type Item = Result<Bytes, BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match ready!(Pin::new(&mut self.0).poll_frame(cx)).transpose()? {
                None => return Poll::Ready(None),
                Some(frame) => {
                    if let Ok(data) = frame.into_data() {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
            }
        }
    }
}

// ===== impl Exclusive =====

type Boxed = Pin<Box<dyn HttpBody<Data = Bytes, Error = BoxError> + Send>>;

/// A body that need not be `Sync`: a lock makes it so, which reading it through `&mut` never takes.
struct Exclusive {
    body: Mutex<Boxed>,
    /// Asked whenever something has been read. Every layer asks after each frame: were each of them to ask all those below it, and
    /// take their locks, that would cost more than what they do.
    has_ended: bool,
}

impl Exclusive {
    fn new(body: impl HttpBody<Data = Bytes, Error = BoxError> + Send + 'static) -> Self {
        let has_ended = body.is_end_stream();
        Self { body: Mutex::new(Box::pin(body)), has_ended }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let body = self.body.get_mut().unwrap_or_else(PoisonError::into_inner);
        let frame = ready!(body.as_mut().poll_frame(cx));
        self.has_ended = body.is_end_stream();
        Poll::Ready(frame)
    }

    fn lock(&self) -> MutexGuard<'_, Boxed> {
        self.body.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// ===== impl ErasedError =====

pin_project_lite::pin_project! {
    struct ErasedError<B> {
        #[pin]
        body: B,
    }
}

impl<B> HttpBody for ErasedError<B>
where
    B: HttpBody<Data = Bytes, Error: Into<BoxError>>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(self.project().body.poll_frame(cx));
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt, TryStreamExt};
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(1);

    fn stream(chunks: &[&'static str]) -> Body {
        let frames: Vec<_> =
            chunks.iter().map(|chunk| Ok::<_, BoxError>(Frame::data(Bytes::from_static(chunk.as_bytes())))).collect();
        Body::new(StreamBody::new(futures_util::stream::iter(frames)))
    }

    #[test]
    fn a_body_of_a_body_is_the_same_body() {
        let body = Body::new(Body::from("abc"));
        assert_eq!(body.as_bytes().unwrap(), "abc", "no box around bytes");
    }

    #[test]
    fn a_stream_cannot_be_cloned() {
        assert!(stream(&["a"]).try_clone().is_none());
        assert!(Body::from("a").try_clone().is_some());
    }

    #[tokio::test]
    async fn collects_up_to_the_limit_and_loses_nothing() {
        let Collected::Whole(whole) = stream(&["ab", "cd"]).collect_up_to(4, PATIENCE).await.unwrap() else {
            panic!("fits")
        };
        assert_eq!(whole, "abcd");

        let collected = stream(&["ab", "cd", "ef"]).collect_up_to(3, PATIENCE).await.unwrap();
        assert!(matches!(collected, Collected::Partial(_)));
        assert_eq!(Body::from(collected).collect().await.unwrap().to_bytes(), "abcdef");
    }

    #[tokio::test(start_paused = true)]
    async fn collects_no_longer_than_its_patience() {
        let body = Body::prefixed(
            Bytes::from("ab"),
            Body::new(StreamBody::new(futures_util::stream::pending::<Result<Frame<Bytes>, BoxError>>())),
        );
        assert!(matches!(body.collect_up_to(9, PATIENCE).await.unwrap(), Collected::Partial(_)));
    }

    #[test]
    fn debug_shows_no_content() {
        assert_eq!(format!("{:?}", Body::from("secret")), "Body { len: 6 }");
    }

    #[test]
    fn is_send_and_sync_whatever_it_is_made_of() {
        fn assert_send_and_sync<T: Send + Sync>(_: &T) {}
        let not_sync = std::cell::Cell::new("a");
        let chunks =
            futures_util::stream::once(async move { Ok::<_, BoxError>(Frame::data(Bytes::from(not_sync.get()))) });
        let body = Body::new(StreamBody::new(chunks));
        assert_send_and_sync(&body);
        assert_send_and_sync(&body.into_data_stream());
    }

    #[tokio::test]
    async fn a_data_stream_gives_the_data_in_its_pieces_and_no_trailers() {
        let trailers = Frame::trailers(http::HeaderMap::new());
        let frames = [Frame::data(Bytes::from("b")), trailers, Frame::data(Bytes::from("c"))];
        let rest = Body::new(StreamBody::new(futures_util::stream::iter(frames.map(Ok::<_, BoxError>))));
        let pieces: Vec<_> = Body::prefixed(Bytes::from("a"), rest).into_data_stream().try_collect().await.unwrap();
        assert_eq!(pieces, ["a", "b", "c"]);
        assert_eq!(Body::empty().into_data_stream().count().await, 0, "no piece of nothing");
    }

    #[tokio::test]
    async fn a_data_stream_ends_with_the_error_of_its_body() {
        let frames = [Ok(Frame::data(Bytes::from("a"))), Err(BoxError::from("cut"))];
        let mut stream = Body::new(StreamBody::new(futures_util::stream::iter(frames))).into_data_stream();
        assert_eq!(stream.next().await.unwrap().unwrap(), "a");
        assert_eq!(stream.next().await.unwrap().unwrap_err().to_string(), "cut");
    }
}
