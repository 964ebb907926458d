//! What Azure OpenAI says on the wire, as pure functions and types: no service, no I/O, no state, no clock of its own.
//!
//! - [`client_secret`]: the key of a realtime session, as its answer tells it
//! - [`hint`]: how long a backend asks us to wait
//! - [`media_type`]: what a body is, by its `Content-Type`
//! - [`object_id`]: ids of stored objects, and where they stand in bodies, answers and events
//! - [`operation`]: a request path → what is asked for, of which deployment, and whether a repeat is safe
//! - [`envelope`]: reading and writing error bodies
//! - [`estimate`]: how many tokens a text is likely to be
//! - [`batch_file`]: the deployments that the lines of an uploaded batch name
//! - [`further_names`]: the deployments that a request body names beside its own
//! - [`request_body`]: the fields of a request body by which a gateway decides
//! - [`outcome`]: status, headers and error body → what an answer means
//! - [`prompt`]: a request body → what its prompt's cache is kept under
//! - [`signals`]: how much room a backend says it has left
//! - [`sse`]: the events of a stream, found in the chunks of a passing body
//! - [`stream_event`]: what one of them means
//! - [`usage`]: tokens and seconds that an answer says it used

pub(crate) mod asked;
pub mod batch_file;
pub mod client_secret;
pub mod envelope;
pub mod estimate;
pub mod further_names;
pub mod hint;
pub(crate) mod json_text;
pub mod media_type;
pub mod object_id;
pub mod operation;
pub mod outcome;
pub mod prompt;
pub mod request_body;
pub mod signals;
pub(crate) mod source;
pub mod sse;
mod stable_hash;
pub mod stream_event;
pub mod usage;

pub use self::outcome::{Outcome, Phase};
pub(crate) use self::stable_hash::stable_hash;
