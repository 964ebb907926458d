//! Subject of a request: which objects it refers to, and whether it makes or lists any.

use http::{Method, Request, Uri};
use memchr::memchr2_iter;

use super::learning;
use crate::azure::json_text::may_have_word;
use crate::azure::media_type::MediaType;
use crate::azure::object_id::{Family, MAX_LEN, ObjectId, References, Sealed, is_plain};
use crate::azure::operation::{ModelPlace, Operation};
use crate::body::Body;
use crate::context::{Route, is_sdp};
use crate::error::{Error, ErrorKind};
use crate::headers::query_parameters;

/// Subject of a request: the objects that it is about.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) route: Route,
    /// Ids that the backend must know.
    pub(crate) named: Vec<Named>,
    /// Ids that the backend may know.
    pub(crate) repeated: Vec<ObjectId>,
    /// Content in it that only one backend reads, the last of it last.
    pub(crate) sealed: Vec<Sealed>,
    /// True if what stands where ids belong was read to its end.
    pub(crate) extent: Extent,
    /// True if it makes or lists objects that are kept.
    pub(crate) is_kept: bool,
    /// Objects of which its answer tells.
    pub(crate) lesson: Taught,
    /// True if it asks for a list of objects that belong to somebody.
    pub(crate) is_list: bool,
}

/// Extent to which the ids of a body were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Something that is too long for an id stands where one belongs.
    Oversized,
    /// There are more than are read.
    Truncated,
    Whole,
}

/// An object that a request refers to.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) id: ObjectId,
    /// The call that reads it, if there is one.
    pub(crate) read: Option<Uri>,
}

/// Lesson of a successful answer.
#[derive(Debug, PartialEq)]
pub(crate) enum Taught {
    /// The realtime call that its `Location` leads to.
    Call,
    /// The object is gone.
    Gone(ObjectId),
    /// The key of a realtime session.
    Key,
    Nothing,
    /// Ids, and content that only one backend reads.
    Told(learning::Lesson),
}

impl Subject {
    /// Reads a request. A body that cannot be read refers to nothing.
    ///
    /// # Errors
    /// The route's own.
    pub(crate) fn read(request: &Request<Body>) -> Result<Self, Error> {
        let (method, uri) = (request.method(), request.uri());
        let route = Route::find_or_parse(request.extensions(), method, uri)?;
        let references = references(request, &route);
        let mut subject = Self {
            named: Vec::new(),
            repeated: references.repeated().to_vec(),
            sealed: references.sealed().to_vec(),
            extent: extent(&references),
            is_kept: is_kept(method, route.operation()),
            lesson: Taught::Nothing,
            is_list: false,
            route,
        };
        let in_path = subject.in_path();
        let in_query = if in_path.is_none() && method == Method::GET { subject.in_query(uri) } else { Vec::new() };
        subject.lesson = subject.lesson_of(method, uri.path(), in_path.as_ref(), &references);
        subject.is_list = subject.is_kept && method == Method::GET && subject.route.object_ids().len() == 0;
        let surface = subject.route.surface();
        // Of more ids than anybody reads, none is worth asking for.
        let readable = |id: &ObjectId| id.read_path(surface).filter(|_| !references.is_truncated());
        // The job of a video, say, is not read where videos are.
        let stands_at_home = |id: &ObjectId| subject.route.collection() == id.family().collection();
        let in_path = in_path.map(|id| (readable(&id).filter(|_| stands_at_home(&id)), id));
        let elsewhere = in_query.into_iter().chain(references.ids().iter().cloned()).map(|id| (readable(&id), id));
        let mut query = None;
        for (path, id) in in_path.into_iter().chain(elsewhere) {
            if !subject.named.iter().any(|named| named.id == id) {
                let query = query.get_or_insert_with(|| api_version(uri));
                let read = path.and_then(|path| Uri::try_from(format!("{path}{query}")).ok());
                subject.named.push(Named { id, read });
            }
        }
        Ok(subject)
    }

    /// Tells whether a text is among what the request refers to.
    pub(crate) fn names(&self, text: &str) -> bool {
        self.named.iter().any(|named| named.id.as_str() == text)
    }

    /// Tells whether the request has nothing to do with objects.
    pub(crate) fn is_stateless(&self) -> bool {
        self.named.is_empty()
            && self.repeated.is_empty()
            && self.sealed.is_empty()
            && self.lesson == Taught::Nothing
            && !self.is_kept
    }

    /// Tells whether the answer is the key of a realtime session.
    pub(crate) fn issues_key(&self, method: &Method, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        let issues = ["/realtime/client_secrets", "/realtime/sessions"].iter().any(|end| path.ends_with(end));
        method == Method::POST && self.route.operation() == Operation::Realtime && issues
    }

    /// The first id of the path: what lies inside an object is reached through it.
    fn in_path(&self) -> Option<ObjectId> {
        let text = self.route.object_ids().next()?;
        self.family().and_then(|family| ObjectId::new(family, text))
    }

    /// The ids from which a list goes on, or the call that a realtime session joins.
    fn in_query(&self, uri: &Uri) -> Vec<ObjectId> {
        let is_realtime = self.route.operation() == Operation::Realtime;
        let Some(family) = self.family().or(is_realtime.then_some(Family::Call)) else { return Vec::new() };
        let holds_id = |name: &str| if is_realtime { name == "call_id" } else { matches!(name, "after" | "before") };
        let parameters = query_parameters(uri.query().unwrap_or_default());
        parameters.filter(|(name, ..)| holds_id(name)).filter_map(|(_, id, _)| ObjectId::new(family, &id)).collect()
    }

    fn lesson_of(&self, method: &Method, path: &str, in_path: Option<&ObjectId>, references: &References) -> Taught {
        let last = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let alone = self.route.object_ids().len() == 1 && in_path.is_some_and(|id| id.as_str() == last);
        let is_collection = self.route.object_ids().len() == 0;
        // What lies inside an object tells its own kind by its prefix only.
        let goes_on = self.route.model_place() == ModelPlace::Object;
        let family = self.family().filter(|_| is_collection || alone || goes_on);
        let makes = method == Method::POST && (in_path.is_none() || goes_on);
        // A name that is put nowhere changes no object.
        let remodels =
            method == Method::POST && alone && self.route.alias().is_some() && self.route.named_at().is_some();
        let models = makes || remodels;
        let is_stored = references.store() != Some(false);
        let speaks = references.speaks();
        let told = |is_stored| Taught::Told(learning::Lesson { family, makes, models, is_stored, speaks });
        match self.route.operation() {
            _ if method == Method::DELETE => {
                in_path.filter(|_| alone).map_or(Taught::Nothing, |id| Taught::Gone(id.clone()))
            }
            Operation::Responses => told(is_stored),
            Operation::Realtime if makes && last == "calls" => Taught::Call,
            Operation::ChatCompletions if method == Method::POST && references.store() != Some(true) => {
                if speaks {
                    told(false)
                } else {
                    Taught::Nothing
                }
            }
            Operation::ChatCompletions => told(true),
            _ if !is_stored => Taught::Nothing,
            _ if self.is_kept => told(true),
            _ => Taught::Nothing,
        }
    }

    /// The family whose objects lie where the path leads.
    pub(crate) fn family(&self) -> Option<Family> {
        self.route.collection().and_then(Family::of_collection)
    }

    /// Tells whether nobody here knows what a path would reach.
    pub(crate) fn is_out_of_sight(&self) -> bool {
        self.route.operation() == Operation::Other || (self.is_list && self.family().is_none())
    }
}

/// Tells whether objects are made, changed or listed that stay.
fn is_kept(method: &Method, operation: Operation) -> bool {
    match operation {
        Operation::Assistants
        | Operation::AudioVoices
        | Operation::Batches
        | Operation::ChatKit
        | Operation::Containers
        | Operation::Conversations
        | Operation::Evals
        | Operation::Files
        | Operation::FineTuning
        | Operation::Ingestion
        | Operation::Skills
        | Operation::Threads
        | Operation::Uploads
        | Operation::VectorStores
        | Operation::Videos => true,
        // Answers may be made anywhere, and are kept where they were made.
        Operation::ChatCompletions | Operation::Responses => method != Method::POST,
        _ => false,
    }
}

/// Returns what the body refers to.
fn references(request: &Request<Body>, route: &Route) -> References {
    let (headers, operation) = (request.headers(), route.operation());
    let is_offer = operation == Operation::Realtime && is_sdp(headers);
    let (bytes, is_whole) = request.body().in_hand();
    if let Some(form) = MediaType::of(headers).filter(MediaType::is_multipart) {
        return form
            .boundary()
            .map_or_else(|_| References::default(), |boundary| References::read_form(operation, boundary, bytes));
    }
    if bytes.is_empty() || is_offer || !may_refer(operation, bytes) {
        return References::default();
    }
    match is_whole {
        true => References::read(operation, bytes).unwrap_or_default(),
        false => References::read_start(operation, bytes),
    }
}

const fn extent(references: &References) -> Extent {
    match (references.is_oversized(), references.is_truncated()) {
        (true, _) => Extent::Oversized,
        (false, true) => Extent::Truncated,
        (false, false) => Extent::Whole,
    }
}

/// Tells whether a body is worth reading. Most calls without state name no object at all, which is much quicker to see than to parse.
fn may_refer(operation: Operation, body: &[u8]) -> bool {
    let seldom = matches!(operation, Operation::ChatCompletions | Operation::ImagesEdits);
    // `file_id` and the like, and any escape by which they could be spelled.
    let word =
        |at: usize, word: &[u8]| body.get(at + 1..at + 1 + word.len()).is_some_and(|b| b.eq_ignore_ascii_case(word));
    References::are_defined_for(operation)
        && (!seldom
            || memchr2_iter(b'_', b'\\', body).any(|at| word(at, b"id") || word(at, b"u00"))
            || may_have_word(body, &["store", "audio"]))
}

/// The query of the calls that read objects: the client's own version of the API, if it is nothing but that.
fn api_version(uri: &Uri) -> String {
    let found = query_parameters(uri.query().unwrap_or_default()).find(|(name, ..)| name == "api-version");
    found
        .filter(|(_, version, _)| is_plain(version))
        .map_or_else(String::new, |(_, version, _)| format!("?api-version={version}"))
}

/// Nobody that this client may know of has an object with this id.
pub(crate) fn not_found(id: &str) -> Error {
    let shown: String = id.chars().filter(|c| !c.is_control()).take(MAX_LEN).collect();
    Error::new(ErrorKind::ObjectNotFound, format!("No object with id '{shown}' was found. Check the id."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: Method, uri: &str, body: &'static str) -> Option<Subject> {
        let request = Request::builder().method(method).uri(uri).body(Body::from(body)).unwrap();
        Some(Subject::read(&request).unwrap()).filter(|subject| !subject.is_stateless())
    }

    fn named(subject: &Subject) -> Vec<(&str, Option<String>)> {
        subject.named.iter().map(|named| (named.id.as_str(), named.read.as_ref().map(Uri::to_string))).collect()
    }

    #[test]
    fn calls_without_state_are_left_alone() {
        for (uri, body) in [
            ("/openai/deployments/d/chat/completions?api-version=1", r#"{"messages":[],"max_tokens":5}"#),
            ("/openai/v1/embeddings", r#"{"input":"x"}"#),
            ("/openai/v1/realtime/client_secrets", "{}"),
        ] {
            assert!(read(Method::POST, uri, body).is_none(), "{uri}");
        }
        assert!(read(Method::GET, "/openai/v1/models", "").is_none());
    }

    #[test]
    fn the_first_id_of_a_path_counts_and_is_read_by_its_own_call() {
        for (uri, id, asked) in [
            ("/openai/threads/thread_1/runs/run_1?api-version=2", "thread_1", "/openai/threads/thread_1?api-version=2"),
            ("/openai/v1/files/file-1/content", "file-1", "/openai/v1/files/file-1"),
            ("/openai/fine_tuning/jobs/ftjob-1", "ftjob-1", "/openai/fine_tuning/jobs/ftjob-1"),
            ("/openai/deployments/d/threads/t?api-version=a%26b", "t", "/openai/threads/t"),
        ] {
            let subject = read(Method::GET, uri, "").unwrap();
            assert_eq!(named(&subject), [(id, Some(asked.to_owned()))], "{uri}");
        }
        let job = read(Method::GET, "/openai/v1/video/generations/jobs/j", "").unwrap();
        assert_eq!(named(&job), [("j", None)], "it is not where its family is read");
        let checkpoint = read(Method::GET, "/openai/v1/fine_tuning/checkpoints/c/permissions", "").unwrap();
        assert_eq!(named(&checkpoint), [], "the name of a model");
    }

    #[test]
    fn cursors_are_ids_of_lists_only() {
        let subject = read(Method::GET, "/openai/v1/files?after=file-1&before=file%2d2&limit=3", "").unwrap();
        let asked = |id: &str| Some(format!("/openai/v1/files/{id}"));
        assert_eq!(named(&subject), [("file-1", asked("file-1")), ("file-2", asked("file-2"))]);
        let inside = read(Method::GET, "/openai/v1/threads/t/messages?after=msg_1", "").unwrap();
        assert_eq!(inside.named.len(), 1);
    }

    #[test]
    fn an_answer_teaches_what_its_call_makes() {
        let lesson = |method, uri, body| read(method, uri, body).map(|subject| subject.lesson);
        let post = |uri, body| lesson(Method::POST, uri, body);
        let told = |family, makes, is_stored| {
            let models = makes;
            Some(Taught::Told(learning::Lesson { family, makes, models, is_stored, speaks: false }))
        };
        assert_eq!(post("/openai/v1/files", ""), told(Some(Family::File), true, true));
        assert_eq!(post("/openai/threads/runs", "{}"), told(None, true, true));
        assert_eq!(post("/openai/threads/t/runs", "{}"), told(None, false, true));
        assert_eq!(post("/openai/threads/t", "{}"), told(Some(Family::Thread), false, true));
        assert_eq!(post("/openai/v1/videos/v/remix", "{}"), told(Some(Family::Video), true, true), "another video");
        assert_eq!(post("/openai/v1/responses", "{}"), told(Some(Family::Response), true, true));
        let unstored = post("/openai/v1/responses", r#"{"store":false}"#);
        assert_eq!(unstored, told(Some(Family::Response), true, false), "what only one reads is learned all the same");
        assert_eq!(post("/openai/v1/realtime/calls", ""), Some(Taught::Call));
        let chat = "/openai/v1/chat/completions";
        assert_eq!(post(chat, r#"{"store":true}"#), told(Some(Family::Completion), true, true));
        assert_eq!(post(chat, r#"{"store":false}"#), None);
        let gone = lesson(Method::DELETE, "/openai/threads/t/", "");
        assert_eq!(gone, ObjectId::new(Family::Thread, "t").map(Taught::Gone));
        assert_eq!(lesson(Method::DELETE, "/openai/threads/t/messages/m", ""), Some(Taught::Nothing));
    }
}
