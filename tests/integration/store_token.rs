//! Tokens and the audit on every kind of server. Goal: a token belongs to one user and no later one of the same name, a user has a
//! bounded number of them, and those in use stay; old lines of the audit go in bounded steps. Method: users and tokens by hand.

use wa_agent::db::audit::NewLine;
use wa_agent::db::token::TOKENS_MAX;
use wa_agent::db::user::User;

use crate::store::{Store, on_every_store};

on_every_store![
    tokens_end_with_their_user,
    a_user_has_a_bounded_number_of_tokens,
    tokens_are_listed_and_revoked,
    lines_of_the_audit_go_when_they_are_old_or_too_many,
];

const HOUR_MS: u64 = 3_600_000;

async fn with_user(store: &Store, name: &str) -> User {
    let db = &store.db;
    db.ensure_lease_table().await.unwrap();
    db.migrate().await.unwrap();
    let user = User {
        username: name.into(),
        password_hash: "h".into(),
        admin: 0,
        must_change: 0,
    };
    assert!(db.create_user(&user).await.unwrap());
    user
}

/// A login whose user is deleted and made anew in the middle, and one whose password is changed.
async fn tokens_end_with_their_user(store: &Store) {
    let user = with_user(store, "ann").await;
    let db = &store.db;
    assert!(db.store_token("t1", &user, HOUR_MS).await.unwrap());
    assert!(db.token_user("t1").await.unwrap().is_some());
    assert!(db.delete_user("ann").await.unwrap());
    let anew = User {
        password_hash: "other".into(),
        ..user.clone()
    };
    assert!(db.create_user(&anew).await.unwrap());
    assert_eq!(db.token_user("t1").await.unwrap(), None);
    // The password was looked at before; the token comes after.
    assert!(!db.store_token("t2", &user, HOUR_MS).await.unwrap());
    assert_eq!(db.token_user("t2").await.unwrap(), None);
    assert!(db.store_token("t3", &anew, HOUR_MS).await.unwrap());
    assert!(db.token_user("t3").await.unwrap().is_some());
    // Somebody else took the row of the user away, and left its tokens.
    store
        .run("DELETE FROM user_account WHERE username='ann'")
        .await;
    assert!(db.create_user(&anew).await.unwrap());
    assert_eq!(db.token_user("t3").await.unwrap(), None);
}

async fn a_user_has_a_bounded_number_of_tokens(store: &Store) {
    let user = with_user(store, "ann").await;
    let other = with_user(store, "bob1").await;
    let db = &store.db;
    assert!(db.store_token("of bob1", &other, HOUR_MS).await.unwrap());
    assert!(db.store_token("in use", &user, HOUR_MS).await.unwrap());
    // As many as may be, and as old releases made them: without an end.
    let row = |n: u32| format!("('old {n}', 'ann', 9000000000000, 0, {n})");
    let rows: Vec<String> = (1..=TOKENS_MAX + 100).map(row).collect();
    let all = format!(
        "INSERT INTO token (token_hash, username, expires_ms, user_id, used_ms) VALUES {}",
        rows.join(",")
    );
    store.run(&all).await;
    let count = async || db.token_counts().await.unwrap();
    assert!(db.store_token("new", &user, HOUR_MS).await.unwrap());
    let most = u64::from(TOKENS_MAX);
    assert_eq!(count().await, [("ann".into(), most), ("bob1".into(), 1)]);
    for (token, lives) in [
        ("in use", true),
        ("new", true),
        ("of bob1", true),
        ("old 102", false),
        ("old 103", true),
    ] {
        let found = db.token_user(token).await.unwrap();
        assert_eq!(found.is_some(), lives, "{token}");
    }
    // What is used is not the next one to go.
    db.token_used("old 103").await.unwrap();
    assert!(db.store_token("newer", &user, HOUR_MS).await.unwrap());
    assert!(db.token_user("old 103").await.unwrap().is_some());
    assert_eq!(db.token_user("old 104").await.unwrap(), None);
}

async fn tokens_are_listed_and_revoked(store: &Store) {
    let user = with_user(store, "ann").await;
    let db = &store.db;
    for hash in ["aaaaaaaaaaaa-1", "bbbbbbbbbbbb-2", "cccccccccccc-3"] {
        assert!(db.store_token(hash, &user, HOUR_MS).await.unwrap());
    }
    assert!(db.store_token("over", &user, 0).await.unwrap());
    let listed = db.tokens(Some("ann"), 10).await.unwrap();
    assert_eq!(listed.len(), 3, "{listed:?}");
    for token in &listed {
        assert_eq!(token.fingerprint.len(), 12);
        assert!(token.used_ms > 0 && token.made_ms < token.expires_ms);
    }
    assert_eq!(db.tokens(None, 2).await.unwrap().len(), 2);
    assert_eq!(
        db.revoke_tokens("ann", Some("bbbbbbbbbbbb")).await.unwrap(),
        1
    );
    assert_eq!(
        db.revoke_tokens("ann", Some("bbbbbbbbbbbb")).await.unwrap(),
        0
    );
    assert_eq!(db.token_user("bbbbbbbbbbbb-2").await.unwrap(), None);
    assert!(db.token_user("aaaaaaaaaaaa-1").await.unwrap().is_some());
    assert_eq!(db.revoke_tokens("nobody", None).await.unwrap(), 0);
    assert_eq!(db.revoke_tokens("ann", None).await.unwrap(), 3);
    assert!(db.tokens(None, 10).await.unwrap().is_empty());
}

async fn lines_of_the_audit_go_when_they_are_old_or_too_many(store: &Store) {
    let db = &store.db;
    db.ensure_lease_table().await.unwrap();
    db.migrate().await.unwrap();
    let line = |n: u64| NewLine {
        node: "a:webapp-1".into(),
        who: if n.is_multiple_of(2) { "ann" } else { "it's" }.into(),
        source: "192.0.2.1".into(),
        what: format!("login {n} {}", "\u{1F512}".repeat(300)),
        outcome: "done".into(),
        // The first ones are old.
        age_ms: if n < 10 { HOUR_MS } else { 0 },
    };
    let lines: Vec<NewLine> = (0..50).map(line).collect();
    db.store_audit(&lines).await.unwrap();
    db.store_audit(&[]).await.unwrap();
    let found = db.audit(None, 100).await.unwrap();
    assert_eq!(found.len(), 50);
    assert!(found[49].at_ms - found[0].at_ms >= 3_500_000, "{found:?}");
    assert_eq!(db.audit(Some("it's"), 100).await.unwrap().len(), 25);
    let newest = db.audit(None, 1).await.unwrap();
    assert!(newest[0].what.starts_with("login 49"), "{newest:?}");
    let keep = (HOUR_MS / 2, 1000);
    assert_eq!(db.forget_audit(keep, 6).await.unwrap(), 6);
    assert_eq!(db.forget_audit(keep, 6).await.unwrap(), 4);
    assert_eq!(db.forget_audit(keep, 6).await.unwrap(), 0);
    // Young ones go where there are too many.
    assert_eq!(db.forget_audit((HOUR_MS / 2, 30), 100).await.unwrap(), 10);
    assert_eq!(db.audit(None, 100).await.unwrap().len(), 30);
}
