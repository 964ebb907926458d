use super::{Tree, choppings};
use crate::azure::asked;
use crate::azure::estimate::Text;
use crate::azure::json_text::may_have_word;
use crate::azure::prompt::CacheKey;
use crate::azure::request_body::{BodyScan, Fields, ModelIn, ReadBodyError, read_json};

/// Members of which a body may have one.
const READ: [&str; 6] = ["agent_reference", "background", "conversation", "model", "session", "stream"];

/// Bodies of requests: the model, how the answer comes, and where a model can be put in; against a tree, and in pieces.
pub(super) fn check(data: &[u8]) {
    let whole = read_json(data, ModelIn::Object);
    against_tree(data, whole.as_ref().ok(), ModelIn::Object);
    against_tree(data, read_json(data, ModelIn::Session).as_ref().ok(), ModelIn::Session);
    in_pieces(data, whole.as_ref());
    words(data);
    let tokens = Text::of_prompt(data).tokens();
    assert!(tokens <= data.len() as u64, "{tokens} tokens in {} bytes", data.len());
    let _ = (
        asked::output(data),
        asked::tokens(data),
        asked::plain_output(data),
        CacheKey::of_body(data).map(|key| key.digest()),
    );
}

fn against_tree(data: &[u8], fields: Option<&Fields>, model_in: ModelIn) {
    let Some(tree) = Tree::read(data) else { return };
    let holder = match model_in {
        ModelIn::Object => Some(&tree),
        ModelIn::Session => tree.get("session").next(),
    };
    let expected = is_read(&tree) && holder.is_none_or(|holder| is_read(holder) && is_model(holder));
    assert_eq!(fields.is_some(), expected, "one reader takes it, and the other does not");
    let Some(fields) = fields else { return };

    let name = holder.and_then(|holder| holder.get("model").next()?.text());
    assert_eq!(fields.model.as_ref().map(|model| &model.name), name);
    if let Some(model) = &fields.model {
        assert_eq!(Tree::read(&data[model.span.clone()]), Some(Tree::Text(model.name.clone())));
    }
    let is = |name, value: &Tree| tree.get(name).next() == Some(value);
    let is_there = |name| tree.get(name).any(|member| *member != Tree::Null);
    assert_eq!(fields.streams, is("stream", &Tree::Bool(true)));
    assert_eq!(fields.keeps, is("background", &Tree::Bool(true)) || is_there("conversation"));
    assert_eq!(fields.refers_to_agent, is_there("agent_reference"));
    if holder.is_some_and(|holder| holder.get("model").next().is_none()) {
        put_in(data, fields, model_in);
    }
}

/// An object that has each member that is read once, and none that could be taken for its model.
fn is_read(tree: &Tree) -> bool {
    let is_model = |name: &str| name.eq_ignore_ascii_case("model") && name != "model";
    matches!(tree, Tree::Object(_))
        && READ.iter().all(|name| tree.get(name).count() < 2)
        && !tree.members().any(|(name, _)| is_model(name))
}

fn is_model(holder: &Tree) -> bool {
    holder.get("model").all(|model| matches!(model, Tree::Null | Tree::Text(_)))
}

/// Puts a model into a body that says none, which then says that one.
fn put_in(data: &[u8], fields: &Fields, model_in: ModelIn) {
    let (before, after) = data.split_at(fields.opening.at);
    let comma = if fields.opening.is_empty { "" } else { "," };
    let body = [before, b"\"model\":\"put-in\"", comma.as_bytes(), after].concat();
    let read = read_json(&body, model_in).expect("a body with a model put in");
    assert_eq!(read.model.map(|model| model.name).as_deref(), Some("put-in"));
    assert_eq!((read.streams, read.keeps), (fields.streams, fields.keeps));
}

fn in_pieces(data: &[u8], whole: Result<&Fields, &ReadBodyError>) {
    let mut told = None;
    for pieces in choppings(data) {
        let mut scan = BodyScan::json();
        let read = pieces.iter().try_for_each(|piece| scan.feed(piece)).and_then(|()| scan.finish()).ok();
        let first = told.get_or_insert_with(|| read.clone());
        assert_eq!(*first, read, "pieces change what is read");
        if let Ok(whole) = whole {
            assert_eq!(read, Some(whole.clone()), "read as it arrives, it says something else");
        }
    }
}

fn words(data: &[u8]) {
    const WORDS: [&str; 3] = ["model", "store", "input_file_id"];
    let Some(tree) = Tree::read(data) else { return };
    let mut has = false;
    tree.texts(&mut |text| has |= WORDS.iter().any(|word| word.eq_ignore_ascii_case(text)));
    assert!(!has || may_have_word(data, &WORDS), "a word is overlooked");
}
