//! Bad input at the calls that no token opens: logins, and the upstream's events. Goal and cells as in `matrix_tests.rs`. Method:
//! each cell by hand, because their credentials are part of the call.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::calls::CALLS;
use super::matrix_tests::{Answer, Faults, ask, state};
use crate::webapp::auth::Access;
use crate::webapp::tests::{Bench, signature, whole};

/// After the first change of the password.
fn right() -> String {
    format!("Basic {}", BASE64_STANDARD.encode("admin:Abcdef1!"))
}

async fn login(bench: &Bench, shown: &str, body: &str) -> Answer {
    let mut logins = CALLS.iter().filter(|call| call.access == Access::Basic);
    ask(bench, logins.next().expect("a call"), shown, body).await
}

async fn event(bench: &Bench, signed: Option<&str>, body: &str) -> (u16, u64, Value) {
    let signature = signed.map(signature);
    let headers: Vec<(&str, &str)> = signature
        .iter()
        .map(|signature| ("x-hub-signature-256", signature.as_str()))
        .collect();
    let (status, body) = bench.call("POST", "/cloud/webhook", &headers, body).await;
    let code = body["errors"][0]["code"].as_u64().unwrap_or_default();
    (status, code, body)
}

/// Goal: a login that is wrong in itself changes nothing, and says so; right credentials and no body are a login.
#[tokio::test]
async fn logins_are_whole_or_refused() {
    let bench = whole().await;
    bench.admin().await;
    let mut faults = Faults::default();
    for (body, wanted) in [
        ("{", (400, 1025)),
        ("7", (400, 1025)),
        (r#"{"new_password":7}"#, (400, 1009)),
        (r#"{"new_password":["x"]}"#, (400, 1009)),
        (r#"{"new_password":"short"}"#, (400, 1009)),
    ] {
        faults.wanted(&login(&bench, &right(), body).await, &[wanted]);
    }
    let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(300_000));
    faults.wanted(&login(&bench, &right(), &large).await, &[(413, 1025)]);
    for nobody in ["", "Basic", "Basic !!!", "Bearer nonsense"] {
        faults.wanted(&login(&bench, nobody, "").await, &[(401, 1005)]);
    }
    // The password is still the one that it was.
    faults.wanted(&login(&bench, &right(), "").await, &[(200, 0)]);
    bench.webapp.map.shared_db().store(None);
    let answer = login(&bench, &right(), "").await;
    faults.wanted(&answer, &[(503, 1011), (503, 1023)]);
    faults.end();
}

/// Goal: an event is stored, or the upstream is told to come again, or it was none. Method: signed and unsigned bodies of every
/// kind; the store is as it was.
#[tokio::test]
async fn events_are_whole_or_refused() {
    let bench = whole().await;
    let before = state(&bench).await;
    let good = json!({"entry": [{"changes": [{"field": "messages", "value": {
        "statuses": [{"id": "wamid.A", "status": "sent", "recipient_id": "447700900123"}]}}]}]});
    let good = good.to_string();
    for (signed, body, wanted) in [
        (None, good.as_str(), (403, 1005)),
        (Some("another body"), &good, (403, 1005)),
    ] {
        let (status, code, said) = event(&bench, signed, body).await;
        assert_eq!((status, code), wanted, "{body}: {said}");
    }
    let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(5 << 20));
    let (status, code, said) = event(&bench, Some(&large), &large).await;
    assert_eq!((status, code), (413, 1025), "{said}");
    assert_eq!(state(&bench).await, before);
    // Whoever signs is the upstream: what cannot be read is kept for people, and need not come again (F04).
    for (unread, body) in [(1, "{"), (2, "nonsense")] {
        let (status, _, said) = event(&bench, Some(body), body).await;
        assert_eq!(status, 200, "{body}: {said}");
        let kept = bench.db.kept_counts().await.expect("counted");
        assert_eq!(kept.unread, unread, "{body}");
    }
    bench.webapp.map.shared_db().store(None);
    let (status, code, said) = event(&bench, Some(&good), &good).await;
    assert!(status == 503 && [1011, 1023].contains(&code), "{said}");
}
