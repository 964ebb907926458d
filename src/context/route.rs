use std::ops::Range;
use std::sync::Arc;

use http::{Extensions, Method, Uri};

use crate::azure::operation::{self, Call, Operation, Repeat, Surface};
use crate::error::{Error, ErrorKind};

/// What one request asks for. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Route(Arc<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    call: Call,
    streaming: bool,
}

impl Route {
    /// Reads what the path tells; whether the answer will be a stream stands in the body and is `false` here.
    ///
    /// # Errors
    /// The path lies outside the API, or two parsers could read it differently.
    pub fn parse(method: &Method, uri: &Uri) -> Result<Self, Error> {
        match operation::parse(method, uri.path()) {
            Ok(call) => Ok(Self(Arc::new(Inner { call, streaming: false }))),
            Err(error) if error.is_outside() => {
                Err(Error::new(ErrorKind::PathNotFound, "Resource not found").with_source(error))
            }
            Err(error) => Err(Error::new(ErrorKind::AmbiguousRequest, error.to_string())),
        }
    }

    /// The route that another layer found, or the one that the path tells.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn find_or_parse(extensions: &Extensions, method: &Method, uri: &Uri) -> Result<Self, Error> {
        extensions.get().cloned().map_or_else(|| Self::parse(method, uri), Ok)
    }

    /// The same route, with what the body says of streaming.
    #[must_use]
    pub fn with_streaming(mut self, streaming: bool) -> Self {
        if streaming != self.0.streaming {
            Arc::make_mut(&mut self.0).streaming = streaming;
        }
        self
    }

    /// Which call of the API it is.
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
    #[must_use]
    pub fn alias(&self) -> Option<&str> {
        self.0.call.deployment()
    }

    /// The ids of stored objects in the path, decoded, in their order.
    #[must_use]
    pub fn object_ids(&self) -> impl ExactSizeIterator<Item = &str> {
        self.0.call.object_ids()
    }

    /// Where the alias stands in the path of the request, as bytes.
    #[must_use]
    pub fn alias_span(&self) -> Option<Range<usize>> {
        self.0.call.deployment_span()
    }

    /// Whether it may be sent to another target after an outcome that is unknown.
    #[must_use]
    pub fn repeat(&self) -> Repeat {
        self.0.call.repeat()
    }

    /// Whether the client asked for a stream.
    #[must_use]
    pub fn is_streaming(&self) -> bool {
        self.0.streaming
    }
}
