//! Who is who, over a whole coreapp. Goal: only the upstream's word teaches a number, nothing is told that nobody said, and one
//! customer has one identity key. Method: the coreapp on the embedded store, with events of a customer one after the other.

use wa_core::identity::Standing;

use super::*;

const USER: &str = "GB.1234567890123456";
const NUMBER: &str = "447700900456";

async fn start() -> Cluster {
    let application = json!({"callback_backoff_delay_ms": 50, "show_security_notifications": true,
        "webhooks": {"url": "hook", "max_concurrent_requests": 6}});
    let cluster = Cluster::start(application).await;
    // The small business refuses the first call.
    cluster.seen.lock().expect("no panic before").webhook_calls = 1;
    cluster
}

async fn store(cluster: &Cluster, value: Value) {
    let body = json!({"entry": [{"changes": [{"value": value}]}]});
    let events = cloud::event::items(&body);
    let events = events.iter().map(|event| NewEvent {
        key: event.key.clone(),
        recipient_hash: recipient_hash(USER),
        payload: serde_json::to_string(event).expect("plain JSON"),
        state: Default::default(),
    });
    let events: Vec<NewEvent> = events.collect();
    assert_eq!(cluster.db.store_events(&events).await.expect("stored"), 1);
}

/// A text of the customer, with or without number and key; what the business is told of it.
async fn written(cluster: &Cluster, id: &str, number: Option<&str>, key: Option<&str>) -> Value {
    let mut message = json!({"from_user_id": USER, "id": id, "timestamp": "1893456000", "type": "text", "text": {"body": "hello"}});
    let mut contact = json!({"user_id": USER, "profile": {"name": "Ann Lee"}});
    if let Some(number) = number {
        message["from"] = number.into();
        contact["wa_id"] = number.into();
    }
    if let Some(key) = key {
        contact["identity_key_hash"] = key.into();
    }
    store(
        cluster,
        json!({"messages": [message], "contacts": [contact]}),
    )
    .await;
    callback(cluster, |told| told["messages"][0]["id"] == id).await
}

async fn callback(cluster: &Cluster, wanted: impl Fn(&Value) -> bool) -> Value {
    within(async {
        loop {
            let found = {
                let seen = cluster.seen.lock().expect("no panic before");
                seen.webhooks.iter().find(|told| wanted(told)).cloned()
            };
            match found {
                Some(told) => return told,
                None => clock::sleep(Duration::from_millis(10)).await,
            }
        }
    })
    .await
}

/// The number that a client typed goes into the callback, and teaches nothing: the upstream never told it.
#[tokio::test(flavor = "multi_thread")]
async fn a_typed_number_is_nobodys() {
    let cluster = start().await;
    cluster
        .accept_owned(&request(vec![message(OURS, "hello")]))
        .await;
    cluster.state_of(OURS, MessageState::Sent).await;
    let status = json!({"id": "wamid.m1", "status": "delivered", "timestamp": "1893456000", "recipient_user_id": USER,
        "biz_opaque_callback_data": format!("{OURS}.00000007")});
    store(&cluster, json!({"statuses": [status]})).await;
    let told = callback(&cluster, |told| told["statuses"][0]["id"] == OURS).await;
    assert_eq!(told["statuses"][0]["recipient_id"], NUMBER, "{told}");
    let told = written(&cluster, "wamid.1", None, None).await;
    assert_eq!(told["messages"][0]["from"], USER, "{told}");
    // What the upstream itself tells beside the user id, it learns.
    let status = json!({"id": "wamid.m1", "status": "read", "timestamp": "1893456000", "recipient_user_id": USER,
        "recipient_id": "447700900457", "biz_opaque_callback_data": format!("{OURS}.00000007")});
    store(&cluster, json!({"statuses": [status]})).await;
    let told = written(&cluster, "wamid.2", None, None).await;
    assert_eq!(told["messages"][0]["from"], "447700900457", "{told}");
}

/// Of a message whose row is collected it is not known what was told: nothing is put before a `read`.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_invented_for_a_message_that_is_not_kept() {
    const GONE: &str = "gBEGAAAAAAAAAAAAAAAAAAAAAA";
    let cluster = start().await;
    cluster
        .accept_owned(&request(vec![message(OURS, "hello")]))
        .await;
    let Db::Sqlite(pool) = &cluster.db else {
        unreachable!("embedded");
    };
    let map = "INSERT INTO message_id (upstream_id, our_id, recipient_hash, at_ms) VALUES ('wamid.kept', ?, 7, 1)";
    let map = sqlx::query(map).bind(GONE).execute(pool).await;
    map.expect("written");
    for word in ["delivered", "read"] {
        let status = json!({"id": "wamid.gone", "status": word, "timestamp": "1893456000", "recipient_id": NUMBER,
            "biz_opaque_callback_data": format!("{GONE}.00000007")});
        store(&cluster, json!({"statuses": [status]})).await;
    }
    callback(&cluster, |told| told["statuses"][0]["status"] == "read").await;
    let seen = cluster.seen.lock().expect("no panic before");
    let words = seen
        .webhooks
        .iter()
        .map(|told| &told["statuses"][0]["status"]);
    let words: Vec<&Value> = words.filter(|word| !word.is_null()).collect();
    assert_eq!(words, ["delivered", "read"]);
}

/// A customer who is known by user id first and by number later has one key, which the business acknowledges once.
#[tokio::test(flavor = "multi_thread")]
async fn one_customer_has_one_identity_key() {
    let cluster = start().await;
    cluster
        .accept_owned(&request(vec![message("m1", "hello")]))
        .await;
    written(&cluster, "wamid.1", None, Some("key-1")).await;
    written(&cluster, "wamid.2", None, Some("key-2")).await;
    let told = written(&cluster, "wamid.3", Some(NUMBER), Some("key-2")).await;
    assert_eq!(
        told["messages"][0]["identity"]["acknowledged"], false,
        "{told}"
    );
    let keys = cluster
        .db
        .identity_keys(&[USER, NUMBER])
        .await
        .expect("read");
    assert_eq!(keys.len(), 1, "{keys:?}");
    assert_eq!(keys[NUMBER].standing, Standing::Changed);
    // Too long to be kept: it holds up nothing.
    let mut message = json!({"from": "4".repeat(400), "id": "wamid.4", "timestamp": "1893456000", "type": "text", "text": {"body": "x"}});
    message["from_user_id"] = format!("GB.{}", "1".repeat(400)).into();
    let contact = json!({"wa_id": message["from"], "identity_key_hash": "key-3"});
    store(
        &cluster,
        json!({"messages": [message], "contacts": [contact]}),
    )
    .await;
    callback(&cluster, |told| told["messages"][0]["id"] == "wamid.4").await;
    let long = "4".repeat(400);
    let keys = cluster.db.identity_keys(&[&long]).await.expect("read");
    assert_eq!(keys.len(), 0, "{keys:?}");
}

/// A number that is typed otherwise than the upstream spells it is the same number: it is remembered for 30 days, and then its
/// message goes to the user id.
#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_is_typed_otherwise_is_remembered_too() {
    let cluster = start().await;
    let spelt = "551234567890";
    cluster
        .accept_owned(&request(vec![message("m1", "spelt otherwise")]))
        .await;
    cluster.state_of("m1", MessageState::Sent).await;
    within(async {
        while cluster.db.routes(&[NUMBER]).await.expect("read").is_empty() {
            clock::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let told = json!({"from": spelt, "from_user_id": USER, "id": "wamid.1", "timestamp": "1893456000", "type": "text",
        "text": {"body": "hello"}});
    let payload =
        json!({"customer": spelt, "content": {"message": {"message": told, "contact": null}}});
    let Db::Sqlite(pool) = &cluster.db else {
        unreachable!("embedded");
    };
    // 40 days ago.
    sqlx::query(
        "INSERT INTO inbox (event_key, recipient_hash, payload, received_ms, processed) \
         VALUES ('wamid.1', ?, ?, CAST(unixepoch('subsec') * 1000 AS INTEGER) - 3456000000, 0)",
    )
    .bind(i64::from(recipient_hash(USER)))
    .bind(payload.to_string())
    .execute(pool)
    .await
    .expect("written");
    callback(&cluster, |told| told["messages"][0]["id"] == "wamid.1").await;
    written(&cluster, "wamid.2", None, None).await;
    cluster
        .accept_owned(&request(vec![message("m2", "hello")]))
        .await;
    cluster.state_of("m2", MessageState::Sent).await;
    let seen = cluster.seen.lock().expect("no panic before");
    let body = seen.bodies.last().expect("it was sent");
    assert_eq!((&body["recipient"], body.get("to")), (&json!(USER), None));
}
