//! Rows of settings as owners write them, on every kind of server. Goal: what an owner is told of its write is what became of it:
//! an owner that was replaced changes nothing, nor does one that knows an old version. Method: owners of two epochs and right and
//! wrong versions; then the row and the history.

use wa_agent::db::history::Record;

use crate::store::{Store, on_every_store, ownership};

on_every_store![an_owner_learns_whether_it_wrote];

async fn an_owner_learns_whether_it_wrote(store: &Store) {
    let mut master = store.cluster(1).await;
    let own = master.promote(0, "a:coreapp-1", 7).await;
    let stale = ownership(0, "b:coreapp-1", 6);
    let db = &store.db;
    assert!(db.store_setting("r", 0, "a").await.unwrap());
    let record = Record {
        node: "a:coreapp-1".into(),
        what: "registration".into(),
        reason: "OwnerWroteTheRow".into(),
        ..Record::default()
    };
    for record in [Some(&record), None] {
        let (version, _) = db.setting("r").await.unwrap();
        for (own, expect, done) in [
            (&stale, version, false),
            (&own, version - 1, false),
            (&own, version, true),
            (&own, version, false),
        ] {
            let change = (expect, "it's 'b'");
            let stored = db.store_setting_owned(own, "r", change, record).await;
            assert_eq!(stored.unwrap(), done, "{own:?} {expect} of {version}");
        }
    }
    assert_eq!(db.setting("r").await.unwrap(), (3, "it's 'b'".into()));
    let told = db.decisions(50).await.unwrap();
    let written = told.iter().filter(|one| one.reason == "OwnerWroteTheRow");
    assert_eq!(written.count(), 1, "{told:?}");
}
