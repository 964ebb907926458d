//! The requests of a batch, one in each line of a file that is uploaded as a form with `purpose=batch`.
//!
//! Sources: <https://learn.microsoft.com/azure/ai-foundry/openai/how-to/batch>, <https://platform.openai.com/docs/api-reference/batch/request-input>.

use std::ops::Range;

use memchr::memchr;
use percent_encoding::percent_decode_str;
use thiserror::Error;

use super::further_names::{LINE, MAX_NAMES, NameScan};
use super::request_body::{FormReader, Piece, ReadBodyError};

/// The longest purpose that is read.
const MAX_PURPOSE: usize = 64;

/// Bytes that are read before names that are known are let go.
const CHUNK: usize = 64 << 10;

/// A deployment that a line of a file names.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) struct Named {
    /// The name, unescaped.
    pub(crate) name: String,
    /// The line that names it, counted from 1.
    pub(crate) line: usize,
    /// Place where it stands in the form, in bytes: a JSON string with its quotes.
    pub(crate) span: Range<usize>,
}

/// Reason why a file of requests cannot be read. The message repeats nothing of it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub(crate) enum BatchFileError {
    /// It is not the form that it should be.
    #[error("{0}")]
    Form(#[from] ReadBodyError),
    /// A line is not a request that names its model.
    #[error("line {line} of the file: {problem}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// Fault that was found.
        problem: ReadBodyError,
    },
}

/// Finds each name in the lines of a form with this boundary, where it stands first. A form for another purpose than a batch names
/// nothing.
///
/// # Errors
/// The form cannot be read, or has two purposes; a line that is not blank is not a JSON object with a `model` in its `body`, or its
/// `url` names a deployment; the lines name more than 32.
pub(crate) fn find(boundary: &str, body: &[u8]) -> Result<Vec<Named>, BatchFileError> {
    let mut distinct: Vec<Named> = Vec::new();
    let mut scan = BatchScan::of(boundary, body)?;
    for chunk in body.chunks(CHUNK) {
        scan.feed(chunk)?;
        scan.take_names().into_iter().try_for_each(|named| keep_new(&mut distinct, named))?;
    }
    scan.finish()?;
    Ok(distinct)
}

/// Adds a name that is not there yet.
pub(crate) fn keep_new(names: &mut Vec<Named>, named: Named) -> Result<(), BatchFileError> {
    if names.iter().any(|known| known.name == named.name) {
        return Ok(());
    }
    if names.len() == MAX_NAMES {
        let problem = ReadBodyError::new("too many deployments are named");
        return Err(BatchFileError::Line { line: named.line, problem });
    }
    names.push(named);
    Ok(())
}

/// A form with a file of requests on its way in. No more of a line is held than a name.
#[derive(Debug)]
pub(crate) struct BatchScan {
    form: FormReader,
    file: File,
}

#[derive(Debug)]
struct File {
    field: Field,
    purpose: Purpose,
    has_purpose: bool,
    /// True if more than the purpose is of interest.
    reads_lines: bool,
    /// True if a file was passed over before its purpose was known.
    is_passed_over: bool,
    value: Vec<u8>,
    line: usize,
    is_blank: bool,
    scan: NameScan,
    /// Number of names of this line that were taken.
    taken: usize,
    names: Vec<Named>,
    /// The path of the last line, which names no deployment: most lines have the same.
    url: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Field {
    File,
    Other,
    Purpose,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Purpose {
    Batch,
    Other,
    Unknown,
}

impl BatchScan {
    /// A form that is read as it arrives. A file that stands before its purpose is passed over.
    #[must_use]
    pub(crate) fn new(boundary: &str) -> Self {
        Self::with(boundary, Purpose::Unknown)
    }

    /// The same for a form that is all there, whose purpose may stand behind its file. One that says no purpose is a batch if its
    /// lines are.
    ///
    /// # Errors
    /// The form cannot be read, or has two purposes.
    pub(crate) fn of(boundary: &str, body: &[u8]) -> Result<Self, BatchFileError> {
        let mut first = Self::with(boundary, Purpose::Other);
        first.file.reads_lines = false;
        first.feed(body)?;
        first.finish()?;
        let is_batch = || {
            let mut batch = Self::with(boundary, Purpose::Batch);
            body.chunks(CHUNK).try_for_each(|chunk| batch.feed(chunk).map(|()| drop(batch.take_names()))).is_ok()
        };
        let purpose = match first.file.purpose {
            Purpose::Other if !first.file.has_purpose && is_batch() => Purpose::Batch,
            purpose => purpose,
        };
        Ok(Self::with(boundary, purpose))
    }

    fn with(boundary: &str, purpose: Purpose) -> Self {
        let file = File {
            field: Field::Other,
            purpose,
            has_purpose: false,
            reads_lines: true,
            is_passed_over: false,
            value: Vec::new(),
            line: 1,
            is_blank: true,
            scan: NameScan::new(LINE),
            taken: 0,
            names: Vec::new(),
            url: String::new(),
        };
        Self { form: FormReader::new(boundary), file }
    }

    /// Reads the next bytes.
    ///
    /// # Errors
    /// Those of [`find`], as soon as they are seen. Then it is over.
    pub(crate) fn feed(&mut self, chunk: &[u8]) -> Result<(), BatchFileError> {
        let file = &mut self.file;
        self.form.feed(chunk, |piece| file.take(piece))?;
        self.file.take_settled();
        Ok(())
    }

    /// # Errors
    /// The body ended before the form was complete.
    pub(crate) fn finish(&self) -> Result<(), BatchFileError> {
        Ok(self.form.finish()?)
    }

    /// The names that were found since the last time, in their order.
    pub(crate) fn take_names(&mut self) -> Vec<Named> {
        std::mem::take(&mut self.file.names)
    }

    /// Tells whether the form is known to be a batch, whose lines are read.
    #[must_use]
    pub(crate) fn is_batch(&self) -> bool {
        self.file.purpose == Purpose::Batch && !self.file.is_passed_over
    }

    /// Tells whether the form turned out to be a batch after its file had been passed over.
    #[must_use]
    pub(crate) fn is_unread(&self) -> bool {
        self.file.is_passed_over && self.file.purpose == Purpose::Batch
    }

    /// Returns the length of the form that is settled: no name that stands before is still to be found.
    #[must_use]
    pub(crate) fn settled(&self) -> usize {
        if self.file.is_reading() { self.file.scan.settled() } else { self.form.understood() }
    }

    /// The line that is being read, counted from 1.
    #[must_use]
    pub(crate) const fn line(&self) -> usize {
        self.file.line
    }
}

impl File {
    /// Tells whether a line is being read.
    fn is_reading(&self) -> bool {
        self.field == Field::File && !self.is_blank
    }

    fn take(&mut self, piece: Piece<'_>) -> Result<(), BatchFileError> {
        match (piece, self.field) {
            (Piece::Field(name), _) => self.begins(name)?,
            (Piece::Value(at, value), Field::File) => self.lines(at, value)?,
            (Piece::Value(_, value), Field::Purpose) => {
                if self.value.len() + value.len() > MAX_PURPOSE {
                    return Err(ReadBodyError::new("the purpose of the file is too long").into());
                }
                self.value.extend_from_slice(value);
            }
            (Piece::End(end), Field::File) => self.ends_line(end)?,
            (Piece::End(_), Field::Purpose) => {
                let is_batch = self.value.trim_ascii().eq_ignore_ascii_case(b"batch");
                self.purpose = if is_batch { Purpose::Batch } else { Purpose::Other };
            }
            (Piece::Value(..) | Piece::End(_), Field::Other) => {}
        }
        Ok(())
    }

    fn begins(&mut self, name: &str) -> Result<(), ReadBodyError> {
        self.field = Field::Other;
        if name.eq_ignore_ascii_case("purpose") {
            if name != "purpose" || std::mem::replace(&mut self.has_purpose, true) {
                return Err(ReadBodyError::ambiguous("`purpose` stands in the form twice, or in another case"));
            }
            self.field = Field::Purpose;
        } else if name.eq_ignore_ascii_case("file") {
            self.is_passed_over |= self.purpose == Purpose::Unknown;
            if self.purpose == Purpose::Batch && self.reads_lines {
                self.field = Field::File;
                (self.line, self.is_blank, self.taken) = (1, true, 0);
            }
        }
        Ok(())
    }

    fn lines(&mut self, mut at: usize, mut rest: &[u8]) -> Result<(), BatchFileError> {
        while let Some(end) = memchr(b'\n', rest) {
            self.part(at, &rest[..end])?;
            at += end + 1;
            rest = &rest[end + 1..];
            self.ends_line(at)?;
        }
        self.part(at, rest)
    }

    fn part(&mut self, at: usize, part: &[u8]) -> Result<(), BatchFileError> {
        let begins = self.is_blank;
        self.is_blank &= part.trim_ascii().is_empty();
        if begins && !self.is_blank {
            self.scan.restart(at);
            self.taken = 0;
        }
        if self.is_blank { Ok(()) } else { self.scan.feed(part).map_err(|problem| self.at_line(problem)) }
    }

    /// The next line begins there.
    fn ends_line(&mut self, next: usize) -> Result<(), BatchFileError> {
        if !self.is_blank {
            if !self.scan.is_complete() {
                return Err(self.at_line(ReadBodyError::new("not the JSON object it should be")));
            }
            if !self.scan.found().iter().any(|found| found.way == 0) {
                let problem = ReadBodyError::new("it has no `model` in its `body`, which names the deployment");
                return Err(self.at_line(problem));
            }
            let mut urls = self.scan.found().iter().filter(|found| found.way + 1 == LINE.len());
            if let Some(found) = urls.find(|found| found.name.name != self.url) {
                if leads_to_deployment(&found.name.name) {
                    let problem =
                        ReadBodyError::new("its `url` names a deployment, which belongs into `model` of its `body`");
                    return Err(self.at_line(problem));
                }
                self.url.clone_from(&found.name.name);
            }
            self.take_settled();
        }
        self.line += 1;
        (self.is_blank, self.taken) = (true, 0);
        self.scan.restart(next);
        Ok(())
    }

    fn take_settled(&mut self) {
        let settled = self.scan.settled();
        let new = self.scan.found().get(self.taken..).unwrap_or_default();
        let new = new.iter().take_while(|found| found.name.span.start < settled);
        for found in new {
            self.taken += 1;
            if found.way + 1 < LINE.len() {
                let (name, span) = (found.name.name.clone(), found.name.span.clone());
                self.names.push(Named { name, line: self.line, span });
            }
        }
    }

    const fn at_line(&self, problem: ReadBodyError) -> BatchFileError {
        BatchFileError::Line { line: self.line, problem }
    }
}

fn leads_to_deployment(url: &str) -> bool {
    let mut segments = url.split(['/', '\\', '?', '#']);
    segments.any(|segment| percent_decode_str(segment).decode_utf8_lossy().eq_ignore_ascii_case("deployments"))
}

#[cfg(test)]
mod tests;
