use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tower::BoxError;

use super::store::{ObjectKey, Remembered, SessionStore, in_time, warn};
use crate::azure::client_secret::ClientSecret;
use crate::azure::object_id::{Answered, Family, ObjectId};
use crate::azure::sse;
use crate::body::{Body, Joined};
use crate::context::{Client, EphemeralKeys};
use crate::pool::BoxFuture;

/// How much of a JSON answer is read for ids: they stand in front of what was written.
pub const LEARNED_BODY: usize = 256 * 1024;
/// The longest event that is read for ids.
pub const LEARNED_EVENT: usize = 256 * 1024;

/// Where what an answer tells is remembered, and for whom.
#[derive(Clone, Debug)]
pub(crate) struct Notebook {
    pub(crate) store: Arc<dyn SessionStore>,
    pub(crate) backend: Arc<str>,
    pub(crate) owner: Option<Arc<str>>,
}

impl Notebook {
    /// Remembers ids; the first that the store does not take in time ends it.
    pub(crate) async fn remember(self, ids: Vec<ObjectId>) {
        for id in &ids {
            let object = Remembered { backend: self.backend.clone(), owner: self.owner.clone() };
            let written =
                in_time(self.store.remember(ObjectKey::of(id.as_str()), object, id.family().lifetime())).await;
            let is_out_of_reach = written.is_err();
            warn(written);
            if is_out_of_reach {
                break;
            }
        }
    }
}

/// Where the key that an answer issues is remembered, and for whom.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) keys: EphemeralKeys,
    pub(crate) client: Option<Client>,
    pub(crate) backend: Arc<str>,
}

impl Ledger {
    pub(crate) fn enter(self, answer: &[u8]) {
        let Some(secret) = ClientSecret::read(answer) else { return };
        let end = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(secret.expires_at));
        let left = end.and_then(|end| end.duration_since(SystemTime::now()).ok()).unwrap_or_default();
        self.keys.remember(&secret.value, self.client, self.backend, left);
    }
}

/// An answer that is read as it passes. A frame that tells an id is passed on once that id is remembered, so that no client
/// comes back earlier; no other frame waits for anything.
pub(crate) struct LearningBody {
    inner: Body,
    reader: Reader,
    notebook: Notebook,
    /// Ids on their way into the store.
    writing: Option<BoxFuture<()>>,
    /// The frame that waits for them.
    waiting: Option<Frame<Bytes>>,
    has_ended: bool,
}

enum Reader {
    Done,
    Events(sse::Reader),
    Json { read: Joined, family: Option<Family> },
    Key { read: Joined, ledger: Ledger },
}

impl LearningBody {
    pub(crate) fn events(inner: Body, notebook: Notebook) -> Self {
        Self::new(inner, Reader::Events(sse::Reader::new(LEARNED_EVENT)), notebook)
    }

    pub(crate) fn json(inner: Body, family: Option<Family>, notebook: Notebook) -> Self {
        Self::new(inner, Reader::Json { read: Joined::default(), family }, notebook)
    }

    pub(crate) fn key(inner: Body, ledger: Ledger, notebook: Notebook) -> Self {
        Self::new(inner, Reader::Key { read: Joined::default(), ledger }, notebook)
    }

    const fn new(inner: Body, reader: Reader, notebook: Notebook) -> Self {
        Self { inner, reader, notebook, writing: None, waiting: None, has_ended: false }
    }

    /// Starts to remember what was found; whether there is anything to wait for.
    fn note(&mut self, ids: Vec<ObjectId>) -> bool {
        if ids.is_empty() {
            return false;
        }
        self.writing = Some(Box::pin(self.notebook.clone().remember(ids)));
        true
    }
}

impl Reader {
    /// The ids that end in this chunk; `last` when nothing follows it.
    fn read(&mut self, chunk: &Bytes, last: bool) -> Vec<ObjectId> {
        match self {
            Self::Done => Vec::new(),
            Self::Events(reader) => {
                let (mut rest, mut found, mut done) = (&chunk[..], Vec::new(), false);
                while let Some(event) = reader.next_event(&mut rest) {
                    let Ok(event) = event else { continue };
                    let Some(data) = event.data() else { continue };
                    let answered = Answered::read_event(event.name(), &data);
                    found.extend(answered.ids().iter().cloned());
                    // The chunks of a chat completion all repeat its id.
                    done |= answered.is_not_stored() || (event.name().is_none() && !answered.ids().is_empty());
                }
                if done {
                    *self = Self::Done;
                }
                found
            }
            Self::Json { read, .. } | Self::Key { read, .. } => {
                read.push(chunk.clone());
                if last || read.len() >= LEARNED_BODY { self.finish() } else { Vec::new() }
            }
        }
    }

    fn finish(&mut self) -> Vec<ObjectId> {
        match std::mem::replace(self, Self::Done) {
            Self::Json { read, family } => Answered::read(&read.into_bytes(), family).ids().to_vec(),
            Self::Key { read, ledger } => {
                ledger.enter(&read.into_bytes());
                Vec::new()
            }
            Self::Done | Self::Events(_) => Vec::new(),
        }
    }
}

impl HttpBody for LearningBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            if let Some(writing) = &mut self.writing {
                ready!(writing.as_mut().poll(cx));
                self.writing = None;
            }
            if let Some(frame) = self.waiting.take() {
                return Poll::Ready(Some(Ok(frame)));
            }
            if self.has_ended {
                return Poll::Ready(None);
            }
            match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    let last = self.inner.is_end_stream();
                    let ids = frame.data_ref().map(|data| self.reader.read(data, last)).unwrap_or_default();
                    if !self.note(ids) {
                        return Poll::Ready(Some(Ok(frame)));
                    }
                    self.waiting = Some(frame);
                }
                Some(Err(error)) => {
                    self.reader = Reader::Done;
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    self.has_ended = true;
                    let ids = self.reader.finish();
                    self.note(ids);
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let is_read = !matches!(&self.reader, Reader::Json { read, .. } | Reader::Key { read, .. } if read.len() > 0);
        self.writing.is_none() && self.waiting.is_none() && is_read && (self.has_ended || self.inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let waiting = self.waiting.as_ref().and_then(Frame::data_ref).map_or(0, |data| data.len() as u64);
        let inner = self.inner.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + waiting);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + waiting);
        }
        hint
    }
}

impl fmt::Debug for LearningBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LearningBody").field("notebook", &self.notebook).finish_non_exhaustive()
    }
}
