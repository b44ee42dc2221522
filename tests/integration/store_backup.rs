//! Backup and restore on every kind of server. Goal: a restore is one transaction, keeps the login of whoever asks, drops the
//! tokens of users who are changed or gone and no others, and tells by versions what it wrote. Method: back up, change
//! everything, restore, look; then one that must fail in the middle.

use std::time::Duration;

use wa_agent::api::v1::backup::{Blob, Cost, NONCE_LEN, SALT_LEN};
use wa_agent::db::restore::Restored;
use wa_agent::db::setting::{APPLICATION, MEDIA_PROVIDERS};
use wa_agent::db::user::User;
use wa_agent::member::backup::{PasswordKey, make, restore};
use wa_agent::net::keys::Keys;

use crate::store::{Store, on_every_store};

on_every_store![
    a_restore_brings_back_what_was,
    a_restore_that_fails_changes_nothing,
];

fn user(name: &str, salt: &str) -> User {
    User {
        username: name.into(),
        password_hash: format!(
            "$argon2id$v=19$m=19456,t=2,p=1${salt}$w0z2vLSBOlC2qBHrBLdIiAgN2iE7WRZVGB+l24cjvn8"
        ),
        admin: i64::from(name == "admin"),
        must_change: 0,
    }
}

async fn names(store: &Store) -> Vec<String> {
    let users = store.db.users().await.unwrap();
    users.into_iter().map(|user| user.username).collect()
}

async fn a_restore_brings_back_what_was(store: &Store) {
    let db = &store.db;
    db.ensure_lease_table().await.unwrap();
    db.migrate().await.unwrap();
    let keys = Keys::new(b"the key of this cluster, which is long");
    let hour = u64::try_from(Duration::from_secs(3600).as_millis()).unwrap();
    for name in ["admin", "same", "changed"] {
        assert!(db.create_user(&user(name, "c29tZXNhbHQ")).await.unwrap());
    }
    let webhooks = r#"{"webhooks":{"url":"https://business.example/it's \"q\\uoted\" \u00e9"}}"#;
    assert!(db.store_setting(APPLICATION, 0, webhooks).await.unwrap());
    let blank = Blob {
        cost: Cost::NEW,
        salt: [1; SALT_LEN],
        nonce: [0; NONCE_LEN],
        ciphertext: vec![0; 16],
    };
    let key = PasswordKey::new([7; 32]);
    let blob = make(db, &keys, &key, blank).await.unwrap();

    assert!(db.store_setting(APPLICATION, 1, "{}").await.unwrap());
    assert!(
        db.set_password("changed", "$argon2id$v=19$m=1,t=1,p=1$a$b")
            .await
            .unwrap()
    );
    assert!(
        db.set_password("admin", "$argon2id$v=19$m=1,t=1,p=1$now$b")
            .await
            .unwrap()
    );
    assert!(db.create_user(&user("newer", "c29tZXNhbHQ")).await.unwrap());
    for name in ["admin", "same", "changed", "newer"] {
        let user = db.user(name).await.unwrap().unwrap();
        let token = format!("token of {name}");
        assert!(db.store_token(&token, &user, hour).await.unwrap());
    }
    restore(db, &keys, (&key, &blob), "admin").await.unwrap();

    let (version, text) = db.setting(APPLICATION).await.unwrap();
    let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!((version, read(&text)), (3, read(webhooks)));
    assert_eq!(db.setting(MEDIA_PROVIDERS).await.unwrap(), (1, "{}".into()));
    assert_eq!(names(store).await, ["admin", "changed", "same"]);
    let hash = db.user("changed").await.unwrap().unwrap().password_hash;
    assert!(hash.contains("c29tZXNhbHQ"), "{hash}");
    let hash = db.user("admin").await.unwrap().unwrap().password_hash;
    assert!(
        hash.contains("$now$"),
        "whoever asks keeps the password: {hash}"
    );
    for (name, lives) in [
        ("admin", true),
        ("same", true),
        ("changed", false),
        ("newer", false),
    ] {
        let found = db.token_user(&format!("token of {name}")).await.unwrap();
        assert_eq!(found.is_some(), lives, "{name}");
    }
    // Again: the same.
    restore(db, &keys, (&key, &blob), "admin").await.unwrap();
    assert_eq!(names(store).await, ["admin", "changed", "same"]);
    assert!(db.token_user("token of same").await.unwrap().is_some());
}

async fn a_restore_that_fails_changes_nothing(store: &Store) {
    let db = &store.db;
    db.ensure_lease_table().await.unwrap();
    db.migrate().await.unwrap();
    assert!(db.create_user(&user("admin", "c29tZXNhbHQ")).await.unwrap());
    let admin = user("admin", "c29tZXNhbHQ");
    assert!(db.store_token("t", &admin, 60_000).await.unwrap());
    assert!(
        db.store_setting(APPLICATION, 0, r#"{"a":1}"#)
            .await
            .unwrap()
    );
    // A number that no column holds: the last statements but two fail, after the settings were written.
    let broken = User {
        admin: i64::MAX,
        password_hash: "x".repeat(70_000),
        ..user("other", "a")
    };
    let restored = Restored {
        rows: vec![
            (APPLICATION.into(), r#"{"a":2}"#.into()),
            ("x".repeat(300), "{}".into()),
        ],
        users: vec![broken],
        keep: "nobody".into(),
    };
    if db.restore(&restored).await.is_ok() {
        // SQLite knows no lengths of columns: nothing fails there.
        assert!(db.embedded());
        return;
    }
    assert_eq!(
        db.setting(APPLICATION).await.unwrap(),
        (1, r#"{"a":1}"#.into())
    );
    assert_eq!(names(store).await, ["admin"]);
    assert!(db.token_user("t").await.unwrap().is_some());
}
