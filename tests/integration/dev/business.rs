//! The business itself, through the real processes: its profile, its photo, and whom it blocks. Goal: what is set is what the
//! upstream has and what everybody reads, also when the upstream refuses, hangs, or answers in part. Method: one cluster with two
//! webapps; the simulator's knobs.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::drill::{TURN, request};
use crate::media::{Bench, have_curl};

const PROFILE: &str = "/v1/settings/business/profile";
const ABOUT: &str = "/v1/settings/profile/about";

/// Sets some of the simulator's knobs.
fn knobs(bench: &Bench, change: &Value) {
    let mut knobs = bench.upstream("/admin/knobs");
    for (name, value) in change.as_object().expect("an object") {
        knobs[name] = value.clone();
    }
    let head = "POST /admin/knobs HTTP/1.1";
    request([127, 0, 0, 1], bench.simulator, head, &knobs.to_string());
}

fn set(bench: &Bench, method: &str, path: &str, body: &Value) -> (u16, Value) {
    bench.json(&["-X", method, "-d", &body.to_string()], path)
}

fn code(answer: &(u16, Value)) -> (u16, u64) {
    (
        answer.0,
        answer.1["errors"][0]["code"].as_u64().unwrap_or_default(),
    )
}

#[test]
fn the_business_is_set_read_and_in_trouble() {
    if !have_curl() {
        return;
    }
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let bench = Bench::start();
    let about =
        |bench: &Bench| bench.json(&[], ABOUT).1["settings"]["profile"]["about"]["text"].clone();
    assert_eq!(about(&bench), "");
    // A change is seen at once, whatever was read a moment ago.
    for text in ["Open", "Closed"] {
        assert_eq!(set(&bench, "PATCH", ABOUT, &json!({ "text": text })).0, 200);
        assert_eq!(about(&bench), text);
    }
    // What was read is kept for a while: the upstream may be away.
    knobs(&bench, &json!({"calls_refused": {"profile": 131_000}}));
    assert_eq!(about(&bench), "Closed");
    let refused = set(&bench, "PATCH", ABOUT, &json!({"text": "Holidays"}));
    assert_eq!(code(&refused), (503, 1011), "{refused:?}");
    // And whoever failed to change it does not know any more.
    assert_eq!(code(&bench.json(&[], ABOUT)), (503, 1011));
    knobs(&bench, &json!({"calls_refused": {"profile": 100}}));
    assert_eq!(
        code(&set(&bench, "POST", PROFILE, &json!({"address": "x"}))),
        (400, 1009)
    );
    knobs(&bench, &json!({"calls_refused": {"profile": 190}}));
    assert_eq!(
        code(&bench.json(&[], ABOUT)),
        (503, 1011),
        "401 is for our own credentials"
    );
    knobs(
        &bench,
        &json!({"calls_refused": {}, "profile_deeper": true}),
    );
    assert_eq!(about(&bench), "Closed", "in the other form");
    hangs(&bench);
    photos(&bench);
    blocks(&bench);
}

/// An upstream that does not answer is told as such, in a bounded time.
fn hangs(bench: &Bench) {
    knobs(bench, &json!({"calls_hang": ["compliance"]}));
    let began = Instant::now();
    let answer = bench.json(&[], "/v1/settings/business/compliance_info");
    assert_eq!(answer.0, 503, "{answer:?}");
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
    knobs(bench, &json!({"calls_hang": []}));
    let answer = bench.json(&[], "/v1/settings/business/profile/compliance_info");
    assert_eq!(
        answer.1["settings"],
        json!({"business": {"profile": {"compliance_info": {}}}})
    );
}

fn photos(bench: &Bench) {
    let path = "/v1/settings/profile/photo";
    let file = bench.dev.state.path().join("photo.png");
    let data = format!("@{}", file.display());
    let words = ["-H", "content-type: image/png", "--data-binary", &data];
    for tail in ["one", "two"] {
        let photo = [b"\x89PNG\r\n\x1a\n", tail.as_bytes()].concat();
        std::fs::write(&file, &photo).expect("written");
        let answer = bench.json(&words, path);
        assert_eq!(answer.0, 200, "{answer:?}");
        assert_eq!(bench.curl(&[], path), (200, photo));
    }
    knobs(bench, &json!({"calls_refused": {"upload": 131_000}}));
    assert_eq!(code(&bench.json(&words, path)), (503, 1011));
    knobs(bench, &json!({"calls_refused": {"photo": 100}}));
    assert_eq!(code(&bench.json(&words, path)), (400, 1009));
    knobs(bench, &json!({"calls_refused": {}}));
    let form = format!("file=@{};type=image/png", file.display());
    assert_eq!(bench.json(&["-F", &form], path).0, 200, "as a form");
    assert_eq!(code(&bench.json(&["-X", "DELETE"], path)), (403, 1005));
}

fn blocks(bench: &Bench) {
    let of =
        |who: &str, verb: &str| bench.json(&["-X", "POST"], &format!("/v1/contacts/{who}/{verb}"));
    assert_eq!(code(&of("+16315551000", "block")), (400, 2048));
    let wrote = json!({"from": "16315551000", "body": "hi"}).to_string();
    request(
        [127, 0, 0, 1],
        bench.simulator,
        "POST /admin/inbound HTTP/1.1",
        &wrote,
    );
    for who in ["+16315551000", "%2B16315551000", "16315551000"] {
        assert_eq!(of(who, "block").0, 200, "{who}");
    }
    let message = json!({"to": "16315551000", "text": {"body": "hi"}});
    assert_eq!(bench.send(&message).0, 201);
    bench.upstream_until("refused", "/admin/report", |report| {
        report["refused"]["130403"] == 1
    });
    for _ in 0..2 {
        assert_eq!(of("16315551000", "unblock").0, 200);
    }
    assert_eq!(code(&of("US.ENT.1", "block")), (400, 1009));
}
