//! Lists that hold a client's own objects only.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, ETAG};
use http::request::Parts;
use http::{Request, Response, Uri};
use http_body_util::BodyExt;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use serde_json::value::RawValue;
use tokio::time::timeout;
use tower::BoxError;

use super::OwnershipLayer;
use super::claim::Claim;
use crate::account::Reservation;
use crate::azure::object_id::{ObjectId, is_plain};
use crate::below::{Below, READY_TIME};
use crate::body::Body;
use crate::error::{Error, ErrorKind};
use crate::headers::query_parameters;

/// The longest page that is read, in bytes.
pub(crate) const LIST_BODY: usize = 4 * 1024 * 1024;
/// Number of pages without any object of the client that are passed over.
pub(crate) const LIST_PAGES: usize = 10;
/// Memory that all lists which are filtered at one moment hold together by default: 64 MiB.
pub(crate) const LIST_MEMORY: usize = 64 << 20;

/// Time that a page may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The largest `limit` of a list in the API.
const LONGEST_PAGE: usize = 10_000;

/// The pages of a list, asked for until one holds an object of the client.
pub(super) struct Pages(Parts);

impl Pages {
    pub(super) fn of(request: &Request<Body>) -> Self {
        let mut copy = Request::new(());
        *copy.method_mut() = request.method().clone();
        *copy.uri_mut() = request.uri().clone();
        *copy.version_mut() = request.version();
        *copy.headers_mut() = request.headers().clone();
        *copy.extensions_mut() = request.extensions().clone();
        Self(copy.into_parts().0)
    }

    /// Returns what of an answer is the client's.
    pub(super) async fn own<S: Below>(
        self,
        claim: &Claim,
        layer: &OwnershipLayer,
        mut service: S,
        mut answer: Response<Body>,
    ) -> Result<Response<Body>, BoxError> {
        for passed in 0.. {
            if !answer.status().is_success() {
                return Ok(answer);
            }
            let (mut parts, body) = answer.into_parts();
            let mut reservation = layer.lists.open(Some(claim.who()));
            let read = read_page(body, &mut reservation).await?;
            let page = Page::read(&read)?;
            let own = page.own(claim, layer).await?;
            let next = match page.last() {
                Some(last) if own.is_empty() && page.has_more && passed < LIST_PAGES => self.after(&last),
                _ => None,
            };
            let Some(next) = next else {
                parts.headers.remove(CONTENT_LENGTH);
                parts.headers.remove(ETAG);
                let written = reservation.charge(page.write(&own).into());
                return Ok(Response::from_parts(parts, Body::from(written)));
            };
            drop(reservation);
            answer = service.send_within(READY_TIME, next).await?;
        }
        Err(unreadable().into())
    }

    /// The same list from an id on; a list that is read backwards ends here.
    fn after(&self, id: &str) -> Option<Request<Body>> {
        let query = self.0.uri.query().unwrap_or_default();
        if !is_plain(id) || query_parameters(query).any(|(name, ..)| name == "before") {
            return None;
        }
        let others = query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("after="));
        let query: Vec<_> = others.map(str::to_owned).chain([format!("after={id}")]).collect();
        let mut uri = self.0.uri.clone().into_parts();
        uri.path_and_query = format!("{}?{}", self.0.uri.path(), query.join("&")).try_into().ok();
        let mut parts = self.0.clone();
        parts.uri = Uri::from_parts(uri).ok()?;
        Some(Request::from_parts(parts, Body::empty()))
    }
}

/// A page, with room for what will be left of it too.
async fn read_page(mut body: Body, reservation: &mut Reservation) -> Result<Bytes, BoxError> {
    let mut read = BytesMut::new();
    let reading = async {
        while let Some(frame) = body.frame().await {
            let Ok(chunk) = frame?.into_data() else { continue };
            let length = read.len() + chunk.len();
            if length > LIST_BODY {
                return Err(BoxError::from(unreadable()));
            }
            if !reservation.cover(2 * length) {
                return Err(full().into());
            }
            read.extend_from_slice(&chunk);
        }
        Ok(())
    };
    timeout(PATIENCE, reading).await.map_err(|_| unreadable())??;
    Ok(read.freeze())
}

/// One page of a list, where it stands. What else is said beside the objects may count or name others' and is left out.
#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    data: Objects<'a>,
    #[serde(borrow, default)]
    first_id: Option<&'a RawValue>,
    #[serde(default)]
    has_more: bool,
    #[serde(borrow, default)]
    last_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    object: Option<&'a RawValue>,
}

/// An object of a list, as far as it says who it is.
#[derive(Deserialize)]
struct Object<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
}

impl<'a> Page<'a> {
    fn read(page: &'a [u8]) -> Result<Self, Error> {
        serde_json::from_slice(page).map_err(|_| unreadable())
    }

    fn last(&self) -> Option<Cow<'a, str>> {
        self.data.0.iter().rev().find_map(id_of)
    }

    /// The objects of the client, with their ids.
    async fn own(&self, claim: &Claim, layer: &OwnershipLayer) -> Result<Vec<(Cow<'a, str>, &'a RawValue)>, Error> {
        let Some(family) = claim.family() else { return Ok(Vec::new()) };
        let identified = |object: &&'a RawValue| {
            let text = id_of(object)?;
            Some((ObjectId::new(family, &text)?, (text, *object)))
        };
        let (ids, objects): (Vec<_>, Vec<_>) = self.data.0.iter().filter_map(identified).unzip();
        let is_own = claim.owns(ids.iter(), &*layer.store).await?;
        Ok(objects.into_iter().zip(is_own).filter_map(|(object, is_own)| is_own.then_some(object)).collect())
    }

    fn write(&self, own: &[(Cow<'_, str>, &RawValue)]) -> String {
        let mut written = String::from("{");
        if let Some(object) = self.object {
            written.push_str(&format!("\"object\":{object},"));
        }
        let objects: Vec<_> = own.iter().map(|(_, object)| object.get()).collect();
        written.push_str(&format!("\"data\":[{}]", objects.join(",")));
        let ends = [("first_id", self.first_id, own.first()), ("last_id", self.last_id, own.last())];
        for (name, told, id) in ends {
            if told.is_some() {
                let id = id.map_or(serde_json::Value::Null, |(id, _)| serde_json::Value::from(&**id));
                written.push_str(&format!(",\"{name}\":{id}"));
            }
        }
        // A list that cannot go on from an object of the client's own ends.
        let has_more = self.has_more && !own.is_empty();
        written.push_str(&format!(",\"has_more\":{has_more}}}"));
        written
    }
}

fn id_of<'a>(object: &&'a RawValue) -> Option<Cow<'a, str>> {
    serde_json::from_str::<Object<'a>>(object.get()).ok().map(|object| object.id)
}

/// Objects where they stand, no more of them than a page can have.
struct Objects<'a>(Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Objects<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Elements)
    }
}

struct Elements;

impl<'de> Visitor<'de> for Elements {
    type Value = Objects<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Objects<'de>, A::Error> {
        let mut objects = Vec::new();
        while let Some(object) = elements.next_element::<&RawValue>()? {
            if objects.len() == LONGEST_PAGE {
                return Err(A::Error::custom("a page that is too long"));
            }
            objects.push(object);
        }
        Ok(Objects(objects))
    }
}

fn unreadable() -> Error {
    Error::new(ErrorKind::BackendFailed, "The list could not be read, so nothing of it is passed on.")
}

fn full() -> Error {
    Error::new(ErrorKind::Overloaded, "Too many lists are being read at the moment. Wait as the headers say.")
        .with_retry_after(Duration::from_secs(1))
}
