//! The call that a path outside the API may have meant.

use super::table::Row;
use super::{BELOW_OPENAI, ModelPlace};

/// Number of segments that may stand before a path of the API.
const BEFORE: usize = 8;

/// Says which path it would be and where the alias belongs. Nothing of the path is repeated.
pub(crate) fn whereabouts(path: &str) -> String {
    let Some(row) = nearest(path) else {
        return "Resource not found. The API is below `/openai/v1/`, with the alias as `model` of the body, and, with an \
                `api-version`, below `/openai/deployments/{alias}/`."
            .to_owned();
    };
    let path = row.path.replace("{}", "{id}");
    let place = match row.model {
        ModelPlace::Body | ModelPlace::DefaultBody | ModelPlace::OptionalBody => {
            ", with the alias as `model` of the body"
        }
        ModelPlace::Session => ", with the alias as `model` of the `session` in the body",
        _ => "",
    };
    let classic = if row.in_deployment && matches!(row.model, ModelPlace::Body | ModelPlace::DefaultBody) {
        format!(", or, with an `api-version`, `/openai/deployments/{{alias}}/{path}`")
    } else {
        String::new()
    };
    format!("Resource not found. It would be `/openai/v1/{path}`{place}{classic}.")
}

/// The call whose path is the longest end of this one.
fn nearest(path: &str) -> Option<&'static Row> {
    let path = path.trim_matches('/');
    let inner = path.match_indices('/').map(|(at, _)| &path[at + 1..]);
    std::iter::once(path).chain(inner).take(BEFORE).find_map(|end| BELOW_OPENAI.find(end))
}
