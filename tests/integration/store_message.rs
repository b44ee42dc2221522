//! Goal: an accepted message is stored once and leaves once, and a stale owner changes nothing. Method: every write of the
//! message path in and out of turn, repeated, cut short, with awkward texts.

use std::collections::HashSet;
use std::time::Duration;

use wa_agent::db::body::Bodies;
use wa_agent::db::inbox::{NewEvent, Processed};
use wa_agent::db::message::{AcceptError, Accepted, Finish, Finished, OwnWebhook};
use wa_core::message::MessageState;
use wa_core::receipt::Neighbour;

use crate::store::{Store, due_webhooks, eventually, message, on_every_store, results};

const KEPT: Bodies = Bodies::Kept { ms: 0 };

on_every_store![
    repeated_id_is_accepted_once,
    stale_owner_changes_nothing,
    order_of_acceptance_is_kept,
    two_claims_never_share_a_row,
    outcomes_are_recorded,
    late_outcome_leaves_a_newer_claim_alone,
    unfinished_sends_become_ambiguous,
    overdue_ambiguous_may_be_reported,
    a_late_commit_settles_no_later_send,
    receipts_around_a_claim_are_known,
    abandoned_accept_leaves_no_orphan,
    awkward_texts_come_back_whole,
    too_long_values_are_refused,
    events_are_stored_once,
];

async fn states(store: &Store) -> Vec<(String, MessageState)> {
    let mut all = store.db.message_states().await.unwrap();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

async fn repeated_id_is_accepted_once(store: &Store) {
    let own = store.cluster(1).await.promote(0, "c1:coreapp-1", 1).await;
    for claim in [false, true] {
        let (a, b) = (format!("a{claim}"), format!("b{claim}"));
        let first = store
            .db
            .accept(&own, &[message(&a, "x")], claim)
            .await
            .unwrap();
        assert_eq!(first, [Accepted::New]);
        let group = [
            message(&a, "x"),
            message(&b, "y"),
            message(&a, "z"),
            message(&b, "y"),
        ];
        let again = store.db.accept(&own, &group, claim).await.unwrap();
        assert_eq!(
            again,
            [
                Accepted::Duplicate,
                Accepted::New,
                Accepted::Conflict,
                Accepted::Duplicate
            ]
        );
    }
    assert_eq!(states(store).await.len(), 4);
}

async fn stale_owner_changes_nothing(store: &Store) {
    let mut master = store.cluster(1).await;
    let old = master.promote(0, "c1:coreapp-1", 1).await;
    let db = &store.db;
    db.accept(&old, &[message("sending", "x")], true)
        .await
        .unwrap();
    db.accept(&old, &[message("queued", "x")], false)
        .await
        .unwrap();
    db.store_events(&[NewEvent {
        key: "e1".into(),
        recipient_hash: 2,
        payload: "{}".into(),
        state: Default::default(),
    }])
    .await
    .unwrap();
    db.queue_webhook(&old, "w1", 2, "{}").await.unwrap();
    let due = due_webhooks(db, &old).await;
    let new = master.hand_over(0, "c2:coreapp-1", 2).await;
    let before = (states(store).await, db.counts().await.unwrap());

    assert!(matches!(
        db.accept(&old, &[message("late", "x")], true).await,
        Err(AcceptError::Stale)
    ));
    assert!(db.claim(&old, 1, 10).await.unwrap().is_empty());
    for to in [
        Finished::Sent { wamid: "w".into() },
        Finished::Retry { delay_ms: 0 },
        Finished::Failed { code: 1000 },
        Finished::Ambiguous,
    ] {
        assert!(
            !db.finish(
                &old,
                &[Finish {
                    id: "sending".into(),
                    to,
                    claims: i64::MAX,
                }]
            )
            .await
            .unwrap()
        );
    }
    let processed = Processed {
        key: "e1".into(),
        recipient_hash: 2,
        status: Some(("sending".into(), MessageState::Read, None)),
        webhook: Some("{}".into()),
        ..Processed::default()
    };
    assert!(!db.process_events(&old, &[processed], false).await.unwrap());
    for done in [
        results(&[due[0].id], &[]),
        results(&[], &[(due[0].id, 1000)]),
    ] {
        assert!(!db.webhooks_done(&old, &done).await.unwrap());
    }
    assert!(!db.queue_webhook(&old, "w2", 2, "{}").await.unwrap());
    assert_eq!(db.mark_ambiguous(&old, 1).await.unwrap(), 0);

    assert_eq!((states(store).await, db.counts().await.unwrap()), before);
    assert_eq!(db.pending_events(&new, 1, 10).await.unwrap().len(), 1);
    assert_eq!(db.mark_ambiguous(&new, 1).await.unwrap(), 1);
}

async fn order_of_acceptance_is_kept(store: &Store) {
    let own = store.cluster(1).await.promote(0, "c1:coreapp-1", 1).await;
    // Ids in falling order, one group: the same millisecond for all.
    let group: Vec<_> = (0..50)
        .map(|n| message(&format!("m{:03}", 999 - n), "x"))
        .collect();
    store.db.accept(&own, &group, false).await.unwrap();
    let claimed: Vec<String> = store
        .db
        .claim(&own, 1, 50)
        .await
        .unwrap()
        .into_iter()
        .map(|c| c.id)
        .collect();
    let accepted: Vec<String> = group.into_iter().map(|m| m.id).collect();
    assert_eq!(claimed, accepted);
    assert_eq!(store.db.outbox_depth().await.unwrap(), 50);
}

async fn two_claims_never_share_a_row(store: &Store) {
    let own = store.cluster(1).await.promote(0, "c1:coreapp-1", 1).await;
    let group: Vec<_> = (0..200).map(|n| message(&format!("m{n}"), "x")).collect();
    store.db.accept(&own, &group, false).await.unwrap();
    let mut seen = HashSet::new();
    for _ in 0..10 {
        let claims =
            futures_util::future::join_all((0..4).map(|_| store.db.claim(&own, 1, 40))).await;
        for row in claims.into_iter().flatten().flatten() {
            assert!(seen.insert(row.id.clone()), "{} was claimed twice", row.id);
        }
    }
    // A claim that failed on a busy database has its rows queued again by itself.
    for _ in 0..200 {
        for row in store.db.claim(&own, 1, 200).await.unwrap_or_default() {
            assert!(seen.insert(row.id.clone()), "{} was claimed twice", row.id);
        }
        if seen.len() == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("only {} of 200 were claimed", seen.len());
}

async fn outcomes_are_recorded(store: &Store) {
    let own = store.cluster(1).await.promote(0, "c1:coreapp-1", 1).await;
    let db = &store.db;
    let group: Vec<_> = ["a", "b", "c", "d"]
        .iter()
        .map(|id| message(id, "x"))
        .collect();
    db.accept(&own, &group, true).await.unwrap();
    let outcomes = [
        Finish {
            id: "a".into(),
            to: Finished::Sent {
                wamid: "wamid.1".into(),
            },
            claims: i64::MAX,
        },
        Finish {
            id: "b".into(),
            to: Finished::Retry { delay_ms: 60_000 },
            claims: i64::MAX,
        },
        Finish {
            id: "c".into(),
            to: Finished::Failed { code: 470 },
            claims: i64::MAX,
        },
        Finish {
            id: "d".into(),
            to: Finished::Ambiguous,
            claims: i64::MAX,
        },
    ];
    let told = OwnWebhook {
        message_id: "c".into(),
        key: "c:failed".into(),
        recipient_hash: 2,
        payload: "{}".into(),
    };
    assert!(
        db.finish_and_tell(&own, &outcomes, (std::slice::from_ref(&told), &[]), &KEPT)
            .await
            .unwrap()
    );
    assert!(
        db.finish_and_tell(&own, &outcomes, (&[told], &[]), &KEPT)
            .await
            .unwrap(),
        "repeatable"
    );
    let expected = [
        ("a".into(), MessageState::Sent),
        ("b".into(), MessageState::Queued),
        ("c".into(), MessageState::Failed),
        ("d".into(), MessageState::Ambiguous),
    ];
    assert_eq!(states(store).await, expected);
    assert_eq!(db.webhook_depth().await.unwrap(), 1);
    assert!(
        db.claim(&own, 1, 10).await.unwrap().is_empty(),
        "the retry waits"
    );
}

/// Goal: an outcome whose commit comes late leaves a newer claim of the same owner alone. Method: the same outcome twice,
/// with a claim between the two.
async fn late_outcome_leaves_a_newer_claim_alone(store: &Store) {
    let own = store.cluster(1).await.promote(0, "c1:coreapp-1", 1).await;
    let db = &store.db;
    db.accept(&own, &[message("a", "x")], true).await.unwrap();
    let mut claims = 0;
    for _ in 0..2 {
        let outcome = Finish {
            id: "a".into(),
            to: Finished::Retry { delay_ms: 0 },
            claims,
        };
        assert!(
            db.finish(&own, std::slice::from_ref(&outcome))
                .await
                .unwrap()
        );
        assert_eq!(states(store).await, [("a".into(), MessageState::Queued)]);
        let claimed = db.claim(&own, 1, 10).await.unwrap();
        assert!(db.finish(&own, &[outcome]).await.unwrap());
        assert_eq!(states(store).await, [("a".into(), MessageState::Sending)]);
        assert_eq!(db.claimed_by(&own, 10).await.unwrap(), ["a"]);
        claims = claimed[0].claims();
    }
}

async fn unfinished_sends_become_ambiguous(store: &Store) {
    let mut master = store.cluster(2).await;
    let old = master.promote(0, "c1:coreapp-1", 1).await;
    let db = &store.db;
    db.accept(&old, &[message("one", "x"), message("two", "x")], true)
        .await
        .unwrap();
    let new = master.promote(0, "c2:coreapp-1", 2).await;
    db.accept(&new, &[message("mine", "x")], true)
        .await
        .unwrap();
    assert_eq!(db.mark_ambiguous(&new, 2).await.unwrap(), 2);
    let minute = Duration::from_secs(60);
    let early = db.overdue_ambiguous(&new, 2, minute, 10).await.unwrap();
    assert!(early.is_empty(), "the window is open");
    let overdue = db.overdue_ambiguous(&new, 2, Duration::ZERO, 10);
    let overdue = overdue.await.unwrap();
    assert_eq!(overdue.len(), 2);
    assert_eq!(db.requeue_ambiguous(&old, &overdue).await.unwrap(), 0);
    // The receipt of one comes in time.
    let receipt = Processed {
        key: "r".into(),
        recipient_hash: 2,
        status: Some((
            "one".into(),
            MessageState::Delivered,
            Some("wamid.1".into()),
        )),
        ..Processed::default()
    };
    assert!(db.process_events(&new, &[receipt], false).await.unwrap());
    assert_eq!(db.requeue_ambiguous(&new, &overdue).await.unwrap(), 1);
    let again = db.claim(&new, 2, 10).await.unwrap();
    assert_eq!(
        again.iter().map(|c| c.id.as_str()).collect::<Vec<_>>(),
        ["two"]
    );
    let all = states(store).await;
    assert_eq!(all[0], ("mine".into(), MessageState::Sending));
    assert_eq!(all[1], ("one".into(), MessageState::Delivered));
}

/// Goal: a message is reported failed together with its webhook, and never once its receipt is there.
async fn overdue_ambiguous_may_be_reported(store: &Store) {
    let mut master = store.cluster(1).await;
    let old = master.promote(0, "c1:coreapp-1", 1).await;
    let db = &store.db;
    db.accept(&old, &[message("one", "x"), message("two", "x")], true)
        .await
        .unwrap();
    let new = master.promote(0, "c2:coreapp-1", 2).await;
    assert_eq!(db.mark_ambiguous(&new, 1).await.unwrap(), 2);
    let minute = Duration::from_secs(60);
    let overdue = db.overdue_ambiguous(&new, 1, minute, 10).await.unwrap();
    assert!(overdue.is_empty(), "the window is open");
    let overdue = db.overdue_ambiguous(&new, 1, Duration::ZERO, 10);
    let overdue = overdue.await.unwrap();
    assert_eq!(overdue.len(), 2);
    // A receipt comes between the look and the report.
    let receipt = Processed {
        key: "r".into(),
        recipient_hash: 2,
        status: Some(("one".into(), MessageState::Sent, None)),
        ..Processed::default()
    };
    assert!(db.process_events(&new, &[receipt], false).await.unwrap());
    let webhook = |id: &String| OwnWebhook {
        message_id: id.clone(),
        key: format!("{id}:failed"),
        recipient_hash: 2,
        payload: format!("{{\"failed\":\"{id}\"}}"),
    };
    let told: Vec<_> = overdue
        .iter()
        .map(|m| (m.id.clone(), webhook(&m.id)))
        .collect();
    assert!(
        !db.report_ambiguous(&old, 500, &told).await.unwrap(),
        "stale"
    );
    assert!(db.report_ambiguous(&new, 500, &told).await.unwrap());
    let all = states(store).await;
    assert_eq!(all[0], ("one".into(), MessageState::Sent));
    assert_eq!(all[1], ("two".into(), MessageState::Failed));
    let due = due_webhooks(db, &new).await;
    let payloads: Vec<&str> = due.iter().map(|d| d.body.as_str()).collect();
    assert_eq!(payloads, ["{\"failed\":\"two\"}"]);
}

/// Goal: what is known of receipts around a claim outlives its owner: over all shards, in the order of the claims, of sends
/// that were answered. Method: claims of two shards in turn, some with receipts; the owner of one goes.
async fn receipts_around_a_claim_are_known(store: &Store) {
    let mut master = store.cluster(2).await;
    let own = master.promote(0, "c1:coreapp-1", 1).await;
    let other = master.promote(1, "c2:coreapp-1", 2).await;
    let db = &store.db;
    for (owner, id) in [
        (&own, "a"),
        (&other, "b"),
        (&own, "doubt"),
        (&other, "c"),
        (&own, "d"),
        (&own, "refused"),
    ] {
        let message = [message(id, "x")];
        db.accept(owner, &message, true).await.unwrap();
    }
    let finish = |id: &str, to: Finished| Finish {
        id: id.into(),
        to,
        claims: i64::MAX,
    };
    let wamid = || "w".to_owned();
    let mut outcomes: Vec<Finish> = ["a", "b", "c", "d"]
        .map(|id| finish(id, Finished::Sent { wamid: wamid() }))
        .into();
    outcomes.push(finish("refused", Finished::Failed { code: 1000 }));
    assert!(db.finish(&own, &outcomes).await.unwrap());
    let event = |id: &str, state| Processed {
        key: format!("{id}{}", state as u8),
        recipient_hash: 2,
        status: Some((id.into(), state, None)),
        ..Processed::default()
    };
    let (sent, read) = (MessageState::Sent, MessageState::Read);
    let events = [event("a", sent), event("c", sent), event("c", read)];
    assert!(db.process_events(&own, &events, false).await.unwrap());

    let new = master.promote(0, "c3:coreapp-1", 3).await;
    assert_eq!(db.mark_ambiguous(&new, 2).await.unwrap(), 1);
    let overdue = db.overdue_ambiguous(&new, 2, Duration::ZERO, 10);
    let overdue = overdue.await.unwrap();
    assert_eq!((overdue.len(), overdue[0].id.as_str()), (1, "doubt"));
    let before = overdue[0].claim_order;
    let seen = db.receipts_around(before).await.unwrap();
    assert!(
        matches!(
            (&seen.newer[..], &seen.older[..]),
            (
                [Neighbour::Receipted, Neighbour::Lacking(_)],
                [Neighbour::Lacking(_), Neighbour::Receipted]
            )
        ),
        "{seen:?}"
    );
    assert_eq!(seen.lags.len(), 2, "{seen:?}");
    let now = states(store).await;
    assert_eq!(now[2], ("c".into(), MessageState::Read));

    // A newer claim of the same message has a higher number.
    assert_eq!(db.requeue_ambiguous(&new, &overdue).await.unwrap(), 1);
    assert_eq!(db.claim(&new, 2, 10).await.unwrap().len(), 1);
    let doubt = [finish("doubt", Finished::Ambiguous)];
    assert!(db.finish(&new, &doubt).await.unwrap());
    let overdue = db.overdue_ambiguous(&new, 2, Duration::ZERO, 10);
    let overdue = overdue.await.unwrap();
    assert!(overdue[0].claim_order > before);
    let seen = db.receipts_around(overdue[0].claim_order).await.unwrap();
    assert_eq!((seen.newer.len(), seen.older.len()), (0, 4), "{seen:?}");
}

/// Goal: a commit that sends a message again and comes late settles nothing of a later send. Method: it is carried out twice.
async fn a_late_commit_settles_no_later_send(store: &Store) {
    let own = store.cluster(1).await.promote(0, "c1:coreapp-1", 1).await;
    let db = &store.db;
    let doubt = [Finish {
        id: "m".into(),
        to: Finished::Ambiguous,
        claims: i64::MAX,
    }];
    db.accept(&own, &[message("m", "x")], true).await.unwrap();
    assert!(db.finish(&own, &doubt).await.unwrap());
    let first = db.overdue_ambiguous(&own, 1, Duration::ZERO, 10);
    let first = first.await.unwrap();
    assert_eq!(db.requeue_ambiguous(&own, &first).await.unwrap(), 1);
    assert_eq!(db.claim(&own, 1, 10).await.unwrap().len(), 1);
    assert!(db.finish(&own, &doubt).await.unwrap());
    assert_eq!(db.requeue_ambiguous(&own, &first).await.unwrap(), 0);
    let second = db.overdue_ambiguous(&own, 1, Duration::ZERO, 10);
    assert_eq!(second.await.unwrap()[0].sends(), 2);
    assert_eq!(db.unknown_of(&own, 1, 2).await.unwrap(), (1, 1));
    assert_eq!(db.unknown_of(&own, 1, 3).await.unwrap(), (1, 0));
}

/// The caller gave up waiting: what the commit claimed all the same must not stay claimed by nobody.
async fn abandoned_accept_leaves_no_orphan(store: &Store) {
    let own = store.cluster(1).await.promote(0, "c1:coreapp-1", 1).await;
    let mut reported = HashSet::new();
    for n in 0..30u64 {
        let id = format!("m{n}");
        let group = [message(&id, "x")];
        let patience = Duration::from_micros(n * 150);
        if let Ok(Ok(_)) = tokio::time::timeout(patience, store.db.accept(&own, &group, true)).await
        {
            reported.insert(id);
        }
    }
    let orphans = || async {
        let all = states(store).await;
        all.iter()
            .filter(|(id, state)| *state == MessageState::Sending && !reported.contains(id))
            .count()
            == 0
    };
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(eventually(orphans).await);
    for (id, state) in states(store).await {
        assert_eq!(
            state == MessageState::Sending,
            reported.contains(&id),
            "{id}"
        );
    }
}

async fn awkward_texts_come_back_whole(store: &Store) {
    let own = store.cluster(1).await.promote(0, "c1:coreapp-1", 1).await;
    let db = &store.db;
    let texts = [
        "'; DROP TABLE message; --",
        r"back\slash\",
        "emoji 🦀 %s ? {now} {alive}",
        "line\nline\r\n\t",
        "",
    ];
    for (n, text) in texts.iter().enumerate() {
        let id = format!("{n}'\\?{{now}}");
        assert_eq!(
            db.accept(&own, &[message(&id, text)], false).await.unwrap(),
            [Accepted::New]
        );
        let claimed = db.claim(&own, 1, 10).await.unwrap();
        assert_eq!(
            (claimed[0].id.as_str(), claimed[0].payload.as_str()),
            (id.as_str(), *text)
        );
        let sent = Finish {
            id: id.clone(),
            to: Finished::Sent {
                wamid: (*text).into(),
            },
            claims: i64::MAX,
        };
        assert!(db.finish(&own, &[sent]).await.unwrap());
        assert!(db.queue_webhook(&own, &id, 2, text).await.unwrap());
        let event = NewEvent {
            key: id.clone(),
            recipient_hash: 2,
            payload: (*text).into(),
            state: Default::default(),
        };
        assert_eq!(db.store_events(&[event]).await.unwrap(), 1);
    }
    assert!(
        states(store)
            .await
            .iter()
            .all(|(_, state)| *state == MessageState::Sent)
    );
    let due = due_webhooks(db, &own).await;
    assert_eq!(
        due.iter().map(|d| d.body.as_str()).collect::<Vec<_>>(),
        texts
    );
    let mut events: Vec<_> = db.pending_events(&own, 1, 10).await.unwrap();
    events.sort_by(|a, b| a.event_key.cmp(&b.event_key));
    assert_eq!(
        events
            .iter()
            .map(|e| e.payload.as_str())
            .collect::<Vec<_>>(),
        texts
    );
}

async fn too_long_values_are_refused(store: &Store) {
    let own = store.cluster(1).await.promote(0, "c1:coreapp-1", 1).await;
    let long = "k".repeat(65);
    assert!(
        store
            .db
            .accept(&own, &[message(&long, "x")], false)
            .await
            .is_err()
    );
    let mut m = message("r", "x");
    m.recipient = "1".repeat(161);
    assert!(store.db.accept(&own, &[m], false).await.is_err());
    // What an address of today's customers may have at most.
    let mut longest = message("longest", "x");
    longest.recipient = "A".repeat(160);
    store.db.accept(&own, &[longest], false).await.unwrap();
    let claimed = store.db.claim(&own, 1, 1).await.unwrap();
    assert_eq!(claimed[0].recipient.len(), 160);
    // 100 KiB are well within what a template with parameters needs.
    let big = "b".repeat(100 << 10);
    assert!(
        store
            .db
            .accept(&own, &[message("big", &big)], false)
            .await
            .is_ok()
    );
    assert_eq!(store.db.claim(&own, 1, 1).await.unwrap()[0].payload, big);
}

async fn events_are_stored_once(store: &Store) {
    let own = store.cluster(1).await.promote(0, "c1:coreapp-1", 1).await;
    let db = &store.db;
    let event = |key: &str| NewEvent {
        key: key.into(),
        recipient_hash: 2,
        payload: "{}".into(),
        state: Default::default(),
    };
    let (long_a, long_b) = (
        format!("{}a", "k".repeat(200)),
        format!("{}b", "k".repeat(200)),
    );
    let keys = [event("a"), event("b"), event(&long_a), event(&long_b)];
    assert_eq!(db.store_events(&keys).await.unwrap(), 4);
    assert_eq!(
        db.store_events(&[event("a"), event("c"), event(&long_b)])
            .await
            .unwrap(),
        1
    );
    let pending = db.pending_events(&own, 1, 10).await.unwrap();
    assert_eq!(pending.len(), 5);
    let processed: Vec<_> = pending
        .iter()
        .map(|e| Processed {
            key: e.event_key.clone(),
            recipient_hash: 2,
            webhook: Some("{}".into()),
            ..Processed::default()
        })
        .collect();
    assert!(db.process_events(&own, &processed, false).await.unwrap());
    assert!(
        db.process_events(&own, &processed, false).await.unwrap(),
        "repeatable"
    );
    assert!(db.pending_events(&own, 1, 10).await.unwrap().is_empty());
    assert_eq!(db.webhook_depth().await.unwrap(), 5);
    assert_eq!(
        db.store_events(&[event("a")]).await.unwrap(),
        0,
        "remembered after it was processed"
    );
}
