//! The check of templates. Goal: what surely fails is refused at once, what is not known goes. Method: a webapp with a table of
//! templates, with an owner that looks and finds nothing new, and without one.

use serde_json::json;

use super::*;
use crate::api::cloud::template::page;
use crate::api::v1::message::Message;
use crate::webapp::tests::{Bench, bench, signature, whole_with};

fn order(language: &str, texts: &[&str]) -> Template {
    let parameters: Vec<_> = texts
        .iter()
        .map(|text| json!({"type": "text", "text": text}))
        .collect();
    let body = json!({"to": "447700900123", "type": "template", "template": {"name": "order",
        "language": {"code": language}, "components": [{"type": "body", "parameters": parameters}]}});
    let message = Message::parse(body.to_string().as_bytes(), None).expect("well-formed");
    message.content.template().expect("a template").into_owned()
}

async fn list(bench: &Bench, language: &str, status: &str) {
    let listed = json!({"data": [{"name": "order", "language": language, "status": status,
                                  "components": [{"type": "BODY", "text": "Hi {{1}}"}]}]});
    let page = page(listed.to_string().as_bytes()).expect("a page");
    let db = bench.webapp.db().expect("opened");
    db.seed_templates(&page.entries).await;
}

async fn code(bench: &Bench, template: &Template) -> Option<u16> {
    let found = fits(&bench.webapp, template).await;
    found.err().map(|error| error.code.number())
}

#[tokio::test]
async fn what_surely_fails_is_refused_at_once() {
    let bench = whole_with(false).await;
    list(&bench, "en", "APPROVED").await;
    list(&bench, "de", "PAUSED").await;
    assert_eq!(code(&bench, &order("en", &["Ann"])).await, None);
    assert_eq!(code(&bench, &order("en", &["Ann", "17"])).await, Some(2000));
    assert_eq!(code(&bench, &order("de", &["Ann"])).await, Some(2061));
    assert_eq!(code(&bench, &order("fr", &["Ann"])).await, Some(2001));
    let unchecked = bench.webapp.metrics.templates_unchecked.get();
    assert_eq!(unchecked, 0);
}

#[tokio::test]
async fn without_a_look_nothing_is_refused_for_absence_or_state() {
    let bench = bench().await;
    list(&bench, "de", "PAUSED").await;
    assert_eq!(code(&bench, &order("de", &["Ann"])).await, None);
    assert_eq!(code(&bench, &order("fr", &["Ann"])).await, None);
    assert_eq!(bench.webapp.metrics.templates_unchecked.get(), 2);
}

/// Goal: a template that the upstream says has changed is a reason to refuse only after a look. Method: what is known is fresh
/// and refuses; then a signed call tells of another template, and of this one; there is no owner who could look.
#[tokio::test]
async fn a_template_that_changed_refuses_nothing_without_a_look() {
    let bench = bench().await;
    list(&bench, "en", "APPROVED").await;
    let tell = async |name: &str| {
        let change = json!({"field": "message_template_components_update", "value": {"message_template_id": 7,
            "message_template_name": name, "message_template_language": "en", "message_template_element": "Hi {{1}}, {{2}}"}});
        let call = json!({"entry": [{"id": "1", "changes": [change]}]}).to_string();
        let sealed = signature(&call);
        let headers = [("x-hub-signature-256", sealed.as_str())];
        let (status, _) = bench.call("POST", "/cloud/webhook", &headers, &call).await;
        assert_eq!(status, 200);
    };
    let two = order("en", &["Ann", "17"]);
    tell("order_late").await;
    assert_eq!(code(&bench, &two).await, Some(2000));
    tell("order").await;
    assert_eq!(code(&bench, &two).await, None);
    assert_eq!(bench.webapp.metrics.templates_unchecked.get(), 1);
}

/// Goal: the setting decides. Method: a template that is not there, with the setting as it is by itself.
#[tokio::test]
async fn nothing_is_checked_unless_the_settings_want_it() {
    let bench = whole_with(false).await;
    let content = Content::Template(order("fr", &[]));
    assert!(check(&bench.webapp, &content).await.is_ok());
    assert_eq!(code(&bench, &order("fr", &[])).await, Some(2001));
}
