//! One request, and its answer on the way back.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::{CONTENT_ENCODING, CONTENT_TYPE, LOCATION, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use tower::BoxError;

use super::cookie::COOKIE_LIFETIME;
use super::layer::Settings;
use super::place::{By, Place};
use crate::azure::envelope;
use crate::azure::object_id::{Family, ObjectId};
use crate::azure::operation::ModelPlace;
use crate::below::{Below, READY_TIME};
use crate::body::{Body, Collected};
use crate::context::{Client, Owner, REFUSED_BODY, REFUSED_BODY_TIME, Session, SocketEvents, Terms, Undecided};
use crate::directory::{
    Extent, LearningBody, Ledger, Lesson, Note, Notebook, ObjectKey, Remembered, Subject, Taught, in_time, warn,
};
use crate::pool::{Strength, Target};

/// Hints of a request at its session beside ids.
#[derive(Default)]
pub(super) struct Hints {
    /// The backend of the cookie, and for how much longer.
    pub(super) cookie: Option<(Arc<str>, Duration)>,
    /// The backend that issued the ephemeral key of the request.
    pub(super) issuer: Option<Arc<str>>,
    /// The name that the client gave its session.
    pub(super) session: Option<Session>,
    /// The alias for which the client says that the request is meant.
    pub(super) alias: Option<Box<str>>,
    pub(super) https: bool,
    /// The client whose every object is, where objects have owners.
    pub(super) owner: Option<Owner>,
}

/// One request, and whatever is known of it.
pub(super) struct Visit {
    pub(super) settings: Arc<Settings>,
    pub(super) subject: Subject,
    pub(super) terms: Terms,
    pub(super) hints: Hints,
    /// The client's id; that of all requests that nobody identified is empty.
    pub(super) who: Arc<str>,
}

impl Visit {
    pub(super) fn new(settings: Arc<Settings>, subject: Subject, terms: Terms, hints: Hints) -> Self {
        let who = terms.client.as_ref().map_or("", Client::id).into();
        Self { settings, subject, terms, hints, who }
    }

    pub(super) async fn run<S: Below>(
        self,
        mut service: S,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, BoxError> {
        if self.subject.is_list {
            // Another backend's list looks as if the client's objects were gone.
            request.extensions_mut().insert(self.subject.route.clone().that_creates());
        }
        let is_undecided = request.extensions_mut().remove::<Undecided>().is_some();
        let goes_on = self.subject.route.model_place() == ModelPlace::Object;
        let made_by = if is_undecided || goes_on { self.alias_of_objects(request.body()).await } else { None };
        if is_undecided && !self.may_use(made_by.as_deref()) {
            return Err(Undecided::refusal(&self.subject.route).into());
        }
        let mut place = self.place(&mut service, request.headers()).await?;
        tracing::debug!(pin = ?place.pin, "session");
        let again = if place.by == By::Content { copy_of(&request) } else { None };
        place.mark(&mut request);
        let mut answer = service.send_within(READY_TIME, request).await?;
        if let Some(mut again) = again
            && answer.status() == StatusCode::BAD_REQUEST
        {
            let (same, is_refused) = refuses_content(answer).await?;
            answer = same;
            if is_refused && let Some(elsewhere) = self.elsewhere(&place) {
                place = elsewhere;
                place.mark(&mut again);
                answer = service.send_within(READY_TIME, again).await?;
            }
        }
        Ok(self.learn(&place, answer, made_by).await)
    }

    /// The alias by which the objects were made that the request goes on with, if it is one and known.
    async fn alias_of_objects(&self, body: &Body) -> Option<Arc<str>> {
        let (_, is_whole) = body.in_hand();
        // What was not read may be another object.
        if !is_whole || self.subject.extent != Extent::Whole {
            return None;
        }
        let mut alias = None;
        for named in self.subject.named.iter().filter(|named| named.id.family().keeps_model()) {
            let known = in_time(self.settings.store.look_up(ObjectKey::of(named.id.as_str()))).await.ok()??;
            let is_same = alias.as_ref().is_none_or(|alias| known.alias.as_ref() == Some(alias));
            alias = Some(known.alias.filter(|_| is_same)?);
        }
        alias
    }

    /// Tells whether the client may use an alias of the pool, by any name that it has for it.
    fn may_use(&self, alias: Option<&str>) -> bool {
        let Some((alias, client)) = alias.zip(self.terms.client.as_ref()) else { return false };
        let names = self.settings.pool.names_of(alias);
        let is_named = |name: &str| names.iter().any(|known| **known == *client.resolve(name));
        client.allowed().is_none_or(|mut allowed| allowed.any(is_named))
    }

    /// Takes from a successful answer what it tells, and puts a cookie on it where one is due.
    async fn learn(&self, place: &Place, mut answer: Response<Body>, made_by: Option<Arc<str>>) -> Response<Body> {
        let is_socket = answer.extensions().get::<SocketEvents>().is_some();
        if !answer.status().is_success() && !is_socket {
            return answer;
        }
        let required = place.pin.as_ref().filter(|pin| pin.strength() == Strength::Required);
        let target = answer.extensions().get::<Target>().map(Target::backend_name);
        let alias = self.alias_of(&answer, made_by);
        let Some(backend) = target.or_else(|| required.and_then(|pin| pin.backends().first().cloned())) else {
            return answer;
        };
        if let Some(cookie) = self.cookie_for(place, &backend).filter(|_| !is_socket) {
            answer.headers_mut().append(SET_COOKIE, cookie);
        }
        self.follow(place, &backend).await;
        let owner = self.hints.owner.as_ref().map(|owner| owner.0.clone());
        let (store, client) = (self.settings.store.clone(), self.who.clone());
        let notebook = Notebook { store, backend, owner, client, alias };
        if matches!(place.by, By::Cookie | By::Header(_) | By::Home | By::Nothing) {
            // Nobody knew who can read it, or what was known was wrong.
            notebook.clone().remember(self.subject.sealed.iter().map(Note::sealed).collect()).await;
        }
        match &self.subject.lesson {
            Taught::Call => {
                let call = call_of(answer.headers());
                notebook.remember(call.iter().map(Note::made).collect()).await;
                answer
            }
            Taught::Gone(id) => {
                warn(in_time(self.settings.store.forget(ObjectKey::of(id.as_str()))).await);
                answer
            }
            // A list tells of everybody's.
            Taught::Told(_) if self.subject.is_list && self.hints.owner.is_some() => answer,
            Taught::Told(lesson) if is_socket => {
                answer.map(|body| Body::new(LearningBody::events(body, *lesson, notebook)))
            }
            Taught::Told(lesson) => observed(answer, *lesson, notebook).await,
            Taught::Key => self.issued(answer, notebook),
            Taught::Nothing => answer,
        }
    }

    /// The alias of the pool by which an answer was made: that of the objects that it goes on with, or that the request named.
    fn alias_of(&self, answer: &Response<Body>, made_by: Option<Arc<str>>) -> Option<Arc<str>> {
        if self.subject.route.model_place() == ModelPlace::Object {
            return made_by;
        }
        self.subject.route.alias()?;
        answer.extensions().get::<Target>()?.alias().map(Arc::from)
    }

    /// Remembers the key that an answer tells.
    fn issued(&self, answer: Response<Body>, notebook: Notebook) -> Response<Body> {
        let Some(keys) = self.settings.ephemeral.clone() else { return answer };
        let ledger = Ledger { keys, client: self.terms.client.clone(), backend: notebook.backend.clone() };
        match answer.body().as_bytes() {
            _ if media_type(answer.headers()).as_deref() != Some("application/json") => answer,
            Some(bytes) => {
                ledger.enter(bytes);
                answer
            }
            None => answer.map(|body| Body::new(LearningBody::key(body, ledger, notebook))),
        }
    }

    /// Remembers that a session went elsewhere than its name leads.
    async fn follow(&self, place: &Place, backend: &Arc<str>) {
        let By::Header(key) = place.by else { return };
        let stayed = place.pin.as_ref().is_none_or(|pin| pin.backends().contains(backend));
        if !stayed {
            let moved = Remembered::on(backend.clone()).on_behalf_of(Some(self.who.clone()));
            warn(in_time(self.settings.store.remember(key, moved, COOKIE_LIFETIME)).await);
        }
    }

    /// A cookie is due when something was pinned that a cookie could have pinned, and the client has none that is good.
    fn cookie_for(&self, place: &Place, backend: &str) -> Option<HeaderValue> {
        let cookie = self.settings.cookie.as_ref()?;
        let is_good =
            self.hints.cookie.as_ref().is_some_and(|(known, left)| {
                place.by == By::Id || (&**known == backend && *left > COOKIE_LIFETIME / 2)
            });
        let is_due = self.subject.is_kept && matches!(place.by, By::Cookie | By::Home | By::Id) && !is_good;
        is_due.then(|| cookie.write(backend, self.hints.https, SystemTime::now())).flatten()
    }
}

/// A second request like this one, if its body is in hand.
fn copy_of(request: &Request<Body>) -> Option<Request<Body>> {
    let mut copy = Request::new(request.body().try_clone()?);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    *copy.extensions_mut() = request.extensions().clone();
    Some(copy)
}

/// Tells whether a backend says that it cannot read the content of a request.
async fn refuses_content(answer: Response<Body>) -> Result<(Response<Body>, bool), BoxError> {
    let (parts, body) = answer.into_parts();
    let collected = body.collect_up_to(REFUSED_BODY, REFUSED_BODY_TIME).await?;
    let refuses = match &collected {
        Collected::Whole(body) => envelope::read(body).is_some_and(|said| said.cannot_read_content()),
        Collected::Partial(_) => false,
    };
    Ok((Response::from_parts(parts, collected.into()), refuses))
}

/// The realtime call that an answer made.
fn call_of(headers: &HeaderMap) -> Option<ObjectId> {
    let location = headers.get(LOCATION)?.to_str().ok()?;
    let path = location.split(['?', '#']).next()?.trim_end_matches('/');
    let (_, id) = path.rsplit_once("/calls/")?;
    ObjectId::new(Family::Call, id).filter(|id| !id.as_str().contains('/'))
}

/// An answer whose ids are remembered before anybody can come back with them.
async fn observed(answer: Response<Body>, lesson: Lesson, notebook: Notebook) -> Response<Body> {
    match media_type(answer.headers()).as_deref() {
        Some("text/event-stream") => answer.map(|body| Body::new(LearningBody::events(body, lesson, notebook))),
        Some("application/json") => match answer.body().as_bytes() {
            Some(bytes) => {
                notebook.remember(lesson.of(bytes)).await;
                answer
            }
            None => answer.map(|body| Body::new(LearningBody::json(body, lesson, notebook))),
        },
        _ => answer,
    }
}

/// Returns what an answer is, if it can be read.
fn media_type(headers: &HeaderMap) -> Option<String> {
    if headers.contains_key(CONTENT_ENCODING) {
        return None;
    }
    let content_type = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    content_type.split(';').next().map(|essence| essence.trim().to_ascii_lowercase())
}
