//! Events of the upstream through the router.

use serde_json::json;

use super::tests::{code, signature, whole};

#[tokio::test]
async fn upstream_events_are_verified_and_stored_once() {
    let bench = whole().await;
    let path = "/cloud/webhook";
    let (status, text) = bench
        .call(
            "GET",
            "/cloud/webhook?hub.mode=subscribe&hub.verify_token=word&hub.challenge=4711",
            &[],
            "",
        )
        .await;
    assert_eq!((status, text), (200, json!(4711)));
    let (status, body) = bench
        .call(
            "GET",
            "/cloud/webhook?hub.mode=subscribe&hub.verify_token=guess&hub.challenge=1",
            &[],
            "",
        )
        .await;
    assert_eq!((status, code(&body)), (403, 1005));
    let event = json!({"entry": [{"changes": [{"value": {
        "statuses": [{"id": "wamid.A", "status": "sent", "recipient_id": "447700900123"}]}}]}]})
    .to_string();
    for _ in 0..2 {
        let (status, _) = bench
            .call(
                "POST",
                path,
                &[("x-hub-signature-256", &signature(&event))],
                &event,
            )
            .await;
        assert_eq!(status, 200);
    }
    let counts = bench.db.counts().await.expect("counted");
    assert!(
        counts.contains(&("pending_events".to_owned(), 1)),
        "{counts:?}"
    );
    let forged = event.replace("wamid.A", "wamid.B");
    let (status, body) = bench
        .call(
            "POST",
            path,
            &[("x-hub-signature-256", &signature(&event))],
            &forged,
        )
        .await;
    assert_eq!((status, code(&body)), (403, 1005));
    let (status, body) = bench
        .call(
            "POST",
            path,
            &[("x-hub-signature-256", &signature("x"))],
            "x",
        )
        .await;
    assert_eq!((status, code(&body)), (400, 1025));
}
