//! What one tenure has learned of customers. Goal: a number has one living user id, nothing that was told is undone by what is older,
//! and a number that changed is in the store before anything is done with it. Method: events in every order.

use super::*;

fn told(user_id: &str, number: &str) -> Sighting {
    Sighting {
        user_id: user_id.into(),
        number: Number::Told(number.into()),
        username: None,
        name: None,
    }
}

fn written(customers: &Customers, taken: &[Waiting]) {
    let done = taken.iter().map(|taken| Done {
        known: taken.customer.known.clone(),
        parted: taken.customer.user_id == "GB.parted",
    });
    customers.written(taken, &done.collect::<Vec<_>>());
}

/// Goal: a number that changed is written first, whatever waits, and is urgent until it is in the store. Method: a full queue,
/// and a write that fails.
#[test]
fn a_number_that_changed_goes_first() {
    let customers = Customers::default();
    for n in 0..=WAITING_MAX {
        customers.learn(&told(&format!("GB.9{n}"), &format!("{n:0>9}")), 1, 7);
    }
    let lost = Sighting {
        number: Number::Lost,
        ..told("GB.91", "")
    };
    assert!(customers.learn(&lost, 1, 8) && customers.urgent());
    let taken = customers.take();
    assert_eq!(taken[0].customer.user_id, "GB.91");
    assert!(taken.len() > 1, "others go along");
    assert!(customers.urgent(), "it is not written yet");
    customers.put_back(&taken);
    let taken = customers.take();
    assert_eq!(taken[0].customer.user_id, "GB.91");
    written(&customers, &taken);
    assert!(!customers.urgent());
}

/// Goal: an event that waits for its file is learned once, and what came earlier takes no number back. Method: two batches
/// with one event in common; a number that went to somebody else.
#[test]
fn an_event_teaches_once() {
    let customers = Customers::default();
    customers.begin(["a", "b"].into_iter());
    assert!(customers.first_time("a") && customers.first_time("b"));
    customers.begin(["a", "c"].into_iter());
    assert!(!customers.first_time("a") && customers.first_time("c"));
    customers.begin(["b"].into_iter());
    assert!(customers.first_time("b"), "it is not remembered for ever");
    customers.learn(&told("GB.1", "447700900456"), 7, 100);
    customers.learn(&told("GB.2", "447700900456"), 7, 200);
    customers.learn(&told("GB.1", "447700900456"), 7, 100);
    assert_eq!(customers.number("GB.1"), None);
    assert_eq!(customers.number("GB.2").as_deref(), Some("447700900456"));
}

/// Goal: the way of a number is wanted until it is gone. Method: a merge that was too early, and an event by the old way.
#[test]
fn a_wanted_way_is_not_forgotten() {
    let customers = Customers::default();
    let pair = told("GB.parted", "447700900456");
    customers.learn(&pair, 7, 100);
    written(&customers, &customers.take());
    customers.learn(&pair, hash_of("GB.parted"), 200);
    let again = customers.take();
    assert_eq!((again.len(), again[0].customer.recipient_hash), (1, 7));
}

/// Goal: nobody learns the way of an empty name. Method: an event that named nobody.
#[test]
fn an_event_without_a_name_teaches_no_route() {
    let customers = Customers::default();
    customers.learn(&told("GB.1", "447700900456"), hash_of(""), 100);
    assert_eq!(customers.take()[0].customer.recipient_hash, hash_of("GB.1"));
}

/// Goal: a pair is known at once, written once, and a number has one living user id. Method: a number that goes to another
/// customer.
#[test]
fn a_number_has_one_living_user_id() {
    let customers = Customers::default();
    assert!(!customers.learn(&told("GB.1", "447700900456"), 7, 100));
    assert_eq!(customers.number("GB.1").as_deref(), Some("447700900456"));
    let taken = customers.take();
    assert_eq!((taken.len(), taken[0].customer.recipient_hash), (1, 7));
    written(&customers, &taken);
    customers.learn(&told("GB.1", "447700900456"), 7, 200);
    assert!(customers.take().is_empty(), "nothing changed");
    customers.learn(&told("GB.2", "447700900456"), 7, 300);
    assert_eq!(customers.number("GB.1"), None);
    let taken = customers.take();
    customers.put_back(&taken);
    let again = customers.take();
    assert_eq!(again, taken);
    let lost = Sighting {
        number: Number::Lost,
        ..told("GB.2", "")
    };
    written(&customers, &taken);
    assert!(customers.learn(&lost, 7, 400), "written at once");
    assert_eq!(customers.number("GB.2"), None);
}

/// Goal: a number that the upstream does not tell any more is known as such, at once and after a takeover. Method: events, and
/// what the store says.
#[test]
fn numbers_that_are_only_remembered_are_known_as_such() {
    let customers = Customers::default();
    assert_eq!(customers.memory("447700900456"), Memory::Unknown);
    customers.learn(&told("GB.1", "447700900456"), 7, 1000);
    customers.learn(&told("GB.3", "447700900458"), 7, 1000);
    let old = |number: &str, user_id: &str| Remembered {
        number: number.into(),
        user_id: user_id.into(),
        together_ago_ms: 60_000,
    };
    customers.remembered(vec![
        old("447700900457", "GB.2"),
        old("447700900456", "GB.1"),
        old("447700900458", "GB.4"),
    ]);
    assert_eq!(customers.memory("447700900456"), Memory::Plain);
    assert_eq!(customers.memory("447700900458"), Memory::Plain);
    let of = |number: &str| match customers.memory(number) {
        Memory::Remembered(user_id, ago) => (user_id, ago.as_secs()),
        other @ (Memory::Plain | Memory::Unknown) => panic!("{other:?}"),
    };
    assert_eq!(of("447700900457"), ("GB.2".to_owned(), 60));
    let hidden = Sighting {
        number: Number::Hidden,
        ..told("GB.1", "")
    };
    customers.learn(&hidden, 7, 31_000);
    assert_eq!(of("447700900456"), ("GB.1".to_owned(), 30));
    customers.learn(&told("GB.1", "447700900456"), 7, 32_000);
    assert_eq!(customers.memory("447700900456"), Memory::Plain);
}

#[test]
fn what_the_store_says_is_known_and_has_a_bound() {
    let customers = Customers::default();
    let found = Customer {
        user_id: "GB.1".into(),
        known: Known::default().after(&told("GB.1", "447700900456"), 5),
        recipient_hash: 9,
    };
    let asked = ["GB.1", "GB.2"];
    assert_eq!(customers.unknown(asked.into_iter()), asked);
    customers.read(
        asked.into_iter(),
        HashMap::from([("GB.1".to_owned(), found)]),
    );
    assert!(customers.unknown(asked.into_iter()).is_empty());
    assert_eq!(customers.number("GB.1").as_deref(), Some("447700900456"));
    customers.learn(&told("GB.1", "447700900456"), 9, 6);
    assert!(customers.take().is_empty(), "the store has it");
    for n in 0..LEN_MAX {
        customers.learn(&told(&format!("GB.9{n}"), &format!("{n:0>9}")), 1, 7);
    }
    assert_eq!(customers.number("GB.1"), None);
    let state = customers.state();
    assert_eq!(
        (state.known.len(), state.waiting.len()),
        (LEN_MAX, WAITING_MAX)
    );
    assert!(state.living.len() <= LEN_MAX);
}
