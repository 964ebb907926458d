//! Every form in which a client may present a credential.
#![allow(unreachable_pub, reason = "tests have no outside")]

/// Headers, and the end of a query. The last ones present another credential beside it in every other form.
pub fn forms(credential: &str, beside: &str) -> Vec<(Vec<(&'static str, String)>, String)> {
    let header = |name, value| (vec![(name, value)], String::new());
    vec![
        header("api-key", credential.to_owned()),
        header("authorization", format!("Bearer {credential}")),
        header("ocp-apim-subscription-key", credential.to_owned()),
        (Vec::new(), format!("&api-key={credential}")),
        (Vec::new(), format!("&Subscription-Key={credential}")),
        header("sec-websocket-protocol", format!("realtime, openai-insecure-api-key.{credential}")),
        (
            vec![
                ("api-key", beside.to_owned()),
                ("authorization", format!("Bearer {credential}")),
                ("ocp-apim-subscription-key", beside.to_owned()),
                ("cookie", format!("session={beside}")),
                ("proxy-authorization", format!("Basic {beside}")),
                ("connection", "x-key".to_owned()),
                ("x-key", beside.to_owned()),
            ],
            format!("&api-key={beside}&subscription%2Dkey={credential}"),
        ),
    ]
}
