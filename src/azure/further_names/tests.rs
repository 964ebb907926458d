use proptest::prelude::*;

use super::*;

fn names(operation: Operation, body: &str) -> Vec<String> {
    let found = find(operation, body.as_bytes()).unwrap_or_else(|error| panic!("{body}: {error}"));
    for name in &found {
        let written: String = serde_json::from_str(&body[name.span.clone()]).unwrap();
        assert_eq!(written, name.name, "{body}");
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
        (Operation::Realtime, r#"{"type":"realtime","audio":{"input":{"transcription":{"model":"w"}}}}"#, &["w"]),
        (
            Operation::Responses,
            r#"{"input":[{"tools":[{"type":"image_generation","model":"a"}]}],"moderation":{"model":"b"}}"#,
            &["a", "b"],
        ),
        (
            Operation::Responses,
            r#"{"tools":[{"type":"namespace","tools":[{"model":"a","type":"image_generation"},{"type":"function","model":{}}]},{"type":"image_generation","model":"b"}]}"#,
            &["a", "b"],
        ),
        (
            Operation::Responses,
            r#"{"input":[{"type":"additional_tools","tools":[{"name":"n","tools":[{"type":"image_generation","model":"a"}]}]}]}"#,
            &["a"],
        ),
        (Operation::ChatCompletions, r#"{"moderation":{"model":"b"}}"#, &["b"]),
        (Operation::Conversations, r#"{"items":["x",{"tools":[{"model":"a","type":"image_generation"}]}]}"#, &["a"]),
        (
            Operation::Evals,
            r#"{"testing_criteria":[{"type":"label_model","model":"a"},{"type":"multi","graders":{"x":{"model":"b"}}},{"type":"azure_ai_evaluator","initialization_parameters":{"deployment_name":"c"}}]}"#,
            &["a", "b", "c"],
        ),
        (
            Operation::Evals,
            r#"{"data_source":{"type":"responses","model":"a","sampling_params":{"tools":[{"type":"image_generation","model":"b"}]}}}"#,
            &["a", "b"],
        ),
        (Operation::Responses, r#"{"tools":[{"type":"Image_Generation","model":"a"}]}"#, &["a"]),
        (
            Operation::FineTuning,
            r#"{"grader":{"type":"multi","model":"a","graders":{"model":"b","y":{"graders":[{"z":{"model":"c"}}]}}}}"#,
            &["a", "b", "c"],
        ),
        (
            Operation::FineTuning,
            r#"{"model":"m","method":{"type":"reinforcement","reinforcement":{"grader":{"type":"score_model","model":"a"}}}}"#,
            &["a"],
        ),
    ] {
        assert_eq!(names(operation, body), expected, "{body}");
    }
}

#[test]
fn nothing_else_is_a_name() {
    for (operation, body) in [
        (Operation::Responses, r#"{"tools":[{"type":"function","model":"x"},{"type":"image_generation"}]}"#),
        (Operation::Responses, r#"{"tools":[{"type":"image_generation","model":null}]}"#),
        (Operation::Responses, r#"{"output":[{"tools":[{"type":"image_generation","model":"x"}]}]}"#),
        (
            Operation::Responses,
            r#"{"tools":[{"type":"image_generation","model":7},{"type":"x","model":{"model":[]}}]}"#,
        ),
        (
            Operation::Evals,
            r#"{"data_source":{"source":{"type":"stored_completions","model":"x"}},"name":"data_source"}"#,
        ),
        (Operation::Evals, r#"{"data_source_config":{"testing_criteria":[{"model":"x"}]}}"#),
        (Operation::FineTuning, r#"{"model":"gpt-4o","method":{"reinforcement":{"hyperparameters":{"model":"x"}}}}"#),
        (Operation::Conversations, r#"{"items":[{"model":"x","tools":[{"type":"x","model":"x"}]}]}"#),
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
        r#"{"moderation":{"model":7}}"#,
        r#"{"Moderation":{"model":"m"}}"#,
        r#"{"input":"a \"picture\"","TOOLS":[{"type":"Image_Generation","model":"m"}]}"#,
        r#"{"tools":[{"type":"image_generation","model":"x"},]}"#,
        r#"{"tools":[{"type":"image_generation" "model":"x"}]}"#,
        r#"{"tools":[{"type":"image_generation","model":"x"}]}{"tools":[]}"#,
        "{\0\"\0t\0o\0o\0l\0s\0\"\0:\0[\0]\0}\0",
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

    /// Wherever a body is cut on its way, the same is found in it, or wrong with it.
    #[test]
    fn pieces_say_what_the_whole_says(
        names in prop::collection::vec("[a-z\"é\\\\ ]{0,6}", 1..6),
        kinds in prop::collection::vec("image_generation|function", 6),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        is_first in any::<bool>(),
    ) {
        let tools: Vec<_> = names.iter().zip(&kinds).map(|(name, kind)| {
            let (name, kind) = (serde_json::json!(name), serde_json::json!(kind));
            match is_first {
                true => format!("{{\"model\":{name}, \"x\":[{{\"model\":1}}],\"type\" :{kind}}}"),
                false => format!("{{\"type\":{kind},\"model\": {name}}}"),
            }
        }).collect();
        let body = format!("{{\"a\":[[],{{}}],\"tools\":[{}],\"model\":\"m\"}}", tools.join(" ,"));
        let expected = find(Operation::Responses, body.as_bytes()).unwrap();
        let wanted = names.iter().zip(&kinds).filter(|(_, kind)| *kind == "image_generation").map(|(name, _)| name);
        prop_assert!(expected.iter().map(|found| &found.name).eq(wanted));
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(body.len())).collect();
        cuts.sort_unstable();
        let mut scan = scan(Operation::Responses).unwrap();
        let (mut at, mut settled) = (0, 0);
        for cut in cuts.into_iter().chain([body.len()]) {
            scan.feed(&body.as_bytes()[at..cut]).unwrap();
            at = cut;
            prop_assert!((settled..=at).contains(&scan.settled()), "it never goes back");
            settled = scan.settled();
        }
        prop_assert!(scan.names().eq(&expected));
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

#[test]
fn an_image_deployment_is_found_where_it_stands() {
    let body = br#"{"model":"gpt-4o","tools":[{"type":"image_generation","model":"images"}]}"#;
    let names = find(Operation::Responses, body).unwrap();
    assert_eq!(names[0].name, "images");
    assert_eq!(&body[names[0].span.clone()], br#""images""#);
}
