//! The account's templates: the upstream's list of them, read into what a message must fill.
//! What that says about a message: `verdict.rs`.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Whether a message fits.
pub mod verdict;

/// A template in one language.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub language: String,
    /// The upstream's word: `APPROVED`, `PAUSED`, …
    pub status: String,
    pub shape: Shape,
}

/// What a message must fill, in our own words: rows keep it as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Shape {
    /// The places have names.
    pub named: bool,
    pub header: Option<Header>,
    /// Places of the body; `None`: nobody here knows them.
    pub body: Option<BTreeSet<String>>,
    /// Buttons, from 0, each with whether it surely wants a parameter.
    pub buttons: Vec<bool>,
}

/// The header of a template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Header {
    /// A text with these places.
    Text(BTreeSet<String>),
    /// `image`, `location`, …
    Other(String),
}

/// One page of the list.
#[derive(Debug, Default, PartialEq)]
pub struct Page {
    pub entries: Vec<Entry>,
    /// Where the next one begins.
    pub after: Option<String>,
}

/// An answer to the call for a page.
#[derive(Deserialize)]
struct Answer {
    data: Vec<Value>,
    #[serde(default)]
    paging: Paging,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Paging {
    cursors: Cursors,
    /// The address of the next page: only that there is one counts, for it is the upstream's word and not ours.
    next: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Cursors {
    after: Option<String>,
}

/// A template as the list has it.
#[derive(Deserialize)]
struct Listed {
    name: String,
    language: String,
    status: String,
    #[serde(default)]
    category: String,
    #[serde(default)]
    parameter_format: String,
    #[serde(default)]
    components: Vec<Listing>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Listing {
    r#type: String,
    format: Option<String>,
    text: Option<String>,
    buttons: Vec<ListedButton>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ListedButton {
    r#type: String,
    url: Option<String>,
}

/// Reads a page. A template that cannot be read is left out; `None`: this is no page.
pub fn page(answer: &[u8]) -> Option<Page> {
    let answer: Answer = serde_json::from_slice(answer).ok()?;
    let entries = answer.data.into_iter().filter_map(entry);
    let after = answer.paging.cursors.after;
    Some(Page {
        entries: entries.collect(),
        after: after.filter(|after| answer.paging.next.is_some() && !after.is_empty()),
    })
}

/// The webhook fields that tell of a template whose copy may not be right any more.
const CHANGES: [&str; 4] = [
    "message_template_status_update",
    "message_template_quality_update",
    "message_template_components_update",
    "template_category_update",
];

/// The names of the templates that a webhook call tells of. Not the languages: there they may be spelt otherwise than in the
/// list (`en-US`), and a look reads all languages of a name.
pub fn changed(call: &Value) -> BTreeSet<&str> {
    let entries = list(call, "entry");
    let changes = entries.flat_map(|entry| list(entry, "changes"));
    changes.filter_map(changed_name).collect()
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    let list = value.get(key).and_then(Value::as_array);
    list.into_iter().flatten()
}

fn changed_name(change: &Value) -> Option<&str> {
    let field = change.get("field")?.as_str()?;
    let name = change
        .get("value")?
        .get("message_template_name")?
        .as_str()?;
    CHANGES.contains(&field).then_some(name)
}

fn entry(value: Value) -> Option<Entry> {
    let listed: Listed = serde_json::from_value(value).ok()?;
    Some(Entry {
        shape: shape(&listed),
        name: listed.name,
        language: listed.language,
        status: listed.status,
    })
}

fn shape(listed: &Listed) -> Shape {
    let mut shape = Shape {
        named: listed.parameter_format.eq_ignore_ascii_case("NAMED"),
        ..Shape::default()
    };
    // What a code is shown with is the upstream's own text, and its buttons are its own, too.
    let own_text = listed.category.eq_ignore_ascii_case("AUTHENTICATION");
    for part in &listed.components {
        let text = part.text.as_deref().unwrap_or_default();
        match part.r#type.to_ascii_uppercase().as_str() {
            "HEADER" => {
                let format = part.format.as_deref().unwrap_or("TEXT");
                shape.header = Some(match format.eq_ignore_ascii_case("TEXT") {
                    true => Header::Text(places(text)),
                    false => Header::Other(format.to_ascii_lowercase()),
                });
            }
            "BODY" if !own_text => shape.body = Some(places(text)),
            "BUTTONS" if !own_text => {
                shape.buttons = part.buttons.iter().map(wants_parameter).collect();
            }
            // Footers have no places, and cards are not counted.
            _ => {}
        }
    }
    shape
}

/// Only of the end of a URL is it certain: codes and flows go out without, too.
fn wants_parameter(button: &ListedButton) -> bool {
    let places = places(button.url.as_deref().unwrap_or_default());
    button.r#type.eq_ignore_ascii_case("URL") && !places.is_empty()
}

/// The places of a text: `{{1}}`, `{{order_no}}`.
fn places(text: &str) -> BTreeSet<String> {
    let after_opening = text.split("{{").skip(1);
    let names = after_opening.filter_map(|rest| rest.split_once("}}"));
    let names = names.map(|(name, _)| name.trim().to_owned());
    names.filter(|name| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Goal: a page of the upstream's list is read as the reference describes it, and one odd entry costs no other. Method: an
    /// approved template with everything, one of each odd sort, and answers that are no page.
    #[test]
    fn a_page_of_the_list_is_read() {
        let body = json!({"data": [
            {"id": "1", "name": "order", "language": "en_US", "status": "APPROVED", "category": "UTILITY",
             "parameter_format": "POSITIONAL", "components": [
                {"type": "HEADER", "format": "TEXT", "text": "Order {{1}}"},
                {"type": "BODY", "text": "Hi {{1}}, {{2}} and again {{1}}.", "example": {"body_text": [["a", "b"]]}},
                {"type": "FOOTER", "text": "Bye"},
                {"type": "BUTTONS", "buttons": [
                    {"type": "QUICK_REPLY", "text": "Stop"},
                    {"type": "URL", "text": "See", "url": "https://shop.example/{{1}}"},
                    {"type": "URL", "text": "All", "url": "https://shop.example/"},
                    {"type": "FLOW", "flow_id": 7}]}]},
            {"name": "no_language"}, 7,
            {"name": "named", "language": "de", "status": "PAUSED", "parameter_format": "NAMED", "components": [
                {"type": "HEADER", "format": "IMAGE"}, {"type": "BODY", "text": "Hallo {{ first_name }} {{"}]},
            {"name": "code", "language": "en", "status": "APPROVED", "category": "AUTHENTICATION", "components": [
                {"type": "BODY", "text": "*{{1}}* is your code."},
                {"type": "BUTTONS", "buttons": [{"type": "URL", "url": "https://www.whatsapp.com/otp/code/?code=otp{{1}}"}]}]},
        ], "paging": {"cursors": {"before": "a", "after": "b"}, "next": "https://elsewhere.example/?after=b"}});
        let page = page(body.to_string().as_bytes()).expect("a page");
        assert_eq!(page.after.as_deref(), Some("b"));
        let set = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        let names: Vec<_> = page.entries.iter().map(|e| e.name.as_str()).collect();
        assert_eq!(names, ["order", "named", "code"]);
        assert_eq!(
            page.entries[0].shape,
            Shape {
                named: false,
                header: Some(Header::Text(set(&["1"]))),
                body: Some(set(&["1", "2"])),
                buttons: vec![false, true, false, false],
            }
        );
        assert_eq!(
            page.entries[1].shape,
            Shape {
                named: true,
                header: Some(Header::Other("image".into())),
                body: Some(set(&["first_name"])),
                buttons: Vec::new(),
            }
        );
        assert_eq!(page.entries[2].shape, Shape::default());
        let last = json!({"data": [], "paging": {"cursors": {"after": "b"}}});
        let none = Page::default();
        assert_eq!(super::page(last.to_string().as_bytes()), Some(none));
        for text in ["", "[]", "{}", "<html>", r#"{"data": 7}"#] {
            assert_eq!(super::page(text.as_bytes()), None, "{text}");
        }
    }

    /// Goal: every documented field that tells of a change names its template, and nothing else does. Method: a call with each,
    /// one with fields that say nothing of a template's copy, and calls that are none.
    #[test]
    fn changed_templates_are_named() {
        let change = |field: &str, name: Value| {
            json!({"field": field, "value": {"event": "PAUSED", "message_template_id": 7,
                "message_template_name": name, "message_template_language": "en-US"}})
        };
        let call = json!({"object": "whatsapp_business_account", "entry": [
            {"id": "1", "time": 1, "changes": [
                change("message_template_status_update", "status".into()),
                change("message_template_quality_update", "quality".into()),
                change("messages", "no".into())]},
            {"id": "1", "time": 2, "changes": [
                change("message_template_components_update", "components".into()),
                change("template_category_update", "category".into()),
                change("template_category_update", "status".into()),
                change("template_category_update", 7.into()),
                {"field": "template_category_update"}, 7]},
            {"id": "1"}, 7]});
        let names: Vec<_> = changed(&call).into_iter().collect();
        assert_eq!(names, ["category", "components", "quality", "status"]);
        for call in [json!({}), json!([]), json!({"entry": {"changes": 7}})] {
            assert!(changed(&call).is_empty(), "{call}");
        }
    }

    /// Goal: what a row keeps is read again, also by a release that knows less or more of it.
    #[test]
    fn a_shape_is_read_again() {
        let text =
            r#"{"named":true,"header":{"text":["n"]},"body":["a"],"buttons":[true],"later":1}"#;
        let shape: Shape = serde_json::from_str(text).expect("readable");
        let again = serde_json::to_string(&shape).expect("plain data");
        assert_eq!(again, text.replace(r#","later":1"#, ""));
        let least: Shape = serde_json::from_str("{}").expect("readable");
        assert_eq!(least, Shape::default());
    }
}
