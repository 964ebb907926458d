//! Calls that authorization leaves to whoever remembers objects.

use super::Route;
use crate::error::{Error, ErrorKind};

/// On a request: its client may make it where it may use the alias by which the object was made that it goes on with. Put by
/// authorization, taken by sticky sessions, which remember that; selection refuses what nobody has decided.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Undecided;

impl Undecided {
    /// Nobody knows the object, or its alias is not for this client.
    pub(crate) fn refusal(route: &Route) -> Error {
        not_opened(route, "this call goes on with an object that was not made by one of them, as far as is known")
    }
}

/// A call that a client with a list of aliases could make only by its operation.
pub(crate) fn not_opened(route: &Route, why: &str) -> Error {
    let message = format!(
        "This client may use certain deployments only, and {why}. It would need the operation {:?}.",
        route.operation().as_str()
    );
    Error::new(ErrorKind::OperationNotAllowed, message)
}
