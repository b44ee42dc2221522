//! Files of customers that only the upstream has, and statuses that are told once. Goal: the store remembers both in the commit that
//! tells of them, or not at all; what a release before this one does with such rows does no harm. Method: an owner by hand, the calls
//! of the owner and of webapps.

use std::cell::Cell;

use wa_agent::db::event::State;
use wa_agent::db::inbox::{NewEvent, Processed};
use wa_agent::db::media::Medium;
use wa_agent::db::remote::Remote;
use wa_core::id::{Epoch, Ownership};

use crate::store::{Store, eventually, on_every_store};

on_every_store![
    a_file_is_remembered_until_it_is_here,
    a_file_that_the_upstream_has_no_more_is_forgotten,
    a_stale_owner_remembers_nothing,
    a_status_under_one_key_is_told_once,
];

const DAY_MS: u64 = 24 * 3600 * 1000;

async fn owner(store: &Store) -> Ownership {
    store.cluster(1).await.promote(0, "c1:coreapp-1", 1).await
}

fn id(n: usize) -> String {
    format!("f043afd0-0000-4000-8000-{n:012}")
}

fn remote(n: usize) -> Remote {
    Remote {
        id: id(n),
        cloud_id: format!("cloud-{n}"),
        mime: "image/png".into(),
        sha256: "5a".repeat(32),
    }
}

async fn event(store: &Store, key: &str) {
    let event = NewEvent {
        key: key.into(),
        recipient_hash: 2,
        payload: "{}".into(),
        state: State::Pending,
    };
    assert_eq!(store.db.store_events(&[event]).await.unwrap(), 1);
}

async fn a_file_is_remembered_until_it_is_here(store: &Store) {
    let own = owner(store).await;
    let db = &store.db;
    // More than one statement has rows.
    let mut all = Vec::new();
    for n in 0..70 {
        event(store, &format!("e{n}")).await;
        all.push(Processed {
            key: format!("e{n}"),
            recipient_hash: 2,
            remote: Some(remote(n)),
            ..Processed::default()
        });
    }
    assert!(db.process_events(&own, &all, true).await.unwrap());
    assert!(db.pending_events(&own, 1, 10).await.unwrap().is_empty());
    for n in [0, 63, 64, 69] {
        let (found, age_ms) = db.remote_medium(&id(n)).await.unwrap().expect("remembered");
        assert_eq!(found, remote(n));
        assert!(age_ms < DAY_MS);
        assert_eq!(db.medium(&id(n)).await.unwrap(), None, "it is not here");
        assert_eq!(db.use_medium(&id(n)).await.unwrap(), None);
        // What an owner of the release before asks.
        assert_eq!(db.cloud_medium(&id(n), 30 * DAY_MS).await.unwrap(), None);
    }
    let first = id(0);
    assert!(!db.forget_cloud_medium(&first, None).await.unwrap());
    let here = Medium {
        id: first.clone(),
        mime: "image/jpeg".into(),
        bytes: 7,
        sha256: "a5".repeat(32),
    };
    assert!(db.fetched_medium(&here).await.unwrap());
    assert!(!db.fetched_medium(&here).await.unwrap(), "it is here");
    assert_eq!(db.use_medium(&first).await.unwrap(), Some(here));
    assert_eq!(db.remote_medium(&first).await.unwrap(), None);
    assert!(db.remove_medium(&id(1)).await.unwrap());
    assert_eq!(db.remote_medium(&id(1)).await.unwrap(), None);
    // A collection takes what nobody asked for.
    let unused = db.media_unused(&id(1), 0, 100).await.unwrap();
    assert_eq!(unused.len(), 68);
}

/// Only what was never fetched and is old goes, page by page.
async fn a_file_that_the_upstream_has_no_more_is_forgotten(store: &Store) {
    let own = owner(store).await;
    let db = &store.db;
    event(store, "e").await;
    let all: Vec<Processed> = (0..5)
        .map(|n| Processed {
            key: "e".into(),
            recipient_hash: 2,
            remote: Some(remote(n)),
            ..Processed::default()
        })
        .collect();
    assert!(db.process_events(&own, &all, true).await.unwrap());
    let here = Medium {
        id: id(2),
        mime: "image/png".into(),
        bytes: 7,
        sha256: "a5".repeat(32),
    };
    assert!(db.fetched_medium(&here).await.unwrap());
    assert_eq!(
        db.forget_remote("", DAY_MS, 100).await.unwrap(),
        (0, String::new())
    );
    let older = || async {
        let found = db.remote_medium(&id(0)).await.unwrap();
        found.is_some_and(|(_, age_ms)| age_ms > 1)
    };
    assert!(eventually(older).await);
    assert_eq!(db.forget_remote("", 0, 2).await.unwrap(), (2, id(1)));
    assert_eq!(db.forget_remote(&id(1), 0, 2).await.unwrap(), (1, id(3)));
    assert_eq!(
        db.forget_remote(&id(3), 0, 2).await.unwrap(),
        (1, String::new())
    );
    for n in [0, 1, 3, 4] {
        assert_eq!(db.remote_medium(&id(n)).await.unwrap(), None, "{n}");
    }
    assert_eq!(db.medium(&id(2)).await.unwrap(), Some(here));
}

async fn a_stale_owner_remembers_nothing(store: &Store) {
    let own = owner(store).await;
    let db = &store.db;
    event(store, "e").await;
    let stale = Ownership {
        epoch: Epoch(own.epoch.0 + 1),
        ..own.clone()
    };
    let one = [Processed {
        key: "e".into(),
        recipient_hash: 2,
        webhook: Some("{}".into()),
        once: Some("m:read".into()),
        remote: Some(remote(0)),
        ..Processed::default()
    }];
    assert!(!db.process_events(&stale, &one, true).await.unwrap());
    assert_eq!(db.remote_medium(&id(0)).await.unwrap(), None);
    assert_eq!(db.webhook_depth().await.unwrap(), 0);
    assert!(db.process_events(&own, &one, true).await.unwrap());
    assert!(db.remote_medium(&id(0)).await.unwrap().is_some());
    assert_eq!(db.webhook_depth().await.unwrap(), 1, "no mark was left");
}

async fn a_status_under_one_key_is_told_once(store: &Store) {
    let own = owner(store).await;
    let db = &store.db;
    let status = |key: &str, once: &str| Processed {
        key: key.into(),
        recipient_hash: 2,
        webhook: Some(format!("\"{key}\"")),
        once: Some(once.into()),
        ..Processed::default()
    };
    // Two of one key in one commit, and a third behind it; another key is another status.
    let both = [status("a", "m:read"), status("b", "m:read")];
    for key in ["a", "b", "c", "d"] {
        event(store, key).await;
    }
    assert!(db.process_events(&own, &both, true).await.unwrap());
    let later = [status("c", "m:read"), status("d", "m:warning")];
    assert!(db.process_events(&own, &later, true).await.unwrap());
    assert_eq!(db.webhook_depth().await.unwrap(), 2);
    assert!(db.pending_events(&own, 1, 10).await.unwrap().is_empty());
    // The marks go with the events.
    let gone = Cell::new(0);
    let all = async || {
        gone.set(gone.get() + db.forget_events((0, 0), 100).await.unwrap());
        gone.get() == 6
    };
    assert!(eventually(all).await);
}
