//! Verdicts. Goal: only what the upstream surely refuses is refused, with the documented code, and never without having looked.
//! Method: a table of templates, messages, ages and looks.

use serde_json::{Value, json};

use super::super::page;
use super::*;
use crate::api::v1::message::Message;

/// A template with these components, as the list has it.
fn entry(language: &str, status: &str, format: &str, components: Value) -> Entry {
    let listed = json!({"data": [{"name": "order", "language": language, "status": status, "category": "UTILITY",
                                  "parameter_format": format, "components": components}]});
    let page = page(listed.to_string().as_bytes()).expect("a page");
    page.entries.into_iter().next().expect("an entry")
}

fn full() -> Value {
    json!([{"type": "HEADER", "format": "TEXT", "text": "Order {{1}}"},
           {"type": "BODY", "text": "Hi {{1}}, {{2}}"},
           {"type": "BUTTONS", "buttons": [
               {"type": "QUICK_REPLY", "text": "Stop"},
               {"type": "URL", "text": "See", "url": "https://shop.example/{{1}}"},
               {"type": "COPY_CODE", "text": "Code"}, {"type": "FLOW", "text": "Go"}]}])
}

fn text(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

fn named(name: &str) -> Value {
    json!({"type": "text", "text": "x", "parameter_name": name})
}

fn header(parameter: Value) -> Value {
    json!({"type": "header", "parameters": [parameter]})
}

fn body(parameters: &[Value]) -> Value {
    json!({"type": "body", "parameters": parameters})
}

fn url(index: u8) -> Value {
    json!({"type": "button", "sub_type": "url", "index": index, "parameters": [text("17")]})
}

fn template(language: &str, components: &[Value]) -> Template {
    let body = json!({"to": "447700900123", "type": "template", "template":
        {"name": "order", "language": {"code": language}, "components": components}});
    let message = Message::parse(body.to_string().as_bytes(), None).expect("well-formed");
    message.content.template().expect("a template").into_owned()
}

/// What is decided, in a word: `send`, `look`, or the number of the code.
fn word(verdict: Verdict) -> String {
    match verdict {
        Verdict::Send => "send".into(),
        Verdict::Look => "look".into(),
        Verdict::Refuse(error) => error.code.to_string(),
    }
}

fn of(entry: Entry, age_ms: u64, template: &Template, looked: bool) -> String {
    let known = [Known { entry, age_ms }];
    word(decide(template, &known, looked))
}

#[test]
fn places_are_counted_on_a_fresh_entry_only() {
    let two = [text("a"), text("b")];
    let picture = json!({"type": "image", "image": {"link": "https://files.example/a.png"}});
    let positional: &[(&[Value], &str)] = &[
        (&[header(text("7")), body(&two), url(1)], "send"),
        // A static button, a code and a flow need no component; that they have one is no matter.
        (
            &[
                header(text("7")),
                body(&two),
                url(1),
                json!({"type": "button", "sub_type": "quick_reply", "index": 0, "parameters": [{"type": "payload", "payload": "p"}]}),
                json!({"type": "button", "sub_type": "copy_code", "index": 2, "parameters": [{"type": "coupon_code", "coupon_code": "c"}]}),
            ],
            "send",
        ),
        (&[header(text("7")), body(&two)], "2000"),
        (&[header(text("7")), body(&two), url(0)], "2000"),
        (&[header(text("7")), body(&two[..1]), url(1)], "2000"),
        (&[header(text("7")), url(1)], "2000"),
        (&[body(&two), url(1)], "2000"),
        (&[], "2000"),
        (&[header(picture), body(&two), url(1)], "2012"),
        (
            &[header(named("n")), body(&[named("a"), named("b")]), url(1)],
            "2012",
        ),
    ];
    for (components, wanted) in positional {
        let entry = || entry("en_US", "APPROVED", "POSITIONAL", full());
        let message = template("en_US", components);
        assert_eq!(
            of(entry(), FRESH_MS, &message, false),
            *wanted,
            "{components:?}"
        );
        let older = match *wanted {
            "send" => "send",
            _ => "look",
        };
        assert_eq!(
            of(entry(), FRESH_MS + 1, &message, false),
            older,
            "{components:?}"
        );
        // The look did not make it fresher: the message goes.
        assert_eq!(
            of(entry(), FRESH_MS + 1, &message, true),
            "send",
            "{components:?}"
        );
    }
}

#[test]
fn names_of_places_must_be_those_of_the_template() {
    let two = [text("a"), text("b")];
    let picture = json!({"type": "image", "image": {"link": "https://files.example/a.png"}});
    let names = json!([{"type": "HEADER", "format": "IMAGE"}, {"type": "BODY", "text": "{{first}} {{last}}"}]);
    let table: &[(&[Value], &str)] = &[
        (
            &[header(picture), body(&[named("last"), named("first")])],
            "send",
        ),
        // Files of headers are not counted.
        (&[body(&[named("last"), named("first")])], "send"),
        (&[body(&[named("last"), named("middle")])], "2012"),
        (&[body(&two)], "2012"),
        (&[body(&[named("last")])], "2000"),
        (
            &[header(text("x")), body(&[named("last"), named("first")])],
            "2012",
        ),
    ];
    for (components, wanted) in table {
        // Names beside a text without one is no message at all.
        let body = json!({"to": "1234567", "type": "template", "template": {"name": "order", "language": {"code": "de"}, "components": components}});
        let Ok(message) = Message::parse(body.to_string().as_bytes(), None) else {
            assert_eq!(*wanted, "2012");
            continue;
        };
        let message = message.content.template().expect("a template").into_owned();
        let entry = entry("de", "APPROVED", "NAMED", names.clone());
        assert_eq!(of(entry, 0, &message, false), *wanted, "{components:?}");
    }
}

#[test]
fn headers_are_of_the_kind_that_the_template_has() {
    let file =
        |word: &str| header(json!({"type": word, word: {"link": "https://files.example/a"}}));
    let place =
        header(json!({"type": "location", "location": {"latitude": "1", "longitude": "2"}}));
    let product = header(json!({"type": "product", "product": {"product_retailer_id": "p"}}));
    let sent = [
        ("image", file("image")),
        ("video", file("video")),
        ("document", file("document")),
        ("gif", file("gif")),
        ("location", place),
        ("product", product),
    ];
    for (format, _) in &sent {
        for (word, header) in &sent {
            let components = json!([{"type": "HEADER", "format": format.to_uppercase()}, {"type": "BODY", "text": "x"}]);
            let entry = entry("en", "APPROVED", "POSITIONAL", components);
            let wanted = match format == word {
                true => "send",
                false => "2012",
            };
            let message = template("en", std::slice::from_ref(header));
            assert_eq!(of(entry, 0, &message, false), wanted, "{format} {word}");
        }
    }
    // A kind of tomorrow, and a template without a header: the upstream decides.
    let odd = template("en", &[header(json!({"type": "hologram", "hologram": {}}))]);
    for components in [
        json!([{"type": "HEADER", "format": "HOLOGRAM"}]),
        json!([{"type": "BODY", "text": "x"}]),
        json!([]),
    ] {
        let entry = entry("en", "APPROVED", "POSITIONAL", components);
        assert_eq!(of(entry, 0, &odd, false), "send");
    }
}

#[test]
fn absence_and_states_refuse_only_after_a_look() {
    let message = template("en_US", &[]);
    let table = [
        ("en_US", "APPROVED", "send", "send"),
        ("en_US", "PENDING", "send", "send"),
        ("en_US", "A_WORD_OF_TOMORROW", "send", "send"),
        ("en_US", "REJECTED", "look", "2060"),
        ("en_US", "PAUSED", "look", "2061"),
        ("en_US", "disabled", "look", "2062"),
        ("de", "APPROVED", "look", "2001"),
        // Another language, although people may mean the same.
        ("en", "APPROVED", "look", "2001"),
        // Another spelling of the language.
        ("en-us", "PAUSED", "send", "send"),
    ];
    for (language, status, before, after) in table {
        for (looked, wanted) in [(false, before), (true, after)] {
            let entry = entry(language, status, "", json!([]));
            let found = of(entry, 0, &message, looked);
            assert_eq!(found, wanted, "{language} {status} {looked}");
        }
    }
    assert_eq!(word(decide(&message, &[], false)), "look");
    assert_eq!(word(decide(&message, &[], true)), "2001");
}

/// Goal: an hsm is counted like the template that it is.
#[test]
fn an_hsm_is_counted_as_a_body() {
    let body = json!({"to": "447700900123", "type": "hsm", "hsm": {"element_name": "order",
        "language": {"policy": "fallback", "code": "en"}, "localizable_params": [{"default": "a"}]}});
    let message = Message::parse(body.to_string().as_bytes(), None).expect("well-formed");
    let hsm = message.content.template().expect("a template");
    for (text, wanted) in [
        ("Hi {{1}}", "send"),
        ("Hi {{1}} {{2}}", "2000"),
        ("Hi", "2000"),
    ] {
        let entry = entry(
            "en",
            "APPROVED",
            "",
            json!([{"type": "BODY", "text": text}]),
        );
        assert_eq!(of(entry, 0, &hsm, false), wanted);
    }
}
