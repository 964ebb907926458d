//! A client of the scenario.

use std::pin::Pin;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use tokio::time::{sleep, timeout};
use tower::BoxError;

use super::dice::Dice;
use super::traffic::Job;
use super::world::{Azure, End, STREAM_ERROR};
use crate::below::{Below, READY_TIME};
use crate::body::Body;
use crate::context::Client;

const BACKOFF: u64 = 7;

/// Makes one request and sees it through, as its library would.
pub(super) async fn run<S: Below>(service: S, azure: Azure, job: Job, (alias, client): (String, Client), seed: u64) {
    let calls = call(service, &azure, job, (&alias, &client), seed);
    let end = match job.leaves {
        Some(after) => timeout(Duration::from_millis(after), calls).await.unwrap_or_default(),
        None => calls.await,
    };
    if end == End::Refused {
        azure.refused(&alias, &job);
    }
    azure.state().records[job.id].end = end;
}

async fn call<S: Below>(service: S, azure: &Azure, mut job: Job, (alias, client): (&str, &Client), seed: u64) -> End {
    let mut dice = Dice::of(seed, &[BACKOFF, job.id as u64]);
    loop {
        azure.demand(alias, &job);
        let wait = match ask(service.clone(), azure, &job, (alias, client)).await {
            Said::Answer(end) => return end,
            Said::Status(status, headers) => job.sdk.wait(job.tried, Some((status, &headers)), &mut dice),
            Said::Nothing => job.sdk.wait(job.tried, None, &mut dice),
        };
        let Some(wait) = wait else { return End::Refused };
        azure.waits(alias, &job, wait);
        sleep(wait).await;
        job.tried += 1;
    }
}

/// Result of one call.
enum Said {
    Answer(End),
    Nothing,
    Status(StatusCode, HeaderMap),
}

async fn ask<S: Below>(service: S, azure: &Azure, job: &Job, (alias, client): (&str, &Client)) -> Said {
    let Ok(request) = request(job, alias, client) else { return Said::Nothing };
    let Ok(answer) = service.send_once(READY_TIME, request).await else { return Said::Nothing };
    if answer.status() != StatusCode::OK {
        let (head, _) = answer.into_parts();
        return Said::Status(head.status, head.headers);
    }
    let mut body = Box::pin(answer.into_body());
    let mut first = None;
    while let Some(frame) = next(body.as_mut()).await {
        match frame {
            Ok(bytes) if bytes == STREAM_ERROR => return Said::Answer(End::Broken),
            Ok(_) => _ = first.get_or_insert_with(|| azure.now() - job.at),
            Err(_) if job.streamed => return Said::Answer(End::Broken),
            Err(_) => return Said::Nothing,
        }
    }
    first.map_or(Said::Nothing, |first| Said::Answer(End::Served { first }))
}

async fn next(mut body: Pin<&mut Body>) -> Option<Result<bytes::Bytes, BoxError>> {
    let frame = body.frame().await?;
    Some(frame.map(|frame| frame.into_data().unwrap_or_default()))
}

/// Small, whatever the job is said to cost: the backends know that from the job.
fn request(job: &Job, alias: &str, client: &Client) -> http::Result<Request<Body>> {
    let body = format!(
        r#"{{"messages":[{{"role":"user","content":"Hello"}}],"max_tokens":{},"stream":{},"user":"{}"}}"#,
        job.max_tokens,
        job.streamed,
        job.name()
    );
    Request::post(format!("/openai/deployments/{alias}/chat/completions?api-version=2024-10-21"))
        .header(CONTENT_TYPE, "application/json")
        .extension(*job)
        .extension(client.clone())
        .body(Body::from(body))
}
