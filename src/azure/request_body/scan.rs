use super::form::FormScan;
use super::json::JsonScan;
use super::{Fields, Opening, ReadBodyError};

/// A body that is read as it arrives, for one that is not held whole.
///
/// It finds what [`read_json`](super::read_json) of the object itself and [`read_form`](super::read_form) find, wherever the
/// chunks are cut, and goes on to see to it that nothing is said twice.
#[derive(Debug)]
pub(crate) struct BodyScan(Kind);

#[derive(Debug)]
enum Kind {
    Form(Box<FormScan>),
    /// Made with the first bytes: most bodies are held whole, and need none.
    Json(Option<Box<JsonScan>>),
}

static NOTHING: Fields = Fields {
    model: None,
    streams: false,
    keeps: false,
    refers_to_agent: false,
    opening: Opening { at: 0, is_empty: false },
};

impl BodyScan {
    /// A JSON object.
    #[must_use]
    pub(crate) const fn json() -> Self {
        Self(Kind::Json(None))
    }

    /// A form with this boundary.
    #[must_use]
    pub(crate) fn form(boundary: &str) -> Self {
        Self(Kind::Form(Box::new(FormScan::new(boundary))))
    }

    /// Reads the next bytes.
    ///
    /// # Errors
    /// Those of [`read_json`](super::read_json) and [`read_form`](super::read_form), as soon as they are seen. Then it is over.
    pub(crate) fn feed(&mut self, chunk: &[u8]) -> Result<(), ReadBodyError> {
        match &mut self.0 {
            Kind::Form(form) => form.feed(chunk),
            Kind::Json(json) => json.get_or_insert_default().feed(chunk),
        }
    }

    /// Returns what is known so far.
    #[must_use]
    pub(crate) const fn fields(&self) -> &Fields {
        match &self.0 {
            Kind::Form(form) => form.fields(),
            Kind::Json(Some(json)) => json.fields(),
            Kind::Json(None) => &NOTHING,
        }
    }

    /// Returns what the whole body said.
    ///
    /// # Errors
    /// The body ended before it was complete.
    #[cfg(any(fuzzing, test))]
    pub(crate) fn finish(self) -> Result<Fields, ReadBodyError> {
        match self.0 {
            Kind::Form(form) => form.finish(),
            Kind::Json(json) => json.unwrap_or_default().finish(),
        }
    }
}
