//! Answers before campaigns, over a whole coreapp. Goal: who has written is answered within a few turns, whatever waits, nobody
//! starves, and each customer's messages keep their order. Method: the coreapp on the embedded store, with an upstream that takes
//! little, a backlog of 10,000 and two customers who write; the order in which the upstream was called.

use super::*;

const OTHERS: usize = 10_000;
/// He has no message in the backlog.
const NEW: &str = "447700900001";
/// His message of the campaign is among the last ones of the backlog.
const LISTED: &str = "447700900002";

fn to(id: &str, recipient: &str) -> Message {
    let payload = json!({"to": {"phone": recipient}, "content": {"text": {"body": id}}});
    Message {
        id: id.into(),
        recipient_hash: recipient_hash(recipient),
        form: 1,
        payload: payload.to_string(),
    }
}

/// A campaign to all; the owner is behind with it from its second request on.
async fn campaign(cluster: &Cluster) {
    let other = |n: usize| to(&format!("c{n}"), &format!("4479{n:08}"));
    let mut all: Vec<Message> = (0..OTHERS).map(other).collect();
    all.insert(OTHERS - 100, to("listed", LISTED));
    for group in all.chunks(500) {
        let verdicts = cluster.accept_owned(&request(group.to_vec())).await;
        assert!(verdicts.iter().all(|v| *v == Acceptance::Accepted));
    }
}

/// A customer writes, and the business hears of it.
async fn writes(cluster: &Cluster, from: &str) {
    let message = json!({"from": from, "id": format!("wamid.{from}"), "timestamp": "1893456000",
        "type": "text", "text": {"body": "hello"}});
    let value = json!({"messages": [message], "contacts": [{"wa_id": from}]});
    let body = json!({"entry": [{"changes": [{"field": "messages", "value": value}]}]});
    let events = cloud::event::items(&body).into_iter().map(|item| NewEvent {
        key: item.key.clone(),
        recipient_hash: recipient_hash(&item.customer),
        payload: serde_json::to_string(&item).expect("plain JSON"),
        state: Default::default(),
    });
    let events: Vec<NewEvent> = events.collect();
    assert_eq!(cluster.db.store_events(&events).await.expect("stored"), 1);
    within(async {
        loop {
            let told = |webhook: &Value| webhook["messages"][0]["from"] == from;
            let seen = || cluster.seen.lock().expect("no panic before");
            if seen().webhooks.iter().any(told) {
                return;
            }
            clock::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// The texts that the upstream was called with, in order.
fn called(cluster: &Cluster) -> Vec<String> {
    let seen = cluster.seen.lock().expect("no panic before");
    let texts = seen.bodies.iter().map(|body| &body["text"]["body"]);
    texts
        .map(|text| text.as_str().unwrap_or_default().to_owned())
        .collect()
}

/// Waits until the upstream was called with this text: at which place.
async fn place_of(cluster: &Cluster, text: &str) -> usize {
    within(async {
        loop {
            if let Some(at) = called(cluster).iter().position(|one| one == text) {
                return at;
            }
            clock::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_written_is_answered_before_a_campaign() {
    let hook = json!({"callback_backoff_delay_ms": 50, "webhooks": {"url": "hook", "max_concurrent_requests": 6}});
    let slow = |settings: &mut Settings| {
        settings.upstream.rate_per_second = Some(40);
        settings.upstream.concurrency = 2;
    };
    let cluster = Cluster::start_at(hook, outside().await, slow).await;
    // The small business refuses the first call.
    cluster.seen.lock().expect("no panic before").webhook_calls = 1;
    campaign(&cluster).await;
    for customer in [NEW, LISTED] {
        writes(&cluster, customer).await;
    }
    let before = called(&cluster).len();
    let answers = vec![
        to("answer", NEW),
        to("answer to the listed", LISTED),
        to("one more", LISTED),
    ];
    cluster.accept_owned(&request(answers)).await;
    let mut last = 0;
    for text in ["listed", "answer to the listed", "one more", "answer"] {
        let at = place_of(&cluster, text).await;
        // Fewer than were in hand already: those in the store had no part in it.
        assert!(
            at < before + 256,
            "{text}: {at}, {before} were there before"
        );
        if text != "answer" {
            assert!(at >= last, "{text} overtook another one");
            last = at;
        }
    }
    // And the campaign goes on.
    let then = called(&cluster).len();
    within(async {
        while called(&cluster).len() < then + 40 {
            clock::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let all = called(&cluster);
    assert!(
        all[then..].iter().all(|text| text.starts_with('c')),
        "{all:?}"
    );
    assert!(all.len() < OTHERS, "there was no backlog any more");
}
