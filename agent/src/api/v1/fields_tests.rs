//! The reader: where it is, what it answers, and what it takes from old clients.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn fields(value: Value) -> Fields {
    Fields::parse(value.to_string().as_bytes()).expect("an object")
}

/// The code and the words of a refusal.
fn said<T>(result: Result<T, ApiError>) -> (u16, String) {
    match result {
        Ok(_) => panic!("not refused"),
        Err(error) => (error.code.number(), error.details.unwrap_or_default()),
    }
}

/// Goal: whoever is refused learns where, however deep it is. Method: the path of the specification, one level at a time.
#[test]
fn a_refusal_says_where() {
    let body = || {
        fields(json!({"interactive": {"action": {"buttons": [
            {"reply": {"title": "x"}}, {"reply": {"title": [], "id": 7}}, 5]}}}))
    };
    let buttons = || {
        let mut action = body().descend(&["interactive", "action"]).expect("objects");
        action.need_list("buttons").expect("a list")
    };
    assert_eq!(
        said(buttons().objects()),
        (
            1009,
            "interactive.action.buttons[2] must be an object".into()
        )
    );
    let mut list = buttons();
    list.items.pop();
    assert_eq!(list.len(), 2);
    let mut reply = list.objects().expect("objects")[1]
        .need_object("reply")
        .expect("an object");
    let path = "interactive.action.buttons[1].reply.title";
    assert_eq!(
        said(reply.text("title")),
        (1009, format!("{path} must be a string"))
    );
    assert_eq!(said(reply.need_text("title")), (1008, path.into()));
    assert_eq!(
        said(reply.flag("id")),
        (
            1009,
            "interactive.action.buttons[1].reply.id must be a boolean".into()
        )
    );
}

/// Goal: what old clients write is read as it was meant. Method: each habit of the specification once.
#[test]
fn habits_of_old_clients_are_understood() {
    let mut body = fields(json!({
        "to": 447700900123u64, "float": 4.477009e11, "half": 0.5, "count": "4000", "real": 3000.0, "seconds": " 0.05 ",
        "on": "true", "off": "False", "empty": "", "nothing": null, "one": {"name": "x"}, "unknown": [1],
    }));
    let text = |body: &mut Fields, name| body.text(name).expect("a text");
    assert_eq!(text(&mut body, "to").as_deref(), Some("447700900123"));
    assert_eq!(text(&mut body, "float").as_deref(), Some("447700900000"));
    assert_eq!(text(&mut body, "half").as_deref(), Some("0.5"));
    assert_eq!(body.whole("count", 1..=5000), Ok(Some(4000)));
    assert_eq!(body.whole("real", 1..=5000), Ok(Some(3000)));
    assert_eq!(body.number("seconds"), Ok(Some(0.05)));
    assert_eq!(body.flag("on"), Ok(Some(true)));
    assert_eq!(body.flag("off"), Ok(Some(false)));
    assert!(!body.has("empty") && !body.has("nothing") && !body.has("nobody"));
    assert!(body.is_null("nothing") && !body.is_null("empty") && !body.is_null("nobody"));
    assert_eq!(body.text_or_empty("empty"), Ok(Some(String::new())));
    for name in ["empty", "nothing", "nobody"] {
        assert_eq!(body.clone().text(name), Ok(None), "{name}");
        assert_eq!(body.clone().flag(name), Ok(None), "{name}");
        assert_eq!(body.clone().whole(name, 0..=1), Ok(None), "{name}");
        assert!(
            body.clone().object(name).is_ok_and(|o| o.is_none()),
            "{name}"
        );
        assert_eq!(said(body.clone().need_text(name)), (1008, name.into()));
        assert_eq!(said(body.clone().need_object(name)), (1008, name.into()));
        assert_eq!(said(body.clone().need_list(name)).0, 1008, "{name}");
    }
    let one = body.list("one").expect("a list").expect("there");
    let mut items = one.objects().expect("objects");
    assert_eq!(
        (items.len(), items[0].path("name")),
        (1, "one[0].name".into())
    );
    assert_eq!(items[0].need_text("name").as_deref(), Ok("x"));
    let marked = [BYTE_ORDER_MARK, br#"{"a":1}"#].concat();
    assert!(Fields::parse(&marked).is_ok_and(|body| body.has("a")));
    for nothing in [b"".as_slice(), b" \r\n", BYTE_ORDER_MARK] {
        assert!(Fields::parse_optional(nothing).is_ok(), "{nothing:?}");
        assert_eq!(said(Fields::parse(nothing)).0, 1025);
    }
}

/// Goal: what cannot be meant is refused with the documented code. Method: one of each.
#[test]
fn what_cannot_be_meant_is_refused() {
    let body = fields(
        json!({"yes": "yes", "one": 1, "minus": -1, "half": 0.5, "big": 1e300, "list": [1, null],
        "endless": "1e999", "true": true, "long": "äöü", "object": {}}),
    );
    let read = || body.clone();
    for (found, code) in [
        (said(read().flag("yes")), 1009),
        (said(read().flag("one")), 1009),
        (said(read().whole("minus", 0..=9)), 1009),
        (said(read().whole("half", 0..=9)), 1009),
        (said(read().whole("big", 0..=u64::MAX)), 1009),
        (said(read().whole("one", 2..=9)), 1009),
        (said(read().number("endless")), 1009),
        (said(read().number("true")), 1009),
        (said(read().text("true")), 1009),
        (said(read().text("list")), 1009),
        (said(read().object("list")), 1009),
        (said(read().list("one")), 1009),
        (said(read().word("yes", &["no", "maybe"])), 1009),
        (said(read().word("object", &["no", "maybe"])), 1009),
        (said(read().text_within("long", 2)), 1001),
    ] {
        assert_eq!(found.0, code, "{found:?}");
    }
    assert_eq!(read().text_within("long", 3), Ok(Some("äöü".into())));
    let list = read().need_list("list").expect("a list");
    assert_eq!(
        said(list.texts()),
        (1009, "list[1] must be a string".into())
    );
    for bad in ["", "{", "[]", "\"x\"", "null", "{\"a\":\"\u{1}\"}"] {
        assert_eq!(said(Fields::parse(bad.as_bytes())).0, 1025, "{bad}");
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
        Just(Value::from("")),
        Just(Value::from("true")),
        Just(Value::from("12")),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[a-c]", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Every way to read a field, of an object and of all below it.
fn read_all(body: &Fields, depth: usize) {
    for name in ["a", "b", "c", "d"] {
        let read = || body.clone();
        let documented = |error: &ApiError| {
            let code = error.code.number();
            assert!([1001, 1008, 1009].contains(&code), "{error}");
            let details = error.details.as_deref().unwrap_or_default();
            assert!(details.starts_with(&body.path(name)), "{details}");
        };
        let _ = read().text(name).map_err(|e| documented(&e));
        let _ = read().text_or_empty(name).map_err(|e| documented(&e));
        let _ = read().need_text(name).map_err(|e| documented(&e));
        let _ = read().text_within(name, 3).map_err(|e| documented(&e));
        let _ = read().word(name, &["true"]).map_err(|e| documented(&e));
        let _ = read().flag(name).map_err(|e| documented(&e));
        let _ = read().whole(name, 3..=100).map_err(|e| documented(&e));
        let _ = read().need_object(name).map_err(|e| documented(&e));
        if let Ok(Some(number)) = read().number(name) {
            assert!(number.is_finite());
        }
        assert!(!(body.has(name) && body.is_null(name)));
        match read().list(name) {
            Ok(Some(list)) => {
                for inner in list.objects().into_iter().flatten().take(depth) {
                    read_all(&inner, depth - 1);
                }
            }
            Ok(None) => assert!(!body.has(name)),
            Err(error) => documented(&error),
        }
        if let Ok(Some(list)) = read().list(name) {
            let (wanted, texts) = (list.len(), list.texts());
            assert!(texts.is_err() || texts.is_ok_and(|texts| texts.len() == wanted));
        }
        if let (1.., Ok(Some(inner))) = (depth, read().object(name)) {
            read_all(&inner, depth - 1);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100_000))]

    /// Goal: no JSON panics the reader, and each refusal has a documented code and says where.
    #[test]
    fn any_json_is_read_or_refused(value in any_json()) {
        match Fields::parse(value.to_string().as_bytes()) {
            Ok(body) => read_all(&body, 3),
            Err(error) => prop_assert_eq!(error.code, Code::InvalidRequest),
        }
    }

    #[test]
    fn noise_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(body) = Fields::parse(&bytes) {
            read_all(&body, 3);
        }
        let _ = Fields::parse_optional(&bytes);
    }
}

/// Goal: what nobody read goes along as it came, but for what says nothing and what no reader would take again. Method: one of
/// each, and nesting at the limit and above it.
#[test]
fn what_was_not_read_is_kept() {
    let text = r#"{"read":1,"a":{"b":[null,"",{}]},"null":null,"empty":"","list":[],"object":{},"no":false}"#;
    let mut fields = Fields::parse(text.as_bytes()).expect("an object");
    assert_eq!(fields.text("read").expect("a text").as_deref(), Some("1"));
    let rest = fields.rest().expect("shallow");
    let wanted = serde_json::json!({"a": {"b": [null, "", {}]}, "no": false});
    assert_eq!(serde_json::Value::from(rest), wanted);
    let nested = |levels| format!(r#"{{"x":{}1{}}}"#, "[".repeat(levels), "]".repeat(levels));
    let deep = |levels| Fields::parse(nested(levels).as_bytes()).expect("an object");
    assert!(deep(31).rest().is_ok());
    let error = deep(32).rest().expect_err("too deep");
    assert_eq!(
        (error.code.number(), error.to_string().contains('x')),
        (1009, true)
    );
}

#[test]
fn an_object_may_say_nothing() {
    let text = r#"{"full":{"a":0},"hollow":{"a":null,"b":{}},"word":"x"}"#;
    let mut fields = Fields::parse(text.as_bytes()).expect("an object");
    assert!(fields.check_object("full").is_ok());
    let code = |found: Result<(), crate::api::error::ApiError>| found.map_err(|e| e.code.number());
    assert_eq!(code(fields.check_object("word")), Err(1009));
    assert_eq!(code(fields.check_object("none")), Err(1008));
    assert!(fields.filled_object("full").expect("an object").is_some());
    assert!(fields.filled_object("hollow").expect("an object").is_none());
    assert!(fields.filled_object("none").expect("absent").is_none());
    assert!(fields.filled_object("word").is_err());
}
