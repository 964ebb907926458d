//! The rest of a body that is handed on before it was read.
//!
//! **The rule.** What a request names is authorised, used in selection and rewritten. Where that cannot be done any more, because
//! the backend is chosen and gets the body already, a client that is held to a list of aliases is refused: the body is cut off
//! before it is complete. One that is held to none is served, and the name passes as it is. Of the lines of a batch file, which are
//! [rewritten as they pass](crate::forward), selection alone is missing: a name that the client may use passes here.

use super::checked::checked;
use super::{further, naming, upload};
use crate::azure::Outcome;
use crate::azure::batch_file::BatchScan;
use crate::azure::further_names::NameScan;
use crate::azure::operation::Operation;
use crate::azure::request_body::BodyScan;
use crate::body::Body;
use crate::context::{AttemptFailed, Client, Route};
use crate::error::{Error, ErrorKind};

/// Scan that reads on, after the part that was in hand.
pub(super) enum Scan {
    Json(Box<Json>),
    Lines(Box<BatchScan>),
}

pub(super) struct Json {
    names: NameScan,
    /// Number of names that were found in that part.
    known: usize,
    /// Place where an agent may be named that answers.
    agent: Option<BodyScan>,
}

impl Json {
    fn check(&mut self, data: &[u8]) -> Result<(), Error> {
        self.names.feed(data).map_err(|error| upload::contradicts(&error))?;
        if self.names.names().count() > self.known {
            return Err(too_late());
        }
        let Some(scan) = &mut self.agent else { return Ok(()) };
        scan.feed(data).map_err(|error| upload::contradicts(&error))?;
        if scan.fields().refers_to_agent { Err(of_agent()) } else { Ok(()) }
    }
}

/// Returns what sees to it that the rest of a body names no agent, where the client may not use any.
///
/// # Errors
/// The part that is in hand names one.
pub(super) fn no_agent(client: &Client, route: &Route, in_hand: &[u8]) -> Result<Option<BodyScan>, Error> {
    if route.operation() != Operation::Responses || client.may_call(Operation::Responses) {
        return Ok(None);
    }
    let mut scan = BodyScan::json();
    scan.feed(in_hand).map_err(|error| naming::unreadable(&error))?;
    if scan.fields().refers_to_agent { Err(of_agent()) } else { Ok(Some(scan)) }
}

impl Scan {
    /// `agent` has read the part that was in hand, and found none.
    pub(super) fn json(names: NameScan, agent: Option<BodyScan>) -> Self {
        let known = names.names().count();
        Self::Json(Box::new(Json { names, known, agent }))
    }

    pub(super) fn lines(scan: BatchScan) -> Self {
        Self::Lines(Box::new(scan))
    }

    fn check(&mut self, data: &[u8], client: &Client) -> Result<(), Error> {
        match self {
            Self::Json(scan) => scan.check(data),
            Self::Lines(scan) => {
                scan.feed(data).map_err(further::unusable)?;
                if scan.is_unread() {
                    return Err(purpose_too_late());
                }
                match scan.take_names().iter().find(|named| !client.may_use_in_lines(&named.name)) {
                    Some(named) => Err(Error::new(
                        ErrorKind::AliasNotAllowed,
                        format!("This client may not use a deployment that line {} of the file names.", named.line),
                    )),
                    None => Ok(()),
                }
            }
        }
    }
}

/// Watches what is still to come of a body, for a client that is held to a list.
pub(super) fn watch(body: Body, scan: Scan, held: Option<&Client>) -> Body {
    let Some(client) = held else { return body };
    let (head, rest) = body.split_head();
    let (mut scan, client) = (scan, client.clone());
    // Whoever sent it is to blame, and no backend.
    let check =
        move |data: &[u8]| scan.check(data, &client).map_err(|error| AttemptFailed::new(Outcome::Abandoned, error));
    Body::prefixed(head, checked(rest, check))
}

fn too_late() -> Error {
    Error::new(
        ErrorKind::AliasNotAllowed,
        "This client may use certain deployments only, and the body names a further one behind what the gateway reads before it \
         sends: put it first, or send a smaller body.",
    )
}

fn of_agent() -> Error {
    Error::new(
        ErrorKind::OperationNotAllowed,
        "This client may use certain deployments only, and the agent that answers this call could use any. It would need the \
         operation \"responses\".",
    )
}

fn purpose_too_late() -> Error {
    Error::new(
        ErrorKind::AliasNotAllowed,
        "This client may use certain deployments only, and the form says behind its file that it is a batch: put `purpose` first.",
    )
}
