//! Garbage collection by an owner. Goal: what was asked for is done and told once for each coreapp, what is young or unfinished
//! stays, and ids outlive their messages. Method: messages that are made nine days old by hand.

use super::*;
use crate::db::collection::{Kind, Part};
use crate::db::message_id::Named;

const NINE_DAYS_MS: i64 = 9 * 24 * 3600 * 1000;

async fn age(db: &Db, id: &str) {
    let Db::Sqlite(pool) = db else {
        panic!("the store is embedded")
    };
    let sql = "UPDATE message SET accepted_ms=accepted_ms-?, finished_ms=finished_ms-? WHERE id=?";
    let done = sqlx::query(sql)
        .bind(NINE_DAYS_MS)
        .bind(NINE_DAYS_MS)
        .bind(id)
        .execute(pool)
        .await;
    assert_eq!(done.expect("written").rows_affected(), 1);
}

fn part(node: &str, shard: Option<u16>) -> Part {
    Part {
        node: node.into(),
        shard,
    }
}

/// What the business was told of collections.
fn told(cluster: &Cluster) -> Vec<Value> {
    let seen = cluster.seen.lock().expect("no panic before");
    let all = seen.webhooks.iter();
    all.filter_map(|told| Some(told.get("services")?[0].clone()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_is_done_and_told_once() {
    let application = json!({"callback_backoff_delay_ms": 50, "webhooks": {"url": "hook", "max_concurrent_requests": 6,
        "message": {"sent": false, "delivered": false, "read": false}}});
    let cluster = Cluster::start(application).await;
    let ids = ["a", "b", "c"];
    let messages = ids.map(|id| message(id, "hello"));
    cluster.accept_owned(&request(messages.into())).await;
    for id in ids {
        cluster.state_of(id, MessageState::Sent).await;
    }
    cluster
        .db
        .remember_ids(&[("a", "wamid.a")])
        .await
        .expect("written");
    age(&cluster.db, "a").await;
    age(&cluster.db, "c").await;
    let parts = [part("c1", Some(0)), part("c2", None)];
    let begun = cluster.db.begin_collection(Kind::Messages, (7, 1), &parts);
    assert_eq!(begun.await.expect("written"), ["c1", "c2"]);
    within(async {
        while told(&cluster).len() < 2 {
            clock::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let mut all: Vec<(Option<u64>, Value)> = told(&cluster)
        .iter()
        .map(|told| &told["message"]["gc"])
        .map(|gc| (gc["messages_deleted"].as_u64(), gc["node"].clone()))
        .collect();
    all.sort_by_key(|(_, node)| node.to_string());
    assert_eq!(all, [(Some(2), json!("c1")), (Some(0), json!("c2"))]);
    assert_eq!(cluster.db.collections().await.expect("read"), []);
    let left = cluster.db.message_states().await.expect("read");
    assert_eq!(left, [("b".into(), MessageState::Sent)]);
    let named = cluster.db.named("b", "a").await.expect("read");
    assert_eq!(named, Named::Sent("wamid.a".into()));
    // Nothing more comes, though the owner looks again.
    clock::sleep(Duration::from_millis(2500)).await;
    assert_eq!(told(&cluster).len(), 2);
}
