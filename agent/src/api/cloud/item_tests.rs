//! How webhook calls are taken apart.

use serde_json::{Value, json};
use wa_core::message::MessageState;

use super::event::Event;
use super::item::{Item, Own, Raw, items, take};

/// Goal: every item stands on its own, with its key and whom it is about. Method: one call with one of each.
#[test]
fn a_call_is_taken_apart() {
    let call = json!({"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": [{"field": "messages", "value": {
        "contacts": [{"wa_id": "447700900456"}],
        "messages": [{"from": "447700900456", "id": "wamid.A", "type": "text", "text": {"body": "x"}}],
        "statuses": [{"id": "wamid.B", "status": "failed", "recipient_id": "447700900457", "biz_opaque_callback_data": "gBEGkYaYVSEEAgnZxQ3JmKK6Ww.00000007"}],
    }}]}]});
    let items = items(&call);
    let about: Vec<(&str, &str)> = items
        .iter()
        .map(|item| (item.key.as_str(), item.customer.as_str()))
        .collect();
    let wanted = [
        ("wamid.B:failed", "447700900457"),
        ("wamid.A", "447700900456"),
    ];
    assert_eq!(about, wanted);
    assert_eq!(
        Event::of(items[0].raw.clone()).status_change(),
        Some((
            "gBEGkYaYVSEEAgnZxQ3JmKK6Ww".into(),
            MessageState::Failed,
            Some("wamid.B".into())
        ))
    );
    let Raw::Message { contact, .. } = &items[1].raw else {
        panic!("a message");
    };
    assert!(contact.is_some());
}

/// Goal: what was told as unsupported does not keep the real message out, which has the same id.
/// Goal: a customer's events go one way, whatever names the customer. Method: changes without a sender, and contacts.
#[test]
fn a_customer_is_named_by_whatever_names_it() {
    let of = |message: Value, contact: Value| {
        let value = json!({"messages": [message], "contacts": [contact]});
        items(&json!({"entry": [{"changes": [{"value": value}]}]}))[0]
            .customer
            .clone()
    };
    let system = json!({"id": "w", "type": "system", "system": {"type": "user_changed_user_id", "user_id": "GB.2",
        "previous_user_id": "GB.1"}});
    assert_eq!(of(system.clone(), json!({"user_id": "GB.2"})), "GB.1");
    let mut new = system;
    new["system"]["previous_user_id"] = "".into();
    assert_eq!(of(new, json!({})), "GB.2");
    let bare = || json!({"id": "w", "type": "text"});
    assert_eq!(of(bare(), json!({"user_id": "GB.3"})), "GB.3");
    let both = json!({"user_id": "GB.3", "wa_id": "447700900456"});
    assert_eq!(of(bare(), both), "447700900456");
}

#[test]
fn the_real_message_may_follow_an_unsupported_one() {
    let call = |kind: &str| {
        let message = json!({"from": "447700900456", "id": "wamid.U", "type": kind});
        json!({"entry": [{"changes": [{"value": {"messages": [message]}}]}]})
    };
    let keys = ["unsupported", "image"].map(|kind| items(&call(kind))[0].key.clone());
    assert_eq!(keys, ["wamid.U:unsupported", "wamid.U"]);
}

/// Goal: rows of the inbox outlive an upgrade. Method: texts that were written down by hand.
#[test]
fn the_form_of_rows_is_frozen() {
    let status = r#"{"customer":"1","content":{"status":{"id":"w"}}}"#;
    let message = r#"{"customer":"1","content":{"message":{"message":{"id":"w"},"contact":null}}}"#;
    for text in [status, message] {
        let item: Item = serde_json::from_str(text).expect("readable");
        assert_eq!(serde_json::to_string(&item).expect("plain data"), text);
    }
}

fn call(field: &str, value: Value) -> String {
    json!({"entry": [{"id": "1029", "changes": [{"field": field, "value": value}]}]}).to_string()
}

fn kinds(items: &[Item]) -> Vec<&'static str> {
    let kind = |item: &Item| match &item.raw {
        Raw::Status(_) => "status",
        Raw::Message { .. } => "message",
        Raw::Error(_) => "error",
        Raw::Account { .. } => "account",
        Raw::Unread { .. } => "unread",
    };
    items.iter().map(kind).collect()
}

/// Goal: one unreadable item never holds up another, and nothing is dropped (F04, F21). Method: lists with rubbish between good
/// items; calls that are no calls. What is kept of the rubbish is a call by itself, which says the same again.
#[test]
fn f04_what_cannot_be_read_stands_alone() {
    let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    let good = r#"{"id":"wamid.A","type":"text","from":"447700900456"}"#;
    let text = format!(
        r#"{{"entry":[{{"id":"1","changes":[{{"field":"messages","value":{{"contacts":[7,{{"wa_id":"447700900456"}}],
        "messages":[{good},"x",{{"id":"wamid.B","type":"text","x":{deep}}},null],"statuses":[5,{{"id":"wamid.S","status":"read"}}],
        "errors":{{"code":1}}}}}}]}},{{"id":"2"}},9]}}"#
    );
    let taken = take(&text, "");
    let wanted = [
        "unread", "status", "message", "unread", "unread", "unread", "unread", "unread", "unread",
    ];
    assert_eq!(kinds(&taken.items), wanted, "{:#?}", taken.items);
    let mut keys: Vec<&str> = taken.items.iter().map(|item| &*item.key).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), wanted.len(), "each has a key of its own");
    for item in &taken.items {
        if let Raw::Unread { call, .. } = &item.raw {
            assert_eq!(kinds(&take(call, "").items), ["unread"], "{call}");
        }
    }
    for rubbish in [
        "",
        "x",
        "{",
        "[]",
        "7",
        r#"{"entry":5}"#,
        r#"{"entry":[{"changes":[{"field":"messages"}]}]}"#,
    ] {
        assert_eq!(kinds(&take(rubbish, "").items), ["unread"], "{rubbish}");
    }
    assert!(take(r#"{"entry":[]}"#, "").items.is_empty());
}

/// Goal: the reason that is logged and listed has no word of a customer. Method: calls that are texts, or break off in one.
#[test]
fn reasons_quote_nothing() {
    for call in [
        r#""secret words""#,
        r#"{"entry":"secret words""#,
        r#"{"entry":[{"changes":[{"field":"messages","value":{"messages":["secret words"]}}]}]}"#,
    ] {
        for item in take(call, "").items {
            let Raw::Unread { why, .. } = item.raw else {
                panic!("{call}");
            };
            assert!(!why.contains("secret"), "{why}");
        }
    }
}

/// Goal: what is understood later can be read later. Method: what was kept of a message, mended.
#[test]
fn what_was_kept_can_be_read_when_it_is_understood() {
    let value = json!({"metadata": {"phone_number_id": "1065"}, "contacts": [{"wa_id": "447700900456"}], "messages": ["later"]});
    let taken = take(&call("messages", value), "1065");
    let Raw::Unread { call, why } = &taken.items[0].raw else {
        panic!("{:?}", taken.items);
    };
    assert!(why.contains("messages"), "{why}");
    let mended = call.replace(
        r#""later""#,
        r#"{"id":"wamid.A","from":"447700900456","type":"text"}"#,
    );
    let again = take(&mended, "1065").items;
    assert_eq!(
        (kinds(&again), &*again[0].key),
        (vec!["message"], "wamid.A")
    );
    let Raw::Message { contact, .. } = &again[0].raw else {
        panic!("a message");
    };
    assert!(contact.is_some());
    assert_eq!(take(&mended, "1066").of_others, 1, "metadata is kept");
}

/// Goal: events of other numbers are not told as ours (F09). Method: our id, another one, none, and a number for a text.
#[test]
fn f09_events_of_other_numbers_are_not_ours() {
    let of = |metadata: Value, own: &str| {
        let messages =
            json!([{"id": "wamid.A", "type": "text"}, {"id": "wamid.B", "type": "text"}]);
        let statuses = json!([{"id": "wamid.S", "status": "sent"}]);
        let value = json!({"metadata": metadata, "messages": messages, "statuses": statuses});
        let taken = take(&call("messages", value), own);
        (taken.items.len(), taken.of_others)
    };
    assert_eq!(of(json!({"phone_number_id": "1065"}), "1065"), (3, 0));
    assert_eq!(of(json!({"phone_number_id": 1065}), "1065"), (3, 0));
    assert_eq!(of(json!({"phone_number_id": "1066"}), "1065"), (0, 3));
    for unknown in [json!({}), json!(null), json!({"phone_number_id": ""})] {
        assert_eq!(of(unknown, "1065"), (3, 0));
    }
    assert_eq!(of(json!({"phone_number_id": "1066"}), ""), (3, 0));
    let other = call(
        "phone_number_quality_update",
        json!({"metadata": {"phone_number_id": "1066"}}),
    );
    assert_eq!(take(&other, "1065").of_others, 1);
}

/// Goal: news of other accounts are not told as ours (F09), and none of ours is lost. Method: ids of entries, with everything known and
/// with half of it.
#[test]
fn f09_news_of_other_accounts_are_not_ours() {
    let of = |entry: Value, own: Own<'_>| {
        let change = json!({"field": "account_update", "value": {"event": "X"}});
        let call = json!({"entry": [{"id": entry, "changes": [change]}]}).to_string();
        let taken = take(&call, own);
        (taken.items.len(), taken.of_others)
    };
    let own = Own {
        number: "1065",
        account: "77",
        portfolio: "88",
    };
    for ours in [
        json!("77"),
        json!(77),
        json!("88"),
        json!(""),
        json!("0"),
        json!(null),
    ] {
        assert_eq!(of(ours.clone(), own), (1, 0), "{ours}");
    }
    assert_eq!(of(json!("99"), own), (0, 1));
    for half in [
        Own {
            portfolio: "",
            ..own
        },
        Own { account: "", ..own },
        "1065".into(),
    ] {
        assert_eq!(of(json!("99"), half), (1, 0), "{half:?}");
    }
}

/// Goal: what others wrote, or was written before, is never told as a message of a customer; all else is news of the account.
#[test]
fn only_the_field_of_messages_has_messages() {
    let message = json!({"messages": [{"id": "wamid.A", "from": "447700900456", "type": "text"}]});
    for field in [
        "smb_message_echoes",
        "message_echoes",
        "standby",
        "history",
        "smb_app_state_sync",
    ] {
        let taken = take(&call(field, message.clone()), "");
        assert_eq!((taken.items.len(), taken.echoes), (0, 1), "{field}");
    }
    for field in ["account_update", "calls", "field_of_tomorrow"] {
        let taken = take(&call(field, message.clone()), "");
        assert_eq!(kinds(&taken.items), ["account"], "{field}");
    }
    let bare = json!({"entry": [{"changes": [{"value": message}]}]}).to_string();
    assert_eq!(kinds(&take(&bare, "").items), ["message"]);
    let clicks = call(
        "messages",
        json!({"user_actions": [{"action_type": "marketing_messages_link_click"}]}),
    );
    assert_eq!(kinds(&take(&clicks, "").items), ["account"]);
    let problem = call(
        "messages",
        json!({"errors": [{"code": 130429}, {"code": 130429, "x": 1}]}),
    );
    assert_eq!(kinds(&take(&problem, "").items), ["error", "error"]);
}

/// Goal: what happens again in the same words is news again, and the same call is not. Method: one call of two days, whole and with
/// news that cannot be read.
#[test]
fn the_same_news_of_two_days_are_two() {
    let on = |day: u64, field: &str, value: &str| {
        let call = format!(
            r#"{{"entry":[{{"id":"1","time":{day},"changes":[{{"field":"{field}","value":{value}}}]}}]}}"#
        );
        take(&call, "").items.remove(0)
    };
    for (field, value) in [
        ("account_update", r#"{"event":"ACCOUNT_RESTRICTION"}"#),
        ("messages", r#"{"errors":[{"code":131056}]}"#),
        ("messages", r#"{"user_actions":[{"action":"x"}]}"#),
        ("messages", r#"{"messages":["rubbish"]}"#),
    ] {
        let first = on(1_893_456_000, field, value);
        assert_eq!(first.key, on(1_893_456_000, field, value).key, "{value}");
        assert_ne!(first.key, on(1_893_542_400, field, value).key, "{value}");
        if let Raw::Unread { call, .. } = first.raw {
            assert!(call.contains(r#""time":1893456000"#), "{call}");
        }
    }
    // A status without an id is what it says, whenever it comes.
    let status = r#"{"statuses":[{"status":"sent","recipient_id":"447700900456"}]}"#;
    assert_eq!(on(1, "messages", status).key, on(2, "messages", status).key);
}

/// Goal: what comes twice has one key, and what is not the same has another. Method: pairs of calls.
#[test]
fn keys_of_duplicates() {
    let keys = |text: &str| -> Vec<String> {
        take(text, "")
            .items
            .into_iter()
            .map(|item| item.key)
            .collect()
    };
    let message = |message: Value| call("messages", json!({"messages": [message]}));
    let status = |status: Value| call("messages", json!({"statuses": [status]}));
    for (one, two, same) in [
        (
            message(json!({"id": "w", "type": "unsupported"})),
            message(json!({"id": "w", "type": "unknown"})),
            true,
        ),
        (
            message(json!({"id": "w", "type": "unknown"})),
            message(json!({"id": "w", "type": "image"})),
            false,
        ),
        (
            message(json!({"type": "text", "text": {"body": "a"}})),
            message(json!({"type": "text", "text": {"body": "b"}})),
            false,
        ),
        (
            message(json!({"type": "text"})),
            message(json!({"type": "text"})),
            true,
        ),
        (
            status(json!({"id": "w", "status": "read"})),
            status(json!({"id": "w", "status": "read", "timestamp": "2"})),
            true,
        ),
        (
            status(json!({"id": "w", "status": "read", "recipient_participant_id": "1"})),
            status(json!({"id": "w", "status": "read", "recipient_participant_id": "2"})),
            false,
        ),
        (
            status(json!({"status": "read", "recipient_id": "1"})),
            status(json!({"status": "read", "recipient_id": "2"})),
            false,
        ),
        (
            call("account_update", json!({"event": "X"})),
            call("account_update", json!({"event": "X"})),
            true,
        ),
        (
            call("account_update", json!({"event": "X"})),
            call("account_alerts", json!({"event": "X"})),
            false,
        ),
        (
            call("account_update", json!({"event": "X"})),
            call("account_update", json!({"event": "Y"})),
            false,
        ),
    ] {
        assert_eq!(keys(&one) == keys(&two), same, "{one} {two}");
        assert_eq!(keys(&one).len(), 1);
    }
}

/// Goal: a message has its own contact or none (F08, F19). Method: the two spellings of one number, alone and among others.
#[test]
fn f19_a_contact_in_another_spelling_is_the_only_one() {
    let contact = |message: Value, contacts: Value| {
        let text = call(
            "messages",
            json!({"messages": [message], "contacts": contacts}),
        );
        match take(&text, "").items.remove(0).raw {
            Raw::Message { contact, .. } => contact,
            other => panic!("{other:?}"),
        }
    };
    let mexican = || json!({"id": "w", "type": "text", "from": "525512345678"});
    let other = json!({"wa_id": "5215512345678"});
    assert_eq!(contact(mexican(), json!([other])), Some(other.clone()));
    assert_eq!(
        contact(mexican(), json!([other, {"wa_id": "447700900456"}])),
        None
    );
    let named = json!({"id": "w", "type": "text", "from": "525512345678", "from_user_id": "MX.1"});
    assert_eq!(
        contact(
            named,
            json!([{"wa_id": "5215512345678", "user_id": "MX.2"}])
        ),
        None
    );
}

/// Goal: rows of the inbox outlive an upgrade. Method: texts that were written down by hand.
#[test]
fn the_form_of_newer_rows_is_frozen() {
    for text in [
        r#"{"customer":"","content":{"error":{"code":130429}}}"#,
        r#"{"customer":"","content":{"account":{"field":"account_update","value":{"event":"X"}}}}"#,
        r#"{"customer":"","content":{"unread":{"call":"x","why":"y"}}}"#,
    ] {
        let item: Item = serde_json::from_str(text).expect("readable");
        assert_eq!(serde_json::to_string(&item).expect("plain data"), text);
    }
}
