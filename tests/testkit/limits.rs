use super::*;

#[tokio::test(start_paused = true)]
async fn tokens_by_the_minute() {
    let backend = with(SimulatedDeployment::standard("gpt-4o").tokens_per_minute(30));
    let served = send(&backend, chat()).await;
    assert_eq!(header(&served, "x-ratelimit-remaining-tokens"), Some("12"));

    tokio::time::advance(Duration::from_millis(26_500)).await;
    let refused = send(&backend, chat()).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(header(&refused, "retry-after"), Some("34"));
    assert_eq!(header(&refused, "x-ratelimit-reset-tokens"), Some("34"));
    assert_eq!(header(&refused, "x-ratelimit-remaining-tokens"), Some("12"));
    assert_eq!(header(&refused, "retry-after-ms"), None);
    let body = json(refused).await;
    assert_eq!(body["error"]["code"], "429");
    let message = body["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("Requests to the ChatCompletions_Create Operation"), "{message}");
    assert!(message.contains("2024-10-21 have exceeded token rate limit"), "{message}");
    assert!(message.contains("Please retry after 34 seconds."), "{message}");

    tokio::time::advance(Duration::from_secs(34)).await;
    assert_eq!(status(&backend, chat()).await, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn requests_by_ten_seconds() {
    let backend = with(SimulatedDeployment::standard("gpt-4o").requests_per_minute(12));
    assert_eq!(status(&backend, chat()).await, StatusCode::OK);
    assert_eq!(status(&backend, post(CHAT, "not JSON")).await, StatusCode::BAD_REQUEST);
    let refused = send(&backend, chat()).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS, "a failed request counts too");
    assert_eq!(header(&refused, "retry-after"), Some("10"));
    assert_eq!(header(&refused, "x-ratelimit-reset-requests"), Some("10"));
    assert_eq!(header(&refused, "x-ratelimit-remaining-requests"), Some("0"));
    assert!(text(refused).await.contains("exceeded call rate limit"));

    tokio::time::advance(Duration::from_secs(10)).await;
    assert_eq!(status(&backend, chat()).await, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn provisioned_by_utilization() {
    let backend = with(SimulatedDeployment::provisioned("gpt-4o").tokens_per_minute(16));
    let first = send(&backend, chat()).await;
    assert_eq!(header(&first, "azure-openai-deployment-utilization"), Some("112.5%"));

    let refused = send(&backend, chat()).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(header(&refused, "retry-after-ms"), Some("7500"));
    assert_eq!(header(&refused, "retry-after"), Some("8"));
    assert_eq!(header(&refused, "azure-openai-deployment-utilization"), Some("112.5%"));

    text(first).await;
    let second = send(&backend, chat()).await;
    assert_eq!(second.status(), StatusCode::OK, "the estimate of 18 was corrected to 7");
    assert_eq!(header(&second, "azure-openai-deployment-utilization"), Some("156.2%"));
}

#[tokio::test(start_paused = true)]
async fn the_hint_of_a_provisioned_deployment_is_long_enough() {
    let backend = with(SimulatedDeployment::provisioned("gpt-4o").tokens_per_minute(7));
    let answers = [send(&backend, chat()).await, send(&backend, chat()).await];
    let hint = header(&answers[1], "retry-after-ms").unwrap().parse().unwrap();
    tokio::time::advance(Duration::from_millis(hint) - Duration::from_millis(1)).await;
    assert_eq!(status(&backend, chat()).await, StatusCode::TOO_MANY_REQUESTS);
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(status(&backend, chat()).await, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn deployments_do_not_share_limits() {
    let backend = SimulatedBackend::builder("eastus")
        .deployment(SimulatedDeployment::standard("gpt-4o").tokens_per_minute(1))
        .deployment(SimulatedDeployment::standard("other"))
        .build();
    assert_eq!(status(&backend, chat()).await, StatusCode::TOO_MANY_REQUESTS);
    let other = post("/openai/deployments/other/chat/completions?api-version=1", HELLO);
    assert_eq!(status(&backend, other).await, StatusCode::OK);
}
