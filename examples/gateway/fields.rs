//! The fields of lines of the log as tracing writes them, without its detours where nothing has to be escaped.

use std::error::Error;
use std::fmt;

use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{DefaultVisitor, Writer};

/// Writes fields as tracing's own formatter does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields;

impl<'writer> FormatFields<'writer> for Fields {
    fn format_fields<R: RecordFields>(&self, line: Writer<'writer>, fields: R) -> fmt::Result {
        let mut written = Written { line, is_empty: true, result: Ok(()) };
        fields.record(&mut written);
        written.result
    }
}

struct Written<'a> {
    line: Writer<'a>,
    is_empty: bool,
    result: fmt::Result,
}

impl Written<'_> {
    /// `false`, and nothing is written, for a field whose name is not simply written.
    fn begin(&mut self, field: &Field) -> bool {
        let name = field.name();
        if name == "message" || name.starts_with("r#") || self.line.has_ansi_escapes() {
            return false;
        }
        let space = if std::mem::take(&mut self.is_empty) { "" } else { " " };
        self.result = [space, name, "="].iter().try_for_each(|text| self.line.write_str(text));
        true
    }

    /// As tracing does it.
    fn usual(&mut self, record: impl FnOnce(&mut DefaultVisitor<'_>)) {
        if self.result.is_err() {
            return;
        }
        let mut text = String::new();
        record(&mut DefaultVisitor::new(Writer::new(&mut text), std::mem::take(&mut self.is_empty)));
        self.result = self.line.write_str(&text);
    }
}

/// Tells whether a text stands between quotes as it is.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\'))
}

impl Visit for Written<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.usual(|usual| usual.record_debug(field, value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.usual(|usual| usual.record_error(field, value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if self.result.is_err() {
            return;
        }
        if !is_plain(value) || !self.begin(field) {
            return self.usual(|usual| usual.record_str(field, value));
        }
        self.result = self.result.and_then(|()| {
            self.line.write_char('"')?;
            self.line.write_str(value)?;
            self.line.write_char('"')
        });
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if self.result.is_err() {
            return;
        }
        if !self.begin(field) {
            return self.usual(|usual| usual.record_u64(field, value));
        }
        self.result = self.result.and_then(|()| write!(self.line, "{value}"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::MakeWriter;
    use tracing_subscriber::fmt::format::DefaultFields;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(line);
            Ok(line.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Lines {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    fn logged<F>(fields: F, log: impl FnOnce()) -> String
    where
        F: for<'writer> FormatFields<'writer> + Send + Sync + 'static,
    {
        let lines = Lines::default();
        let log_to =
            tracing_subscriber::fmt().with_writer(lines.clone()).without_time().with_ansi(false).fmt_fields(fields);
        tracing::subscriber::with_default(log_to.finish(), log);
        let written = lines.0.lock().unwrap().clone();
        String::from_utf8(written).unwrap()
    }

    #[test]
    fn lines_are_as_tracing_writes_them() {
        for text in
            ["", "gpt-4o", "with space", "quote \" and \\", "line\nbreak", "\u{20ac}\u{1b}[31m", "it's", "\u{7f}"]
        {
            let log = || {
                let span = tracing::info_span!("request", id = %text, trace_id = tracing::field::Empty);
                let _entered = span.enter();
                span.record("trace_id", text);
                let error = std::io::Error::other(text);
                tracing::info!(
                    client = Some(text),
                    none = None::<&str>,
                    r#type = text,
                    status = 200_u16,
                    n = -1,
                    "{text}"
                );
                tracing::warn!(error = &error as &dyn Error, wait = ?text, is = true, share = 0.5);
            };
            assert_eq!(logged(Fields, log), logged(DefaultFields::new(), log), "{text:?}");
        }
    }
}
