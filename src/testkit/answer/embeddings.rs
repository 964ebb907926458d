//! Embeddings.

use serde_json::{Value, json};

use super::Reply;

/// An embedding of unit length, and the same as little-endian floats in base64.
const EMBEDDING: [f32; 4] = [0.5; 4];
const EMBEDDING_BASE64: &str = "AAAAPwAAAD8AAAA/AAAAPw==";

impl Reply<'_> {
    pub(super) fn embeddings(&self) -> Value {
        let base64 = self.inference.payload.text("encoding_format") == Some("base64");
        let embedding = if base64 { json!(EMBEDDING_BASE64) } else { json!(EMBEDDING) };
        let inputs = match self.inference.input() {
            Some(Value::Array(inputs)) if !inputs.iter().all(Value::is_number) => inputs.len(),
            _ => 1,
        };
        let data: Vec<_> =
            (0..inputs).map(|index| json!({ "object": "embedding", "index": index, "embedding": embedding })).collect();
        let prompt = self.inference.prompt_tokens();
        let usage = json!({ "prompt_tokens": prompt, "total_tokens": prompt });
        json!({ "object": "list", "data": data, "model": self.deployment.model, "usage": usage })
    }
}
