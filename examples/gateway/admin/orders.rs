//! Orders by POST: what can be changed, and how.

use std::borrow::Cow;

use http::StatusCode;
use http_body_util::{BodyExt, Limited};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};
use tower_azure_openai::pool::{BuildError, Pool};
use tower_azure_openai::recorder::Action;

use super::steering::Steering;

/// More than any order has to say: 4 KiB.
const LONGEST: usize = 4 << 10;

/// Something to be done. Every one can be done again without doing more.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Order<'a> {
    CloseCircuit { backend: Cow<'a, str>, deployment: Cow<'a, str> },
    Drain,
    DrainBackend(Cow<'a, str>),
    Reload,
    Undrain,
    UndrainBackend(Cow<'a, str>),
    Weigh(Cow<'a, str>),
}

/// Reason why an order was not followed.
pub(super) type Refusal = (StatusCode, String);

impl<'a> Order<'a> {
    /// The order that a path is for. Names in it may be escaped.
    pub(super) fn at(path: &'a str) -> Option<Self> {
        let name = |segment: &'a str| percent_decode_str(segment).decode_utf8().ok();
        let segments: Vec<_> = path.strip_prefix('/')?.split('/').collect();
        Some(match segments[..] {
            ["drain"] => Self::Drain,
            ["undrain"] => Self::Undrain,
            ["reload"] => Self::Reload,
            ["backends", backend, "drain"] => Self::DrainBackend(name(backend)?),
            ["backends", backend, "undrain"] => Self::UndrainBackend(name(backend)?),
            ["backends", backend, "weight"] => Self::Weigh(name(backend)?),
            ["circuits", backend, deployment, "close"] => {
                Self::CloseCircuit { backend: name(backend)?, deployment: name(deployment)? }
            }
            _ => return None,
        })
    }

    /// About whom what is to be told of it; what a reload came to is told by the reload.
    pub(super) fn told(&self) -> Option<(String, &'static str)> {
        let process = || "This process".to_owned();
        Some(match self {
            Self::CloseCircuit { backend, deployment } => {
                (format!("{backend}/{deployment}"), "had its circuit closed by an operator")
            }
            Self::Drain => (process(), "was drained by an operator"),
            Self::DrainBackend(name) => (name.to_string(), "was drained by an operator"),
            Self::Reload => return None,
            Self::Undrain => (process(), "was undrained by an operator"),
            Self::UndrainBackend(name) => (name.to_string(), "was undrained by an operator"),
            Self::Weigh(name) => (name.to_string(), "was weighed by an operator"),
        })
    }

    /// Follows it; gives what is to be recorded of it, where a reload does not do so.
    pub(super) async fn follow<B>(self, steering: &Steering, body: B) -> Result<Option<Action>, Refusal>
    where
        B: http_body::Body<Error: Into<tower::BoxError>>,
    {
        let weight = match &self {
            Self::Weigh(_) => Some(read(body).await?),
            _ => None,
        };
        let done = match &self {
            Self::Drain | Self::Undrain => {
                steering.drain(self == Self::Drain);
                return Ok(Some(Action::Drain(self == Self::Drain)));
            }
            Self::Reload => {
                let reloaded = steering.reload().await;
                return reloaded.map(|()| None).map_err(|problems| (StatusCode::BAD_REQUEST, problems));
            }
            Self::DrainBackend(name) => steering.current().pool.drain(name),
            Self::UndrainBackend(name) => steering.current().pool.undrain(name),
            Self::Weigh(name) => weigh(&steering.current().pool, name, weight.flatten()),
            Self::CloseCircuit { backend, deployment } => steering.current().pool.close_circuit(backend, deployment),
        };
        done.map_err(|wrong| (status(&wrong), format!("{wrong}\n")))?;
        Ok(match &self {
            Self::DrainBackend(name) => Some(Action::drain_backend(name, true)),
            Self::UndrainBackend(name) => Some(Action::drain_backend(name, false)),
            Self::Weigh(name) => weight.flatten().map(|weight| Action::weigh(name, weight)),
            Self::CloseCircuit { backend, deployment } => Some(Action::close_circuit(backend, deployment)),
            Self::Drain | Self::Undrain | Self::Reload => None,
        })
    }
}

fn weigh(pool: &Pool, backend: &str, weight: Option<u32>) -> Result<(), BuildError> {
    match weight {
        Some(weight) => pool.set_weight(backend, weight),
        None => pool.reset_weight(backend),
    }
}

/// Status of a refusal: what is not there is not found; anything else is wrong.
fn status(wrong: &BuildError) -> StatusCode {
    if wrong.is_missing() { StatusCode::NOT_FOUND } else { StatusCode::BAD_REQUEST }
}

/// The weight that a body asks for; `null` is as it is configured.
async fn read<B>(body: B) -> Result<Option<u32>, Refusal>
where
    B: http_body::Body<Error: Into<tower::BoxError>>,
{
    let bad = || {
        (StatusCode::BAD_REQUEST, "the body must be such as {\"weight\": 2}, or null for as configured\n".to_owned())
    };
    let body = Limited::new(body, LONGEST).collect().await.map_err(|_| bad())?.to_bytes();
    let read: Map<String, Value> = serde_json::from_slice(&body).map_err(|_| bad())?;
    match (read.get("weight"), read.len()) {
        (Some(Value::Null), 1) => Ok(None),
        (Some(weight), 1) => weight.as_u64().and_then(|weight| u32::try_from(weight).ok()).map(Some).ok_or_else(bad),
        _ => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_paths_may_be_escaped_and_nothing_else_is_an_order() {
        let backend = |name: &'static str| Cow::Borrowed(name);
        for (path, order) in [
            ("/backends/east/drain", Order::DrainBackend(backend("east"))),
            ("/backends/a%2Fb/undrain", Order::UndrainBackend(backend("a/b"))),
            ("/backends/%C3%9Cberall/weight", Order::Weigh(backend("Überall"))),
            ("/backends/weight/weight", Order::Weigh(backend("weight"))),
            (
                "/circuits/a%20b/gpt-4.1%2Fx/close",
                Order::CloseCircuit { backend: backend("a b"), deployment: backend("gpt-4.1/x") },
            ),
            ("/reload", Order::Reload),
        ] {
            assert_eq!(Order::at(path), Some(order), "{path}");
        }
        let none =
            ["/", "drain", "/drain/", "//drain", "/backends/east", "/backends/%FF/drain", "/circuits/a/b/c/close"];
        assert_eq!(none.map(Order::at), [const { None }; 7]);
    }
}
