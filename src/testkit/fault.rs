//! The script of what goes wrong.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::body::{After, Ending, Flow, Stop};
use super::limits::{whole_millis, whole_seconds};
use super::stream_error::StreamError;

/// Something that goes wrong with one request.
///
/// A fault stands in front of everything else: a request that meets one is not asked for its credential, its `Host` or
/// its path, unless the fault only changes how the answer comes that the request would have got anyway: later, slowly, in
/// pieces, not to its end, with an error in it.
#[derive(Clone, Debug)]
#[must_use = "a fault happens when it is put into `SimulatedBackend::faults`"]
pub struct Fault {
    pub(super) action: Option<Action>,
    pub(super) delay: Option<Duration>,
    pub(super) stream_error: Option<StreamError>,
    pub(super) flow: Flow,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Bytes>,
    deployment: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Hang,
    Refuse,
    Reset,
    Status(StatusCode),
    Throttle(Duration),
}

impl Fault {
    fn new(action: Action) -> Self {
        Self { action: Some(action), ..Self::none() }
    }

    fn none() -> Self {
        Self {
            action: None,
            delay: None,
            stream_error: None,
            flow: Flow::default(),
            headers: HeaderMap::new(),
            body: None,
            deployment: None,
        }
    }

    fn of_flow(flow: Flow) -> Self {
        Self { flow, ..Self::none() }
    }

    /// Answers with this status and the body that Azure gives with it: 401 for an invalid key, 403 for a firewall, 404
    /// for a missing deployment, 429 without any hint of how long to wait, and so on.
    ///
    /// With a success status the request gets the answer it would have got anyway, to which [`header`](Self::header)
    /// and [`body`](Self::body) then apply.
    ///
    /// # Panics
    /// When `status` is not a status code.
    pub fn status(status: u16) -> Self {
        let status = StatusCode::from_u16(status).expect("`Fault::status` takes a valid status code");
        Self::new(Action::Status(status))
    }

    /// Answers 429 without any hint of how long to wait: the same as `Fault::status(429)`.
    pub fn throttled() -> Self {
        Self::new(Action::Status(StatusCode::TOO_MANY_REQUESTS))
    }

    /// Answers 429 with every usual hint: `retry-after-ms`, `retry-after`, and the message. Azure has been seen to ask
    /// for a day.
    pub fn throttled_for(wait: Duration) -> Self {
        let mut fault = Self::new(Action::Throttle(wait));
        fault.headers.insert("retry-after-ms", whole_millis(wait).into());
        fault.headers.insert(header::RETRY_AFTER, whole_seconds(wait).into());
        fault
    }

    /// Closes the connection without an answer, after the request was read.
    ///
    /// In process this is an error whose source is an [`io::Error`](std::io::Error) of kind `ConnectionReset`. Over
    /// loopback the socket is aborted, with all HTTP/2 streams on it.
    pub fn reset() -> Self {
        Self::new(Action::Reset)
    }

    /// Refuses the connection, as a backend that is not there does: the request is not received. In process only.
    ///
    /// This is an error whose source is an [`io::Error`](std::io::Error) of kind `ConnectionRefused`. Over loopback the
    /// connection stands already, so it is aborted instead; there, stop the server.
    pub fn refused() -> Self {
        Self::new(Action::Refuse)
    }

    /// Never answers.
    pub fn hang() -> Self {
        Self::new(Action::Hang)
    }

    /// Gives the usual answer, its head after this time.
    pub fn slow_head(delay: Duration) -> Self {
        Self { delay: Some(delay), ..Self::none() }
    }

    /// Gives the usual answer, with this pause between the chunks of its body: the events of a stream, or the quarters
    /// of any other body.
    pub fn slow_body(pause: Duration) -> Self {
        Self::of_flow(Flow { pause: Some(pause), ..Flow::default() })
    }

    /// Gives the usual answer in pieces of so many bytes, at least one, whatever they hold: a piece may end in the middle of
    /// an event or of a character. A [pause](Self::slow_body) stands between pieces then.
    pub fn chopped(bytes: usize) -> Self {
        Self::of_flow(Flow { pieces: Some(bytes), ..Flow::default() })
    }

    /// Gives the usual answer up to an error that its stream tells, after a head that said 200. An answer that is no stream
    /// of events comes unharmed.
    pub fn stream_error(error: StreamError) -> Self {
        Self { stream_error: Some(error), ..Self::none() }
    }

    /// Gives the usual answer, of which nothing more comes after so many events, and no end either; at the latest, the last
    /// byte is missing. Any other body counts as one event.
    pub fn stalled_stream(after_events: usize) -> Self {
        let stop = Stop { after: After::Chunks(after_events), ending: Ending::Stall };
        Self::of_flow(Flow { stop: Some(stop), ..Flow::default() })
    }

    /// Gives the usual answer and breaks off after so many events, as [`cut_body`](Self::cut_body) does after so many bytes.
    /// Any other body counts as one event.
    pub fn cut_stream(after_events: usize) -> Self {
        let stop = Stop { after: After::Chunks(after_events), ending: Ending::Cut };
        Self::of_flow(Flow { stop: Some(stop), ..Flow::default() })
    }

    /// Gives the usual answer and breaks off after so many bytes of its body, at the latest before the last one.
    ///
    /// In process the body ends in an error. Over loopback the connection is closed before all that `content-length`
    /// or the chunked encoding promised has been sent; an HTTP/2 stream is reset, which may discard what was sent just before.
    pub fn cut_body(after_bytes: usize) -> Self {
        let stop = Stop { after: After::Bytes(after_bytes), ending: Ending::Cut };
        Self::of_flow(Flow { stop: Some(stop), ..Flow::default() })
    }

    /// Adds a header to the answer. The first value given for a name replaces what the answer had under that name.
    ///
    /// # Panics
    /// When the name or the value is not valid in a header.
    pub fn header<N, V>(mut self, name: N, value: V) -> Self
    where
        N: TryInto<HeaderName>,
        V: TryInto<HeaderValue>,
    {
        let name = name.try_into().ok().expect("`Fault::header` takes a valid name");
        let value = value.try_into().ok().expect("`Fault::header` takes a valid value");
        self.headers.append(name, value);
        self
    }

    /// Replaces the body of the answer. Its `content-type` stays what it was: `application/json` unless a
    /// [`header`](Self::header) says otherwise.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Happens only to requests for this deployment; others pass it by.
    pub fn for_deployment(mut self, name: impl Into<String>) -> Self {
        self.deployment = Some(name.into());
        self
    }

    /// Both happen to one request: a stream that ends in an error and comes in pieces, for example. Where they disagree,
    /// `other` holds.
    pub fn and(mut self, other: Self) -> Self {
        self.headers.extend(other.headers);
        Self {
            action: other.action.or(self.action),
            delay: other.delay.or(self.delay),
            stream_error: other.stream_error.or(self.stream_error),
            flow: self.flow.and(other.flow),
            headers: self.headers,
            body: other.body.or(self.body),
            deployment: other.deployment.or(self.deployment),
        }
    }

    fn concerns(&self, deployment: Option<&str>) -> bool {
        self.deployment.is_none() || self.deployment.as_deref() == deployment
    }
}

/// The faults that a [`SimulatedBackend`](super::SimulatedBackend) still has to show.
///
/// Each request takes the first fault that concerns it. When there is none, it gets what [`always`](Self::always) says.
#[derive(Debug, Default)]
pub struct Faults(Mutex<Script>);

#[derive(Debug, Default)]
struct Script {
    next: VecDeque<Fault>,
    always: Vec<Fault>,
}

impl Faults {
    /// Adds a fault for one request.
    pub fn push(&self, fault: Fault) -> &Self {
        self.push_n(fault, 1)
    }

    /// Adds the same fault for `n` requests.
    pub fn push_n(&self, fault: Fault, n: usize) -> &Self {
        self.edit(|script| script.next.extend(std::iter::repeat_n(fault, n)));
        self
    }

    /// Shows this fault to every request that meets no other, until [`clear`](Self::clear). Of several, the latest that
    /// concerns a request holds.
    pub fn always(&self, fault: Fault) -> &Self {
        self.edit(|script| script.always.push(fault));
        self
    }

    /// Forgets all faults. Requests that have met one already are not helped.
    pub fn clear(&self) -> &Self {
        self.edit(|script| *script = Script::default());
        self
    }

    pub(super) fn take(&self, deployment: Option<&str>) -> Option<Fault> {
        self.edit(|script| {
            let next = script.next.iter().position(|fault| fault.concerns(deployment));
            match next {
                Some(index) => script.next.remove(index),
                None => script.always.iter().rev().find(|fault| fault.concerns(deployment)).cloned(),
            }
        })
    }

    fn edit<T>(&self, change: impl FnOnce(&mut Script) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(faults: &Faults, deployment: &str) -> Option<Action> {
        faults.take(Some(deployment)).and_then(|fault| fault.action)
    }

    #[test]
    fn each_request_takes_the_first_that_concerns_it() {
        let faults = Faults::default();
        faults.push(Fault::hang().for_deployment("a")).push_n(Fault::reset(), 2).always(Fault::refused());

        assert_eq!(taken(&faults, "b"), Some(Action::Reset));
        assert_eq!(taken(&faults, "a"), Some(Action::Hang));
        assert_eq!(taken(&faults, "a"), Some(Action::Reset));
        assert_eq!(taken(&faults, "a"), Some(Action::Refuse));
        assert_eq!(taken(&faults, "a"), Some(Action::Refuse));
        faults.clear();
        assert_eq!(taken(&faults, "a"), None);
    }

    #[test]
    fn the_latest_standing_fault_holds() {
        let faults = Faults::default();
        faults.always(Fault::reset()).always(Fault::hang().for_deployment("a"));
        assert_eq!(taken(&faults, "a"), Some(Action::Hang));
        assert_eq!(taken(&faults, "b"), Some(Action::Reset));
        assert_eq!(faults.take(None).and_then(|fault| fault.action), Some(Action::Reset));
    }
}
