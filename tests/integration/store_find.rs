//! One message's life. Goal: a message is found by our id, by each id of the upstream, and by its customer, with what became of it and
//! with callbacks that wait; never with what it says. Method: messages in several states, on every store.

use wa_agent::db::find::Life;
use wa_agent::db::message::{Finish, Finished};
use wa_core::message::MessageState;

use crate::store::{Store, message, on_every_store};

on_every_store![a_message_is_found_with_its_life,];

async fn found(store: &Store, id: &str) -> Option<Life> {
    store.db.find_message(id).await.expect("read")
}

async fn a_message_is_found_with_its_life(store: &Store) {
    let own = store.cluster(1).await.promote(0, "c1:coreapp-1", 1).await;
    let group = [message("a", "secret-text"), message("b", "secret-text")];
    store.db.accept(&own, &group, true).await.expect("accepted");
    let wamid = "wamid.A".to_owned();
    let done = Finish {
        id: "a".into(),
        to: Finished::Sent { wamid },
        claims: i64::MAX,
    };
    store.db.finish(&own, &[done]).await.expect("finished");
    for theirs in ["wamid.A", "wamid.A0"] {
        let kept = store.db.remember_ids(&[("a", theirs)]).await;
        kept.expect("kept");
    }
    let hash = group[0].recipient_hash;
    for key in ["wamid.A:read", "wamid.A:delivered", "wamid.AB:read"] {
        let queued = store.db.queue_webhook(&own, key, hash, "{}").await;
        assert!(queued.expect("stored"));
    }

    let ours = found(store, "a").await.expect("there");
    assert_eq!(ours.state, Some(MessageState::Sent));
    assert_eq!(ours.upstream_id.as_deref(), Some("wamid.A"));
    assert_eq!((ours.waiting, ours.parked), (2, 0), "of this message only");
    assert!(ours.accepted_ms > 0 && ours.finished_ms >= ours.accepted_ms);
    assert!(!format!("{ours:?}").contains("secret-text"));
    assert_eq!(found(store, "wamid.A").await.as_ref(), Some(&ours));
    assert_eq!(found(store, "wamid.A0").await.as_ref(), Some(&ours));
    let waiting = found(store, "b").await.expect("there");
    assert_eq!(waiting.state, Some(MessageState::Sending), "by who took it");
    assert_eq!((waiting.finished_ms, waiting.upstream_id), (0, None));
    assert_eq!(found(store, "c").await, None);

    let of = store.db.find_recipient(&ours.recipient).await;
    let of: Vec<String> = of.expect("read").into_iter().map(|life| life.id).collect();
    assert_eq!(of, ["b", "a"], "the newest first");
    let nobody = store.db.find_recipient("1").await.expect("read");
    assert!(nobody.is_empty());
}
