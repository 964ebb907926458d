//! All backends, as the service that stands where the HTTP client would, and what happens there.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::{Body as HttpBody, Frame};
use tokio::time::{Duration, Instant, Sleep, sleep_until};
use tower::BoxError;
use tower_service::Service;

use super::Scenario;
use super::releases::Arrival;
use super::site::{Course, Ending, Fate, Hint, LONGEST_HINT, ROUND_TRIP, Site};
use super::traffic::Job;
use super::weather::millis;
use crate::azure::{Outcome, Phase};
use crate::body::Body;
use crate::context::AttemptFailed;
use crate::pool::{Pool, Query, Target, Thresholds};

const CONTENT: Bytes = Bytes::from_static(b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello\"}}]}\n\n");
const LAST: &str = r#"data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
pub(super) const STREAM_ERROR: Bytes =
    Bytes::from_static(b"data: {\"error\":{\"code\":\"500\",\"message\":\"The server had an error.\"}}\n\n");
const WHOLE: &str =
    r#""choices":[{"index":0,"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}]"#;
const ERROR: &str = r#"{"error":{"code":"429","message":"The request was refused."}}"#;

const UTILIZATION: &str = "azure-openai-deployment-utilization";

/// The simulated backends of a running scenario, as one service of HTTP requests: it stands where the HTTP client would.
///
/// Answers what the scenario sends, by the host and the deployment of the request. Cheap to clone.
#[derive(Clone)]
pub struct Azure(Arc<World>);

struct World {
    start: Instant,
    /// No request is made later.
    horizon: u64,
    /// Pool, where there are releases.
    pool: Option<Pool>,
    tells_utilization: bool,
    state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) sites: Vec<Site>,
    /// By the id of the request.
    pub(super) records: Vec<Record>,
    /// At releases.
    pub(super) arrivals: Vec<Arrival>,
    /// Number of times that shares have changed.
    pub(super) phase: usize,
}

/// Fate of one request of a client.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Record {
    pub(super) attempts: u32,
    /// Tokens of all attempts together.
    pub(super) tokens: u64,
    /// Of the most expensive of them.
    pub(super) most_tokens: u64,
    /// Site that answered last.
    pub(super) site: usize,
    pub(super) end: End,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum End {
    /// Its client went away.
    #[default]
    Abandoned,
    /// An answer began and broke off.
    Broken,
    Refused,
    Served {
        /// Milliseconds from the beginning, repeats of the client included.
        first: u64,
    },
}

impl Azure {
    pub(super) fn new(scenario: &Scenario, pool: &Pool, requests: usize) -> Self {
        let pairs = scenario.backends.iter().flat_map(|backend| backend.deployments.iter().map(move |d| (backend, d)));
        let sites = pairs.enumerate().map(|(index, (b, d))| Site::new(b, d, &scenario.releases, index, scenario.seed));
        let sites = sites.map(|site| match scenario.tape_of(&site) {
            Some(tape) => site.play(tape),
            None => site,
        });
        let (sites, records) = (sites.collect(), vec![Record::default(); requests]);
        let pool = (!scenario.releases.is_empty()).then(|| pool.clone());
        let state = Mutex::new(State { sites, records, ..State::default() });
        let tells_utilization = scenario.thresholds != Thresholds::OFF;
        let (start, horizon) = (Instant::now(), millis(scenario.length));
        Self(Arc::new(World { start, horizon, pool, tells_utilization, state }))
    }

    /// Milliseconds since the start.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.0.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn at(&self, millis: u64) -> Instant {
        self.0.start + Duration::from_millis(millis)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what was seen, when all is over.
    pub(super) fn take(&self) -> State {
        std::mem::take(&mut self.state())
    }

    /// Returns which sites may serve a client's request: those of the release that it has now.
    pub(super) fn serving(&self, alias: &str, job: &Job) -> impl Fn(&Site) -> bool + use<> {
        let (alias, release) = (alias.to_owned(), self.release(alias, job));
        move |site| site.alias == alias && (release.is_none() || site.release == release)
    }

    fn release(&self, alias: &str, job: &Job) -> Option<usize> {
        let targets = self.0.pool.as_ref()?.compliant(&Query::new(Some(alias)).client(&job.name()));
        let is_at = |site: &&Site| {
            let is_it = |target: &Target| {
                target.backend() == site.backend && target.deployment() == Some(site.deployment.as_str())
            };
            targets.first().is_some_and(is_it)
        };
        self.state().sites.iter().find(is_at)?.release
    }

    /// A client's request reaches the router.
    pub(super) fn demand(&self, alias: &str, job: &Job) {
        let (now, serving) = (self.now(), self.serving(alias, job));
        self.state().sites.iter_mut().filter(|site| serving(site)).for_each(|site| site.seen.demand(now));
    }

    /// Nobody works on a request until its client repeats it.
    pub(super) fn waits(&self, alias: &str, job: &Job, wait: Duration) {
        let (now, serving) = (self.now(), self.serving(alias, job));
        let until = now.saturating_add(millis(wait)).min(self.0.horizon);
        self.state().sites.iter_mut().filter(|site| serving(site)).for_each(|site| site.wanted(job, now, until));
    }

    /// The router has refused a request.
    pub(super) fn refused(&self, alias: &str, job: &Job) {
        let (now, serving) = (self.now(), self.serving(alias, job));
        self.state().sites.iter_mut().filter(|site| serving(site)).for_each(|site| site.passed_over(job, now));
    }

    /// Sends a request to a site.
    pub(super) async fn send(self, site: usize, job: Job) -> Result<Response<Body>, BoxError> {
        let now = self.now();
        let (fate, arrival) = self.receive(site, &job, now);
        match fate {
            Fate::Answered { status, hint } => {
                self.sleep_until(now + ROUND_TRIP).await;
                if let Some(hint) = hint {
                    let until = self.now().saturating_add(hint.millis().min(LONGEST_HINT));
                    self.state().sites[site].seen.hint(until);
                }
                Ok(answered(status, hint))
            }
            Fate::TimesOut { streamed, after } => {
                self.sleep_until(now + after).await;
                let phase = if streamed { Phase::FirstByte } else { Phase::Answer };
                Err(AttemptFailed::new(Outcome::TimedOut(phase), "no answer came in time").into())
            }
            Fate::Served(course) => {
                let running = Running { azure: self, site, job, arrival, course };
                running.answer().await
            }
            Fate::Unreachable { after } => {
                self.sleep_until(now + after).await;
                Err(io::Error::from(io::ErrorKind::ConnectionRefused).into())
            }
        }
    }

    /// Returns what becomes of a request at a site, and its place among all arrivals.
    fn receive(&self, index: usize, job: &Job, now: u64) -> (Fate, usize) {
        let mut state = self.state();
        let State { sites, records, arrivals, phase } = &mut *state;
        records[job.id].attempts += 1;
        let arrival = arrivals.len();
        if self.0.pool.is_some() {
            let Job { id: request, client, tried, .. } = *job;
            arrivals.push(Arrival { request, client, tried, site: index, phase: *phase, tokens: 0 });
        }
        let fate = sites[index].receive(job, now);
        if !matches!(fate, Fate::Answered { status: StatusCode::TOO_MANY_REQUESTS, .. }) {
            let Site { alias, release, priority, .. } = &sites[index];
            let (alias, release, priority) = (alias.clone(), *release, *priority);
            let better = |site: &&mut Site| site.alias == alias && site.release == release && site.priority < priority;
            sites.iter_mut().filter(better).for_each(|site| site.passed_over(job, now));
        }
        (fate, arrival)
    }

    async fn sleep_until(&self, millis: u64) {
        sleep_until(self.at(millis)).await;
    }

    fn find(&self, host: Option<&str>, path: &str) -> Option<usize> {
        let (host, deployment) = (host?, path.split('/').nth(3)?);
        self.state().sites.iter().position(|site| site.host == host && site.deployment == deployment)
    }
}

pub(super) fn answered(status: StatusCode, hint: Option<Hint>) -> Response<Body> {
    let mut answer = Response::new(Body::from(ERROR));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(Hint::Millis(millis)) = hint {
        answer.headers_mut().insert("retry-after-ms", millis.into());
    }
    if let Some(hint) = hint {
        answer.headers_mut().insert(RETRY_AFTER, hint.millis().div_ceil(1_000).into());
    }
    answer
}

impl Service<Request<Body>> for Azure {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let job = request.extensions().get::<Job>().copied();
        let site = self.find(request.uri().host(), request.uri().path());
        match (site, job) {
            (Some(site), Some(job)) => Box::pin(self.clone().send(site, job)),
            (None, _) => Box::pin(async { Ok(answered(StatusCode::NOT_FOUND, None)) }),
            (_, None) => {
                Box::pin(async { Err("a request without the extensions of the scenario's own requests".into()) })
            }
        }
    }
}

impl fmt::Debug for Azure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Azure").finish_non_exhaustive()
    }
}

// ===== Running =====

/// A request that is being served; settles what it cost when it has ended or nobody waits for it any more.
struct Running {
    azure: Azure,
    site: usize,
    job: Job,
    arrival: usize,
    course: Course,
}

impl Running {
    async fn answer(self) -> Result<Response<Body>, BoxError> {
        let Course { first, ending, .. } = self.course;
        if let Ending::Cut { at } = ending
            && at <= first
        {
            self.azure.sleep_until(at).await;
            return Err(AttemptFailed::new(Outcome::Reset, io::Error::from(io::ErrorKind::ConnectionReset)).into());
        }
        self.azure.sleep_until(first).await;
        let utilization = self.utilization(first);
        let streamed = self.job.streamed;
        let whole = || Body::from(format!("{{{WHOLE},{}}}", usage(&self.job)));
        let mut answer = Response::new(if streamed { Body::new(Stream::new(self)) } else { whole() });
        let content_type = if streamed { "text/event-stream" } else { "application/json" };
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Some(utilization) = utilization {
            answer.headers_mut().insert(UTILIZATION, utilization);
        }
        Ok(answer)
    }

    fn utilization(&self, now: u64) -> Option<HeaderValue> {
        let share = self.azure.state().sites[self.site].told(now).filter(|_| self.azure.0.tells_utilization)?;
        HeaderValue::try_from(format!("{:.1}%", share * 100.0)).ok()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let now = self.azure.now();
        let mut state = self.azure.state();
        let State { sites, records, arrivals, .. } = &mut *state;
        let (site, record) = (&mut sites[self.site], &mut records[self.job.id]);
        let tokens = site.release(&self.job, &self.course, now);
        record.tokens += tokens;
        if let Some(arrival) = arrivals.get_mut(self.arrival) {
            arrival.tokens = tokens;
        }
        record.most_tokens = record.most_tokens.max(tokens);
        record.site = self.site;
    }
}

/// Returns what an answer says of its cost.
fn usage(job: &Job) -> String {
    format!(r#""usage":{{"prompt_tokens":{},"completion_tokens":{}}}"#, job.prompt, job.answer)
}

/// The events of an answer: its first content with the head, the rest at its end.
struct Stream {
    running: Option<Running>,
    step: Step,
    timer: Pin<Box<Sleep>>,
}

#[derive(Clone, Copy)]
enum Step {
    First,
    Rest,
}

impl Stream {
    fn new(running: Running) -> Self {
        let Course { first, end, ending, .. } = running.course;
        let rest = match ending {
            Ending::Complete => end,
            Ending::Cut { at } => at,
            Ending::StreamError { .. } => first + (end - first) / 2,
        };
        let timer = Box::pin(sleep_until(running.azure.at(rest)));
        Self { running: Some(running), step: Step::First, timer }
    }
}

impl HttpBody for Stream {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(ending) = self.running.as_ref().map(|running| running.course.ending) else { return Poll::Ready(None) };
        let event = match (self.step, ending) {
            (Step::First, Ending::StreamError { after_content: false }) => {
                self.running = None;
                STREAM_ERROR
            }
            (Step::First, _) => {
                self.step = Step::Rest;
                CONTENT
            }
            (Step::Rest, ending) => {
                std::task::ready!(self.timer.as_mut().poll(cx));
                let usage = self.running.take().map(|running| usage(&running.job)).unwrap_or_default();
                match ending {
                    Ending::Complete => {
                        Bytes::from(format!("{LAST}\n\ndata: {{\"choices\":[],{usage}}}\n\ndata: [DONE]\n\n"))
                    }
                    Ending::Cut { .. } => {
                        return Poll::Ready(Some(Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())));
                    }
                    Ending::StreamError { .. } => STREAM_ERROR,
                }
            }
        };
        Poll::Ready(Some(Ok(Frame::data(event))))
    }

    fn is_end_stream(&self) -> bool {
        self.running.is_none()
    }
}
