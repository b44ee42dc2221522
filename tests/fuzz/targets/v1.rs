//! The bodies of `/v1`: no bytes panic a parser; what passes keeps the rule that it passed, what does not has a documented
//! code.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wa_agent::api::error::ApiError;
use wa_agent::api::v1::business::{Compliance, ProfileChange};
use wa_agent::api::v1::fields::Fields;
use wa_agent::api::v1::message::{Content, Message, parse_read, stored};
use wa_agent::api::v1::setting::{ApplicationSettings, Rules, Seconds};
use wa_agent::api::v1::who::Recipient;
use wa_agent::api::v1::{account, backup, contact, provider, user};

fn documented(error: &ApiError) {
    assert!((400..500).contains(&error.code.http_status()), "{error:?}");
}

fn rules() -> Rules {
    Rules {
        heartbeat: Seconds { ms: 5_000 },
        unhealthy: Seconds { ms: 30_000 },
        allow_http: false,
        late_ms: 0,
    }
}

fn message(bytes: &[u8]) {
    match Message::parse(bytes, Some("447700900999")) {
        Ok(message) => {
            let to = message.to.as_str();
            let is_user = matches!(message.to, Recipient::User(_));
            assert!(is_user || to.bytes().all(|b| b.is_ascii_digit()), "{message:?}");
            assert_ne!(to, "447700900999");
            if let Content::Text(text) = &message.content {
                assert!((1..=4096).contains(&text.body.chars().count()), "{message:?}");
            }
            let form = stored::Form::NEWEST;
            let again = stored::read(form.number(), &stored::write(form, &message)).expect("readable");
            assert_eq!(stored::hashes(&again), stored::hashes(&message));
        }
        Err(error) => documented(&error),
    }
    if let Err(error) = parse_read(bytes) {
        documented(&error);
    }
}

fn settings(bytes: &[u8]) {
    let body = match Fields::parse(bytes) {
        Ok(body) => body,
        Err(error) => return documented(&error),
    };
    match ApplicationSettings::default().patched(&body, rules()) {
        Ok(settings) => {
            let stored = serde_json::to_string(&settings).expect("plain data");
            let read = ApplicationSettings::from_stored(&stored).expect("what was written can be read");
            assert_eq!(serde_json::to_string(&read).expect("plain data"), stored);
            let shown = settings.shown(rules(), None);
            let ms = |s: Option<Seconds>| s.expect("always shown").ms;
            assert!(ms(shown.unhealthy_interval) >= ms(shown.heartbeat_interval) * 3);
        }
        Err(error) => documented(&error),
    }
}

fn others(bytes: &[u8]) {
    let Ok(body) = Fields::parse(bytes) else {
        return;
    };
    match contact::answer(&mut body.clone()) {
        Ok(contacts) => assert!(contacts.iter().all(|c| (c.status == "valid") == c.wa_id.is_some())),
        Err(error) => documented(&error),
    }
    if let Err(error) = account::wanted_shards(&mut body.clone()) {
        documented(&error);
    }
    for error in [
        ProfileChange::of_business(&mut body.clone()).err(),
        ProfileChange::of_about(&mut body.clone()).err(),
        Compliance::of_client(&mut body.clone()).err(),
    ]
    .into_iter()
    .flatten()
    {
        documented(&error);
    }
    for name in ["username", "password", "new_password"] {
        match body.clone().need_text(name) {
            Ok(text) => {
                let _ = user::check_username(&text);
                let _ = user::check_password(&text);
            }
            Err(error) => documented(&error),
        }
    }
}

fn secrets(bytes: &[u8]) {
    match provider::read(bytes) {
        Ok(wishes) => assert!(wishes.iter().all(|wish| wish.credentials.header().is_some())),
        Err(error) => documented(&error),
    }
    if let Ok(mut body) = Fields::parse(bytes) {
        let read = backup::password(&mut body).and_then(|_| backup::data(&mut body));
        if let Err(error) = read {
            documented(&error);
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    message(bytes);
    secrets(bytes);
    settings(bytes);
    others(bytes);
});
