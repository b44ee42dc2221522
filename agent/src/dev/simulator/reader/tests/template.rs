//! Template messages: see the room above.

use serde_json::{Value, json};

use super::super::sent::Kind;
use super::{code, message, refused, sent, taken, with};

fn order() -> Value {
    message(
        "template",
        json!({"name": "order", "language": {"code": "en_US", "policy": "deterministic"}, "components": [
            {"type": "header", "parameters": [{"type": "document", "document": {"id": "7", "filename": "f.pdf"}}]},
            {"type": "body", "parameters": [
                {"type": "text", "text": "a"},
                {"type": "currency", "currency": {"fallback_value": "€1", "code": "EUR", "amount_1000": 1000}},
                {"type": "date_time", "date_time": {"fallback_value": "May 1"}}]},
            {"type": "button", "sub_type": "url", "index": "0", "parameters": [{"type": "text", "text": "17"}]},
            {"type": "button", "sub_type": "quick_reply", "index": 1, "parameters": [{"type": "payload", "payload": "p"}]},
            {"type": "button", "sub_type": "copy_code", "index": "2",
                "parameters": [{"type": "coupon_code", "coupon_code": "SPRING"}]},
            {"type": "button", "sub_type": "flow", "index": "3",
                "parameters": [{"type": "action", "action": {"flow_token": "t", "flow_action_data": {"a": 1}}}]},
            {"type": "limited_time_offer", "parameters": [
                {"type": "limited_time_offer", "limited_time_offer": {"expiration_time_ms": 1_893_456_000_000_u64}}]},
        ]}),
    )
}

#[test]
fn templates() {
    let good = order();
    let body = "/template/components/1/parameters";
    let at = |rest: &str| format!("{body}{rest}");
    refused(
        &good,
        &[
            ("/template/name", json!(null), 131_008),
            ("/template/namespace", json!("n"), 100),
            ("/template/language", json!("en_US"), 100),
            ("/template/language/code", json!(null), 131_008),
            ("/template/language/policy", json!("fallback"), 100),
            ("/template/components", json!({}), 100),
            ("/template/components/0/type", json!("footer"), 100),
            ("/template/components/0/parameters", json!([]), 131_009),
            (
                "/template/components/0/parameters/0/document/caption",
                json!("c"),
                100,
            ),
            (
                "/template/components/0/parameters/0/type",
                json!("image"),
                131_008,
            ),
            (body, json!({"type": "text", "text": "a"}), 100),
            (&at("/0/text"), json!(7), 100),
            (&at("/0/default"), json!("x"), 100),
            (&at("/0/type"), json!("payload"), 100),
            (&at("/1/currency/amount_1000"), json!("1000"), 100),
            (&at("/1/currency/code"), json!("euro"), 131_009),
            (&at("/1/currency/fallback_value"), json!(null), 131_008),
            (&at("/2/date_time/fallback_value"), json!(null), 131_008),
        ],
    );
    let named = json!({"type": "text", "parameter_name": "first_name", "text": "Ann"});
    taken([
        with(&good, "/template/components", json!(null)),
        with(&good, body, json!([named])),
    ]);
}

#[test]
fn template_buttons_and_offers() {
    let good = order();
    refused(
        &good,
        &[
            ("/template/components/2/index", json!(null), 131_008),
            ("/template/components/2/index", json!("10"), 131_009),
            ("/template/components/2/index", json!("1"), 131_009),
            ("/template/components/2/sub_type", json!(null), 131_008),
            ("/template/components/2/sub_type", json!("call"), 100),
            ("/template/components/2/parameters", json!(null), 131_008),
            (
                "/template/components/2/parameters/0/type",
                json!("payload"),
                100,
            ),
            (
                "/template/components/3/parameters/0/payload",
                json!(null),
                131_008,
            ),
            (
                "/template/components/4/parameters/0/coupon_code",
                json!(1),
                100,
            ),
            (
                "/template/components/5/parameters/0/action/token",
                json!("t"),
                100,
            ),
            ("/template/components/7", json!({"type": "body"}), 100),
        ],
    );
    let offer = "/template/components/6/parameters/0/limited_time_offer/expiration_time_ms";
    assert_eq!(
        code(&with(&good, offer, json!(1_893_456_000))),
        131_009,
        "seconds"
    );
    let found = sent(&good);
    let template = found.template.expect("a template");
    assert_eq!(
        (template.name.as_str(), template.language.as_str()),
        ("order", "en_US")
    );
    assert_eq!(
        (template.parts.body.len(), template.parts.buttons.len()),
        (3, 4)
    );
    assert_eq!(found.files[0].kind, Kind::Document);
}

#[test]
fn template_headers_and_cards() {
    let header = |parameter: Value| {
        let components = json!([{"type": "header", "parameters": [parameter]}]);
        with(&order(), "/template/components", components)
    };
    taken([
        header(json!({"type": "text", "text": "a"})),
        header(json!({"type": "image", "image": {"link": "https://a.example/b.png"}})),
        header(json!({"type": "gif", "gif": {"id": "7"}})),
        header(
            json!({"type": "product", "product": {"product_retailer_id": "p", "catalog_id": "c"}}),
        ),
        header(
            json!({"type": "location", "location": {"latitude": "1", "longitude": "2", "name": "n", "address": "a"}}),
        ),
    ]);
    let card = |n: u64| {
        json!({"card_index": n, "components": [
            {"type": "header", "parameters": [{"type": "image", "image": {"id": "7"}}]},
            {"type": "button", "sub_type": "quick_reply", "index": "0", "parameters": [{"type": "payload", "payload": "p"}]}]})
    };
    let components = json!([{"type": "carousel", "cards": [card(0), card(1)]}]);
    let good = with(&order(), "/template/components", components);
    let at = "/template/components/0/cards";
    refused(
        &good,
        &[
            (at, json!([card(0)]), 131_009),
            (at, (0..11).map(card).collect(), 131_009),
            (&format!("{at}/1/card_index"), json!(0), 131_009),
            (&format!("{at}/1/card_index"), json!("1"), 100),
            (&format!("{at}/1/components"), json!(null), 131_008),
            (
                &format!("{at}/0/components/0"),
                json!({"type": "carousel"}),
                100,
            ),
            (
                &format!("{at}/0/components/0/parameters/0/image/id"),
                json!(7),
                100,
            ),
        ],
    );
    assert_eq!(sent(&good).files.len(), 2);
}
