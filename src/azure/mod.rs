//! What Azure OpenAI says on the wire, as pure functions and types: no service, no I/O, no state, no clock of its own.
//!
//! - [`hint`]: how long a backend asks us to wait
//! - [`object_id`]: ids of stored objects, and where they stand in bodies, answers and events
//! - [`operation`]: a request path → what is asked for, of which deployment, and whether a repeat is safe
//! - [`envelope`]: reading and writing error bodies
//! - [`outcome`]: status, headers and error body → what an answer means
//! - [`sse`]: the events of a stream, found in the chunks of a passing body

pub mod envelope;
pub mod hint;
pub mod object_id;
pub mod operation;
pub mod outcome;
pub mod sse;

pub use self::outcome::{Outcome, Phase};
