//! The table of templates. Goal: only the shard's owner changes what is known; everybody may put it in doubt; people see first what cannot
//! be used. Method: an owner, one that was replaced, and names of other templates and with odd characters.

use wa_agent::api::cloud::template::{Entry, Header, Shape};
use wa_core::id::{Epoch, Grant, Ownership};

use crate::store::{Store, on_every_store};

on_every_store![
    a_replaced_owner_changes_no_template,
    what_is_in_doubt_is_old_and_stays,
    people_see_how_templates_stand,
];

/// What a refusal by places may rest on.
const FRESH_MS: u64 = wa_agent::api::cloud::template::verdict::FRESH_MS;

fn entry(name: &str, language: &str, status: &str) -> Entry {
    Entry {
        name: name.into(),
        language: language.into(),
        status: status.into(),
        shape: Shape {
            header: Some(Header::Other("it's \\ {alive}".into())),
            ..Shape::default()
        },
    }
}

async fn owner(store: &Store) -> Ownership {
    store.cluster(1).await.promote(0, "c1:coreapp-1", 1).await
}

/// Language and state of every template of this name, in the order of the languages.
async fn states(store: &Store, name: &str) -> Vec<(String, String)> {
    let known = store.db.templates(name).await.unwrap();
    let mut states: Vec<_> = known
        .into_iter()
        .map(|known| (known.entry.language, known.entry.status))
        .collect();
    states.sort();
    states
}

fn state(language: &str, status: &str) -> (String, String) {
    (language.into(), status.into())
}

async fn a_replaced_owner_changes_no_template(store: &Store) {
    let own = owner(store).await;
    let db = &store.db;
    let odd = "o'r\\d{alive}\u{e9}";
    // More than one commit holds.
    let many: Vec<_> = (0..60)
        .map(|number| entry(&format!("many{number}"), "en", "APPROVED"))
        .chain([
            entry(odd, "en", "APPROVED"),
            entry(odd, "de", "APPROVED"),
            entry(&"x".repeat(513), "de", "APPROVED"),
        ])
        .collect();
    assert!(db.store_templates(&own, &many).await.unwrap());
    assert!(
        db.store_templates(&own, &[entry(odd, "de", "PAUSED")])
            .await
            .unwrap()
    );
    let wanted = [state("de", "PAUSED"), state("en", "APPROVED")];
    assert_eq!(states(store, odd).await, wanted);
    assert_eq!(states(store, "many0").await, [state("en", "APPROVED")]);
    assert_eq!(states(store, "many59").await, [state("en", "APPROVED")]);
    let known = db.templates(odd).await.unwrap();
    assert_eq!(known[0].entry.shape, entry(odd, "", "").shape);
    assert!(known[0].age_ms <= FRESH_MS, "{}", known[0].age_ms);

    let late_ms = db.now_ms().await.unwrap() + 60_000;
    let stale = [
        Ownership {
            epoch: Epoch(own.epoch.0 + 1),
            ..own.clone()
        },
        Ownership {
            grant: Grant(own.grant.0 + 1),
            ..own.clone()
        },
    ];
    for stale in stale {
        let changed = [entry(odd, "de", "APPROVED"), entry("new", "en", "APPROVED")];
        assert!(!db.store_templates(&stale, &changed).await.unwrap());
        for name in [Some(odd), None] {
            let gone = db.forget_templates(&stale, name, late_ms).await.unwrap();
            assert_eq!(gone, None, "{name:?}");
        }
        assert_eq!(states(store, odd).await, wanted);
        assert!(states(store, "new").await.is_empty());
    }

    let gone = async |name, before_ms| {
        let gone = db.forget_templates(&own, name, before_ms).await;
        gone.unwrap().unwrap()
    };
    assert_eq!(gone(None, late_ms - 3_600_000).await, 0);
    assert_eq!(gone(Some(odd), late_ms).await, 2);
    assert_eq!(gone(None, late_ms).await, 60);
}

async fn what_is_in_doubt_is_old_and_stays(store: &Store) {
    let own = owner(store).await;
    let db = &store.db;
    let began_ms = db.now_ms().await.unwrap();
    let all = ["a", "b"].map(|name| entry(name, "en_US", "APPROVED"));
    assert!(db.store_templates(&own, &all).await.unwrap());
    let fresh = async |name| {
        let known = db.templates(name).await.unwrap();
        assert_eq!(known.len(), 1, "{name}");
        known[0].age_ms <= FRESH_MS
    };
    assert_eq!(db.doubt_templates(&[]).await.unwrap(), 0);
    // The second one finds the mark, and does not take it away.
    assert_eq!(db.doubt_templates(&["a", "nobody"]).await.unwrap(), 1);
    assert_eq!(db.doubt_templates(&["a", "nobody"]).await.unwrap(), 0);
    assert!(!fresh("a").await);
    assert!(fresh("b").await);
    // A reading that began before them found both: a mark is no absence.
    let gone = db.forget_templates(&own, None, began_ms).await.unwrap();
    assert_eq!(gone, Some(0));
    assert!(!fresh("a").await);
    assert!(db.store_templates(&own, &all).await.unwrap());
    assert!(fresh("a").await);
    assert_eq!(db.doubt_templates(&["a"]).await.unwrap(), 1);
    let late_ms = db.now_ms().await.unwrap() + 60_000;
    let gone = db.forget_templates(&own, None, late_ms).await.unwrap();
    assert_eq!(gone, Some(2));
}

/// What the console's page of the number asks. A table that is empty has no states; a list that is too short for all loses those that can be
/// used, not those that cannot.
async fn people_see_how_templates_stand(store: &Store) {
    let own = owner(store).await;
    let db = &store.db;
    assert_eq!(db.listed_templates(10).await.unwrap(), []);
    assert_eq!(db.template_states().await.unwrap(), []);
    let odd = "o'r\\d{alive}\u{e9}";
    let all = [
        entry("b", "en", "APPROVED"),
        entry("a", "en", "APPROVED"),
        entry("a", "de", "APPROVED"),
        entry("z", "en", "REJECTED"),
        entry(odd, "en", "PAUSED"),
        entry("gone", "en", "PAUSED"),
    ];
    assert!(db.store_templates(&own, &all).await.unwrap());
    let late_ms = db.now_ms().await.unwrap() + 60_000;
    let gone = db.forget_templates(&own, Some("gone"), late_ms).await;
    assert_eq!(gone.unwrap(), Some(1));
    assert_eq!(db.doubt_templates(&["b"]).await.unwrap(), 1);
    let listed = async |limit| {
        let listed = db.listed_templates(limit).await.unwrap();
        let word = |one: wa_agent::db::template::Listed| {
            let fresh = one.age_ms.map(|ms| ms <= FRESH_MS);
            (one.name, one.language, one.status, fresh)
        };
        listed.into_iter().map(word).collect::<Vec<_>>()
    };
    let row = |name: &str, language: &str, status: &str, fresh| {
        (
            name.to_owned(),
            language.to_owned(),
            status.to_owned(),
            fresh,
        )
    };
    let wanted = [
        row(odd, "en", "PAUSED", Some(true)),
        row("z", "en", "REJECTED", Some(true)),
        row("a", "de", "APPROVED", Some(true)),
        row("a", "en", "APPROVED", Some(true)),
        row("b", "en", "APPROVED", None),
    ];
    assert_eq!(listed(10).await, wanted);
    assert_eq!(listed(3).await, wanted[..3]);
    assert_eq!(listed(0).await, []);
    let states = [("APPROVED", 3), ("PAUSED", 1), ("REJECTED", 1)];
    let states = states.map(|(status, count)| (status.to_owned(), count));
    assert_eq!(db.template_states().await.unwrap(), states);
}
