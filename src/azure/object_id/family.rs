use std::time::Duration;

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// For what lives until it is deleted: as long as a response lives.
const LONG: Duration = DAY.saturating_mul(30);

/// Kind of object that an id names. Only objects that can be reached by their own id have a family: a run or a message is
/// reached through its thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Family {
    /// `asst_…`.
    Assistant,
    /// `audio_…`: what a chat completion said aloud, which its resource keeps for a later turn.
    Audio,
    /// `batch_…`.
    Batch,
    /// `rtc_…`: a realtime session over WebRTC or SIP.
    Call,
    /// `char_…`: a character that videos show.
    Character,
    /// `cksess_…`.
    ChatKitSession,
    /// `cthr_…`.
    ChatKitThread,
    /// `chatcmpl-…`, kept only when the request says `store`.
    Completion,
    /// `cntr_…`: a container of the code interpreter.
    Container,
    /// `conv_…`.
    Conversation,
    /// `eval_…`.
    Eval,
    /// `file-…`, or `assistant-…` for a file whose purpose is assistants.
    File,
    /// `ftjob-…`.
    FineTuningJob,
    /// `rs_…`, `fc_…`, `mcpr_…` and others: an item of a stored response or conversation.
    Item,
    /// `resp_…`.
    Response,
    /// `skill_…`.
    Skill,
    /// `thread_…`.
    Thread,
    /// `upload_…`.
    Upload,
    /// `vs_…`.
    VectorStore,
    /// `video_…`.
    Video,
    /// `voice_…`.
    Voice,
    /// `cons_…`: the consent to a voice.
    VoiceConsent,
}

/// Facts of a family.
struct Kind {
    family: Family,
    /// Prefixes of its ids.
    prefixes: &'static [&'static str],
    /// Collections of its objects, below the API prefix.
    collections: &'static [&'static str],
    /// `object` that an object says of itself, where it can be read with a GET in the first of the collections.
    object: Option<&'static str>,
    /// Time for which an id is worth remembering.
    lifetime: Duration,
}

impl Kind {
    const fn new(
        family: Family,
        prefixes: &'static [&'static str],
        collections: &'static [&'static str],
        object: Option<&'static str>,
    ) -> Self {
        Self { family, prefixes, collections, object, lifetime: LONG }
    }

    const fn lives(self, lifetime: Duration) -> Self {
        Self { lifetime, ..self }
    }
}

/// In the order of [`Family`].
#[rustfmt::skip]
static KINDS: [Kind; 22] = [
    Kind::new(Family::Assistant, &["asst_"], &["assistants"], Some("assistant")),
    Kind::new(Family::Audio, &["audio_"], &[], None).lives(DAY),
    Kind::new(Family::Batch, &["batch_"], &["batches"], Some("batch")),
    Kind::new(Family::Call, &["rtc_"], &["realtime/calls"], None).lives(HOUR.saturating_mul(2)),
    Kind::new(Family::Character, &["char_"], &["videos/characters"], None),
    Kind::new(Family::ChatKitSession, &["cksess_"], &["chatkit/sessions"], None).lives(HOUR.saturating_mul(2)),
    Kind::new(Family::ChatKitThread, &["cthr_"], &["chatkit/threads"], Some("chatkit.thread")),
    Kind::new(Family::Completion, &["chatcmpl-"], &["chat/completions"], Some("chat.completion")),
    Kind::new(Family::Container, &["cntr_"], &["containers"], Some("container")).lives(DAY),
    Kind::new(Family::Conversation, &["conv_"], &["conversations"], Some("conversation")),
    Kind::new(Family::Eval, &["eval_"], &["evals"], Some("eval")),
    Kind::new(Family::File, &["file-", "assistant-"], &["files", "files/import"], Some("file")),
    Kind::new(Family::FineTuningJob, &["ftjob-"], &["fine_tuning/jobs"], Some("fine_tuning.job")),
    Kind::new(Family::Item, &["rs_"], &[], None),
    Kind::new(Family::Response, &["resp_"], &["responses", "responses/compact"], Some("response")),
    Kind::new(Family::Skill, &["skill_"], &["skills"], Some("skill")),
    Kind::new(Family::Thread, &["thread_"], &["threads"], Some("thread")),
    Kind::new(Family::Upload, &["upload_"], &["uploads"], None).lives(HOUR.saturating_mul(2)),
    Kind::new(Family::VectorStore, &["vs_"], &["vector_stores"], Some("vector_store")),
    // The first form of the API had jobs, and what each of them generated.
    Kind::new(Family::Video, &["video_"], &["videos", "videos/edits", "videos/extensions", "video/generations/jobs", "video/generations"], Some("video")).lives(DAY),
    Kind::new(Family::Voice, &["voice_"], &["audio/voices"], None),
    Kind::new(Family::VoiceConsent, &["cons_"], &["audio/voice_consents"], Some("audio.voice_consent")),
];

impl Family {
    /// The family that an id's prefix tells.
    #[must_use]
    pub fn of_prefix(id: &str) -> Option<Self> {
        let kind = KINDS.iter().find(|kind| kind.prefixes.iter().any(|prefix| id.starts_with(prefix)));
        kind.map(|kind| kind.family)
    }

    /// The family whose objects lie there, as a [`Call`](crate::azure::operation::Call::collection) says it.
    #[must_use]
    pub fn of_collection(collection: &str) -> Option<Self> {
        KINDS.iter().find(|kind| kind.collections.contains(&collection)).map(|kind| kind.family)
    }

    /// Tells whether calls that go on with an object use the model that it was given.
    pub(crate) const fn keeps_model(self) -> bool {
        matches!(self, Self::Assistant | Self::Video)
    }

    /// Time for which an id is worth remembering. What lives until it is deleted is remembered for as long as a response lives.
    #[must_use]
    pub fn lifetime(self) -> Duration {
        self.kind().lifetime
    }

    /// Returns where the objects of the family stand below the API prefix, if one of them can be read with a GET of its own.
    #[must_use]
    pub fn collection(self) -> Option<&'static str> {
        self.kind().object.and_then(|_| self.kind().collections.first().copied())
    }

    /// Returns what an object of the family says of itself as `object`, if it can be read with a GET of its own.
    #[must_use]
    pub fn object(self) -> Option<&'static str> {
        self.kind().object
    }

    const fn kind(self) -> &'static Kind {
        &KINDS[self as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_has_its_own_row() {
        for (at, kind) in KINDS.iter().enumerate() {
            assert_eq!(kind.family as usize, at, "{:?}", kind.family);
        }
        assert_eq!(KINDS.len(), Family::VoiceConsent as usize + 1);
    }

    #[test]
    fn nothing_belongs_to_two_families() {
        let collections: Vec<_> = KINDS.iter().flat_map(|kind| kind.collections).collect();
        let prefixes: Vec<_> = KINDS.iter().flat_map(|kind| kind.prefixes).collect();
        for (at, one) in collections.iter().enumerate() {
            assert!(!collections[at + 1..].contains(one), "{one}");
        }
        for one in &prefixes {
            let begins = prefixes.iter().filter(|other| other.starts_with(*one)).count();
            assert_eq!(begins, 1, "{one}");
        }
    }
}
