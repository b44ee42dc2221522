//! Who is who, through the real processes. Goal: a customer whose number the upstream leaves out is the one who wrote before, until
//! the number changes; and the business is told of its messages forward, once. Method: customers and stories of the simulator.

use std::sync::PoisonError;

use serde_json::{Value, json};

use crate::drill::{TURN, request};
use crate::media::{Bench, apply, have_curl, settings};

fn inbound(bench: &Bench, asked: &Value) {
    let head = "POST /admin/inbound HTTP/1.1";
    request([127, 0, 0, 1], bench.simulator, head, &asked.to_string());
}

/// The statuses that the business was told of a message, sorted: several callbacks are under way at once.
fn words(all: &Value, id: &str) -> Vec<String> {
    let words = all[id].as_array().into_iter().flatten();
    let mut words: Vec<String> = words
        .filter_map(|word| Some(word.as_str()?.to_owned()))
        .collect();
    words.sort();
    words
}

/// The callback that carries the message with this id.
fn told(bench: &Bench, id: &str) -> Value {
    bench.upstream_until(id, "/admin/last-inbound", |told| {
        told["messages"][0]["id"] == id
    })
}

fn text(id: &str) -> Value {
    json!({"id": id, "type": "text", "text": {"body": "hello"}})
}

#[test]
fn customers_are_known_without_their_numbers_and_statuses_go_forward() {
    if !have_curl() {
        return;
    }
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let bench = Bench::start();
    let url = format!("http://127.0.0.1:{}/business", bench.simulator);
    settings(&bench, &url);
    numbers_are_filled_in_until_they_change(&bench);
    statuses_go_forward(&bench);
    a_number_is_used_where_the_upstream_wants_one(&bench);
    let report = bench.upstream("/admin/report");
    assert_eq!(report["never_delivered"], 0, "{report}");
    assert_eq!(report["sent_twice"], 0, "{report}");
}

fn numbers_are_filled_in_until_they_change(bench: &Bench) {
    let from = "447700900456";
    let user = "GB.1000447700900456";
    inbound(bench, &json!({"from": from, "message": text("wamid.1")}));
    assert_eq!(told(bench, "wamid.1")["messages"][0]["from"], from);
    inbound(
        bench,
        &json!({"from": from, "no_number": true, "message": text("wamid.2")}),
    );
    let filled = told(bench, "wamid.2");
    assert_eq!(filled["messages"][0]["from"], from, "{filled}");
    assert_eq!(filled["contacts"][0]["wa_id"], from, "{filled}");
    assert_eq!(filled["messages"][0]["from_user_id"], user, "{filled}");
    let new = "GB.7777777777777777";
    let change = json!({"type": "user_changed_user_id", "user_id": new, "previous_user_id": user, "body": "changed"});
    inbound(
        bench,
        &json!({"from": from, "no_number": true, "user_id": new,
            "message": {"id": "wamid.3", "type": "system", "system": change}}),
    );
    told(bench, "wamid.3");
    inbound(
        bench,
        &json!({"from": from, "no_number": true, "user_id": new, "message": text("wamid.4")}),
    );
    assert_eq!(told(bench, "wamid.4")["messages"][0]["from"], new);
    inbound(
        bench,
        &json!({"from": from, "no_number": true, "message": text("wamid.5")}),
    );
    assert_eq!(told(bench, "wamid.5")["messages"][0]["from"], user);
}

fn statuses_go_forward(bench: &Bench) {
    let forward: &[&str] = &["delivered", "read"];
    let failed: &[&str] = &["delivered", "failed"];
    for (to, wanted) in [
        ("15555000003", forward),
        ("15555000004", forward),
        ("15555000005", forward),
        ("15555000008", forward),
        // Both come with one call, in no order: the failure may be counted only.
        ("15555000009", failed),
        ("15555000010", &forward[..1]),
    ] {
        let message = json!({"to": to, "text": {"body": "x"}});
        let (status, answer) = bench.send(&message);
        assert_eq!(status, 201, "{answer}");
        let id = answer["messages"][0]["id"]
            .as_str()
            .expect("an id")
            .to_owned();
        bench.upstream_until(to, "/admin/statuses", |all| {
            let told = words(all, &id);
            told == wanted || (wanted == failed && told == ["delivered"])
        });
    }
}

/// An authentication template cannot go to a user id; the number is known.
fn a_number_is_used_where_the_upstream_wants_one(bench: &Bench) {
    let from = "447700900789";
    inbound(bench, &json!({"from": from, "message": text("wamid.9")}));
    told(bench, "wamid.9");
    let code = json!({"name": "login_code", "language": {"code": "en_US"}, "components": [
        {"type": "body", "parameters": [{"type": "text", "text": "123456"}]},
        {"type": "button", "sub_type": "url", "index": 0, "parameters": [{"type": "text", "text": "123456"}]}]});
    let message = json!({"to": format!("GB.1{from:0>15}"), "type": "template", "template": code});
    let (status, answer) = bench.send(&message);
    assert_eq!(status, 201, "{answer}");
    let id = answer["messages"][0]["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    bench.upstream_until("the code is read", "/admin/statuses", |all| {
        words(all, &id) == ["delivered", "read"]
    });
    let report = bench.upstream("/admin/report");
    assert_eq!(report["refused"]["131062"], 1, "{report}");
}

const FROM: &str = "447700900456";

/// A message of the customer, who has this key from now on, as the business is told of it.
fn write(bench: &Bench, id: &str, key: &str) -> Value {
    let asked = json!({"from": FROM, "message": text(id), "identity_key_hash": key});
    inbound(bench, &asked);
    told(bench, id)
}

fn send(bench: &Bench) -> (u16, Value) {
    bench.send(&json!({"to": FROM, "text": {"body": "x"}}))
}

/// Sends, and waits until the business was told these statuses.
fn sent(bench: &Bench, wanted: &[&str]) {
    let (status, answer) = send(bench);
    assert_eq!(status, 201, "{answer}");
    let id = answer["messages"][0]["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    bench.upstream_until(&format!("{wanted:?}"), "/admin/statuses", |all| {
        words(all, &id) == wanted
    });
}

fn refused(answer: &(u16, Value), status: u16, code: u16) {
    let found = (answer.0, &answer.1["errors"][0]["code"]);
    assert_eq!(found, (status, &json!(code)), "{}", answer.1);
}

/// Goal: a changed identity is told, holds up messages to its customer until it is acknowledged, and then goes along. Method: a
/// customer of the simulator who gets another key, before and behind the acknowledgement.
#[test]
fn a_changed_identity_is_acknowledged() {
    if !have_curl() {
        return;
    }
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let bench = Bench::start();
    let url = format!("http://127.0.0.1:{}/business", bench.simulator);
    let settings = json!({"webhooks": {"url": url}, "show_security_notifications": true});
    apply(&bench, &settings);
    let path = format!("/v1/contacts/{FROM}/identity");
    refused(&bench.get(&path), 404, 1006);
    refused(&bench.get("/v1/contacts/nobody/identity"), 400, 1009);
    // The owner of the shard sets the switch; until then no key is told.
    let mut first = Value::Null;
    for n in 0..300 {
        first = write(&bench, &format!("wamid.first.{n}"), "one");
        if first["messages"][0]["identity"].is_object() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let identity = &first["messages"][0]["identity"];
    assert_eq!(
        identity["acknowledged"], true,
        "the switch is never set: {first}"
    );
    assert_eq!(identity["hash"], "one", "{first}");
    sent(&bench, &["delivered", "read"]);
    let changed = write(&bench, "wamid.changed", "two");
    let identity = &changed["messages"][0]["identity"];
    assert_eq!(identity["acknowledged"], false, "{changed}");
    assert!(identity["created_timestamp"].is_u64(), "{changed}");
    refused(&send(&bench), 400, 1028);
    assert_eq!(bench.get(&path).1["identity"]["hash"], "two");
    refused(&bench.put(&path, &json!({})), 400, 1008);
    refused(&bench.put(&path, &json!({"hash": "one"})), 400, 1009);
    refused(&bench.put(&path, &json!({"hash": []})), 400, 1009);
    let (status, answer) = bench.put(&path, &json!({"hash": "two"}));
    assert_eq!(status, 200, "{answer}");
    assert_eq!(bench.get(&path).1["identity"]["acknowledged"], true);
    sent(&bench, &["delivered", "read"]);
    // The next change is not known here yet: the upstream keeps the message back, for the key went along.
    let head = "POST /admin/identity HTTP/1.1";
    let other = json!({"from": FROM, "identity_key_hash": "three"});
    request([127, 0, 0, 1], bench.simulator, head, &other.to_string());
    sent(&bench, &["failed"]);
    let report = bench.upstream("/admin/report");
    assert_eq!(report["refused"]["137000"], 1, "{report}");
}
