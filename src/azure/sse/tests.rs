use proptest::prelude::*;

use super::*;

/// An event as the tests compare it: name and data; `None` is one that was too long.
type Seen = Option<(Option<Vec<u8>>, Option<Vec<u8>>)>;

fn seen(event: Event<'_>) -> Seen {
    Some((event.name().map(<[u8]>::to_vec), event.data().map(Cow::into_owned)))
}

fn read<'a>(limit: usize, chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<Seen> {
    let (mut reader, mut all) = (Reader::new(limit), Vec::new());
    for mut chunk in chunks {
        while let Some(event) = reader.next_event(&mut chunk) {
            all.push(event.ok().and_then(seen));
        }
        assert!(chunk.is_empty(), "a chunk is read to its end");
        assert!(reader.begun.len() <= limit, "memory is bounded");
    }
    all.extend(reader.finish().map(seen));
    all
}

fn event(name: &str, data: &str) -> Seen {
    let some = |text: &str| (!text.is_empty()).then(|| text.as_bytes().to_vec());
    Some((some(name), some(data)))
}

#[test]
fn reads_every_line_end() {
    for end in ["\n", "\r\n", "\r"] {
        let stream = ["data: a", "", "event: e", "data: b", "data:c", "", ""].join(end);
        assert_eq!(read(99, [stream.as_bytes()]), [event("", "a"), event("e", "b\nc")], "{end:?}");
    }
    assert_eq!(read(99, [&b"data: a\r\r\ndata: b\n\r\n"[..]]), [event("", "a"), event("", "b")], "mixed");
}

#[test]
fn a_boundary_is_where_an_event_has_ended() {
    let stands = |chunks: &[&str]| {
        let mut boundary = Boundary::new();
        chunks.iter().for_each(|chunk| boundary.pass(chunk.as_bytes()));
        boundary.is_between_events()
    };
    for end in ["", "\n", "\r\n", "a\n\n", "a\r\n\r\n", "a\r\r", "a\n\r\n", "a\r\n\n", "a\r\n\r", "a\n\n\n"] {
        assert!(stands(&[end]), "{end:?}");
    }
    for inside in ["a", "a\n", "a\r\n", "a\r", "a\n\nb", "a\n\nb\n", "a\r\n\r\nb\r\n"] {
        assert!(!stands(&[inside]), "{inside:?}");
    }
    assert!(stands(&["a\r", "\n\r", "\n"]) && !stands(&["a\r", "\n"]));
}

#[test]
fn an_event_is_known_at_the_first_byte_of_its_empty_line() {
    let mut reader = Reader::new(99);
    let mut chunk = &b"data: a\r\n\r"[..];
    assert_eq!(seen(reader.next_event(&mut chunk).unwrap().unwrap()), event("", "a"), "without waiting for the \\n");
    chunk = b"\ndata: b\r\n\r\n";
    assert_eq!(seen(reader.next_event(&mut chunk).unwrap().unwrap()), event("", "b"));
}

#[test]
fn tells_what_follows_an_event() {
    let mut reader = Reader::new(99);
    let mut chunk = &b"data: a\r\n\r\ndata: b\n\nda"[..];
    assert!(reader.next_event(&mut chunk).is_some());
    assert_eq!(chunk, b"data: b\n\nda");
    assert!(reader.next_event(&mut chunk).is_some());
    assert_eq!(chunk, b"da");
    assert!(reader.next_event(&mut chunk).is_none());
}

#[test]
fn fields_are_read_as_the_standard_says() {
    for (stream, expected) in [
        ("data\n\n", Some((None, Some(vec![])))),
        ("data:  two\n\n", event("", " two")),
        ("database: x\n\n", event("", "")),
        (": only a comment\n\n", event("", "")),
        (":\n: x\ndata: a\nid: 7\nretry: 1\n\n", event("", "a")),
        ("event: a\nevent: b\ndata: x\n\n", event("b", "x")),
        ("event: a\nevent\ndata: x\n\n", event("", "x")),
        ("\u{feff}data: a\n\n", event("", "a")),
        ("data: \u{feff}\n\n", event("", "\u{feff}")),
        ("\n\r\n\rdata: a\n\n\n\n", event("", "a")),
    ] {
        assert_eq!(read(99, [stream.as_bytes()]), [expected], "{stream:?}");
    }
    assert_eq!(read(99, [&b"\xef\xbb\xbf\n\ndata: a\n\n"[..]]), [event("", ""), event("", "a")]);
}

#[test]
fn an_event_in_one_chunk_is_not_copied() {
    let mut reader = Reader::new(99);
    let mut chunk = &b"data: a\n\n"[..];
    let range = chunk.as_ptr_range();
    let event = reader.next_event(&mut chunk).unwrap().unwrap();
    assert!(range.contains(&event.as_bytes().as_ptr()));
    assert!(matches!(event.data(), Some(Cow::Borrowed(_))));
}

#[test]
fn the_end_gives_what_had_begun() {
    assert_eq!(read(99, [&b"data: a\n\nevent: error\nda"[..], b"ta: b"]), [event("", "a"), event("error", "b")]);
    assert_eq!(read(99, [&b"data: a\n\n"[..]]), [event("", "a")]);
    assert_eq!(read(99, []), []);
}

#[test]
fn an_event_above_the_limit_is_reported_once_and_passed_over() {
    let mut reader = Reader::new(10);
    for (mut chunk, too_long) in [(&b"data: 1234"[..], false), (b"5", true), (b"67890", false), (b"\n", false)] {
        let read = reader.next_event(&mut chunk);
        assert_eq!(read.is_some_and(|read| read.is_err()), too_long);
        assert!(chunk.is_empty());
    }
    let mut chunk = &b"\ndata: a\n\n"[..];
    assert_eq!(seen(reader.next_event(&mut chunk).unwrap().unwrap()), event("", "a"));
    assert_eq!(read(10, [&b"data: 1234567890"[..]]), [None], "nor is it given at the end");
}

#[test]
fn only_whole_events_are_skipped() {
    let mut reader = Reader::new(99);
    assert!(!reader.skip(b"data: a\n"));
    assert!(reader.skip(b"data: a\n\n"));
    assert!(reader.skip(b"data: a\r\n\r\n"));
    assert!(reader.next_event(&mut &b"data: b"[..]).is_none());
    assert!(!reader.skip(b"\n\n"), "it ends an event that began before");
    let mut chunk = &b"\n\n\xef\xbb\xbfdata: c\n\n"[..];
    assert_eq!(seen(reader.next_event(&mut chunk).unwrap().unwrap()), event("", "b"));
    assert_eq!(seen(reader.next_event(&mut chunk).unwrap().unwrap()), event("", ""), "a mark counts at the start only");
}

#[test]
fn debug_shows_no_content() {
    let mut reader = Reader::new(10);
    assert!(reader.next_event(&mut &b"secret"[..]).is_none());
    let shown = format!("{reader:?}") + &format!("{:?}", reader.finish().unwrap());
    assert!(!shown.contains("secret"), "{shown}");
}

/// Bytes at which framing can go wrong, and a few others.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let part = prop::sample::select(vec![
        &b"data"[..],
        b"data: x",
        b":",
        b" ",
        b"event: e",
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        b"\r\n\r\n",
        "é€😀".as_bytes(),
        b"\xef\xbb\xbf",
        b"{}",
    ]);
    prop::collection::vec(part, 0..30).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn a_boundary_is_where_a_reader_has_nothing_begun(stream in "[ab:\r\n]{0,24}", at in 0..24usize) {
        let (mut boundary, mut reader) = (Boundary::new(), Reader::new(99));
        let (one, two) = stream.split_at(at.min(stream.len()));
        for mut chunk in [one.as_bytes(), two.as_bytes()] {
            boundary.pass(chunk);
            while reader.next_event(&mut chunk).is_some() {}
        }
        prop_assert_eq!(boundary.is_between_events(), reader.last.is_none());
    }

    #[test]
    fn chunk_boundaries_change_nothing(
        stream in stream(), limit in 0..40usize, cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).chain([0, stream.len()]).collect();
        at.sort_unstable();
        let chopped = read(limit, at.windows(2).map(|ends| &stream[ends[0]..ends[1]]));
        prop_assert_eq!(&chopped, &read(limit, [&stream[..]]));
        prop_assert_eq!(&chopped, &read(limit, stream.chunks(1)));
    }

    #[test]
    fn what_is_written_is_read(events in prop::collection::vec(("[a-z.]{0,9}", "[^\r\n]{1,20}(\n[^\r\n]{0,9})?"), 0..9)) {
        let mut stream = String::new();
        for (name, data) in &events {
            if !name.is_empty() {
                stream += &format!("event: {name}\n");
            }
            for line in data.split('\n') {
                stream += &format!("data: {line}\n");
            }
            stream += "\n";
        }
        let expected: Vec<_> = events.iter().map(|(name, data)| event(name, data)).collect();
        prop_assert_eq!(read(usize::MAX, [stream.as_bytes()]), expected);
    }
}

#[test]
fn an_event_comes_when_it_has_ended() {
    let mut reader = Reader::new(1024);
    let (mut chunk, mut names) = (&b"event: response.created\ndata: {}\n\nevent: resp"[..], Vec::new());
    while let Some(Ok(event)) = reader.next_event(&mut chunk) {
        names.push(event.name().unwrap_or_default().to_vec());
    }
    assert_eq!(names, [b"response.created"], "the second event has not ended yet");
}

#[test]
fn an_encoded_stream_is_none() {
    let mut headers = HeaderMap::new();
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    assert!(is_event_stream(&headers));
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    assert!(!is_event_stream(&headers));
}
