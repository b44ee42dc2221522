//! Garbage collection by an owner. Goal: what was asked for is done and told once for each coreapp, what is young or unfinished
//! stays, and ids outlive their messages. Method: messages that are made nine days old by hand.

use std::sync::atomic::AtomicU16;

use super::super::collect::{KEEP_MS, PART_AGE, UNUSED_MS};
use super::super::sweep::{
    KEEP_HISTORY_MS, KEEP_REMOTE_MS, KEEP_UNREAD_MS, Sweep, UPLOADS_LEN, remote, unfinished,
};
use super::*;
use crate::db::collection::{Kind, Part};
use crate::db::event::State as Standing;
use crate::db::message_id::Named;
use crate::media::file::{FOLDERS, Files};

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

const DAY_MS: u64 = 24 * 3600 * 1000;
/// By so much a row is younger, or older, than it has to be to go: 7.9 days and 8.1.
const A_LITTLE_MS: u64 = DAY_MS / 10;

/// A statement with the time so long ago in place of `{}`, once for what stays and once for what goes.
async fn younger_and_older(db: &Db, keep_ms: u64, sql: &str) {
    let Db::Sqlite(pool) = db else {
        panic!("the store is embedded")
    };
    for (name, age_ms) in [
        ("stays", keep_ms - A_LITTLE_MS),
        ("goes", keep_ms + A_LITTLE_MS),
    ] {
        let at = clock::wall_ms() - age_ms;
        let sql = sql.replace("{at}", &at.to_string());
        let sql = sqlx::AssertSqlSafe(sql.replace("{name}", name));
        sqlx::query(sql).execute(pool).await.expect("written");
    }
}

async fn texts(db: &Db, sql: &'static str) -> Vec<String> {
    let Db::Sqlite(pool) = db else {
        panic!("the store is embedded")
    };
    let rows: Vec<(String,)> = sqlx::query_as(sql).fetch_all(pool).await.expect("read");
    rows.into_iter().map(|(text,)| text).collect()
}

/// Goal: keys of duplicates are kept for eight days, what nobody could read and the history for as long as is told. Method: rows
/// that are a little younger and a little older, and the sweeps with their own spans.
#[tokio::test]
async fn what_is_a_little_younger_is_not_swept() {
    const {
        assert!(KEEP_MS >= 8 * DAY_MS);
        assert!(KEEP_UNREAD_MS >= 30 * DAY_MS);
        assert!(KEEP_HISTORY_MS >= 400 * DAY_MS);
        assert!(UNUSED_MS >= 30 * DAY_MS);
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let settings = settings(directory.path(), at);
    let db = Db::connect(&settings.database, 1)
        .await
        .expect("a new file");
    db.ensure_lease_table().await.expect("made");
    db.migrate().await.expect("migrated");
    for (state, keep_ms) in [
        (Standing::Done, KEEP_MS),
        (Standing::Blank, KEEP_MS),
        (Standing::Foreign, KEEP_MS),
        (Standing::Unread, KEEP_UNREAD_MS),
    ] {
        let state = state as u8;
        let sql = format!(
            "INSERT INTO inbox (event_key, recipient_hash, payload, received_ms, processed) \
             VALUES ('{state}-{{name}}', 1, '{{}}', {{at}}, {state})"
        );
        younger_and_older(&db, keep_ms, &sql).await;
    }
    let sql = "INSERT INTO history (at_ms, node, shard, what, subject, reason) VALUES ({at}, '{name}', -1, '', '', '')";
    younger_and_older(&db, KEEP_HISTORY_MS, sql).await;
    for (sweep, gone) in [(Sweep::Events, 4), (Sweep::History, 1)] {
        let found = sweep.forget(&db, (Duration::MAX, Duration::MAX), 100).await;
        assert_eq!(found.expect("written"), gone, "{sweep:?}");
        let found = sweep.forget(&db, (Duration::MAX, Duration::MAX), 100).await;
        assert_eq!(found.expect("written"), 0, "{sweep:?}");
    }
    let sql = "INSERT INTO media (id, mime, bytes, sha256, created_ms, cloud_id, cloud_ms) \
         VALUES ('{name}', 'image/png', 0, 'x', {at}, 'c', 0-({at}))";
    younger_and_older(&db, KEEP_REMOTE_MS, sql).await;
    for gone in [1, 0] {
        let found = remote(&db, &Default::default(), 100).await;
        assert_eq!(found.expect("written"), gone, "files never fetched");
    }
    assert_eq!(texts(&db, "SELECT id FROM media").await, ["stays"]);
    let left = texts(&db, "SELECT event_key FROM inbox ORDER BY event_key").await;
    assert_eq!(left, ["1-stays", "2-stays", "4-stays", "5-stays"]);
    assert_eq!(texts(&db, "SELECT node FROM history").await, ["stays"]);
}

/// Goal: messages that are finished are kept for eight days, files that nobody uses for 30. Method: as above, by collections that
/// are asked for.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_a_little_younger_is_not_collected() {
    let (cluster, _place) = with_files().await;
    let db = &cluster.db;
    let messages = ["stays", "goes"].map(|id| message(id, "hello"));
    cluster.accept_owned(&request(messages.into())).await;
    for id in ["stays", "goes"] {
        cluster.state_of(id, MessageState::Sent).await;
    }
    let sql = "UPDATE message SET accepted_ms={at}, finished_ms={at} WHERE id='{name}'";
    younger_and_older(db, KEEP_MS, sql).await;
    let sql = "INSERT INTO media (id, mime, bytes, sha256, created_ms, cloud_id, cloud_ms) \
         VALUES ('{name}', 'image/png', 1, 'x', {at}, '', 0)";
    younger_and_older(db, UNUSED_MS, sql).await;
    execute(
        db,
        "UPDATE media SET id='f043afd0-0000-4000-8000-00000000000' || (id='goes')",
    )
    .await;
    for kind in [Kind::Messages, Kind::Media] {
        let parts = [part("c1", Some(0))];
        let begun = db.begin_collection(kind, (7, 1), &parts);
        begun.await.expect("written");
    }
    within(async {
        while !db.collections().await.expect("read").is_empty() {
            clock::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let left = db.message_states().await.expect("read");
    assert_eq!(left, [("stays".into(), MessageState::Sent)]);
    let left = texts(db, "SELECT id FROM media").await;
    assert_eq!(left, ["f043afd0-0000-4000-8000-000000000000"]);
}

/// Goal: uploads that broke off go by themselves, in bounded steps, and nothing else does. No setting is asked. Method: old ones
/// of three steps in one folder and one in the last, a young one, and whole files that are as old.
#[tokio::test]
async fn unfinished_uploads_go_by_themselves() {
    assert!(Sweep::ALL.contains(&Sweep::Uploads));
    let place = tempfile::tempdir().expect("a temporary directory");
    let now = std::time::UNIX_EPOCH + Duration::from_millis(clock::wall_ms());
    let age = |age: Duration| now - age;
    let (old, young) = (age(PART_AGE + PART_AGE / 10), age(PART_AGE - PART_AGE / 10));
    let put = |folder: &str, name: String, at| {
        let folder = place.path().join(folder);
        std::fs::create_dir_all(&folder).expect("made");
        let file = std::fs::File::create(folder.join(name)).expect("made");
        file.set_modified(at).expect("aged");
    };
    let id = |folder: &str, n: usize| format!("{folder}{n:06x}-0000-4000-8000-000000000000");
    let many = 2 * UPLOADS_LEN + 20;
    for n in 0..many {
        put("07", id("07", n) + ".part", old);
        put("07", id("07", n), old);
    }
    put("07", id("07", many) + ".part", young);
    put("ff", id("ff", 0) + ".part", old);
    let files = Files::new(place.path());
    let folder = AtomicU16::new(250);
    let mut steps = Vec::new();
    for _ in 0..FOLDERS + 2 {
        let gone = unfinished(&files, &folder).await.expect("read");
        steps.extend((gone > 0).then_some(gone));
    }
    assert_eq!(steps, [1, UPLOADS_LEN as u64, UPLOADS_LEN as u64, 20]);
    let left = std::fs::read_dir(place.path().join("07")).expect("read");
    assert_eq!(left.count(), many + 1, "whole files, and a young upload");
    assert_eq!(
        std::fs::read_dir(place.path().join("ff"))
            .expect("read")
            .count(),
        0
    );
}
