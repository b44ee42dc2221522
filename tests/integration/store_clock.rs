//! Goal (F12): a database whose clock is set back keeps nothing waiting for longer than the longest pause of its kind, and one
//! that is set forward loses nothing. Method: the rows' times are shifted, which is the same to them as a clock that was set
//! the other way.

use std::time::Duration;

use wa_agent::db::message::{Finish, Finished};
use wa_core::id::Ownership;

use crate::store::{Store, due_webhooks, message, on_every_store, results};

on_every_store![
    f12_a_retry_waits_no_longer_than_the_longest_pause,
    f12_a_webhook_waits_no_longer_than_the_longest_pause,
    f12_what_was_never_tried_is_due_again,
    f12_all_is_due_when_the_step_was_seen,
    f12_a_message_of_unknown_fate_waits_on_from_the_step,
    f12_a_claimed_row_is_brought_forward,
    f12_tokens_live_no_longer_than_a_new_one,
    f12_a_file_from_the_future_is_uploaded_again,
    f12_a_leap_leaves_nobody_out_of_a_rotation_of_keys,
    f12_a_node_is_as_old_as_it_was_watched,
    claims_of_two_shards_stand_in_one_order,
];

const LONGEST_MS: u64 = 900_000;
const HOUR_MS: i64 = 3_600_000;

/// The clock is set back by so many milliseconds: `table.column` lies so much further ahead.
pub async fn set_back(store: &Store, table: &str, column: &str, ms: i64) {
    let sql = format!("UPDATE {table} SET {column}={column}+{ms}");
    store.run(&sql).await;
}

/// Accepts a message and claims it.
async fn claimed(store: &Store, id: &str) -> Ownership {
    let own = store.cluster(1).await.promote(0, "c1:coreapp-1", 1).await;
    let group = [message(id, "x")];
    store.db.accept(&own, &group, false).await.unwrap();
    assert_eq!(claims(store, &own).await, 1);
    own
}

async fn claims(store: &Store, own: &Ownership) -> usize {
    store.db.claim(own, 1, 10).await.unwrap().len()
}

/// Goal: the order of claims is one for all shards, however many fit into one tick of the database's clock. Method: two owners
/// claim in turn, one of them after several other commits in the same tick.
async fn claims_of_two_shards_stand_in_one_order(store: &Store) {
    let mut master = store.cluster(2).await;
    let busy = master.promote(0, "c1:coreapp-1", 1).await;
    let calm = master.promote(1, "c2:coreapp-1", 2).await;
    let mut ids = Vec::new();
    for round in 0..20 {
        for n in 0..4 {
            let id = format!("busy-{round}-{n}");
            store
                .db
                .accept(&busy, &[message(&id, "x")], true)
                .await
                .unwrap();
            ids.push(id);
        }
        let id = format!("calm-{round}");
        store
            .db
            .accept(&calm, &[message(&id, "x")], true)
            .await
            .unwrap();
        ids.push(id);
    }
    for owner in [&busy, &calm] {
        let finish = |id: &String| Finish {
            id: id.clone(),
            to: Finished::Ambiguous,
            claims: i64::MAX,
        };
        let outcomes: Vec<Finish> = ids.iter().map(finish).collect();
        assert!(store.db.finish(owner, &outcomes).await.unwrap());
    }
    let mut all = Vec::new();
    for owner in [&busy, &calm] {
        let overdue = store.db.overdue_ambiguous(owner, 2, Duration::ZERO, 1000);
        all.extend(overdue.await.unwrap());
    }
    all.sort_by_key(|message| message.claim_order);
    let ordered: Vec<&String> = all.iter().map(|message| &message.id).collect();
    assert_eq!(ordered, ids.iter().collect::<Vec<_>>());
}

async fn put_off(store: &Store, own: &Ownership, id: &str, delay_ms: u64) {
    let finish = Finish {
        id: id.into(),
        to: Finished::Retry { delay_ms },
        claims: i64::MAX,
    };
    assert!(store.db.finish(own, &[finish]).await.unwrap());
    assert_eq!(claims(store, own).await, 0, "put off");
}

async fn f12_a_retry_waits_no_longer_than_the_longest_pause(store: &Store) {
    let own = claimed(store, "a").await;
    for step in [HOUR_MS, -HOUR_MS, 24 * HOUR_MS] {
        put_off(store, &own, "a", 30_000).await;
        set_back(store, "message", "next_ms", step).await;
        assert_eq!(claims(store, &own).await, 1, "{step}");
    }
    // The longest pause is kept.
    put_off(store, &own, "a", LONGEST_MS - 1000).await;
}

async fn f12_a_webhook_waits_no_longer_than_the_longest_pause(store: &Store) {
    let own = store.cluster(1).await.promote(0, "c1:coreapp-1", 1).await;
    let db = &store.db;
    assert!(db.queue_webhook(&own, "w", 2, "{}").await.unwrap());
    let due = async || due_webhooks(db, &own).await;
    for step in [HOUR_MS, -HOUR_MS, 24 * HOUR_MS] {
        let id = due().await[0].id;
        let put_off = results(&[], &[(id, 30_000)]);
        db.webhooks_done(&own, &put_off).await.unwrap();
        assert!(due().await.is_empty(), "put off");
        set_back(store, "webhook", "next_ms", step).await;
        assert_eq!(due().await.len(), 1, "{step}");
    }
}

async fn f12_what_was_never_tried_is_due_again(store: &Store) {
    let own = claimed(store, "a").await;
    let db = &store.db;
    put_off(store, &own, "a", 30_000).await;
    db.accept(&own, &[message("b", "y")], false).await.unwrap();
    assert!(db.queue_webhook(&own, "w", 2, "{}").await.unwrap());
    for (table, column) in [
        ("message", "next_ms"),
        ("message", "accepted_ms"),
        ("webhook", "next_ms"),
    ] {
        set_back(store, table, column, HOUR_MS / 12).await;
    }
    assert_eq!(claims(store, &own).await, 0, "five minutes ahead");
    assert_eq!(db.make_fresh_due(&own, 1).await.unwrap(), 1);
    let claimed = db.claim(&own, 1, 10).await.unwrap();
    assert_eq!(claimed.len(), 1);
    assert_eq!(claimed[0].id, "b", "the other one has its pause");
    let due = due_webhooks(db, &own).await;
    assert_eq!(due.len(), 1);
}

async fn f12_all_is_due_when_the_step_was_seen(store: &Store) {
    let mut cluster = store.cluster(1).await;
    let old = cluster.promote(0, "c1:coreapp-1", 1).await;
    let group = [message("a", "x")];
    store.db.accept(&old, &group, false).await.unwrap();
    assert_eq!(claims(store, &old).await, 1);
    put_off(store, &old, "a", 30_000).await;
    set_back(store, "message", "next_ms", HOUR_MS / 12).await;
    assert_eq!(claims(store, &old).await, 0);
    assert_eq!(store.db.make_due(&old, 1).await.unwrap(), 1);
    assert_eq!(claims(store, &old).await, 1);
    put_off(store, &old, "a", 30_000).await;
    // A stale owner changes nothing.
    let new = cluster.promote(0, "c2:coreapp-1", 2).await;
    assert_eq!(store.db.make_due(&old, 1).await.unwrap(), 0);
    assert_eq!(claims(store, &new).await, 0);
}

/// Goal: the waiting of a message of unknown fate grows and is bounded, though the clock was set back. Method: an hour back,
/// the step is seen, six seconds go by.
async fn f12_a_message_of_unknown_fate_waits_on_from_the_step(store: &Store) {
    let own = claimed(store, "a").await;
    let finish = Finish {
        id: "a".into(),
        to: Finished::Ambiguous,
        claims: i64::MAX,
    };
    assert!(store.db.finish(&own, &[finish]).await.unwrap());
    let window = std::time::Duration::from_secs(5);
    let overdue = async || {
        let overdue = store.db.overdue_ambiguous(&own, 1, window, 10).await;
        overdue.unwrap()
    };
    assert!(overdue().await.is_empty(), "it has not waited yet");
    set_back(store, "message", "next_ms", HOUR_MS).await;
    assert_eq!(store.db.make_due(&own, 1).await.unwrap(), 1);
    assert!(overdue().await.is_empty(), "its window begins anew");
    assert_eq!(store.db.make_fresh_due(&own, 1).await.unwrap(), 0);
    // A tenure that begins in rows from before the step finds it as well.
    set_back(store, "message", "next_ms", HOUR_MS).await;
    assert_eq!(store.db.make_fresh_due(&own, 1).await.unwrap(), 1);
    set_back(store, "message", "next_ms", -20_000).await;
    let waited = overdue().await[0].waited();
    assert!(waited.as_secs() >= 20, "{waited:?}");
}

/// A claim may turn out lost after the step: its row is queued again with the moment that it names (106 of 60,000 seeds).
async fn f12_a_claimed_row_is_brought_forward(store: &Store) {
    let own = claimed(store, "a").await;
    set_back(store, "message", "next_ms", HOUR_MS).await;
    assert_eq!(store.db.make_due(&own, 1).await.unwrap(), 1);
    assert_eq!(store.db.make_due(&own, 1).await.unwrap(), 0);
}

async fn f12_tokens_live_no_longer_than_a_new_one(store: &Store) {
    let _tables = store.cluster(1).await;
    let db = &store.db;
    let user = wa_agent::db::user::User {
        username: "ann".into(),
        password_hash: "h".into(),
        admin: 0,
        must_change: 0,
    };
    assert!(db.create_user(&user).await.unwrap());
    assert!(db.store_token("t", &user, 60_000).await.unwrap());
    let known = async || db.token_user("t").await.unwrap().is_some();
    set_back(store, "token", "expires_ms", 24 * 365 * HOUR_MS).await;
    db.forget_tokens(1000).await.unwrap();
    assert!(known().await, "nobody is logged out");
    set_back(store, "token", "expires_ms", -7 * 24 * HOUR_MS - 60_000).await;
    assert!(!known().await);
    assert_eq!(db.forget_tokens(1000).await.unwrap(), 1);
}

async fn f12_a_file_from_the_future_is_uploaded_again(store: &Store) {
    let _tables = store.cluster(1).await;
    let db = &store.db;
    let medium = wa_agent::db::media::Medium {
        id: "m".into(),
        mime: "image/png".into(),
        bytes: 1,
        sha256: "00".into(),
    };
    db.add_medium(&medium).await.unwrap();
    db.set_cloud_medium("m", "c").await.unwrap();
    let known = async || db.cloud_medium("m", 60_000).await.unwrap().is_some();
    assert!(known().await);
    set_back(store, "media", "cloud_ms", HOUR_MS).await;
    assert!(!known().await);
}

async fn registered(store: &Store) {
    let _tables = store.cluster(1).await;
    let registration = wa_agent::db::node::Registration {
        role: wa_core::id::Role::Coreapp,
        node: wa_core::id::NodeId::new("c1:coreapp-1"),
        incarnation: wa_core::id::Incarnation {
            counter: 1,
            random: 1,
        },
        machine: "m".into(),
        zone: String::new(),
        address: "127.0.0.1".into(),
        port_heartbeat: 1,
        port_control: 2,
        port_api: 3,
        version: "0".into(),
        weight: 0,
        keys: ("a1".into(), "a1".into()),
    };
    store.db.register(&registration).await.unwrap();
}

/// Goal: a rotation of keys waits for every node that may be alive: one that is left out keeps a key that nobody takes any
/// more. Method: the clock leaps by an hour and by two days, before its rows were ever read and after.
async fn f12_a_leap_leaves_nobody_out_of_a_rotation_of_keys(store: &Store) {
    registered(store).await;
    let live = std::time::Duration::from_secs(120);
    let watched = std::sync::Mutex::default();
    for leap in [0, -HOUR_MS, -48 * HOUR_MS, 49 * HOUR_MS] {
        set_back(store, "node", "beat_ms", leap).await;
        for roll in [&watched, &std::sync::Mutex::default()] {
            let nodes = store.db.node_keys(roll, live).await.unwrap();
            assert_eq!(nodes.len(), 1, "{leap}");
            assert!(nodes[0].live, "{leap}");
        }
    }
}

/// Goal: a node that this process saw beat a moment ago is not stale because the clock leapt, nor fresh for an hour because it
/// was set back: nobody is replaced, or kept, for that. Method: the clock leaps between two readings.
async fn f12_a_node_is_as_old_as_it_was_watched(store: &Store) {
    registered(store).await;
    let roll = std::sync::Mutex::default();
    for leap in [0, -HOUR_MS, -48 * HOUR_MS, 49 * HOUR_MS] {
        set_back(store, "node", "beat_ms", leap).await;
        let nodes = store.db.members(&roll).await.unwrap();
        assert!(nodes[0].beat_age_ms < 60_000, "{leap}");
    }
    let node = nodes_beat(store).await;
    set_back(store, "node", "beat_ms", HOUR_MS).await;
    assert!(!store.db.forget_node("c1:coreapp-1", node).await.unwrap());
    let node = nodes_beat(store).await;
    assert!(store.db.forget_node("c1:coreapp-1", node).await.unwrap());
}

async fn nodes_beat(store: &Store) -> u64 {
    store.db.nodes().await.unwrap()[0].beat_ms
}
