//! Statuses that come twice. Goal: the business is told once, whatever makes them two: a message with two ids at the upstream, an
//! error in the answer and by webhook, another spelling, another owner. Method: the coreapp on the embedded store, statuses as webapps
//! store them, and a message behind them whose own status says that all of them are worked off.

use super::*;
use crate::config::LateStatuses;

const CUSTOMER: &str = "447700900456";

async fn start() -> Cluster {
    start_with(|_| ()).await
}

async fn start_with(change: impl FnOnce(&mut Settings)) -> Cluster {
    let hook = json!({"callback_backoff_delay_ms": 50, "sent_status": true,
        "webhooks": {"url": "hook", "max_concurrent_requests": 6}});
    let cluster = Cluster::start_at(hook, outside().await, change).await;
    // The small business refuses the first call.
    cluster.seen.lock().expect("no panic before").webhook_calls = 1;
    cluster
}

/// A status of the message by one of its ids at the upstream, with our data.
fn status(id: &str, word: &str) -> Value {
    json!({"id": id, "status": word, "timestamp": "1893456000", "recipient_id": CUSTOMER,
        "biz_opaque_callback_data": format!("{OURS}.{:08x}", recipient_hash(CUSTOMER))})
}

/// Stores statuses, each as a call of its own; how many rows are new.
async fn store(cluster: &Cluster, statuses: &[Value]) -> u64 {
    let mut new = 0;
    for status in statuses {
        let call = json!({"entry": [{"changes": [{"value": {"statuses": [status]}}]}]});
        let items = cloud::event::items(&call);
        let row = |item: &cloud::event::Item| NewEvent {
            key: item.key.clone(),
            recipient_hash: recipient_hash(CUSTOMER),
            payload: serde_json::to_string(item).expect("plain JSON"),
            state: Default::default(),
        };
        let events: Vec<NewEvent> = items.iter().map(row).collect();
        new += cluster.db.store_events(&events).await.expect("stored");
    }
    new
}

/// Until nothing waits in the inbox.
async fn worked_off(cluster: &Cluster) {
    let own = cluster.own().await;
    within(async {
        while !cluster
            .db
            .pending_events(&own, 1, 10)
            .await
            .expect("read")
            .is_empty()
        {
            clock::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// The words that the business was told of the message, once nothing more waits.
async fn words(cluster: &Cluster) -> Vec<String> {
    worked_off(cluster).await;
    within(async {
        while cluster.db.webhook_depth().await.expect("read") > 0 {
            clock::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let seen = cluster.seen.lock().expect("no panic before");
    let statuses = seen
        .webhooks
        .iter()
        .filter_map(|told| told["statuses"].as_array());
    let of_it = statuses.flatten().filter(|status| status["id"] == OURS);
    of_it
        .map(|status| status["status"].as_str().expect("a word").to_owned())
        .collect()
}

async fn sent(cluster: &Cluster, text: &str, state: MessageState) {
    cluster
        .accept_owned(&request(vec![message(OURS, text)]))
        .await;
    cluster.state_of(OURS, state).await;
}

/// A message that was sent again after an unknown outcome has two ids, and each has all statuses: together, and one after the other.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_with_two_ids_is_told_once() {
    let cluster = start().await;
    sent(&cluster, "hello", MessageState::Sent).await;
    let all = ["sent", "delivered", "read"];
    let both = all.map(|word| [status("wamid.A", word), status("wamid.B", word)]);
    assert_eq!(store(&cluster, &both.concat()).await, 6);
    assert_eq!(words(&cluster).await, all);
    let third = all.map(|word| status("wamid.C", word));
    assert_eq!(store(&cluster, &third).await, 3);
    assert_eq!(words(&cluster).await, all);
}

/// An error in the answer to the send, then by webhook: under the id that the answer did not have, and without our data.
#[tokio::test(flavor = "multi_thread")]
async fn a_failure_in_the_answer_and_by_webhook_is_told_once() {
    let cluster = start().await;
    sent(&cluster, "refuse", MessageState::Failed).await;
    let failed = |id| {
        let mut failed = status(id, "failed");
        failed["errors"] = json!([{"code": 131047, "title": "Re-engagement message"}]);
        failed
    };
    assert_eq!(
        store(&cluster, &[failed("wamid.A"), failed("wamid.B")]).await,
        2
    );
    assert_eq!(words(&cluster).await, ["failed"]);
}

/// Failures of both ids, by webhook only; what arrived after all is told, and once.
#[tokio::test(flavor = "multi_thread")]
async fn two_failures_by_webhook_are_one() {
    let cluster = start().await;
    sent(&cluster, "hello", MessageState::Sent).await;
    let failed = ["wamid.A", "wamid.B"].map(|id| status(id, "failed"));
    store(&cluster, &failed).await;
    assert_eq!(words(&cluster).await, ["failed"]);
    let arrived = ["wamid.A", "wamid.B"].map(|id| status(id, "delivered"));
    store(&cluster, &arrived).await;
    store(&cluster, &[status("wamid.C", "failed")]).await;
    assert_eq!(words(&cluster).await, ["failed", "delivered"]);
}

/// The same status with the customer spelt otherwise, not named, and with a participant.
#[tokio::test(flavor = "multi_thread")]
async fn another_spelling_is_the_same_status() {
    let cluster = start().await;
    sent(&cluster, "hello", MessageState::Sent).await;
    let mut spelt = status("wamid.A", "delivered");
    spelt["recipient_id"] = "+44 7700 900456".into();
    let mut unnamed = status("wamid.B", "delivered");
    unnamed
        .as_object_mut()
        .expect("an object")
        .remove("recipient_id");
    let mut participant = status("wamid.A", "delivered");
    participant["recipient_participant_id"] = CUSTOMER.into();
    let all = [status("wamid.A", "delivered"), spelt, unnamed, participant];
    assert_eq!(store(&cluster, &all).await, 3, "one has the same key");
    assert_eq!(words(&cluster).await, ["delivered"]);
}

/// Another owner, and one of a release that writes no column `told`: what was told counts on.
#[tokio::test(flavor = "multi_thread")]
async fn another_owner_tells_nothing_again() {
    let cluster = start().await;
    sent(&cluster, "hello", MessageState::Sent).await;
    store(&cluster, &[status("wamid.A", "delivered")]).await;
    assert_eq!(words(&cluster).await, ["delivered"]);
    let Db::Sqlite(pool) = &cluster.db else {
        unreachable!("embedded");
    };
    let forget = sqlx::query("UPDATE message SET told='' WHERE id=?").bind(OURS);
    forget.execute(pool).await.expect("written");
    store(&cluster, &[status("wamid.B", "delivered")]).await;
    assert_eq!(words(&cluster).await, ["delivered"]);
}

/// Where late statuses are wanted, each of them is told once as well: `delivered` that was told before `read`, `sent` of both ids.
#[tokio::test(flavor = "multi_thread")]
async fn late_statuses_are_told_once() {
    let tell = |settings: &mut Settings| settings.client.late_statuses = LateStatuses::Tell;
    let cluster = start_with(tell).await;
    sent(&cluster, "hello", MessageState::Sent).await;
    store(&cluster, &[status("wamid.A", "read")]).await;
    assert_eq!(words(&cluster).await, ["delivered", "read"]);
    store(&cluster, &[status("wamid.A", "delivered")]).await;
    assert_eq!(words(&cluster).await, ["delivered", "read"]);
    for id in ["wamid.A", "wamid.B"] {
        store(&cluster, &[status(id, "sent")]).await;
        assert_eq!(words(&cluster).await, ["delivered", "read", "sent"], "{id}");
    }
}

/// A word that moves nothing, of both ids.
#[tokio::test(flavor = "multi_thread")]
async fn a_word_of_tomorrow_is_told_once() {
    let cluster = start().await;
    sent(&cluster, "hello", MessageState::Sent).await;
    let both = ["wamid.A", "wamid.B"].map(|id| status(id, "warning"));
    store(&cluster, &both).await;
    assert_eq!(words(&cluster).await, ["warning"]);
}

/// A message whose row was collected: its first status is told, the same one of its other id is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_not_kept_is_told_once() {
    let cluster = start().await;
    sent(&cluster, "hello", MessageState::Sent).await;
    let Db::Sqlite(pool) = &cluster.db else {
        unreachable!("embedded");
    };
    // What is collected has been in the map of ids for days.
    within(async {
        let mapped = async || cluster.db.upstream_id_of(OURS).await.expect("read");
        while mapped().await.is_none() {
            clock::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let collected = sqlx::query("DELETE FROM message WHERE id=?").bind(OURS);
    collected.execute(pool).await.expect("deleted");
    for id in ["wamid.A", "wamid.B"] {
        store(&cluster, &[status(id, "read")]).await;
        assert_eq!(words(&cluster).await, ["read"], "{id}");
    }
}
