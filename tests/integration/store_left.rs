//! Goal: a new owner finds what later messages wait behind, before and after it is marked, and nothing else. Method: messages of all
//! states, in two slices.

use wa_agent::db::message::{Finish, Finished, NewMessage};

use crate::store::{Store, message, on_every_store};

on_every_store![what_an_earlier_owner_left_is_found];

async fn what_an_earlier_owner_left_is_found(store: &Store) {
    let mut master = store.cluster(2).await;
    let old = master.promote(0, "c1:coreapp-1", 1).await;
    let db = &store.db;
    let other = NewMessage {
        recipient_hash: 3,
        ..message("of the other shard", "x")
    };
    let ids = [
        "sending", "late", "later", "now", "sent", "failed", "unknown",
    ];
    let mut all: Vec<NewMessage> = ids.iter().map(|id| message(id, "x")).collect();
    all.push(other);
    db.accept(&old, &all, true).await.unwrap();
    db.accept(&old, &[message("queued", "x")], false)
        .await
        .unwrap();
    let finish = |id: &str, to| Finish {
        id: id.into(),
        to,
        claims: 0,
    };
    let outcomes = [
        finish("late", Finished::Retry { delay_ms: 60_000 }),
        finish("later", Finished::Retry { delay_ms: 600_000 }),
        finish("now", Finished::Retry { delay_ms: 0 }),
        finish("sent", Finished::Sent { wamid: "w".into() }),
        finish("failed", Finished::Failed { code: 1000 }),
        finish("unknown", Finished::Ambiguous),
    ];
    assert!(db.finish(&old, &outcomes).await.unwrap());
    let new = master.promote(0, "c2:coreapp-1", 2).await;
    db.accept(&new, &[message("mine", "x")], true)
        .await
        .unwrap();
    for marked in [1, 0] {
        let left = db.left_behind(&new, 2, 10).await.unwrap();
        assert!(
            left.iter().all(|one| one.route == 2 && one.seq > 0),
            "{left:?}"
        );
        let due: Vec<u64> = left
            .iter()
            .flat_map(|one| one.due_in)
            .map(|due| due.as_secs())
            .collect();
        assert!(
            (50..=60).contains(&due[0]) && (590..=600).contains(&due[1]),
            "{due:?}"
        );
        let mut unknown: Vec<&str> = left
            .iter()
            .filter(|one| one.due_in.is_none())
            .map(|one| one.id.as_str())
            .collect();
        unknown.sort_unstable();
        assert_eq!((unknown, left.len()), (vec!["sending", "unknown"], 4));
        assert_eq!(db.mark_ambiguous(&new, 2).await.unwrap(), marked);
    }
    let few = db.left_behind(&new, 2, 1).await.unwrap();
    let few: Vec<&str> = few.iter().map(|one| one.id.as_str()).collect();
    assert_eq!(few, ["sending", "late"], "the latest, and the soonest");
}
