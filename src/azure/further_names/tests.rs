use proptest::prelude::*;

use super::*;

fn names(operation: Operation, body: &str) -> Vec<String> {
    let found = find(operation, body.as_bytes()).unwrap_or_else(|error| panic!("{body}: {error}"));
    for name in &found {
        assert!(is_name(body.as_bytes(), &name.span, &name.name), "{body}");
    }
    found.into_iter().map(|name| name.name).collect()
}

#[test]
fn names_stand_where_the_operation_defines_them() {
    for (operation, body, expected) in [
        (
            Operation::Responses,
            r#"{"tools":[{"type":"web_search"}, {"model":"img-1","type":"image_generation"}],"model":"m"}"#,
            &["img-1"][..],
        ),
        (
            Operation::Responses,
            r#"{"tools":[{"type":"image\u005fgeneration","mod\u0065l":"a\u002fb"},{"type":"image_generation","model":"c"}]}"#,
            &["a/b", "c"],
        ),
        (
            Operation::ChatCompletions,
            r#"{"model":"m","data_sources":[{"type":"azure_search","parameters":{"embedding_dependency":{"type":"deployment_name","deployment_name":"ada"}}}]}"#,
            &["ada"],
        ),
        (
            Operation::ChatCompletions,
            r#"{"dataSources":[{"parameters":{"embeddingDeploymentName":"ada"}},{"parameters":{}}]}"#,
            &["ada"],
        ),
        (
            Operation::Realtime,
            r#"{"session":{"type":"realtime","model":"m","audio":{"input":{"transcription":{"model":"w","language":"de"}}}}}"#,
            &["w"],
        ),
        (Operation::Realtime, r#"{"model":"m","input_audio_transcription":{"model":"w"}}"#, &["w"]),
    ] {
        assert_eq!(names(operation, body), expected, "{body}");
    }
}

#[test]
fn nothing_else_is_a_name() {
    for (operation, body) in [
        (Operation::Responses, r#"{"tools":[{"type":"function","model":"x"},{"type":"image_generation"}]}"#),
        (Operation::Responses, r#"{"tools":[{"type":"image_generation","model":null}]}"#),
        (Operation::Responses, r#"{"input":[{"tools":[{"type":"image_generation","model":"x"}]}]}"#),
        (Operation::Responses, r#"{"tools":{"type":"image_generation","model":"x"}}"#),
        (Operation::ChatCompletions, r#"{"tools":[{"type":"image_generation","model":"x"}]}"#),
        (
            Operation::ChatCompletions,
            r#"{"messages":[{"content":"\"deployment_name\":\"x\""}],"data_sources":"deployment_name"}"#,
        ),
        (Operation::Embeddings, r#"{"session":{"audio":{"input":{"transcription":{"model":"w"}}}}}"#),
        (Operation::Responses, r#"image_generation"#),
        (Operation::Responses, "\"image_generation\""),
        (Operation::Responses, ""),
    ] {
        assert!(names(operation, body).is_empty(), "{body}");
    }
    assert!(find(Operation::Responses, b"{\"image_generation\":\"\xff\"}").unwrap().is_empty());
}

#[test]
fn what_two_readers_could_read_differently_is_refused() {
    let many = vec![r#"{"type":"image_generation","model":"m"}"#; MAX_NAMES + 1].join(",");
    for body in [
        r#"{"tools":[],"tools":[{"type":"image_generation","model":"x"}]}"#,
        r#"{"Tools":[{"type":"image_generation","model":"x"}]}"#,
        r#"{"tools":[{"type":"image_generation","model":"x","model":"y"}]}"#,
        r#"{"tools":[{"type":"image_generation","type":"web_search","model":"y"}]}"#,
        r#"{"tools":[{"type":"image_generation","model":"x","MODEL":"y"}]}"#,
        r#"{"tools":[{"type":"image_generation","model":7}]}"#,
        &format!(r#"{{"tools":[{many}]}}"#),
    ] {
        let error = find(Operation::Responses, body.as_bytes()).unwrap_err().to_string();
        assert!(!error.contains('x') || error.contains("more than") || error.contains("twice"), "{error}");
    }
}

proptest! {
    #[test]
    fn any_body_is_read_without_a_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        for operation in [Operation::Responses, Operation::ChatCompletions, Operation::Realtime] {
            let _ = find(operation, &body);
            let _ = find(operation, &[b"{\"tools\":[\"image_generation deployment_name transcription\",", &body[..], b"]}"].concat());
        }
    }

    #[test]
    fn a_name_is_found_whatever_it_is(name in ".*", before in ".*") {
        let body = serde_json::json!({
            "before": before,
            "tools": [{ "x": before, "type": "image_generation", "model": name }],
        });
        prop_assert_eq!(names(Operation::Responses, &body.to_string()), [name]);
    }
}
