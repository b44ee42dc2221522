//! Tests of the application settings: types, defaults, merging and refusals.

use serde_json::json;

use super::*;

const RULES: Rules = Rules {
    heartbeat: Seconds { ms: 5000 },
    unhealthy: Seconds { ms: 30_000 },
    allow_http: false,
    late_ms: 0,
};

fn fields(body: Value) -> Fields {
    Fields::parse(body.to_string().as_bytes()).expect("an object")
}

fn patch(body: Value) -> Result<ApplicationSettings, ApiError> {
    ApplicationSettings::default().patched(&fields(body), RULES)
}

#[test]
fn defaults_are_the_documented_ones() {
    let shown = serde_json::to_value(
        ApplicationSettings::default().shown(RULES, Some("447700900123".to_owned())),
    )
    .expect("plain data");
    assert_eq!(
        shown,
        json!({
            "callback_backoff_delay_ms": 3000, "max_callback_backoff_delay_ms": 900_000,
            "callback_persist": true, "sent_status": false,
            "garbagecollector_enable": {"messages": true, "media": false},
            "heartbeat_interval": 5, "unhealthy_interval": 30,
            "media": {"auto_download": ["audio","document","image","video","voice","sticker"]},
            "notify_user_change_number": false, "show_security_notifications": false,
            "pass_through": false,
            "webhooks": {"url": "", "max_concurrent_requests": 6,
                         "message": {"sent": false, "delivered": true, "read": true}},
            "verbose_logging": false, "log_level": "info", "wa_id": "447700900123",
            "effective": {"heartbeat_interval": 5, "unhealthy_interval": 30}
        })
    );
}

#[test]
fn numbers_come_as_numbers_or_strings() {
    let new = patch(json!({
        "callback_backoff_delay_ms": "4000", "max_callback_backoff_delay_ms": 5000.0,
        "heartbeat_interval": "0.05", "unhealthy_interval": 0.3,
        "webhooks": {"max_concurrent_requests": "12"}, "callback_persist": "false"
    }))
    .expect("good");
    assert_eq!(
        (
            new.callback_backoff_delay_ms,
            new.max_callback_backoff_delay_ms
        ),
        (4000, 5000)
    );
    assert_eq!(new.heartbeat_interval, Some(Seconds { ms: 50 }));
    assert_eq!(new.unhealthy_interval, Some(Seconds { ms: 300 }));
    assert_eq!(new.webhooks.max_concurrent_requests, 12);
    assert!(!new.callback_persist);
}

#[test]
fn absent_fields_stay_and_unknown_ones_are_ignored() {
    let first = patch(json!({"webhooks": {"url": "https://h.example/wa"}})).expect("good");
    let second = first
        .patched(
            &fields(
                json!({"on_call_pager": "447700900123", "tcp_listen_address": "any", "wa_id": "1",
                   "webhooks": {"message": {"sent": true}}}),
            ),
            RULES,
        )
        .expect("good");
    assert_eq!(second.webhooks.url, "https://h.example/wa");
    assert!(second.webhooks.message.sent && second.sent_status);
    assert_eq!(second.wa_id, None);
}

#[test]
fn the_legacy_switch_is_the_sent_status() {
    assert!(
        patch(json!({"sent_status": true}))
            .expect("good")
            .webhooks
            .message
            .sent
    );
}

#[test]
fn a_bad_field_refuses_the_whole_patch() {
    for body in [
        json!({"callback_backoff_delay_ms": -1}),
        json!({"callback_backoff_delay_ms": 0}),
        json!({"callback_backoff_delay_ms": "soon"}),
        json!({"callback_backoff_delay_ms": []}),
        json!({"max_callback_backoff_delay_ms": 10}),
        json!({"callback_persist": 1}),
        json!({"heartbeat_interval": 0.009}),
        json!({"heartbeat_interval": 1e300}),
        json!({"heartbeat_interval": true}),
        json!({"heartbeat_interval": 11}),
        json!({"heartbeat_interval": 1, "unhealthy_interval": 2.9}),
        json!({"unhealthy_interval": 4000}),
        json!({"webhooks": "https://h.example"}),
        json!({"webhooks": {"url": "http://h.example"}}),
        json!({"webhooks": {"url": "ftp://h.example"}}),
        json!({"webhooks": {"url": "https://"}}),
        json!({"webhooks": {"max_concurrent_requests": 7}}),
        json!({"webhooks": {"message": {"sent": "maybe"}}}),
        json!({"media": {"auto_download": ["fax"]}}),
        json!({"media": {"auto_download": "image"}}),
        json!({"log_level": "loud"}),
        json!({"garbagecollector_enable": true}),
    ] {
        assert_eq!(
            patch(body.clone()).expect_err("bad").code.number(),
            1009,
            "{body}"
        );
    }
}

/// Goal: what is left out in the ways of old clients changes nothing. Method: each way, beside a field that changes.
#[test]
fn nulls_and_empty_strings_are_absent() {
    let new = patch(json!({"log_level": "", "callback_persist": null, "callback_backoff_delay_ms": "", "heartbeat_interval": "",
        "webhooks": {"max_concurrent_requests": null, "message": ""}, "media": null, "pass_through": "TRUE"}))
    .expect("good");
    let wanted = ApplicationSettings {
        pass_through: true,
        ..ApplicationSettings::default()
    };
    assert_eq!(new, wanted);
    let with_url = patch(json!({"webhooks": {"url": "https://h.example/wa"}})).expect("good");
    let emptied = with_url.patched(&fields(json!({"webhooks": {"url": ""}})), RULES);
    assert_eq!(emptied.expect("good").webhooks.url, "");
}

#[test]
fn stored_settings_survive_and_old_rows_get_defaults() {
    let new = patch(json!({"heartbeat_interval": 0.05, "unhealthy_interval": 0.3})).expect("good");
    let json = serde_json::to_string(&new).expect("plain data");
    assert_eq!(
        ApplicationSettings::from_stored(&json).expect("own writing"),
        new
    );
    assert_eq!(
        ApplicationSettings::from_stored("{\"later\":1}").expect("tolerant"),
        ApplicationSettings::default()
    );
}

#[test]
fn plain_http_is_for_one_machine_only() {
    let rules = Rules {
        allow_http: true,
        ..RULES
    };
    let body = fields(json!({"webhooks": {"url": "http://127.0.0.1:8000/hook"}}));
    assert!(ApplicationSettings::default().patched(&body, rules).is_ok());
    assert!(
        ApplicationSettings::default()
            .patched(&body, RULES)
            .is_err()
    );
    // What is taken is delivered to: nothing goes to another machine in the clear, so no such address is taken.
    for refused in [
        "http://h.example/hook",
        "http://192.0.2.1/",
        "http://localhost.example/",
    ] {
        let body = fields(json!({"webhooks": {"url": refused}}));
        let said = ApplicationSettings::default().patched(&body, rules);
        assert!(said.is_err(), "{refused}");
    }
}

/// Goal: one interval set alone is in force, for whoever asks; one that does not fit to the other is refused; null unsets it.
/// Method: the pair that GET shows and that masters use, after each PATCH.
#[test]
fn one_interval_alone_is_in_force_or_refused() {
    let rules = Rules::of(Duration::from_secs(5), Duration::from_secs(30), false);
    let patch =
        |settings: &ApplicationSettings, body: Value| settings.patched(&fields(body), rules);
    let pair = |settings: &ApplicationSettings| {
        let pair = settings.intervals(rules).in_force;
        let effective = settings.shown(rules, None).effective.expect("shown");
        assert_eq!(effective.heartbeat_interval.ms, pair.heartbeat_ms);
        assert_eq!(effective.unhealthy_interval.ms, pair.unhealthy_ms);
        (pair.heartbeat_ms, pair.unhealthy_ms)
    };
    let none = ApplicationSettings::default();
    assert_eq!(pair(&none), (5_000, 30_000));
    let one = patch(&none, json!({"heartbeat_interval": 2})).expect("it fits");
    assert_eq!(pair(&one), (2_000, 30_000));
    let other = patch(&none, json!({"unhealthy_interval": 16})).expect("it fits");
    assert_eq!(pair(&other), (5_000, 16_000));
    for refused in [
        json!({"heartbeat_interval": 11}),
        json!({"unhealthy_interval": 14}),
    ] {
        assert!(patch(&none, refused.clone()).is_err(), "{refused}");
    }
    let unset = patch(&one, json!({"heartbeat_interval": null})).expect("unset");
    assert_eq!(unset, none);
    // Stored under another profile, they do not fit to this one: the configured pair, for everybody.
    let profile = Rules::of(Duration::from_millis(50), Duration::from_millis(300), false);
    assert_eq!(one.intervals(profile).in_force.heartbeat_ms, 50);
    assert_eq!(one.intervals(profile).in_force.unhealthy_ms, 300);
}

/// Goal: an old client that sends the reference's own values, in whichever way, is answered well and makes no takeover slower;
/// what it sent is shown. Method: each spelling, at once and one after the other, under the fast profile.
#[test]
fn the_references_own_intervals_leave_the_profile_in_force() {
    let rules = Rules::of(Duration::from_millis(50), Duration::from_millis(300), false);
    let after = |settings: &ApplicationSettings, body: Value| {
        settings.patched(&fields(body), rules).expect("taken")
    };
    let none = ApplicationSettings::default();
    let step = after(&none, json!({"heartbeat_interval": 5}));
    for sent in [
        after(
            &none,
            json!({"heartbeat_interval": 5, "unhealthy_interval": 30}),
        ),
        after(
            &none,
            json!({"heartbeat_interval": "5", "unhealthy_interval": "30.0"}),
        ),
        after(
            &none,
            json!({"settings": {"application": {"heartbeat_interval": 5.0, "unhealthy_interval": 3e1}}}),
        ),
        after(&step, json!({"unhealthy_interval": 30})),
    ] {
        let shown = serde_json::to_value(sent.shown(rules, None)).expect("plain data");
        assert_eq!(
            (&shown["heartbeat_interval"], &shown["unhealthy_interval"]),
            (&json!(5), &json!(30))
        );
        let effective = json!({"heartbeat_interval": 0.05, "unhealthy_interval": 0.3});
        assert_eq!(shown["effective"], effective);
        // What GET showed is sent back.
        let back = after(&sent, json!({"settings": {"application": shown}}));
        assert_eq!(back, sent);
    }
    let meant = after(&step, json!({"unhealthy_interval": 20}));
    assert_eq!(meant.intervals(rules).in_force.unhealthy_ms, 20_000);
}

/// Goal: a pair that the masters cannot keep is refused, and the answer says why; a call that names no interval is not.
#[test]
fn faster_than_the_masters_sustain_is_refused_with_the_reason() {
    let rules = Rules {
        late_ms: 400,
        ..RULES
    };
    let fast = json!({"heartbeat_interval": 0.05, "unhealthy_interval": 0.3});
    let said = ApplicationSettings::default().patched(&fields(fast.clone()), rules);
    let said = said.expect_err("too fast");
    assert_eq!(said.code.number(), 1009);
    let details = said.details.expect("says why");
    assert!(
        details.contains("at least 0.8") && details.contains("late by 0.4"),
        "{details}"
    );
    let stored = ApplicationSettings::default()
        .patched(&fields(fast), RULES)
        .expect("fits");
    assert!(
        stored
            .patched(&fields(json!({"log_level": "debug"})), rules)
            .is_ok()
    );
}

/// Goal: whoever may only look sees where events go, and nothing that may be a secret in that address.
#[test]
fn the_webhook_is_shown_without_secrets() {
    let shown = |url: &str| {
        let mut settings = ApplicationSettings::default();
        settings.webhooks.url = url.to_owned();
        settings.without_secrets().webhooks.url
    };
    assert_eq!(
        shown("https://me:hush@hook.example/in?token=hush"),
        "https://me:***@hook.example/in?***"
    );
    assert_eq!(shown("https://hook.example/in"), "https://hook.example/in");
    assert_eq!(shown(""), "");
}

/// Every field that the documentation of any version names.
const DOCUMENTED: [&str; 24] = [
    "callback_backoff_delay_ms",
    "max_callback_backoff_delay_ms",
    "callback_persist",
    "sent_status",
    "webhooks.url",
    "webhooks.max_concurrent_requests",
    "webhooks.message.sent",
    "webhooks.message.delivered",
    "webhooks.message.read",
    "media.auto_download",
    "pass_through",
    "on_call_pager",
    "heartbeat_interval",
    "unhealthy_interval",
    "garbagecollector_enable.messages",
    "garbagecollector_enable.media",
    "db_garbagecollector_enable",
    "notify_user_change_number",
    "show_security_notifications",
    "verbose_logging",
    "log_level",
    "wa_id",
    "tcp_listen_address",
    "media.providers",
];
/// Another name of a field, read-only, or calls of their own.
const OTHER: [&str; 6] = [
    "sent_status",
    "db_garbagecollector_enable",
    "wa_id",
    "media.providers",
    "effective.heartbeat_interval",
    "effective.unhealthy_interval",
];

fn leaves(value: &Value, path: &str, out: &mut Vec<String>) {
    let Value::Object(fields) = value else {
        out.push(path.to_owned());
        return;
    };
    for (name, value) in fields {
        let inner = match path {
            "" => name.clone(),
            path => format!("{path}.{name}"),
        };
        leaves(value, &inner, out);
    }
}

/// The text of all sources that are neither tests nor about the settings' own form.
fn sources(folder: &std::path::Path, out: &mut String) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        let name = path.display().to_string();
        if path.is_dir() && !name.ends_with("/tests") && !name.ends_with("/dev") {
            sources(&path, out);
        } else if name.ends_with(".rs")
            && !name.contains("api/v1/setting")
            && !name.contains("tests")
        {
            let text = std::fs::read_to_string(&path).expect("a source");
            out.push_str(text.split("#[cfg(test)]").next().unwrap_or_default());
        }
    }
}

/// Goal: every field has an effect, or people read why it has none. Method: the documented fields and those of the settings'
/// form; each is read somewhere in the sources, or stands in the README's table, and not both.
#[test]
fn every_field_has_an_effect_or_a_reason() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).expect("README.md");
    let table = readme.split("| setting | why |").nth(1).expect("the table");
    let rows = table
        .trim_start()
        .lines()
        .take_while(|line| line.starts_with('|'));
    let named: String = rows.filter_map(|row| row.split('|').nth(1)).collect();
    let mut code = String::new();
    sources(&root.join("agent/src"), &mut code);
    let whole = ApplicationSettings::default().shown(RULES, Some("1".to_owned()));
    let mut fields: Vec<String> = DOCUMENTED.map(str::to_owned).to_vec();
    leaves(
        &serde_json::to_value(whole).expect("plain data"),
        "",
        &mut fields,
    );
    fields.sort();
    fields.dedup();
    assert!(fields.len() >= DOCUMENTED.len());
    for field in fields
        .iter()
        .filter(|field| !OTHER.contains(&field.as_str()))
    {
        let leaf = field.rsplit('.').next().unwrap_or_default();
        let read = code.contains(&format!(".{leaf}"));
        let told = named.contains(&format!("`{field}`"));
        assert!(
            read != told,
            "{field}: read {read}, in the README's table {told}"
        );
    }
    for field in OTHER
        .iter()
        .filter(|field| field.contains("_enable") || **field == "sent_status")
    {
        assert!(readme.contains(&format!("`{field}` is `")), "{field}");
    }
}
