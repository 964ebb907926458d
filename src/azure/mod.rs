//! Protocol of Azure OpenAI, as pure functions and types: no service, no I/O, no state, no clock of its own.
//!
//! - [`hint`]: how long a backend asks us to wait
//! - [`object_id`]: ids of stored objects, and where they stand in bodies, answers and events
//! - [`operation`]: a request path → what is asked for, of which deployment, and whether a repeat is safe
//! - [`outcome`]: status, headers and error body → what an answer means
//! - [`usage`]: tokens and seconds that an answer says it used

pub(crate) mod asked;
pub(crate) mod batch_file;
pub(crate) mod client_secret;
pub(crate) mod envelope;
pub(crate) mod estimate;
pub(crate) mod further_names;
pub mod hint;
pub(crate) mod json_text;
pub(crate) mod media_type;
pub mod object_id;
pub mod operation;
pub mod outcome;
pub(crate) mod prompt;
pub(crate) mod request_body;
pub(crate) mod signals;
pub(crate) mod source;
pub(crate) mod sse;
mod stable_hash;
pub(crate) mod stream_event;
pub mod usage;

pub use self::outcome::{Outcome, Phase};
pub(crate) use self::stable_hash::stable_hash;
