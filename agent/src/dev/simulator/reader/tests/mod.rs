//! Goal: nothing that the vendor would refuse passes the reader, and everything that is documented does.
//! Method: for each type good bodies, and a table of good bodies with one thing wrong each; all requests of the golden pairs.

mod interactive;
mod template;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::sent::{Asked, Kind, Recipient, Sent};
use super::{Refusal, read};

fn message(kind: &str, object: Value) -> Value {
    json!({"messaging_product": "whatsapp", "recipient_type": "individual", "to": "447700900456", "type": kind, kind: object})
}

fn asked(body: &Value) -> Result<Asked, Refusal> {
    read(body.to_string().as_bytes())
}

fn code(body: &Value) -> u32 {
    asked(body).map_or_else(|refusal| refusal.code, |_| 0)
}

fn sent(body: &Value) -> Sent {
    match asked(body) {
        Ok(Asked::Message(sent)) => *sent,
        other => panic!("{body}: {other:?}"),
    }
}

/// The body with another value at a place; `null` takes the place away.
fn with(body: &Value, pointer: &str, value: Value) -> Value {
    let mut body = body.clone();
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
    let parent = body
        .pointer_mut(parent)
        .unwrap_or_else(|| panic!("{pointer}"));
    match (parent, value) {
        (Value::Array(list), Value::Null) => drop(list.remove(name.parse().expect("an index"))),
        (Value::Array(list), value) => {
            let at: usize = name.parse().expect("an index");
            match at == list.len() {
                true => list.push(value),
                false => list[at] = value,
            }
        }
        (Value::Object(map), Value::Null) => drop(map.remove(name)),
        (Value::Object(map), value) => drop(map.insert(name.into(), value)),
        (other, _) => panic!("{pointer}: {other}"),
    }
    body
}

fn long(chars: usize) -> Value {
    "é".repeat(chars).into()
}

/// The good body is taken; each of the others is refused with its code.
fn refused(good: &Value, table: &[(&str, Value, u32)]) {
    assert_eq!(asked(good).err(), None, "{good}");
    for (pointer, value, wanted) in table {
        let bad = with(good, pointer, value.clone());
        assert_eq!(code(&bad), *wanted, "{pointer} {value}: {bad}");
    }
}

fn taken(bodies: impl IntoIterator<Item = Value>) {
    for body in bodies {
        assert_eq!(asked(&body).err(), None, "{body}");
    }
}

#[test]
fn what_all_types_share() {
    let mut good = message("text", json!({"preview_url": false, "body": "x"}));
    good["biz_opaque_callback_data"] = "m1".into();
    good["context"] = json!({"message_id": "wamid.A"});
    refused(
        &good,
        &[
            ("/unknown", json!(1), 100),
            ("/x_wa_media", json!("f"), 100),
            ("/preview_url", json!(true), 100),
            ("/image", json!({"id": "7"}), 100),
            ("/context/id", json!("x"), 100),
            ("/context", json!("wamid.A"), 100),
            ("/context", json!({}), 131_008),
            ("/context/message_id", json!("a b"), 131_009),
            ("/messaging_product", json!("telegram"), 100),
            ("/messaging_product", json!(null), 131_008),
            ("/recipient_type", json!("everybody"), 100),
            ("/to", json!(447_700_900_456_u64), 100),
            ("/to", json!(""), 100),
            ("/to", json!(null), 131_008),
            ("/biz_opaque_callback_data", long(513), 131_009),
            ("/type", json!("fax"), 100),
            ("/type", json!("image"), 131_008),
            ("/category", json!("utility"), 100),
            ("/ttl", json!(60), 100),
        ],
    );
    assert_eq!(sent(&good).opaque, "m1");
    assert_eq!(code(&json!([])), 100);
    assert_eq!(read(b"{").map_err(|refusal| refusal.code), Err(100));
    taken([
        with(&good, "/type", json!(null)),
        with(&good, "/recipient_identity_key_hash", json!("abc=")),
    ]);
}

/// Goal: who gets it is what the facts say. Method: every shape of `to` and `recipient`.
#[test]
fn recipients() {
    let good = message("text", json!({"body": "x"}));
    let to = |to: &str| sent(&with(&good, "/to", json!(to))).to;
    for number in ["447700900456", "+447700900456", "+44 (7700) 900-456"] {
        let (input, digits) = (number.to_owned(), "447700900456".to_owned());
        assert_eq!(to(number), Recipient::Number { input, digits });
    }
    for nobody in ["GB.1234567890", "ann", "1234", "1234567890123456"] {
        assert!(matches!(to(nobody), Recipient::Nobody { .. }), "{nobody}");
    }
    let both = with(&good, "/recipient", json!("GB.1234"));
    assert!(matches!(sent(&both).to, Recipient::Number { .. }));
    let only = with(&both, "/to", json!(null));
    assert_eq!(sent(&only).to, Recipient::User("GB.1234".into()));
    for user in ["GB.ENT.12ab", "IN.9"] {
        taken([with(&only, "/recipient", json!(user))]);
    }
    refused(
        &only,
        &[
            ("/recipient", json!("447700900456"), 131_009),
            ("/recipient", json!("gb.1"), 131_009),
            ("/recipient", json!("GB."), 131_009),
            ("/recipient", json!("GB.1-2"), 131_009),
            ("/recipient_type", json!("group"), 100),
        ],
    );
    let group = with(&good, "/recipient_type", json!("group"));
    let group = with(&group, "/to", json!("Y2FwaV9ncm91cA=="));
    assert!(matches!(sent(&group).to, Recipient::Group(_)));
}

#[test]
fn texts() {
    let good = message("text", json!({"preview_url": false, "body": "x"}));
    refused(
        &good,
        &[
            ("/text", json!("x"), 100),
            ("/text/unknown", json!(1), 100),
            ("/text/body", json!(7), 100),
            ("/text/body", json!(""), 100),
            ("/text/body", json!(null), 131_008),
            ("/text/body", long(4097), 131_009),
            ("/text/preview_url", json!("true"), 100),
        ],
    );
    taken([with(&good, "/text/body", long(4096))]);
}

#[test]
fn files() {
    let good = message(
        "document",
        json!({"id": "7", "caption": "c", "filename": "f.pdf"}),
    );
    refused(
        &good,
        &[
            ("/document/id", json!(7), 100),
            ("/document/id", json!(null), 131_008),
            ("/document/link", json!("https://a.example/b"), 100),
            ("/document/caption", long(1025), 131_009),
            ("/document/filename", long(241), 131_009),
            ("/document/provider", json!({"name": "p"}), 100),
            ("/document/voice", json!(true), 100),
        ],
    );
    let link = message("video", json!({"link": "https://files.example/a.mp4"}));
    refused(
        &link,
        &[
            ("/video/link", json!("files.example/a.mp4"), 131_009),
            ("/video/link", json!("ftp://files.example/a.mp4"), 131_009),
            ("/video/filename", json!("a"), 100),
        ],
    );
    for (kind, bad) in [
        ("image", "filename"),
        ("audio", "caption"),
        ("sticker", "caption"),
    ] {
        let good = message(kind, json!({"id": "7"}));
        refused(&good, &[(&format!("/{kind}/{bad}"), json!("x"), 100)]);
    }
    let voice = message("audio", json!({"id": "7", "voice": true}));
    refused(&voice, &[("/audio/voice", json!("true"), 100)]);
    let file = &sent(&voice).files[0];
    assert_eq!((file.id.as_str(), file.kind), ("7", Kind::Voice));
    assert!(sent(&link).files.is_empty());
}

#[test]
fn locations() {
    let good = message(
        "location",
        json!({"latitude": "51.5", "longitude": "-0.12", "name": "n", "address": "a"}),
    );
    refused(
        &good,
        &[
            ("/location/latitude", json!(51.5), 100),
            ("/location/latitude", json!("north"), 131_009),
            ("/location/latitude", json!("91"), 131_009),
            ("/location/longitude", json!("-180.1"), 131_009),
            ("/location/longitude", json!(null), 131_008),
            ("/location/name", json!(""), 100),
            ("/location/url", json!("https://a.example"), 100),
        ],
    );
}

#[test]
fn contacts() {
    let good = message(
        "contacts",
        json!([{
            "name": {"formatted_name": "Ann Lee", "first_name": "Ann", "last_name": "Lee", "middle_name": "B", "prefix": "Dr",
                "suffix": "II"},
            "org": {"company": "Shop", "department": "Sales", "title": "Head"},
            "phones": [{"phone": "+447700900456", "type": "CELL", "wa_id": "447700900456"}],
            "emails": [{"email": "ann@shop.example", "type": "WORK"}],
            "urls": [{"url": "https://shop.example", "type": "WORK"}],
            "addresses": [{"street": "1 Road", "city": "London", "state": "", "zip": "E1", "country": "UK", "country_code": "gb",
                "type": "HOME"}],
            "birthday": "2000-02-29",
        }]),
    );
    let good = with(&good, "/contacts/0/addresses/0/state", json!(null));
    refused(
        &good,
        &[
            ("/contacts", json!([]), 131_009),
            ("/contacts", json!({"name": {"formatted_name": "a"}}), 100),
            ("/contacts/0/name", json!(null), 131_008),
            ("/contacts/0/name/formatted_name", json!(null), 131_008),
            ("/contacts/0/name/nickname", json!("A"), 100),
            ("/contacts/0/phones/0/phone", json!(447), 100),
            ("/contacts/0/phones", json!({"phone": "1"}), 100),
            ("/contacts/0/emails/0/mail", json!("a"), 100),
            ("/contacts/0/org/role", json!("a"), 100),
            ("/contacts/0/birthday", json!("29.02.2000"), 131_009),
            ("/contacts/0/birthday", json!("2001-02-29"), 131_009),
            ("/contacts/0/ims", json!([]), 100),
        ],
    );
    let card = json!({"name": {"formatted_name": "a"}});
    taken([message("contacts", vec![card.clone(); 257].into())]);
    assert_eq!(code(&message("contacts", vec![card; 258].into())), 131_009);
}

#[test]
fn reactions() {
    let good = message("reaction", json!({"message_id": "wamid.A=", "emoji": "👍🏽"}));
    refused(
        &good,
        &[
            ("/reaction/message_id", json!(null), 131_008),
            ("/reaction/emoji", json!(null), 131_008),
            ("/reaction/emoji", json!("like"), 131_009),
            ("/reaction/emoji", json!(1), 100),
            ("/reaction/type", json!("x"), 100),
        ],
    );
    taken([with(&good, "/reaction/emoji", json!(""))]);
    assert_eq!(sent(&good).reacts_to.as_deref(), Some("wamid.A="));
}

#[test]
fn marks_and_pins() {
    let read = json!({"messaging_product": "whatsapp", "status": "read", "message_id": "wamid.A"});
    let typing = with(&read, "/typing_indicator", json!({"type": "text"}));
    refused(
        &typing,
        &[
            ("/status", json!("seen"), 100),
            ("/message_id", json!(null), 131_008),
            ("/typing_indicator/type", json!("voice"), 100),
            ("/typing_indicator", json!(true), 100),
            ("/to", json!("447700900456"), 100),
        ],
    );
    let message_id = "wamid.A".to_owned();
    assert_eq!(asked(&read), Ok(Asked::Read { message_id }));
    let pin = message(
        "pin",
        json!({"type": "pin", "message_id": "wamid.A", "expiration_days": 30}),
    );
    let pin = with(&pin, "/recipient_type", json!("group"));
    refused(
        &pin,
        &[
            ("/recipient_type", json!("individual"), 100),
            ("/pin/type", json!("hold"), 100),
            ("/pin/expiration_days", json!(31), 131_009),
            ("/pin/expiration_days", json!("7"), 100),
            ("/pin/expiration_days", json!(null), 131_008),
        ],
    );
}

/// Goal: what the product sends is what the vendor takes. Method: every request of the golden pairs. Those `of-tomorrow` have
/// something that no document of today knows, so that they are refused.
#[test]
fn requests_of_the_golden_pairs_are_taken() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1");
    let (mut wrong, mut count) = (Vec::new(), 0);
    let folders = std::fs::read_dir(&root).expect("the pairs");
    let folders = folders.flatten().map(|entry| entry.path());
    let sends = |path: &PathBuf| {
        let told = ["callbacks", "sequences"];
        path.is_dir() && !told.iter().any(|name| path.ends_with(name))
    };
    for folder in folders.filter(sends) {
        let files = std::fs::read_dir(&folder).expect("a folder");
        for file in files.flatten().map(|entry| entry.path()) {
            let name = file.strip_prefix(&root).expect("below it");
            let name = name.display().to_string();
            if !name.ends_with(".cloud.json") {
                continue;
            }
            count += 1;
            let bytes = std::fs::read(&file).expect("a file");
            match (read(&bytes), name.contains("of-tomorrow")) {
                (Ok(_), false) | (Err(_), true) => {}
                (Ok(_), true) => wrong.push(format!("{name}: taken")),
                (Err(refusal), false) => {
                    wrong.push(format!("{name}: {} {}", refusal.code, refusal.why));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= 20, "{count} requests");
}
