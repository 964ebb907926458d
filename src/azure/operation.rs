//! Reads from method and path what a request asks for.
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
//!
//! Sources: <https://learn.microsoft.com/azure/ai-foundry/openai/reference>, <https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle> for the v1 API.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::LazyLock;

use http::Method;

mod name;
mod nearest;
mod segment;
mod table;
mod tree;

pub use self::name::Operation;
pub(crate) use self::nearest::whereabouts;
pub use self::segment::ParsePathError;
use self::segment::{Fault, decode};
use self::table::{FOUNDRY, OPENAI, Row};
use self::tree::{Node, Step};

const PREFIX: &str = "/openai/";
/// Paths of a Foundry resource beside it.
const BESIDE: [&str; 2] = ["/models/", "/anthropic/"];

static BELOW_OPENAI: LazyLock<Node> = LazyLock::new(|| Node::of(OPENAI));
static BESIDE_OPENAI: LazyLock<Node> = LazyLock::new(|| Node::of(FOUNDRY));

/// Form of the API that a path belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Surface {
    /// `/openai/…`, with an `api-version` in the query and the deployment in the path where a call needs one.
    Classic,
    /// `/models/…` and `/anthropic/…` beside it, as a Foundry resource has them, with the deployment as the `model` of the body.
    Foundry,
    /// `/openai/v1/…`, with the deployment as the `model` of the body.
    V1,
}

/// True if a call may be sent to another target when nobody knows what became of the first attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Repeat {
    /// It may have created or changed something that the client can name: a repeat could do so twice.
    Creates,
    /// A repeat costs tokens at most. The body of a `responses` call can still say otherwise.
    Safe,
}

/// Place in which a call names its model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ModelPlace {
    /// As `model` of the body, a JSON object or a form; without it the call is incomplete.
    Body,
    /// As `model` of the body; without it OpenAI has one, its own or that of a kept prompt, and Azure has none.
    DefaultBody,
    /// The call uses models that are named in a file, in an object or not at all, or nobody knows whether it does.
    Elsewhere,
    /// The call uses no model, or only goes on with what another call began.
    Nowhere,
    /// As `model` of the body, if at all: the call goes on with an object, such as a video, and with the model by which that was made.
    Object,
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
        if matches!(self, Self::Elsewhere | Self::Object) { Self::Elsewhere } else { Self::Nowhere }
    }
}

/// Call that a method and a path make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    surface: Surface,
    operation: Operation,
    model: ModelPlace,
    deployment: Option<Deployment>,
    object_ids: Vec<String>,
    repeat: Repeat,
    collection: Option<&'static str>,
    in_deployment: bool,
    is_v1_unversioned: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Deployment {
    name: String,
    /// Beginning of the segments that say so.
    start: usize,
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

    /// The deployment that the path names, percent-decoded.
    ///
    /// Some client libraries put one in front of families that have none, such as `responses` or `threads`, or behind `v1`.
    #[must_use]
    pub fn deployment(&self) -> Option<&str> {
        self.deployment.as_ref().map(|deployment| deployment.name.as_str())
    }

    /// Returns the place of the deployment in the path that was parsed, in bytes, as it was sent.
    #[must_use]
    pub fn deployment_span(&self) -> Option<Range<usize>> {
        self.deployment.as_ref().map(|deployment| deployment.span.clone())
    }

    /// Returns what to take out of the path: a deployment where Azure serves the family without one, in bytes.
    ///
    /// What is left of the path is what the backend serves; the model then stands where [`model_place`](Self::model_place) says.
    #[must_use]
    pub fn surplus_span(&self) -> Option<Range<usize>> {
        self.deployment_segments().filter(|_| self.deployment.as_ref().is_some_and(|deployment| deployment.surplus))
    }

    /// The segments of the path that say which deployment is meant, with the slash after them, in bytes.
    #[must_use]
    pub fn deployment_segments(&self) -> Option<Range<usize>> {
        self.deployment.as_ref().map(|deployment| deployment.start..deployment.span.end + 1)
    }

    /// Returns the place where Azure wants `deployments/{name}/` and the path has none: its model stands in the body, as in the
    /// v1 API.
    #[must_use]
    pub fn deployment_gap(&self) -> Option<usize> {
        let is_missing = self.in_deployment && self.deployment.is_none() && self.surface == Surface::Classic;
        is_missing.then_some(PREFIX.len())
    }

    /// Returns the place in which the call names its model.
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

    /// Returns the collection of the call: the words of a known path before its first id, such as `fine_tuning/jobs`.
    #[must_use]
    pub const fn collection(&self) -> Option<&'static str> {
        self.collection
    }

    /// Tells whether the call is of the v1 API when it says neither `v1` nor a version.
    #[must_use]
    pub(crate) fn is_v1_unversioned(&self) -> bool {
        self.is_v1_unversioned && self.surface == Surface::Classic
    }

    /// Makes it the call of a session that names its model itself, whatever the path says.
    pub(crate) fn name_in_session(&mut self) {
        (self.model, self.deployment) = (ModelPlace::Session, None);
    }

    /// Tells whether a repeat is safe, as far as method and path can tell.
    #[must_use]
    pub const fn repeat(&self) -> Repeat {
        self.repeat
    }
}

/// Reads `path`, a URI's path without its query.
///
/// Segments are compared percent-decoded and without regard to ASCII case, as a backend's router may do: a path must not mean
/// less here than there. What follows an object and is not known keeps the ids before it; any other path that is not known
/// has none.
///
/// # Errors
/// [`is_outside`](ParsePathError::is_outside) when the path leads neither below `/openai/` nor below `/models/` or
/// `/anthropic/`, and otherwise [`is_ambiguous`](ParsePathError::is_ambiguous) when two readers could take it for different
/// paths: an empty segment other than one trailing slash, a dot segment, an encoded slash, a backslash, a control character,
/// percent-encoding that is malformed or not UTF-8.
pub fn parse(method: &Method, path: &str) -> Result<Call, ParsePathError> {
    let is_below = |prefix: &str| path.starts_with(prefix) && path.len() > prefix.len();
    let (mut reader, mut start) = match path {
        _ if path.starts_with("//") => return Err(ParsePathError(Fault::Empty)),
        _ if is_below(PREFIX) => (Reader::new(Surface::Classic), PREFIX.len()),
        _ if BESIDE.iter().any(|prefix| is_below(prefix)) => (Reader::new(Surface::Foundry), 1),
        _ => return Err(ParsePathError(Fault::Outside)),
    };
    let below = &path[start..];
    for raw in below.strip_suffix('/').unwrap_or(below).split('/') {
        let span = start..start + raw.len();
        start = span.end + 1;
        reader.read(decode(raw).map_err(ParsePathError)?, span);
    }
    Ok(reader.finish(method))
}

/// Walks down the table, one segment at a time.
struct Reader {
    surface: Surface,
    deployment: Option<Deployment>,
    object_ids: Vec<String>,
    /// The call to the last object on the way.
    object: Option<&'static Row>,
    place: Place,
}

#[derive(Clone, Copy)]
enum Place {
    /// Below `/openai/`, where `v1` or `deployments` may stand before a family.
    Prefix,
    /// After `v1`, where `deployments` may stand too.
    Version,
    /// After `deployments`, which begins there.
    Deployments(usize),
    /// In the table.
    At(&'static Node),
    /// Nothing is known.
    Unknown,
}

impl Reader {
    fn new(surface: Surface) -> Self {
        let place = if surface == Surface::Foundry { Place::At(&BESIDE_OPENAI) } else { Place::Prefix };
        Self { surface, deployment: None, object_ids: Vec::new(), object: None, place }
    }

    fn read(&mut self, segment: Cow<'_, str>, span: Range<usize>) {
        self.place = match self.place {
            Place::Prefix if segment.eq_ignore_ascii_case("v1") => {
                self.surface = Surface::V1;
                Place::Version
            }
            Place::Prefix | Place::Version if segment.eq_ignore_ascii_case("deployments") => {
                Place::Deployments(span.start)
            }
            Place::Prefix | Place::Version => self.step(&BELOW_OPENAI, segment),
            Place::Deployments(start) => {
                self.deployment = Some(Deployment { name: segment.into_owned(), start, span, surplus: false });
                Place::At(&BELOW_OPENAI)
            }
            Place::At(node) => self.step(node, segment),
            Place::Unknown => Place::Unknown,
        };
    }

    fn step(&mut self, node: &'static Node, segment: Cow<'_, str>) -> Place {
        match node.step(&segment) {
            Some(Step::Word(node)) => Place::At(node),
            Some(Step::Id(node)) => {
                self.object_ids.push(segment.into_owned());
                self.object = node.row.or(self.object);
                Place::At(node)
            }
            None => Place::Unknown,
        }
    }

    fn finish(self, method: &Method) -> Call {
        let row = match self.place {
            Place::At(node) => node.row,
            _ => None,
        };
        let known = row.or(self.object);
        let operation = known.map_or(Operation::Other, |row| row.operation);
        let repeat = row.map_or(Repeat::Creates, |row| row.repeat);
        // What is not known may be served below a deployment, too.
        let in_deployment = known.is_none_or(|row| row.in_deployment);
        let model = match (row, known) {
            (Some(row), _) => row.model,
            (None, Some(object)) => object.model.elsewhere_or_nowhere(),
            (None, None) => ModelPlace::Elsewhere,
        };
        let is_safe = method.is_safe() || (repeat == Repeat::Safe && method == Method::POST);
        let Self { surface, mut deployment, object_ids, .. } = self;
        let keeps = in_deployment && (surface == Surface::Classic || known.is_none());
        let model = match &mut deployment {
            Some(_) if keeps => ModelPlace::Path,
            deployment => {
                deployment.iter_mut().for_each(|deployment| deployment.surplus = true);
                model_asked_for(method, operation, model)
            }
        };
        let repeat = if is_safe { Repeat::Safe } else { Repeat::Creates };
        let in_deployment = in_deployment && known.is_some();
        let collection = known.map(Row::collection);
        let is_v1_unversioned = known.is_some_and(|row| row.is_v1_unversioned);
        Call { surface, operation, model, deployment, object_ids, repeat, collection, in_deployment, is_v1_unversioned }
    }
}

/// Returns no model for what only reads or deletes; a realtime session is opened by reading.
fn model_asked_for(method: &Method, operation: Operation, model: ModelPlace) -> ModelPlace {
    match (method, operation, model) {
        (&Method::GET, Operation::Realtime, ModelPlace::Elsewhere) | (&Method::GET, _, ModelPlace::Query) => {
            ModelPlace::Query
        }
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
