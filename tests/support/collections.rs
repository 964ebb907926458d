//! What can be made with a POST and stays on its resource.
#![allow(unreachable_pub, reason = "tests have no outside")]

/// The collections of every family, and the prefixes of their ids.
pub const COLLECTIONS: [(&str, &str); 13] = [
    ("assistants", "asst_"),
    ("audio/voice_consents", "cons_"),
    ("batches", "batch_"),
    ("containers", "cntr_"),
    ("conversations", "conv_"),
    ("evals", "eval_"),
    ("files", "file-"),
    ("fine_tuning/jobs", "ftjob-"),
    ("skills", "skill_"),
    ("threads", "thread_"),
    ("uploads", "upload_"),
    ("vector_stores", "vs_"),
    ("videos", "video_"),
];
