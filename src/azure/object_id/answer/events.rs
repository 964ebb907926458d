use super::{AnswerScan, Answered};
use crate::azure::object_id::Family;
use crate::azure::sse::{Field, Lines, Piece};

/// Longer than the name of any event that is read.
const MAX_NAME: usize = 64;

/// A stream of events that is read as it passes, however long an event is.
#[derive(Debug, Default)]
pub(crate) struct EventScan {
    lines: Lines,
    name: Vec<u8>,
    answer: Option<AnswerScan>,
}

impl EventScan {
    /// Returns what the next event says that ends in `chunk`, which afterwards holds what follows it. Whether it is one without a
    /// name, as the chunks of a chat completion are, is told beside it.
    pub(crate) fn next_event(&mut self, chunk: &mut &[u8]) -> Option<(Answered, bool)> {
        while let Some(piece) = self.lines.next_piece(chunk) {
            match piece {
                Piece::Begin(Field::Event) => self.name.clear(),
                Piece::Part(Field::Event, part) => {
                    let room = MAX_NAME - self.name.len();
                    self.name.extend_from_slice(&part[..part.len().min(room)]);
                }
                Piece::Part(Field::Data, part) if Reading::of(&self.name) != Reading::Nothing => {
                    let family = (self.name == b"response.created").then_some(Family::Response);
                    self.answer.get_or_insert_with(|| AnswerScan::new(family)).feed(part);
                }
                Piece::Begin(_) | Piece::Part(..) => {}
                Piece::EventEnd => {
                    let (name, answer) = (std::mem::take(&mut self.name), self.answer.take());
                    let Some(answer) = answer else { continue };
                    let told = Reading::of(&name).told(answer.finish());
                    return Some((told, name.is_empty()));
                }
            }
        }
        None
    }
}

/// Stages of reading an event: each id and each content is told first, and then complete, by one kind of them.
#[derive(PartialEq)]
enum Reading {
    All,
    /// A content is not complete yet.
    Ids,
    Nothing,
    Sealed,
}

impl Reading {
    fn of(name: &[u8]) -> Self {
        match name {
            b"response.created" => Self::All,
            b"" | b"response.output_item.added" | b"thread.created" | b"thread.run.created" => Self::Ids,
            b"response.output_item.done" | b"response.completed" | b"response.incomplete" => Self::Sealed,
            _ => Self::Nothing,
        }
    }

    fn told(self, answered: Answered) -> Answered {
        match self {
            Self::All => answered,
            Self::Ids => Answered { sealed: Vec::new(), ..answered },
            Self::Nothing => Answered::default(),
            Self::Sealed => Answered { sealed: answered.sealed, ..Answered::default() },
        }
    }
}
