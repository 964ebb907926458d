//! The lines of events, part by part: for events of which nothing is held.

use memchr::memchr2;

use super::BYTE_ORDER_MARK;

/// Longer than the name of any field that is read.
const MAX_FIELD: usize = 8;

/// Finds the fields of events in the chunks of a stream, in the framing of the HTML standard. Unlike a
/// [`Reader`](super::Reader) it gives each part of a line as it comes.
#[derive(Debug)]
pub(crate) struct Lines {
    place: Place,
    /// The field's name as far as it was read.
    name: Vec<u8>,
    /// True if the last byte was a carriage return, whose line feed belongs to it.
    after_return: bool,
    /// True if an event has begun.
    has_begun: bool,
    at_start: bool,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    /// Name of a field.
    Name,
    /// After the colon, where one space says nothing.
    Colon(Field),
    Value(Field),
}

/// A field of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Data,
    Event,
    Other,
}

/// Next piece of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece<'c> {
    /// A line of a field begins.
    Begin(Field),
    EventEnd,
    /// More of the value of a field.
    Part(Field, &'c [u8]),
}

impl Default for Lines {
    fn default() -> Self {
        Self { place: Place::Name, name: Vec::new(), after_return: false, has_begun: false, at_start: true }
    }
}

impl Lines {
    /// The next piece of `chunk`, which afterwards holds what follows it.
    pub(crate) fn next_piece<'c>(&mut self, chunk: &mut &'c [u8]) -> Option<Piece<'c>> {
        loop {
            let (&first, rest) = chunk.split_first()?;
            if std::mem::take(&mut self.after_return) && first == b'\n' {
                *chunk = rest;
                continue;
            }
            if matches!(first, b'\r' | b'\n') {
                (*chunk, self.after_return) = (rest, first == b'\r');
                if let Some(piece) = self.end_line() {
                    return Some(piece);
                }
                continue;
            }
            match self.place {
                Place::Name => {
                    *chunk = rest;
                    if let Some(field) = self.read_name(first) {
                        self.place = Place::Colon(field);
                        return Some(Piece::Begin(field));
                    }
                }
                Place::Colon(field) => {
                    self.place = Place::Value(field);
                    if first == b' ' {
                        *chunk = rest;
                    }
                }
                Place::Value(field) => {
                    let end = memchr2(b'\r', b'\n', chunk).unwrap_or(chunk.len());
                    let (part, rest) = chunk.split_at(end);
                    *chunk = rest;
                    return Some(Piece::Part(field, part));
                }
            }
        }
    }

    /// The field whose name ends with this byte, if that is a colon.
    fn read_name(&mut self, byte: u8) -> Option<Field> {
        self.has_begun = true;
        if byte == b':' {
            return Some(self.field());
        }
        if self.name.len() <= MAX_FIELD + BYTE_ORDER_MARK.len() {
            self.name.push(byte);
        }
        None
    }

    fn field(&mut self) -> Field {
        let name = std::mem::take(&mut self.name);
        let at_start = std::mem::take(&mut self.at_start);
        let name = if at_start { name.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&name) } else { &name };
        match name {
            b"data" => Field::Data,
            b"event" => Field::Event,
            _ => Field::Other,
        }
    }

    /// An empty line ends an event, if one has begun; one without a colon is a field that says nothing.
    fn end_line(&mut self) -> Option<Piece<'static>> {
        let place = std::mem::replace(&mut self.place, Place::Name);
        let is_named = !self.name.is_empty();
        let field = self.field();
        match place {
            Place::Name if is_named => Some(Piece::Begin(field)),
            Place::Name => std::mem::take(&mut self.has_begun).then_some(Piece::EventEnd),
            Place::Colon(_) | Place::Value(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Reader;
    use super::*;

    /// The last name and the joined data of every event, read part by part.
    fn pieces(chunks: &[&[u8]]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let (mut lines, mut events) = (Lines::default(), Vec::new());
        let (mut name, mut data) = (Vec::new(), Vec::new());
        for mut chunk in chunks.iter().copied() {
            while let Some(piece) = lines.next_piece(&mut chunk) {
                match piece {
                    Piece::Begin(Field::Event) => name.clear(),
                    Piece::Part(Field::Data, part) => data.extend_from_slice(part),
                    Piece::Part(Field::Event, part) => name.extend_from_slice(part),
                    Piece::Begin(_) | Piece::Part(..) => {}
                    Piece::EventEnd => events.push((std::mem::take(&mut name), std::mem::take(&mut data))),
                }
            }
        }
        events
    }

    fn read(text: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let (mut reader, mut rest, mut events) = (Reader::new(1 << 20), text, Vec::new());
        while let Some(event) = reader.next_event(&mut rest) {
            let event = event.unwrap();
            let data = event.data().unwrap_or_default().iter().copied().filter(|byte| *byte != b'\n').collect();
            events.push((event.name().unwrap_or_default().to_vec(), data));
        }
        events
    }

    proptest! {
        #[test]
        fn what_a_reader_finds_is_found_part_by_part(
            text in "(\u{feff})?((event|data|id|x)(: ?[a-z:]{0,4})(\n|\r\n|\r)|(\n|\r\n|\r)|:[a-z]{0,3}(\n|\r)){0,12}",
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        ) {
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
            cuts.sort_unstable();
            let mut chunks = Vec::new();
            let mut start = 0;
            for cut in cuts {
                chunks.push(&text.as_bytes()[start..cut]);
                start = cut;
            }
            chunks.push(&text.as_bytes()[start..]);
            prop_assert_eq!(pieces(&chunks), read(text.as_bytes()));
        }
    }
}
