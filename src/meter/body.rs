use std::fmt;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http_body::{Body as HttpBody, Frame, SizeHint};
use memchr::memmem::Finder;
use tower::BoxError;

use super::account::Account;
use super::asking::Unasked;
use crate::azure::estimate::Text;
use crate::azure::media_type::MediaType;
use crate::azure::sse;
use crate::azure::usage::{AnswerReader, Reported, mentions_usage};
use crate::body::Body;
use crate::context::SocketEvents;
use crate::pool::Target;

/// Length of the longest event that is read: 1 MiB. One that sums up a long answer comes as a whole.
const LONGEST_EVENT: usize = 1024 * 1024;

/// The body of an answer that is metered. What comes arrives unchanged and at once.
pub struct ResponseBody {
    inner: Body,
    reader: Reader,
    account: Account,
    /// Takes out what the client did not ask for.
    unasked: Option<Unasked>,
    /// The frame that waits until it is known whether somebody else has counted what it tells.
    waiting: Option<MaybeFrame>,
}

type MaybeFrame = Option<Result<Frame<Bytes>, BoxError>>;

#[expect(clippy::large_enum_variant, reason = "a box would be an allocation for each answer")]
enum Reader {
    Done,
    Events(sse::Reader),
    Json(AnswerReader),
}

impl ResponseBody {
    /// The same answer, metered if it can be read.
    pub(super) fn around(answer: Response<Body>, mut account: Account) -> Response<Body> {
        let Some(reader) = Reader::of(&answer) else { return answer };
        account.served_by(answer.extensions().get::<Target>().cloned());
        let unasked = (account.asks() && matches!(reader, Reader::Events(_))).then(Unasked::default);
        let (mut parts, inner) = answer.into_parts();
        if unasked.is_some() {
            parts.headers.remove(CONTENT_LENGTH);
        }
        let mut body = Self { inner, reader, account, unasked, waiting: None };
        let body = match body.inner.as_bytes().cloned() {
            // Servers need not ask a body for more once it says that it has ended, and nobody leaves one that is in hand.
            Some(bytes) => {
                body.pass(&bytes);
                body.end();
                if body.account.waits() {
                    return Response::from_parts(parts, Body::new(body));
                }
                body.unasked
                    .take()
                    .map_or(bytes.clone(), |mut unasked| {
                        [unasked.pass(bytes), unasked.finish().unwrap_or_default()].concat().into()
                    })
                    .into()
            }
            None => Body::new(body),
        };
        Response::from_parts(parts, body)
    }

    fn pass(&mut self, chunk: &[u8]) {
        match &mut self.reader {
            Reader::Done => {}
            Reader::Json(reader) => reader.push(chunk),
            Reader::Events(events) => read_events(events, chunk, &mut self.account),
        }
    }

    /// Returns what the client gets to see of a frame; `None` when it is to see nothing of it.
    fn shown(&mut self, frame: MaybeFrame) -> Option<MaybeFrame> {
        let Some(unasked) = &mut self.unasked else { return Some(frame) };
        match frame {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    Some(unasked.pass(data)).filter(|data| !data.is_empty()).map(|data| Some(Ok(Frame::data(data))))
                }
                Err(trailers) => Some(Some(Ok(trailers))),
            },
            Some(Err(error)) => Some(Some(Err(error))),
            None => {
                let rest = unasked.finish();
                self.unasked = None;
                Some(rest.map(|rest| Ok(Frame::data(rest))))
            }
        }
    }

    fn end(&mut self) {
        match std::mem::replace(&mut self.reader, Reader::Done) {
            Reader::Done => {}
            Reader::Json(reader) => {
                if let Some(reported) = reader.finish() {
                    self.account.tell(&reported, true);
                }
            }
            Reader::Events(mut events) => {
                if let Some(event) = events.finish() {
                    read_event(&event, &mut self.account);
                }
                self.account.end_stream();
            }
        }
    }
}

impl Reader {
    /// For a success whose body can be read, and for a WebSocket whose events pass its body.
    fn of(answer: &Response<Body>) -> Option<Self> {
        if answer.extensions().get::<SocketEvents>().is_some() {
            return Some(Self::Events(sse::Reader::new(LONGEST_EVENT)));
        }
        if !answer.status().is_success() {
            return None;
        }
        if sse::is_event_stream(answer.headers()) {
            return Some(Self::Events(sse::Reader::new(LONGEST_EVENT)));
        }
        // Whatever has no type is read too: what is not JSON tells nothing.
        let may_be_json = MediaType::of(answer.headers()).is_none_or(|kind| kind.is("application/json"));
        (may_be_json && !answer.headers().contains_key(CONTENT_ENCODING)).then(|| Self::Json(AnswerReader::new()))
    }
}

fn read_events(events: &mut sse::Reader, mut chunk: &[u8], account: &mut Account) {
    if !account.reads_text() {
        account.pass_unread();
    }
    if !account.reads_text() && !mentions_usage(chunk) && events.skip(chunk) {
        return;
    }
    while let Some(event) = events.next_event(&mut chunk) {
        if let Ok(event) = event {
            read_event(&event, account);
        }
    }
}

fn read_event(event: &sse::Event<'_>, account: &mut Account) {
    if let Some(reported) = Reported::of_event(event) {
        account.tell(&reported, tells_all(event));
    } else if account.reads_text() {
        account.write(Text::of_event(event));
    }
}

/// Tells whether figures are the last of their stream: some servers tell running counts with every chunk, and Anthropic's messages what
/// their prompt used before they begin.
fn tells_all(event: &sse::Event<'_>) -> bool {
    match event.name() {
        None | Some(b"message") => {
            NO_CHOICES.find(event.as_bytes()).is_some() || CHOICES.find(event.as_bytes()).is_none()
        }
        Some(name) => name != b"message_start",
    }
}

static CHOICES: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"choices\""));
static NO_CHOICES: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"choices\":[]"));

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            ready!(self.account.poll_claim(cx));
            if let Some(frame) = self.waiting.take() {
                return Poll::Ready(frame);
            }
            let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
            if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()) {
                self.pass(data);
            }
            match &frame {
                Some(Ok(_)) if self.unasked.is_some() || !self.inner.is_end_stream() => {}
                Some(Err(_)) => {
                    self.reader = Reader::Done;
                    self.account.end_stream();
                }
                _ => self.end(),
            }
            let shown = self.shown(frame);
            if self.account.waits() {
                self.waiting = shown;
            } else if let Some(frame) = shown {
                return Poll::Ready(frame);
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let has_told_all = !self.account.waits() && self.waiting.is_none();
        has_told_all && self.unasked.is_none() && matches!(self.reader, Reader::Done) && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.unasked.is_some() { SizeHint::default() } else { self.inner.size_hint() }
    }
}

/// A client that leaves pays for what it got.
impl Drop for ResponseBody {
    fn drop(&mut self) {
        // An object that has passed whole is there, whether or not its client waited for the end.
        if matches!(self.reader, Reader::Json(_)) {
            self.end();
        }
        self.account.finish_claim();
        if matches!(self.reader, Reader::Events(_)) {
            self.account.end_stream();
        }
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").finish_non_exhaustive()
    }
}
