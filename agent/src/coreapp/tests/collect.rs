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

/// A cluster with a media directory.
async fn with_files() -> (Cluster, tempfile::TempDir) {
    let application = json!({"callback_backoff_delay_ms": 50, "webhooks": {"url": "hook", "max_concurrent_requests": 6}});
    let place = tempfile::tempdir().expect("a temporary directory");
    let directory = place.path().to_owned();
    let change = |settings: &mut Settings| settings.media.directory = directory;
    let cluster = Cluster::start_at(application, outside().await, change).await;
    (cluster, place)
}

async fn execute(db: &Db, sql: &'static str) {
    let Db::Sqlite(pool) = db else {
        panic!("the store is embedded")
    };
    sqlx::query(sql).execute(pool).await.expect("written");
}

/// Goal: files hold up no messages, however many there are. Method: files that are collected for half a minute at least, because
/// each is followed by a rest, and messages that are asked for meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_collection_of_files_holds_up_no_messages() {
    let (cluster, _place) = with_files().await;
    cluster
        .accept_owned(&request(vec![message("a", "hello")]))
        .await;
    cluster.state_of("a", MessageState::Sent).await;
    age(&cluster.db, "a").await;
    execute(
        &cluster.db,
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<3000) \
         INSERT INTO media (id, mime, bytes, sha256, created_ms, cloud_id, cloud_ms) \
         SELECT printf('%08x-0000-4000-8000-000000000000', i), 'image/png', 1, 'x', 1, '', 0 FROM n",
    )
    .await;
    for kind in [Kind::Media, Kind::Messages] {
        let parts = [part("c1", Some(0))];
        let begun = cluster.db.begin_collection(kind, (7, 1), &parts);
        assert_eq!(begun.await.expect("written"), ["c1"]);
    }
    within(async {
        while !told(&cluster)
            .iter()
            .any(|told| told["message"].is_object())
        {
            clock::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let running = cluster.db.collections().await.expect("read");
    let kinds: Vec<Kind> = running.iter().map(|part| part.kind).collect();
    assert_eq!(kinds, [Kind::Media], "{:?}", told(&cluster));
}

/// Goal: what broken uploads left is collected in small steps, too. Method: 400 old files without rows in one folder; how many are
/// counted grows in several steps.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_over_goes_in_small_steps() {
    let (cluster, place) = with_files().await;
    let folder = place.path().join("00");
    std::fs::create_dir_all(&folder).expect("made");
    let long_ago = std::time::UNIX_EPOCH + Duration::from_secs(1);
    for n in 0..400 {
        let path = folder.join(format!("00{n:06x}-0000-4000-8000-000000000000"));
        let file = std::fs::File::create(path).expect("made");
        file.set_modified(long_ago).expect("made older");
    }
    let parts = [part("c1", Some(0))];
    let begun = cluster.db.begin_collection(Kind::Media, (7, 1), &parts);
    begun.await.expect("written");
    let mut counts = Vec::new();
    within(async {
        while let [running] = cluster.db.collections().await.expect("read")[..].as_ref() {
            if counts.last() != Some(&running.deleted) {
                counts.push(running.deleted);
            }
            if running.deleted >= 400 {
                return;
            }
            clock::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    assert!(counts.len() >= 5, "{counts:?}");
    assert_eq!(std::fs::read_dir(&folder).expect("read").count(), 0);
}
