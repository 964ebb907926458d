//! Reading of a request.

mod inference;
mod page;
mod payload;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use http::Method;
use percent_encoding::percent_decode_str;

pub(super) use self::inference::{Inference, Operation};
pub(super) use self::page::Page;
pub(super) use self::payload::Payload;
use super::objects::ObjectCall;
use super::received::ReceivedRequest;

/// Call that one request makes. A request that no Azure OpenAI resource serves is no call.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Call {
    /// Asks a deployment for an answer.
    Infer(Inference),
    /// Lists the models.
    Models,
    /// Does something with objects. A list may be asked for by the page.
    Objects(ObjectCall, Payload, Page),
    /// Opens a realtime session with a deployment, if the query names one.
    Realtime {
        deployment: Option<String>,
        /// True if it only writes down what it hears, with a deployment that is named once it is open.
        transcribes: bool,
    },
}

/// Surface by which the deployment is named.
enum Surface {
    /// In the body, on a path with an `api-version`.
    Classic { api_version: String },
    /// In the path.
    Deployment { api_version: String, name: String },
    /// In the body, in the form of Anthropic's API.
    Anthropic,
    /// In the body.
    V1,
}

impl Call {
    pub(super) fn read(request: &ReceivedRequest) -> Option<Self> {
        let (surface, path) = Surface::read(request)?;
        let segments: Vec<_> = path.split('/').collect();
        let payload = || Payload::read(&request.headers, &request.body);
        if let Some((operation, thread)) = Operation::read(&request.method, &segments) {
            return surface.infer(operation, thread, payload()).map(Self::Infer);
        }
        if matches!(surface, Surface::Anthropic | Surface::Deployment { .. }) {
            return None;
        }
        match (request.method.as_str(), &*segments) {
            ("GET", ["models"]) => Some(Self::Models),
            ("GET", ["realtime"]) => {
                let parameter = if matches!(surface, Surface::V1) { "model" } else { "deployment" };
                let deployment = query(request, parameter).next().map(Cow::into_owned);
                let transcribes = query(request, "intent").any(|intent| intent == "transcription");
                Some(Self::Realtime { deployment, transcribes })
            }
            (method, path) => Some(Self::Objects(ObjectCall::read(method, path)?, payload(), Page::read(request))),
        }
    }

    pub(super) fn deployment(&self) -> Option<&str> {
        match self {
            Self::Infer(inference) => inference.deployment.as_deref(),
            Self::Realtime { deployment, .. } => deployment.as_deref(),
            Self::Models | Self::Objects(..) => None,
        }
    }
}

// ===== impl Surface =====

impl Surface {
    /// The surface, and the path below it.
    fn read(request: &ReceivedRequest) -> Option<(Self, &str)> {
        if let Some(path) = request.uri.path().strip_prefix("/anthropic/v1/") {
            return Some((Self::Anthropic, path));
        }
        let path = request.uri.path().strip_prefix("/openai/")?;
        if let Some(path) = path.strip_prefix("v1/") {
            return Some((Self::V1, path));
        }
        let api_version = query(request, "api-version").next().filter(|version| !version.is_empty())?.into_owned();
        let Some(rest) = path.strip_prefix("deployments/") else {
            return Some((Self::Classic { api_version }, path));
        };
        let (name, path) = rest.split_once('/')?;
        let name = percent_decode_str(name).decode_utf8().ok()?.into_owned();
        Some((Self::Deployment { api_version, name }, path))
    }

    /// On classic paths an operation stands either below a deployment or not, and not the other way round.
    fn infer(self, operation: Operation, thread: Option<String>, payload: Payload) -> Option<Inference> {
        let named = payload.text("model").map(str::to_owned);
        if matches!(self, Self::Anthropic) != (operation == Operation::Messages) {
            return None;
        }
        let (api_version, deployment) = match self {
            Self::Anthropic | Self::V1 => (inference::V1.to_owned(), named),
            Self::Classic { api_version } if !operation.belongs_to_a_deployment() => (api_version, named),
            Self::Deployment { api_version, name } if operation.belongs_to_a_deployment() => (api_version, Some(name)),
            Self::Classic { .. } | Self::Deployment { .. } => return None,
        };
        Some(Inference { operation, api_version, deployment, thread, payload })
    }
}

/// The values of a query parameter.
pub(super) fn query<'a>(request: &'a ReceivedRequest, name: &'a str) -> impl Iterator<Item = Cow<'a, str>> {
    let pairs = request.uri.query().unwrap_or_default().split('&');
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .filter(move |(key, _)| *key == name)
        .map(|(_, value)| percent_decode_str(value).decode_utf8_lossy())
}

fn is_post(method: &Method) -> bool {
    method == Method::POST
}
