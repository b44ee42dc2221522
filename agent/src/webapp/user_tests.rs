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
    let (status, _) = bench
        .as_user(&bot, "PUT", "/v1/users/bot1", r#"{"password":"Cdefgh1!"}"#)
        .await;
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
