//! Goal: answers to customers leave the store before a backlog, and no message overtakes another one of its customer. Method: a
//! backlog and a few customers in it, claimed in both ways; the plans of the statements; who has written, from the events.

use std::collections::HashSet;

use wa_agent::db::Db;
use wa_agent::db::inbox::{NewEvent, Processed};
use wa_agent::db::message::{Finish, Finished, NewMessage};
use wa_core::id::Ownership;

use crate::store::{Store, message, on_every_store, ownership};

on_every_store![
    answers_leave_before_a_backlog,
    an_answer_overtakes_none_of_its_customer,
    an_answer_that_is_claimed_is_claimed_once,
    a_claim_of_answers_reads_no_backlog,
    who_has_written_is_found,
];

fn to(id: &str, route: u32) -> NewMessage {
    NewMessage {
        recipient_hash: route,
        ..message(id, "x")
    }
}

/// Accepts so many messages to as many customers, from 1000 on.
async fn backlog(db: &Db, own: &Ownership, count: u32) {
    let all: Vec<NewMessage> = (0..count).map(|n| to(&format!("b{n}"), 1000 + n)).collect();
    for group in all.chunks(500) {
        db.accept(own, group, false).await.unwrap();
    }
}

fn ids(rows: &[wa_agent::db::message::Claimed]) -> Vec<&str> {
    rows.iter().map(|row| row.id.as_str()).collect()
}

async fn answers_leave_before_a_backlog(store: &Store) {
    let own = store.cluster(1).await.promote(0, "c1:coreapp-1", 1).await;
    let db = &store.db;
    db.find_by_customer().await.unwrap();
    db.accept(&own, &[to("early", 7)], false).await.unwrap();
    backlog(db, &own, 2000).await;
    db.accept(
        &own,
        &[to("answer", 7), to("other", 8), to("late", 7)],
        false,
    )
    .await
    .unwrap();
    let found = db.claim_of(&own, 1, &[7, 9], 64).await.unwrap();
    assert_eq!(ids(&found.claimed), ["early", "answer", "late"]);
    assert!(!found.more && found.not_due.is_empty());
    // The ordinary claim goes on as before, behind nothing.
    let next = db.claim(&own, 1, 3).await.unwrap();
    assert_eq!(ids(&next), ["b0", "b1", "b2"]);
    // What is full tells that there may be more.
    let found = db.claim_of(&own, 1, &[8, 1500, 1600], 2).await.unwrap();
    assert_eq!(ids(&found.claimed), ["b500", "b600"]);
    assert!(found.more);
    assert!(
        db.claim_of(&own, 1, &[], 64)
            .await
            .unwrap()
            .claimed
            .is_empty()
    );
    // Another shard's customers are another owner's.
    let none = db.claim_of(&own, 2, &[1501], 64).await.unwrap();
    assert!(none.claimed.is_empty());
    let stale = ownership(0, "c1:coreapp-1", 99);
    assert!(
        db.claim_of(&stale, 1, &[8], 64)
            .await
            .unwrap()
            .claimed
            .is_empty()
    );
    let found = db.claim_of(&own, 1, &[8], 64).await.unwrap();
    assert_eq!(ids(&found.claimed), ["other"]);
}

async fn an_answer_overtakes_none_of_its_customer(store: &Store) {
    let own = store.cluster(1).await.promote(0, "c1:coreapp-1", 1).await;
    let db = &store.db;
    db.find_by_customer().await.unwrap();
    let group = [to("1", 7), to("a", 8), to("2", 7), to("3", 7)];
    db.accept(&own, &group, false).await.unwrap();
    let claimed = db.claim_of(&own, 1, &[7, 8], 64).await.unwrap().claimed;
    assert_eq!(ids(&claimed), ["1", "a", "2", "3"]);
    let back = |id: &str, delay_ms: u64| Finish {
        id: id.into(),
        to: Finished::Retry { delay_ms },
        claims: 1,
    };
    let outcomes = [back("1", 0), back("a", 0), back("2", 60_000), back("3", 0)];
    assert!(db.finish(&own, &outcomes).await.unwrap());
    let found = db.claim_of(&own, 1, &[7, 8], 64).await.unwrap();
    assert_eq!(
        ids(&found.claimed),
        ["1", "a"],
        "the third waits behind the second"
    );
    assert_eq!(found.not_due, [7]);
    assert_eq!(found.claimed[0].claims(), 2);
    // What is on its way, or of unknown fate, is not overtaken, and nobody takes all the room.
    let group = [to("5", 9), to("6", 9), to("7", 9), to("8", 9), to("9", 9)];
    db.accept(&own, &group, false).await.unwrap();
    let found = db.claim_of(&own, 1, &[7, 8, 9], 64).await.unwrap();
    assert_eq!(ids(&found.claimed), ["5", "6", "7", "8"]);
    let again = db.claim_of(&own, 1, &[9], 64).await.unwrap();
    assert!(again.claimed.is_empty(), "they are on their way");
    assert_eq!(again.not_due, [9]);
}

async fn an_answer_that_is_claimed_is_claimed_once(store: &Store) {
    let own = store.cluster(1).await.promote(0, "c1:coreapp-1", 1).await;
    let db = &store.db;
    db.find_by_customer().await.unwrap();
    backlog(db, &own, 100).await;
    let routes: Vec<u32> = (1000..1064).collect();
    let mut seen = HashSet::new();
    for _ in 0..8 {
        let (one, other) = tokio::join!(db.claim(&own, 1, 20), db.claim_of(&own, 1, &routes, 20));
        let one = one.unwrap_or_default();
        for row in one.into_iter().chain(other.unwrap_or_default().claimed) {
            assert!(seen.insert(row.id.clone()), "{} was claimed twice", row.id);
        }
    }
    assert!(seen.len() >= 64, "{}", seen.len());
}

async fn a_claim_of_answers_reads_no_backlog(store: &Store) {
    let own = store.cluster(1).await.promote(0, "c1:coreapp-1", 1).await;
    let db = &store.db;
    assert!(!db.finds_by_customer().await.unwrap());
    db.find_by_customer().await.unwrap();
    backlog(db, &own, 5000).await;
    let routes: Vec<u32> = (1..=60).chain([1000, 2000, 3000, 4000]).collect();
    assert!(db.finds_by_customer().await.unwrap());
    let [ordinary, answers] = db.plans_of_claims(&routes).await.unwrap();
    let by = |plan: &str, index: &str| {
        let words = [
            format!("\"key\": \"{index}\""),
            format!("\"index_name\": \"{index}\""),
            format!("INDEX {index} "),
        ];
        words.iter().any(|word| plan.contains(word))
    };
    let both = (
        by(&answers, "message_recipient"),
        by(&answers, "message_state"),
    );
    assert_eq!(both, (true, false), "{answers}");
    // All others are claimed by the way that they were: by state, or all of them, as the server's figures have it.
    assert!(!by(&ordinary, "message_recipient"), "{ordinary}");
}

async fn who_has_written_is_found(store: &Store) {
    let own = store.cluster(2).await.promote(0, "c1:coreapp-1", 1).await;
    let db = &store.db;
    db.find_by_customer().await.unwrap();
    let event = |key: &str, route: u32| NewEvent {
        key: key.into(),
        recipient_hash: route,
        payload: "{}".into(),
        state: Default::default(),
    };
    let all = [
        event("wamid.1", 2),
        event("wamid.2:delivered", 4),
        event("wamid.3", 6),
        event("wamid.4", 7),
        event("wamid.5", 8),
    ];
    db.store_events(&all).await.unwrap();
    let done = |key: &str| Processed {
        key: key.into(),
        ..Processed::default()
    };
    let some = [done("wamid.1"), done("wamid.2:delivered"), done("wamid.4")];
    assert!(db.process_events(&own, &some, false).await.unwrap());
    let blank = [done("wamid.3")];
    assert!(db.process_events(&own, &blank, true).await.unwrap());
    let mut found = db.writers(&own, 2, 3_600_000, 1000).await.unwrap();
    found.sort_unstable();
    let routes: Vec<u32> = found.iter().map(|(route, _)| *route).collect();
    assert_eq!(routes, [2, 6], "of this shard, worked off, and no status");
    assert!(found.iter().all(|(_, ago)| *ago < 3_600_000), "{found:?}");
    assert!(db.writers(&own, 2, 3_600_000, 0).await.unwrap().is_empty());
}
