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
    // Nobody knows its message: it is placed later.
    let kept = bench.db.kept_counts().await.expect("counted");
    assert_eq!((kept.unplaced, kept.unread), (1, 0));
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
}

/// Goal: what the upstream signed is taken, whatever it is: a refusal would bring it, and its neighbours, back for days (F04).
/// Method: no JSON, half a character, rubbish beside a text; then what the store has of it.
#[tokio::test]
async fn f04_whatever_is_signed_is_taken_and_kept() {
    let bench = whole().await;
    let text = r#"{"entry":[{"changes":[{"field":"messages","value":{"messages":["rubbish",{"from":"447700900456","id":"wamid.A","type":"text","text":{"body":"cut \ud83d"}}]}}]}]}"#;
    for body in ["x", "", text] {
        let headers = [("x-hub-signature-256", signature(body))];
        let headers = headers
            .each_ref()
            .map(|(name, value)| (*name, value.as_str()));
        let (status, _) = bench.call("POST", "/cloud/webhook", &headers, body).await;
        assert_eq!(status, 200, "{body}");
    }
    let kept = bench.db.kept_counts().await.expect("counted");
    assert_eq!(kept.unread, 3, "{kept:?}");
    let counts = bench.db.counts().await.expect("counted");
    assert!(
        counts.contains(&("pending_events".to_owned(), 1)),
        "{counts:?}"
    );
    let foreign = text.replace(
        r#""value":{"#,
        r#""value":{"metadata":{"phone_number_id":"another"},"#,
    );
    let headers = [("x-hub-signature-256", signature(&foreign))];
    let headers = headers
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    let (status, _) = bench
        .call("POST", "/cloud/webhook", &headers, &foreign)
        .await;
    assert_eq!(status, 200);
    let after = bench.db.kept_counts().await.expect("counted");
    assert_eq!(after, kept, "events of another number are not stored");
    let counts = bench.db.counts().await.expect("counted");
    assert!(
        counts.contains(&("pending_events".to_owned(), 1)),
        "{counts:?}"
    );
}

/// Goal: a stranger makes nobody read anything. Method: headers that are no signatures before a long body; and so many bytes that
/// there is no room for more before their signatures are known.
#[tokio::test]
async fn bodies_are_read_only_behind_what_looks_like_a_signature() {
    let bench = whole().await;
    let long = "x".repeat(1 << 20);
    for bad in ["", "sha256=00", "sha256=zz", "sha1=00ff"] {
        let (status, body) = bench
            .call(
                "POST",
                "/cloud/webhook",
                &[("x-hub-signature-256", bad)],
                &long,
            )
            .await;
        assert_eq!((status, code(&body)), (403, 1005), "{bad}");
    }
    let room = bench.webapp.unsigned.available_permits();
    let taken = bench
        .webapp
        .unsigned
        .try_acquire_many(u32::try_from(room).expect("small") - 8);
    let taken = taken.expect("all but a little");
    let event = r#"{"entry":[]}"#;
    let header = [("x-hub-signature-256", signature(event))];
    let header = header
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    let (status, body) = bench.call("POST", "/cloud/webhook", &header, event).await;
    assert_eq!((status, code(&body)), (503, 1016));
    drop(taken);
    let (status, _) = bench.call("POST", "/cloud/webhook", &header, event).await;
    assert_eq!(status, 200);
    assert_eq!(
        bench.webapp.unsigned.available_permits(),
        room,
        "nothing is kept"
    );
}
