//! Remembers the last decisions, so that an incident can be run again.
//!
//! A [`FlightRecorder`] is one of the [`Recorder`](crate::observe::Recorder)s of an [`ObserveLayer`](crate::observe::ObserveLayer). It
//! keeps what the last requests came to in a ring of fixed size, and writes it as a file that a [`Recording`] reads:
//!
//! ```
//! use http::{Request, Response};
//! use http_body_util::BodyExt;
//! use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
//! use tower_azure_openai::pool::{Backend, Deployment, Pool};
//! use tower_azure_openai::recorder::{FlightRecorder, Recording};
//! use tower_azure_openai::{body::Body, observe::ObserveLayer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let east = Backend::new("east", "https://east.example").add_deployment(Deployment::new("gpt-4o"));
//! let recorder = FlightRecorder::new(1 << 20, &Pool::builder().add_backend(east).build()?);
//! let serves = service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(Body::from("hello"))));
//! let service = ServiceBuilder::new().layer(ObserveLayer::new().add_recorder(recorder.clone())).service(serves);
//! service.oneshot(Request::get("/").body(Body::empty())?).await?.into_body().collect().await?;
//!
//! let recording = Recording::read(&recorder.dump())?;
//! assert_eq!(recording.requests().count(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! # What is in it
//!
//! Numbers, and the names of the configuration: of each request when it came, for which alias, its call, its size and most
//! tokens, what it came to; of each attempt the target, its outcome and its hint; changes of circuits, what an administrator did,
//! and configurations by a fingerprint. A client is the hash of its id. No byte of a prompt, a key, a header or of anything else that a
//! client typed is in it: an alias that nobody serves is told as none.
//!
//! A request is written down when its answer has ended: what still runs is not in the file.
//!
//! # The file
//!
//! | bytes | |
//! |---|---|
//! | 8 | `aoai-rec` |
//! | 2 | version, now 1; all numbers are little-endian |
//! | 4 | length of the header |
//! | … | header: JSON with the targets' names and descriptions, and when the recording began and was taken |
//! | 4 | number of events |
//! | 64 each | events, the oldest first; [`Event`] says what they hold |
//! | 32 | SHA-256 of all before it |
//!
//! A reader refuses what is of another version, cut off or damaged, and says so.

mod event;
mod file;
mod flight;
mod recording;
mod ring;
mod slot;

pub use self::event::{Action, Attempted, CircuitChange, Event, Requested};
pub use self::file::ReadRecordingError;
pub use self::flight::FlightRecorder;
pub use self::recording::{RecordedTarget, Recording};

/// Writes what is read of a slot, and reads it again.
#[cfg(any(fuzzing, test))]
pub(crate) fn check_slot(slot: &[u8; slot::SLOT]) {
    if let Some(event) = Event::from_slot(slot) {
        assert_eq!(Event::from_slot(&event.to_slot()), Some(event));
    }
}
