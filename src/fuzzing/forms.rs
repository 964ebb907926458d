use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_core::Stream;
use multer::Multipart;

use super::choppings;
use crate::azure::request_body::{BodyScan, find_field, parts, read_form_with};

const BOUNDARY: &str = "b";

/// Forms with the boundary `b`: what is not refused is the same to `multer`, and in pieces.
pub(super) fn check(data: &[u8]) {
    let whole = read_form_with(BOUNDARY, data);
    for pieces in choppings(data) {
        let mut scan = BodyScan::form(BOUNDARY);
        let read = pieces.iter().try_for_each(|piece| scan.feed(piece)).and_then(|()| scan.finish());
        assert_eq!(read.as_ref().ok(), whole.as_ref().ok(), "pieces change what is read");
    }
    let ours = parts(BOUNDARY, data);
    assert_eq!(ours.is_ok(), whole.is_ok());
    let (Ok(fields), Ok(ours)) = (whole, ours) else { return };

    let theirs = read_by_multer(data).expect("a form that nobody reads differently");
    assert_eq!(
        ours.iter().map(|part| part.value).collect::<Vec<_>>(),
        theirs.iter().map(|(_, value)| &value[..]).collect::<Vec<_>>()
    );
    let named = |wanted: &str| {
        let mut found = theirs.iter().filter(|(name, _)| name == wanted).map(|(_, value)| &value[..]);
        (found.next(), found.next())
    };
    let model = fields.model.as_ref();
    assert_eq!(named("model"), (model.map(|model| model.name.as_bytes()), None));
    assert_eq!(model.map(|model| &data[model.span.clone()]), named("model").0);
    assert_eq!(fields.streams, named("stream").0.is_some_and(|value| value.eq_ignore_ascii_case(b"true")));
    if let Ok(session) = find_field(BOUNDARY, data, "session") {
        assert_eq!(named("session"), (session.map(|span| &data[span]), None));
    }
}

/// Names and values, in their order.
fn read_by_multer(data: &[u8]) -> multer::Result<Vec<(String, Bytes)>> {
    at_once(async {
        let mut form = Multipart::new(Once(Some(Bytes::copy_from_slice(data))), BOUNDARY);
        let mut read = Vec::new();
        while let Some(field) = form.next_field().await? {
            let name = field.name().unwrap_or_default().to_owned();
            read.push((name, field.bytes().await?));
        }
        Ok(read)
    })
}

/// A body in one piece.
struct Once(Option<Bytes>);

impl Stream for Once {
    type Item = std::io::Result<Bytes>;

    fn poll_next(mut self: std::pin::Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.take().map(Ok))
    }
}

/// Result of a future that waits for nothing.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return done;
        }
    }
}
