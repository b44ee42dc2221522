//! The map of ids. Goal: every id that the upstream gave leads to our message, for as long as it is kept, and what is named by
//! another message is found, open, or gone. Method: messages in every state, attempts that got two ids, rows that are deleted.

use wa_agent::db::Db;
use wa_agent::db::body::Bodies;
use wa_agent::db::inbox::Processed;
use wa_agent::db::message::{Finish, Finished, NewMessage, OwnWebhook};
use wa_agent::db::message_id::{Named, Ours};
use wa_agent::db::route::{Link, Route};
use wa_core::id::Ownership;
use wa_core::message::MessageState;

use crate::store::{Store, by_hand, due_webhooks, eventually, message, on_every_store, results};

const KEPT: Bodies = Bodies::Kept { ms: 0 };

on_every_store![
    ids_of_both_attempts_lead_to_one_message,
    what_is_named_is_found_open_or_gone,
    ids_outlive_their_messages,
    a_failure_is_told_once,
    ids_of_before_are_copied,
    two_spellings_are_one_customer,
];

fn finish(id: &str, to: Finished) -> Finish {
    Finish {
        id: id.into(),
        to,
        claims: i64::MAX,
    }
}

fn sent(id: &str, wamid: &str) -> Finish {
    let wamid = wamid.into();
    finish(id, Finished::Sent { wamid })
}

fn status(id: &str, state: MessageState, wamid: &str) -> Processed {
    Processed {
        key: format!("{wamid}:{state:?}"),
        recipient_hash: 2,
        status: Some((id.into(), state, Some(wamid.into()))),
        webhook: Some(format!("{{\"told\":\"{id}\"}}")),
        ..Processed::default()
    }
}

async fn owner(store: &Store) -> Ownership {
    store.cluster(1).await.promote(0, "c1:coreapp-1", 1).await
}

async fn ids_of_both_attempts_lead_to_one_message(store: &Store) {
    let own = owner(store).await;
    let group = [message("a", "x"), message("b", "y")];
    store.db.accept(&own, &group, true).await.unwrap();
    // The answer to the first attempt was lost, and its status came.
    store.db.remember_ids(&[("a", "wamid.A1")]).await.unwrap();
    let all = [("a", "wamid.A2"), ("b", "wamid.B"), ("gone", "wamid.G")];
    for _ in 0..2 {
        store.db.remember_ids(&all).await.unwrap();
    }
    store.db.remember_ids(&[]).await.unwrap();
    let found = store
        .db
        .ours(&["wamid.A1", "wamid.A2", "wamid.B", "wamid.G", "wamid.a1"]);
    let found = found.await.unwrap();
    let hash = message("a", "x").recipient_hash;
    let ours = |id: &str| Ours {
        id: id.into(),
        recipient_hash: hash,
    };
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!(found["wamid.A1"], ours("a"));
    assert_eq!(found["wamid.A2"], ours("a"));
    assert_eq!(found["wamid.B"], ours("b"));
    assert_eq!(store.db.recipient_hash_of("a").await.unwrap(), Some(hash));
    assert_eq!(store.db.recipient_hash_of("c").await.unwrap(), None);
    // What an owner that died had not written down.
    store
        .db
        .finish(&own, &[sent("b", "wamid.B2")])
        .await
        .unwrap();
    store.db.remember_newest(10).await.unwrap();
    assert_eq!(store.db.remember_newest(10).await.unwrap(), 0);
    let found = store.db.ours(&["wamid.B2"]).await.unwrap();
    assert_eq!(found["wamid.B2"], ours("b"));
}

async fn what_is_named_is_found_open_or_gone(store: &Store) {
    let own = owner(store).await;
    let db = &store.db;
    let other = NewMessage {
        recipient_hash: 77,
        ..message("other", "x")
    };
    let group = ["sent", "open", "doubt", "failed", "no-id"].map(|id| message(id, "x"));
    db.accept(&own, &group, true).await.unwrap();
    db.accept(&own, &[other, message("me", "x")], true)
        .await
        .unwrap();
    db.accept(&own, &[message("later", "x")], true)
        .await
        .unwrap();
    let ends = [
        sent("sent", "wamid.S"),
        sent("no-id", ""),
        finish("doubt", Finished::Ambiguous),
        finish("failed", Finished::Failed { code: 470 }),
        sent("other", "wamid.O"),
        sent("later", "wamid.L"),
    ];
    assert!(db.finish(&own, &ends).await.unwrap());
    for (named, wanted) in [
        ("sent", Named::Sent("wamid.S".into())),
        ("open", Named::Open),
        ("doubt", Named::Open),
        ("failed", Named::Gone),
        ("no-id", Named::Gone),
        ("other", Named::Sent("wamid.O".into())),
        ("later", Named::Gone),
        ("me", Named::Gone),
        ("nobody", Named::Gone),
    ] {
        assert_eq!(db.named("me", named).await.unwrap(), wanted, "{named}");
    }
}

async fn ids_outlive_their_messages(store: &Store) {
    let own = owner(store).await;
    let db = &store.db;
    db.accept(&own, &[message("a", "x"), message("me", "y")], true)
        .await
        .unwrap();
    db.finish(&own, &[sent("a", "wamid.A1")]).await.unwrap();
    db.finish(&own, &[sent("me", "wamid.M")]).await.unwrap();
    let both = [("a", "wamid.A1"), ("me", "wamid.M")];
    db.remember_ids(&both).await.unwrap();
    let all_gone = eventually(async || {
        crate::store_collection::collect_all(store, &own).await;
        db.message_states().await.unwrap().is_empty()
    });
    assert!(all_gone.await);
    let found = db.ours(&["wamid.A1"]).await.unwrap();
    assert_eq!(found["wamid.A1"].id, "a");
    assert_eq!(
        db.named("me", "a").await.unwrap(),
        Named::Sent("wamid.A1".into())
    );
    assert!(db.recipient_hash_of("a").await.unwrap().is_some());
    assert_eq!(db.forget_ids(3_600_000, 100).await.unwrap(), 0);
    let all_gone = eventually(async || {
        db.forget_ids(0, 1).await.unwrap();
        db.ours(&["wamid.A1", "wamid.M"]).await.unwrap().is_empty()
    });
    assert!(all_gone.await);
    assert_eq!(db.named("me", "a").await.unwrap(), Named::Gone);
}

async fn a_failure_is_told_once(store: &Store) {
    let own = owner(store).await;
    let db = &store.db;
    db.accept(&own, &[message("a", "x"), message("b", "y")], true)
        .await
        .unwrap();
    let told = |id: &str| OwnWebhook {
        message_id: id.into(),
        key: format!("{id}:failed"),
        recipient_hash: 2,
        payload: "{}".into(),
    };
    let failed = |id: &str| finish(id, Finished::Failed { code: 471 });
    // By the answer and then by webhook; the other way round; each with the first one delivered in between.
    assert!(
        db.finish_and_tell(&own, &[failed("a")], (&[told("a")], &[]), &KEPT)
            .await
            .unwrap()
    );
    assert_eq!(delivered(store, &own).await, 1);
    let event = status("a", MessageState::Failed, "wamid.A");
    assert!(db.process_events(&own, &[event], false).await.unwrap());
    assert_eq!(delivered(store, &own).await, 0);
    let event = status("b", MessageState::Failed, "wamid.B");
    assert!(db.process_events(&own, &[event], false).await.unwrap());
    assert_eq!(delivered(store, &own).await, 1);
    assert!(
        db.finish_and_tell(&own, &[failed("b")], (&[told("b")], &[]), &KEPT)
            .await
            .unwrap()
    );
    assert_eq!(delivered(store, &own).await, 0);
}

/// Takes the webhooks that wait. How many there were.
async fn delivered(store: &Store, own: &Ownership) -> usize {
    let due = due_webhooks(&store.db, own).await;
    let ids: Vec<i64> = due.iter().map(|webhook| webhook.id).collect();
    let taken = results(&ids, &[]);
    assert!(store.db.webhooks_done(own, &taken).await.unwrap());
    ids.len()
}

async fn ids_of_before_are_copied(store: &Store) {
    let own = owner(store).await;
    let db = &store.db;
    db.accept(&own, &[message("a", "x"), message("b", "y")], true)
        .await
        .unwrap();
    db.finish(&own, &[sent("a", "wamid.A")]).await.unwrap();
    // As an earlier release left it.
    for sql in [
        "DELETE FROM message_id WHERE upstream_id='wamid.A'",
        "DELETE FROM schema_version WHERE version>=29",
    ] {
        let done = match db {
            Db::Sqlite(pool) => sqlx::query(sql).execute(pool).await.map(|_| ()),
            Db::MySql(_) => {
                let mut connection = by_hand(&store.settings.urls[0]).await;
                let done = sqlx::query(sql).execute(&mut connection).await;
                done.map(|_| ())
            }
        };
        done.unwrap();
    }
    db.migrate().await.unwrap();
    let found = db.ours(&["wamid.A", ""]).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found["wamid.A"].id, "a");
}

/// Goal: the upstream's spelling leads to the customer of the number that was typed, and no route ever changes.
async fn two_spellings_are_one_customer(store: &Store) {
    let own = owner(store).await;
    let db = &store.db;
    assert!(!db.any_route().await.unwrap());
    let link = |typed: &str, spelling: &str, recipient_hash| Link {
        typed: typed.into(),
        spelling: spelling.into(),
        recipient_hash,
    };
    db.accept(&own, &[message("a", "x")], true).await.unwrap();
    let ends = [sent("a", "wamid.A")];
    for links in [
        [link("5512345678901", "551234567890", 7)],
        [link("5512345678901", "551234567890", 8)],
    ] {
        let done = db.finish_and_tell(&own, &ends, (&[], &links), &KEPT).await;
        assert!(done.unwrap());
    }
    assert!(db.any_route().await.unwrap());
    let found = db
        .routes(&["5512345678901", "551234567890", "1"])
        .await
        .unwrap();
    assert_eq!(found.len(), 2);
    let typed = Route {
        recipient_hash: 7,
        spelling: Some("551234567890".into()),
    };
    assert_eq!(found["5512345678901"], typed);
    assert_eq!(
        (
            found["551234567890"].recipient_hash,
            &found["551234567890"].spelling
        ),
        (7, &None)
    );
    let stale = Ownership {
        epoch: wa_core::id::Epoch(own.epoch.0 + 1),
        ..own
    };
    let late = [link("1", "2", 9)];
    assert!(
        !db.finish_and_tell(&stale, &ends, (&[], &late), &KEPT)
            .await
            .unwrap()
    );
    assert!(db.routes(&["1", "2"]).await.unwrap().is_empty());
}
