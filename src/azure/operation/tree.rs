//! The table, read segment by segment.

use super::table::Row;

/// A place in the paths of a table.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// The call whose path ends here.
    pub(super) row: Option<&'static Row>,
    words: Vec<(&'static str, Self)>,
    id: Option<Box<Self>>,
}

/// Meaning of a segment, and the place after it.
pub(super) enum Step<'a> {
    Id(&'a Node),
    Word(&'a Node),
}

impl Node {
    pub(super) fn of(rows: &'static [Row]) -> Self {
        let mut root = Self::default();
        for row in rows {
            root.add(row, row.path);
        }
        root
    }

    fn add(&mut self, row: &'static Row, path: &'static str) {
        let (segment, rest) = path.split_once('/').unwrap_or((path, ""));
        let next = if segment == "{}" { self.id.get_or_insert_default() } else { self.word(segment) };
        if rest.is_empty() {
            next.row = Some(row);
        } else {
            next.add(row, rest);
        }
    }

    fn word(&mut self, word: &'static str) -> &mut Self {
        let at = self.words.iter().position(|(known, _)| *known == word).unwrap_or_else(|| {
            self.words.push((word, Self::default()));
            self.words.len() - 1
        });
        &mut self.words[at].1
    }

    /// The call whose whole path this is.
    pub(super) fn find(&self, path: &str) -> Option<&'static Row> {
        let end = path.split('/').try_fold(self, |node, segment| match node.step(segment)? {
            Step::Id(next) | Step::Word(next) => Some(next),
        });
        end?.row
    }

    /// A word of the API is never an id.
    pub(super) fn step(&self, segment: &str) -> Option<Step<'_>> {
        let word = self.words.iter().find(|(word, _)| word.eq_ignore_ascii_case(segment));
        word.map(|(_, node)| Step::Word(node)).or_else(|| self.id.as_deref().map(Step::Id))
    }
}
