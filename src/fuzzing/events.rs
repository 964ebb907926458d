use super::choppings;
use crate::azure::estimate::Text;
use crate::azure::sse::{Boundary, Event, Field, Lines, Piece, Reader};
use crate::azure::stream_event::{self, StreamEvent};
use crate::azure::usage::Reported;

/// Name and data of an event, which are compared.
type Said = (Option<Vec<u8>>, Vec<u8>);

/// Streams of events: the framing of the HTML standard, and the same meaning in any pieces.
pub(super) fn check(data: &[u8]) {
    let expected = by_the_standard(data);
    for pieces in std::iter::once(vec![data]).chain(choppings(data)) {
        assert_eq!(framed(&pieces, data.len() + 1), expected, "as events");
        assert_eq!(in_parts(&pieces), expected.complete, "part by part");
        assert_eq!(framed(&pieces, 16), framed(&[data], 16), "with a limit");
        let mut boundary = Boundary::new();
        pieces.iter().for_each(|piece| boundary.pass(piece));
        assert_eq!(boundary.is_between_events(), expected.is_between, "a boundary");
    }
    meanings(data);
}

#[derive(Debug, Default, PartialEq)]
struct Stream {
    complete: Vec<Said>,
    /// The event that the stream ended in.
    rest: Option<Said>,
    too_long: usize,
    /// True if the last line was an empty one, or there was none.
    is_between: bool,
}

/// Event streams as the standard has them, line by line: <https://html.spec.whatwg.org/multipage/server-sent-events.html>.
fn by_the_standard(data: &[u8]) -> Stream {
    let mut stream = Stream { is_between: true, ..Stream::default() };
    let data = data.strip_prefix(b"\xef\xbb\xbf").map_or(data, |rest| {
        stream.is_between = false;
        rest
    });
    let (mut name, mut lines, mut rest) = (None, None::<Vec<u8>>, data);
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
        let line = &rest[..end.unwrap_or(rest.len())];
        let ended = &rest[line.len()..];
        rest = ended.strip_prefix(b"\r\n").unwrap_or(ended.get(1..).unwrap_or_default());
        if line.is_empty() {
            stream.is_between = true;
            let said = (name.take(), lines.take());
            stream.complete.extend(said.1.map(|lines| (said.0, lines)));
            continue;
        }
        stream.is_between = false;
        let (field, value) = line.iter().position(|byte| *byte == b':').map_or((line, &[][..]), |colon| {
            let value = &line[colon + 1..];
            (&line[..colon], value.strip_prefix(b" ").unwrap_or(value))
        });
        match (field, &mut lines) {
            (b"event", _) => name = Some(value.to_vec()).filter(|name| !name.is_empty()),
            (b"data", Some(lines)) => {
                lines.push(b'\n');
                lines.extend_from_slice(value);
            }
            (b"data", none) => *none = Some(value.to_vec()),
            _ => {}
        }
    }
    stream.rest = lines.map(|lines| (name, lines));
    stream
}

fn said(event: &Event<'_>) -> Option<Said> {
    let data = event.data()?;
    assert!(!event.is_comment());
    Some((event.name().map(<[u8]>::to_vec), data.into_owned()))
}

fn framed(pieces: &[&[u8]], limit: usize) -> Stream {
    let (mut reader, mut stream) = (Reader::new(limit), Stream::default());
    let mut boundary = Boundary::new();
    for mut piece in pieces.iter().copied() {
        boundary.pass(piece);
        while let Some(event) = reader.next_event(&mut piece) {
            match event {
                Ok(event) => stream.complete.extend(said(&event)),
                Err(_) => stream.too_long += 1,
            }
        }
        assert!(piece.is_empty(), "a piece is read to its end");
    }
    stream.rest = reader.finish().as_ref().and_then(said);
    stream.is_between = boundary.is_between_events();
    stream
}

fn in_parts(pieces: &[&[u8]]) -> Vec<Said> {
    let (mut lines, mut events) = (Lines::default(), Vec::new());
    let (mut name, mut data) = (Vec::new(), None::<Vec<u8>>);
    for mut piece in pieces.iter().copied() {
        while let Some(read) = lines.next_piece(&mut piece) {
            match read {
                Piece::Begin(Field::Event) => name.clear(),
                Piece::Begin(Field::Data) => match &mut data {
                    Some(data) => data.push(b'\n'),
                    none => *none = Some(Vec::new()),
                },
                Piece::Part(Field::Event, part) => name.extend_from_slice(part),
                Piece::Part(Field::Data, part) => data.get_or_insert_default().extend_from_slice(part),
                Piece::EventEnd => {
                    let name = Some(std::mem::take(&mut name)).filter(|name| !name.is_empty());
                    events.extend(data.take().map(|data| (name, data)));
                }
                Piece::Begin(Field::Other) | Piece::Part(Field::Other, _) => {}
            }
        }
    }
    events
}

/// Meanings of the events of a stream, without those that only pass.
fn told(
    mut reader: stream_event::Reader,
    pieces: &[&[u8]],
    is_told: impl Fn(&StreamEvent) -> bool,
) -> (Vec<StreamEvent>, bool) {
    let mut told = Vec::new();
    for mut piece in pieces.iter().copied() {
        while !piece.is_empty() {
            match reader.next_event(&mut piece) {
                Some(event) => told.push(event),
                None => break,
            }
        }
    }
    told.extend(reader.finish());
    told.retain(is_told);
    (told, reader.is_complete())
}

fn meanings(data: &[u8]) {
    let limit = data.len() + 1;
    let all = |pieces: &[&[u8]]| told(stream_event::Reader::new(limit), pieces, |_| true);
    let failures = |pieces: &[&[u8]]| {
        let reader = stream_event::Reader::new(limit).failures_only();
        told(reader, pieces, |event| matches!(event, StreamEvent::Error(_) | StreamEvent::RunFailed(_)))
    };
    let (whole, failed) = (all(&[data]), failures(&[data]));
    assert_eq!(whole.1, failed.1, "one who only looks for failures knows the end, too");
    for pieces in choppings(data) {
        assert_eq!(all(&pieces), whole, "pieces change what is meant");
        assert_eq!(failures(&pieces), failed, "pieces change what failed");
    }
    let (mut reader, mut rest) = (Reader::new(limit), data);
    while let Some(event) = reader.next_event(&mut rest) {
        if let Ok(event) = event {
            let _ = (Reported::of_event(&event), Text::of_event(&event).tokens());
        }
    }
}
