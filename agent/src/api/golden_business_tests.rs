//! Golden pairs of the calls about the business: profile, compliance information, and whom it blocks.
//! Goal and method as in `golden_tests.rs`.

use serde_json::{Value, json};

use super::cloud::call::{Call, Method};
use super::cloud::{block, profile};
use super::error::ApiError;
use super::golden_tests::{OWN, beside, cases, compare, folder, refused};
use super::owner::{OwnerCall, Settled};
use super::v1::block::customer;
use super::v1::business::{Compliance, ProfileChange};
use super::v1::fields::Fields;
use super::v1::photo::PhotoLinkAnswer;
use super::v1::who::Recipient;

/// The id of the business's number.
const NUMBER_ID: &str = "1065";

fn asked(call: &OwnerCall) -> Call {
    Call::of(call).expect("the upstream is asked")
}

fn body_of(call: &OwnerCall) -> Value {
    asked(call).body().expect("it has a body")
}

fn changed(kind: &str, body: &[u8]) -> Result<Value, ApiError> {
    let mut body = Fields::parse(body)?;
    let call = match kind {
        "profile" => OwnerCall::ChangeProfile {
            change: ProfileChange::of_business(&mut body)?,
        },
        "about" => OwnerCall::ChangeProfile {
            change: ProfileChange::of_about(&mut body)?,
        },
        _ => OwnerCall::ChangeCompliance {
            info: Compliance::of_client(&mut body)?,
        },
    };
    Ok(body_of(&call))
}

/// What a path like `/v1/contacts/X/block` asks of the upstream.
fn blocked(path: &str) -> Result<Value, ApiError> {
    let mut parts = path.split('/').skip(3);
    let (who, verb) = (parts.next().expect("somebody"), parts.next());
    let who = percent_encoding::percent_decode_str(who)
        .decode_utf8()
        .expect("text");
    let who = customer(&who, Some(OWN))?;
    let call = match verb {
        Some("block") => OwnerCall::Block { who },
        _ => OwnerCall::Unblock { who },
    };
    let method = match asked(&call).method() {
        Method::Get => "GET",
        Method::Post => "POST",
        Method::Delete => "DELETE",
    };
    Ok(json!({"method": method, "path": asked(&call).path(NUMBER_ID), "body": body_of(&call)}))
}

#[test]
fn golden_changes_of_the_business() {
    let mut wrong = Vec::new();
    for kind in ["profile", "about", "compliance", "block"] {
        let cases = cases(&folder().join("business").join(kind), ".json");
        assert!(cases.len() >= 3, "{kind}");
        for case in cases {
            let text = std::fs::read(&case).expect("a case");
            let became = match kind {
                "block" => {
                    let case: Value = serde_json::from_slice(&text).expect("JSON");
                    blocked(case["path"].as_str().expect("a path"))
                }
                _ => changed(kind, &text),
            };
            let [good, error] =
                [".cloud.json", ".error.json"].map(|end| beside(&case, ".json", end));
            let (second, none, found) = match became {
                Ok(found) => (good, error, found),
                Err(found) => (error, good, refused(&found)),
            };
            compare(&second, &found, &mut wrong);
            if none.exists() {
                wrong.push(format!("{}: found {found}", none.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn settings(answer: &impl serde::Serialize) -> Value {
    serde_json::to_value(answer).expect("plain data")["settings"].clone()
}

/// What clients are answered for an answer of the upstream.
fn shown(answer: &Value) -> Value {
    let profile = profile::read(answer.to_string().as_bytes()).expect("an answer");
    let link = profile.photo.clone().map(PhotoLinkAnswer::of);
    json!({"business": settings(&profile.clone().business())["business"], "about": settings(&profile.about()),
           "link": link.map(|link| settings(&link))})
}

fn told(answer: &Value) -> Value {
    let who = answer["for"]
        .as_str()
        .and_then(Recipient::parse)
        .expect("somebody");
    let status = answer["status"]
        .as_u64()
        .and_then(|status| u16::try_from(status).ok());
    let body = answer["body"].to_string();
    match block::settled(status.expect("a status"), body.as_bytes(), &who) {
        Settled::Done => json!({"status": 200}),
        Settled::Refused { code, details } => refused(&ApiError::with(code, details)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn golden_answers_about_the_business() {
    let mut wrong = Vec::new();
    for (kind, read) in [
        ("profile-answers", shown as fn(&Value) -> Value),
        ("block-answers", told),
    ] {
        let cases = cases(&folder().join("business").join(kind), ".cloud.json");
        assert!(cases.len() >= 3, "{kind}");
        for case in cases {
            let text = std::fs::read(&case).expect("a case");
            let answer = serde_json::from_slice(&text).expect("JSON");
            compare(
                &beside(&case, ".cloud.json", ".v1.json"),
                &read(&answer),
                &mut wrong,
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
