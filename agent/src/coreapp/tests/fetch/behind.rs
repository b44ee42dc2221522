//! What stands behind a file. Goal: a customer's messages are told in their order, also where a file comes slowly; his statuses and
//! all other customers wait for nothing. Method: a photo whose bytes are held back, with more or less behind it.

use super::*;

const OTHER: &str = "447700900457";

fn text(from: &str, id: &str) -> Value {
    json!({"from": from, "id": id, "timestamp": "1", "type": "text", "text": {"body": "hello"}})
}

fn photo(id: &str) -> Value {
    let sha256 = hex::encode(Sha256::digest(bytes_of(id)));
    json!({"from": CUSTOMER, "id": format!("wamid.{id}"), "timestamp": "1", "type": "image",
        "image": {"id": id, "mime_type": "image/jpeg", "sha256": sha256}})
}

fn texts(len: usize) -> Vec<Value> {
    (0..len)
        .map(|n| text(CUSTOMER, &format!("wamid.{n:03}")))
        .collect()
}

/// Messages of the customer that the business was told of, in the order in which it was.
fn told(bench: &Bench) -> Vec<String> {
    let seen = bench.cluster.seen.lock().expect("no panic before");
    let messages = seen.webhooks.iter().map(|told| &told["messages"][0]);
    let own = messages.filter(|message| message["from"] == CUSTOMER);
    own.map(|message| message["id"].as_str().expect("an id").to_owned())
        .collect()
}

async fn until(bench: &Bench, wanted: impl Fn(&Value) -> bool) -> Value {
    within(async {
        loop {
            let found = {
                let seen = bench.cluster.seen.lock().expect("no panic before");
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

async fn heard(bench: &Bench, id: &str) -> Value {
    until(bench, |told| told["messages"][0]["id"] == id).await
}

fn ids(messages: &[Value]) -> Vec<String> {
    let id = |message: &Value| message["id"].as_str().expect("an id").to_owned();
    messages.iter().map(id).collect()
}

/// A text, another photo and a status behind a slow photo, and another customer's text.
#[tokio::test(flavor = "multi_thread")]
async fn a_text_waits_behind_its_customers_photo() {
    let bench = Bench::start(&["image"], Require::Directory).await;
    let sent = request(vec![message(OURS, "hello")]);
    bench.cluster.accept_owned(&sent).await;
    bench.cluster.state_of(OURS, MessageState::Sent).await;
    let all = [photo("slow-1"), text(CUSTOMER, "wamid.after"), photo("2")];
    bench.store(json!({"messages": all})).await;
    bench
        .store(json!({"messages": [text(OTHER, "wamid.other")]}))
        .await;
    let status = json!({"id": "wamid.ours", "status": "delivered", "timestamp": "1", "recipient_id": CUSTOMER,
        "biz_opaque_callback_data": format!("{OURS}.{:08x}", recipient_hash(CUSTOMER))});
    bench.store(json!({"statuses": [status]})).await;
    heard(&bench, "wamid.other").await;
    until(&bench, |told| told["statuses"][0]["id"] == OURS).await;
    // The second photo is fetched meanwhile.
    within(async {
        while bench.fetched() < 2 {
            clock::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    bench.counter.1.add_permits(1);
    heard(&bench, "wamid.2").await;
    assert_eq!(told(&bench), ids(&all));
}

/// Others behind two hundred messages that wait are reached.
#[tokio::test(flavor = "multi_thread")]
async fn hundreds_that_wait_keep_nobody_else_away() {
    let bench = Bench::start(&["image"], Require::Directory).await;
    let mut all = vec![photo("slow-1")];
    all.extend(texts(200));
    bench.store(json!({"messages": all})).await;
    bench
        .store(json!({"messages": [text(OTHER, "wamid.other")]}))
        .await;
    heard(&bench, "wamid.other").await;
    assert_eq!(told(&bench), [""; 0]);
    bench.counter.1.add_permits(1);
    heard(&bench, "wamid.199").await;
    assert_eq!(told(&bench), ids(&all));
}

/// More than may wait do not: the photo is told without its bytes, which can be asked for, and its customer's others behind it.
#[tokio::test(flavor = "multi_thread")]
async fn more_than_may_wait_do_not() {
    let bench = Bench::start(&["image"], Require::Directory).await;
    let mut all = vec![photo("slow-1")];
    all.extend(texts(300));
    bench.store(json!({"messages": all})).await;
    heard(&bench, "wamid.299").await;
    assert_eq!(told(&bench), ids(&all));
    let first = heard(&bench, "wamid.slow-1").await;
    let image = &first["messages"][0]["image"];
    assert_eq!(image["status"], "undownloaded", "{first}");
    assert!(image["id"].is_string(), "{first}");
}
