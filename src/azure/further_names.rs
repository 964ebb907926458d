//! Deployments that a JSON body names beside the one that answers it.
//!
//! Sources: `data_sources` as in <https://learn.microsoft.com/azure/ai-foundry/openai/references/on-your-data>, `tools[].model` as in <https://learn.microsoft.com/azure/ai-foundry/openai/how-to/responses>.

use smallvec::SmallVec;

use super::json_text::may_have_word;
use super::operation::Operation;
use super::request_body::{Model, ReadBodyError, session_part};

mod scan;
mod ways;

pub(crate) use self::scan::NameScan;
use self::ways::Way;
pub(super) use self::ways::{LINE, PURPOSE};

/// More than anybody has a use for.
pub(super) const MAX_NAMES: usize = 32;

/// One step on the way to a name.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    /// Over any number of steps into a member of an object.
    Deep(&'static str),
    /// Into every element of an array.
    Each,
    /// Into every element of an array that has this `type`.
    EachOfType(&'static str),
    /// Into a member of an object.
    In(&'static str),
}

/// Tells whether a body of this operation can name further deployments.
#[must_use]
pub(crate) const fn may_name(operation: Operation) -> bool {
    !ways::of(operation).is_empty()
}

/// Finds the names where the operation defines them, in the order in which they stand. A body that is no JSON object has none.
///
/// # Errors
/// A member on the way to a name stands twice, or in another case; a name is neither a string nor `null`; there are more than 32;
/// the body is not the JSON that it begins to be. What stands on the way in another case is seen in any body, so that it is never
/// passed on to a backend that would read it.
pub(crate) fn find(operation: Operation, body: &[u8]) -> Result<Vec<Model>, ReadBodyError> {
    let ways = ways::of(operation);
    let words: SmallVec<[&str; 8]> = ways.iter().map(Way::word).collect();
    if words.is_empty() || !may_have_word(body, &words) {
        return Ok(Vec::new());
    }
    let mut scan = NameScan::new(ways);
    scan.feed(body)?;
    Ok(scan.names().cloned().collect())
}

/// Finds the names of a realtime session, which may stand in a form with this boundary.
///
/// # Errors
/// As [`find`] and [`find_field`](super::request_body::find_field).
pub(crate) fn find_session(boundary: Option<&str>, body: &[u8]) -> Result<Vec<Model>, ReadBodyError> {
    let (start, session) = session_part(boundary, body)?;
    Ok(find(Operation::Realtime, session)?.into_iter().map(|name| name.moved_by(start)).collect())
}

/// Returns what finds the names of a body that is read as it arrives; nothing for operations whose bodies have none.
#[must_use]
pub(crate) const fn scan(operation: Operation) -> Option<NameScan> {
    if may_name(operation) { Some(NameScan::new(ways::of(operation))) } else { None }
}

/// The ways of an operation as texts, for whoever looks for names without [`NameScan`].
#[cfg(any(fuzzing, test))]
pub(crate) fn ways(operation: Operation) -> Vec<String> {
    ways::of(operation).iter().map(Way::text).collect()
}

/// The same for a line of a batch file.
#[cfg(any(fuzzing, test))]
pub(crate) fn line_ways() -> Vec<String> {
    LINE.iter().map(Way::text).collect()
}

#[cfg(test)]
mod tests;
