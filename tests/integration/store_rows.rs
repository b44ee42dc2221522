//! Goal: what owners ask again and again, and what a takeover asks, costs the same however many messages are finished. Method:
//! 60,000 messages of which 600 are not finished; MariaDB counts the rows that it reads for each statement. Times are measured by
//! `cargo xtask bench rows`.

use std::time::Duration;

use wa_agent::db::body::Bodies;
use wa_agent::db::count::EXACT_LEN;
use wa_agent::db::inbox::NewEvent;
use wa_agent::db::message::{Accepted, Finish, Finished};
use wa_agent::db::past::{Part, UNFINISHED_EVERY};

use crate::store::{Store, by_hand, message};

const MESSAGES: u64 = 60_000;
const UNFINISHED: i64 = (MESSAGES / UNFINISHED_EVERY) as i64;
const DAY_MS: u64 = 24 * 3600 * 1000;

/// Rows of all tables that the server has read for everybody so far, as it says itself.
async fn rows_read(connection: &mut sqlx::MySqlConnection) -> i64 {
    let sql = "SELECT CAST(COALESCE(SUM(ROWS_READ), 0) AS SIGNED) FROM information_schema.TABLE_STATISTICS \
               WHERE TABLE_SCHEMA=DATABASE()";
    let read: (i64,) = sqlx::query_as(sql)
        .fetch_one(connection)
        .await
        .expect("read");
    read.0
}

/// A look at the server's counters, and what read too many rows.
struct Watch {
    c: sqlx::MySqlConnection,
    bad: Vec<String>,
}

/// Runs it, and judges how many rows the server read for it.
macro_rules! reads {
    ($watch:expr, $most:expr, $what:literal, $statement:expr) => {{
        let before = rows_read(&mut $watch.c).await;
        let answer = $statement.await.expect($what);
        let read = rows_read(&mut $watch.c).await - before;
        if read > $most {
            $watch.bad.push(format!("{}: {read} rows", $what));
        }
        answer
    }};
}

async fn fill(store: &Store) {
    for part in [Part::Finished, Part::Unfinished, Part::Ids, Part::Events] {
        let filled = store.db.fill_past(part, MESSAGES, |_| {});
        filled.await.expect("filled");
    }
    store.db.look_at_past().await.expect("looked at");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_statement_goes_through_what_is_finished() {
    let Some(store) = Store::mariadb("no_statement_goes_through_what_is_finished").await else {
        return;
    };
    let mut cluster = store.cluster(1).await;
    let own = cluster.promote(0, "c1:coreapp-1", 2).await;
    let mut c = by_hand(&store.settings.urls[0]).await;
    let on = sqlx::raw_sql("SET GLOBAL userstat=1").execute(&mut c);
    on.await.expect("counted from now on");
    fill(&store).await;
    let db = &store.db;
    // What counts can count.
    let before = rows_read(&mut c).await;
    assert_eq!(
        db.message_states().await.expect("all").len() as u64,
        MESSAGES
    );
    assert!(rows_read(&mut c).await - before >= MESSAGES as i64);
    let mut c = Watch { c, bad: Vec::new() };

    let messages: Vec<_> = (0..64).map(|n| message(&format!("m{n}"), "x")).collect();
    let new = reads!(c, 300, "accepted", db.accept(&own, &messages, false));
    assert_eq!(new, vec![Accepted::New; 64]);
    let again = reads!(c, 300, "again", db.accept(&own, &messages, false));
    assert_eq!(again, vec![Accepted::Duplicate; 64]);
    let claimed = reads!(c, 700, "claimed", db.claim(&own, 1, 256));
    assert_eq!(claimed.len(), 64, "those that are due, and no others");
    let sent: Vec<(String, String)> = (claimed.iter())
        .map(|one| (one.id.clone(), format!("wamid.{}", one.id)))
        .collect();
    let outcomes: Vec<Finish> = sent
        .iter()
        .map(|(id, wamid)| Finish {
            id: id.clone(),
            to: Finished::Sent {
                wamid: wamid.clone(),
            },
            claims: 1,
        })
        .collect();
    let gone = Bodies::Gone {
        left: Default::default(),
    };
    let recorded = db.finish_and_tell(&own, &outcomes, (&[], &[]), &gone);
    assert!(reads!(c, 300, "recorded", recorded));
    let pairs: Vec<(&str, &str)> = (sent.iter())
        .map(|(a, b)| (a.as_str(), b.as_str()))
        .collect();
    reads!(c, 300, "ids", db.remember_ids(&pairs));
    let events: Vec<NewEvent> = sent
        .iter()
        .map(|(_, wamid)| NewEvent {
            key: format!("{wamid}:sent"),
            recipient_hash: 2,
            payload: "{}".into(),
            state: Default::default(),
        })
        .collect();
    reads!(c, 100, "stored", db.store_events(&events));
    let pending = reads!(c, 300, "pending", db.pending_events(&own, 1, 256));
    assert_eq!(pending.len(), 64);
    take_over(&store, &mut c).await;
    assert!(c.bad.is_empty(), "{:?}", c.bad);
}

/// The next tenure, and what it asks while it lasts.
async fn take_over(store: &Store, c: &mut Watch) {
    let db = &store.db;
    // The past was begun under epoch 1; it ends in the hands of this owner.
    let own = store_owner(store).await;
    let few = 4 * UNFINISHED + 200;
    let left = reads!(c, few, "left behind", db.left_behind(&own, 1, 64));
    assert!(!left.is_empty());
    let marked = reads!(c, few, "half sent", db.mark_ambiguous(&own, 1));
    assert_eq!(marked, MESSAGES / UNFINISHED_EVERY / 200);
    reads!(c, few, "in hand", db.claimed_by(&own, 1024));
    reads!(c, few, "due again", db.make_fresh_due(&own, 1));
    reads!(c, 64, "newest ids", db.remember_newest(8));
    reads!(c, few, "newer form", db.newer_form(99));
    let over = db.overdue_ambiguous(&own, 1, Duration::from_secs(30), 256);
    assert!(!reads!(c, few, "windows that are over", over).is_empty());
    reads!(c, few, "unknown", db.unknown_of(&own, 1, 3));
    reads!(c, 600, "receipts", db.receipts_around(1000));
    assert!(reads!(c, few, "unfinished", db.outbox_depth()) >= UNFINISHED as u64);
    reads!(c, few, "waiting", db.waiting_of(0, 4));
    reads!(c, 300, "without a place", db.unplaced_events(None, 256));
    reads!(c, 300, "kept", db.kept_events(50));
    reads!(c, 300, "kept, counted", db.kept_counts());
    reads!(c, 300, "bodies", db.bodies_due(0, 50));
    let old = (8 * DAY_MS, 30 * DAY_MS);
    reads!(c, 300, "old events", db.forget_events(old, 1000));
    reads!(c, 300, "old ids", db.forget_ids(400 * DAY_MS, 1000));
    reads!(c, 300, "collected", db.oldest_messages(0, 8 * DAY_MS, 250));
    let counted = reads!(c, EXACT_LEN + 2000, "counted", db.documented_counts());
    let all: u64 = counted.messages.iter().map(|(_, n)| n).sum();
    assert!(
        (MESSAGES * 9 / 10..MESSAGES * 11 / 10).contains(&all),
        "{all}"
    );
}

async fn store_owner(store: &Store) -> wa_core::id::Ownership {
    let mut c = store.lease("m1:master-1");
    let row = c.snapshot().await.expect("a snapshot").shards.remove(0);
    crate::store::ownership(0, "c1:coreapp-1", row.epoch.0)
}
