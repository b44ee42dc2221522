//! Events of the upstream through the router.

use axum::body::Body;
use axum::http::Request;
use futures_util::StreamExt as _;
use serde_json::json;
use tower::ServiceExt as _;

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
    let counted = || bench.webapp.metrics.events_unread.get();
    assert_eq!(counted(), 3);
    let headers = [("x-hub-signature-256", signature("x"))];
    let headers = headers
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    let (status, _) = bench.call("POST", "/cloud/webhook", &headers, "x").await;
    assert_eq!((status, counted()), (200, 3), "it is there already");
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

/// Goal: a stranger makes nobody read anything. Method: headers that are no signatures before a long body; and bodies that are
/// read, whose room is free again.
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
    let room = bench.door.free();
    let event = r#"{"entry":[]}"#;
    let header = [("x-hub-signature-256", signature(event))];
    let header = header
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    let (status, _) = bench.call("POST", "/cloud/webhook", &header, event).await;
    assert_eq!(status, 200);
    assert_eq!(bench.door.free(), room, "nothing is kept");
}

/// Goal: who opens connections and says nothing keeps no event away. Method: twelve calls that announce the longest body; some say
/// nothing, some begin, and each ends only with the test. Then a signed call.
#[tokio::test]
async fn silent_calls_keep_no_event_away() {
    let bench = whole().await;
    let room = bench.door.free();
    let mut silent = tokio::task::JoinSet::new();
    for n in 0..12 {
        let begin = (n % 2 == 0).then_some(Ok::<_, std::io::Error>("x"));
        let rest = futures_util::stream::pending();
        let body = futures_util::stream::iter(begin).chain(rest);
        let request = Request::post("/cloud/webhook")
            .header("x-hub-signature-256", signature("never"))
            .header("content-length", super::events::EVENTS_LEN_MAX)
            .body(Body::from_stream(body))
            .expect("a request");
        silent.spawn(bench.router().oneshot(request));
    }
    // Those that began have their room: the others have had their turn, too.
    let began = async {
        while bench.door.free() > room - 6 * crate::net::room::STEP_LEN {
            tokio::task::yield_now().await;
        }
    };
    let began = tokio::time::timeout(std::time::Duration::from_secs(5), began).await;
    began.expect("bytes have arrived");
    let event = r#"{"entry":[]}"#;
    let header = signature(event);
    let headers = [("x-hub-signature-256", header.as_str())];
    let (status, body) = bench.call("POST", "/cloud/webhook", &headers, event).await;
    assert_eq!(status, 200, "{body}");
}
