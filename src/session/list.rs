//! Lists that hold a client's own objects only.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, ETAG};
use http::request::Parts;
use http::{Request, Response, Uri};
use http_body::Body as HttpBody;
use serde_json::{Map, Value};
use tower::{BoxError, ServiceExt};
use tower_service::Service;

use super::visit::Visit;
use crate::azure::object_id::{ObjectId, is_plain};
use crate::body::{Body, Collected};
use crate::context::Attempts;
use crate::error::{Error, ErrorKind};
use crate::headers::query_parameters;

/// The longest page that is read, in bytes.
pub const LIST_BODY: usize = 4 * 1024 * 1024;
/// How many pages without any object of the client are passed over.
pub const LIST_PAGES: usize = 10;

/// How long a page may take.
const PATIENCE: Duration = Duration::from_secs(30);

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
        copy.extensions_mut().remove::<Attempts>();
        Self(copy.into_parts().0)
    }

    /// What of an answer is the client's.
    pub(super) async fn own<S, ResBody>(
        self,
        visit: &Visit,
        mut service: S,
        mut answer: Response<Body>,
    ) -> Result<Response<Body>, BoxError>
    where
        S: Service<Request<Body>, Response = Response<ResBody>>,
        S::Error: Into<BoxError>,
        ResBody: HttpBody<Data = Bytes> + Send + 'static,
        ResBody::Error: Into<BoxError>,
    {
        for passed in 0.. {
            if !answer.status().is_success() {
                return Ok(answer);
            }
            let (mut parts, body) = answer.into_parts();
            let mut page = Page::read(body).await?;
            let last = page.last();
            page.keep_own(visit).await?;
            let next = last.filter(|_| page.is_empty() && page.has_more()).and_then(|last| self.after(&last));
            let Some(next) = next.filter(|_| passed < LIST_PAGES) else {
                parts.headers.remove(CONTENT_LENGTH);
                parts.headers.remove(ETAG);
                return Ok(Response::from_parts(parts, page.write()));
            };
            let ready = service.ready().await.map_err(Into::into)?;
            answer = ready.call(next).await.map_err(Into::into)?.map(Body::new);
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

/// One page of a list.
struct Page(Map<String, Value>);

impl Page {
    async fn read(body: Body) -> Result<Self, BoxError> {
        let Collected::Whole(bytes) = body.collect_up_to(LIST_BODY, PATIENCE).await? else {
            return Err(unreadable().into());
        };
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(page)) if page.get("data").is_some_and(Value::is_array) => Ok(Self(page)),
            _ => Err(unreadable().into()),
        }
    }

    fn ids(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0
            .get("data")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|object| object.get("id")?.as_str())
    }

    fn last(&self) -> Option<String> {
        self.ids().next_back().map(str::to_owned)
    }

    fn is_empty(&self) -> bool {
        self.ids().next().is_none()
    }

    fn has_more(&self) -> bool {
        self.0.get("has_more").and_then(Value::as_bool) == Some(true)
    }

    async fn keep_own(&mut self, visit: &Visit) -> Result<(), Error> {
        let family = visit.family();
        let Some(Value::Array(objects)) = self.0.remove("data") else { return Ok(()) };
        let mut own = Vec::with_capacity(objects.len());
        for object in objects {
            let id = object.get("id").and_then(Value::as_str).and_then(|id| ObjectId::new(family?, id));
            if let Some(id) = id
                && visit.owns(&id).await?
            {
                own.push(object);
            }
        }
        self.0.insert("data".to_owned(), Value::Array(own));
        let ends = [("first_id", self.ids().next().map(str::to_owned)), ("last_id", self.last())];
        for (name, id) in ends {
            if let Some(told) = self.0.get_mut(name) {
                *told = id.map_or(Value::Null, Value::String);
            }
        }
        Ok(())
    }

    fn write(mut self) -> Body {
        // A list that cannot go on from an object of the client's own ends.
        if self.is_empty() && self.has_more() {
            self.0.insert("has_more".to_owned(), Value::Bool(false));
        }
        // What else stands beside the objects may count or name others.
        self.0.retain(|name, _| matches!(name.as_str(), "data" | "first_id" | "has_more" | "last_id" | "object"));
        Body::from(Value::Object(self.0).to_string())
    }
}

fn unreadable() -> Error {
    Error::new(ErrorKind::BackendFailed, "The list could not be read, so nothing of it is passed on.")
}
