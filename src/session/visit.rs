//! One request on its way to where its state is, and its answer on the way back.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Body as HttpBody;
use tower::BoxError;
use tower_service::Service;

use super::cookie::COOKIE_LIFETIME;
use super::layer::{Ownership, Settings, WhenUnavailable};
use super::subject::{Lesson, Named, Subject, not_found};
use super::{home, list};
use crate::azure::object_id::{Answered, Family, ObjectId};
use crate::body::Body;
use crate::context::{Client, Session, Terms};
use crate::directory::{
    Finding, LearningBody, Ledger, MAX_UNKNOWN, Notebook, ObjectKey, Question, Remembered, in_time, warn,
};
use crate::error::{Error, ErrorKind};
use crate::pool::{Pin, Query, Strength, Target};

/// What a request says of its session beside ids.
#[derive(Default)]
pub(super) struct Hints {
    /// The backend of the cookie, and for how much longer.
    pub(super) cookie: Option<(Arc<str>, Duration)>,
    /// The backend that issued the ephemeral key of the request.
    pub(super) issuer: Option<Arc<str>>,
    /// The name that the client gave its session.
    pub(super) session: Option<Session>,
    pub(super) https: bool,
}

/// One request, and whatever is known of it.
pub(super) struct Visit {
    pub(super) settings: Arc<Settings>,
    subject: Subject,
    terms: Terms,
    hints: Hints,
    /// The client's id; that of all requests that nobody identified is empty.
    who: Arc<str>,
}

/// Where a request goes.
struct Place {
    pin: Option<Pin>,
    by: By,
}

/// What led there.
#[derive(PartialEq)]
enum By {
    Cookie,
    Header(ObjectKey),
    Home,
    Id,
    Nothing,
}

impl Visit {
    pub(super) fn new(settings: Arc<Settings>, subject: Subject, terms: Terms, hints: Hints) -> Self {
        let who = terms.client.as_ref().map_or("", Client::id).into();
        Self { settings, subject, terms, hints, who }
    }

    pub(super) async fn run<S, ResBody>(
        self,
        mut service: S,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, BoxError>
    where
        S: Service<Request<Body>, Response = Response<ResBody>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        ResBody: HttpBody<Data = Bytes> + Send + 'static,
        ResBody::Error: Into<BoxError>,
    {
        let place = self.place(&service, request.headers()).await?;
        tracing::debug!(pin = ?place.pin, "session");
        if let Some(pin) = &place.pin {
            request.extensions_mut().insert(pin.clone());
        }
        let pages = self.filters().then(|| list::Pages::of(&request));
        let answer = service.call(request).await.map_err(Into::into)?.map(Body::new);
        let answer = match pages {
            Some(pages) => pages.own(&self, service, answer).await?,
            None => answer,
        };
        Ok(self.learn(&place, answer).await)
    }

    /// Whether the answer is a list in which others' objects may stand.
    fn filters(&self) -> bool {
        self.settings.ownership == Ownership::Enforce && self.subject.is_list
    }

    // ===== the way there =====

    async fn place<S, ResBody>(&self, service: &S, headers: &HeaderMap) -> Result<Place, Error>
    where
        S: Service<Request<Body>, Response = Response<ResBody>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        ResBody: HttpBody<Data = Bytes> + Send + 'static,
        ResBody::Error: Into<BoxError>,
    {
        let required = self.required(service, headers).await?;
        if let Some(backend) = self.hints.issuer.clone().or(required) {
            return Ok(Place { pin: Some(Pin::required(backend)), by: By::Id });
        }
        let able = self.able();
        if self.subject.is_kept
            && let Some((backend, _)) = &self.hints.cookie
            && able.iter().any(|target| target.backend() == &**backend)
        {
            return Ok(Place { pin: Some(self.soft([backend.clone()])), by: By::Cookie });
        }
        if let Some(session) = &self.hints.session {
            let (pin, key) = self.of_session(session, &able).await;
            return Ok(Place { pin, by: By::Header(key) });
        }
        if self.subject.is_kept && !able.is_empty() {
            return Ok(Place { pin: Some(self.soft(order(&self.who, &able))), by: By::Home });
        }
        Ok(Place { pin: None, by: By::Nothing })
    }

    fn soft(&self, backends: impl IntoIterator<Item = Arc<str>>) -> Pin {
        match self.settings.when_unavailable {
            WhenUnavailable::Move => Pin::movable(backends),
            WhenUnavailable::Refuse => Pin::preferred(backends),
        }
    }

    /// The targets at which something new may be placed.
    fn able(&self) -> Vec<Target> {
        let mut able = self.settings.pool.compliant(&self.terms.query(&self.subject.route));
        able.retain(|target| !target.is_drained());
        able
    }

    /// Every backend that may see this request.
    fn everywhere(&self) -> Vec<Arc<str>> {
        self.compliant(&self.terms.query_for(None))
    }

    /// Those among them that can be asked without the client's token, for what is found is told to others.
    fn askable(&self) -> Vec<Arc<str>> {
        self.compliant(&self.terms.query_for(None).has_token(false))
    }

    fn compliant(&self, query: &Query<'_>) -> Vec<Arc<str>> {
        self.settings.pool.compliant(query).iter().map(Target::backend_name).collect()
    }

    /// Where a session is that the client gave a name: where it was moved to, else where its name leads.
    async fn of_session(&self, session: &Session, able: &[Target]) -> (Option<Pin>, ObjectKey) {
        let name = session.name();
        let key = ObjectKey::of_parts(&["session", &self.who, name]);
        let moved = match self.settings.when_unavailable {
            WhenUnavailable::Move => in_time(self.settings.store.look_up(key)).await.ok().flatten(),
            WhenUnavailable::Refuse => None,
        };
        let moved =
            moved.map(|moved| moved.backend).filter(|name| able.iter().any(|target| target.backend() == &**name));
        let backend = moved.or_else(|| order(&format!("{}\u{1f}{name}", self.who), able).into_iter().next());
        (backend.map(|backend| self.soft([backend])), key)
    }

    /// The one backend that holds what the request refers to.
    async fn required<S, ResBody>(&self, service: &S, headers: &HeaderMap) -> Result<Option<Arc<str>>, Error>
    where
        S: Service<Request<Body>, Response = Response<ResBody>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        ResBody: HttpBody<Data = Bytes> + Send + 'static,
        ResBody::Error: Into<BoxError>,
    {
        let everywhere = self.everywhere();
        let (mut found, mut unknown) = (Vec::new(), Vec::new());
        for named in &self.subject.named {
            match self.usable(&named.id, &everywhere).await? {
                Some(backend) => found.push((&named.id, backend)),
                None if self.settings.ownership == Ownership::Enforce => return Err(not_found(named.id.as_str())),
                None => unknown.push(named),
            }
        }
        let askable = if unknown.is_empty() { Vec::new() } else { self.askable() };
        for (id, finding) in self.discover(service, headers, &unknown, &askable).await {
            match finding {
                Finding::At(backend) => found.push((id, backend)),
                Finding::Misdirected => {}
                Finding::Nowhere => {
                    let mut unasked = everywhere.iter().filter(|backend| !askable.contains(backend));
                    match (unasked.next(), unasked.next()) {
                        (Some(elsewhere), None) => found.push((id, elsewhere.clone())),
                        _ => return Err(not_found(id.as_str())),
                    }
                }
                Finding::Unanswered { throttled, wait } => return Err(unanswered(throttled, wait)),
            }
        }
        if let Some((first, backend)) = found.first() {
            let other = found.iter().find(|(_, elsewhere)| elsewhere != backend);
            return other.map_or(Ok(Some(backend.clone())), |(other, _)| Err(apart(first, other)));
        }
        for id in &self.subject.repeated {
            if let Some(backend) = self.usable(id, &everywhere).await? {
                return Ok(Some(backend));
            }
        }
        Ok(None)
    }

    /// The backend of an id that is remembered, as far as this client may know of it.
    async fn usable(&self, id: &ObjectId, everywhere: &[Arc<str>]) -> Result<Option<Arc<str>>, Error> {
        let known = self.remembered(id).await?.filter(|known| everywhere.contains(&known.backend));
        Ok(known.filter(|known| self.may_use(known)).map(|known| known.backend))
    }

    async fn remembered(&self, id: &ObjectId) -> Result<Option<Remembered>, Error> {
        match in_time(self.settings.store.look_up(ObjectKey::of(id.as_str()))).await {
            Ok(known) => Ok(known),
            Err(error) if self.settings.ownership == Ownership::Enforce => {
                Err(unanswered(false, RETRY).with_source(error))
            }
            Err(error) => {
                warn(Err(error));
                Ok(None)
            }
        }
    }

    fn may_use(&self, known: &Remembered) -> bool {
        self.settings.ownership == Ownership::Off || known.owner.as_ref() == Some(&self.who)
    }

    /// Whether an object belongs to this client.
    pub(super) async fn owns(&self, id: &ObjectId) -> Result<bool, Error> {
        Ok(self.remembered(id).await?.is_some_and(|known| self.may_use(&known)))
    }

    /// What an id of a list's object names.
    pub(super) fn family(&self) -> Option<Family> {
        Family::of_operation(self.subject.route.operation())
    }

    async fn discover<'n, S, ResBody>(
        &self,
        service: &S,
        headers: &HeaderMap,
        unknown: &[&'n Named],
        backends: &[Arc<str>],
    ) -> Vec<(&'n ObjectId, Finding)>
    where
        S: Service<Request<Body>, Response = Response<ResBody>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        ResBody: HttpBody<Data = Bytes> + Send + 'static,
        ResBody::Error: Into<BoxError>,
    {
        let Some(discovery) = &self.settings.discovery else { return Vec::new() };
        let askable = unknown.iter().filter_map(|named| Some((&named.id, named.read.as_ref()?))).take(MAX_UNKNOWN);
        let searches: Vec<_> = askable
            .map(|(id, read)| {
                let question = Question { id, read, headers, backends };
                (id, discovery.search(&question, service, &self.settings.store))
            })
            .collect();
        let mut findings = Vec::with_capacity(searches.len());
        for (id, search) in searches {
            findings.push((id, search.finding().await));
        }
        findings
    }

    // ===== the way back =====

    /// Takes from a successful answer what it tells, and puts a cookie on it where one is due.
    async fn learn(&self, place: &Place, mut answer: Response<Body>) -> Response<Body> {
        if !answer.status().is_success() {
            return answer;
        }
        let required = place.pin.as_ref().filter(|pin| pin.strength() == Strength::Required);
        let target = answer.extensions().get::<Target>().map(Target::backend_name);
        let Some(backend) = target.or_else(|| required.and_then(|pin| pin.backends().first().cloned())) else {
            return answer;
        };
        if let Some(cookie) = self.cookie_for(place, &backend) {
            answer.headers_mut().append(SET_COOKIE, cookie);
        }
        self.follow(place, &backend).await;
        let owner = (self.settings.ownership == Ownership::Enforce).then(|| self.who.clone());
        let notebook = Notebook { store: self.settings.store.clone(), backend, owner };
        match &self.subject.lesson {
            Lesson::Gone(id) => {
                warn(in_time(self.settings.store.forget(ObjectKey::of(id.as_str()))).await);
                answer
            }
            Lesson::Ids(family) if !self.filters() => observed(answer, *family, notebook).await,
            Lesson::Key => self.issued(answer, notebook),
            Lesson::Ids(_) | Lesson::Nothing => answer,
        }
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
            let moved = Remembered::on(backend.clone());
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

/// How soon it makes sense to come again when nobody knows.
const RETRY: Duration = Duration::from_secs(1);

/// Backends in the order in which a name prefers them, the lowest priority number first.
fn order(name: &str, able: &[Target]) -> Vec<Arc<str>> {
    let mut tiers: Vec<_> = able.iter().map(Target::priority).collect();
    tiers.sort_unstable();
    tiers.dedup();
    let mut order: Vec<Arc<str>> = Vec::new();
    for tier in tiers {
        let mut members: Vec<(Arc<str>, u32)> = Vec::new();
        for target in able.iter().filter(|target| target.priority() == tier) {
            let known =
                order.iter().chain(members.iter().map(|(name, _)| name)).any(|name| **name == *target.backend());
            if !known {
                members.push((target.backend_name(), target.weight()));
            }
        }
        order.extend(home::order(name, members));
    }
    order
}

/// An answer whose ids are remembered before anybody can come back with them.
async fn observed(answer: Response<Body>, family: Option<Family>, notebook: Notebook) -> Response<Body> {
    match media_type(answer.headers()).as_deref() {
        Some("text/event-stream") => answer.map(|body| Body::new(LearningBody::events(body, notebook))),
        Some("application/json") => match answer.body().as_bytes() {
            Some(bytes) => {
                let ids = Answered::read(bytes, family).ids().to_vec();
                notebook.remember(ids).await;
                answer
            }
            None => answer.map(|body| Body::new(LearningBody::json(body, family, notebook))),
        },
        _ => answer,
    }
}

/// What an answer is, if it can be read.
fn media_type(headers: &HeaderMap) -> Option<String> {
    if headers.contains_key(CONTENT_ENCODING) {
        return None;
    }
    let content_type = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    content_type.split(';').next().map(|essence| essence.trim().to_ascii_lowercase())
}

fn apart(one: &ObjectId, other: &ObjectId) -> Error {
    let message = format!(
        "The request refers to objects that lie apart: '{}' and '{}'. Use objects that were made together.",
        one.as_str(),
        other.as_str()
    );
    Error::new(ErrorKind::IdsOnDifferentBackends, message)
}

fn unanswered(throttled: bool, wait: Duration) -> Error {
    let kind = if throttled { ErrorKind::NoTargetThrottled } else { ErrorKind::NoTargetDown };
    Error::new(kind, "Not every place could be asked for what this request refers to. Wait as the headers say.")
        .with_retry_after(wait)
}
