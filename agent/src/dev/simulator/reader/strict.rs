//! An object of the caller of which every field must be asked for: what nobody asked for is refused.
//! Knows no type of message.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::super::refusal::Refusal;

/// The object, where it stands, and what was asked for.
pub struct Strict<'a> {
    at: String,
    map: &'a Map<String, Value>,
    asked: Vec<&'a str>,
}

impl<'a> Strict<'a> {
    pub fn new(at: String, map: &'a Map<String, Value>) -> Self {
        let asked = Vec::new();
        Self { at, map, asked }
    }

    /// Where a field stands: `interactive.action.buttons[1].reply.title`.
    pub fn path(&self, name: &str) -> String {
        let dot = if self.at.is_empty() { "" } else { "." };
        format!("{}{dot}{name}", self.at)
    }

    /// Any value; what is inside is not looked at.
    pub fn raw(&mut self, name: &str) -> Option<&'a Value> {
        let (key, value) = self.map.get_key_value(name)?;
        self.asked.push(key);
        Some(value)
    }

    pub fn has(&self, name: &str) -> bool {
        self.map.contains_key(name)
    }

    /// A string that may be empty. Numbers and `null` are none.
    pub fn any_text(&mut self, name: &str) -> Result<Option<&'a str>, Refusal> {
        match self.raw(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Refusal::bad(&format!(
                "{} must be a string",
                self.path(name)
            ))),
        }
    }

    /// A string that is not empty.
    pub fn text(&mut self, name: &str) -> Result<Option<&'a str>, Refusal> {
        match self.any_text(name)? {
            Some("") => Err(Refusal::bad(&format!(
                "{} must not be empty",
                self.path(name)
            ))),
            text => Ok(text),
        }
    }

    pub fn need_text(&mut self, name: &str) -> Result<&'a str, Refusal> {
        self.text(name)?
            .ok_or_else(|| Refusal::missing(&self.path(name)))
    }

    /// A string of so many characters at most.
    pub fn text_within(&mut self, name: &str, most: usize) -> Result<Option<&'a str>, Refusal> {
        let text = self.text(name)?;
        match text.is_some_and(|text| text.chars().count() > most) {
            true => Err(Refusal::value(&format!(
                "{} may have {most} characters",
                self.path(name)
            ))),
            false => Ok(text),
        }
    }

    pub fn need_within(&mut self, name: &str, most: usize) -> Result<&'a str, Refusal> {
        self.text_within(name, most)?
            .ok_or_else(|| Refusal::missing(&self.path(name)))
    }

    /// One of several words.
    pub fn need_word(&mut self, name: &str, words: &[&str]) -> Result<&'a str, Refusal> {
        let word = self.need_text(name)?;
        match words.contains(&word) {
            true => Ok(word),
            false => Err(Refusal::bad(&format!(
                "{} must be one of {}",
                self.path(name),
                words.join(", ")
            ))),
        }
    }

    /// An id of a message or a file: printable, no blanks.
    pub fn need_id(&mut self, name: &str) -> Result<&'a str, Refusal> {
        let id = self.need_text(name)?;
        match id.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(id),
            false => Err(Refusal::value(&format!("{} is no id", self.path(name)))),
        }
    }

    /// An address that can be opened.
    pub fn need_link(&mut self, name: &str) -> Result<&'a str, Refusal> {
        let link = self.need_text(name)?;
        let parsed = url::Url::parse(link);
        match parsed.is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host()) {
            true => Ok(link),
            false => Err(Refusal::value(&format!(
                "{} is no address",
                self.path(name)
            ))),
        }
    }

    pub fn boolean(&mut self, name: &str) -> Result<Option<bool>, Refusal> {
        match self.raw(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(_) => Err(Refusal::bad(&format!(
                "{} must be a boolean",
                self.path(name)
            ))),
        }
    }

    /// A whole number within bounds.
    pub fn integer(
        &mut self,
        name: &str,
        within: RangeInclusive<i64>,
    ) -> Result<Option<i64>, Refusal> {
        match self.raw(name).map(Value::as_i64) {
            None => Ok(None),
            Some(Some(value)) if within.contains(&value) => Ok(Some(value)),
            Some(Some(_)) => Err(Refusal::value(&format!(
                "{} must be from {} to {}",
                self.path(name),
                within.start(),
                within.end()
            ))),
            Some(None) => Err(Refusal::bad(&format!(
                "{} must be a whole number",
                self.path(name)
            ))),
        }
    }

    pub fn need_integer(
        &mut self,
        name: &str,
        within: RangeInclusive<i64>,
    ) -> Result<i64, Refusal> {
        self.integer(name, within)?
            .ok_or_else(|| Refusal::missing(&self.path(name)))
    }

    pub fn object(&mut self, name: &str) -> Result<Option<Self>, Refusal> {
        match self.raw(name) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Self::new(self.path(name), map))),
            Some(_) => Err(Refusal::bad(&format!(
                "{} must be an object",
                self.path(name)
            ))),
        }
    }

    pub fn need_object(&mut self, name: &str) -> Result<Self, Refusal> {
        self.object(name)?
            .ok_or_else(|| Refusal::missing(&self.path(name)))
    }

    /// A list of objects, of a length within bounds.
    pub fn objects(
        &mut self,
        name: &str,
        count: RangeInclusive<usize>,
    ) -> Result<Option<Vec<Self>>, Refusal> {
        let path = self.path(name);
        let list = match self.raw(name) {
            None => return Ok(None),
            Some(Value::Array(list)) => list,
            Some(_) => return Err(Refusal::bad(&format!("{path} must be a list"))),
        };
        if !count.contains(&list.len()) {
            let (least, most) = (count.start(), count.end());
            let why = format!("{path} must have {least} to {most} items");
            return Err(Refusal::value(&why));
        }
        let objects = list.iter().enumerate().map(|(n, item)| match item {
            Value::Object(map) => Ok(Self::new(format!("{path}[{n}]"), map)),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_) => Err(Refusal::bad(&format!("{path}[{n}] must be an object"))),
        });
        objects.collect::<Result<_, _>>().map(Some)
    }

    pub fn need_objects(
        &mut self,
        name: &str,
        count: RangeInclusive<usize>,
    ) -> Result<Vec<Self>, Refusal> {
        self.objects(name, count)?
            .ok_or_else(|| Refusal::missing(&self.path(name)))
    }

    /// Nothing is left that nobody asked for.
    pub fn end(self) -> Result<(), Refusal> {
        let unknown = self
            .map
            .keys()
            .find(|name| !self.asked.contains(&name.as_str()));
        match unknown {
            Some(name) => Err(Refusal::bad(&format!(
                "unexpected field {}",
                self.path(name)
            ))),
            None => Ok(()),
        }
    }
}
