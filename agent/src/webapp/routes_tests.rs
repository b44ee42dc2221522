//! Who is whose customer. Goal: a message names only messages to its own customer, a number has one customer however it is
//! spelt, and a status finds the shard of our message. Method: the public API on a store whose rows were written by hand.

use serde_json::{Value, json};
use wa_core::shard_map::recipient_hash;

use super::tests::{Bench, code, signature, whole, whole_with};
use crate::db::Db;

const OURS: &str = "gBEGAAAAAAAAAAAAAAAAAAAAAA";
const TYPED: &str = "5512345678901";
const SPELT: &str = "551234567890";

async fn run(bench: &Bench, sql: &'static str) {
    let Db::Sqlite(pool) = &bench.db else {
        panic!("the embedded store");
    };
    sqlx::query(sql).execute(pool).await.expect("written");
}

async fn hash_of_event(bench: &Bench, key: &str) -> u32 {
    let Db::Sqlite(pool) = &bench.db else {
        panic!("the embedded store");
    };
    let row = sqlx::query_as("SELECT recipient_hash FROM inbox WHERE event_key=?").bind(key);
    let row: (i64,) = row.fetch_one(pool).await.expect("stored");
    u32::try_from(row.0).expect("a hash")
}

async fn upstream_says(bench: &Bench, value: Value) {
    let event = json!({"entry": [{"changes": [{"value": value}]}]}).to_string();
    let sealed = signature(&event);
    let headers = [("x-hub-signature-256", sealed.as_str())];
    let (status, _) = bench.call("POST", "/cloud/webhook", &headers, &event).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn a_message_names_only_messages_to_its_own_customer() {
    let bench = whole_with(false).await;
    let admin = bench.admin().await;
    let send = async |to: &str| {
        let body = json!({"to": to, "context": {"message_id": OURS}, "text": {"body": "hi"}});
        let headers = [("authorization", admin.as_str())];
        bench
            .call("POST", "/v1/messages", &headers, &body.to_string())
            .await
    };
    // Nobody knows it: the owner decides what becomes of it.
    assert_eq!(send("447700900123").await.0, 201);
    run(
        &bench,
        "INSERT INTO message_id (upstream_id, our_id, recipient_hash, at_ms) VALUES ('wamid.A', 'gBEGAAAAAAAAAAAAAAAAAAAAAA', 77, 1)",
    )
    .await;
    let (status, body) = send("447700900123").await;
    assert_eq!((status, code(&body)), (400, 1009));
    let details = body["errors"][0]["details"].as_str().unwrap_or_default();
    assert!(details.starts_with("context.message_id "), "{details}");
}

#[tokio::test]
async fn a_status_without_our_data_goes_to_the_shard_of_its_message() {
    let bench = whole_with(false).await;
    run(
        &bench,
        "INSERT INTO message_id (upstream_id, our_id, recipient_hash, at_ms) VALUES ('wamid.A', 'gBEGAAAAAAAAAAAAAAAAAAAAAA', 77, 1)",
    )
    .await;
    let status = |id: &str, opaque: Option<&str>| json!({"statuses": [{"id": id, "status": "sent", "recipient_id": "447700900123", "biz_opaque_callback_data": opaque}]});
    upstream_says(&bench, status("wamid.A", None)).await;
    upstream_says(&bench, status("wamid.B", None)).await;
    upstream_says(
        &bench,
        status("wamid.C", Some("gBEGkYaYVSEEAgnZxQ3JmKK6Ww.00000063+")),
    )
    .await;
    assert_eq!(hash_of_event(&bench, "wamid.A:sent").await, 77);
    let own = recipient_hash("447700900123");
    assert_eq!(hash_of_event(&bench, "wamid.B:sent").await, own);
    assert_eq!(hash_of_event(&bench, "wamid.C:sent").await, 0x63);
}

#[tokio::test]
async fn a_number_has_one_customer_however_it_is_spelt() {
    let bench = whole_with(false).await;
    let admin = bench.admin().await;
    let look_up = async || {
        let body = json!({"contacts": [TYPED, SPELT, "GB.123"]}).to_string();
        let headers = [("authorization", admin.as_str())];
        let (status, body) = bench.call("POST", "/v1/contacts", &headers, &body).await;
        assert_eq!(status, 200);
        let found = body["contacts"].as_array().cloned().unwrap_or_default();
        found
            .into_iter()
            .map(|c| c["wa_id"].clone())
            .collect::<Vec<_>>()
    };
    let inbound = |id: &str, from: Value| json!({"messages": [{"id": id, "from": from, "from_user_id": "GB.123", "type": "text", "text": {"body": "x"}}]});
    upstream_says(&bench, inbound("wamid.1", json!(SPELT))).await;
    assert_eq!(
        hash_of_event(&bench, "wamid.1").await,
        recipient_hash(SPELT)
    );
    run(
        &bench,
        "INSERT INTO route (address, recipient_hash, spelling, at_ms) VALUES ('5512345678901', 4711, '551234567890', 1), ('551234567890', 4711, '', 1)",
    )
    .await;
    // A webapp looks once a second whether there is any.
    let seen = tokio::time::timeout(std::time::Duration::from_secs(15), async {
        while look_up().await != [SPELT, SPELT, "GB.123"] {
            crate::sys::clock::sleep(std::time::Duration::from_millis(20)).await;
        }
    });
    seen.await.expect("seen in time");
    upstream_says(&bench, inbound("wamid.2", json!(SPELT))).await;
    assert_eq!(hash_of_event(&bench, "wamid.2").await, 4711);
    // A customer who shows no number is told by his user id.
    upstream_says(&bench, inbound("wamid.3", Value::Null)).await;
    assert_eq!(
        hash_of_event(&bench, "wamid.3").await,
        recipient_hash("GB.123")
    );
}

/// Goal: a customer's message is named by everything that stands behind the call, decoded once. Method: ids as the upstream makes
/// them, in every way to write them.
#[tokio::test]
async fn ids_of_customers_messages_hold_what_they_hold() {
    let bench = whole_with(false).await;
    let admin = bench.admin().await;
    let headers = [("authorization", admin.as_str())];
    for (path, wanted) in [
        ("wamid.tell", "wamid.tell"),
        ("wamid.tell/", "wamid.tell"),
        ("wamid.tell/a+b==", "wamid.tell/a+b=="),
        ("wamid.tell%2Fa%2Bb%3D%3D", "wamid.tell/a+b=="),
        ("wamid.tell/a/b=/", "wamid.tell/a/b="),
        ("wamid.tell%252F", "wamid.tell%2F"),
    ] {
        let path = format!("/v1/messages/{path}");
        let (_, body) = bench
            .call("PUT", &path, &headers, r#"{"status":"read"}"#)
            .await;
        assert_eq!(body["errors"][0]["details"], wanted, "{path}: {body}");
    }
    let (status, _) = bench
        .call("PUT", "/v1/messages/", &headers, r#"{"status":"read"}"#)
        .await;
    assert!(status == 405 || status == 404, "{status}");
}

/// Goal: what the upstream does not do for an hsm, another language where its own is missing, is counted for each accepted message
/// that asked for it, and for no other. Method: one of each sort.
#[tokio::test]
async fn a_fallback_of_a_language_is_counted() {
    let bench = whole().await;
    bench.upgraded();
    let admin = bench.admin().await;
    let counted = || bench.webapp.metrics.hsm_fallback.get();
    for (policy, name, accepted, count) in [
        ("deterministic", "offer", 201, 0),
        ("fallback", "offer", 201, 1),
        ("fallback", "", 400, 1),
        ("fallback", "offer", 201, 2),
    ] {
        let body = json!({"to": "+447700900123", "type": "hsm", "hsm": {"namespace": "n", "element_name": name,
            "language": {"policy": policy, "code": "en"}, "localizable_params": [{"default": "x"}]}}).to_string();
        let sent = bench.as_user(&admin, "POST", "/v1/messages", &body);
        let (status, said) = sent.await;
        assert_eq!((status, counted()), (accepted, count), "{said}");
    }
    let text = bench.webapp.metrics.encode();
    assert!(text.contains("wa_hsm_fallback_total 2"), "{text}");
}
