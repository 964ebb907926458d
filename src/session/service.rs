use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use bytes::Bytes;
use http::header::COOKIE;
use http::{Request, Response};
use http_body::Body as HttpBody;
use tower::BoxError;
use tower_service::Service;

use super::ResponseFuture;
use super::layer::Settings;
use super::visit::{Hints, Visit};
use crate::below::Below;
use crate::body::Body;
use crate::context::order::{self, LayerName};
use crate::context::{Cookies, EphemeralKey, Owner, Session, Terms};
use crate::directory::{Subject, Taught};
use crate::error::Error;
use crate::headers::ALIAS;

/// Keeps requests on the backend that holds what they refer to. See the [module docs](super).
#[derive(Clone, Debug)]
pub struct StickySession<S> {
    pub(super) inner: S,
    pub(super) settings: Arc<Settings>,
}

impl<S> StickySession<S> {
    /// Returns what there is to do for a request, if anything. What is the gateway's own is taken out of it.
    fn visit(&self, request: &mut Request<Body>) -> Result<Option<Visit>, Error> {
        order::enter(LayerName::Session, request.extensions_mut())?;
        let hints = self.hints(request);
        let mut subject = Subject::read(request)?;
        if self.settings.ephemeral.is_some() && subject.issues_key(request.method(), request.uri().path()) {
            subject.lesson = Taught::Key;
        }
        if subject.is_stateless() && hints.session.is_none() && hints.issuer.is_none() {
            return Ok(None);
        }
        let terms = Terms::of(request.extensions());
        Ok(Some(Visit::new(self.settings.clone(), subject, terms, hints)))
    }

    fn hints(&self, request: &mut Request<Body>) -> Hints {
        let session = self.settings.header.as_ref().and_then(|name| request.headers_mut().remove(name));
        let session = session.filter(|session| !session.is_empty());
        let session = session.map(|session| Session::new(String::from_utf8_lossy(session.as_bytes())));
        if let Some(session) = &session {
            request.extensions_mut().insert(session.clone());
        }
        let alias = request.headers_mut().remove(&ALIAS);
        let alias = alias.as_ref().and_then(|alias| alias.to_str().ok()).filter(|alias| !alias.is_empty());
        let alias = alias.map(Box::from);
        let issuer = request.extensions().get::<EphemeralKey>().map(|key| key.backend().clone());
        let owner = request.extensions().get::<Owner>().cloned();
        let hints = Hints { session, alias, issuer, owner, ..Hints::default() };
        let Some(ours) = &self.settings.cookie else { return hints };
        let https = ours.is_https(request);
        let cookies = request.extensions().get::<Cookies>().cloned().or_else(|| Cookies::of(request.headers()));
        let Some(cookies) = cookies else { return Hints { https, ..hints } };
        if request.headers().contains_key(COOKIE) {
            request.headers_mut().remove(COOKIE);
            for others in cookies.values().iter().filter_map(|header| ours.removed_from(header)) {
                request.headers_mut().append(COOKIE, others);
            }
        }
        let backends = self.settings.pool.backends();
        Hints { https, cookie: ours.read(cookies.values(), &backends, SystemTime::now()), ..hints }
    }
}

impl<S, ReqBody> Service<Request<ReqBody>> for StickySession<S>
where
    S: Below,
    ReqBody: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let mut request = request.map(Body::new);
        match self.visit(&mut request) {
            Ok(None) => ResponseFuture::passing(self.inner.call(request)),
            Ok(Some(visit)) => ResponseFuture::working(visit.run(self.inner.take_ready(), request)),
            Err(error) => ResponseFuture::refused(error),
        }
    }
}
