//! Images and audio.

use bytes::Bytes;
use serde_json::{Value, json};

use super::super::call::Operation;
use super::stream::{Dialect, Events, data, event};
use super::{Answer, Reply};

/// A transparent pixel.
const PNG_BASE64: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII=";
/// The beginning of an MPEG frame: no text.
const SOUND: [u8; 4] = [0xff, 0xfb, 0x90, 0x64];

impl Reply<'_> {
    pub(super) fn images(&self) -> Value {
        let url = self.inference.payload.text("response_format") == Some("url");
        let image = match url {
            true => json!({ "url": format!("https://images.example/{}.png", self.id) }),
            false => json!({ "b64_json": PNG_BASE64 }),
        };
        let images = self.inference.payload.field("n").and_then(Value::as_u64).unwrap_or(1).clamp(1, 10);
        let data: Vec<_> = (0..images).map(|_| image.clone()).collect();
        json!({ "created": self.created, "data": data, "usage": self.input_and_output() })
    }

    /// A first impression, and the image, which tells what it used.
    pub(super) fn image_events(&self) -> Events {
        let prefix = match self.inference.operation {
            Operation::ImagesEdits => "image_edit",
            _ => "image_generation",
        };
        let made = |name: &str, mut image: Value| {
            let name = format!("{prefix}.{name}");
            image["type"] = name.as_str().into();
            image["created_at"] = self.created.into();
            image["b64_json"] = PNG_BASE64.into();
            event(&name, &image)
        };
        let events = vec![
            made("partial_image", json!({ "partial_image_index": 0 })),
            made("completed", json!({ "usage": self.input_and_output() })),
        ];
        Events { events, preamble: 0, dialect: Dialect::Completions }
    }

    /// Binary, a kilobyte in a chunk, and its length is not told beforehand.
    pub(super) fn speech(&self) -> Answer {
        let content_type = match self.inference.payload.text("response_format") {
            Some("aac") => "audio/aac",
            Some("flac") => "audio/flac",
            Some("opus") => "audio/opus",
            Some("pcm") => "audio/pcm",
            Some("wav") => "audio/wav",
            _ => "audio/mpeg",
        };
        Answer::streamed(content_type, vec![Bytes::from(SOUND.repeat(256)); 4])
    }

    pub(super) fn transcript(&self) -> Answer {
        let text = self.text;
        match self.inference.payload.text("response_format") {
            Some("text") => Answer::text(format!("{text}\n")),
            Some("srt") => Answer::text(format!("1\n00:00:00,000 --> 00:00:01,000\n{text}\n\n")),
            Some("vtt") => Answer::text(format!("WEBVTT\n\n00:00:00.000 --> 00:00:01.000\n{text}\n\n")),
            Some("verbose_json") => super::object(&json!({
                "task": self.task(), "language": "english", "duration": 1.0, "text": text, "segments": [], "usage": self.seconds(),
            })),
            _ => super::object(&json!({ "text": text, "usage": self.seconds() })),
        }
    }

    /// The words, and the whole text, which tells how long the audio was.
    pub(super) fn transcript_events(&self) -> Events {
        let word = |word| data(&json!({ "type": "transcript.text.delta", "delta": word }));
        let mut events: Vec<_> = self.words().map(word).collect();
        events.push(data(&json!({ "type": "transcript.text.done", "text": self.text, "usage": self.seconds() })));
        Events { events, preamble: 0, dialect: Dialect::Completions }
    }

    /// How long the audio is, as if it were 16,000 samples a second of two bytes.
    fn seconds(&self) -> Value {
        let bytes = self.inference.input().and_then(|file| file["bytes"].as_u64()).unwrap_or_default();
        json!({ "type": "duration", "seconds": bytes.div_ceil(32_000).max(1) })
    }

    fn task(&self) -> &'static str {
        match self.inference.operation {
            Operation::AudioTranslations => "translate",
            _ => "transcribe",
        }
    }
}
