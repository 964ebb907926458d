use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::body::Body;
use crate::headers::query_parameters;

/// On a request: the call that a frame of a WebSocket stands for, with the frame as its body. Beside it stands a
/// [`Handshake`](super::Handshake).
///
/// Layers treat it like the call itself. Whoever sends requests to backends does not send the body: it puts it on the answer as a
/// [`RewrittenFrame`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SocketFrame {
    /// The first: the backend is asked for a WebSocket.
    First,
    /// One for a connection that stands: the answer is a 101 at once, and the backend is asked for nothing.
    Later,
    /// One that names a deployment in the settings of a realtime session that stands: answered like [`Later`](Self::Later). It asks
    /// for nothing that could be limited, counted or throttled; its name is judged and rewritten.
    Settings,
}

/// Tells whether a query asks for a transcription session, whose model stands in what its client says.
pub(crate) fn is_transcription(query: &str) -> bool {
    query_parameters(query).any(|(name, value, _)| name == "intent" && value == "transcription")
}

/// On a 101: the frame as the target wants it, for whoever takes it first.
#[derive(Clone)]
pub struct RewrittenFrame(Arc<Mutex<Option<Body>>>);

impl RewrittenFrame {
    /// The body of a request with a [`SocketFrame`].
    #[must_use]
    pub fn new(body: Body) -> Self {
        Self(Arc::new(Mutex::new(Some(body))))
    }

    /// Takes it, once.
    #[must_use]
    pub fn take(&self) -> Option<Body> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Never the content.
impl fmt::Debug for RewrittenFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RewrittenFrame").finish_non_exhaustive()
    }
}
