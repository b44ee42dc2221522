//! The audit through the router: each login and each change leaves one line, strangers leave few, and no line holds a secret.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tower::ServiceExt as _;

use super::*;
use crate::sys::clock;
use crate::webapp::tests::{Bench, whole};
use crate::webapp::v1::calls::CALLS;

/// The lines that are stored, once there are so many: who, what, outcome.
async fn lines(bench: &Bench, count: usize) -> Vec<(String, String, String)> {
    let read = async {
        loop {
            let lines = bench.db.audit(None, 1000).await.expect("read");
            if lines.len() >= count {
                return lines;
            }
            clock::sleep(Duration::from_millis(5)).await;
        }
    };
    let lines = tokio::time::timeout(Duration::from_secs(10), read).await;
    let lines = lines.expect("stored in time");
    lines
        .into_iter()
        .map(|line| (line.who, line.what, line.outcome))
        .collect()
}

fn line(who: &str, what: &str, outcome: &str) -> (String, String, String) {
    (who.into(), what.into(), outcome.into())
}

/// Goal: a login, a refused one and each change leave one line that says who, what and what came of it; what nobody changes
/// leaves none; no line holds a password, a token, a value of a setting, or a name that is no user's. Method: one of each.
#[tokio::test]
async fn who_did_what_is_written_down() {
    let bench = whole().await;
    let admin = bench.admin().await;
    let as_admin = async |method: &str, path: &str, body: &str| {
        bench.as_user(&admin, method, path, body).await.0
    };
    assert_eq!(bench.login("admin", "wrong-secret", "").await.0, 401);
    assert_eq!(bench.login("my-password", "x", "").await.0, 401);
    let user = r#"{"username":"bot1","password":"Bcdefg1!"}"#;
    assert_eq!(as_admin("POST", "/v1/users", user).await, 201);
    assert_eq!(as_admin("GET", "/v1/users/bot1", "").await, 200);
    let login = bench.login("bot1", "Bcdefg1!", "").await.1;
    let bot = crate::webapp::tests::bearer(&login);
    let body = r#"{"contacts":["+44 7700 900123"]}"#;
    assert_eq!(
        bench.as_user(&bot, "POST", "/v1/contacts", body).await.0,
        200
    );
    assert_eq!(
        bench.as_user(&bot, "DELETE", "/v1/users/bot1", "").await.0,
        403
    );
    let settings = r#"{"webhooks":{"url":"https://business.example/hidden"}}"#;
    assert_eq!(
        as_admin("PATCH", "/v1/settings/application", settings).await,
        200
    );
    assert_eq!(
        as_admin("POST", "/v1/certificates/external", "no PEM").await,
        403
    );
    assert_eq!(as_admin("DELETE", "/v1/users/bot1", "").await, 200);
    assert_eq!(
        bench
            .as_user("Bearer x", "DELETE", "/v1/users/a-word", "")
            .await
            .0,
        401
    );
    assert_eq!(as_admin("POST", "/v1/users/logout", "").await, 200);
    told(&lines(&bench, 11).await);
}

/// The lines of the test above, and no secret.
fn told(found: &[(String, String, String)]) {
    let wanted = [
        line("admin", "login with a new password", "done"),
        line("admin", "login", "refused (401, 1005)"),
        line("-", "login", "refused (401, 1005)"),
        line("admin", "POST /v1/users bot1", "done"),
        line("bot1", "login", "done"),
        line("bot1", "DELETE /v1/users/bot1", "refused (403, 1005)"),
        line("admin", "PATCH /v1/settings/application webhooks", "done"),
        line(
            "admin",
            "POST /v1/certificates/external",
            "refused (403, 1005)",
        ),
        line("admin", "DELETE /v1/users/bot1", "done"),
        line("-", "DELETE /v1/users/{username}", "refused (401, 1005)"),
        line("admin", "logout", "done"),
    ];
    assert_eq!(found, wanted);
    let all = format!("{found:?}");
    for secret in [
        "Bcdefg1!",
        "Abcdef1!",
        "wrong-secret",
        "my-password",
        "hidden",
        "a-word",
    ] {
        assert!(!all.contains(secret), "{secret} in {all}");
    }
}

/// Goal: strangers cannot fill journal and table, and a user's line is written meanwhile. Method: 60 logins of strangers from one
/// address, then one that is right.
#[tokio::test]
async fn strangers_leave_few_lines() {
    let bench = whole().await;
    let admin = bench.admin().await;
    let headers = [("authorization", admin.as_str())];
    let from: SocketAddr = "192.0.2.66:40000".parse().expect("an address");
    for n in 0..60 {
        let basic = BASE64_STANDARD.encode(format!("user{n}:guess"));
        let request = Request::post("/v1/users/login")
            .header("authorization", format!("Basic {basic}"))
            .extension(ConnectInfo(from))
            .body(Body::empty())
            .expect("a request");
        bench.router().oneshot(request).await.expect("infallible");
    }
    let logout = bench.call("POST", "/v1/users/logout", &headers, "").await;
    assert_eq!(logout.0, 200);
    let found = lines(&bench, 7).await;
    assert_eq!(found.len(), 7, "{found:?}");
    assert_eq!(found[6], line("admin", "logout", "done"));
}

/// Goal: whoever hangs up leaves a line, too. Method: a login that is dropped while its password is looked at.
#[tokio::test]
async fn who_hangs_up_leaves_a_line() {
    use futures_util::FutureExt as _;
    let bench = whole().await;
    let basic = format!("Basic {}", BASE64_STANDARD.encode("admin:secret"));
    let request = Request::post("/v1/users/login")
        .header("authorization", basic)
        .body(Body::empty())
        .expect("a request");
    assert!(bench.router().oneshot(request).now_or_never().is_none());
    let found = lines(&bench, 1).await;
    assert!(found[0].2.contains("hung up"), "{found:?}");
}

/// Goal: every call that changes users, settings or certificates is told, and none that only reads or sends. Method: the table of
/// calls.
#[test]
fn what_changes_something_is_audited() {
    for call in CALLS {
        let reads = call.method == Method::GET;
        let sends = [
            "/v1/messages",
            "/v1/contacts",
            "/v1/media",
            "/v1/stickerpacks",
            "/v1/groups",
        ]
        .iter()
        .any(|folder| call.path.starts_with(folder));
        let events = call.path == "/cloud/webhook";
        let audited = is_audited(&call.method, call.path, call.access);
        assert_eq!(
            audited,
            !(reads || sends || events),
            "{} {}",
            call.method,
            call.path
        );
    }
}
