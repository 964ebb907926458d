use std::ops::Range;
use std::sync::Arc;

use http::{Extensions, Method, Uri};

use super::{Client, SocketFrame, shape};
use crate::azure::operation::{self, Call, ModelPlace, Operation, Repeat, Surface};
use crate::azure::request_body::Opening;
use crate::error::{Error, ErrorKind};
use crate::headers::IMAGE_DEPLOYMENT;
use crate::pool::RouteKind;

/// Reading of one request: what it asks for. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Route(Arc<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    call: Call,
    streaming: bool,
    affinity: Option<u64>,
    lacks_model: bool,
    is_of_agent: bool,
    repeat: Repeat,
    named: Option<Named>,
    further: Vec<FurtherName>,
    unseen: Option<&'static str>,
    unread_lines: bool,
}

/// Name of the model in body or query.
#[derive(Clone, Debug)]
struct Named {
    /// Text that stands at the place: the alias, unless the path names one.
    written: Option<String>,
    place: NamePlace,
}

/// A deployment that a request names beside the one that answers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FurtherName {
    pub(crate) name: String,
    pub(crate) place: FurtherPlace,
}

impl FurtherName {
    /// Tells whether a client may use what is named.
    pub(crate) fn is_allowed(&self, client: &Client) -> bool {
        match self.place {
            FurtherPlace::Lines(_) => client.may_use_in_lines(&self.name),
            FurtherPlace::ImageHeader | FurtherPlace::Json(_) => client.may_use(&self.name),
        }
    }

    /// The alias of the pool that a client means by it.
    pub(crate) fn alias_of<'a>(&'a self, client: Option<&'a Client>) -> &'a str {
        match (client, &self.place) {
            (None, _) => &self.name,
            (Some(client), FurtherPlace::Lines(_)) => client.resolve_in_lines(&self.name),
            (Some(client), FurtherPlace::ImageHeader | FurtherPlace::Json(_)) => client.resolve(&self.name),
        }
    }

    /// A sentence about who names it.
    pub(crate) fn said(&self, of: &str) -> String {
        match &self.place {
            FurtherPlace::Lines(line) => format!("{of} line {line} of the file names."),
            FurtherPlace::ImageHeader => format!("{of} {IMAGE_DEPLOYMENT} names."),
            FurtherPlace::Json(_) => format!("{of} the body names beside its own."),
        }
    }
}

/// Place of a further deployment's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FurtherPlace {
    /// As the value of the header `x-ms-oai-image-generation-deployment`.
    ImageHeader,
    /// As a JSON value of the body, in bytes.
    Json(Range<usize>),
    /// As JSON values in the lines of a batch file, of which this one is the first.
    Lines(usize),
}

/// Place for a deployment's name besides the path, in bytes of the body or of the query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NamePlace {
    /// In place of a form field's value.
    Form(Range<usize>),
    /// As a first part of a form.
    FormPart,
    /// Nowhere: a parameter of the query, with the `&` beside it, is for the gateway only and is taken out.
    Hint(Range<usize>),
    /// In place of a JSON value.
    Json(Range<usize>),
    /// As a first member of a JSON object.
    JsonMember(Opening),
    /// In place of a parameter's value.
    Query(Range<usize>),
}

impl Route {
    /// Reads what the path tells. What stands in body or query is not known here: a model, and whether the answer will be a
    /// stream.
    ///
    /// Shapes that client libraries build for a gateway's own host are read as what they mean: `/v1/…`, say, as `/openai/v1/…`.
    /// Places in the path are those of the path that is meant, which the layers that forward requests send.
    ///
    /// # Errors
    /// The path lies outside the API, or two parsers could read it differently.
    pub fn parse(method: &Method, uri: &Uri) -> Result<Self, Error> {
        let normal = shape::normal(uri);
        let path = normal.as_ref().unwrap_or(uri).path();
        match operation::parse(method, path) {
            Ok(call) => {
                let repeat = call.repeat();
                Ok(Self(Arc::new(Inner {
                    repeat,
                    call,
                    streaming: false,
                    affinity: None,
                    lacks_model: false,
                    is_of_agent: false,
                    named: None,
                    further: Vec::new(),
                    unseen: None,
                    unread_lines: false,
                })))
            }
            Err(error) if error.is_outside() => {
                Err(Error::new(ErrorKind::PathNotFound, operation::whereabouts(path)).with_source(error))
            }
            Err(error) => Err(Error::new(ErrorKind::AmbiguousRequest, error.to_string())),
        }
    }

    /// The route that another layer found, or the one that the path tells.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn find_or_parse(extensions: &Extensions, method: &Method, uri: &Uri) -> Result<Self, Error> {
        if let Some(found) = extensions.get() {
            return Ok(Self::clone(found));
        }
        let route = Self::parse(method, uri)?;
        Ok(if extensions.get::<SocketFrame>().is_some() { route.said_on_socket() } else { route })
    }

    /// The same route for what a client says on the WebSocket that it leads to: a realtime session names its models there.
    fn said_on_socket(mut self) -> Self {
        if self.operation() == Operation::Realtime {
            Arc::make_mut(&mut self.0).call.name_in_session();
        }
        self
    }

    /// The same route, with what the body says of streaming.
    #[must_use]
    pub fn with_streaming(mut self, streaming: bool) -> Self {
        if streaming != self.0.streaming {
            Arc::make_mut(&mut self.0).streaming = streaming;
        }
        self
    }

    /// The same route, of which those with the same `affinity` are better served by the same target, such as the
    /// digest of what its prompt is cached under.
    #[must_use]
    pub fn with_affinity(mut self, affinity: u64) -> Self {
        Arc::make_mut(&mut self.0).affinity = Some(affinity);
        self
    }

    /// The same route, which names no model where only some backends have one for it.
    #[must_use]
    pub(crate) fn without_model(mut self) -> Self {
        Arc::make_mut(&mut self.0).lacks_model = true;
        self
    }

    /// Tells whether it needs a backend that has a model for it: one of OpenAI's own form.
    pub(crate) fn lacks_model(&self) -> bool {
        self.0.lacks_model
    }

    /// The same route, whose repeat is not safe: the body asks for something that the client can name.
    #[must_use]
    pub(crate) fn that_creates(mut self) -> Self {
        Arc::make_mut(&mut self.0).repeat = Repeat::Creates;
        self
    }

    /// The same route, with the model that body or query name and where it stands. A model that the path names stays the alias.
    #[must_use]
    pub(crate) fn with_name(mut self, name: Option<String>, place: NamePlace) -> Self {
        Arc::make_mut(&mut self.0).named = Some(Named { written: name, place });
        self
    }

    /// The same route, with what else the request names.
    #[must_use]
    pub(crate) fn with_further_names(mut self, further: Vec<FurtherName>) -> Self {
        if !further.is_empty() {
            Arc::make_mut(&mut self.0).further = further;
        }
        self
    }

    /// The same route, of a request that brings others, of which nobody sees the models; `why` completes a sentence about it.
    #[must_use]
    pub(crate) fn with_unseen(mut self, why: &'static str) -> Self {
        Arc::make_mut(&mut self.0).unseen = Some(why);
        self
    }

    /// The same route, of a request that an agent answers, with whatever model it has.
    #[must_use]
    pub(crate) fn of_agent(mut self) -> Self {
        Arc::make_mut(&mut self.0).is_of_agent = true;
        self
    }

    /// Tells whether an agent answers it.
    pub(crate) fn is_of_agent(&self) -> bool {
        self.0.is_of_agent
    }

    /// The same route, of a file of requests that is handed on before all its lines were read.
    #[must_use]
    pub(crate) fn with_unread_lines(mut self) -> Self {
        Arc::make_mut(&mut self.0).unread_lines = true;
        self
    }

    /// Tells whether more lines follow than were read.
    pub(crate) fn has_unread_lines(&self) -> bool {
        self.0.unread_lines
    }

    /// Returns the reason why nobody sees the models of the requests that it brings, if so.
    pub(crate) fn unseen(&self) -> Option<&'static str> {
        self.0.unseen
    }

    /// The same route, by another path.
    #[must_use]
    pub(crate) fn by_path_of(mut self, other: &Self) -> Self {
        Arc::make_mut(&mut self.0).call = other.0.call.clone();
        self
    }

    /// Returns the call of the API that it is.
    #[must_use]
    pub fn operation(&self) -> Operation {
        self.0.call.operation()
    }

    /// Through which surface of the API it comes.
    #[must_use]
    pub fn surface(&self) -> Surface {
        self.0.call.surface()
    }

    /// The name of the deployment that the client uses.
    ///
    /// One that stands in body or query is known below an [`InspectLayer`](crate::inspect::InspectLayer).
    #[must_use]
    pub fn alias(&self) -> Option<&str> {
        self.0.call.deployment().or_else(|| self.written_name())
    }

    /// The deployments that the request names beside its [`alias`](Self::alias), by the names that the client uses: for images, for
    /// embedding, for transcription. Known below an [`InspectLayer`](crate::inspect::InspectLayer).
    #[must_use]
    pub fn further_aliases(&self) -> impl ExactSizeIterator<Item = &str> {
        self.0.further.iter().map(|further| further.name.as_str())
    }

    pub(crate) fn further_names(&self) -> &[FurtherName] {
        &self.0.further
    }

    /// Returns the span of the alias in the path of the request.
    #[must_use]
    pub fn alias_span(&self) -> Option<Range<usize>> {
        self.0.call.deployment_span()
    }

    /// Returns what to take out of the path, as bytes: a deployment where Azure serves the family without one.
    #[must_use]
    pub fn surplus_span(&self) -> Option<Range<usize>> {
        self.0.call.surplus_span()
    }

    /// The segments of the path that say which deployment is meant, with the slash after them, as bytes.
    #[must_use]
    pub fn deployment_segments(&self) -> Option<Range<usize>> {
        self.0.call.deployment_segments()
    }

    /// Returns the place where `deployments/{name}/` has to be put into the path, as bytes: the model stands in the body, and
    /// Azure wants it there.
    #[must_use]
    pub fn deployment_gap(&self) -> Option<usize> {
        self.0.call.deployment_gap()
    }

    /// The ids of stored objects in the path, in their order; below `models`, the name of a model.
    #[must_use]
    pub fn object_ids(&self) -> impl ExactSizeIterator<Item = &str> {
        self.0.call.object_ids()
    }

    /// Returns the collection of the call, such as `vector_stores`.
    pub(crate) fn collection(&self) -> Option<&'static str> {
        self.0.call.collection()
    }

    /// Returns the place in which the call names its model.
    #[must_use]
    pub fn model_place(&self) -> ModelPlace {
        self.0.call.model_place()
    }

    /// Returns the place for a deployment's name, unless the same name stands there already.
    pub(crate) fn place_of(&self, deployment: &str) -> Option<&NamePlace> {
        let named = self.0.named.as_ref()?;
        let is_there = matches!(named.place, NamePlace::Form(_) | NamePlace::Json(_) | NamePlace::Query(_))
            && self.0.call.deployment().is_none()
            && named.written.as_deref() == Some(deployment);
        (!is_there).then_some(&named.place)
    }

    /// Returns the place for a deployment's name besides the path.
    pub(crate) fn named_at(&self) -> Option<&NamePlace> {
        self.0.named.as_ref().map(|named| &named.place)
    }

    /// Returns what stands where a deployment's name is put.
    pub(crate) fn written_name(&self) -> Option<&str> {
        self.0.named.as_ref()?.written.as_deref()
    }

    /// Tells whether it may be sent to another target after an outcome that is unknown.
    #[must_use]
    pub fn repeat(&self) -> Repeat {
        self.0.repeat
    }

    /// Returns what it has in common with routes that are better served by the same target.
    #[must_use]
    pub fn affinity(&self) -> Option<u64> {
        self.0.affinity
    }

    /// Kind of its answer: latencies are compared within one kind.
    #[must_use]
    pub fn kind(&self) -> RouteKind {
        if self.is_streaming() { RouteKind::Streamed } else { RouteKind::Whole }
    }

    /// Tells whether the client asked for a stream.
    #[must_use]
    pub fn is_streaming(&self) -> bool {
        self.0.streaming
    }
}
