//! Tests of logins under load through the router: who is answered, who is slowed down, and by whose failures.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tower::ServiceExt as _;

use super::tests::{Bench, bench};
use super::tokens::{Known, token_hash};
use crate::sys::clock;

const USER: &str = r#"{"username":"bot1","password":"Bcdefg1!"}"#;

/// The status of a login from an address.
async fn login(bench: &Bench, from: &str, user: &str, password: &str) -> u16 {
    let basic = BASE64_STANDARD.encode(format!("{user}:{password}"));
    let from: SocketAddr = format!("{from}:40000").parse().expect("an address");
    let request = Request::post("/v1/users/login")
        .header("authorization", format!("Basic {basic}"))
        .extension(ConnectInfo(from))
        .body(Body::empty())
        .expect("a request");
    let answer = bench.router().oneshot(request).await.expect("infallible");
    answer.status().as_u16()
}

async fn with_a_user() -> Bench {
    let bench = bench().await;
    let admin = bench.admin().await;
    let headers = [("authorization", admin.as_str())];
    let (status, body) = bench.call("POST", "/v1/users", &headers, USER).await;
    assert_eq!(status, 201, "{body}");
    bench
}

/// Goal: right passwords are never refused because others log in at the same time. Method: 16 at once of one user from one
/// address, then 40 from one address beside somebody who guesses at another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn right_passwords_are_not_refused_for_coming_at_once() {
    let bench = with_a_user().await;
    let many = |n: usize| {
        let one = |_| login(&bench, "192.0.2.1", "bot1", "Bcdefg1!");
        futures_util::future::join_all((0..n).map(one))
    };
    assert_eq!(many(16).await, [200; 16]);
    let guesses = (0..40).map(|_| login(&bench, "192.0.2.66", "bot1", "guess"));
    let guesses = futures_util::future::join_all(guesses);
    let (right, wrong) = tokio::join!(many(40), guesses);
    assert_eq!(right, [200; 40]);
    assert!(
        wrong.iter().all(|status| [401, 429].contains(status)),
        "{wrong:?}"
    );
    let looked_at = wrong.iter().filter(|status| **status == 401).count();
    assert_eq!(looked_at, 5, "{wrong:?}");
}

/// Goal: failures slow down their own account from their own source, and nobody else. Method: one guesser; the same account
/// from elsewhere, another account from there.
#[tokio::test]
async fn failures_slow_down_their_own_account_and_source_only() {
    let bench = with_a_user().await;
    for _ in 0..5 {
        assert_eq!(login(&bench, "192.0.2.66", "bot1", "guess").await, 401);
    }
    assert_eq!(login(&bench, "192.0.2.66", "bot1", "Bcdefg1!").await, 429);
    assert_eq!(login(&bench, "192.0.2.1", "bot1", "Bcdefg1!").await, 200);
    assert_eq!(login(&bench, "192.0.2.66", "admin", "Abcdef1!").await, 200);
}

/// Goal: a token that is known lives for half a minute without the database, and no longer because it is used. Method: the moment
/// at which the database last knew it, put back; the database away; two calls each, because the first one is remembered.
#[tokio::test]
async fn a_known_token_lives_for_half_a_minute_without_the_database() {
    let bench = bench().await;
    let admin = bench.admin().await;
    let headers = [("authorization", admin.as_str())];
    let ask = async || {
        let body = r#"{"contacts":["+44 7700 900123"]}"#;
        bench.call("POST", "/v1/contacts", &headers, body).await.0
    };
    assert_eq!(ask().await, 200);
    let hash = token_hash(admin.trim_start_matches("Bearer "));
    let known = bench.webapp.tokens.known(&hash).expect("known");
    bench.webapp.map.shared_db().store(None);
    for (age_s, wanted) in [(29, 200), (31, 503)] {
        let said = clock::now() - Duration::from_secs(age_s);
        let token = hash.as_str().into();
        let left = Duration::from_secs(3600);
        let known = Known::of(known.caller.clone(), said, left);
        bench.webapp.tokens.keep(token, known);
        for _ in 0..2 {
            assert_eq!(ask().await, wanted, "the database knew it {age_s} s ago");
        }
    }
}

/// Goal: the documented first password, which everybody knows, is worth nothing from elsewhere: it is not looked at, fills no audit, and
/// keeps nobody out. Method: a hundred tries from one address; then the administrator, on a machine of the cluster.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documented_password_is_no_pass_from_elsewhere() {
    let bench = bench().await;
    for _ in 0..100 {
        assert_eq!(login(&bench, "203.0.113.9", "admin", "secret").await, 403);
    }
    let lines = || async { bench.db.audit(None, 1000).await.expect("read").len() };
    let until = clock::now() + Duration::from_secs(20);
    while lines().await < 5 {
        assert!(clock::now() < until, "no line");
        clock::sleep(Duration::from_millis(20)).await;
    }
    let admin = bench.admin().await;
    assert!(admin.starts_with("Bearer "), "{admin}");
    assert!(lines().await <= 5 + 2, "each try left a line");
}
