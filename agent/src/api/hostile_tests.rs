//! Goal: no body of a client or of the upstream, and no configuration, can panic a parser or be half understood. Method:
//! a hundred thousand bodies each: noise, and JSON in which the fields are right and their values wrong. What passes is
//! held to the rule that it passed; what does not gets a documented code.

use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::Config;
use serde_json::{Map, Value};

use super::cloud::callback::{Attached, callback};
use super::cloud::event::{Event, Item, items, take};
use super::cloud::lenient::readable;
use super::cloud::request;
use super::error::ApiError;
use super::v1::business::{Compliance, ProfileChange};
use super::v1::fields::Fields;
use super::v1::message::{Content, Message, parse_read, stored};
use super::v1::photo::Photo;
use super::v1::setting::{ApplicationSettings, Rules, Seconds};
use super::v1::who::Recipient;
use super::v1::{account, block, contact};

const CASES: u32 = 100_000;
/// Values that are made anew in each run where making them is dear.
const POOL_LEN: usize = 5_000;

fn cases() -> Config {
    Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    }
}

/// Every field that a parser looks at, and some that none does.
const FIELDS: &[&str] = &[
    "to",
    "recipient",
    "type",
    "recipient_type",
    "biz_opaque_callback_data",
    "text",
    "body",
    "preview_url",
    "context",
    "message_id",
    "ttl",
    "status",
    "contacts",
    "blocking",
    "force_check",
    "shards",
    "heartbeat_interval",
    "unhealthy_interval",
    "callback_backoff_delay_ms",
    "max_callback_backoff_delay_ms",
    "webhooks",
    "url",
    "max_concurrent_requests",
    "message",
    "sent",
    "delivered",
    "read",
    "media",
    "auto_download",
    "garbagecollector_enable",
    "messages",
    "settings",
    "application",
    "entry",
    "changes",
    "value",
    "statuses",
    "id",
    "recipient_id",
    "from",
    "wa_id",
    "profile",
    "name",
    "errors",
    "code",
    "title",
    "timestamp",
    "about",
    "address",
    "description",
    "email",
    "vertical",
    "websites",
    "entity_name",
    "is_registered",
    "customer_care_details",
    "grievance_officer_details",
    "mobile_number",
    "nobody_reads_this",
];

/// Words that mean something somewhere.
const WORDS: &[&str] = &[
    "text",
    "individual",
    "group",
    "image",
    "+44 7700 900123",
    "447700900123",
    "07700 900123",
    "GB.1234567890",
    "wait",
    "no_wait",
    "sent",
    "delivered",
    "read",
    "failed",
    "https://business.example/hook",
    "[\"https://business.example/\"]",
    "Automotive",
    "RETAIL",
    "http://127.0.0.1/",
    "true",
    "5",
    "0.05",
    "-1",
    "1e400",
    "",
];

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => Just(Value::Null),
        4 => any::<bool>().prop_map(Value::from),
        8 => any::<i64>().prop_map(Value::from),
        8 => any::<f64>().prop_map(Value::from),
        8 => (0u64..40).prop_map(Value::from),
        8 => proptest::sample::select(WORDS).prop_map(Value::from),
        8 => ".{0,12}".prop_map(Value::from),
        1 => (4094usize..4099).prop_map(|len| Value::from("é".repeat(len))),
    ]
}

fn json() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(3, 10, 3, |inner| {
        let field = proptest::sample::select(FIELDS);
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((field, inner), 0..5).prop_map(|pairs| {
                let pairs = pairs
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value));
                Value::Object(pairs.collect())
            }),
        ]
    })
}

fn fields() -> impl Strategy<Value = Map<String, Value>> {
    let field = proptest::sample::select(FIELDS);
    proptest::collection::vec((field, json()), 0..6)
        .prop_map(|pairs| pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
}

/// Every field of templates, and words that stand in them.
const TEMPLATE_FIELDS: &[&str] = &[
    "type",
    "sub_type",
    "index",
    "parameters",
    "parameter_name",
    "cards",
    "card_index",
    "components",
    "text",
    "currency",
    "fallback_value",
    "code",
    "amount_1000",
    "date_time",
    "image",
    "gif",
    "id",
    "link",
    "payload",
    "action",
    "limited_time_offer",
    "expiration_time_ms",
    "default",
    "currency_code",
    "nobody_reads_this",
];
const TEMPLATE_WORDS: &[&str] = &[
    "header",
    "BODY",
    "button",
    "carousel",
    "limited_time_offer",
    "quick_reply",
    "url",
    "text",
    "currency",
    "date_time",
    "image",
    "gif",
    "payload",
    "action",
    "hologram",
    "USD",
    "https://files.example/a.png",
    "00000000-0000-4000-8000-000000000099",
];

/// Something in a template: often the right field with a value that fits.
fn filling() -> impl Strategy<Value = Value> {
    let word = proptest::sample::select(TEMPLATE_WORDS).prop_map(Value::from);
    let leaf = prop_oneof![3 => word, 1 => (0u64..12).prop_map(Value::from), 1 => leaf()];
    leaf.prop_recursive(6, 40, 4, |inner| {
        let field = proptest::sample::select(TEMPLATE_FIELDS);
        let named = proptest::collection::vec((field, inner.clone()), 0..5);
        let named = named.prop_map(|pairs| {
            let pairs = pairs.into_iter().map(|(k, v)| (k.to_owned(), v));
            Value::Object(pairs.collect())
        });
        // A parameter whose value is where it belongs.
        let typed = (proptest::sample::select(TEMPLATE_WORDS), inner.clone());
        let typed = typed.prop_map(|(word, value)| serde_json::json!({"type": word, word: value}));
        let component = (proptest::sample::select(TEMPLATE_WORDS), 0u64..11);
        let component = (component, proptest::collection::vec(inner.clone(), 0..3));
        let component = component.prop_map(|((word, index), list)| {
            serde_json::json!({"type": word, "sub_type": word, "index": index, "parameters": list, "cards": list,
                               "card_index": index, "components": list})
        });
        prop_oneof![named, typed, component, proptest::collection::vec(inner, 0..4).prop_map(Value::from)]
    })
}

/// A refusal has a code that the documentation knows, and a status that says whose fault it was.
fn documented(error: &ApiError) {
    assert!((400..500).contains(&error.code.http_status()), "{error:?}");
}

fn rules() -> Rules {
    let seconds = |s: u64| Seconds { ms: s * 1000 };
    Rules {
        heartbeat: seconds(5),
        unhealthy: seconds(30),
        allow_http: false,
        late_ms: 0,
    }
}

/// What was accepted can be stored, read again, and put into a request.
fn kept(message: &Message) {
    let form = stored::Form::NEWEST;
    let again = stored::read(form.number(), &stored::write(form, message)).expect("readable");
    assert_eq!(stored::hashes(&again), stored::hashes(message));
    let files = message.content.sources();
    let files = files
        .iter()
        .map(|(_, source)| ((*source).clone(), "1".into()));
    let sent = request::send(&again, &again.to, "m", &files.collect(), message.named());
    assert!(sent.is_ok());
}

fn message(bytes: &[u8]) {
    match Message::parse(bytes, Some("447700900999")) {
        Ok(message) => {
            let to = message.to.as_str();
            let is_digits = to.bytes().all(|b| b.is_ascii_digit());
            match &message.to {
                Recipient::Phone(_) | Recipient::International(_) => {
                    assert!(is_digits, "{message:?}");
                }
                Recipient::User(id) => assert!(id.contains('.'), "{message:?}"),
            }
            assert_ne!(to, "447700900999");
            match &message.content {
                Content::Text(text) => {
                    assert!((1..=4096).contains(&text.body.chars().count()));
                }
                Content::Media(_)
                | Content::Location(_)
                | Content::Contacts(_)
                | Content::Template(_)
                | Content::Hsm(_)
                | Content::Interactive(_)
                | Content::Reaction(_) => {}
            }
            kept(&message);
        }
        Err(error) => documented(&error),
    }
    if let Err(error) = parse_read(bytes) {
        documented(&error);
    }
}

/// What came can be stored, read again and told, whatever became of its file.
fn told(item: &Item) {
    let stored = serde_json::to_string(item).expect("plain data");
    let again: Item = serde_json::from_str(&stored).expect("what was written");
    assert_eq!(again.raw, item.raw);
    let event = Event::of(again.raw);
    let _ = event.status_change();
    let ours = Attached::Ours("f".into());
    let later = Attached::Later("f".into());
    for file in [Attached::Nothing, Attached::Undownloaded, later, ours] {
        let text = callback(event.clone(), file).text();
        let read: Value = serde_json::from_str(&text).expect("JSON");
        assert!(read.is_object(), "{text}");
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn noise_is_no_message(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        message(&bytes);
        if let Err(error) = Fields::parse(&bytes).map(|_| ()) {
            documented(&error);
        }
    }

    #[test]
    fn messages_are_whole_or_refused(body in fields()) {
        message(Value::Object(body).to_string().as_bytes());
    }

    #[test]
    fn contacts_and_shards_are_whole_or_refused(body in fields()) {
        let body = Fields::of(body);
        match contact::answer(&mut body.clone()) {
            Ok(contacts) => prop_assert!(contacts.iter().all(|c| (c.status == "valid") == c.wa_id.is_some())),
            Err(error) => documented(&error),
        }
        if let Err(error) = account::wanted_shards(&mut body.clone()) {
            documented(&error);
        }
    }

    #[test]
    fn the_business_is_whole_or_refused(body in fields()) {
        let body = Fields::of(body);
        match ProfileChange::of_business(&mut body.clone()) {
            Ok(change) => {
                prop_assert_ne!(&change, &ProfileChange::default());
                prop_assert!(change.websites.is_none_or(|all| all.len() <= 2 && all.iter().all(|one| !one.is_empty())));
                prop_assert!(change.vertical.is_none_or(|word| super::v1::vertical::words().any(|one| one == word)));
                prop_assert!(change.about.is_none());
            }
            Err(error) => documented(&error),
        }
        match ProfileChange::of_about(&mut body.clone()) {
            Ok(change) => {
                let length = change.about.map_or(0, |text| text.chars().count());
                prop_assert!((1..=139).contains(&length));
            }
            Err(error) => documented(&error),
        }
        match Compliance::of_client(&mut body.clone()) {
            Ok(info) => {
                let shown = info.answer(false)["settings"]["business"]["compliance_info"].clone();
                let again = serde_json::from_value::<Compliance>(shown).expect("what is shown can be read");
                prop_assert_eq!(again, info);
            }
            Err(error) => documented(&error),
        }
    }

    #[test]
    fn customers_to_block_are_somebody_or_refused(text in "[+A-Z0-9. ()]{0,20}", body in proptest::collection::vec(any::<u8>(), 0..20)) {
        match block::customer(&text, Some("447700900999")) {
            Ok(Recipient::User(id)) => prop_assert!(id.split('.').count() == 2),
            Ok(who) => prop_assert!(!who.is_phone("447700900999") && who.as_str().bytes().all(|b| b.is_ascii_digit())),
            Err(error) => documented(&error),
        }
        if let Err(error) = block::check(&body) {
            documented(&error);
        }
        if let Err(error) = Photo::of_client(body.into()) {
            documented(&error);
        }
    }

    #[test]
    fn settings_are_whole_or_refused(body in fields()) {
        match ApplicationSettings::default().patched(&Fields::of(body), rules()) {
            Ok(settings) => {
                let stored = serde_json::to_string(&settings).expect("plain data");
                let read = ApplicationSettings::from_stored(&stored).expect("what was written can be read");
                prop_assert_eq!(serde_json::to_string(&read).expect("plain data"), stored);
                let shown = settings.shown(rules(), None);
                let ms = |s: Option<Seconds>| Duration::from_millis(s.expect("always shown").ms);
                prop_assert!(ms(shown.unhealthy_interval) >= ms(shown.heartbeat_interval) * 3);
                let at_once = shown.webhooks.max_concurrent_requests;
                prop_assert!([6, 12, 18, 24].contains(&at_once));
            }
            Err(error) => documented(&error),
        }
    }

    #[test]
    fn webhook_calls_are_taken_apart(value in fields()) {
        let body = serde_json::json!({"entry": [{"changes": [{"value": value}]}]});
        for item in items(&body) {
            prop_assert!(!item.key.is_empty());
            told(&item);
        }
        let _ = items(&Value::Object(value));
    }

    #[test]
    fn calls_of_noise_are_taken_apart(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let taken = take(&readable(&bytes), "1065");
        taken.items.iter().for_each(told);
    }
}

/// Goal: a contact of null is none, and what is stored of its message is read again as it was (found by a random body). Method: that
/// body.
#[test]
fn a_contact_of_null_is_none() {
    let value = serde_json::json!({"contacts": [null], "messages": [{}]});
    let body = serde_json::json!({"entry": [{"changes": [{"value": value}]}]});
    items(&body).iter().for_each(told);
}

/// Bodies of clients, from the golden pairs: good ones and refused ones, of every type.
fn bodies() -> Vec<Value> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1");
    let files = std::fs::read_dir(folder).expect("folders").flatten();
    let files = files.filter_map(|kind| std::fs::read_dir(kind.path()).ok());
    let files = files
        .flatten()
        .flatten()
        .filter_map(|file| std::fs::read(file.path()).ok());
    let values = files.filter_map(|bytes| serde_json::from_slice(&bytes).ok());
    let bodies: Vec<Value> = values
        .filter(|value: &Value| value.get("to").is_some())
        .collect();
    assert!(bodies.len() > 100, "{}", bodies.len());
    bodies
}

/// Where there is something in it, as JSON pointers.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    let mut below = |name: String, value: &Value| {
        let at = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
        places(value, &at, found);
        found.push(at);
    };
    match value {
        Value::Object(map) => map
            .iter()
            .for_each(|(name, value)| below(name.clone(), value)),
        Value::Array(items) => {
            let items = items.iter().enumerate();
            items.for_each(|(index, value)| below(index.to_string(), value));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// So many values of a kind: making one costs more than reading it, and two of them put together are another one.
fn some<T: std::fmt::Debug>(len: usize, strategy: &impl Strategy<Value = T>) -> Vec<T> {
    let mut runner = proptest::test_runner::TestRunner::default();
    let one = |_| strategy.new_tree(&mut runner).expect("made").current();
    (0..len).map(one).collect()
}

/// Values of which one place is another value.
fn put_together(values: Vec<Value>, others: Vec<Value>) -> impl Strategy<Value = Value> {
    let found = |value: &Value| {
        let mut found = Vec::new();
        places(value, "", &mut found);
        found
    };
    let values: Vec<(Value, Vec<String>)> =
        values.into_iter().map(|v| (v.clone(), found(&v))).collect();
    any::<[proptest::sample::Index; 3]>().prop_map(move |[value, place, other]| {
        let (value, places) = value.get(&values);
        let (mut value, other) = (value.clone(), other.get(&others).clone());
        if !places.is_empty() {
            let place: &String = place.get(places);
            *value.pointer_mut(place).expect("found there") = other;
        }
        value
    })
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn messages_with_one_thing_wrong_are_whole_or_refused(body in put_together(bodies(), some(POOL_LEN, &json()))) {
        message(body.to_string().as_bytes());
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn templates_are_whole_or_refused(filling in put_together(some(POOL_LEN, &filling()), some(POOL_LEN, &filling())),
                                      kind in proptest::sample::select(&["template", "hsm"][..])) {
        let object = serde_json::json!({"name": "n", "element_name": "n", "language": {"code": "en"},
                                        "components": filling, "localizable_params": filling});
        let body = serde_json::json!({"to": "447700900123", "type": kind, kind: object});
        message(body.to_string().as_bytes());
    }
}

/// The committed seeds of the fuzzer: whatever it found is among them.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz/corpus")
        .join(target);
    let entries = std::fs::read_dir(folder).expect("seeds").flatten();
    let seeds: Vec<_> = entries
        .map(|entry| std::fs::read(entry.path()).expect("a seed"))
        .collect();
    assert!(!seeds.is_empty());
    seeds
}

/// Goal: what a fuzzing run found stays fixed.
#[test]
fn seeds_of_the_fuzzer_are_whole_or_refused() {
    for bytes in seeds("v1") {
        message(&bytes);
        if let Ok(mut body) = Fields::parse(&bytes) {
            let _ = ApplicationSettings::default().patched(&body, rules());
            let _ = contact::answer(&mut body.clone());
            let _ = account::wanted_shards(&mut body);
        }
    }
    for bytes in seeds("cloud") {
        let Ok(body) = serde_json::from_slice(&bytes) else {
            continue;
        };
        items(&body).iter().for_each(told);
    }
}
