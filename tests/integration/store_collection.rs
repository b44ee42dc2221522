//! Garbage collection in the store. Goal: what is young, unfinished, of another slice or in use stays; a run is one run, whoever
//! asks; each part is told exactly once, and never by an owner that was replaced. Method: owners by hand, ages of a millisecond.

use std::cell::RefCell;
use std::time::Duration;

use wa_agent::db::collection::{Kind, Part, Running};
use wa_agent::db::event::State;
use wa_agent::db::inbox::{NewEvent, Processed};
use wa_agent::db::media::Medium;
use wa_agent::db::message::{Finish, Finished};
use wa_core::id::{Epoch, Ownership};
use wa_core::message::MessageState;

use crate::store::{Store, due_webhooks, eventually, message, on_every_store};

on_every_store![
    only_finished_old_messages_go,
    a_run_is_one_run,
    a_part_is_told_once,
    a_file_in_use_stays,
    old_events_go_some_at_a_time,
];

async fn owner(store: &Store) -> Ownership {
    store.cluster(1).await.promote(0, "c1:coreapp-1", 1).await
}

fn sent(id: &str) -> Finish {
    Finish {
        id: id.into(),
        to: Finished::Sent { wamid: "w".into() },
        claims: i64::MAX,
    }
}

/// Deletes every finished message, however young.
pub async fn collect_all(store: &Store, own: &Ownership) {
    let found = store.db.oldest_messages(0, 0, 1000).await.unwrap();
    let over: Vec<i64> = found.iter().filter(|m| m.over).map(|m| m.seq).collect();
    let gone = store.db.delete_messages(own, &over, None).await.unwrap();
    assert!(gone.is_some(), "stale");
}

async fn only_finished_old_messages_go(store: &Store) {
    let own = owner(store).await;
    let db = &store.db;
    let group: Vec<_> = (0..5).map(|n| message(&format!("m{n}"), "x")).collect();
    db.accept(&own, &group, true).await.unwrap();
    let finished: Vec<_> = (0..4).map(|n| sent(&format!("m{n}"))).collect();
    db.finish(&own, &finished).await.unwrap();
    let found = db.oldest_messages(0, 60_000, 100).await.unwrap();
    assert_eq!(found.len(), 5);
    assert!(found.iter().all(|m| !m.over && m.young), "{found:?}");
    tokio::time::sleep(Duration::from_millis(20)).await;
    let found = db.oldest_messages(0, 1, 3).await.unwrap();
    assert_eq!(found.len(), 3, "bounded");
    let rest = db.oldest_messages(found[2].seq, 1, 100).await.unwrap();
    assert_eq!(rest.len(), 2, "{rest:?}");
    assert!(rest[0].over && !rest[1].over && !rest[1].young, "{rest:?}");
    // Also where it is named: what is not finished stays.
    let all: Vec<i64> = found.iter().chain(&rest).map(|m| m.seq).collect();
    let stale = Ownership {
        epoch: Epoch(own.epoch.0 + 1),
        ..own.clone()
    };
    assert_eq!(db.delete_messages(&stale, &all, None).await.unwrap(), None);
    assert_eq!(db.delete_messages(&own, &all, None).await.unwrap(), Some(4));
    let left = db.message_states().await.unwrap();
    assert_eq!(left, [("m4".into(), MessageState::Sending)]);
    db.forget_events((0, 0), 1000).await.unwrap();
    db.forget_tokens(1000).await.unwrap();
}

/// Events that were worked off go in steps, and none that waits. Method: five that were, and one that was not.
async fn old_events_go_some_at_a_time(store: &Store) {
    let own = owner(store).await;
    let db = &store.db;
    let events: Vec<NewEvent> = (0..6)
        .map(|n| NewEvent {
            key: format!("e{n}"),
            recipient_hash: 1,
            payload: "{}".into(),
            state: State::Pending,
        })
        .collect();
    assert_eq!(db.store_events(&events).await.unwrap(), 6);
    let done: Vec<Processed> = (0..5)
        .map(|n| Processed {
            key: format!("e{n}"),
            recipient_hash: 1,
            ..Processed::default()
        })
        .collect();
    assert!(db.process_events(&own, &done, false).await.unwrap());
    let gone = RefCell::new(Vec::new());
    let all = eventually(async || {
        let some = db.forget_events((0, 0), 2).await.unwrap();
        gone.borrow_mut().push(some);
        gone.borrow().iter().sum::<u64>() == 5
    });
    assert!(all.await, "they did not go");
    let gone = gone.into_inner();
    assert!(gone.iter().all(|some| *some <= 2), "{gone:?}");
    let left = db.pending_events(&own, 1, 10).await.unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(db.forget_events((0, 0), 10).await.unwrap(), 0);
}

fn parts(nodes: &[(&str, Option<u16>)]) -> Vec<Part> {
    let part = |(node, shard): &(&str, Option<u16>)| Part {
        node: (*node).into(),
        shard: *shard,
    };
    nodes.iter().map(part).collect()
}

const THREE: [(&str, Option<u16>); 3] = [("c1", Some(0)), ("c2", None), ("c3", Some(1))];

async fn begin(store: &Store, kind: Kind, run: u64, parts: &[Part]) -> Vec<String> {
    let begun = store.db.begin_collection(kind, (run, 2), parts).await;
    begun.unwrap()
}

async fn a_run_is_one_run(store: &Store) {
    let own = owner(store).await;
    let three = parts(&THREE);
    // Two webapps at once, and one more with other coreapps.
    let (one, two) = tokio::join!(
        begin(store, Kind::Messages, 11, &three),
        begin(store, Kind::Messages, 12, &three)
    );
    assert_eq!(
        (&one, &two),
        (&vec!["c1".into(), "c2".into(), "c3".into()], &one)
    );
    let more = parts(&[("c1", Some(0)), ("c4", None)]);
    assert_eq!(begin(store, Kind::Messages, 13, &more).await, one);
    let running = store.db.collections().await.unwrap();
    let whole = |part: &Running| {
        (
            part.node.clone(),
            part.shard,
            part.shard_count,
            part.deleted,
        )
    };
    let shown: Vec<_> = running.iter().map(whole).collect();
    let wanted = THREE.map(|(node, shard)| (node.to_owned(), shard, 2, 0));
    assert_eq!(shown, wanted);
    // Also when a part of it is told already.
    assert!(
        store
            .db
            .end_collection(&own, &running[1], Some("{}"))
            .await
            .unwrap()
    );
    assert!(
        !store
            .db
            .end_collection(&own, &running[1], Some("{}"))
            .await
            .unwrap()
    );
    assert_eq!(store.db.collections().await.unwrap().len(), 2);
    assert_eq!(begin(store, Kind::Messages, 13, &more).await, one);
    // Of another kind it is another run.
    begin(store, Kind::Media, 14, &parts(&[("", Some(0))])).await;
    assert_eq!(store.db.collections().await.unwrap().len(), 3);
    let carried: Vec<u16> = running.iter().map(|part| part.carried_out_by(2)).collect();
    assert_eq!(carried, [0, 0, 1]);
    assert!(running.iter().all(|part| part.carried_out_by(1) == 0));
    // When all is told, the next run begins.
    for part in [&running[0], &running[2]] {
        assert!(store.db.end_collection(&own, part, None).await.unwrap());
    }
    // One was told, two to nobody.
    assert_eq!(payloads(store, &own).await, ["{}"]);
    assert_eq!(begin(store, Kind::Messages, 15, &more).await, ["c1", "c4"]);
}

async fn payloads(store: &Store, own: &Ownership) -> Vec<String> {
    let due = due_webhooks(&store.db, own).await;
    due.into_iter().map(|due| due.body).collect()
}

async fn a_part_is_told_once(store: &Store) {
    let mut primary = store.cluster(1).await;
    let first = primary.promote(0, "c1:coreapp-1", 1).await;
    let db = &store.db;
    db.accept(&first, &[message("a", "x"), message("b", "y")], true)
        .await
        .unwrap();
    db.finish(&first, &[sent("a"), sent("b")]).await.unwrap();
    begin(store, Kind::Messages, 21, &parts(&[("c1", Some(0))])).await;
    let part = db.collections().await.unwrap().remove(0);
    let seqs: Vec<i64> = db
        .oldest_messages(0, 0, 10)
        .await
        .unwrap()
        .iter()
        .map(|m| m.seq)
        .collect();
    let gone = db.delete_messages(&first, &seqs[..1], Some(&part)).await;
    assert_eq!(gone.unwrap(), Some(1));
    // A failover in the middle: the next owner goes on, the first one tells nothing.
    let second = primary.promote(0, "c2:coreapp-1", 2).await;
    let counted = db.collections().await.unwrap().remove(0);
    assert_eq!(counted.deleted, 1);
    assert!(
        !db.end_collection(&first, &counted, Some("{}"))
            .await
            .unwrap()
    );
    let gone = db.delete_messages(&first, &seqs[1..], Some(&part)).await;
    assert_eq!(gone.unwrap(), None);
    let gone = db.delete_messages(&second, &seqs[1..], Some(&part)).await;
    assert_eq!(gone.unwrap(), Some(1));
    assert!(db.count_collected(&second, &part, 3).await.unwrap());
    // What was counted since it was read is not left out.
    assert!(
        !db.end_collection(&second, &counted, Some("{}"))
            .await
            .unwrap()
    );
    assert_eq!(payloads(store, &second).await, Vec::<String>::new());
    let whole = db.collections().await.unwrap().remove(0);
    assert_eq!(whole.deleted, 5);
    assert!(
        db.end_collection(&second, &whole, Some("{\"told\":1}"))
            .await
            .unwrap()
    );
    assert!(
        !db.end_collection(&second, &whole, Some("{\"told\":2}"))
            .await
            .unwrap()
    );
    assert_eq!(payloads(store, &second).await, ["{\"told\":1}"]);
    assert_eq!(db.collections().await.unwrap(), []);
    // The next run is told as well.
    begin(store, Kind::Messages, 22, &parts(&[("c1", None)])).await;
    let next = db.collections().await.unwrap().remove(0);
    assert!(
        db.end_collection(&second, &next, Some("{\"told\":3}"))
            .await
            .unwrap()
    );
    assert_eq!(payloads(store, &second).await.len(), 2);
}

async fn a_file_in_use_stays(store: &Store) {
    let own = owner(store).await;
    let db = &store.db;
    let id = |n: u32| format!("f043afd0-0000-4000-8000-{n:012}");
    for n in 1..=3 {
        let medium = Medium {
            id: id(n),
            mime: "image/png".into(),
            bytes: 1,
            sha256: "00".into(),
        };
        db.add_medium(&medium).await.unwrap();
    }
    let all = db.media_unused("", 60_000, 10).await.unwrap();
    assert_eq!(all, [1, 2, 3].map(|n| (id(n), false)));
    tokio::time::sleep(Duration::from_millis(20)).await;
    // The upstream was given one a moment ago.
    let unused = async || {
        db.set_cloud_medium(&id(2), "cloud").await.unwrap();
        let found = db.media_unused(&id(1), 15, 10).await.unwrap();
        found == [(id(2), false), (id(3), true)]
    };
    assert!(eventually(unused).await);
    begin(store, Kind::Media, 31, &parts(&[("", Some(0))])).await;
    let part = db.collections().await.unwrap().remove(0);
    let delete = async |n: u32, keep_ms: u64| {
        let id = id(n);
        let gone = db
            .delete_unused_medium(&own, (&id, keep_ms), Some(&part))
            .await;
        gone.unwrap()
    };
    assert_eq!(delete(1, 60_000).await, Some(0));
    assert_eq!(delete(3, 15).await, Some(1));
    assert_eq!(db.collections().await.unwrap()[0].deleted, 1);
    assert_eq!(db.use_medium(&id(3)).await.unwrap(), None);
    let used = db.use_medium(&id(1)).await.unwrap();
    assert_eq!(used.map(|medium| medium.id), Some(id(1)));
}
