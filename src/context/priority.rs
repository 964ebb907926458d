//! Priority of one request, as far as it says so itself.

use http::{Extensions, HeaderMap, HeaderName};

use super::Client;
use crate::error::{Error, ErrorKind};
use crate::pool::Priority;

/// The header by which a request gives way more than its client must: `low`, `normal` or `high`. It raises nothing.
pub const PRIORITY_HEADER: HeaderName = HeaderName::from_static("x-gateway-priority");

/// Takes the header, and notes what it asks for; it goes no further.
///
/// # Errors
/// It cannot be understood.
pub(crate) fn take(headers: &mut HeaderMap, extensions: &mut Extensions) -> Result<(), Error> {
    let mut lines = headers.get_all(PRIORITY_HEADER).iter();
    let Some(line) = lines.next() else { return Ok(()) };
    let asked = line.to_str().ok().and_then(|line| Priority::named(line.trim())).filter(|_| lines.next().is_none());
    let Some(asked) = asked else {
        let message = format!("The header `{PRIORITY_HEADER}` must be `low`, `normal` or `high`, once.");
        return Err(Error::new(ErrorKind::InvalidConstraint, message));
    };
    headers.remove(PRIORITY_HEADER);
    let known = extensions.get().copied().unwrap_or(asked);
    extensions.insert(asked.min(known));
    Ok(())
}

/// The priority of a request: its client's, or a lower one that its extensions hold.
pub(crate) fn of(extensions: &Extensions) -> Priority {
    let own = extensions.get::<Client>().map(Client::own_priority).unwrap_or_default();
    extensions.get::<Priority>().map_or(own, |asked| own.min(*asked))
}
