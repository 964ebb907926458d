//! What a request asks for, as its method and path say it.
//!
//! ```
//! use http::Method;
//! use tower_azure_openai::azure::operation::{self, Operation, Repeat};
//!
//! let call = operation::parse(&Method::POST, "/openai/deployments/gpt-4o/chat/completions")?;
//! assert_eq!(call.operation(), Operation::ChatCompletions);
//! assert_eq!(call.deployment(), Some("gpt-4o"));
//! assert_eq!(call.repeat(), Repeat::Safe);
//! # Ok::<_, operation::ParsePathError>(())
//! ```

use std::borrow::Cow;
use std::ops::Range;

use http::Method;
use percent_encoding::percent_decode_str;
use thiserror::Error;

use self::families::{Family, ROOT, Tail};

mod families;

const PREFIX: &str = "/openai/";

/// Which form of the API a path belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Surface {
    /// `/openai/…`, with an `api-version` in the query and the deployment in the path where a call needs one.
    Classic,
    /// `/openai/v1/…`, with the deployment as the `model` of the body.
    V1,
}

/// The API family that a call belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// `assistants`.
    Assistants,
    /// `audio/speech`.
    AudioSpeech,
    /// `audio/transcriptions`.
    AudioTranscriptions,
    /// `audio/translations`.
    AudioTranslations,
    /// `batches`.
    Batches,
    /// `chat/completions`, stored completions and the older `extensions/chat/completions`.
    ChatCompletions,
    /// `completions`.
    Completions,
    /// `containers`.
    Containers,
    /// `conversations`.
    Conversations,
    /// `embeddings`.
    Embeddings,
    /// `evals`.
    Evals,
    /// `files`.
    Files,
    /// `fine_tuning`.
    FineTuning,
    /// `images/edits`.
    ImagesEdits,
    /// `images/generations`.
    ImagesGenerations,
    /// `models`.
    Models,
    /// A path below the API prefix that this crate does not know; it is passed on like any other.
    Other,
    /// `realtime`, its calls and client secrets.
    Realtime,
    /// `responses`.
    Responses,
    /// `threads`, with messages, runs and steps.
    Threads,
    /// `uploads`.
    Uploads,
    /// `vector_stores`.
    VectorStores,
    /// `videos` and the older `video/generations`.
    Videos,
}

impl Operation {
    /// A stable name for logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Assistants => "assistants",
            Self::AudioSpeech => "audio_speech",
            Self::AudioTranscriptions => "audio_transcriptions",
            Self::AudioTranslations => "audio_translations",
            Self::Batches => "batches",
            Self::ChatCompletions => "chat_completions",
            Self::Completions => "completions",
            Self::Containers => "containers",
            Self::Conversations => "conversations",
            Self::Embeddings => "embeddings",
            Self::Evals => "evals",
            Self::Files => "files",
            Self::FineTuning => "fine_tuning",
            Self::ImagesEdits => "images_edits",
            Self::ImagesGenerations => "images_generations",
            Self::Models => "models",
            Self::Other => "other",
            Self::Realtime => "realtime",
            Self::Responses => "responses",
            Self::Threads => "threads",
            Self::Uploads => "uploads",
            Self::VectorStores => "vector_stores",
            Self::Videos => "videos",
        }
    }
}

/// Whether a call may be sent to another target when nobody knows what became of the first attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Repeat {
    /// It may have created or changed something that the client can name: a repeat could do so twice.
    Creates,
    /// A repeat costs tokens at most. The body of a `responses` call can still say otherwise.
    Safe,
}

/// Where a call says which model it uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ModelPlace {
    /// As `model` of the body, a JSON object or a form; without it the call is incomplete.
    Body,
    /// The call uses models that are named in a file, in an object or not at all, or nobody knows whether it does.
    Elsewhere,
    /// The call uses no model, or only goes on with what another call began.
    Nowhere,
    /// As `model` of the body; without it an assistant's own model is used.
    OptionalBody,
    /// As the deployment segment of the path.
    Path,
    /// As `model` or `deployment` of the query.
    Query,
    /// As `model` of the `session` in the JSON body.
    Session,
}

impl ModelPlace {
    const fn elsewhere_or_nowhere(self) -> Self {
        if matches!(self, Self::Elsewhere) { self } else { Self::Nowhere }
    }
}

/// What a method and a path say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    surface: Surface,
    operation: Operation,
    model: ModelPlace,
    deployment: Option<Deployment>,
    object_ids: Vec<String>,
    repeat: Repeat,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Deployment {
    name: String,
    span: Range<usize>,
    surplus: bool,
}

impl Call {
    /// The form of the API.
    #[must_use]
    pub const fn surface(&self) -> Surface {
        self.surface
    }

    /// The API family.
    #[must_use]
    pub const fn operation(&self) -> Operation {
        self.operation
    }

    /// The deployment that the path names, percent-decoded. Classic paths only.
    ///
    /// Some client libraries put one in front of families that have none, such as `responses` or `threads`.
    #[must_use]
    pub fn deployment(&self) -> Option<&str> {
        self.deployment.as_ref().map(|deployment| deployment.name.as_str())
    }

    /// Where the deployment stands in the path that was parsed, in bytes, as it was sent.
    #[must_use]
    pub fn deployment_span(&self) -> Option<Range<usize>> {
        self.deployment.as_ref().map(|deployment| deployment.span.clone())
    }

    /// What to take out of the path: a deployment where Azure serves the family without one, in bytes.
    ///
    /// What is left of the path is what the backend serves; the model then stands where [`model_place`](Self::model_place) says.
    #[must_use]
    pub fn surplus_span(&self) -> Option<Range<usize>> {
        self.deployment_segments().filter(|_| self.deployment.as_ref().is_some_and(|deployment| deployment.surplus))
    }

    /// The segments of the path that say which deployment is meant, with the slash after them, in bytes.
    #[must_use]
    pub fn deployment_segments(&self) -> Option<Range<usize>> {
        self.deployment.as_ref().map(|deployment| PREFIX.len()..deployment.span.end + 1)
    }

    /// Where the call says which model it uses.
    #[must_use]
    pub const fn model_place(&self) -> ModelPlace {
        self.model
    }

    /// The ids of stored objects in the path, percent-decoded, in their order: thread, run, step.
    ///
    /// Below `models` it is the name of a model.
    pub fn object_ids(&self) -> impl ExactSizeIterator<Item = &str> {
        self.object_ids.iter().map(String::as_str)
    }

    /// Whether a repeat is safe, as far as method and path can tell.
    #[must_use]
    pub const fn repeat(&self) -> Repeat {
        self.repeat
    }
}

/// Reads `path`, a URI's path without its query.
///
/// Segments are compared percent-decoded and without regard to ASCII case, as a backend's router may do: a path must not mean
/// less here than there.
///
/// # Errors
/// [`is_outside`](ParsePathError::is_outside) when the path does not lead below `/openai/`, and otherwise
/// [`is_ambiguous`](ParsePathError::is_ambiguous) when two readers could take it for different paths: an empty segment other
/// than one trailing slash, a dot segment, an encoded slash, a backslash, a control character, percent-encoding that is
/// malformed or not UTF-8.
pub fn parse(method: &Method, path: &str) -> Result<Call, ParsePathError> {
    let below = path.strip_prefix(PREFIX).filter(|below| !below.is_empty()).ok_or(ParsePathError(Fault::Outside))?;
    let mut reader = Reader::new();
    let mut start = PREFIX.len();
    for raw in below.strip_suffix('/').unwrap_or(below).split('/') {
        let span = start..start + raw.len();
        start = span.end + 1;
        reader.read(decode(raw).map_err(ParsePathError)?, span);
    }
    Ok(reader.finish(method))
}

/// Why a path cannot be served. The message never repeats the path.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct ParsePathError(Fault);

impl ParsePathError {
    /// The path does not lead below `/openai/`.
    #[must_use]
    pub const fn is_outside(&self) -> bool {
        matches!(self.0, Fault::Outside)
    }

    /// Two readers could take the path for different paths.
    #[must_use]
    pub const fn is_ambiguous(&self) -> bool {
        !self.is_outside()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
enum Fault {
    #[error("the path holds a backslash")]
    Backslash,
    #[error("the path holds a control character")]
    Control,
    #[error("the path holds a dot segment")]
    Dots,
    #[error("the path holds an empty segment")]
    Empty,
    #[error("the path holds percent-encoding that is malformed")]
    Encoding,
    #[error("the path holds percent-encoding that is not UTF-8")]
    NotUtf8,
    #[error("the path is outside the API")]
    Outside,
    #[error("the path holds an encoded slash")]
    Slash,
}

fn decode(raw: &str) -> Result<Cow<'_, str>, Fault> {
    let plain = raw.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'%' | b'\\'));
    let segment = if plain { Cow::Borrowed(raw) } else { decode_odd(raw)? };
    match &*segment {
        "" => Err(Fault::Empty),
        "." | ".." => Err(Fault::Dots),
        _ => Ok(segment),
    }
}

fn decode_odd(raw: &str) -> Result<Cow<'_, str>, Fault> {
    if has_malformed_escape(raw) {
        return Err(Fault::Encoding);
    }
    let segment = percent_decode_str(raw).decode_utf8().map_err(|_| Fault::NotUtf8)?;
    let fault = segment.chars().find_map(|c| match c {
        '/' => Some(Fault::Slash),
        '\\' => Some(Fault::Backslash),
        c => c.is_control().then_some(Fault::Control),
    });
    fault.map_or(Ok(segment), Err)
}

fn has_malformed_escape(raw: &str) -> bool {
    raw.split('%').skip(1).any(|after| !after.bytes().take(2).map(|b| b.is_ascii_hexdigit()).eq([true, true]))
}

/// Walks down the families, one segment at a time.
struct Reader {
    surface: Surface,
    deployment: Option<Deployment>,
    object_ids: Vec<String>,
    place: Place,
}

#[derive(Clone, Copy)]
enum Place {
    /// Below `/openai/`, where `v1` or `deployments` may stand before a family.
    Prefix,
    /// After `deployments`.
    Deployments,
    /// At a family or a part of its name.
    Family(&'static Family),
    /// After the id of an object.
    Object(&'static Family),
    /// After what is asked of an object: a collection inside it, or an action, and where that names its model.
    Collection(&'static Family, ModelPlace),
    /// Below a family whose ids are not known.
    Below(&'static Family),
    /// Where nothing is known.
    Unknown,
}

impl Reader {
    const fn new() -> Self {
        Self { surface: Surface::Classic, deployment: None, object_ids: Vec::new(), place: Place::Prefix }
    }

    fn read(&mut self, segment: Cow<'_, str>, span: Range<usize>) {
        self.place = match self.place {
            Place::Prefix if segment.eq_ignore_ascii_case("v1") => {
                self.surface = Surface::V1;
                Place::Family(&ROOT)
            }
            Place::Prefix if segment.eq_ignore_ascii_case("deployments") => Place::Deployments,
            Place::Prefix => self.below(&ROOT, segment),
            Place::Deployments => {
                self.deployment = Some(Deployment { name: segment.into_owned(), span, surplus: false });
                Place::Family(&ROOT)
            }
            Place::Family(family) => self.below(family, segment),
            Place::Object(family) => Place::Collection(family, family.model_within(&segment)),
            Place::Collection(family, _) => self.object(family, segment),
            Place::Below(family) => Place::Below(family),
            Place::Unknown => Place::Unknown,
        };
    }

    fn below(&mut self, family: &'static Family, segment: Cow<'_, str>) -> Place {
        match (family.child(&segment), family.tail) {
            (Some(child), _) => Place::Family(child),
            (None, Tail::Anything) => Place::Below(family),
            (None, Tail::Nothing) => Place::Unknown,
            (None, Tail::Objects) => self.object(family, segment),
        }
    }

    fn object(&mut self, family: &'static Family, id: Cow<'_, str>) -> Place {
        self.object_ids.push(id.into_owned());
        Place::Object(family)
    }

    fn finish(self, method: &Method) -> Call {
        let (operation, stateless, in_deployment, model) = match self.place {
            Place::Family(family) => (family.operation, family.stateless, family.in_deployment, family.model),
            Place::Object(family) => (family.operation, false, family.in_deployment, family.object_model),
            Place::Collection(family, model) => (family.operation, false, family.in_deployment, model),
            Place::Below(family) => {
                (family.operation, false, family.in_deployment, family.model.elsewhere_or_nowhere())
            }
            Place::Prefix | Place::Deployments | Place::Unknown => {
                (Operation::Other, false, true, ModelPlace::Elsewhere)
            }
        };
        let safe = method.is_safe() || (stateless && method == Method::POST);
        let Self { surface, mut deployment, object_ids, .. } = self;
        let model = match &mut deployment {
            Some(_) if in_deployment => ModelPlace::Path,
            deployment => {
                deployment.iter_mut().for_each(|deployment| deployment.surplus = true);
                model_asked_for(method, operation, model)
            }
        };
        let repeat = if safe { Repeat::Safe } else { Repeat::Creates };
        Call { surface, operation, model, deployment, object_ids, repeat }
    }
}

/// What only reads or deletes uses no model; a realtime session is opened by reading.
fn model_asked_for(method: &Method, operation: Operation, model: ModelPlace) -> ModelPlace {
    match (method, operation, model) {
        (&Method::GET, Operation::Realtime, ModelPlace::Elsewhere) => ModelPlace::Query,
        (&Method::GET | &Method::HEAD, Operation::Models, _) => ModelPlace::Nowhere,
        (_, _, ModelPlace::Elsewhere) => ModelPlace::Elsewhere,
        (&Method::GET | &Method::HEAD | &Method::DELETE | &Method::OPTIONS, ..) | (_, _, ModelPlace::Nowhere) => {
            ModelPlace::Nowhere
        }
        (&Method::POST, ..) => model,
        _ => ModelPlace::Elsewhere,
    }
}

#[cfg(test)]
mod tests;
