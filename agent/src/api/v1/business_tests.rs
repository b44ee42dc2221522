//! What clients write of the business, good and bad.

use serde_json::json;

use super::*;

fn body(value: &Value) -> Fields {
    Fields::parse(value.to_string().as_bytes()).expect("an object")
}

fn business(value: &Value) -> Result<ProfileChange, u16> {
    ProfileChange::of_business(&mut body(value)).map_err(|error| error.code.number())
}

/// Goal: every form in which old clients write addresses is understood. Method: list, text, JSON in a text, empty ones.
#[test]
fn websites_come_in_many_forms() {
    let one = Some(vec!["https://a.example/".to_owned()]);
    for written in [
        json!(["https://a.example/"]),
        json!("https://a.example/"),
        json!("[\"https://a.example/\"]"),
        json!(["", "https://a.example/", null]),
    ] {
        let change = business(&json!({ "websites": written })).expect("good");
        assert_eq!(change.websites, one, "{written}");
    }
    let none = business(&json!({"websites": []})).expect("good");
    assert_eq!(none.websites, Some(vec![]));
    for (wrong, code) in [
        (json!(["a", "b", "c"]), 1009),
        (json!([7]), 1009),
        (json!(7), 1009),
        (json!({"url": "a"}), 1009),
        (json!(["x".repeat(257)]), 1001),
        (json!(null), 1008),
        (json!(""), 1008),
    ] {
        assert_eq!(
            business(&json!({ "websites": wrong })),
            Err(code),
            "{wrong}"
        );
    }
}

/// Goal: the limits are the documented ones, in characters, the wider where the documents differ. Method: both sides of each.
#[test]
fn texts_have_their_limits() {
    for (name, limit) in [("address", 256), ("description", 512), ("email", 128)] {
        let of = |len: usize| business(&json!({ name: "é".repeat(len) }));
        assert!(of(limit).is_ok(), "{name}");
        assert_eq!(of(limit + 1), Err(1001), "{name}");
        assert!(
            business(&json!({ name: "" })).is_ok(),
            "an empty {name} takes it away"
        );
        assert_eq!(business(&json!({ name: [1] })), Err(1009), "{name}");
    }
    let vertical =
        |text: &str| business(&json!({ "vertical": text })).map(|change| change.vertical);
    assert_eq!(vertical("Automotive"), Ok(Some("AUTO".into())));
    assert_eq!(vertical("Undertaker"), Err(1009));
    assert_eq!(business(&json!({})), Err(1008));
    assert_eq!(business(&json!({"nobody_reads_this": 1})), Err(1008));
    let about = |value: Value| {
        ProfileChange::of_about(&mut body(&value)).map_err(|error| error.code.number())
    };
    assert!(about(json!({"text": "é".repeat(139)})).is_ok());
    assert_eq!(about(json!({"text": "é".repeat(140)})), Err(1001));
    for missing in [
        json!({}),
        json!({"text": ""}),
        json!({"text": "  "}),
        json!({"text": null}),
    ] {
        assert_eq!(about(missing), Err(1008));
    }
    assert_eq!(about(json!({"text": {}})), Err(1009));
}

#[test]
fn compliance_information_is_read_with_old_habits() {
    let info = json!({"entity_name": "Example", "is_registered": "true", "customer_care_details": {"mobile_number": 919_900_000_000_u64, "email": ""},
                      "grievance_officer_details": {"name": "Ann"}, "nobody_reads_this": {}});
    let read = Compliance::of_client(&mut body(&info)).expect("good");
    assert_eq!(
        serde_json::to_value(&read).expect("plain data"),
        json!({"entity_name": "Example", "is_registered": true, "customer_care_details": {"mobile_number": "919900000000"},
               "grievance_officer_details": {"name": "Ann"}})
    );
    let refused = |value: Value| {
        Compliance::of_client(&mut body(&value))
            .map_err(|error| (error.code.number(), error.details.unwrap_or_default()))
    };
    assert_eq!(refused(json!({})), Err((1008, "entity_name".into())));
    let deep = refused(json!({"grievance_officer_details": {"name": ["x"]}}));
    assert_eq!(
        deep,
        Err((
            1009,
            "grievance_officer_details.name must be a string".into()
        ))
    );
    assert_eq!(
        refused(json!({"is_registered": "maybe"})).map_err(|e| e.0),
        Err(1009)
    );
}

#[test]
fn answers_have_the_documented_shapes() {
    let profile = Profile {
        about: "Hi".into(),
        address: "A".into(),
        websites: vec!["https://a.example/".into()],
        ..Profile::default()
    };
    let found = serde_json::to_value(profile.clone().business()).expect("plain data");
    assert_eq!(
        found["settings"],
        json!({"business": {"profile": {"address": "A", "description": "", "email": "", "vertical": "", "websites": ["https://a.example/"]}}})
    );
    let found = serde_json::to_value(profile.about()).expect("plain data");
    assert_eq!(
        found["settings"],
        json!({"profile": {"about": {"text": "Hi"}}})
    );
    let info = Compliance {
        entity_name: Some("E".into()),
        ..Compliance::default()
    };
    assert_eq!(
        info.answer(false)["settings"],
        json!({"business": {"compliance_info": {"entity_name": "E"}}})
    );
    assert_eq!(
        info.answer(true)["settings"],
        json!({"business": {"profile": {"compliance_info": {"entity_name": "E"}}}})
    );
}
