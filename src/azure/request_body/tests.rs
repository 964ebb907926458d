use proptest::prelude::*;

use super::*;

fn json(body: &str) -> Result<Fields, ReadBodyError> {
    read_json(body.as_bytes(), ModelIn::Object)
}

fn model(body: &str) -> Option<String> {
    let fields = json(body).unwrap_or_else(|error| panic!("{body}: {error}"));
    if let Some(model) = &fields.model {
        let raw: String = serde_json::from_str(&body[model.span.clone()]).unwrap();
        assert_eq!(raw, model.name, "{body}");
    }
    fields.model.map(|model| model.name)
}

#[test]
fn finds_the_model_wherever_it_stands() {
    for body in [
        r#"{"model":"m"}"#,
        r#" { "model" : "m" , "input":[1,2] } "#,
        r#"{"input":[{"model":"x"}],"metadata":{"model":"y"},"model":"m"}"#,
        r#"{"input":"\"model\":\"x\"","model":"m"}"#,
        r#"{"mod\u0065l":"m"}"#,
        r#"{"model":"\u006d"}"#,
        "{\"a\":\"é😀\",\"model\":\"m\"}",
    ] {
        assert_eq!(model(body).as_deref(), Some("m"), "{body}");
    }
    for body in ["{}", r#"{"model":null}"#, r#"{"models":"m"}"#, r#"{"x":{"model":"m"}}"#] {
        assert_eq!(model(body), None, "{body}");
    }
}

#[test]
fn reads_what_else_decides() {
    let fields = json(r#"{"stream":true,"background":true}"#).unwrap();
    assert!(fields.streams && fields.keeps);
    for body in [r#"{"conversation":"conv_1"}"#, r#"{"conversation":{"id":"conv_1"}}"#] {
        assert!(json(body).unwrap().keeps, "{body}");
    }
    for body in
        [r#"{"stream":false,"background":false,"conversation":null}"#, r#"{"stream":"true","stream_options":{}}"#]
    {
        let fields = json(body).unwrap();
        assert!(!fields.streams && !fields.keeps, "{body}");
    }
}

#[test]
fn what_two_readers_could_read_differently_is_refused() {
    for (body, message) in [
        (r#"{"model":"a","model":"b"}"#, "`model` stands in it twice"),
        (r#"{"model":"a","mod\u0065l":"b"}"#, "`model` stands in it twice"),
        (r#"{"model":null,"model":"b"}"#, "`model` stands in it twice"),
        (r#"{"model":"a","Model":"b"}"#, "`model` is not spelt in lower case"),
        (r#"{"stream":true,"stream":false}"#, "`stream` stands in it twice"),
        (r#"{"model":7}"#, "`model` is not a string"),
        (r#"{"model":["a"]}"#, "`model` is not a string"),
        (r#"{"model":"a""#, "not the JSON it should be"),
        (r#"{"model":"a"}{}"#, "not the JSON it should be"),
        (r#"{"model":"a",}"#, "not the JSON it should be"),
        ("", "not a JSON object"),
        (r#"["model"]"#, "not a JSON object"),
        (r#""secret""#, "not a JSON object"),
        ("\u{feff}{}", "not a JSON object"),
    ] {
        let error = json(body).unwrap_err().to_string();
        assert!(error.contains(message), "{body}: {error}");
    }
    let invalid = read_json(b"{\"a\":\"\xff\",\"model\":\"m\"}", ModelIn::Object).unwrap_err();
    assert_eq!(invalid.to_string(), "not UTF-8 at byte 6");
}

#[test]
fn nothing_of_the_body_is_repeated() {
    for body in [r#"{"stream":"secret""#, r#"{"model":{"secret":1}}"#, r#"{"secret"}"#, r#"{"model":"a"} secret"#] {
        let error = json(body).unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}

#[test]
fn finds_the_model_of_a_session() {
    let body = br#"{"model":"x","session":{"type":"realtime","model":"m"}}"#;
    let found = read_json(body, ModelIn::Session).unwrap().model.unwrap();
    assert_eq!((found.name.as_str(), &body[found.span]), ("m", br#""m""#.as_slice()));

    assert_eq!(read_json(br#"{"model":"x"}"#, ModelIn::Session).unwrap().model, None);
    assert!(read_json(br#"{"session":"m"}"#, ModelIn::Session).is_err());
    assert!(read_json(br#"{"session":{"model":"a","model":"b"}}"#, ModelIn::Session).is_err());
}

#[test]
fn tells_where_a_model_can_be_put() {
    for (body, model_in, at, is_empty) in [
        ("{}", ModelIn::Object, 1, true),
        (" { } ", ModelIn::Object, 2, true),
        (r#"{"a":1}"#, ModelIn::Object, 1, false),
        (r#"{"a":{},"session":{ }}"#, ModelIn::Session, 19, true),
    ] {
        assert_eq!(read_json(body.as_bytes(), model_in).unwrap().opening, Opening { at, is_empty }, "{body}");
    }
}

const FORM: &str = "multipart/form-data; boundary=b";

fn form(body: &str) -> Result<Fields, ReadBodyError> {
    read_form(FORM, body.replace('\n', "\r\n").as_bytes())
}

fn part(disposition: &str, value: &str) -> String {
    format!("--b\nContent-Disposition: form-data; {disposition}\n\n{value}\n")
}

#[test]
fn finds_the_model_of_a_form() {
    let file =
        part("name=\"file\"; filename=\"a;\\\"b\\\" name=model.mp3\"\nContent-Type: audio/mpeg", "--\0b\n--c\n--");
    let model = part("name=\"model\"", "m");
    for body in
        [format!("{file}{model}--b--\n"), format!("{model}{file}--b--"), format!("{}--b--", part("name=model", "m"))]
    {
        let bytes = body.replace('\n', "\r\n");
        let fields = form(&body).unwrap_or_else(|error| panic!("{body}: {error}"));
        let found = fields.model.unwrap();
        assert_eq!((found.name.as_str(), &bytes[found.span]), ("m", "m"), "{body}");
        assert!(!fields.streams);
    }
    assert!(form(&format!("{}--b--", part("name=\"stream\"", "true"))).unwrap().streams);
    assert_eq!(form("--b--").unwrap(), Fields::default());
}

#[test]
fn forms_that_could_be_read_differently_are_refused() {
    let model = part("name=\"model\"", "m");
    for body in [
        format!("{model}{model}--b--"),
        format!("{model}{}--b--", part("name=\"Model\"", "x")),
        format!("{model}--b"),
        format!("{}{model}--b--", part("name=\"file\"", "--b\n")),
        format!("{}{model}--b--", part("name=\"file\"", "x\n--bx")),
        model.clone(),
        format!("preamble\n{model}--b--"),
        format!("{model}--b--\nepilogue"),
        format!("{model}--b--{model}"),
        format!("{}--b--", part("name=\"mod\\el\"", "m")),
        format!("{}--b--", part("name=\"a\"; name=\"model\"", "m")),
        format!("{}--b--", part("name*=utf-8''model", "m")),
        format!("{}--b--", part("name=\"a\"\nContent-Disposition: form-data; name=\"model\"", "m")),
        format!("{}--b--", part("name=\"a\"\n Content-Disposition: form-data; name=\"model\"", "m")),
        format!("{}--b--", part("name=\"a", "m")),
        format!("{}--b--", part("name=\"model\0\"", "m")),
        format!("{}--b--", part("name=\"mo\tdel\"", "m")),
        format!("{}--b--", part("name=\"model\u{7f}x\"", "m")),
        format!("{}--b--", part("name=\" model\"", "m")),
        format!("{}--b--", part("name=\"model \"", "m")),
        format!("{}--b--", part("name='model'", "m")),
        format!("{}--b--", part("filename*=utf\0''x; name=\"file\"", "x")),
        format!("{}--b--", part("name=\"file\"\nX-Y: \x7f", "x")),
        "--b\nContent-Type: text/plain\n\nm\n--b--".to_owned(),
        "--b \nContent-Disposition: form-data; name=\"model\"\n\nm\n--b--".to_owned(),
        String::new(),
    ] {
        assert!(form(&body).is_err(), "{body}");
    }
    let bare = "--b\r\nContent-Disposition: form-data; name=\"a\"\nX: 1\r\n\r\nm\r\n--b--";
    assert!(read_form(FORM, bare.as_bytes()).is_err(), "a bare line feed in a head");
    for content_type in
        ["multipart/form-data", "multipart/form-data; boundary=b; boundary=c", "multipart/form-data; boundary="]
    {
        assert!(read_form(content_type, b"--b--").is_err(), "{content_type}");
    }
    assert!(read_form("multipart/form-data; boundary=\"b\"", b"--b--").is_ok());
}

proptest! {
    #[test]
    fn any_body_is_read_without_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = read_json(&body, ModelIn::Object);
        let _ = read_form(FORM, &body);
    }

    #[test]
    fn the_span_is_the_model_in_any_object(
        members in proptest::collection::vec(("[a-z]{0,3}", any::<String>()), 0..5),
        name in any::<String>(),
        place in 0_usize..6,
    ) {
        let mut members: Vec<_> = members.iter().map(|(key, value)| format!("\"x{key}\": {}", serde_json::json!([value]))).collect();
        members.insert(place.min(members.len()), format!("\"model\" : {}", serde_json::json!(name)));
        let body = format!("{{{}}}", members.join(" ,\n"));
        let found = json(&body).unwrap().model.unwrap();
        prop_assert_eq!(&found.name, &name);
        prop_assert_eq!(&body[found.span], serde_json::json!(name).to_string());
    }

    #[test]
    fn the_span_is_the_model_in_any_form(
        before in proptest::collection::vec(any::<u8>(), 0..100),
        name in "[^\r\n]{0,20}",
    ) {
        let head = b"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n";
        let model = format!("\r\n--b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\n{name}\r\n--b--\r\n");
        let body = [head.as_slice(), &before, model.as_bytes()].concat();
        if memchr::memmem::find(&before, b"\r\n--b").is_none() {
            let found = read_form(FORM, &body).unwrap().model.unwrap();
            prop_assert_eq!(&found.name, &name);
            prop_assert_eq!(&body[found.span], name.as_bytes());
        }
    }
}

/// What is found when the body comes in pieces of these lengths, over and over.
fn scanned(mut scan: BodyScan, body: &[u8], lengths: &[usize]) -> Result<Fields, ReadBodyError> {
    let (mut rest, mut lengths) = (body, lengths.iter().cycle());
    while !rest.is_empty() {
        let (piece, after) = rest.split_at((*lengths.next().unwrap()).clamp(1, rest.len()));
        scan.feed(piece)?;
        rest = after;
    }
    scan.finish()
}

#[test]
fn a_body_in_pieces_is_read_like_a_whole_one() {
    for body in [
        r#" {"model":"m"} "#,
        "{}",
        r#"{ "a" : [ {"model":"no","x":"}]\""} ], "model" : "m\u0061\"x" , "stream":true }"#,
        r#"{"\u006dodel":"m","background":true}"#,
        r#"{"conversation":{"id":"c"},"model":null}"#,
        r#"{"conversation":null,"stream":"true","background":false}"#,
        r#"{"conversation":"c","n":-1.5e3,"t":true}"#,
        r#"{"input":"ü\\","model":""}"#,
    ] {
        let whole = json(body);
        for lengths in [&[1][..], &[2], &[3, 1], &[1_000]] {
            assert_eq!(scanned(BodyScan::json(), body.as_bytes(), lengths), whole, "{body}");
        }
    }
    for body in [
        r#"{"model":"m","model":"n"}"#,
        r#"{"model":"m","Model":"n"}"#,
        r#"{"model":"m","\u006dodel":"n"}"#,
        r#"{"model":1}"#,
        r#"{"model":["m"]}"#,
        r#"{"stream":true,"stream":true}"#,
        r#"["model"]"#,
        r#""model""#,
        r#"{"model":"m"}{"#,
        r#"{"model":"m""#,
        r#"{"model":"m"]"#,
        r#"{"a":1 "model":"m"}"#,
        r#"{"a":1,,"model":"m"}"#,
        r#"{"a" "b"}"#,
        r#"{'model':"m"}"#,
        r#"{model:"m"}"#,
        "{\"a\":1,/*\"*/\"model\":\"m\"/*\"*/}",
        "\u{feff}{}",
        "{\0\"",
        "",
        "1",
    ] {
        assert!(json(body).is_err(), "{body}");
        for lengths in [&[1][..], &[1_000]] {
            assert!(scanned(BodyScan::json(), body.as_bytes(), lengths).is_err(), "{body}");
        }
    }
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Into::into),
        any::<f32>().prop_map(Into::into),
        any::<String>().prop_map(Into::into),
        Just(serde_json::Value::Null),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        let key = prop_oneof!["model|stream|background|conversation|Model", any::<String>()];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            proptest::collection::vec((key, inner), 0..4)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_json_in_any_pieces_is_read_like_a_whole_one(
        value in any_json(),
        pretty in any::<bool>(),
        lengths in proptest::collection::vec(1_usize..20, 1..6),
    ) {
        let body = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        match (json(&body), scanned(BodyScan::json(), body.as_bytes(), &lengths)) {
            (Ok(whole), read) => prop_assert_eq!(read, Ok(whole)),
            (Err(_), read) => prop_assert!(read.is_err()),
        }
    }

    #[test]
    fn what_is_broken_off_or_changed_is_never_read_as_something_else(
        value in any_json(),
        at in any::<proptest::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut body = serde_json::to_vec(&value).unwrap();
        let at = at.index(body.len());
        body[at] = byte;
        if let (Ok(whole), Ok(read)) = (read_json(&body, ModelIn::Object), scanned(BodyScan::json(), &body, &[7])) {
            prop_assert_eq!(read, whole);
        }
    }

    #[test]
    fn any_form_in_any_pieces_is_read_like_a_whole_one(
        before in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'-'), Just(b'b'), any::<u8>()], 0..60),
        lengths in proptest::collection::vec(1_usize..20, 1..6),
    ) {
        let head = b"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n";
        let model = "\r\n--b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nm\r\n--b--\r\n";
        let body = [head.as_slice(), &before, model.as_bytes()].concat();
        match (read_form(FORM, &body), scanned(BodyScan::form("b"), &body, &lengths)) {
            (Ok(whole), read) => prop_assert_eq!(read, Ok(whole)),
            (Err(_), read) => prop_assert!(read.is_err()),
        }
    }
}

#[test]
fn fields_are_read_with_the_place_of_the_model() {
    let body = br#"{"input":"Hi","model":"gpt-4o","stream":true}"#;
    let fields = read_json(body, ModelIn::Object).unwrap();
    let model = fields.model.unwrap();
    assert_eq!(model.name, "gpt-4o");
    assert_eq!(&body[model.span], br#""gpt-4o""#);
    assert!(fields.streams);
}
