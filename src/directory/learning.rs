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
use crate::azure::object_id::{AnswerScan, Answered, EventScan, Family, ObjectId, Sealed};
use crate::body::{Body, Joined};
use crate::context::{Client, EphemeralKeys};
use crate::pool::BoxFuture;

/// Length up to which an answer that issues an ephemeral key is read for it.
const KEY_BODY: usize = 256 * 1024;

/// Something that is learned of a backend.
#[derive(Debug)]
pub(crate) struct Note {
    key: ObjectKey,
    lifetime: Duration,
    /// True if the answer made it; what is merely mentioned or found never overwrites that.
    is_certain: bool,
    is_owned: bool,
    /// True if the answer tells by which model it goes on from now.
    takes_model: bool,
}

impl Note {
    /// The object was made by the answer that tells it.
    pub(crate) fn made(id: &ObjectId) -> Self {
        Self { is_certain: true, ..Self::mentioned(id) }
    }

    /// The answer's own object.
    fn own(id: &ObjectId, lesson: Lesson) -> Self {
        let takes_model = lesson.models && id.family().keeps_model();
        Self { is_certain: lesson.makes, takes_model, ..Self::mentioned(id) }
    }

    /// The object is known to a backend, which need not be the one that made it.
    pub(crate) fn mentioned(id: &ObjectId) -> Self {
        let (key, lifetime) = (ObjectKey::of(id.as_str()), id.family().lifetime());
        Self { key, lifetime, is_certain: false, is_owned: true, takes_model: false }
    }

    /// The content can be read by the backend. It belongs to whoever has it.
    pub(crate) fn sealed(content: &Sealed) -> Self {
        let key = ObjectKey::of_sealed(content);
        Self { key, lifetime: SEALED_TIME, is_certain: true, is_owned: false, takes_model: false }
    }
}

/// Time for which it is remembered who can read a content: as long as a conversation is likely to go on.
const SEALED_TIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Objects worth remembering of which an answer tells.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Lesson {
    /// Family of the answer itself where its prefix does not say.
    pub(crate) family: Option<Family>,
    /// True if the answer makes what it is called by.
    pub(crate) makes: bool,
    /// True if the object that it is called by goes on with the model of its request.
    pub(crate) models: bool,
    /// True if ids that it tells are kept.
    pub(crate) is_stored: bool,
    /// True if it tells the id of what is said aloud.
    pub(crate) speaks: bool,
}

impl Lesson {
    /// Returns what is to be remembered of an answer in hand.
    pub(crate) fn of(self, answer: &[u8]) -> Vec<Note> {
        self.notes(&Answered::read(answer, self.family))
    }

    /// Tells whether nothing new follows a chunk of a chat completion: all of them repeat its id.
    fn is_over_with(self, chunk: &Answered) -> bool {
        let has_spoken = !self.speaks || !chunk.spoken().is_empty();
        let has_told = !self.is_stored || chunk.is_not_stored() || !chunk.ids().is_empty();
        has_spoken && has_told
    }

    fn notes(self, answered: &Answered) -> Vec<Note> {
        let ids = if self.is_stored { answered.ids() } else { &[] };
        let own = answered.own();
        let ids = ids.iter().map(|id| if Some(id) == own { Note::own(id, self) } else { Note::mentioned(id) });
        let spoken = answered.spoken().iter().map(Note::made);
        ids.chain(spoken).chain(answered.sealed().iter().map(Note::sealed)).collect()
    }
}

/// Place in which what an answer tells is remembered, and for whom.
#[derive(Clone, Debug)]
pub(crate) struct Notebook {
    pub(crate) store: Arc<dyn SessionStore>,
    pub(crate) backend: Arc<str>,
    pub(crate) owner: Option<Arc<str>>,
    /// In whose share of the store.
    pub(crate) client: Arc<str>,
    /// The alias by which the answer's own object goes on.
    pub(crate) alias: Option<Arc<str>>,
}

impl Notebook {
    /// Remembers, as far as the store takes it in time.
    pub(crate) async fn remember(self, notes: Vec<Note>) {
        if !notes.is_empty() {
            warn(self.enter(&notes).await);
        }
    }

    async fn enter(&self, notes: &[Note]) -> Result<(), BoxError> {
        let mentioned: Vec<_> = notes.iter().filter(|note| !note.is_certain).map(|note| note.key).collect();
        let known = if mentioned.is_empty() { Vec::new() } else { in_time(self.store.look_up_all(mentioned)).await? };
        let mut known = known.into_iter();
        let object = |note: &Note| {
            let known = if note.is_certain { None } else { known.next().flatten() };
            let is_here = known.as_ref().is_none_or(|known| known.backend == self.backend);
            is_here.then(|| (note.key, self.object(note, known), note.lifetime))
        };
        let objects: Vec<_> = notes.iter().filter_map(object).collect();
        in_time(self.store.remember_all(objects)).await
    }

    fn object(&self, note: &Note, known: Option<Remembered>) -> Remembered {
        let owner = self.owner.clone().filter(|_| note.is_owned);
        let alias = if note.takes_model { self.alias.clone() } else { known.and_then(|known| known.alias) };
        Remembered::on(self.backend.clone()).owner(owner).on_behalf_of(Some(self.client.clone())).made_by(alias)
    }
}

/// Place in which the key that an answer issues is remembered, and for whom.
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
    /// Objects that were remembered of late: what an event tells, the last one repeats.
    noted: Vec<ObjectKey>,
    /// Ids on their way into the store.
    writing: Option<BoxFuture<()>>,
    /// The frame that waits for them.
    waiting: Option<Frame<Bytes>>,
    has_ended: bool,
}

/// Number of remembered objects that are known within one answer.
const NOTED: usize = 64;

enum Reader {
    Done,
    Events { scan: Box<EventScan>, lesson: Lesson },
    Json { scan: Box<AnswerScan>, lesson: Lesson },
    Key { read: Joined, ledger: Ledger },
}

impl LearningBody {
    pub(crate) fn events(inner: Body, lesson: Lesson, notebook: Notebook) -> Self {
        Self::new(inner, Reader::Events { scan: Box::default(), lesson }, notebook)
    }

    pub(crate) fn json(inner: Body, lesson: Lesson, notebook: Notebook) -> Self {
        Self::new(inner, Reader::Json { scan: Box::new(AnswerScan::new(lesson.family)), lesson }, notebook)
    }

    pub(crate) fn key(inner: Body, ledger: Ledger, notebook: Notebook) -> Self {
        Self::new(inner, Reader::Key { read: Joined::default(), ledger }, notebook)
    }

    const fn new(inner: Body, reader: Reader, notebook: Notebook) -> Self {
        Self { inner, reader, notebook, noted: Vec::new(), writing: None, waiting: None, has_ended: false }
    }

    /// Starts to remember what was found; whether there is anything to wait for.
    fn note(&mut self, mut notes: Vec<Note>) -> bool {
        notes.retain(|note| !self.noted.contains(&note.key));
        if notes.is_empty() {
            return false;
        }
        let room = NOTED.saturating_sub(self.noted.len());
        self.noted.extend(notes.iter().map(|note| note.key).take(room));
        self.writing = Some(Box::pin(self.notebook.clone().remember(notes)));
        true
    }
}

impl Reader {
    /// Returns what ends in this chunk; `last` when nothing follows it.
    fn read(&mut self, chunk: &Bytes, last: bool) -> Vec<Note> {
        match self {
            Self::Done => Vec::new(),
            Self::Events { scan, lesson } => {
                let (mut rest, mut found, mut done) = (&chunk[..], Vec::new(), false);
                while let Some((answered, is_chunk)) = scan.next_event(&mut rest) {
                    found.extend(lesson.notes(&answered));
                    lesson.is_stored &= !answered.is_not_stored();
                    done |= is_chunk && lesson.is_over_with(&answered);
                }
                if done {
                    *self = Self::Done;
                }
                found
            }
            Self::Json { scan, .. } => {
                scan.feed(chunk);
                if last { self.finish() } else { Vec::new() }
            }
            Self::Key { read, .. } => {
                read.push(chunk.clone());
                if last || read.len() >= KEY_BODY { self.finish() } else { Vec::new() }
            }
        }
    }

    fn finish(&mut self) -> Vec<Note> {
        match std::mem::replace(self, Self::Done) {
            Self::Json { scan, lesson } => lesson.notes(&scan.finish()),
            Self::Key { read, ledger } => {
                ledger.enter(&read.into_bytes());
                Vec::new()
            }
            Self::Done | Self::Events { .. } => Vec::new(),
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
                    let notes = frame.data_ref().map(|data| self.reader.read(data, last)).unwrap_or_default();
                    if !self.note(notes) {
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
                    let notes = self.reader.finish();
                    self.note(notes);
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let is_read = match &self.reader {
            Reader::Json { scan, .. } => !scan.has_begun(),
            Reader::Key { read, .. } => read.len() == 0,
            Reader::Done | Reader::Events { .. } => true,
        };
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
