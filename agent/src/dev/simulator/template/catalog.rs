//! The templates of the account, in the form in which they were created, and what each wants filled in.
//! Reviews nothing: a template is what it is said to be.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The templates that are there from the start.
const BUILTIN: &str = include_str!("builtin.json");
/// Most templates of an account.
const TEMPLATES_MAX: usize = 6000;

/// One template in one language.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    pub name: String,
    pub language: String,
    #[serde(default = "approved")]
    pub status: String,
    pub category: String,
    /// `POSITIONAL` or `NAMED`.
    #[serde(default = "positional")]
    pub parameter_format: String,
    pub components: Vec<Value>,
}

fn approved() -> String {
    "APPROVED".to_owned()
}

fn positional() -> String {
    "POSITIONAL".to_owned()
}

/// What a send must fill in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    pub header: Option<Header>,
    /// Names of the places in the body: `1`, `2`, or words.
    pub body: Vec<String>,
    pub buttons: Vec<Button>,
    /// Until when the offer is good.
    pub offer: bool,
    pub cards: Vec<Self>,
}

/// A header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Header {
    /// With so many places.
    Text(Vec<String>),
    /// A file, place or product: the format as it is called, such as `IMAGE`.
    Other(String),
}

/// A button.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Button {
    /// Such as `QUICK_REPLY`.
    pub kind: String,
    /// Its address ends in a place.
    pub place: bool,
}

impl Wanted {
    fn of(components: &[Value]) -> Self {
        let mut wanted = Self::default();
        for component in components {
            match word(component, "type") {
                "HEADER" => {
                    wanted.header = Some(match word(component, "format") {
                        "TEXT" => Header::Text(places(word(component, "text"))),
                        other => Header::Other(other.to_owned()),
                    });
                }
                "BODY" => wanted.body = places(word(component, "text")),
                "BUTTONS" => wanted.buttons = list(component, "buttons").map(button).collect(),
                "LIMITED_TIME_OFFER" => {
                    wanted.offer = component["limited_time_offer"]["has_expiration"] == true;
                }
                "CAROUSEL" => {
                    let cards = list(component, "cards");
                    let parts =
                        |card: &Value| list(card, "components").cloned().collect::<Vec<_>>();
                    wanted.cards = cards.map(|card| Self::of(&parts(card))).collect();
                }
                // Footers, and what has no place for anything.
                _ => {}
            }
        }
        wanted
    }
}

fn word<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value
        .get(name)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn button(button: &Value) -> Button {
    Button {
        kind: word(button, "type").to_owned(),
        place: !places(word(button, "url")).is_empty(),
    }
}

/// What stands between double braces, each once.
fn places(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for part in text.split("{{").skip(1) {
        if let Some((name, _)) = part.split_once("}}")
            && !found.iter().any(|known| known == name.trim())
        {
            found.push(name.trim().to_owned());
        }
    }
    found
}

/// A template, and what it wants.
#[derive(Debug, Clone)]
pub struct Entry {
    pub id: u64,
    pub written: Written,
    pub wanted: Wanted,
}

impl Entry {
    pub fn category(&self) -> &str {
        &self.written.category
    }

    /// What webhooks call the price by.
    pub fn priced_as(&self) -> &'static str {
        match self.category() {
            "MARKETING" => "marketing",
            "AUTHENTICATION" => "authentication",
            _ => "utility",
        }
    }

    pub fn named(&self) -> bool {
        self.written.parameter_format == "NAMED"
    }
}

/// All templates, by name and language.
#[derive(Debug, Default)]
pub struct Catalog {
    entries: BTreeMap<(String, String), Entry>,
    last_id: u64,
}

impl Catalog {
    /// Those of the start.
    pub fn builtin() -> Self {
        let written: Vec<Written> =
            serde_json::from_str(BUILTIN).expect("a file of this program, which a test reads");
        let mut catalog = Self {
            last_id: 900_100,
            ..Self::default()
        };
        for template in written {
            catalog.put(template);
        }
        catalog
    }

    /// Adds or replaces one; the status before, and the id. `None`: there are too many.
    pub fn put(&mut self, written: Written) -> Option<(Option<String>, u64)> {
        let key = (written.name.clone(), written.language.clone());
        let before = self.entries.get(&key);
        if before.is_none() && self.entries.len() >= TEMPLATES_MAX {
            return None;
        }
        let id = before.map_or(self.last_id + 1, |entry| entry.id);
        let status = before.map(|entry| entry.written.status.clone());
        self.last_id = self.last_id.max(id);
        let wanted = Wanted::of(&written.components);
        let entry = Entry {
            id,
            written,
            wanted,
        };
        self.entries.insert(key, entry);
        Some((status, id))
    }

    /// Takes away those with this name, in one language or in all. How many.
    pub fn remove(&mut self, name: &str, language: Option<&str>) -> usize {
        let before = self.entries.len();
        self.entries.retain(|(of, in_language), _| {
            of != name || language.is_some_and(|language| language != in_language)
        });
        before - self.entries.len()
    }

    pub fn get(&self, name: &str, language: &str) -> Option<&Entry> {
        self.entries.get(&(name.to_owned(), language.to_owned()))
    }

    /// In the order of names.
    pub fn all(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found() {
        assert_eq!(places("Hello {{1}}, order {{ 2 }} of {{1}}"), ["1", "2"]);
        assert_eq!(places("{{first_name}}"), ["first_name"]);
        assert!(places("a { {1} } b {{").is_empty());
    }

    /// Goal: the set of the start has every form that the facts name. Method: what its templates want.
    #[test]
    fn the_set_of_the_start_is_whole() {
        let catalog = Catalog::builtin();
        let any = |fits: &dyn Fn(&Entry) -> bool| catalog.all().any(fits);
        for kind in [
            "QUICK_REPLY",
            "URL",
            "COPY_CODE",
            "FLOW",
            "OTP",
            "CATALOG",
            "MPM",
            "VOICE_CALL",
            "PHONE_NUMBER",
            "REQUEST_CONTACT_INFO",
        ] {
            assert!(
                any(&|e| e.wanted.buttons.iter().any(|b| b.kind == kind)),
                "{kind}"
            );
        }
        for format in ["IMAGE", "VIDEO", "DOCUMENT", "LOCATION"] {
            let wanted = Some(Header::Other(format.into()));
            assert!(any(&|e| e.wanted.header == wanted), "{format}");
        }
        for status in ["APPROVED", "PAUSED", "DISABLED", "REJECTED", "PENDING"] {
            assert!(any(&|e| e.written.status == status), "{status}");
        }
        assert!(any(&|e| e.named() && e.wanted.body.len() > 1));
        assert!(any(&|e| e.wanted.cards.len() > 1) && any(&|e| e.wanted.offer));
        assert!(catalog.get("order_update", "de").is_some());
        assert!(catalog.get("order_update", "en_US").is_some());
    }
}
