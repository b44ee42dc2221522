//! Only the administrator's own token opens what touches secrets, as the database knows it now.

use std::time::Duration;

use super::*;
use crate::config::{DatabaseSettings, Replication};
use crate::db::user::User;

/// Goal: no token, an unknown one, one of another user, one that was revoked: each is refused with 1005; the administrator's is
/// taken, and says who it is. Method: two users with a token each in a real database.
#[tokio::test]
async fn only_the_administrators_token_counts() {
    let directory = tempfile::tempdir().expect("a directory");
    let settings = DatabaseSettings {
        urls: vec![format!("sqlite://{}/wa.db", directory.path().display())],
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
    for (name, admin) in [("admin", 1), ("bot", 0)] {
        let user = User {
            username: name.into(),
            password_hash: "none".into(),
            admin,
            must_change: 0,
        };
        assert!(db.create_user(&user).await.expect("stored"));
        let token = format!("hash of {name}");
        let stored = db.store_token(&token, &user, 60_000).await;
        assert!(stored.expect("stored"));
    }
    let asked = async |token: &str| administrator(&db, token).await.expect("answered");
    for (token, says) in [
        ("", "log in again"),
        ("hash of nobody", "log in again"),
        ("hash of bot", "Only the administrator"),
    ] {
        let Err(Served::Refused { code, details }) = asked(token).await else {
            panic!("{token:?} was taken");
        };
        assert_eq!(code, Code::AccessDenied);
        assert!(details.contains(says), "{token:?}: {details}");
    }
    assert_eq!(asked("hash of admin").await, Ok("admin".into()));
    db.revoke_token("hash of admin").await.expect("revoked");
    assert!(asked("hash of admin").await.is_err());
}
