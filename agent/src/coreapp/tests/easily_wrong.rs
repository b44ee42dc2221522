//! Cases that are easily wrong and that no golden pair can show, because two calls meet in one coreapp. The others are pairs
//! with the same numbers (`tests/fixtures/v1`).

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::Semaphore;

use super::outcome::{Mood, lock, start, to};
use super::*;

/// The hash that `to` gives the first customer, and the customer's number.
fn customer() -> (u32, String) {
    (to("x", 1, "").recipient_hash, "447700900001".to_owned())
}

/// Stores a call of the upstream with this, and a text of somebody that is told behind it.
async fn store(cluster: &Cluster, mut value: Value, marker: &str) {
    value["messages"] = json!([{"from": "447700900777", "id": marker, "timestamp": "1893456000", "type": "text", "text": {"body": "x"}}]);
    let body = json!({"entry": [{"changes": [{"field": "messages", "value": value}]}]});
    let items = cloud::event::items(&body);
    let events = items.iter().map(|item| NewEvent {
        key: item.key.clone(),
        recipient_hash: item.recipient_hash.unwrap_or(1),
        payload: serde_json::to_string(item).expect("plain JSON"),
        state: Default::default(),
    });
    let events: Vec<NewEvent> = events.collect();
    let stored = cluster.db.store_events(&events).await.expect("stored");
    assert_eq!(stored as usize, events.len());
    let told = |told: &Value| told["messages"][0]["id"] == marker;
    within(async {
        while !lock(&cluster.seen).webhooks.iter().any(told) {
            clock::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

fn status(word: &str, id: &str, at_s: u32) -> Value {
    let (hash, number) = customer();
    json!({"id": "wamid.m", "status": word, "timestamp": at_s.to_string(), "recipient_id": number,
           "biz_opaque_callback_data": format!("{id}.{hash:08x}")})
}

/// Everything was worked off and told; the statuses that the business got of this message.
async fn statuses(cluster: &Cluster, id: &str) -> Vec<Value> {
    let own = cluster.own().await;
    within(async {
        loop {
            let waits = cluster.db.pending_events(&own, 1, 10).await.expect("read");
            let depth = cluster.db.webhook_depth().await.expect("read");
            if waits.is_empty() && depth == 0 {
                return;
            }
            clock::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let seen = lock(&cluster.seen);
    let all = seen
        .webhooks
        .iter()
        .filter_map(|told| told["statuses"].as_array());
    let all = all.flatten().filter(|status| status["id"] == id);
    all.cloned().collect()
}

/// Goal (case 8): 131049 in the answer and by webhook is one callback, with the documented code and title. Method: an upstream that
/// refuses so, and then tells the same.
#[tokio::test(flavor = "multi_thread")]
async fn easily_wrong_8_an_error_that_comes_twice_is_told_once() {
    let (moody, cluster, _) = start(|_| ()).await;
    *lock(&moody.mood) = Mood::Error(131_049, true);
    cluster
        .accept_owned(&request(vec![to(OURS, 1, "offer")]))
        .await;
    cluster.state_of(OURS, MessageState::Failed).await;
    let mut failed = status("failed", OURS, 1_893_456_001);
    failed["errors"] = json!([{"code": 131_049, "title": "Meta chose not to deliver"}]);
    store(&cluster, json!({"statuses": [failed]}), "wamid.behind").await;
    let told = statuses(&cluster, OURS).await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["status"], "failed");
    let error = &told[0]["errors"][0];
    assert_eq!(
        (&error["code"], &error["title"]),
        (&json!(471), &json!("Spam rate limit hit"))
    );
}

/// An upstream that has a message and answers when it is let.
#[derive(Default)]
struct Slow {
    came: AtomicU32,
    may: Option<Semaphore>,
}

async fn take_slowly(State(slow): State<Arc<Slow>>) -> Json<Value> {
    slow.came.fetch_add(1, Ordering::AcqRel);
    if let Some(may) = &slow.may {
        let _turn = may.acquire().await;
    }
    Json(json!({"messages": [{"id": "wamid.m"}]}))
}

async fn slow() -> (Arc<Slow>, Outside, SocketAddr) {
    let slow = Arc::new(Slow {
        came: AtomicU32::new(0),
        may: Some(Semaphore::new(0)),
    });
    let seen = Outside::default();
    lock(&seen).webhook_calls = 1;
    let router = Router::new()
        .route(
            "/v1/number",
            get(|| async { Json(json!({"id": "number"})) }),
        )
        .route("/v1/number/messages", post(take_slowly))
        .with_state(Arc::clone(&slow))
        .route("/hook", post(take_webhook).with_state(Arc::clone(&seen)));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move { axum::serve(listener, router).await });
    (slow, seen, address)
}

/// Goal (case 9): `read` that comes before the answer to the send, and without `delivered`, is told as both, once; a late `sent`
/// with its price is not told. Method: an upstream that holds its answer back until `read` was stored and worked off.
#[tokio::test(flavor = "multi_thread")]
async fn easily_wrong_9_read_may_come_before_the_answer() {
    let (slow, seen, at) = slow().await;
    let hook = json!({"callback_backoff_delay_ms": 50, "webhooks": {"url": "hook", "max_concurrent_requests": 6,
        "message": {"sent": true, "delivered": true, "read": true}}});
    let cluster = Cluster::start_at(hook, (seen, at), |settings| {
        settings.upstream.request_timeout = Duration::from_secs(60);
    });
    let cluster = cluster.await;
    cluster.accept_owned(&request(vec![to(OURS, 1, "x")])).await;
    within(async {
        while slow.came.load(Ordering::Acquire) == 0 {
            clock::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let read = status("read", OURS, 1_893_456_002);
    store(&cluster, json!({"statuses": [read]}), "wamid.early").await;
    slow.may.as_ref().expect("held back").add_permits(1);
    cluster.state_of(OURS, MessageState::Read).await;
    let mut late = status("sent", OURS, 1_893_456_000);
    late["pricing"] = json!({"billable": true, "pricing_model": "PMP", "category": "utility"});
    store(&cluster, json!({"statuses": [late]}), "wamid.late").await;
    let told = statuses(&cluster, OURS).await;
    let words: Vec<&Value> = told.iter().map(|status| &status["status"]).collect();
    assert_eq!(words, ["delivered", "read"], "{told:?}");
    let number = customer().1;
    assert!(
        told.iter().all(|status| status["recipient_id"] == *number),
        "{told:?}"
    );
    assert_eq!(slow.came.load(Ordering::Acquire), 1, "sent once");
    cluster.state_of(OURS, MessageState::Read).await;
}
