//! The requests of a batch, one in each line of a file that is uploaded as a form with `purpose=batch`.
//!
//! ```
//! use tower_azure_openai::azure::batch_file;
//!
//! let form = "--b\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--b\r\n\
//!     Content-Disposition: form-data; name=\"file\"; filename=\"x.jsonl\"\r\n\r\n\
//!     {\"custom_id\":\"1\",\"method\":\"POST\",\"url\":\"/v1/responses\",\"body\":{\"model\":\"gpt-4o\"}}\r\n--b--\r\n";
//! let names = batch_file::find("b", form.as_bytes())?;
//! assert_eq!((&*names[0].name, names[0].line), ("gpt-4o", 1));
//! assert_eq!(&form[names[0].spans[0].clone()], "\"gpt-4o\"");
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

use std::ops::Range;

use thiserror::Error;

use super::further_names::{MAX_NAMES, name_of_line};
use super::request_body::{ReadBodyError, form_fields};

/// A deployment that the lines of a file name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Named {
    /// The name, unescaped.
    pub name: String,
    /// The first line that names it, counted from 1.
    pub line: usize,
    /// Where it stands in the form, in bytes: JSON strings with their quotes.
    pub spans: Vec<Range<usize>>,
}

/// Why a file of requests cannot be read. The message repeats nothing of it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BatchFileError {
    /// It is not the form that it should be.
    #[error("{0}")]
    Form(ReadBodyError),
    /// A line is not a request that names its model.
    #[error("line {line} of the file: {problem}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        problem: ReadBodyError,
    },
}

/// Finds what the lines of a form with this boundary name. A form for another purpose than a batch names nothing.
///
/// # Errors
/// The form cannot be read, or has two purposes; a line that is not blank is not a JSON object with a `model` in its `body`; the
/// lines name more than 32 deployments.
pub fn find(boundary: &str, body: &[u8]) -> Result<Vec<Named>, BatchFileError> {
    let fields = form_fields(boundary, body).map_err(BatchFileError::Form)?;
    let mut purposes = fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("purpose"));
    let purpose = purposes.next().and_then(|(_, span)| body.get(span.clone())).unwrap_or_default();
    if purposes.next().is_some() {
        return Err(BatchFileError::Form(ReadBodyError::ambiguous("`purpose` stands in the form twice")));
    }
    let mut found = Vec::new();
    if purpose.trim_ascii().eq_ignore_ascii_case(b"batch") {
        for (_, span) in fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("file")) {
            read_lines(body, span, &mut found)?;
        }
    }
    Ok(found)
}

fn read_lines(body: &[u8], file: &Range<usize>, found: &mut Vec<Named>) -> Result<(), BatchFileError> {
    let bytes = body.get(file.clone()).unwrap_or_default();
    let mark = if bytes.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    let mut start = file.start + mark;
    for (index, text) in bytes[mark..].split(|byte| *byte == b'\n').enumerate() {
        let line = index + 1;
        if !text.trim_ascii().is_empty() {
            let at_line = |problem| BatchFileError::Line { line, problem };
            let model = name_of_line(text).map_err(at_line)?;
            let span = start + model.span.start..start + model.span.end;
            match found.iter().position(|named| named.name == model.name) {
                Some(at) => found[at].spans.push(span),
                None if found.len() == MAX_NAMES => {
                    return Err(at_line(ReadBodyError::new("too many deployments are named")));
                }
                None => found.push(Named { name: model.name, line, spans: vec![span] }),
            }
        }
        start += text.len() + 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
