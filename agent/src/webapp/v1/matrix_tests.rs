//! Bad input, a matrix: every call of the table × what can be wrong with a request and with what stands behind it. Goal: the
//! documented error object, nothing changed, and no 5xx but 503 with `Retry-After`. Method: the whole table through the router;
//! a new row is asked at once.
//!
//! | what is wrong | shown by |
//! |---|---|
//! | malformed | `bodies_that_are_no_objects_are_refused`; `files_that_are_none_are_refused`; logins and events: `matrix_door_tests.rs` |
//! | missing | `fields_that_are_missing_are_refused` |
//! | oversized | `bodies_that_are_too_large_are_refused`; uploads and photos by their type: `media_tests.rs`, `profile_tests.rs` |
//! | wrong type | `values_of_another_type_are_refused`; each field of messages: the golden pairs and `api/hostile_tests.rs` |
//! | wrong method | `calls_tests.rs`, `the_router_is_the_table` |
//! | no login, wrong role | `who_may_not_call_is_refused` |
//! | strange paths | `strange_names_in_paths_are_refused` |
//! | no owner, no master | `without_an_owner_or_a_master_clients_are_told_to_come_again` |
//! | database away | `without_the_database_clients_are_told_to_come_again` |
//! | upstream refuses | `what_the_upstream_refuses_is_told` |

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
use crate::webapp::tests::{Bench, bench, bench_set, refusing, whole};

/// An answer, and what it answers.
pub(super) struct Answer {
    pub asked: String,
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Value,
}

pub(super) async fn ask(bench: &Bench, call: &Call, token: &str, body: &str) -> Answer {
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
pub(super) struct Faults(pub Vec<String>);

impl Faults {
    pub fn of(&mut self, answer: &Answer) {
        self.0.extend(answer.faults());
    }

    pub fn wanted(&mut self, answer: &Answer, wanted: &[(u16, u64)]) {
        self.of(answer);
        if !wanted.contains(&(answer.status, answer.code())) {
            let found = format!("{} {}", answer.status, answer.body);
            self.0.push(format!(
                "{}: wanted {wanted:?}, found {found}",
                answer.asked
            ));
        }
    }

    pub fn end(self) {
        assert!(self.0.is_empty(), "{}", self.0.join("\n"));
    }
}

/// What a bad request might have changed.
pub(super) async fn state(bench: &Bench) -> String {
    let counts = bench.db.counts().await.expect("counted");
    let mut settings = Vec::new();
    for name in [
        "application",
        "media-providers",
        "registration",
        "certificate-external",
    ] {
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
    let larger = "x".repeat(9 << 20);
    for call in CALLS.iter().filter(by_token) {
        let bounded = match call.body {
            Body::Backup | Body::Pem => true,
            // The bound of a file or a photo is its type's; what has no body reads none.
            Body::Nothing | Body::Json | Body::Events | Body::File | Body::Photo => false,
        };
        if bounded {
            let answer = ask(&bench, call, &token, &larger).await;
            faults.wanted(&answer, &[(413, 1025)]);
        }
    }
    assert_eq!(state(&bench).await, before);
    faults.end();
}

/// Texts that are no certificate, no photo and no backup.
#[tokio::test]
async fn files_that_are_none_are_refused() {
    let bench = bench_set("tls = \"self-signed\"").await;
    let token = bench.admin().await;
    let before = state(&bench).await;
    let mut faults = Faults::default();
    for call in CALLS.iter().filter(by_token) {
        let wanted: &[(u16, u64)] = match call.body {
            Body::Pem => &[(400, 1009)],
            // `Content-Type` says JSON: no photo has that type.
            Body::Photo => &[(400, 1009), (400, 1025), (415, 1009)],
            Body::Backup => &[(400, 1025), (400, 1008), (400, 1009)],
            Body::Nothing | Body::Json | Body::Events | Body::File => continue,
        };
        for text in [
            "",
            "nonsense",
            "{\"a\":1}",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "\u{ff}\u{d8}\u{ff}",
        ] {
            faults.wanted(&ask(&bench, call, &token, text).await, wanted);
        }
    }
    assert_eq!(state(&bench).await, before);
    faults.end();
}

/// The fields that a call cannot do without, by its label.
const NEEDED: &[(&str, &[&str])] = &[
    ("POST_v1_users", &["username", "password"]),
    ("PUT_v1_users_username", &["password"]),
    ("POST_v1_account_shards", &["shards"]),
    ("POST_v1_messages", &["to", "text"]),
    ("PUT_v1_messages_id", &["status"]),
    ("POST_v1_contacts", &["contacts"]),
    ("POST_v1_account", &["cc", "phone_number", "method"]),
    ("POST_v1_account_verify", &["code"]),
    ("POST_v1_settings_account_two-step", &["pin"]),
    ("POST_v1_settings_backup", &["password"]),
    ("POST_v1_settings_restore", &["password", "data"]),
    ("PATCH_v1_settings_profile_about", &["text"]),
    ("PUT_v1_contacts_wa_id_identity", &["hash"]),
    ("POST_v1_stickerpacks", &["publisher", "name"]),
    ("POST_v1_stickerpacks_pack_stickers", &["image_data_id"]),
];

/// Goal: what a call needs and does not get is named by 1008; what it can do without is no fault. Method: good bodies without one
/// of their fields; with `null` in its place; and without any.
#[tokio::test]
async fn fields_that_are_missing_are_refused() {
    let bench = whole().await;
    let token = bench.admin().await;
    let before = state(&bench).await;
    let mut faults = Faults::default();
    let mut needed = 0;
    for call in CALLS.iter().filter(by_token) {
        let label = call.label();
        let found = NEEDED.iter().find(|(name, _)| *name == label);
        let Some((_, fields)) = found else { continue };
        let Ok(Value::Object(good)) = serde_json::from_str(good(call)) else {
            panic!("{label} has no good body");
        };
        for field in *fields {
            needed += 1;
            assert!(good.contains_key(*field), "{label} {field}");
            let mut without = good.clone();
            without.remove(*field);
            let mut null = good.clone();
            null.insert((*field).to_owned(), Value::Null);
            for body in [without, null, serde_json::Map::new()] {
                let body = Value::Object(body).to_string();
                let answer = ask(&bench, call, &token, &body).await;
                faults.wanted(&answer, &[(400, 1008)]);
            }
        }
    }
    assert_eq!(needed, NEEDED.iter().map(|(_, f)| f.len()).sum::<usize>());
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
        // A body that is no photo is refused before anybody is asked.
        if asks_owner(call) && call.body != Body::Photo {
            faults.wanted(answer, &[(503, 1018), (503, 1016)]);
        }
        if call.by == ServedBy::Master {
            faults.wanted(answer, &[(503, 1017), (400, 1009)]);
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
            if call.body != Body::Photo && !statuses.contains(&answer.status) {
                faults.0.push(format!(
                    "{}: {} {}",
                    answer.asked, answer.status, answer.body
                ));
            }
        }
        faults.end();
    }
}
