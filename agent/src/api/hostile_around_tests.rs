//! As `hostile_tests.rs`, for the calls around messages, and for what the upstream answers to calls of ours. Goal: nothing panics a
//! reader or is half understood; a refusal has a documented code. Method: a hundred thousand bodies for each reader, in which the
//! fields are right and their values often wrong.

use proptest::prelude::*;
use proptest::test_runner::Config;
use serde_json::{Map, Value};

use super::cloud::{block as blocked, profile, refusal, registration, template};
use super::error::ApiError;
use super::v1::account::{is_pin, proof, wanted_pin, wanted_registration};
use super::v1::fields::Fields;
use super::v1::stickerpack::{About, NAME_LEN_MAX, Sticker};
use super::v1::who::Recipient;
use super::v1::{alias, backup, identity, provider, user};

fn cases() -> Config {
    Config {
        cases: 100_000,
        failure_persistence: None,
        ..Config::default()
    }
}

/// Fields of clients' bodies, and words that mean something in them.
const FIELDS: &[&str] = &[
    "cc",
    "phone_number",
    "method",
    "pin",
    "cert",
    "code",
    "backup",
    "password",
    "data",
    "username",
    "new_password",
    "hash",
    "name",
    "type",
    "config",
    "bearer",
    "basic",
    "hosts",
    "publisher",
    "ios_app_store_link",
    "android_app_store_link",
    "image_data_id",
    "emojis",
    "nobody_reads_this",
];
const WORDS: &[&str] = &[
    "44",
    "7700900999",
    "sms",
    "voice",
    "123456",
    "123-456",
    "Bcdefg1!",
    "cdn",
    "www",
    "****",
    "files.example.com:8443",
    "http://files.example.com",
    "https://a.example/",
    "wa-agent-backup.v1.32768.4.1.AAAA.AAAA.AAAA",
    "00000000-0000-4000-8000-000000000099",
    "",
];
/// Fields of the upstream's answers, and words that mean something in them.
const ANSWERED: &[&str] = &[
    "data",
    "paging",
    "cursors",
    "after",
    "next",
    "name",
    "language",
    "status",
    "components",
    "buttons",
    "type",
    "url",
    "text",
    "example",
    "error",
    "code",
    "message",
    "error_data",
    "details",
    "fbtrace_id",
    "block_users",
    "added_users",
    "removed_users",
    "failed_users",
    "errors",
    "input",
    "user",
    "user_id",
    "wa_id",
    "about",
    "address",
    "websites",
    "vertical",
    "profile_picture_url",
    "entity_name",
    "display_phone_number",
    "verified_name",
    "platform_type",
    "code_verification_status",
    "new_name_status",
    "id",
    "h",
    "entry",
    "changes",
    "field",
    "value",
    "message_template_name",
];
const ANSWERS: &[&str] = &[
    "CONNECTED",
    "PENDING",
    "CLOUD_API",
    "VERIFIED",
    "APPROVED",
    "BODY",
    "BUTTONS",
    "URL",
    "https://a.example/{{1}}",
    "Hello {{1}}",
    "447700900456",
    "+44 7700 900456",
    "GB.1234567890",
    "message_template_status_update",
    "en_US",
];

type Words = &'static [&'static str];

fn filled(fields: Words, words: Words) -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        6 => proptest::sample::select(words).prop_map(Value::from),
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        1 => (190u64..192).prop_map(Value::from),
        2 => any::<char>().prop_map(|c| Value::from(c.to_string())),
    ];
    leaf.prop_recursive(2, 6, 3, move |inner| {
        let field = proptest::sample::select(fields);
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((field, inner), 0..5).prop_map(|pairs| {
                let pairs = pairs.into_iter().map(|(k, v)| (k.to_owned(), v));
                Value::Object(pairs.collect())
            }),
        ]
    })
}

fn body(fields: Words, words: Words) -> impl Strategy<Value = Map<String, Value>> {
    let field = proptest::sample::select(fields);
    proptest::collection::vec((field, filled(fields, words)), 0..5)
        .prop_map(|pairs| pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
}

fn documented(error: &ApiError) {
    assert!((400..500).contains(&error.code.http_status()), "{error:?}");
}

fn refused<T>(read: Result<T, ApiError>) -> Option<T> {
    read.inspect_err(documented).ok()
}

fn registration_of(body: &Fields) {
    if let Some(wanted) = refused(wanted_registration(&mut body.clone(), Some("447700900999"))) {
        assert!(wanted.pin.is_none_or(|pin| is_pin(&pin.0)));
    }
    if let Some(proof) = refused(proof(&mut body.clone())) {
        let digits = proof.code.0.bytes().all(|b| b.is_ascii_digit());
        assert!(digits && !proof.code.0.is_empty());
    }
    if let Some(pin) = refused(wanted_pin(&mut body.clone())) {
        assert!(is_pin(&pin.0));
    }
}

fn user_of(body: &Fields) {
    for name in ["username", "password", "new_password"] {
        let Some(text) = refused(body.clone().need_text(name)) else {
            continue;
        };
        if refused(user::check_username(&text)).is_some() {
            assert!(text.is_ascii() && (4..=32).contains(&text.len()));
        }
        if refused(user::check_password(&text)).is_some() {
            assert!((8..=64).contains(&text.chars().count()));
        }
    }
}

fn backup_of(body: &Fields) {
    if let Some(password) = refused(backup::password(&mut body.clone())) {
        assert!((8..=256).contains(&password.chars().count()));
    }
    if let Some(blob) = refused(backup::data(&mut body.clone())) {
        assert!(blob.cost.bounded());
    }
}

fn stickers_of(body: &Fields) {
    if let Some(about) = refused(About::read(&mut body.clone())) {
        assert!((1..=NAME_LEN_MAX).contains(&about.name.chars().count()));
        assert!(!about.publisher.is_empty());
    }
    if let Some(sticker) = refused(Sticker::read(&mut body.clone())) {
        assert!(!sticker.image_data_id.is_empty() && sticker.emojis.len() <= 16);
    }
}

/// As they are sent: as bytes.
fn read_whole(bytes: &[u8]) {
    for wish in refused(provider::read(bytes)).into_iter().flatten() {
        assert!(wish.credentials.header().is_some() && !wish.name.is_empty());
    }
    if let Some(request) = refused(identity::parse(bytes)) {
        assert!(!request.hash.is_empty());
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn bodies_of_clients_are_whole_or_refused(body in body(FIELDS, WORDS), list: bool) {
        let one = Value::Object(body.clone());
        let sent = if list { Value::from(vec![one]) } else { one };
        read_whole(sent.to_string().as_bytes());
        let body = Fields::of(body);
        registration_of(&body);
        user_of(&body);
        backup_of(&body);
        stickers_of(&body);
    }

    #[test]
    fn noise_is_refused(noise in proptest::collection::vec(any::<u8>(), 0..32)) {
        read_whole(&noise);
    }

    #[test]
    fn recipients_are_somebody_or_nobody(noise in ".{0,24}", nearly in "(\\+|00|\\(0\\)|tel:|[0-9 .-]|999|GB\\.|[A-Za-z]){0,20}") {
        for text in [noise, nearly] {
            let Some(who) = Recipient::parse(&text) else { continue };
            let said = who.as_str();
            prop_assert!(said.len() <= 200 && Recipient::parse(said).is_some_and(|again| again.as_str() == said));
            match &who {
                Recipient::Phone(digits) | Recipient::International(digits) => {
                    prop_assert!((5..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()));
                    prop_assert!(!alias::is_reserved(digits) || alias::is_alias(digits));
                }
                Recipient::User(id) => prop_assert!(id.contains('.')),
            }
        }
    }

    /// The upstream's answers are read or passed over, whatever their status is.
    #[test]
    fn answers_of_the_upstream_are_read_or_passed_over(answer in body(ANSWERED, ANSWERS), status in 100u16..600,
                                                       noise in proptest::collection::vec(any::<u8>(), 0..32)) {
        let answer = Value::Object(answer);
        let who = Recipient::Phone("447700900456".into());
        for bytes in [answer.to_string().into_bytes(), noise] {
            let _ = registration::State::read(status, &bytes);
            let _ = registration::new_name(status, &bytes);
            let (_, said) = registration::answer(status, &bytes);
            prop_assert!(said.len() <= bytes.len() + 512);
            let _ = profile::read(&bytes);
            let _ = profile::read_compliance(&bytes);
            let _ = (profile::begun(&bytes), profile::handle(&bytes));
            let _ = blocked::settled(status, &bytes, &who);
            let _ = refusal::settled(status, &bytes);
            if let Some(page) = template::page(&bytes) {
                prop_assert!(page.after.is_none_or(|after| !after.is_empty()));
            }
        }
        let _ = template::changed(&answer);
    }
}
