//! The form of the application settings: what is a change, and what is not.

use serde_json::json;

use super::*;

fn settings(url: &str) -> ApplicationSettings {
    let mut settings = ApplicationSettings::default();
    settings.webhooks.url = url.into();
    settings
}

/// Everything as the page shows it, and these fields otherwise.
fn whole(settings: &ApplicationSettings, other: &[(&str, &str)]) -> Sent {
    let shown = shown(settings);
    let mut fields: Vec<(String, String)> = vec![("whole".into(), "1".into())];
    for (name, kind) in FIELDS {
        let value = said(&shown, name);
        let other: Vec<&&str> = other
            .iter()
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| value)
            .collect();
        match (kind, other.first()) {
            (Kind::Media, Some(value)) => {
                let kinds = value.split(' ').filter(|kind| !kind.is_empty());
                fields.extend(kinds.map(|kind| (name.into(), kind.to_owned())));
            }
            (Kind::Media, None) => {
                fields.extend(value.split(", ").map(|kind| (name.into(), kind.to_owned())));
            }
            (Kind::Flag, other) => {
                if other.map_or(value.as_str(), |other| other) == "true" {
                    fields.push((name.into(), "true".into()));
                }
            }
            (_, other) => fields.push((
                name.into(),
                other.map_or(value, |other| (**other).to_owned()),
            )),
        }
    }
    let fields: Vec<(&str, &str)> = fields.iter().map(|(k, v)| (&**k, &**v)).collect();
    Sent::of(&fields)
}

/// Goal: a form that is sent back as it was shown changes nothing, its hidden secret included. Method: a webhook's address with one.
#[test]
fn what_was_shown_changes_nothing() {
    for url in [
        "",
        "https://shop.example",
        "https://u:secret@shop.example/in?key=secret",
    ] {
        let settings = settings(url);
        let patch = patch(&settings, &whole(&settings, &[])).expect("good");
        assert!(patch.is_empty(), "{url}: {patch:?}");
    }
}

/// Goal: each kind of field comes to what the API takes. Method: one change each.
#[test]
fn changes_are_what_the_api_takes() {
    let mut before = settings("https://shop.example/in?key=secret");
    before.heartbeat_interval = Some(crate::api::v1::setting::Seconds { ms: 250 });
    for (name, typed, patched) in [
        (
            "unhealthy_interval",
            "1.5",
            json!({"unhealthy_interval": "1.5"}),
        ),
        (
            "heartbeat_interval",
            "",
            json!({"heartbeat_interval": null}),
        ),
        (
            "webhooks.url",
            "https://b.example/",
            json!({"webhooks": {"url": "https://b.example/"}}),
        ),
        ("webhooks.url", "", json!({"webhooks": {"url": ""}})),
        (
            "webhooks.message.read",
            "false",
            json!({"webhooks": {"message": {"read": false}}}),
        ),
        (
            "garbagecollector_enable.media",
            "true",
            json!({"garbagecollector_enable": {"media": true}}),
        ),
        (
            "media.auto_download",
            "video image",
            json!({"media": {"auto_download": ["image", "video"]}}),
        ),
        (
            "media.auto_download",
            "",
            json!({"media": {"auto_download": []}}),
        ),
        ("log_level", "debug", json!({"log_level": "debug"})),
    ] {
        let sent = whole(&before, &[(name, typed)]);
        let patch = patch(&before, &sent).expect("good");
        assert_eq!(
            Value::Object(patch.clone()),
            patched,
            "{name}: {typed}: {patch:?}"
        );
        assert!(touches(&patch, name));
    }
}

/// Goal: the sign for a secret never becomes part of an address, and half a form switches nothing off. Method: one of each.
#[test]
fn half_a_form_and_half_an_address_change_nothing() {
    let before = settings("https://shop.example/in?key=secret");
    let sent = whole(&before, &[("webhooks.url", "https://b.example/?***")]);
    let refused = patch(&before, &sent).expect_err("refused");
    assert!(
        refused.to_string().contains("type the whole address"),
        "{refused}"
    );
    let half = Sent::of(&[("log_level", "info")]);
    assert!(patch(&before, &half).expect("good").is_empty());
}

/// Goal: what is saved is what was shown: another change, or other settings, have another seal.
#[test]
fn a_seal_is_of_one_change_of_these_settings() {
    let (one, other) = (settings("https://a.example/"), settings(""));
    let sent = whole(&one, &[("log_level", "debug")]);
    let debug = patch(&one, &sent).expect("good");
    assert_eq!(seal(&one, &debug), seal(&one, &debug));
    assert_ne!(seal(&one, &debug), seal(&other, &debug));
    assert_ne!(seal(&one, &debug), seal(&one, &Map::new()));
}
