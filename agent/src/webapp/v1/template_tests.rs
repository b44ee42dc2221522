//! The check of templates. Goal: what surely fails is refused at once, what is not known goes. Method: a webapp with a table of
//! templates, with an owner that looks and finds nothing new, and without one.

use serde_json::json;

use super::*;
use crate::api::cloud::template::page;
use crate::api::v1::message::Message;
use crate::webapp::tests::{Bench, bench, whole_with};

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
    db.store_templates(&page.entries).await.expect("stored");
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

/// Goal: the setting decides. Method: a template that is not there, with the setting as it is by itself.
#[tokio::test]
async fn nothing_is_checked_unless_the_settings_want_it() {
    let bench = whole_with(false).await;
    let content = Content::Template(order("fr", &[]));
    assert!(check(&bench.webapp, &content).await.is_ok());
    assert_eq!(code(&bench, &order("fr", &[])).await, Some(2001));
}
