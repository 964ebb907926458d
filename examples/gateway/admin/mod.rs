//! The admin listener: probes, status and its page, and what an operator changes.
//!
//! It is not for clients, and not for pages that somebody who can reach it happens to look at: a request must have been meant
//! for it by the name that it was sent to, and must not come from another site.

mod answers;
mod explain;
mod guard;
mod history;
mod orders;
mod page;
mod steering;

use http::header::WWW_AUTHENTICATE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use tower::BoxError;
use tower_azure_openai::body::Body;
use tower_azure_openai::meter::Ledger;
use tower_azure_openai::metrics::MetricsRecorder;

use self::explain::Clients;
use self::guard::Guard;
pub(crate) use self::history::History;
use self::orders::Order;
pub(crate) use self::steering::{Reloaded, Steered, Steering};
use crate::config::Config;
use crate::recordings::{Dumped, Recordings};
use crate::{metrics, recordings, usage};

const HISTORY: &str = "/history";

/// Answers what is asked of the admin listener.
pub(crate) struct Admin {
    guard: Guard,
    clients: Clients,
    steering: Steering,
    history: History,
    ledger: Ledger,
    recordings: Recordings,
    metrics: MetricsRecorder,
}

impl Admin {
    pub(crate) fn new(
        config: &Config,
        steering: Steering,
        history: History,
        ledger: Ledger,
        recordings: Recordings,
        metrics: MetricsRecorder,
    ) -> Self {
        Self {
            guard: Guard::new(config),
            clients: Clients::new(config),
            steering,
            history,
            ledger,
            recordings,
            metrics,
        }
    }

    pub(crate) async fn answer<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Error: Into<BoxError>>,
    {
        let path = request.uri().path();
        if let Err((status, why)) = self.guard.check(&request) {
            return answers::text(status, why);
        }
        let is_authorised = self.guard.is_authorised(&request);
        if path == "/" {
            return page::answer(request.method(), is_authorised);
        }
        if !matches!(path, "/livez" | "/readyz") && !is_authorised {
            let mut answer = answers::text(StatusCode::UNAUTHORIZED, "admin_token is asked for, as a bearer token\n");
            answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return answer;
        }
        if path == recordings::PATH {
            return self.dump(request.method()).await;
        }
        if Order::at(path).is_some() {
            return self.follow(request).await;
        }
        self.read(&request)
    }

    async fn follow<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Error: Into<BoxError>>,
    {
        if request.method() != Method::POST {
            return answers::not_allowed("POST");
        }
        let (head, body) = request.into_parts();
        let Some(order) = Order::at(head.uri.path()) else { return answers::text(StatusCode::NOT_FOUND, "") };
        let told = order.told();
        match order.follow(&self.steering, body).await {
            Ok(done) => {
                if let Some(action) = done {
                    self.recordings.flight().note(action);
                }
                if let Some((about, text)) = told {
                    self.history.note(about, text);
                }
                self.steering.current().health.answer(&Method::GET, "/status")
            }
            Err((status, why)) => answers::text(status, why),
        }
    }

    async fn dump(&self, method: &Method) -> Response<Body> {
        if method != Method::POST {
            return answers::not_allowed("POST");
        }
        match self.recordings.dump().await {
            Ok(Dumped::File(path)) => answers::text(StatusCode::OK, format!("{}\n", path.display())),
            Ok(Dumped::Recording(recording)) => answers::file("incident.rec", recording),
            Err(error) => answers::text(StatusCode::INTERNAL_SERVER_ERROR, format!("recorder.directory: {error}\n")),
        }
    }

    fn read<B>(&self, request: &Request<B>) -> Response<Body> {
        let (method, query) = (request.method(), request.uri().query().unwrap_or_default());
        match request.uri().path() {
            metrics::PATH => metrics::answer(&self.metrics, request),
            usage::PATH => usage::answer(&self.ledger, method, query),
            HISTORY | explain::PATH if !matches!(*method, Method::GET | Method::HEAD) => {
                answers::not_allowed("GET, HEAD")
            }
            HISTORY => answers::json(StatusCode::OK, &self.history.tell()),
            explain::PATH => self.clients.answer(&self.steering.current().pool, query),
            path => self.steering.current().health.answer(method, path),
        }
    }
}
