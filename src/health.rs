//! Readiness and status, as a service.
//!
//! | path | answer |
//! |---|---|
//! | [`PROBE`] | 200, or 503 when no backend could serve; empty body, no credential needed |
//! | `/livez` | 200 while the process runs |
//! | `/readyz` | 200, or 503 when no backend could serve or while [draining](Health::start_draining) |
//! | `/status` | [`PoolStatus`] as JSON, with `draining`; `ready` is as `/readyz` has it |
//!
//! GET and HEAD only. Anything else is 404, or 405 on these paths. The pool is ready while any backend could serve: one that
//! is down, drained or without identity is unable, one that is merely throttled is able.
//!
//! ```
//! use http::{Request, StatusCode};
//! use tower::ServiceExt;
//! use tower_azure_openai::{body::Body, health::Health, pool::{Backend, Deployment, Pool}};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = Pool::builder()
//!     .add_backend(Backend::new("east", "https://east.example").add_deployment(Deployment::new("gpt-4o")))
//!     .build()?;
//! let answer = Health::new(pool).oneshot(Request::get("/readyz").body(Body::empty())?).await?;
//! assert_eq!(answer.status(), StatusCode::OK);
//! # Ok(())
//! # }
//! ```

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use serde::Serialize;
use tower_service::Service;

use crate::body::Body;
use crate::pool::{Pool, PoolStatus};

/// The path that the probes of Azure's own gateways ask for.
pub const PROBE: &str = "/status-0123456789abcdef";

/// Answers probes. See the [module docs](self). All clones drain together.
#[derive(Clone)]
pub struct Health {
    pool: Pool,
    draining: Arc<AtomicBool>,
    sections: Vec<(&'static str, Section)>,
}

/// Source of a part of the status.
type Section = Arc<dyn Fn() -> serde_json::Value + Send + Sync>;

impl Health {
    /// The health of a pool.
    #[must_use]
    pub fn new(pool: Pool) -> Self {
        Self { pool, draining: Arc::default(), sections: Vec::new() }
    }

    /// The health of another pool, which drains together with this one: for a stack that takes the place of this one's.
    #[must_use]
    pub fn with_pool(&self, pool: Pool) -> Self {
        Self { pool, draining: self.draining.clone(), sections: Vec::new() }
    }

    /// Adds a member to `/status`, asked for whenever the status is.
    #[must_use]
    pub fn add_to_status(
        mut self,
        name: &'static str,
        tell: impl Fn() -> serde_json::Value + Send + Sync + 'static,
    ) -> Self {
        self.sections.push((name, Arc::new(tell)));
        self
    }

    fn status(&self) -> Option<Vec<u8>> {
        let sections = self.sections.iter().map(|(name, tell)| (*name, tell())).collect();
        let draining = self.is_draining();
        let mut pool = self.pool.status();
        pool.ready &= !draining;
        serde_json::to_vec_pretty(&Status { draining, pool, sections }).ok()
    }

    /// From now on `/readyz` says 503 and the status that this process is not ready, so that nothing new is sent here.
    pub fn start_draining(&self) {
        self.draining.store(true, Relaxed);
    }

    /// Takes [`start_draining`](Self::start_draining) back.
    pub fn end_draining(&self) {
        self.draining.store(false, Relaxed);
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    fn is_ready(&self) -> bool {
        self.pool.is_ready() && !self.is_draining()
    }

    /// The answer to a request for one of the paths.
    #[must_use]
    pub fn answer(&self, method: &Method, path: &str) -> Response<Body> {
        let able = |able: bool| if able { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let (status, body) = match path {
            PROBE => (able(self.pool.is_ready()), None),
            "/livez" => (StatusCode::OK, None),
            "/readyz" => (able(self.is_ready()), None),
            "/status" => (StatusCode::OK, self.status()),
            _ => (StatusCode::NOT_FOUND, None),
        };
        if status != StatusCode::NOT_FOUND && !matches!(*method, Method::GET | Method::HEAD) {
            return not_allowed();
        }
        let mut answer = Response::new(body.filter(|_| method == Method::GET).map_or_else(Body::empty, Body::from));
        *answer.status_mut() = status;
        answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if path == "/status" {
            answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        answer
    }
}

/// The pool's status, with members of others behind it.
#[derive(Serialize)]
struct Status {
    draining: bool,
    #[serde(flatten)]
    pool: PoolStatus,
    #[serde(flatten)]
    sections: BTreeMap<&'static str, serde_json::Value>,
}

fn not_allowed() -> Response<Body> {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    answer
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health").field("pool", &self.pool).field("draining", &self.draining).finish_non_exhaustive()
    }
}

impl<B> Service<Request<B>> for Health {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        ready(Ok(self.answer(request.method(), request.uri().path())))
    }
}
