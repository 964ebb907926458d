//! Headers that narrow where a request may go.

use http::request::Parts;
use http::{HeaderMap, HeaderName};

use crate::error::{Error, ErrorKind};
use crate::pool::{Constraints, Processing};

/// The header by which a request keeps to the backends of one geography.
pub const GEOGRAPHY_HEADER: HeaderName = HeaderName::from_static("x-gateway-geography");
/// The header by which a request keeps to backends that process prompts in one of these scopes: `regional`, `data-zone`,
/// `global`, with commas between them.
pub const PROCESSING_HEADER: HeaderName = HeaderName::from_static("x-gateway-processing");

/// Takes the headers, and adds what they demand to what is demanded already.
pub(super) fn take(parts: &mut Parts) -> Result<(), Error> {
    let geography = demanded(&mut parts.headers, GEOGRAPHY_HEADER, geography)?;
    let processing = demanded(&mut parts.headers, PROCESSING_HEADER, processing)?;
    for demand in [geography, processing].into_iter().flatten() {
        let all = match parts.extensions.remove::<Constraints>() {
            Some(known) => known.and(demand),
            None => demand,
        };
        parts.extensions.insert(all);
    }
    Ok(())
}

/// Reads one line. Of several, nobody could tell whether they add up or narrow each other, and whoever stands before the
/// gateway may join them.
fn demanded(
    headers: &mut HeaderMap,
    name: HeaderName,
    read: impl FnOnce(&str) -> Result<Constraints, &'static str>,
) -> Result<Option<Constraints>, Error> {
    let mut lines = headers.get_all(&name).iter();
    let Some(line) = lines.next() else { return Ok(None) };
    let demand = match (lines.next(), std::str::from_utf8(line.as_bytes())) {
        (None, Ok(line)) => read(line.trim()),
        (Some(_), _) => Err("stands there twice; send it once"),
        (_, Err(_)) => Err("is no text"),
    };
    let demand = demand.map_err(|why| invalid(&name, why))?;
    headers.remove(name);
    Ok(Some(demand))
}

fn geography(line: &str) -> Result<Constraints, &'static str> {
    if line.is_empty() || line.contains(',') {
        return Err("must name one geography");
    }
    Ok(Constraints::default().geography(line))
}

fn processing(line: &str) -> Result<Constraints, &'static str> {
    const KNOWN: [Processing; 3] = [Processing::DataZone, Processing::Global, Processing::Regional];
    let scope = |word: &str| KNOWN.into_iter().find(|scope| scope.as_str() == word.trim());
    let scopes: Option<Vec<_>> = line.split(',').map(scope).collect();
    let scopes = scopes.ok_or("must list `regional`, `data-zone` or `global`, with commas between them")?;
    Ok(Constraints::default().processing(scopes))
}

fn invalid(name: &HeaderName, why: &str) -> Error {
    Error::new(ErrorKind::InvalidConstraint, format!("The header `{name}` {why}."))
}
