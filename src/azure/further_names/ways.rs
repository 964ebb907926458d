//! Every place of the API where a JSON body names a deployment beside its own `model`.
//!
//! | operation | place |
//! |---|---|
//! | chat completions | `data_sources[].parameters.embedding_dependency.deployment_name` (on your data), `dataSources[].parameters.embeddingDeploymentName` before 2024-02-01, `moderation.model` |
//! | responses, compaction and counting too | `tools[].model` of the image tool, the same in `input[].tools[]` and in the `tools[]` of any of these, `moderation.model` |
//! | conversations | `items[].tools[].model` of the image tool |
//! | realtime: sessions, client secrets, calls and their acceptance | `input_audio_transcription.model`, `audio.input.transcription.model`, in the body or its `session` |
//! | evals and their runs | `testing_criteria[]`: any `model`, and `initialization_parameters.deployment_name`; `data_source.model`, `data_source.sampling_params.tools[].model` of the image tool |
//! | fine-tuning, with graders | any `model` in `grader` or `method.reinforcement.grader` |
//! | a line of a batch file | `body.model`, and the places of chat completions and responses in `body` |
//!
//! Swept from `OpenAI`'s specification and Azure's inference reference. Not among them: `model` of a fine-tuning job, which is a
//! base model and no deployment; `source.model` of an evaluation's run, which only filters what is stored.
//!
//! Sources: <https://github.com/openai/openai-openapi>, <https://github.com/Azure/azure-rest-api-specs>.

use super::Operation;
use super::Step::{self, Deep, Each, EachOfType, In};

/// The way to a name.
#[derive(Clone, Copy, Debug)]
pub(in crate::azure) struct Way(pub(super) &'static [Step]);

const IMAGE_TOOL: Step = EachOfType("image_generation");

const CHAT: &[Way] = &[
    Way(&[In("data_sources"), Each, In("parameters"), In("embedding_dependency"), In("deployment_name")]),
    Way(&[In("dataSources"), Each, In("parameters"), In("embeddingDeploymentName")]),
    Way(&[In("moderation"), In("model")]),
];

const RESPONSES: &[Way] = &[
    Way(&[In("tools"), IMAGE_TOOL, In("model")]),
    Way(&[In("tools"), Each, In("tools"), IMAGE_TOOL, In("model")]),
    Way(&[In("input"), Each, In("tools"), IMAGE_TOOL, In("model")]),
    Way(&[In("input"), Each, In("tools"), Each, In("tools"), IMAGE_TOOL, In("model")]),
    Way(&[In("moderation"), In("model")]),
];

const CONVERSATIONS: &[Way] = &[Way(&[In("items"), Each, In("tools"), IMAGE_TOOL, In("model")])];

const REALTIME: &[Way] = &[
    Way(&[In("session"), In("audio"), In("input"), In("transcription"), In("model")]),
    Way(&[In("session"), In("input_audio_transcription"), In("model")]),
    Way(&[In("audio"), In("input"), In("transcription"), In("model")]),
    Way(&[In("input_audio_transcription"), In("model")]),
];

const EVALS: &[Way] = &[
    Way(&[In("testing_criteria"), Each, Deep("model")]),
    Way(&[In("testing_criteria"), Each, In("initialization_parameters"), In("deployment_name")]),
    Way(&[In("data_source"), In("model")]),
    Way(&[In("data_source"), In("sampling_params"), In("tools"), IMAGE_TOOL, In("model")]),
];

const FINE_TUNING: &[Way] =
    &[Way(&[In("grader"), Deep("model")]), Way(&[In("method"), In("reinforcement"), In("grader"), Deep("model")])];

/// The first of them is what every line must have, the last is the path that its request would take.
pub(in crate::azure) const LINE: &[Way] = &[
    Way(&[In("body"), In("model")]),
    Way(&[In("body"), In("data_sources"), Each, In("parameters"), In("embedding_dependency"), In("deployment_name")]),
    Way(&[In("body"), In("dataSources"), Each, In("parameters"), In("embeddingDeploymentName")]),
    Way(&[In("body"), In("moderation"), In("model")]),
    Way(&[In("body"), In("tools"), IMAGE_TOOL, In("model")]),
    Way(&[In("body"), In("tools"), Each, In("tools"), IMAGE_TOOL, In("model")]),
    Way(&[In("body"), In("input"), Each, In("tools"), IMAGE_TOOL, In("model")]),
    Way(&[In("body"), In("input"), Each, In("tools"), Each, In("tools"), IMAGE_TOOL, In("model")]),
    Way(&[In("url")]),
];

/// Places of the purpose of a file or an upload, and of the source of its content.
pub(in crate::azure) const PURPOSE: &[Way] = &[Way(&[In("purpose")]), Way(&[In("input_blob")])];

pub(super) const fn of(operation: Operation) -> &'static [Way] {
    match operation {
        Operation::ChatCompletions => CHAT,
        Operation::Conversations => CONVERSATIONS,
        Operation::Evals => EVALS,
        Operation::FineTuning => FINE_TUNING,
        Operation::Realtime => REALTIME,
        Operation::Responses => RESPONSES,
        _ => &[],
    }
}

impl Way {
    /// A word without which no name stands there.
    pub(super) fn word(&self) -> &'static str {
        let names = self.0.iter().filter_map(|step| match step {
            EachOfType(word) | In(word) => Some(*word),
            Deep(_) | Each => None,
        });
        names.max_by_key(|word| word.len()).unwrap_or("model")
    }

    /// Its steps, with slashes between them.
    #[cfg(any(fuzzing, test))]
    pub(super) fn text(&self) -> String {
        let steps = self.0.iter().map(|step| match step {
            Deep(name) => format!("**{name}"),
            Each => "[]".to_owned(),
            EachOfType(kind) => format!("[{kind}]"),
            In(name) => (*name).to_owned(),
        });
        steps.collect::<Vec<_>>().join("/")
    }
}
