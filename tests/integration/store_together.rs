//! Events of one batch are written with few statements: rows and webhooks are what they are when each event comes alone.

use wa_agent::api::cloud::told::Row;
use wa_agent::db::event::State;
use wa_agent::db::inbox::{NewEvent, Processed};
use wa_agent::db::message::{Finish, Finished};
use wa_core::message::MessageState;

use crate::store::{Store, message, on_every_store, results};

on_every_store!(a_batch_does_what_single_events_do);

/// More messages than one statement has rows.
const MESSAGES: usize = 75;

/// What is heard of a message, by its number: state, what its row says of what was told, whether a webhook is told before.
fn story(n: usize) -> &'static [(MessageState, Option<&'static str>, bool)] {
    use MessageState::{Delivered, Failed, Read, Sent};
    match n % 6 {
        0 => &[
            (Sent, Some("s"), false),
            (Delivered, Some("d"), false),
            (Read, Some("r"), false),
        ],
        1 => &[(Read, Some("r"), true), (Delivered, None, false)],
        2 => &[(Failed, Some("f"), false), (Delivered, Some("d"), false)],
        3 => &[(Delivered, Some("d"), false), (Failed, None, false)],
        4 => &[(Sent, None, false), (Sent, None, false)],
        _ => &[(Failed, Some("f"), false), (Failed, None, false)],
    }
}

/// The events of one set of messages, mixed: the first ones of all messages, then the second ones.
fn events(set: &str) -> Vec<Processed> {
    let mut events = Vec::new();
    for step in 0..3 {
        for n in 0..MESSAGES {
            let Some((state, told, before)) = story(n).get(step) else {
                continue;
            };
            let id = format!("{set}{n:03}");
            // Every other row learns the upstream's id.
            let wamid = (n % 2 == 0).then(|| format!("wamid.{n}.{step}"));
            let webhook = |what: &str| format!("{n} {step} {what}");
            events.push(Processed {
                key: format!("{id}:{step}"),
                recipient_hash: 2,
                status: Some((id, *state, wamid)),
                told: told.map(str::to_owned),
                webhook: Some(webhook("told")),
                before: before.then(|| webhook("before")),
                ..Processed::default()
            });
        }
    }
    events
}

/// Goal: see above. Method: two sets of messages with the same histories, messages that fail and arrive after all among them;
/// the events of one set come one by one, those of the other in one batch.
async fn a_batch_does_what_single_events_do(store: &Store) {
    let own = store.cluster(1).await.promote(0, "c1:coreapp-1", 1).await;
    let db = &store.db;
    let mut webhooks = Vec::new();
    for (set, together) in [("alone", false), ("batch", true)] {
        let ids: Vec<String> = (0..MESSAGES).map(|n| format!("{set}{n:03}")).collect();
        let group: Vec<_> = ids.iter().map(|id| message(id, "x")).collect();
        db.accept(&own, &group, true).await.unwrap();
        let sent = |id: &String| Finish {
            id: id.clone(),
            to: Finished::Sent {
                wamid: "wamid".into(),
            },
            claims: i64::MAX,
        };
        let sent: Vec<Finish> = ids.iter().map(sent).collect();
        assert!(db.finish(&own, &sent).await.unwrap());
        let events = events(set);
        let stored = events.iter().map(|event| NewEvent {
            key: event.key.clone(),
            recipient_hash: 2,
            payload: "{}".into(),
            state: State::Pending,
        });
        let stored: Vec<NewEvent> = stored.collect();
        db.store_events(&stored).await.unwrap();
        if together {
            assert!(db.process_events(&own, &events, false).await.unwrap());
        } else {
            for event in &events {
                let one = std::slice::from_ref(event);
                assert!(db.process_events(&own, one, false).await.unwrap());
            }
        }
        assert!(db.pending_events(&own, 1, 10).await.unwrap().is_empty());
        let page = db.webhooks_behind(&own, 1, 0, (1000, 900_000));
        let due = page.await.unwrap().rows;
        let done: Vec<i64> = due.iter().map(|due| due.id).collect();
        assert!(db.webhooks_done(&own, &results(&done, &[])).await.unwrap());
        let payloads: Vec<String> = due.into_iter().map(|due| due.body).collect();
        assert!(payloads.len() > MESSAGES, "{payloads:?}");
        webhooks.push(payloads);
    }
    assert_eq!(webhooks[0], webhooks[1]);
    let states = db.message_states().await.unwrap();
    let of = |set: &str| {
        let found = states.iter().filter(|(id, _)| id.starts_with(set));
        let mut found: Vec<_> = found
            .map(|(id, state)| (id[5..].to_owned(), *state))
            .collect();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    };
    assert_eq!(of("alone").len(), MESSAGES);
    assert_eq!(of("alone"), of("batch"));
    for n in 0..MESSAGES {
        let ids = ["alone", "batch"].map(|set| format!("{set}{n:03}"));
        let told = db.told_of(&[&ids[0], &ids[1]]).await.unwrap();
        let row = |id: &String| told.get(id).map(Row::text);
        assert_eq!(row(&ids[0]), row(&ids[1]), "{n}");
        let named = db.rows_of(&[&ids[0], &ids[1]]).await.unwrap();
        assert_eq!(named.len(), 2);
    }
}
