//! One number of a customer, over a whole coreapp. Goal: with `[client] stable_wa_id` the business hears the number that it wrote to
//! first, and a number that the upstream told goes out with `+`. Method: the coreapp on the embedded store, with an upstream that
//! spells a number otherwise where a text asks for it.

use super::*;
use crate::api::cloud::customer::Known;
use crate::db::customer::Customer;

const NUMBER: &str = "447700900456";
const SPELT: &str = "551234567890";
const USER: &str = "BR.1234567890123456";

async fn start(stable: bool) -> Cluster {
    let application = json!({"callback_backoff_delay_ms": 50, "show_security_notifications": true,
        "webhooks": {"url": "hook", "max_concurrent_requests": 6}});
    let change = |settings: &mut Settings| settings.client.stable_wa_id = stable;
    let cluster = Cluster::start_at(application, outside().await, change).await;
    // The small business refuses the first call.
    cluster.seen.lock().expect("no panic before").webhook_calls = 1;
    cluster
}

fn to(id: &str, number: &str, text: &str) -> Message {
    Message {
        id: id.into(),
        recipient_hash: recipient_hash(number),
        form: Form::NEWEST.number(),
        payload: json!({"to": {"phone": number}, "content": {"text": {"body": text}}}).to_string(),
    }
}

/// A text of the customer, and what the business is told of it: the callback, and those before it of no message of ours.
async fn written(cluster: &Cluster, id: &str, number: Option<&str>, key: &str) -> Value {
    let mut message = json!({"from_user_id": USER, "id": id, "timestamp": "1893456000", "type": "text", "text": {"body": "hello"}});
    let mut contact =
        json!({"user_id": USER, "profile": {"name": "Ann Lee"}, "identity_key_hash": key});
    if let Some(number) = number {
        message["from"] = number.into();
        contact["wa_id"] = number.into();
    }
    let value = json!({"messages": [message], "contacts": [contact]});
    let body = json!({"entry": [{"changes": [{"value": value}]}]});
    let events = cloud::event::items(&body);
    let events = events.iter().map(|event| NewEvent {
        key: event.key.clone(),
        recipient_hash: recipient_hash(NUMBER),
        payload: serde_json::to_string(event).expect("plain JSON"),
        state: crate::db::event::State::Pending,
    });
    let events: Vec<NewEvent> = events.collect();
    assert_eq!(cluster.db.store_events(&events).await.expect("stored"), 1);
    told(cluster, |told| told["messages"][0]["id"] == id).await
}

async fn told(cluster: &Cluster, wanted: impl Fn(&Value) -> bool) -> Value {
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

async fn spelt_otherwise(cluster: &Cluster) {
    let first = to("m1", NUMBER, "spelt otherwise");
    cluster.accept_owned(&request(vec![first])).await;
    within(async {
        while cluster.db.routes(&[NUMBER]).await.expect("read").is_empty() {
            clock::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// Told by the number that was written to: a message, one whose number the customer hides, and the news of another key.
#[tokio::test(flavor = "multi_thread")]
async fn a_customer_keeps_the_number_that_was_written_to() {
    let cluster = start(true).await;
    spelt_otherwise(&cluster).await;
    for (id, number) in [("wamid.1", Some(SPELT)), ("wamid.2", None)] {
        let told = written(&cluster, id, number, "key-1").await;
        assert_eq!(told["messages"][0]["from"], NUMBER, "{told}");
        assert_eq!(told["contacts"][0]["wa_id"], NUMBER, "{told}");
    }
    written(&cluster, "wamid.3", Some(SPELT), "key-2").await;
    let news = told(&cluster, |told| told["messages"][0]["type"] == "system").await;
    assert_eq!(news["messages"][0]["from"], NUMBER, "{news}");
    // Whose key it is, is known by either number.
    let named = crate::api::v1::who::Recipient::parse(NUMBER).expect("a number");
    let key = cluster.db.key_of(&named).await.expect("read");
    assert_eq!(key.map(|key| key.hash).as_deref(), Some("key-2"));
}

/// Two numbers were written to that are one customer's: the first one stays.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_numbers_the_first_is_told() {
    let cluster = start(true).await;
    spelt_otherwise(&cluster).await;
    let second = to("m2", "447700900457", "spelt otherwise");
    cluster.accept_owned(&request(vec![second])).await;
    cluster.state_of("m2", MessageState::Sent).await;
    let told = written(&cluster, "wamid.1", Some(SPELT), "key-1").await;
    assert_eq!(told["messages"][0]["from"], NUMBER, "{told}");
}

/// Unless it is asked for, a customer's messages say what the upstream says.
#[tokio::test(flavor = "multi_thread")]
async fn by_default_the_upstreams_number_is_told() {
    let cluster = start(false).await;
    spelt_otherwise(&cluster).await;
    let told = written(&cluster, "wamid.1", Some(SPELT), "key-1").await;
    assert_eq!(told["messages"][0]["from"], SPELT, "{told}");
    assert_eq!(told["contacts"][0]["wa_id"], SPELT, "{told}");
}

/// The upstream told these numbers: to this owner, to an earlier one, and as its spelling of a number. Nobody told the last.
#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_the_upstream_told_goes_out_with_its_mark() {
    let cluster = start(false).await;
    let known = Known {
        wa_id: Some("447700900460".into()),
        both_ms: 1,
        seen_ms: 1,
        ..Known::default()
    };
    let earlier = Customer {
        user_id: "GB.2".into(),
        recipient_hash: recipient_hash("447700900460"),
        known,
    };
    cluster
        .db
        .write_customers(&[earlier])
        .await
        .expect("written");
    written(&cluster, "wamid.1", Some("447700900459"), "key-1").await;
    spelt_otherwise(&cluster).await;
    for (id, number, wanted) in [
        ("m2", "447700900459", "+447700900459"),
        ("m3", "447700900460", "+447700900460"),
        ("m4", SPELT, "+551234567890"),
        ("m5", NUMBER, NUMBER),
    ] {
        let one = to(id, number, "hello");
        cluster.accept_owned(&request(vec![one])).await;
        cluster.state_of(id, MessageState::Sent).await;
        let seen = cluster.seen.lock().expect("no panic before");
        let body = seen.bodies.last().expect("it was sent");
        assert_eq!(body["to"], wanted, "{id}");
    }
}
