//! The content of finished messages and told events. Goal: it goes when its time is over, whoever finished the message, and never
//! from one that may be sent again; what later callbacks repeat stays. Method: owners by hand, times of a moment and of a day.

use std::cell::Cell;
use std::collections::HashMap;

use wa_agent::api::v1::message::stored;
use wa_agent::db::Db;
use wa_agent::db::body::Bodies;
use wa_agent::db::event::State;
use wa_agent::db::history::Record;
use wa_agent::db::inbox::{NewEvent, Processed};
use wa_agent::db::message::{Finish, Finished};
use wa_core::id::{Epoch, Ownership};
use wa_core::message::MessageState;

use crate::store::{Store, eventually, message, on_every_store};

on_every_store![
    it_goes_with_the_outcome,
    it_stays_for_its_time,
    a_status_finishes_as_well,
    told_events_lose_theirs,
    old_decisions_go,
];

const DAY_MS: u64 = 24 * 3600 * 1000;

async fn owner(store: &Store) -> Ownership {
    store.cluster(1).await.promote(0, "c1:coreapp-1", 1).await
}

async fn accept(store: &Store, own: &Ownership, ids: &[&str]) {
    let group: Vec<_> = ids.iter().map(|id| message(id, "secret")).collect();
    store.db.accept(own, &group, true).await.unwrap();
}

fn finish(id: &str, to: Finished) -> Finish {
    Finish {
        id: id.into(),
        to,
        claims: i64::MAX,
    }
}

fn sent(id: &str) -> Finish {
    let wamid = format!("wamid.{id}");
    finish(id, Finished::Sent { wamid })
}

async fn content(db: &Db, id: &str) -> String {
    db.rows_of(&[id]).await.unwrap()[id].payload.clone()
}

/// One step of the sweep.
async fn sweep(db: &Db, own: &Ownership, keep_ms: u64) -> (usize, usize) {
    let due = db.bodies_due(keep_ms, 100).await.unwrap();
    let (gone, later): (Vec<_>, Vec<_>) = due.into_iter().partition(|body| body.left_ms <= 0);
    let gone: Vec<_> = gone
        .into_iter()
        .map(|body| (body.seq, stored::remains(body.form, &body.payload)))
        .collect();
    let later: Vec<_> = later.iter().map(|body| (body.seq, body.left_ms)).collect();
    assert!(db.blank_bodies(own, &gone, &later).await.unwrap());
    (gone.len(), later.len())
}

async fn it_goes_with_the_outcome(store: &Store) {
    let own = owner(store).await;
    let db = &store.db;
    accept(store, &own, &["s", "d", "f", "r", "a"]).await;
    let left = HashMap::from([("d".to_owned(), "{\"callback_data\":\"x\"}".to_owned())]);
    let gone = Bodies::Gone { left };
    let outcomes = [
        sent("s"),
        sent("d"),
        finish("f", Finished::Failed { code: 1000 }),
        finish("r", Finished::Retry { delay_ms: 0 }),
        finish("a", Finished::Ambiguous),
    ];
    let done = db.finish_and_tell(&own, &outcomes, (&[], &[]), &gone);
    assert!(done.await.unwrap());
    assert_eq!(content(db, "s").await, "");
    assert_eq!(content(db, "d").await, "{\"callback_data\":\"x\"}");
    assert_eq!(content(db, "f").await, "");
    assert_eq!(content(db, "r").await, "secret", "it is sent again");
    assert_eq!(content(db, "a").await, "secret", "it may be");
    assert_eq!(sweep(db, &own, 0).await, (0, 0), "nothing is left to do");
    // A repeated request is still known by its hash.
    accept(store, &own, &["s", "f"]).await;
    assert_eq!(db.message_states().await.unwrap().len(), 5);
    assert_eq!(content(db, "s").await, "");
}

async fn it_stays_for_its_time(store: &Store) {
    let own = owner(store).await;
    let db = &store.db;
    accept(store, &own, &["now", "later"]).await;
    for (id, ms) in [("now", 0), ("later", DAY_MS)] {
        let kept = Bodies::Kept { ms };
        let sent = [sent(id)];
        let done = db.finish_and_tell(&own, &sent, (&[], &[]), &kept);
        assert!(done.await.unwrap());
        assert_eq!(content(db, id).await, "secret");
    }
    let stale = Ownership {
        epoch: Epoch(own.epoch.0 + 1),
        ..own.clone()
    };
    let due = db.bodies_due(DAY_MS, 100).await.unwrap();
    assert_eq!(due.len(), 1, "{due:?}");
    let all = [(due[0].seq, String::new())];
    assert!(!db.blank_bodies(&stale, &all, &[]).await.unwrap());
    assert_eq!(content(db, "now").await, "secret");
    assert_eq!(sweep(db, &own, DAY_MS).await, (0, 1), "its day is not over");
    assert_eq!(sweep(db, &own, DAY_MS).await, (0, 0));
    // A shorter time counts for what is there as well, and so does a clock that was set back.
    assert_eq!(sweep(db, &own, 0).await, (2, 0));
    assert_eq!(sweep(db, &own, 0).await, (0, 0), "once");
    assert_eq!(content(db, "now").await, "");
    assert_eq!(content(db, "later").await, "");
}

/// Whoever waits for a receipt is finished by it: no time stands in its row.
async fn a_status_finishes_as_well(store: &Store) {
    let own = owner(store).await;
    let db = &store.db;
    accept(store, &own, &["a"]).await;
    let ambiguous = [finish("a", Finished::Ambiguous)];
    assert!(db.finish(&own, &ambiguous).await.unwrap());
    assert_eq!(sweep(db, &own, 0).await, (0, 0), "it may be sent again");
    let receipt = Processed {
        key: "a:delivered".into(),
        recipient_hash: 2,
        status: Some(("a".into(), MessageState::Delivered, Some("wamid.a".into()))),
        ..Processed::default()
    };
    assert!(db.process_events(&own, &[receipt], true).await.unwrap());
    assert_eq!(sweep(db, &own, DAY_MS).await, (0, 1), "its day begins");
    assert_eq!(sweep(db, &own, DAY_MS).await, (0, 0), "and is written down");
    assert_eq!(content(db, "a").await, "secret");
}

async fn told_events_lose_theirs(store: &Store) {
    let own = owner(store).await;
    let db = &store.db;
    let event = |key: &str| NewEvent {
        key: key.into(),
        recipient_hash: 2,
        payload: "secret".into(),
        state: State::Pending,
    };
    let three = ["blank", "kept", "odd"].map(event);
    assert_eq!(db.store_events(&three).await.unwrap(), 3);
    let done = |key: &str| Processed {
        key: key.into(),
        recipient_hash: 2,
        ..Processed::default()
    };
    let (blank, kept) = ([done("blank")], [done("kept")]);
    assert!(db.process_events(&own, &blank, true).await.unwrap());
    assert!(db.process_events(&own, &kept, false).await.unwrap());
    let young = db.blank_events(&own, DAY_MS, 100).await.unwrap();
    assert_eq!(young, Some(0), "their time is not over");
    assert_eq!(db.blank_events(&own, 0, 100).await.unwrap(), Some(1));
    assert_eq!(db.blank_events(&own, 0, 100).await.unwrap(), Some(0));
    // Both keys still drop duplicates.
    assert_eq!(db.store_events(&three).await.unwrap(), 0);
    // Both kinds go in the end, a few at a time; what waits does not.
    let gone = Cell::new(0);
    let two = async || {
        gone.set(gone.get() + db.forget_events((0, 0), 1).await.unwrap());
        gone.get() == 2
    };
    assert!(eventually(two).await);
    let waits = db.pending_events(&own, 1, 10).await.unwrap();
    assert_eq!(waits.len(), 1);
    assert_eq!(waits[0].payload, "secret");
}

async fn old_decisions_go(store: &Store) {
    owner(store).await;
    let db = &store.db;
    let record = |what: &str| Record {
        node: "m1".into(),
        what: what.into(),
        evidence: "{}".into(),
        ..Record::default()
    };
    let first = db.record(&record("one")).await.unwrap();
    let second = db.record(&record("two")).await.unwrap();
    assert_eq!(db.forget_decisions(DAY_MS, 100).await.unwrap(), 0);
    // A bound of one: the oldest.
    let gone = async || db.forget_decisions(0, 1).await.unwrap() == 1;
    assert!(eventually(gone).await);
    assert!(db.decision(first).await.unwrap().is_none());
    assert!(db.decision(second).await.unwrap().is_some());
}
