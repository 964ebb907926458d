use http::header::UPGRADE;
use http::{Method, Request};

use crate::azure::estimate::Text;
use crate::azure::operation::{ModelPlace, Operation};
use crate::azure::usage::asks_for_usage;
use crate::body::Body;
use crate::context::{Route, SocketFrame};

/// Plan of what is counted of an answer.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) route: Route,
    /// True if the call is one whose answer is made for it. Otherwise only objects count that were made in the background.
    pub(super) makes: bool,
    /// The prompt, where the answer may end before it tells what it used.
    pub(super) prompt: Option<Text>,
    /// True if the answer may be a stream that never tells.
    pub(super) is_silent: bool,
    /// True if the answer tells more than its client asked for.
    pub(super) asks: bool,
    /// True if it is carried by a WebSocket.
    pub(super) is_socket: bool,
}

impl Plan {
    /// `None` where nothing can have been used. `learns` asks for the prompt of a call that will tell, too.
    pub(super) fn of(request: &Request<Body>, learns: bool) -> Option<Self> {
        let route = Route::find_or_parse(request.extensions(), request.method(), request.uri()).ok()?;
        let is_stored = matches!(route.operation(), Operation::Responses | Operation::Threads | Operation::Batches);
        let frame = request.extensions().get::<SocketFrame>();
        if frame == Some(&SocketFrame::Settings) {
            return None;
        }
        let is_socket = frame.is_some() || request.headers().contains_key(UPGRADE);
        let makes = is_socket || request.method() == Method::POST && route.object_ids().next().is_none();
        if !is_stored && (!makes || route.model_place() == ModelPlace::Nowhere) {
            return None;
        }
        let body = request.body().head().map(|head| &head[..]).unwrap_or_default();
        let prompt = (makes && (route.is_streaming() || learns)).then(|| Text::of_prompt(body));
        let is_silent = makes && !is_socket && is_silent(&route, body);
        Some(Self { route, makes, prompt, is_silent, asks: false, is_socket })
    }

    /// Tells whether the answer is a session of many answers.
    pub(super) fn is_session(&self) -> bool {
        self.is_socket && self.route.operation() == Operation::Realtime
    }

    /// The same, once the gateway has asked for the usage.
    pub(super) fn that_asks(self) -> Self {
        Self { is_silent: false, asks: true, ..self }
    }
}

/// Tells whether an answer is a stream without usage: chat and completions tell it only to those that ask.
fn is_silent(route: &Route, body: &[u8]) -> bool {
    let tells_who_asks = matches!(route.operation(), Operation::ChatCompletions | Operation::Completions);
    route.is_streaming() && tells_who_asks && !asks_for_usage(body)
}
