//! Bad input, a matrix: every call of the table × what can be wrong with a request and with what stands behind it. Goal: the
//! documented error object, nothing changed, and no 5xx but 503 with `Retry-After`. Method: the whole table through the router;
//! a new row is asked at once.

use axum::body::Body as Sent;
use axum::http::{HeaderMap, Request, header};
use futures_util::future::join_all;
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

use super::call::{Body, Call, ServedBy};
use super::calls::CALLS;
use super::calls_examples::{example, good};
use crate::api::v1::code::Code;
use crate::webapp::auth::Access;
use crate::webapp::tests::{Bench, bench, refusing, whole};

/// An answer, and what it answers.
struct Answer {
    asked: String,
    status: u16,
    headers: HeaderMap,
    body: Value,
}

async fn ask(bench: &Bench, call: &Call, token: &str, body: &str) -> Answer {
    let path = example(call.path);
    let asked = format!("{} {path} {}", call.method, body.get(..40).unwrap_or(body));
    let mut request = Request::builder()
        .method(&call.method)
        .uri(&path)
        .header("content-type", "application/json");
    if !token.is_empty() {
        request = request.header("authorization", token);
    }
    let request = request
        .body(Sent::from(body.to_owned()))
        .expect("a request");
    let answer = bench.router().oneshot(request).await.expect("infallible");
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let bytes = answer
        .into_body()
        .collect()
        .await
        .expect("whole")
        .to_bytes();
    Answer {
        asked,
        status,
        headers,
        body: serde_json::from_slice(&bytes).unwrap_or_default(),
    }
}

impl Answer {
    fn code(&self) -> u64 {
        self.body["errors"][0]["code"].as_u64().unwrap_or_default()
    }

    /// Of a call whose handler is not written yet.
    fn unwritten(&self) -> bool {
        (self.status, self.code()) == (404, 1014)
    }

    /// What is wrong with it, whatever was asked.
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let said = format!("{}: {} {}", self.asked, self.status, self.body);
        if self.status >= 500 && self.status != 503 {
            faults.push(format!("a 5xx that is no 503: {said}"));
        }
        let retry = self.headers.get(header::RETRY_AFTER);
        if self.status == 503 && retry.is_none() {
            faults.push(format!("503 without Retry-After: {said}"));
        }
        if self.status >= 400 {
            let title = &self.body["errors"][0]["title"];
            let known = Code::of(self.code()).is_some_and(|code| *title == code.title());
            if !known || !self.body["meta"]["version"].is_string() {
                faults.push(format!("no documented error object: {said}"));
            }
        }
        faults
    }
}

/// Gathers what is wrong, and says all of it at once.
#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn of(&mut self, answer: &Answer) {
        self.0.extend(answer.faults());
    }

    fn wanted(&mut self, answer: &Answer, wanted: &[(u16, u64)]) {
        self.of(answer);
        if answer.unwritten() {
            return;
        }
        if !wanted.contains(&(answer.status, answer.code())) {
            let found = format!("{} {}", answer.status, answer.body);
            self.0.push(format!(
                "{}: wanted {wanted:?}, found {found}",
                answer.asked
            ));
        }
    }

    fn end(self) {
        assert!(self.0.is_empty(), "{}", self.0.join("\n"));
    }
}

/// What a bad request might have changed.
async fn state(bench: &Bench) -> String {
    let counts = bench.db.counts().await.expect("counted");
    let mut settings = Vec::new();
    for name in ["application", "media-providers"] {
        settings.push(bench.db.setting(name).await.expect("read"));
    }
    format!("{counts:?} {settings:?}")
}

fn with_bodies() -> impl Iterator<Item = &'static Call> {
    CALLS
        .iter()
        .filter(|call| call.body == Body::Json && call.by != ServedBy::Nobody)
}

/// A login is another matter: its credentials are no token.
fn by_token(call: &&Call) -> bool {
    match call.access {
        Access::User | Access::Admin | Access::Monitor => true,
        Access::Open | Access::Basic | Access::Signed => false,
    }
}

/// An owner is asked while the client waits. Collections are written down, and done later.
fn asks_owner(call: &&Call) -> bool {
    call.by == ServedBy::Owner && !call.path.starts_with("/v1/services/")
}

/// Calls that do well without a body.
const WITHOUT_BODY: [&str; 3] = ["block", "unblock", "login"];

#[tokio::test]
async fn bodies_that_are_no_objects_are_refused() {
    let bench = whole().await;
    let token = bench.admin().await;
    let before = state(&bench).await;
    let mut faults = Faults::default();
    for call in with_bodies().filter(by_token) {
        for body in [
            "{",
            "{\"a\":",
            "nonsense",
            "\"text\"",
            "7",
            "\u{feff}{",
            "{\"a\":1}{",
        ] {
            let answer = ask(&bench, call, &token, body).await;
            faults.wanted(&answer, &[(400, 1025)]);
        }
        let last = call.path.rsplit('/').next().unwrap_or_default();
        let answer = ask(&bench, call, &token, "").await;
        match WITHOUT_BODY.contains(&last) {
            true => faults.of(&answer),
            false => faults.wanted(&answer, &[(400, 1025), (400, 1008)]),
        }
    }
    assert_eq!(state(&bench).await, before);
    faults.end();
}

/// Values that no field takes in the place of what it wants, under every name that a good body has.
#[tokio::test]
async fn values_of_another_type_are_refused() {
    let bench = whole().await;
    let token = bench.admin().await;
    let before = state(&bench).await;
    let mut faults = Faults::default();
    for call in with_bodies().filter(by_token) {
        let Ok(Value::Object(good)) = serde_json::from_str(good(call)) else {
            continue;
        };
        for name in good.keys() {
            for wrong in [
                serde_json::json!([[[]]]),
                serde_json::json!({"x": {"y": []}}),
                serde_json::json!("\u{0}\u{202e}"),
                serde_json::json!(-1.5e300),
                serde_json::json!("x".repeat(10_000)),
            ] {
                // Only what is wrong: a good body with one wrong field might be good all the same.
                let body = serde_json::json!({ name.as_str(): wrong }).to_string();
                faults.of(&ask(&bench, call, &token, &body).await);
            }
        }
    }
    assert_eq!(state(&bench).await, before);
    faults.end();
}

#[tokio::test]
async fn bodies_that_are_too_large_are_refused() {
    let bench = whole().await;
    let token = bench.admin().await;
    let before = state(&bench).await;
    let mut faults = Faults::default();
    let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(300_000));
    for call in with_bodies().filter(by_token) {
        let answer = ask(&bench, call, &token, &large).await;
        faults.wanted(&answer, &[(413, 1025)]);
    }
    assert_eq!(state(&bench).await, before);
    faults.end();
}

#[tokio::test]
async fn who_may_not_call_is_refused() {
    let bench = whole().await;
    let admin = bench.admin().await;
    let user = bench.user(&admin).await;
    let mut faults = Faults::default();
    for call in CALLS.iter().filter(by_token) {
        for nobody in [
            "",
            "Bearer nonsense",
            "Basic YWRtaW46c2VjcmV0",
            "Apikey nonsense",
            "Bearer",
        ] {
            let answer = ask(&bench, call, nobody, good(call)).await;
            faults.wanted(&answer, &[(401, 1005)]);
        }
        if call.access == Access::Admin {
            let answer = ask(&bench, call, &user, good(call)).await;
            faults.wanted(&answer, &[(403, 1005)]);
        }
    }
    faults.end();
}

/// Goal: paths that name nothing, or in a strange way, are answered like any other mistake. Method: strange names in the
/// place of each name.
#[tokio::test]
async fn strange_names_in_paths_are_refused() {
    let bench = whole().await;
    let token = bench.admin().await;
    let mut faults = Faults::default();
    for call in CALLS
        .iter()
        .filter(by_token)
        .filter(|call| call.path.contains('{'))
    {
        for strange in [
            "%ff",
            "%00",
            "%2e%2e",
            "%20",
            "%F0%9F%98%80",
            "a%2Fb",
            "%25",
            "'%22;--",
            &"x".repeat(3000),
        ] {
            let mut path = String::new();
            for part in call.path.split('/').skip(1) {
                path.push('/');
                path.push_str(if part.starts_with('{') { strange } else { part });
            }
            let headers = [("authorization", token.as_str())];
            let (status, body) = bench
                .call(call.method.as_str(), &path, &headers, good(call))
                .await;
            let asked = format!("{} {}", call.method, path.get(..90).unwrap_or(&path));
            faults.of(&Answer {
                asked,
                status,
                headers: HeaderMap::new(),
                body,
            });
        }
    }
    // Only codes and titles are looked at here: these answers come without their headers.
    faults.0.retain(|fault| !fault.starts_with("503"));
    faults.end();
}

/// Goal: what waits for somebody who is not there says so, and when to come again. Method: good requests to a cluster that has
/// neither an owner nor a primary master.
#[tokio::test]
async fn without_an_owner_or_a_master_clients_are_told_to_come_again() {
    let bench = bench().await;
    let token = bench.admin().await;
    let before = state(&bench).await;
    let calls: Vec<&Call> = CALLS.iter().filter(by_token).collect();
    let answers = join_all(
        calls
            .iter()
            .map(|call| ask(&bench, call, &token, good(call))),
    )
    .await;
    let mut faults = Faults::default();
    for (call, answer) in calls.iter().zip(&answers) {
        faults.of(answer);
        if asks_owner(call) && answer.status < 400 {
            faults.0.push(format!(
                "{}: {} without an owner",
                answer.asked, answer.status
            ));
        }
    }
    assert_eq!(state(&bench).await, before);
    faults.end();
}

/// Goal: a database that is away is no fault of the client, and none of the call. Method: every call by a user who is known
/// already, and by one who is not.
#[tokio::test]
async fn without_the_database_clients_are_told_to_come_again() {
    let bench = whole().await;
    let token = bench.admin().await;
    let known = CALLS
        .iter()
        .find(|call| call.path == "/v1/contacts")
        .expect("a call");
    assert_eq!(ask(&bench, known, &token, good(known)).await.status, 200);
    bench.webapp.map.shared_db().store(None);
    let mut faults = Faults::default();
    for call in CALLS.iter().filter(by_token) {
        faults.of(&ask(&bench, call, &token, good(call)).await);
        let answer = ask(&bench, call, "Bearer somebody-else", good(call)).await;
        faults.wanted(&answer, &[(503, 1011), (503, 1023)]);
    }
    faults.end();
}

/// Goal: what the upstream refuses is told in documented words, and its trouble as such. Method: a coreapp that answers every
/// call with the same refusal.
#[tokio::test]
async fn what_the_upstream_refuses_is_told() {
    use crate::api::owner::Settled;
    let refused = |code| Settled::Refused {
        code,
        details: "the upstream's words".into(),
    };
    for (settled, statuses) in [
        (refused(Code::AccessDenied), [403, 403]),
        (refused(Code::ParameterNotValid), [400, 400]),
        (refused(Code::GenericError), [400, 400]),
        (refused(Code::ReEngagement), [400, 400]),
        (refused(Code::TooManyRequests), [429, 429]),
        (Settled::Unreachable, [503, 503]),
    ] {
        let bench = refusing(settled).await;
        let token = bench.admin().await;
        let mut faults = Faults::default();
        for call in CALLS.iter().filter(by_token).filter(asks_owner) {
            // Messages are stored, not sent, while the client waits.
            if call.path == "/v1/messages" {
                continue;
            }
            let answer = ask(&bench, call, &token, good(call)).await;
            faults.of(&answer);
            // A body that is no photo is refused before anybody is asked.
            if call.body != Body::Photo && !answer.unwritten() && !statuses.contains(&answer.status)
            {
                faults.0.push(format!(
                    "{}: {} {}",
                    answer.asked, answer.status, answer.body
                ));
            }
        }
        faults.end();
    }
}
