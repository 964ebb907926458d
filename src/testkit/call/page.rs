//! Part of a list that is asked for.

use std::borrow::Cow;

use super::query;
use crate::testkit::received::ReceivedRequest;

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Page {
    pub(in super::super) after: Option<String>,
    pub(in super::super) before: Option<String>,
    /// The oldest first.
    pub(in super::super) ascending: bool,
    pub(in super::super) limit: usize,
}

impl Page {
    pub(super) fn read(request: &ReceivedRequest) -> Self {
        let parameter = |name| query(request, name).next().map(Cow::into_owned);
        let limit = parameter("limit").and_then(|limit| limit.parse().ok()).unwrap_or(20);
        Self {
            after: parameter("after"),
            before: parameter("before"),
            ascending: parameter("order").as_deref() == Some("asc"),
            limit: usize::clamp(limit, 1, 100),
        }
    }
}
