use super::*;

mod spelling;

fn call(method: &Method, path: &str) -> Call {
    parse(method, path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn get(path: &str) -> Call {
    call(&Method::GET, path)
}

fn ids(path: &str) -> Vec<String> {
    get(path).object_ids().map(str::to_owned).collect()
}

#[test]
fn reads_the_operation_on_every_surface() {
    for (path, operation) in [
        ("assistants", Operation::Assistants),
        ("audio/speech", Operation::AudioSpeech),
        ("audio/transcriptions", Operation::AudioTranscriptions),
        ("audio/translations", Operation::AudioTranslations),
        ("audio/voices", Operation::AudioVoices),
        ("batches", Operation::Batches),
        ("batches/batch_1/cancel", Operation::Batches),
        ("chat/completions", Operation::ChatCompletions),
        ("chat/completions/chatcmpl-1", Operation::ChatCompletions),
        ("chatkit/threads/cthr_1/items", Operation::ChatKit),
        ("completions", Operation::Completions),
        ("containers", Operation::Containers),
        ("conversations/conv_1/items", Operation::Conversations),
        ("embeddings", Operation::Embeddings),
        ("evals/eval_1/runs", Operation::Evals),
        ("extensions/chat/completions", Operation::ChatCompletions),
        ("files/file-1/content", Operation::Files),
        ("fine_tuning/alpha/graders/run", Operation::FineTuning),
        ("fine_tuning/jobs", Operation::FineTuning),
        ("images/edits", Operation::ImagesEdits),
        ("images/generations", Operation::ImagesGenerations),
        ("images/variations", Operation::ImagesVariations),
        ("ingestion/jobs/mine/runs/1", Operation::Ingestion),
        ("models", Operation::Models),
        ("models/gpt-4o", Operation::Models),
        ("moderations", Operation::Moderations),
        ("realtime", Operation::Realtime),
        ("realtime/translations/client_secrets", Operation::Realtime),
        ("realtimeapi/sessions", Operation::Realtime),
        ("skills/skill_1/versions/1", Operation::Skills),
        ("realtime/client_secrets", Operation::Realtime),
        ("responses", Operation::Responses),
        ("responses/compact", Operation::Responses),
        ("responses/resp_1/input_items", Operation::Responses),
        ("threads/runs", Operation::Threads),
        ("threads/thread_1/runs/run_1/steps", Operation::Threads),
        ("uploads/upload_1/parts", Operation::Uploads),
        ("vector_stores/vs_1/search", Operation::VectorStores),
        ("video/generations/jobs", Operation::Videos),
        ("videos", Operation::Videos),
    ] {
        for (base, surface, deployment) in [
            ("/openai/", Surface::Classic, None),
            ("/openai/v1/", Surface::V1, None),
            ("/openai/deployments/gpt-4o/", Surface::Classic, Some("gpt-4o")),
            ("/openai/v1/deployments/gpt-4o/", Surface::V1, Some("gpt-4o")),
        ] {
            for slash in ["", "/"] {
                let path = format!("{base}{path}{slash}");
                let call = get(&path);
                assert_eq!(call.operation(), operation, "{path}");
                assert_eq!(call.surface(), surface, "{path}");
                assert_eq!(call.deployment(), deployment, "{path}");
            }
        }
    }
}

#[test]
fn unknown_paths_pass() {
    for (path, surface) in [
        ("/openai/operations/images/1", Surface::Classic),
        ("/openai/deployments", Surface::Classic),
        ("/openai/deployments/gpt-4o", Surface::Classic),
        ("/openai/deployments/gpt-4o/embeddings/more", Surface::Classic),
        ("/openai/deployments/gpt-4o/deployments/gpt-4o/embeddings", Surface::Classic),
        ("/openai/deployments/gpt-4o/v1/embeddings", Surface::Classic),
        ("/openai/responses/compact/more", Surface::Classic),
        ("/openai/fine_tuning/unheard", Surface::Classic),
        ("/models/unheard/of", Surface::Foundry),
        ("/anthropic/v1/unheard/of", Surface::Foundry),
        ("/openai/chat", Surface::Classic),
        ("/openai/chat/completionsx", Surface::Classic),
        ("/openai/images/generations:submit", Surface::Classic),
        ("/openai/v1", Surface::V1),
        ("/openai/v1/", Surface::V1),
        ("/openai/v1/graders", Surface::V1),
        ("/openai/v1beta/chat/completions", Surface::Classic),
    ] {
        let call = get(path);
        assert_eq!(call.operation(), Operation::Other, "{path}");
        assert_eq!(call.surface(), surface, "{path}");
        assert_eq!(call.object_ids().len(), 0, "{path}");
    }
    assert_eq!(get("/openai/deployments/gpt-4o").deployment(), Some("gpt-4o"));
}

#[test]
fn deployments_may_be_named_as_anything_else() {
    for name in ["chat", "completions", "deployments", "v1", "openai", "extensions", "threads", "..."] {
        let call = get(&format!("/openai/deployments/{name}/chat/completions"));
        assert_eq!(call.operation(), Operation::ChatCompletions, "{name}");
        assert_eq!(call.deployment(), Some(name));
    }
}

#[test]
fn deployments_are_decoded_and_found_in_the_path() {
    for (raw, name) in [
        ("gpt%204o", "gpt 4o"),
        ("mod%C3%A8le", "modèle"),
        ("mod%c3%a8le", "modèle"),
        ("modèle", "modèle"),
        ("a%25b", "a%b"),
    ] {
        let path = format!("/openai/deployments/{raw}/embeddings");
        let call = get(&path);
        assert_eq!(call.deployment(), Some(name));
        assert_eq!(&path[call.deployment_span().unwrap()], raw);
    }
    assert_eq!(get("/openai/models").deployment_span(), None);
}

#[test]
fn spelling_hides_nothing() {
    for path in ["/openai/%64eployments/gpt-4o/chat/%63ompletions", "/openai/Deployments/gpt-4o/CHAT/Completions"] {
        let call = get(path);
        assert_eq!(call.operation(), Operation::ChatCompletions, "{path}");
        assert_eq!(call.deployment(), Some("gpt-4o"), "{path}");
    }
    assert_eq!(get("/openai/V1/responses").surface(), Surface::V1);
}

#[test]
fn lists_the_ids_in_the_path() {
    for (path, expected) in [
        ("/openai/threads", &[][..]),
        ("/openai/threads/runs", &[]),
        ("/openai/threads/thread_1", &["thread_1"]),
        ("/openai/threads/thread_1/messages", &["thread_1"]),
        ("/openai/threads/thread_1/runs/run_1/steps/step_1", &["thread_1", "run_1", "step_1"]),
        ("/openai/threads/thread_1/runs/run_1/submit_tool_outputs", &["thread_1", "run_1"]),
        ("/openai/deployments/d/threads/thread_1", &["thread_1"]),
        ("/openai/files/file-1/content", &["file-1"]),
        ("/openai/files/file%2D1", &["file-1"]),
        ("/openai/files/import", &[]),
        ("/openai/uploads/upload_1/complete", &["upload_1"]),
        ("/openai/vector_stores/vs_1/files/file-1/content", &["vs_1", "file-1"]),
        ("/openai/vector_stores/vs_1/file_batches/vsfb_1/cancel", &["vs_1", "vsfb_1"]),
        ("/openai/batches/batch_1/cancel", &["batch_1"]),
        ("/openai/fine_tuning/jobs/ftjob-1/events", &["ftjob-1"]),
        ("/openai/fine_tuning/alpha/graders/run", &[]),
        ("/openai/v1/responses/resp_1/input_items", &["resp_1"]),
        ("/openai/v1/responses/compact", &[]),
        ("/openai/v1/chat/completions/chatcmpl-1/messages", &["chatcmpl-1"]),
        ("/openai/v1/conversations/conv_1/items/msg_1", &["conv_1", "msg_1"]),
        ("/openai/v1/containers/cntr_1/files/cfile_1/content", &["cntr_1", "cfile_1"]),
        ("/openai/v1/evals/eval_1/runs/evalrun_1", &["eval_1", "evalrun_1"]),
        ("/openai/v1/realtime/client_secrets", &[]),
        ("/openai/v1/realtime/calls/rtc_1/hangup", &["rtc_1"]),
        ("/openai/v1/video/generations/jobs/task_1", &["task_1"]),
        ("/openai/v1/realtime/calls/rtc_1/accept", &["rtc_1"]),
        ("/openai/v1/realtime/transcription_sessions", &[]),
        ("/openai/v1/videos/video_1/content", &["video_1"]),
        ("/openai/v1/videos/edits", &[]),
        ("/openai/v1/videos/Extensions", &[]),
        ("/openai/v1/videos/characters", &[]),
        ("/openai/v1/videos/characters/char_1", &["char_1"]),
        ("/openai/v1/skills/skill_1/versions/2/content", &["skill_1", "2"]),
        ("/openai/v1/chatkit/sessions/cksess_1/cancel", &["cksess_1"]),
        ("/openai/v1/audio/voices/voice_1", &["voice_1"]),
        ("/openai/v1/fine_tuning/jobs/ftjob-1/checkpoints/ckpt/copy", &["ftjob-1", "ckpt"]),
        ("/openai/v1/responses/resp_1/a_call/of/tomorrow", &["resp_1"]),
        ("/openai/v1/threads/thread_1/runs/run_1/unheard", &["thread_1", "run_1"]),
        ("/openai/models/gpt-4o", &["gpt-4o"]),
    ] {
        assert_eq!(ids(path), expected, "{path}");
    }
}

#[test]
fn reading_is_always_safe_to_repeat() {
    for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
        for path in ["/openai/threads", "/openai/v1/responses/resp_1", "/openai/realtime", "/openai/unknown"] {
            assert_eq!(call(&method, path).repeat(), Repeat::Safe, "{method} {path}");
        }
    }
}

#[test]
fn answers_are_safe_to_ask_for_again() {
    for path in [
        "chat/completions",
        "extensions/chat/completions",
        "completions",
        "embeddings",
        "images/generations",
        "images/edits",
        "audio/speech",
        "audio/transcriptions",
        "audio/translations",
        "fine_tuning/alpha/graders/run",
        "fine_tuning/alpha/graders/validate",
        "images/variations",
        "moderations",
        "responses",
        "responses/compact",
        "responses/input_tokens",
        "vector_stores/vs_1/search",
    ] {
        for base in ["/openai/deployments/chat/", "/openai/v1/", "/openai/"] {
            assert_eq!(call(&Method::POST, &format!("{base}{path}")).repeat(), Repeat::Safe, "{base}{path}");
            assert_eq!(call(&Method::PUT, &format!("{base}{path}")).repeat(), Repeat::Creates, "{base}{path}");
        }
    }
}

#[test]
fn everything_else_may_create() {
    for path in [
        "assistants",
        "batches",
        "chat/completions/chatcmpl-1",
        "containers",
        "conversations",
        "embeddings/more",
        "evals",
        "files",
        "fine_tuning/jobs",
        "images/generations:submit",
        "realtime/client_secrets",
        "realtime/calls/rtc_1/accept",
        "realtimeapi/sessions",
        "audio/voices",
        "chatkit/sessions",
        "skills",
        "responses/compact/more",
        "responses/resp_1/cancel",
        "responses/resp_1/a_call_of_tomorrow",
        "threads",
        "threads/runs",
        "threads/thread_1/messages",
        "threads/thread_1/runs",
        "unknown",
        "uploads",
        "vector_stores",
        "videos",
    ] {
        for method in [Method::POST, Method::DELETE, Method::PUT, Method::PATCH] {
            assert_eq!(call(&method, &format!("/openai/{path}")).repeat(), Repeat::Creates, "{method} {path}");
        }
    }
}

#[test]
fn tells_where_a_call_names_its_model() {
    use ModelPlace::{Body, DefaultBody, Elsewhere, Nowhere, Object, OptionalBody, Path, Query, Session};
    for (method, path, place) in [
        (Method::POST, "v1/chat/completions", Body),
        (Method::POST, "v1/images/edits", DefaultBody),
        (Method::POST, "v1/audio/transcriptions", Body),
        (Method::POST, "v1/responses", DefaultBody),
        (Method::POST, "responses", DefaultBody),
        (Method::POST, "responses/compact", Body),
        (Method::POST, "v1/responses/input_tokens", DefaultBody),
        (Method::POST, "v1/images/variations", DefaultBody),
        (Method::POST, "v1/moderations", DefaultBody),
        (Method::POST, "v1/deployments/d/chat/completions", Body),
        (Method::POST, "v1/realtime/calls/rtc_1/accept", OptionalBody),
        (Method::POST, "v1/realtime/calls/rtc_1/hangup", Nowhere),
        (Method::POST, "v1/realtime/translations/client_secrets", Session),
        (Method::POST, "v1/realtime/transcription_sessions", OptionalBody),
        (Method::GET, "v1/realtime/translations", Query),
        (Method::POST, "realtimeapi/sessions", Body),
        (Method::POST, "v1/videos/edits", Object),
        (Method::POST, "v1/chatkit/sessions", Elsewhere),
        (Method::POST, "v1/skills/skill_1/versions", Nowhere),
        (Method::POST, "v1/responses/resp_1/a_call_of_tomorrow", Nowhere),
        (Method::POST, "v1/batches/batch_1/a_call_of_tomorrow", Elsewhere),
        (Method::POST, "assistants", Body),
        (Method::POST, "assistants/asst_1", OptionalBody),
        (Method::POST, "threads/runs", OptionalBody),
        (Method::POST, "threads/thread_1/runs", OptionalBody),
        (Method::POST, "v1/videos", DefaultBody),
        (Method::POST, "deployments/d/chat/completions", Path),
        (Method::POST, "deployments/d/images/edits", Path),
        (Method::GET, "deployments/d/chat/completions", Path),
        (Method::POST, "deployments/d/unknown", Path),
        (Method::POST, "deployments/d/responses", DefaultBody),
        (Method::POST, "deployments/d/threads/thread_1/runs", OptionalBody),
        (Method::POST, "deployments/d/threads", Nowhere),
        (Method::POST, "deployments/d/batches", Elsewhere),
        (Method::GET, "realtime", Query),
        (Method::GET, "v1/realtime", Query),
        (Method::POST, "v1/realtime/client_secrets", Session),
        (Method::POST, "v1/realtime/calls", Session),
        (Method::POST, "batches", Elsewhere),
        (Method::GET, "batches/batch_1", Elsewhere),
        (Method::POST, "fine_tuning/jobs", Elsewhere),
        (Method::POST, "fine_tuning/alpha/graders/run", Elsewhere),
        (Method::GET, "v1/evals", Elsewhere),
        (Method::GET, "unknown", Elsewhere),
        (Method::DELETE, "models/gpt-4o", Elsewhere),
        (Method::PUT, "responses", Elsewhere),
        (Method::POST, "videos/video_1/remix", Object),
        (Method::GET, "models", Nowhere),
        (Method::GET, "responses/resp_1", Nowhere),
        (Method::OPTIONS, "responses", Nowhere),
        (Method::DELETE, "assistants/asst_1", Nowhere),
        (Method::POST, "responses/resp_1/cancel", Nowhere),
        (Method::POST, "chat/completions/chatcmpl-1", Nowhere),
        (Method::POST, "threads/thread_1/messages", Nowhere),
        (Method::POST, "threads/thread_1/runs/run_1/submit_tool_outputs", Nowhere),
        (Method::POST, "files", Nowhere),
        (Method::PATCH, "vector_stores/vs_1", Nowhere),
    ] {
        assert_eq!(call(&method, &format!("/openai/{path}")).model_place(), place, "{method} {path}");
    }
}

#[test]
fn a_deployment_where_azure_has_none_is_surplus() {
    for (path, left) in [
        ("/openai/deployments/d/responses", Some("/openai/responses")),
        ("/openai/deployments/a%20b/threads/thread_1/runs/", Some("/openai/threads/thread_1/runs/")),
        ("/openai/deployments/d/models", Some("/openai/models")),
        ("/openai/deployments/d/batches", Some("/openai/batches")),
        ("/openai/v1/deployments/d/chat/completions", Some("/openai/v1/chat/completions")),
        ("/openai/v1/deployments/a%20b/files/file-1", Some("/openai/v1/files/file-1")),
        ("/openai/v1/deployments/d/unknown", None),
        ("/openai/deployments/d/chat/completions", None),
        ("/openai/deployments/d/unknown", None),
        ("/openai/deployments/d", None),
        ("/openai/responses", None),
    ] {
        let call = call(&Method::POST, path);
        let surplus = call.surplus_span().map(|span| [&path[..span.start], &path[span.end..]].concat());
        assert_eq!(surplus.as_deref(), left, "{path}");
    }
}

#[test]
fn paths_outside_the_api_are_told_apart() {
    for path in [
        "",
        "/",
        "/openai",
        "/openai/",
        "/openaix/models",
        "/OpenAI/models",
        "/%6fpenai/models",
        "/x//y",
        "/v1/chat/completions",
        "/models",
        "/models/",
        "/anthropic",
        "*",
        "openai/models",
    ] {
        let error = parse(&Method::GET, path).unwrap_err();
        assert!(error.is_outside() && !error.is_ambiguous(), "{path}: {error}");
    }
}

#[test]
fn the_table_says_everything_once() {
    for table in [OPENAI, FOUNDRY] {
        let paths: std::collections::BTreeSet<_> = table.iter().map(|row| row.path).collect();
        assert_eq!(paths.len(), table.len());
    }
}

#[test]
fn a_call_of_a_foundry_resource_names_its_model_in_the_body() {
    for (path, operation) in [
        ("/models/chat/completions", Operation::ChatCompletions),
        ("/models/embeddings/", Operation::Embeddings),
        ("/models/images/generations", Operation::ImagesGenerations),
        ("/anthropic/v1/messages", Operation::Messages),
        ("/anthropic/v1/messages/count_tokens", Operation::Messages),
    ] {
        let call = call(&Method::POST, path);
        assert_eq!((call.surface(), call.operation()), (Surface::Foundry, operation), "{path}");
        assert_eq!((call.model_place(), call.repeat()), (ModelPlace::Body, Repeat::Safe), "{path}");
    }
}

#[test]
fn a_path_that_lacks_its_deployment_says_where_it_belongs() {
    for (path, gap) in [
        ("/openai/chat/completions", Some(8)),
        ("/openai/images/variations", Some(8)),
        ("/openai/deployments/d/chat/completions", None),
        ("/openai/v1/chat/completions", None),
        ("/openai/responses", None),
        ("/openai/unknown", None),
        ("/models/embeddings", None),
    ] {
        assert_eq!(get(path).deployment_gap(), gap, "{path}");
    }
}

#[test]
fn who_asks_outside_the_api_is_told_where_it_is() {
    for (path, told) in [
        (
            "/chat/completions",
            "It would be `/openai/v1/chat/completions`, with the alias as `model` of the body, or, with an `api-version`, `/openai/deployments/{alias}/chat/completions`.",
        ),
        ("/api/v1/embeddings/", "It would be `/openai/v1/embeddings`, with"),
        ("/azure/openai/deployments/secret/audio/speech", "It would be `/openai/v1/audio/speech`, with"),
        ("/x/threads/secret/messages/secret", "It would be `/openai/v1/threads/{id}/messages/{id}`."),
        (
            "/realtime/client_secrets",
            "It would be `/openai/v1/realtime/client_secrets`, with the alias as `model` of the `session` in the body.",
        ),
        ("/models", "It would be `/openai/v1/models`."),
        ("/", "The API is below `/openai/v1/`, with the alias as `model` of the body"),
        ("/a/b/c/d/e/f/g/h/i/files", "The API is below `/openai/v1/`"),
    ] {
        let whole = whereabouts(path);
        assert!(whole.starts_with(&format!("Resource not found. {told}")), "{path}: {whole}");
        assert!(!whole.contains("secret`"), "{path}");
    }
}
