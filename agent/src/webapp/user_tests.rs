//! Logins, accounts and tokens through the router.

use serde_json::json;

use super::tests::{bearer, bench, code};

#[tokio::test]
async fn the_first_login_must_change_the_password() {
    let bench = bench().await;
    let (status, body) = bench.login("admin", "secret", "").await;
    assert_eq!((status, code(&body)), (401, 1024));
    let (status, body) = bench
        .login("admin", "secret", r#"{"new_password":"weak"}"#)
        .await;
    assert_eq!((status, code(&body)), (400, 1009));
    bench.admin().await;
    let (status, body) = bench.login("admin", "secret", "").await;
    assert_eq!((status, code(&body)), (401, 1005));
    let (status, body) = bench.login("admin", "Abcdef1!", "{}").await;
    assert_eq!(status, 200);
    let expires = body["users"][0]["expires_after"].as_str().expect("a text");
    assert!(
        expires.ends_with("+00:00") && expires.contains(' '),
        "{expires}"
    );
}

#[tokio::test]
async fn users_are_made_changed_and_deleted_by_the_administrator() {
    let bench = bench().await;
    let admin = bench.admin().await;
    let user = r#"{"username":"bot1","password":"Bcdefg1!"}"#;
    let (status, body) = bench.as_user(&admin, "POST", "/v1/users", user).await;
    assert_eq!(
        (status, &body["users"]),
        (201, &json!([{"username": "bot1"}]))
    );
    let (status, body) = bench.as_user(&admin, "POST", "/v1/users/", user).await;
    assert_eq!((status, code(&body)), (500, 1014));
    let (_, body) = bench.as_user(&admin, "GET", "/v1/users/bot1", "").await;
    assert_eq!(
        body["users"],
        json!([{"ROLES": "ROLE_USER", "username": "bot1"}])
    );
    let (status, login) = bench.login("bot1", "Bcdefg1!", "").await;
    assert_eq!(status, 200);
    let bot = bearer(&login);
    for (method, path) in [
        ("POST", "/v1/users"),
        ("DELETE", "/v1/users/bot1"),
        ("GET", "/v1/users/admin"),
        ("GET", "/v1/settings/application"),
        ("GET", "/v1/account/shards"),
    ] {
        let (status, body) = bench.as_user(&bot, method, path, user).await;
        assert_eq!((status, code(&body)), (403, 1005), "{method} {path}");
    }
    let change = r#"{"password":"Cdefgh1!","old_password":"Bcdefg1!"}"#;
    let (status, _) = bench.as_user(&bot, "PUT", "/v1/users/bot1", change).await;
    assert_eq!(status, 200);
    let (status, _) = bench.as_user(&admin, "DELETE", "/v1/users/bot1", "").await;
    assert_eq!(status, 200);
    let (status, body) = bench.as_user(&bot, "POST", "/v1/contacts", "{}").await;
    assert_eq!(
        (status, code(&body)),
        (401, 1005),
        "a deleted user's token still works"
    );
    let (status, body) = bench.as_user(&admin, "DELETE", "/v1/users/admin", "").await;
    assert_eq!((status, code(&body)), (403, 1005));
}

#[tokio::test]
async fn a_logout_is_in_force_at_once() {
    let bench = bench().await;
    let admin = bench.admin().await;
    assert_eq!(
        bench.as_user(&admin, "GET", "/v1/users/admin", "").await.0,
        200
    );
    assert_eq!(
        bench
            .as_user(&admin, "POST", "/v1/users/logout", "")
            .await
            .0,
        200
    );
    let (status, body) = bench.as_user(&admin, "GET", "/v1/users/admin", "").await;
    assert_eq!((status, code(&body)), (401, 1005));
}

#[tokio::test]
async fn logins_are_throttled() {
    let bench = bench().await;
    for _ in 0..5 {
        assert_eq!(bench.login("admin", "guess", "").await.0, 401);
    }
    let (status, body) = bench.login("admin", "secret", "").await;
    assert_eq!((status, code(&body)), (429, 1015));
}

/// Goal: whoever got hold of a token cannot lock its user out; the administrator can set the password of others; tokens end where
/// that is asked for. Method: changes without the old password, with a wrong one, with the right one.
#[tokio::test]
async fn a_change_of_password_asks_for_the_old_one() {
    let bench = bench().await;
    let admin = bench.admin().await;
    let bot = bench.user(&admin).await;
    let change = async |who: &str, user: &str, body: &str| {
        let path = format!("/v1/users/{user}");
        let (status, body) = bench.as_user(who, "PUT", &path, body).await;
        (status, if status == 200 { 0 } else { code(&body) })
    };
    let new = r#"{"password":"Cdefgh1!"}"#;
    assert_eq!(change(&bot, "somebody", new).await, (400, 1008));
    assert_eq!(change(&admin, "admin", new).await, (400, 1008));
    let wrong = r#"{"password":"Cdefgh1!","old_password":"Bcdefg1?"}"#;
    assert_eq!(change(&bot, "somebody", wrong).await, (403, 1005));
    let right = r#"{"password":"Cdefgh1!","old_password":"Bcdefg1!"}"#;
    assert_eq!(change(&bot, "somebody", right).await, (200, 0));
    assert_eq!(bench.login("somebody", "Bcdefg1!", "").await.0, 401);
    // Tokens go on, as documented, until somebody asks for their end.
    assert_eq!(change(&bot, "somebody", "{}").await, (400, 1008));
    assert_eq!(change(&admin, "somebody", new).await, (200, 0));
    let revoke = r#"{"password":"Defghi1!","revoke_tokens":true}"#;
    assert_eq!(change(&admin, "somebody", revoke).await, (200, 0));
    assert_eq!(change(&bot, "somebody", "{}").await, (401, 1005));
    // The same with a login.
    let old = bearer(&bench.login("somebody", "Defghi1!", "").await.1);
    let body = r#"{"new_password":"Efghij1!","revoke_tokens":true}"#;
    let (status, login) = bench.login("somebody", "Defghi1!", body).await;
    assert_eq!(status, 200, "{login}");
    assert_eq!(change(&old, "somebody", "{}").await, (401, 1005));
    assert_eq!(change(&bearer(&login), "somebody", "{}").await, (400, 1008));
}

/// Goal: guessing the old password is as slow as guessing at a login. Method: six guesses.
#[tokio::test]
async fn guesses_at_the_old_password_are_throttled() {
    let bench = bench().await;
    let admin = bench.admin().await;
    let bot = bench.user(&admin).await;
    let guess = r#"{"password":"Cdefgh1!","old_password":"guess"}"#;
    let mut answers = Vec::new();
    for _ in 0..6 {
        answers.push(
            bench
                .as_user(&bot, "PUT", "/v1/users/somebody", guess)
                .await
                .0,
        );
    }
    assert_eq!(answers, [403, 403, 403, 403, 403, 429]);
}
