//! The names in a file of requests, rewritten as the form passes.

use std::iter::Peekable;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::vec::IntoIter;

use bytes::{Bytes, BytesMut};
use http::Request;
use http::header::CONTENT_LENGTH;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tower::BoxError;

use super::rewrite::unfit;
use crate::azure::Outcome;
use crate::azure::batch_file::{BatchFileError, BatchScan, Named};
use crate::azure::media_type::MediaType;
use crate::body::Body;
use crate::context::{AttemptFailed, Companions, Route};
use crate::error::{Error, ErrorKind};

/// Bytes that are read and written at once.
const CHUNK: usize = 64 << 10;
/// Bytes that are held at most of a line in which it is not yet certain what a name means.
const HELD: usize = 1 << 20;

/// Puts the backend's own names in the place of those that the lines of a batch file have.
///
/// A file that is all there is read first, so that one that cannot be used is never sent, and its length stays known. The length of
/// another is not known before it has passed.
pub(super) fn rename(route: &Route, request: &mut Request<Body>) -> Result<(), Error> {
    let Some(companions) = request.extensions().get::<Companions>().filter(|companions| companions.are_in_lines())
    else {
        return Ok(());
    };
    let names = Names { companions: companions.clone(), route: route.clone() };
    let boundary = MediaType::of(request.headers()).ok_or_else(unfit)?.boundary().map_err(|_| unfit())?.to_owned();
    let (_, is_whole) = request.body().in_hand();
    if let Some(bytes) = request.body().head().filter(|_| is_whole).cloned() {
        let edits = Edits::read(&boundary, &bytes, &names)?;
        if let Some(rewritten) = edits.into_body(bytes) {
            if request.headers().contains_key(CONTENT_LENGTH) {
                request.headers_mut().insert(CONTENT_LENGTH, rewritten.left.into());
            }
            *request.body_mut() = Body::new(rewritten);
        }
        return Ok(());
    }
    let lines = Lines::new(BatchScan::new(&boundary), names);
    request.headers_mut().remove(CONTENT_LENGTH);
    let inner = std::mem::take(request.body_mut());
    *request.body_mut() = Body::new(Rewritten { inner, lines: Some(lines), chunk: Bytes::new() });
    Ok(())
}

/// Names at the backend of the attempt.
#[derive(Clone)]
struct Names {
    companions: Companions,
    route: Route,
}

impl Names {
    /// The name as a JSON string, unless it is the same.
    fn written(&self, named: &Named) -> Result<Option<String>, Error> {
        match self.companions.at_backend(&self.route, &named.name) {
            Some(target) if target.deployment() == Some(named.name.as_str()) => Ok(None),
            Some(target) => Ok(target.json_name().map(str::to_owned)),
            None => Err(Error::new(
                ErrorKind::DeploymentNotFound,
                format!(
                    "The backend that gets the file does not serve the deployment that its line {} names.",
                    named.line
                ),
            )),
        }
    }
}

struct Lines {
    scan: BatchScan,
    names: Names,
    /// Bytes that were fed and not yet given on.
    held: BytesMut,
    /// Beginning of that in the form.
    from: usize,
}

impl Lines {
    fn new(scan: BatchScan, names: Names) -> Self {
        Self { scan, names, held: BytesMut::new(), from: 0 }
    }

    /// Returns what is settled with these bytes.
    fn feed(&mut self, chunk: &[u8]) -> Result<Bytes, Error> {
        self.held.extend_from_slice(chunk);
        self.scan.feed(chunk).map_err(|error| unusable(&error))?;
        let mut out = BytesMut::with_capacity(self.held.len());
        for named in self.scan.take_names() {
            if let Some(written) = self.names.written(&named)? {
                self.give(named.span.start, &mut out);
                out.extend_from_slice(written.as_bytes());
                drop(self.held.split_to(named.span.len().min(self.held.len())));
                self.from = named.span.end;
            }
        }
        self.give(self.scan.settled(), &mut out);
        if self.held.len() > HELD {
            let message = format!("Line {} of the file cannot be used: it is too long to be read.", self.scan.line());
            return Err(Error::new(ErrorKind::InvalidBody, message));
        }
        Ok(out.freeze())
    }

    fn finish(&mut self) -> Result<Bytes, Error> {
        self.scan.finish().map_err(|error| unusable(&error))?;
        Ok(std::mem::take(&mut self.held).freeze())
    }

    fn give(&mut self, to: usize, out: &mut BytesMut) {
        let length = to.saturating_sub(self.from).min(self.held.len());
        out.extend_from_slice(&self.held.split_to(length));
        self.from += length;
    }
}

fn unusable(error: &BatchFileError) -> Error {
    Error::new(ErrorKind::InvalidBody, format!("The batch cannot be used: {error}."))
}

/// The client's file is to blame, and no backend.
fn abandoned(error: Error) -> AttemptFailed {
    AttemptFailed::new(Outcome::Abandoned, error)
}

/// Edits of a form that is all there.
#[derive(Default)]
struct Edits {
    /// In their order.
    all: Vec<Edit>,
    /// Each name that a backend has for what lines name, once.
    written: Vec<Bytes>,
    /// Bytes by which the form becomes longer, and shorter.
    longer: u64,
    shorter: u64,
}

/// A name that another one takes the place of.
struct Edit {
    at: usize,
    length: u32,
    written: u32,
}

impl Edits {
    fn read(boundary: &str, form: &[u8], names: &Names) -> Result<Self, Error> {
        let mut scan = BatchScan::of(boundary, form).map_err(|error| unusable(&error))?;
        let (mut edits, mut known) = (Self::default(), Vec::new());
        for chunk in form.chunks(CHUNK) {
            scan.feed(chunk).map_err(|error| unusable(&error))?;
            for named in scan.take_names() {
                edits.add(&named, names, &mut known)?;
            }
        }
        scan.finish().map_err(|error| unusable(&error))?;
        Ok(edits)
    }

    /// `known` are names of which is known what they are called, most of all the last ones.
    fn add(&mut self, named: &Named, names: &Names, known: &mut Vec<(String, Option<u32>)>) -> Result<(), Error> {
        let found = known.iter().find(|(name, _)| *name == named.name).map(|(_, written)| *written);
        let written = match found {
            Some(written) => written,
            None => {
                let written = names.written(named)?.map(|written| {
                    self.written.push(written.into());
                    self.written.len() as u32 - 1
                });
                known.push((named.name.clone(), written));
                written
            }
        };
        if let Some(written) = written {
            self.longer += self.written[written as usize].len() as u64;
            self.shorter += named.span.len() as u64;
            self.all.push(Edit { at: named.span.start, length: named.span.len() as u32, written });
        }
        Ok(())
    }

    /// The form with its changes, if there are any.
    fn into_body(self, form: Bytes) -> Option<Spliced> {
        let left = (form.len() as u64 + self.longer).saturating_sub(self.shorter);
        let Self { all, written, .. } = self;
        (!all.is_empty()).then(|| Spliced { form, at: 0, edits: all.into_iter().peekable(), written, left })
    }
}

/// A form that is all there, with its changes.
struct Spliced {
    form: Bytes,
    /// Bytes of it that were given on.
    at: usize,
    edits: Peekable<IntoIter<Edit>>,
    written: Vec<Bytes>,
    /// Bytes that are still to come.
    left: u64,
}

impl Spliced {
    /// The next bytes, a chunk and a name at most.
    fn next_chunk(&mut self) -> Bytes {
        let mut out = BytesMut::with_capacity(CHUNK);
        while out.len() < CHUNK && self.at < self.form.len() {
            let end = self.edits.peek().map_or(self.form.len(), |edit| edit.at);
            let end = end.min(self.at + (CHUNK - out.len()));
            out.extend_from_slice(&self.form[self.at..end]);
            self.at = end;
            if let Some(edit) = self.edits.next_if(|edit| edit.at == end) {
                out.extend_from_slice(&self.written[edit.written as usize]);
                self.at += edit.length as usize;
            }
        }
        out.freeze()
    }
}

impl HttpBody for Spliced {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let chunk = self.next_chunk();
        self.left = self.left.saturating_sub(chunk.len() as u64);
        Poll::Ready((!chunk.is_empty()).then(|| Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.at == self.form.len()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// A form whose names change as it passes.
struct Rewritten {
    inner: Body,
    /// Reader of the form, until it has ended.
    lines: Option<Lines>,
    /// Rest of the last frame.
    chunk: Bytes,
}

impl HttpBody for Rewritten {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        while let Some(lines) = &mut this.lines {
            let settled = if this.chunk.is_empty() {
                match ready!(Pin::new(&mut this.inner).poll_frame(cx)?).map(Frame::into_data) {
                    Some(Ok(data)) => {
                        this.chunk = data;
                        continue;
                    }
                    // Trailers of a form mean nothing.
                    Some(Err(_)) => continue,
                    None => {
                        let rest = lines.finish();
                        this.lines = None;
                        rest.map_err(abandoned)?
                    }
                }
            } else {
                let chunk = this.chunk.split_to(this.chunk.len().min(CHUNK));
                lines.feed(&chunk).map_err(abandoned)?
            };
            if !settled.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(settled))));
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.lines.is_none()
    }
}
