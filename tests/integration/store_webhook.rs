//! Goal: what waits for the business is kept, read in order and bounded, and gone once it was taken; what was refused for too long is
//! kept aside until an operator says so. Method: every statement of the webhook tables, in and out of turn.

use wa_agent::api::parked::What;
use wa_core::delivery::{LINE_LEN_MAX, Results};
use wa_core::id::Ownership;

use crate::store::{Store, by_hand, due_webhooks, eventually, on_every_store, results};
use crate::store_clock::set_back;

on_every_store![
    webhooks_wait_and_go,
    webhooks_are_read_in_pages,
    a_parked_webhook_is_kept_and_comes_back,
    a_webhook_keeps_its_age,
];

async fn queue(store: &Store, own: &Ownership, key: &str, customer: u32) {
    let queued = store
        .db
        .queue_webhook(own, key, customer, "{\"statuses\":[]}");
    assert!(queued.await.unwrap());
}

async fn webhooks_wait_and_go(store: &Store) {
    let own = store.cluster(1).await.promote(0, "c1:coreapp-1", 1).await;
    let db = &store.db;
    for n in 0..3 {
        queue(store, &own, &format!("w{n}"), 2).await;
    }
    let due = due_webhooks(db, &own).await;
    assert_eq!(due.len(), 3);
    let done = results(&[due[0].id], &[(due[1].id, 200), (due[2].id, 60_000)]);
    assert!(db.webhooks_done(&own, &done).await.unwrap());
    assert_eq!(db.webhook_depth().await.unwrap(), 2);
    assert!(due_webhooks(db, &own).await.is_empty(), "put off");
    assert!(
        eventually(|| async {
            let due = due_webhooks(db, &own).await;
            due.iter().any(|d| d.id == due[0].id && d.attempts == 1)
        })
        .await
    );
}

/// Two shards of two, one customer with many.
async fn webhooks_are_read_in_pages(store: &Store) {
    let mut cluster = store.cluster(2).await;
    let own = cluster.promote(0, "c1:coreapp-1", 1).await;
    let other = cluster.promote(1, "c2:coreapp-1", 2).await;
    let db = &store.db;
    let many = LINE_LEN_MAX + 4;
    for n in 0..many {
        queue(store, &own, &format!("a{n}"), 4).await;
        queue(store, &other, &format!("b{n}"), 3).await;
    }
    queue(store, &own, "c", 6).await;
    let (mut after, mut customers, mut pages) = (0, Vec::new(), 0);
    loop {
        let page = db.webhooks_behind(&own, 2, after, (10, 900_000)).await;
        let page = page.unwrap();
        assert!(page.rows.len() <= 10 && page.rows.is_sorted_by_key(|row| row.id));
        assert!(
            page.rows.iter().all(|row| row.bytes > 2),
            "the own payloads"
        );
        customers.extend(page.rows.iter().map(|row| row.customer));
        pages += 1;
        after = page.last.unwrap_or(after);
        if !page.full {
            break;
        }
    }
    assert_eq!(customers.len(), many + 1);
    assert!(customers.starts_with(&[4, 4]) && customers.ends_with(&[4, 6]));
    assert_eq!(pages, (2 * many + 1).div_ceil(10));

    let of = db.webhooks_of(&[(4, 0), (6, 0), (8, 0)], 900_000).await;
    let of = of.unwrap();
    assert_eq!(of.len(), LINE_LEN_MAX + 1);
    assert!(of.is_sorted_by_key(|row| row.id));
    let last = of.iter().rfind(|row| row.customer == 4).unwrap().id;
    let rest = db.webhooks_of(&[(4, last)], 900_000).await.unwrap();
    assert_eq!(rest.len(), 4, "behind those");

    let (ids, last, full) = db.webhook_ids(&own, 2, 0, 1000).await.unwrap();
    assert_eq!((ids.len(), last, full), (many + 1, Some(after), false));
    let counted = db.webhooks_counted(&own, 2, 0, 1000).await.unwrap();
    assert_eq!(counted, (many as u64 + 1, after, false));
    let counted = db.webhooks_counted(&other, 2, 0, 10).await.unwrap();
    assert_eq!((counted.0, counted.2), (5, true));
}

async fn park(store: &Store, own: &Ownership, ids: &[i64]) {
    let done = Results {
        parked: ids
            .iter()
            .map(|id| (*id, "answered 500 \u{20ac}".repeat(40)))
            .collect(),
        ..Results::default()
    };
    assert!(store.db.webhooks_done(own, &done).await.unwrap());
    // What was done once is not done again.
    assert!(store.db.webhooks_done(own, &done).await.unwrap());
}

async fn a_parked_webhook_is_kept_and_comes_back(store: &Store) {
    let mut cluster = store.cluster(1).await;
    let stale = cluster.promote(0, "c1:coreapp-1", 1).await;
    let own = cluster.hand_over(0, "c2:coreapp-1", 2).await;
    let db = &store.db;
    for n in 0..4 {
        queue(store, &own, &format!("w{n}"), n % 2).await;
    }
    let due = due_webhooks(db, &own).await;
    let late = Results {
        parked: vec![(due[0].id, "late".into())],
        ..Results::default()
    };
    assert!(!db.webhooks_done(&stale, &late).await.unwrap());
    assert_eq!(db.parked_count(None).await.unwrap(), 0);
    assert_eq!(due_webhooks(db, &own).await.len(), 4);
    park(store, &own, &[due[0].id, due[1].id, due[2].id]).await;
    assert_eq!(due_webhooks(db, &own).await.len(), 1);
    assert_eq!(db.parked_count(None).await.unwrap(), 3);
    assert_eq!(db.parked_count(Some((1, 2))).await.unwrap(), 1);
    let parked = db.parked_webhooks(10).await.unwrap();
    let events: Vec<&str> = parked.iter().map(|one| one.event.as_str()).collect();
    assert_eq!(events, ["w0", "w1", "w2"]);
    let first = &parked[0];
    assert_eq!((first.tells.as_str(), first.attempts), ("status", 1));
    assert!(first.why.starts_with("answered 500") && first.why.chars().count() == 200);
    assert!(first.since_ms <= first.parked_ms && first.since_ms > 1_000_000_000_000);

    let ids = [first.id, parked[2].id];
    assert_eq!(db.parked_ids(&ids, None, 10).await.unwrap(), ids);
    assert_eq!(
        db.parked_ids(&[], Some(first.id), 10).await.unwrap(),
        [first.id]
    );
    db.unpark(What::Retry, &ids).await.unwrap();
    db.unpark(What::Retry, &ids).await.unwrap();
    let again = due_webhooks(db, &own).await;
    assert_eq!(again.len(), 3, "once each");
    assert!(again.iter().all(|row| row.attempts == 0));
    assert!(again[1].id > due[3].id, "behind those that wait");
    db.unpark(What::Purge, &[parked[1].id]).await.unwrap();
    assert_eq!(db.parked_count(None).await.unwrap(), 0);
    assert_eq!(db.parked_last().await.unwrap(), None);
    assert_eq!(due_webhooks(db, &own).await.len(), 3);
}

/// A week ago stays a week ago, however often it was tried since.
async fn a_webhook_keeps_its_age(store: &Store) {
    const WEEK_MS: i64 = 7 * 24 * 3600 * 1000;
    let own = store.cluster(1).await.promote(0, "c1:coreapp-1", 1).await;
    let db = &store.db;
    queue(store, &own, "w", 2).await;
    set_back(store, "webhook", "next_ms", -WEEK_MS).await;
    let week = std::time::Duration::from_millis(WEEK_MS.unsigned_abs());
    for _ in 0..3 {
        let page = db.webhooks_behind(&own, 1, 0, (10, 900_000)).await.unwrap();
        let row = &page.rows[0];
        assert!(row.age >= week && row.age < week * 2, "{:?}", row.age);
        let put_off = results(&[], &[(row.id, 60_000)]);
        assert!(db.webhooks_done(&own, &put_off).await.unwrap());
    }
    queue(store, &own, "new", 2).await;
    let due = due_webhooks(db, &own).await;
    assert!(due[0].age < week);
}

/// Rows of the webhook table that the server has read for everybody so far, as it says itself.
async fn rows_read(connection: &mut sqlx::MySqlConnection) -> i64 {
    let sql = "SELECT CAST(COALESCE(SUM(ROWS_READ), 0) AS SIGNED) FROM information_schema.TABLE_STATISTICS \
               WHERE TABLE_SCHEMA=DATABASE() AND TABLE_NAME='webhook'";
    let read: (i64,) = sqlx::query_as(sql)
        .fetch_one(connection)
        .await
        .expect("read");
    read.0
}

/// Runs it, and judges how many rows the server read for it.
macro_rules! reads {
    ($connection:expr, $most:expr, $what:literal, $statement:expr) => {{
        let before = rows_read($connection).await;
        let answer = $statement.await.expect($what);
        let read = rows_read($connection).await - before;
        assert!(
            read <= $most,
            "{}: {read} rows of the backlog are read",
            $what
        );
        answer
    }};
}

/// Goal: what a coreapp asks again and again costs the same, however many webhooks wait. Method: 60,000 rows of another shard before
/// the own ones, and some of them put off; the server counts the rows that it reads for each statement.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_statement_goes_through_the_backlog() {
    let Some(store) = Store::mariadb("no_statement_goes_through_the_backlog").await else {
        return;
    };
    let mut cluster = store.cluster(2).await;
    let own = cluster.promote(0, "c1:coreapp-1", 1).await;
    let mut c = by_hand(&store.settings.urls[0]).await;
    let fill = "SET GLOBAL userstat=1; SET SESSION max_recursive_iterations=100000; \
        INSERT INTO webhook (event_key, recipient_hash, payload, attempts, next_ms) \
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<60000) \
        SELECT CONCAT('fill', i), i%20000*2+1, '{\"statuses\":[]}', IF(i%50=0, 3, 0), IF(i%50=0, 99999999999999, 1) FROM n; \
        ANALYZE TABLE webhook";
    sqlx::raw_sql(fill).execute(&mut c).await.expect("filled");
    let filled: (i64,) = sqlx::query_as("SELECT COUNT(*) FROM webhook")
        .fetch_one(&mut c)
        .await
        .expect("counted");
    assert_eq!(filled.0, 60_000, "the server keeps what it says");
    for n in 0..50 {
        queue(&store, &own, &format!("own{n}"), 2 * (n % 10)).await;
    }
    let db = &store.db;
    let c = &mut c;
    let page = reads!(
        c,
        97,
        "ahead",
        db.webhooks_behind(&own, 2, 0, (96, 900_000))
    );
    assert!(page.rows.is_empty() && page.full);
    let asked: Vec<(u32, i64)> = (0..16).map(|n| (n, 0)).collect();
    let of = reads!(c, 16 * 17, "by customer", db.webhooks_of(&asked, 900_000));
    assert!(of.len() >= 40, "{}", of.len());
    reads!(c, 1001, "passed by", db.webhook_ids(&own, 2, 30_000, 1000));
    reads!(
        c,
        10_001,
        "counted",
        db.webhooks_counted(&own, 2, 30_000, 10_000)
    );
    let some: Vec<i64> = of.iter().take(20).map(|row| row.id).collect();
    let done = results(&some[..10], &[(some[11], 1000)]);
    assert!(reads!(c, 60, "recorded", db.webhooks_done(&own, &done)));
    let parked = Results {
        parked: vec![(some[12], "no".into())],
        ..Results::default()
    };
    assert!(reads!(c, 10, "parked", db.webhooks_done(&own, &parked)));
    reads!(c, 0, "parked ones counted", db.parked_count(Some((0, 2))));
    reads!(c, 0, "what else waits", db.waiting_of(0, 2));
    reads!(c, 0, "a tenure begins", db.make_fresh_due(&own, 2));
}
