//! The objects that a body refers to.

use serde_json::Value;

use super::Family;

/// Places of ids: as a text, as a list of texts, or as the `id` of an object.
const REFERENCES: [(&str, Family); 12] = [
    ("assistant_id", Family::Assistant),
    ("container", Family::Container),
    ("conversation", Family::Conversation),
    ("file_id", Family::File),
    ("file_ids", Family::File),
    ("input_file_id", Family::File),
    ("previous_response_id", Family::Response),
    ("training_file", Family::File),
    ("validation_file", Family::File),
    ("vector_store_id", Family::VectorStore),
    ("vector_store_ids", Family::VectorStore),
    ("video_id", Family::Video),
];

/// All of them, in their order.
pub(super) fn references(body: &Value) -> Vec<(Family, String)> {
    let mut found = Vec::new();
    collect(body, &mut found);
    found
}

fn collect(value: &Value, found: &mut Vec<(Family, String)>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| collect(value, found)),
        Value::Object(fields) => {
            if matches!(value["type"].as_str(), Some("item_reference" | "reasoning")) {
                found.extend(ids(value).map(|id| (Family::Item, id)));
            }
            for (name, value) in fields.iter().filter(|(name, _)| *name != "metadata") {
                let family = REFERENCES.iter().find(|(reference, _)| reference == name);
                found.extend(family.into_iter().flat_map(|(_, family)| ids(value).map(|id| (*family, id))));
                collect(value, found);
            }
        }
        _ => {}
    }
}

fn ids(value: &Value) -> impl Iterator<Item = String> {
    let values = value.as_array().map_or_else(|| std::slice::from_ref(value), Vec::as_slice);
    values.iter().filter_map(|value| value.get("id").unwrap_or(value).as_str()).map(str::to_owned)
}
