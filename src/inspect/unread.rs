//! The rest of a body that is handed on before it was read.
//!
//! **The rule.** What a request names is authorised, used in selection and rewritten. Where that cannot be done any more, because
//! the backend is chosen and gets the body already, a client that is held to a list of aliases is refused: the body is cut off
//! before it is complete. One that is held to none is served, and the name passes as it is. Of the lines of a batch file, which are
//! [rewritten as they pass](crate::forward), selection alone is missing: a name that the client may use passes here.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tower::BoxError;

use super::{further, upload};
use crate::azure::Outcome;
use crate::azure::batch_file::BatchScan;
use crate::azure::further_names::NameScan;
use crate::body::Body;
use crate::context::{AttemptFailed, Client};
use crate::error::{Error, ErrorKind};

/// What reads on, after the part that was in hand.
pub(super) enum Scan {
    /// With how many names were found in that part.
    Json(Box<NameScan>, usize),
    Lines(Box<BatchScan>),
}

impl Scan {
    pub(super) fn json(scan: NameScan) -> Self {
        let known = scan.names().count();
        Self::Json(Box::new(scan), known)
    }

    pub(super) fn lines(scan: BatchScan) -> Self {
        Self::Lines(Box::new(scan))
    }

    fn check(&mut self, data: &[u8], client: &Client) -> Result<(), Error> {
        match self {
            Self::Json(scan, known) => {
                scan.feed(data).map_err(|error| upload::contradicts(&error))?;
                if scan.names().count() > *known { Err(too_late()) } else { Ok(()) }
            }
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
    Body::prefixed(head, Body::new(Watched { rest, scan, client: client.clone() }))
}

struct Watched {
    rest: Body,
    scan: Scan,
    client: Client,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let frame = ready!(Pin::new(&mut this.rest).poll_frame(cx)?);
        if let Some(data) = frame.as_ref().and_then(Frame::data_ref)
            && let Err(error) = this.scan.check(data, &this.client)
        {
            return Poll::Ready(Some(Err(AttemptFailed::new(Outcome::Abandoned, error).into())));
        }
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.rest.size_hint()
    }
}

fn too_late() -> Error {
    Error::new(
        ErrorKind::AliasNotAllowed,
        "This client may use certain deployments only, and the body names a further one behind what the gateway reads before it \
         sends: put it first, or send a smaller body.",
    )
}

fn purpose_too_late() -> Error {
    Error::new(
        ErrorKind::AliasNotAllowed,
        "This client may use certain deployments only, and the form says behind its file that it is a batch: put `purpose` first.",
    )
}
