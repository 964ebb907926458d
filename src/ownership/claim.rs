//! Objects that a request lays claim to.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_ENCODING;
use http::{HeaderMap, Method, Request};
use http_body::Body as _;
use percent_encoding::percent_decode_str;

use crate::azure::media_type::MediaType;
use crate::azure::object_id::{Family, LookAlikes, ObjectId, is_json, reads_stored};
use crate::azure::operation::Operation;
use crate::body::Body;
use crate::context::is_sdp;
use crate::directory::{Extent, ObjectKey, SessionStore, Subject, in_time, not_found};
use crate::error::{Error, ErrorKind};
use crate::headers::query_parameters;

/// Wait that is told while the store cannot be reached.
const RETRY: Duration = Duration::from_secs(1);

/// Claim of a request: the objects that it names, and for whom.
#[derive(Debug)]
pub(super) struct Claim {
    who: Arc<str>,
    subject: Subject,
    /// Other strings in it that could be ids: nothing of it may be another client's.
    suspects: Vec<String>,
}

impl Claim {
    /// Reads a request.
    ///
    /// # Errors
    /// The route's own; something in it cannot be read, or would reach nobody knows what.
    pub(super) fn read(request: &Request<Body>, who: Arc<str>) -> Result<Self, Error> {
        let subject = Subject::read(request)?;
        if let Some(first) = subject.route.object_ids().next().filter(|first| !subject.names(first)) {
            return Err(not_found(first));
        }
        if subject.is_out_of_sight() {
            return Err(out_of_sight());
        }
        match subject.extent {
            Extent::Oversized => return Err(not_found("")),
            Extent::Truncated => return Err(unreadable()),
            Extent::Whole => {}
        }
        let mut texts = LookAlikes::default();
        read_head(request, &mut texts);
        read_body(request, &subject, &mut texts)?;
        let texts = texts.into_texts().map_err(|_| unreadable())?;
        let named: HashSet<_> = subject.named.iter().map(|named| named.id.as_str()).collect();
        let suspects = texts.into_iter().filter(|text| !named.contains(text.as_str())).collect();
        Ok(Self { who, subject, suspects })
    }

    /// Tells whether there is nothing to be judged.
    pub(super) fn is_empty(&self) -> bool {
        self.subject.named.is_empty() && self.suspects.is_empty() && !self.is_list()
    }

    /// Tells whether the answer is a list in which others' objects may stand.
    pub(super) const fn is_list(&self) -> bool {
        self.subject.is_list
    }

    /// Judges what was read.
    ///
    /// # Errors
    /// Something of it is not this client's, or the store cannot be reached.
    pub(super) async fn check(&self, store: &dyn SessionStore) -> Result<(), Error> {
        let named: Vec<_> = self.subject.named.iter().map(|named| named.id.as_str()).collect();
        let owners = owners(named.iter().copied().chain(self.suspects.iter().map(String::as_str)), store).await?;
        let (of_named, of_suspects) = owners.split_at(named.len());
        if let Some((other, _)) = named.iter().zip(of_named).find(|(_, owner)| owner.as_ref() != Some(&self.who)) {
            return Err(not_found(other));
        }
        let is_others = |owner: &Option<Arc<str>>| owner.as_ref().is_some_and(|owner| *owner != self.who);
        let other = self.suspects.iter().zip(of_suspects).find(|(_, owner)| is_others(owner));
        other.map_or(Ok(()), |(other, _)| Err(not_found(other)))
    }

    /// Tells of each object whether it is this client's.
    pub(super) async fn owns<'i>(
        &self,
        ids: impl Iterator<Item = &'i ObjectId>,
        store: &dyn SessionStore,
    ) -> Result<Vec<bool>, Error> {
        let owners = owners(ids.map(ObjectId::as_str), store).await?;
        Ok(owners.into_iter().map(|owner| owner.as_ref() == Some(&self.who)).collect())
    }

    /// Returns what an id of a list's object names.
    pub(super) fn family(&self) -> Option<Family> {
        self.subject.family()
    }

    pub(super) fn who(&self) -> &str {
        &self.who
    }
}

/// Whose each of these is, as far as that is known.
async fn owners<'i>(
    ids: impl Iterator<Item = &'i str>,
    store: &dyn SessionStore,
) -> Result<Vec<Option<Arc<str>>>, Error> {
    let keys: Vec<_> = ids.map(ObjectKey::of).collect();
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let known = in_time(store.look_up_all(keys)).await.map_err(|error| {
        Error::new(ErrorKind::NoTargetDown, "It is not known at the moment whose this is. Wait as the headers say.")
            .with_retry_after(RETRY)
            .with_source(error)
    })?;
    Ok(known.into_iter().map(|known| known?.owner).collect())
}

/// Path, query and headers.
fn read_head(request: &Request<Body>, texts: &mut LookAlikes) {
    for segment in request.uri().path().split('/') {
        texts.tokens(&percent_decode_str(segment).decode_utf8_lossy());
    }
    read_query(request.uri().query().unwrap_or_default(), texts);
    for value in request.headers().values().filter_map(|value| value.to_str().ok()) {
        texts.tokens(value);
    }
}

fn read_query(query: &str, texts: &mut LookAlikes) {
    for (name, value, _) in query_parameters(query) {
        texts.tokens(&name);
        texts.tokens(&value);
    }
}

/// The body as what it is, whatever it is called: some backends look for themselves.
fn read_body(request: &Request<Body>, subject: &Subject, texts: &mut LookAlikes) -> Result<(), Error> {
    if request.body().is_end_stream() {
        return Ok(());
    }
    let headers = request.headers();
    let body = request.body().as_bytes().ok_or_else(too_large)?;
    if body.is_empty() {
        return Ok(());
    }
    if headers.contains_key(CONTENT_ENCODING) {
        return Err(unreadable());
    }
    if is_json(body) {
        if subject.route.operation() == Operation::Evals
            && request.method() == Method::POST
            && reads_stored(body).map_err(|_| unreadable())?
        {
            return Err(of_everybody());
        }
        return texts.json(body).map_err(|_| unreadable());
    }
    read_other(headers, subject, body, texts).ok_or_else(unreadable)
}

/// A body that is not JSON.
fn read_other(headers: &HeaderMap, subject: &Subject, body: &[u8], texts: &mut LookAlikes) -> Option<()> {
    let kind = MediaType::of(headers)?;
    if kind.is_form() {
        return texts.form(kind.boundary().ok()?, body).ok();
    }
    let text = std::str::from_utf8(body).ok()?;
    if kind.is("application/x-www-form-urlencoded") {
        read_query(&text.replace('+', " "), texts);
        return Some(());
    }
    let is_offer = subject.route.operation() == Operation::Realtime && is_sdp(headers) && text.starts_with("v=");
    is_offer.then(|| texts.tokens(text))
}

fn out_of_sight() -> Error {
    Error::new(
        ErrorKind::OperationNotAllowed,
        "This gateway keeps the objects of its clients apart, and does not know which of them this path would reach.",
    )
}

fn of_everybody() -> Error {
    Error::new(
        ErrorKind::OperationNotAllowed,
        "This gateway keeps the objects of its clients apart, and an evaluation of what is stored would read everybody's. Name a file, \
         or give the items.",
    )
}

fn unreadable() -> Error {
    Error::new(
        ErrorKind::InvalidBody,
        "The body could not be searched for ids of objects. Send JSON or a form that is not encoded.",
    )
}

fn too_large() -> Error {
    Error::new(ErrorKind::RequestTooLarge, "The body is too large to be searched for ids of objects.")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn nothing_stays_unread() {
        let read = |uri: &str, kind: &str, body: Body| {
            let request = Request::post(uri).header("content-type", kind).body(body).unwrap();
            Claim::read(&request, "".into()).map(drop).map_err(|error| error.kind())
        };
        let (threads, calls, json) = ("/openai/threads", "/openai/v1/realtime/calls", "application/json");
        for (uri, kind, body, expected) in [
            (threads, json, "{}", Ok(())),
            (threads, json, "", Ok(())),
            (threads, json, "{", Err(ErrorKind::InvalidBody)),
            (threads, json, "\u{feff}{}", Err(ErrorKind::InvalidBody)),
            (threads, "text/plain", "file-1", Err(ErrorKind::InvalidBody)),
            (threads, "text/plain", " {}", Ok(())),
            (threads, "multipart/mixed; boundary=b", "--b\r\n\r\nx\r\n--b--", Err(ErrorKind::InvalidBody)),
            (threads, "multipart/form-data", "--b--", Err(ErrorKind::InvalidBody)),
            (threads, "application/x-www-form-urlencoded", "a=b", Ok(())),
            (calls, "application/sdp", "v=0\r\n", Ok(())),
            (calls, "application/sdp", "file-1", Err(ErrorKind::InvalidBody)),
            (threads, "application/sdp", "v=0", Err(ErrorKind::InvalidBody)),
            ("/openai/v1/unheard/of", json, "", Err(ErrorKind::OperationNotAllowed)),
            ("/openai/v1/models/m_1/anything", json, "", Err(ErrorKind::ObjectNotFound)),
            (
                "/openai/v1/evals",
                json,
                r#"{"data_source_config":{"type":"logs"}}"#,
                Err(ErrorKind::OperationNotAllowed),
            ),
        ] {
            assert_eq!(read(uri, kind, Body::from(body)), expected, "{uri} {kind} {body}");
        }
        let stream = Body::prefixed(Bytes::from_static(b"{}"), Body::new(http_body_util::Full::from("x")));
        assert_eq!(read(threads, json, stream), Err(ErrorKind::RequestTooLarge));
        let long = format!("/openai/threads/{}", "x".repeat(1_000));
        assert_eq!(read(&long, json, Body::empty()), Err(ErrorKind::ObjectNotFound));
    }

    #[test]
    fn what_could_be_an_id_is_found_wherever_it_stands() {
        let field = |name, value| format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        let form = [field("note", "file-4"), field("file_id", "file-6"), "--b--\r\n".to_owned()].concat();
        let request = Request::post("/openai/v1/containers/cntr_1/files/cfile_2?include[]=a,file%2D3")
            .header("content-type", "multipart/form-data; boundary=b")
            .header("openai-project", "file-5")
            .header("openai-beta", "a, file-7;file-8")
            .body(Body::from(form))
            .unwrap();
        let claim = Claim::read(&request, "".into()).unwrap();
        for id in ["cfile_2", "file-3", "file-4", "file-5", "file-7", "file-8"] {
            assert!(claim.suspects.iter().any(|text| text == id), "{id}: {:?}", claim.suspects);
        }
        let named: Vec<_> = claim.subject.named.iter().map(|named| named.id.as_str()).collect();
        assert_eq!(named, ["cntr_1", "file-6"], "where the API has ids");
    }
}
