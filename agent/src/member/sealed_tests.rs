//! Sealed texts are found wherever they stand in a row, told as they stand, and sealed anew without losing anything else.

use std::time::Duration;

use secrecy::ExposeSecret as _;
use serde_json::json;

use super::*;
use crate::config::{DatabaseSettings, Replication};

async fn store(place: &std::path::Path) -> Db {
    let settings = DatabaseSettings {
        urls: vec![format!("sqlite://{}/wa.db", place.display())],
        logins: Default::default(),
        replication: Replication::Auto,
        ssl_ca: None,
        ssl_cert: None,
        ssl_key: None,
        connect_timeout: Duration::from_secs(5),
        busy_timeout: Duration::from_secs(5),
    };
    let db = Db::connect(&settings, 2).await.expect("connected");
    db.ensure_lease_table().await.expect("made");
    db.migrate().await.expect("made");
    db
}

const OLD: &str = "the key of yesterday, which is long";
const NEW: &str = "the key of tomorrow, which is long";
const ELSEWHERE: &str = "the key of another cluster, long";

fn sealed(keys: &Keys, of: Seal, field: &str) -> String {
    let place = Place::setting("row", field);
    keys.seal(of, &place, field.as_bytes()).expect("sealed")
}

/// Goal: after sealing anew every text that opened is under the new key, for the same readers and the same place; what does not
/// open, and everything that is not sealed, stays as it is and is named. Method: a row with texts in an object, a list and under
/// odd names, one of another cluster, one that was moved, and numbers beside them.
#[tokio::test]
async fn everything_that_opens_is_sealed_anew() {
    let directory = tempfile::tempdir().expect("a directory");
    let db = store(directory.path()).await;
    let old = Keys::new(OLD.as_bytes());
    let both = Keys::new(format!("{NEW}\n{OLD}").as_bytes());
    let foreign = sealed(&Keys::new(ELSEWHERE.as_bytes()), Seal::Owner, "foreign");
    let moved = sealed(&old, Seal::Owner, "elsewhere");
    let row = json!({"a": {"b/c~d": sealed(&old, Seal::Owner, "a/b~1c~0d")}, "list": [1.5, sealed(&old, Seal::Webapp, "list/1")],
        "newer": sealed(&both, Seal::Owner, "newer"), "foreign": foreign, "moved": moved, "text": "v1.0 of it", "number": 9_007_199_254_740_993_u64});
    assert!(
        db.store_setting("row", 0, &row.to_string())
            .await
            .expect("stored")
    );
    assert!(
        db.store_setting("noise", 0, "v1. but no JSON")
            .await
            .expect("stored")
    );
    let standing = |found: &[Found], field: &str| {
        let place = format!("setting/row/{field}");
        let found = found.iter().find(|found| found.place == place);
        found.expect("found").standing.clone()
    };
    let found = look(&db, &both).await.expect("read");
    assert_eq!(found.len(), 5, "{found:?}");
    assert_eq!(standing(&found, "a/b~1c~0d"), Standing::Older);
    assert_eq!(standing(&found, "list/1"), Standing::Older);
    assert_eq!(standing(&found, "newer"), Standing::Newest);
    assert!(matches!(
        standing(&found, "foreign"),
        Standing::Lost(SealError::UnknownKey { .. })
    ));
    assert!(matches!(
        standing(&found, "moved"),
        Standing::Lost(SealError::Changed { .. })
    ));
    let done = reseal(&db, &both).await.expect("written");
    assert_eq!(
        (done.count, done.left.len(), done.lost.len()),
        (2, 0, 2),
        "{done:?}"
    );
    let (version, text) = db.setting("row").await.expect("read");
    let after: Value = serde_json::from_str(&text).expect("JSON");
    for same in ["newer", "foreign", "moved", "text", "number"] {
        assert_eq!(after[same], row[same], "{same}");
    }
    let new = Keys::new(NEW.as_bytes());
    for (of, field, way) in [
        (Seal::Owner, "a/b~1c~0d", "/a/b~1c~0d"),
        (Seal::Webapp, "list/1", "/list/1"),
    ] {
        let text = after.pointer(way).and_then(Value::as_str).expect("a text");
        let opened = new.open(of, &Place::setting("row", field), text);
        assert_eq!(opened.expect("opened").expose_secret(), field.as_bytes());
    }
    let again = reseal(&db, &both).await.expect("read");
    assert_eq!(again.count, 0);
    assert_eq!(
        db.setting("row").await.expect("read").0,
        version,
        "nothing was written"
    );
}
