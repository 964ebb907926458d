use std::time::{Duration, SystemTime};

use http::Response;

use super::{Attempt, AttemptFailed};
use crate::azure::Outcome;
use crate::azure::outcome::HeadVerdict;
use crate::body::{Body, Collected};

/// Length up to which an answer that was not a success is read to find out what it means, or to keep it: 64 KiB.
pub(crate) const REFUSED_BODY: usize = 64 * 1024;

/// Time that this may take: 100 ms. Such bodies are short and come with their heads.
pub(crate) const REFUSED_BODY_TIME: Duration = Duration::from_millis(100);

/// Returns what the head of an answer means, if the head decides, or what is known of it already.
pub(crate) fn of_head<B>(answer: &Response<B>) -> Option<Outcome> {
    if let Some(known) = answer.extensions().get::<Attempt>().and_then(|attempt| attempt.outcome) {
        return Some(known);
    }
    match Outcome::of_head(answer.status(), answer.headers(), SystemTime::now()) {
        HeadVerdict::Known(outcome) => Some(outcome),
        HeadVerdict::NeedsBody => None,
    }
}

/// Reads what an answer means where its body decides; the answer is whole again afterwards.
pub(crate) async fn of_body(answer: Response<Body>) -> Result<(Response<Body>, Outcome), AttemptFailed> {
    let (parts, body) = answer.into_parts();
    let meaning = |read: &[u8]| Outcome::of_answer(parts.status, &parts.headers, read, SystemTime::now());
    let collected = body.collect_up_to(REFUSED_BODY, REFUSED_BODY_TIME).await;
    let collected = collected.map_err(|error| AttemptFailed::new(meaning(b""), error))?;
    let outcome = match &collected {
        Collected::Whole(bytes) => meaning(bytes),
        Collected::Partial(_) => meaning(b""),
    };
    Ok((Response::from_parts(parts, collected.into()), outcome))
}

/// Reads an answer that may be returned later, so that its connection is free meanwhile.
pub(crate) async fn keep(answer: Response<Body>) -> Result<Response<Body>, AttemptFailed> {
    of_body(answer).await.map(|(answer, _)| answer)
}
