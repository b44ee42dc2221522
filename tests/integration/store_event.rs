//! Events that wait for more than their owner. Goal: none is lost, none is worked off before it is placed or read, and what is
//! kept for people is found and forgotten by its age. Method: rows of each kind, moved by each statement.

use wa_agent::db::event::{KeptCounts, State, Unplaced};
use wa_agent::db::inbox::{NewEvent, Processed};

use wa_core::id::Ownership;

use crate::store::{Store, on_every_store};

on_every_store![what_waits_is_placed, what_is_kept_is_retried_and_forgotten];

async fn owner(store: &Store) -> Ownership {
    store.cluster(1).await.promote(0, "c1:coreapp-1", 1).await
}

fn event(key: &str, state: State) -> NewEvent {
    NewEvent {
        key: key.into(),
        recipient_hash: 5,
        payload: format!("{{\"{key}\":1}}"),
        state,
    }
}

async fn what_waits_is_placed(store: &Store) {
    let own = owner(store).await;
    let db = &store.db;
    let long = "k".repeat(200);
    let rows = [
        event("pending", State::Pending),
        event("unplaced", State::Unplaced),
        event(&long, State::Unplaced),
        event("unread", State::Unread),
    ];
    assert_eq!(db.store_events(&rows).await.unwrap(), 4);
    assert_eq!(db.store_events(&rows).await.unwrap(), 0, "keys drop them");
    let keys = async || -> Vec<String> {
        let pending = db.pending_events(&own, 1, 10).await.unwrap();
        let mut keys: Vec<String> = pending.into_iter().map(|one| one.event_key).collect();
        keys.sort();
        keys
    };
    assert_eq!(keys().await, ["pending"]);
    let unplaced = db.unplaced_events(None, 10).await.unwrap();
    assert_eq!(unplaced.len(), 2);
    let mut one_by_one = Vec::new();
    let mut after = None;
    while let Some(one) = db.unplaced_events(after, 1).await.unwrap().pop() {
        one_by_one.push(one);
        after = one_by_one
            .last()
            .map(|one| (one.received_ms, &*one.event_key));
    }
    let keys_of =
        |all: &[Unplaced]| -> Vec<String> { all.iter().map(|one| one.event_key.clone()).collect() };
    assert_eq!(keys_of(&one_by_one), keys_of(&unplaced), "page by page");
    assert_eq!(db.kept_counts().await.unwrap(), counts(1, 2, 0));
    let both = unplaced.iter().map(|one| one.event_key.as_str());
    let placed: Vec<(&str, Option<u32>)> = both.zip([Some(9), None]).collect();
    assert!(db.place_events(&own, &placed).await.unwrap());
    assert_eq!(keys().await.len(), 3);
    let pending = db.pending_events(&own, 1, 10).await.unwrap();
    let mut hashes: Vec<i64> = pending.iter().map(|one| one.recipient_hash).collect();
    hashes.sort_unstable();
    assert_eq!(hashes, [5, 5, 9]);
    assert_eq!(db.kept_counts().await.unwrap(), counts(1, 0, 0));
}

fn counts(unread: u64, unplaced: u64, foreign: u64) -> KeptCounts {
    KeptCounts {
        unread,
        unplaced,
        foreign,
    }
}

async fn what_is_kept_is_retried_and_forgotten(store: &Store) {
    let own = owner(store).await;
    let db = &store.db;
    let rows = [
        event("pending", State::Pending),
        event("unread", State::Unread),
    ];
    assert_eq!(db.store_events(&rows).await.unwrap(), 2);
    assert_eq!(db.unread_events().await.unwrap(), 1);
    let foreign = Processed {
        key: "pending".into(),
        kept: Some(State::Foreign),
        ..Processed::default()
    };
    assert!(db.process_events(&own, &[foreign], true).await.unwrap());
    let kept = db.kept_events(10).await.unwrap();
    let mut kept: Vec<(&str, State)> = kept.iter().map(|k| (k.key.as_str(), k.state)).collect();
    kept.sort_by_key(|(key, _)| *key);
    assert_eq!(
        kept,
        [("pending", State::Foreign), ("unread", State::Unread)]
    );
    assert_eq!(db.kept_events(1).await.unwrap().len(), 1);
    assert_eq!(db.retry_events(Some("pending")).await.unwrap(), 1);
    assert_eq!(db.retry_events(None).await.unwrap(), 1);
    assert_eq!(db.retry_events(None).await.unwrap(), 0);
    let pending = db.pending_events(&own, 1, 10).await.unwrap();
    assert!(
        pending
            .iter()
            .all(|one| one.payload.contains(&one.event_key)),
        "the content stays"
    );
    assert_eq!(pending.len(), 2);
    let unread = Processed {
        key: "unread".into(),
        kept: Some(State::Unread),
        ..Processed::default()
    };
    assert!(db.process_events(&own, &[unread], true).await.unwrap());
    assert_eq!(
        db.forget_events((0, 3_600_000), 100).await.unwrap(),
        0,
        "it is kept for longer"
    );
    let gone = async {
        while db.forget_events((3_600_000, 0), 100).await.unwrap() == 0 {
            tokio::task::yield_now().await;
        }
    };
    let within = std::time::Duration::from_secs(10);
    tokio::time::timeout(within, gone)
        .await
        .expect("it is older than nothing");
    assert_eq!(db.kept_counts().await.unwrap(), counts(0, 0, 0));
}
