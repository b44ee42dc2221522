//! Customers whose numbers are not known. Goal: a client that takes nothing but digits can talk with them: by an alias, which stays,
//! until the number comes; or it is told that somebody wrote. Method: the coreapp on the embedded store, with events of a customer
//! who shows no number first, and messages to the alias.

use super::*;
use crate::api::cloud::short::is_short;
use crate::api::v1::alias::is_alias;
use crate::config::{InboundIds, UnknownNumber};

const USER: &str = "GB.1234567890123456";
const NUMBER: &str = "447700900456";

async fn start(unknown: UnknownNumber) -> Cluster {
    let hook = json!({"callback_backoff_delay_ms": 50, "webhooks": {"url": "hook", "max_concurrent_requests": 6}});
    let change = |settings: &mut Settings| settings.client.unknown_number = unknown;
    let cluster = Cluster::start_at(hook, outside().await, change).await;
    // The small business refuses the first call.
    cluster.seen.lock().expect("no panic before").webhook_calls = 1;
    cluster
}

/// A text of the customer, with or without the number; what the business is told of it.
async fn written(cluster: &Cluster, id: &str, number: Option<&str>) -> Value {
    store(cluster, id, number).await;
    callback(cluster, |told| told["messages"][0]["id"] == id).await
}

/// The same, stored only.
async fn store(cluster: &Cluster, id: &str, number: Option<&str>) {
    let mut message = json!({"from_user_id": USER, "id": id, "timestamp": "1893456000", "type": "text", "text": {"body": "hello"}});
    let mut contact = json!({"user_id": USER, "profile": {"name": "Ann Lee"}});
    if let Some(number) = number {
        message["from"] = number.into();
        contact["wa_id"] = number.into();
    }
    store_value(
        cluster,
        json!({"messages": [message], "contacts": [contact]}),
    )
    .await;
}

/// The events of one call. They all go the customer's way.
async fn store_value(cluster: &Cluster, value: Value) {
    let body = json!({"entry": [{"changes": [{"value": value}]}]});
    let events = cloud::event::items(&body);
    let events = events.iter().map(|event| NewEvent {
        key: event.key.clone(),
        recipient_hash: recipient_hash(USER),
        payload: serde_json::to_string(event).expect("plain JSON"),
        state: Default::default(),
    });
    let events: Vec<NewEvent> = events.collect();
    let stored = cluster.db.store_events(&events).await.expect("stored");
    assert_eq!(stored as usize, events.len());
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

/// Sends to the alias, as the webapp hands it on; what the upstream got.
async fn sent(cluster: &Cluster, id: &str, alias: &str, text: &str) -> Value {
    let payload =
        json!({"input": alias, "to": {"user": USER}, "content": {"text": {"body": text}}});
    let message = Message {
        form: Form::NEWEST.number(),
        payload: payload.to_string(),
        ..message(id, "")
    };
    cluster.accept_owned(&request(vec![message])).await;
    let wanted = match text {
        "refuse" => MessageState::Failed,
        _ => MessageState::Sent,
    };
    cluster.state_of(id, wanted).await;
    let seen = cluster.seen.lock().expect("no panic before");
    seen.bodies.last().expect("it was sent").clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_stands_for_a_customer_until_the_number_comes() {
    let cluster = start(UnknownNumber::Alias).await;
    let first = written(&cluster, "wamid.1", None).await;
    let alias = first["messages"][0]["from"]
        .as_str()
        .expect("digits")
        .to_owned();
    assert!(is_alias(&alias), "{first}");
    assert_eq!(first["contacts"][0]["wa_id"], *alias, "{first}");
    assert_eq!(first["contacts"][0]["user_id"], USER, "{first}");
    let again = written(&cluster, "wamid.2", None).await;
    assert_eq!(again["messages"][0]["from"], *alias);
    let body = sent(&cluster, "one", &alias, "hello").await;
    assert_eq!((&body["recipient"], body.get("to")), (&json!(USER), None));
    sent(&cluster, "two", &alias, "refuse").await;
    let failed = callback(&cluster, |told| told["statuses"][0]["id"] == "two").await;
    assert_eq!(failed["statuses"][0]["recipient_id"], *alias, "{failed}");
    let named = written(&cluster, "wamid.3", Some(NUMBER)).await;
    assert_eq!(named["messages"][0]["from"], NUMBER, "{named}");
    let system = callback(&cluster, |told| told["messages"][0]["type"] == "system").await;
    assert_eq!(system["messages"][0]["from"], *alias, "{system}");
    let changed = &system["messages"][0]["system"];
    assert_eq!(changed["type"], "user_changed_number", "{system}");
    assert_eq!(changed["new_wa_id"], NUMBER, "{system}");
    assert_eq!(
        written(&cluster, "wamid.4", None).await["messages"][0]["from"],
        NUMBER
    );
    let user = cluster.db.user_of_alias(&alias).await.expect("read");
    assert_eq!(user.as_deref(), Some(USER), "good for ever");
    // Both came with one webhook just now, so the number is surely the customer's.
    let known = async || cluster.db.number_of(USER).await.expect("read").is_some();
    within(async {
        while !known().await {
            clock::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let body = sent(&cluster, "three", &alias, "hello").await;
    assert_eq!(body["to"], format!("+{NUMBER}"), "{body}");
    let seen = cluster.seen.lock().expect("no panic before");
    let told = seen.webhooks.iter();
    let told = told.filter(|told| told["messages"][0]["type"] == "system");
    assert_eq!(told.count(), 1, "told once");
}

/// A text of a customer who has another user id by now; what the business is told of it.
async fn written_as(cluster: &Cluster, user_id: &str, id: &str) -> Value {
    let message = json!({"from_user_id": user_id, "id": id, "timestamp": "1893456000", "type": "text", "text": {"body": "hello"}});
    let contact = json!({"user_id": user_id});
    store_value(
        cluster,
        json!({"messages": [message], "contacts": [contact]}),
    )
    .await;
    callback(cluster, |told| told["messages"][0]["id"] == id).await
}

/// The user id of a customer becomes another one, maybe with a number.
fn changed(id: &str, from: &str, to: &str, number: Option<&str>) -> Value {
    let kind = number.map_or("user_changed_user_id", |_| "user_changed_number");
    let mut system =
        json!({"type": kind, "body": "changed", "user_id": to, "previous_user_id": from});
    if let Some(number) = number {
        system["wa_id"] = number.into();
    }
    json!({"id": id, "timestamp": "1893456000", "type": "system", "system": system})
}

/// Goal: an alias outlives the user id that it was given for. Method: two changes of it, the second with the new number; texts and
/// messages between them, one of which was accepted before the change.
#[tokio::test(flavor = "multi_thread")]
async fn an_alias_goes_on_to_the_next_user_id() {
    const SECOND: &str = "GB.2222222222222222";
    const THIRD: &str = "GB.3333333333333333";
    let cluster = start(UnknownNumber::Alias).await;
    let first = written(&cluster, "wamid.1", None).await;
    let alias = first["messages"][0]["from"].as_str().expect("digits");
    assert!(is_alias(alias), "{first}");
    // The next text comes in the same call: it is told by the same alias.
    let text = json!({"from_user_id": SECOND, "id": "wamid.2", "timestamp": "1893456000", "type": "text", "text": {"body": "hello"}});
    let both = json!({"messages": [changed("wamid.c1", USER, SECOND, None), text]});
    store_value(&cluster, both).await;
    let system = callback(&cluster, |told| told["messages"][0]["id"] == "wamid.c1").await;
    let system = &system["messages"][0];
    assert_eq!(system["from"], alias, "{system}");
    assert_eq!(system["system"]["type"], "user_changed_user_id", "{system}");
    assert_eq!(system["system"]["user_id"], SECOND, "{system}");
    assert_eq!(system["system"]["previous_user_id"], USER, "{system}");
    let told = callback(&cluster, |told| told["messages"][0]["id"] == "wamid.2").await;
    assert_eq!(told["messages"][0]["from"], alias, "{told}");
    let told = written_as(&cluster, SECOND, "wamid.3").await;
    assert_eq!(told["messages"][0]["from"], alias, "{told}");
    let user = cluster.db.user_of_alias(alias).await.expect("read");
    assert_eq!(user.as_deref(), Some(SECOND));
    // Accepted for the former user id.
    let body = sent(&cluster, "one", alias, "hello").await;
    assert_eq!((&body["recipient"], body.get("to")), (&json!(SECOND), None));
    let change = changed("wamid.c2", SECOND, THIRD, Some(NUMBER));
    store_value(&cluster, json!({"messages": [change]})).await;
    callback(&cluster, |told| told["messages"][0]["id"] == "wamid.c2").await;
    let named = callback(&cluster, |told| {
        told["messages"][0]["id"] == format!("ABGG{alias}")
    })
    .await;
    let named = &named["messages"][0];
    assert_eq!(named["from"], alias, "{named}");
    assert_eq!(named["system"]["new_wa_id"], NUMBER, "{named}");
    assert_eq!(named["system"]["user_id"], THIRD, "{named}");
    let user = cluster.db.user_of_alias(alias).await.expect("read");
    assert_eq!(user.as_deref(), Some(THIRD), "good for ever");
}

/// Goal: a client that cannot keep long ids gets short ones, and they lead back. Method: a message, and an answer to it.
#[tokio::test(flavor = "multi_thread")]
async fn customers_messages_can_have_short_ids() {
    let hook = json!({"webhooks": {"url": "hook", "max_concurrent_requests": 6}});
    let change = |settings: &mut Settings| settings.client.inbound_ids = InboundIds::Short;
    let cluster = Cluster::start_at(hook, outside().await, change).await;
    cluster.seen.lock().expect("no panic before").webhook_calls = 1;
    store(&cluster, "wamid.A/b+c=", Some(NUMBER)).await;
    let told = callback(&cluster, |told| told["messages"].is_array()).await;
    let id = told["messages"][0]["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    assert!(is_short(&id), "{told}");
    let named = cluster.db.upstream_id_of(&id).await.expect("read");
    assert_eq!(named.as_deref(), Some("wamid.A/b+c="));
    let payload =
        json!({"to": {"phone": NUMBER}, "reply_to": id, "content": {"text": {"body": "x"}}});
    let message = Message {
        form: Form::NEWEST.number(),
        payload: payload.to_string(),
        ..message("answer", "")
    };
    cluster.accept_owned(&request(vec![message])).await;
    cluster.state_of("answer", MessageState::Sent).await;
    let seen = cluster.seen.lock().expect("no panic before");
    assert_eq!(seen.bodies[0]["context"]["message_id"], "wamid.A/b+c=");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_without_a_number_can_be_rejected() {
    let cluster = start(UnknownNumber::Reject).await;
    let told = written(&cluster, "wamid.1", None).await;
    let message = &told["messages"][0];
    assert_eq!(message["type"], "unknown", "{told}");
    assert_eq!(message["errors"][0]["code"], 501, "{told}");
    assert_eq!(message["from_user_id"], USER, "{told}");
    assert_eq!(message.get("text"), None, "{told}");
    let told = written(&cluster, "wamid.2", Some(NUMBER)).await;
    assert_eq!(told["messages"][0]["text"]["body"], "hello", "{told}");
    assert_eq!(
        written(&cluster, "wamid.3", None).await["messages"][0]["from"],
        NUMBER
    );
}
