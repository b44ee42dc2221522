//! Customers by their user ids. Goal: what is known of them outlives the process, a number has one living user id, and of two
//! owners who write one customer the later word stands. Method: rows written in every order.

use wa_agent::api::cloud::customer::Known;
use wa_agent::db::Db;
use wa_agent::db::customer::Customer;
use wa_agent::db::inbox::Processed;
use wa_agent::db::message::{Finish, Finished};
use wa_core::id::{Epoch, Ownership};
use wa_core::message::MessageState;

use crate::store::{Store, due_webhooks, message, on_every_store};

on_every_store![
    the_later_word_stands,
    a_number_has_one_living_user_id,
    numbers_that_are_only_remembered_are_found,
    a_route_is_merged_when_nothing_is_unsettled,
    what_arrived_is_no_failure,
    an_alias_is_given_once,
    an_alias_is_handed_on,
];

fn customer(user_id: &str, number: Option<&str>, at_ms: u64) -> Customer {
    Customer {
        user_id: user_id.into(),
        known: Known {
            wa_id: number.map(Into::into),
            remembered: false,
            username: "ann".into(),
            name: "Ann \u{1f44d} O'Lee".into(),
            both_ms: if number.is_some() { at_ms } else { 0 },
            seen_ms: at_ms,
        },
        recipient_hash: 7,
    }
}

async fn one(db: &Db, user_id: &str) -> Customer {
    let found = db.customers(&[user_id, "GB.none"]).await.unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    found[user_id].clone()
}

async fn the_later_word_stands(store: &Store) {
    owner(store).await;
    let db = &store.db;
    let first = customer("GB.1", Some("447700900456"), 100);
    let lost = customer("GB.1", None, 200);
    db.write_customers(std::slice::from_ref(&first))
        .await
        .unwrap();
    assert_eq!(one(db, "GB.1").await, first);
    db.write_customers(std::slice::from_ref(&lost))
        .await
        .unwrap();
    db.write_customers(&[first]).await.unwrap();
    assert_eq!(one(db, "GB.1").await, lost, "what is older changes nothing");
    let other = Customer {
        recipient_hash: 9,
        ..customer("GB.1", Some("447700900457"), 300)
    };
    db.write_customers(&[other]).await.unwrap();
    let found = one(db, "GB.1").await;
    assert_eq!(found.known.wa_id.as_deref(), Some("447700900457"));
    assert_eq!(found.recipient_hash, 7, "a route never changes by itself");
    db.write_customers(&[]).await.unwrap();
}

async fn a_number_has_one_living_user_id(store: &Store) {
    owner(store).await;
    let db = &store.db;
    let number = "447700900456";
    let both = [
        customer("GB.1", Some(number), 100),
        customer("GB.2", Some("447700900457"), 100),
    ];
    db.write_customers(&both).await.unwrap();
    let taken = customer("GB.3", Some(number), 200);
    db.write_customers(std::slice::from_ref(&taken))
        .await
        .unwrap();
    assert_eq!(one(db, "GB.1").await.known.wa_id, None);
    assert_eq!(db.customer_of_number(number).await.unwrap(), Some(taken));
    assert_eq!(db.number_of("GB.1").await.unwrap(), None);
    assert_eq!(db.number_of("GB.3").await.unwrap().unwrap().0, number);
    // Somebody whose word is older does not get it back, whether known before or not; neighbours are written.
    let late = [
        customer("GB.2", Some(number), 150),
        customer("GB.4", Some(number), 50),
        customer("GB.5", Some("447700900458"), 50),
    ];
    db.write_customers(&late).await.unwrap();
    assert_eq!(one(db, "GB.2").await.known.wa_id, None, "it left its own");
    assert_eq!(one(db, "GB.4").await.known.wa_id, None);
    assert_eq!(
        one(db, "GB.5").await.known.wa_id.as_deref(),
        Some("447700900458")
    );
    let living = db.customer_of_number(number).await.unwrap().unwrap();
    assert_eq!(
        (living.user_id.as_str(), living.known.seen_ms),
        ("GB.3", 200)
    );
}

async fn numbers_that_are_only_remembered_are_found(store: &Store) {
    owner(store).await;
    let db = &store.db;
    let mut hidden = customer("GB.1", Some("447700900456"), 100);
    hidden.known.remembered = true;
    let plain = customer("GB.2", Some("447700900457"), 100);
    db.write_customers(&[hidden, plain]).await.unwrap();
    let found = db.remembered_numbers(10).await.unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].user_id, "GB.1");
    assert!(found[0].together_ago_ms > 1_000_000);
    let one = db.remembered_number("447700900456").await.unwrap();
    assert_eq!(one.map(|one| one.user_id).as_deref(), Some("GB.1"));
    assert_eq!(db.remembered_number("447700900457").await.unwrap(), None);
}

async fn an_alias_is_given_once(store: &Store) {
    owner(store).await;
    let db = &store.db;
    let (one, other) = ("999000000000011", "999000000000029");
    db.give_alias("GB.1", one, 7).await.unwrap();
    db.give_alias("GB.1", other, 7).await.unwrap();
    // It is taken: nothing is given, and somebody else tries another one.
    db.give_alias("GB.2", one, 7).await.unwrap();
    let found = db.aliases(&["GB.1", "GB.2", "GB.3"]).await.unwrap();
    assert_eq!((found.len(), found["GB.1"].as_str()), (1, one));
    db.give_alias("GB.2", other, 7).await.unwrap();
    assert_eq!(
        db.user_of_alias(other).await.unwrap().as_deref(),
        Some("GB.2")
    );
    assert_eq!(db.user_of_alias("999000000000037").await.unwrap(), None);
    let named = customer("GB.1", Some("447700900456"), 100);
    db.write_customers(&[named]).await.unwrap();
    let nameless = db.nameless(10).await.unwrap();
    assert_eq!(nameless, [("GB.2".to_owned(), other.to_owned())]);
    // It is good for ever, whatever is learned of its customer.
    assert_eq!(
        db.user_of_alias(one).await.unwrap().as_deref(),
        Some("GB.1")
    );
}

/// Whose an alias is.
async fn holder(store: &Store, alias: &str) -> Option<String> {
    store.db.user_of_alias(alias).await.unwrap()
}

/// An alias goes on to the next user id in one commit of its owner, and nobody loses one.
async fn an_alias_is_handed_on(store: &Store) {
    let own = owner(store).await;
    let db = &store.db;
    let (one, other) = ("999000000000011", "999000000000029");
    db.give_alias("GB.1", one, 7).await.unwrap();
    let (first, second) = (("GB.1", "GB.2"), ("GB.2", "GB.3"));
    let stale = Ownership {
        epoch: Epoch(own.epoch.0 + 1),
        ..own.clone()
    };
    assert!(!db.hand_on_alias(&stale, one, first, 7).await.unwrap());
    assert_eq!(holder(store, one).await.as_deref(), Some("GB.1"));
    // Done once more, it changes nothing.
    for _ in 0..2 {
        assert!(db.hand_on_alias(&own, one, first, 7).await.unwrap());
        assert_eq!(holder(store, one).await.as_deref(), Some("GB.2"));
    }
    let found = db.customers(&["GB.2"]).await.unwrap();
    assert_eq!(found["GB.2"].recipient_hash, 7, "the way of the former");
    // Who has one keeps it, and so does the former.
    db.give_alias("GB.3", other, 7).await.unwrap();
    assert!(db.hand_on_alias(&own, one, second, 7).await.unwrap());
    assert_eq!(holder(store, one).await.as_deref(), Some("GB.2"));
    assert_eq!(holder(store, other).await.as_deref(), Some("GB.3"));
}

async fn owner(store: &Store) -> Ownership {
    store.cluster(1).await.promote(0, "c1:coreapp-1", 1).await
}

async fn a_route_is_merged_when_nothing_is_unsettled(store: &Store) {
    let own = owner(store).await;
    let db = &store.db;
    let mut open = message("a", "x");
    open.recipient_hash = 7;
    db.accept(&own, &[open], true).await.unwrap();
    db.write_customers(&[customer("GB.1", None, 100)])
        .await
        .unwrap();
    assert!(!db.merge_route("GB.1", 7, 9).await.unwrap());
    let sent = Finish {
        id: "a".into(),
        to: Finished::Sent {
            wamid: "wamid.A".into(),
        },
        claims: i64::MAX,
    };
    db.finish(&own, &[sent]).await.unwrap();
    assert!(db.merge_route("GB.1", 7, 9).await.unwrap());
    assert!(!db.merge_route("GB.1", 7, 9).await.unwrap());
    let routes = db.routes(&["GB.1", "447700900456"]).await.unwrap();
    assert_eq!(routes["GB.1"].recipient_hash, 9);
    assert_eq!(routes.len(), 1);
}

async fn what_arrived_is_no_failure(store: &Store) {
    let own = owner(store).await;
    let db = &store.db;
    let ids = ["a", "b", "c"];
    let group = ids.map(|id| message(id, "x"));
    db.accept(&own, &group, true).await.unwrap();
    let event = |id: &str, state: MessageState, told: &str| Processed {
        key: format!("{id}{}", state as u8),
        recipient_hash: 2,
        status: Some((id.into(), state, None)),
        told: Some(told.into()),
        webhook: Some(format!("{{\"{id}\":{}}}", state as u8)),
        before: (told == "r").then(|| "{\"before\":1}".to_owned()),
        ..Processed::default()
    };
    let (delivered, read, failed) = (
        MessageState::Delivered,
        MessageState::Read,
        MessageState::Failed,
    );
    for some in [
        event("a", failed, "f"),
        event("a", delivered, "d"),
        event("b", delivered, "d"),
        event("b", failed, "d"),
        event("c", read, "r"),
    ] {
        assert!(db.process_events(&own, &[some], false).await.unwrap());
    }
    let mut states = db.message_states().await.unwrap();
    states.sort_by(|one, other| one.0.cmp(&other.0));
    let states: Vec<MessageState> = states.into_iter().map(|(_, state)| state).collect();
    assert_eq!(states, [delivered, delivered, read]);
    let told = db.told_of(&ids).await.unwrap();
    let told = ids.map(|id| told[id].text());
    assert_eq!(told, ["d", "d", "r"]);
    let due = due_webhooks(db, &own).await;
    let due: Vec<&str> = due.iter().map(|one| one.body.as_str()).collect();
    // What failed after it arrived is not told; what goes before goes first.
    let wanted = [
        "{\"a\":6}",
        "{\"a\":4}",
        "{\"b\":4}",
        "{\"before\":1}",
        "{\"c\":5}",
    ];
    assert_eq!(due, wanted);
}
