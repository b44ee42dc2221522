//! The one reader of client JSON. It knows where in the body it is (`interactive.action.buttons[1].reply.title`), answers
//! the documented codes, and takes what old clients write: numbers as strings, strings as numbers, booleans in quotes, an
//! object where a list of one is meant, empty strings and `null` for what is absent, a byte order mark, fields of others.
//! Knows no field by name.

use std::ops::RangeInclusive;

use serde_json::{Map, Number, Value};

use super::code::Code;
use crate::api::error::ApiError;

/// What some editors and libraries put in front of UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// Whole numbers up to this one are exact as floating point numbers: 2^53.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
/// Levels of what is passed on unread: the stored form adds some of its own, and readers of JSON have a limit.
const UNREAD_DEPTH_MAX: usize = 32;

/// An object of a body, and where it stands. What is read is moved out.
#[derive(Clone, PartialEq)]
pub struct Fields {
    /// Path of the object; empty for the body itself.
    at: String,
    map: Map<String, Value>,
}

/// A list of a body, and where it stands.
pub struct List {
    at: String,
    items: Vec<Value>,
}

impl Fields {
    /// Reads a body.
    ///
    /// # Errors
    /// 1025 for anything but a JSON object.
    pub fn parse(bytes: &[u8]) -> Result<Self, ApiError> {
        let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(map)) => Ok(Self::of(map)),
            Ok(_) => Err(ApiError::with(
                Code::InvalidRequest,
                "The body must be a JSON object",
            )),
            Err(error) => Err(not_json(&error)),
        }
    }

    /// Reads a body that may be left out: nothing, or blanks, is an empty object.
    ///
    /// # Errors
    /// As [`Fields::parse`].
    pub fn parse_optional(bytes: &[u8]) -> Result<Self, ApiError> {
        let rest = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
        match rest.iter().all(u8::is_ascii_whitespace) {
            true => Ok(Self::of(Map::new())),
            false => Self::parse(rest),
        }
    }

    /// The body itself.
    pub fn of(map: Map<String, Value>) -> Self {
        Self {
            at: String::new(),
            map,
        }
    }

    /// An object that stands elsewhere in a body.
    pub fn at(path: String, map: Map<String, Value>) -> Self {
        Self { at: path, map }
    }

    /// The object at the end of these names, if all of them are objects.
    pub fn descend(mut self, names: &[&str]) -> Option<Self> {
        for name in names {
            self = self.object(name).ok()??;
        }
        Some(self)
    }

    /// Every field that was not read and says something, as it came: for objects to which the upstream adds fields of its own.
    ///
    /// # Errors
    /// 1009 for one that is nested too deep.
    pub fn rest(self) -> Result<Map<String, Value>, ApiError> {
        let at = Self {
            at: self.at,
            map: Map::new(),
        };
        let mut rest = self.map;
        rest.retain(|_, value| !empty(value));
        match rest
            .iter()
            .find(|(_, value)| !within_depth(value, UNREAD_DEPTH_MAX))
        {
            Some((name, _)) => {
                let must_be = format!("at most {UNREAD_DEPTH_MAX} levels deep");
                Err(at.invalid(name, &must_be))
            }
            None => Ok(rest),
        }
    }

    /// A field is there and says something.
    pub fn has(&self, name: &str) -> bool {
        self.map.get(name).is_some_and(|value| !absent(value))
    }

    /// A field is there and is `null`.
    pub fn is_null(&self, name: &str) -> bool {
        self.map.get(name).is_some_and(Value::is_null)
    }

    /// A field says something: it is there, and it is neither an empty object or list nor one of absent fields only.
    pub fn says(&self, name: &str) -> bool {
        match self.map.get(name) {
            Some(Value::Object(map)) => !map.values().all(absent),
            Some(Value::Array(items)) => !items.is_empty(),
            Some(value) => !absent(value),
            None => false,
        }
    }

    /// Nothing is left in it that says something.
    pub fn is_silent(&self) -> bool {
        self.map.values().all(absent)
    }

    /// What has not been read, without absent fields.
    pub fn into_rest(self) -> Map<String, Value> {
        let rest = self.map.into_iter();
        rest.filter(|(_, value)| !absent(value)).collect()
    }

    /// What has not been read, as it came.
    pub fn into_map(self) -> Map<String, Value> {
        self.map
    }

    /// Whatever a field is.
    pub fn value(&mut self, name: &str) -> Option<Value> {
        self.take(name)
    }

    /// Reads something of the object in a field, which stays where it is. `None` where there is no object: who reads the
    /// field itself says so.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn within<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&mut Self) -> Result<T, ApiError>,
    ) -> Result<Option<T>, ApiError> {
        let Some(Value::Object(map)) = self.map.get_mut(name) else {
            return Ok(None);
        };
        let mut object = Self {
            map: std::mem::take(map),
            at: self.path(name),
        };
        let found = read(&mut object)?;
        self.map.insert(name.to_owned(), Value::Object(object.map));
        Ok(Some(found))
    }

    /// A field is there and is an object.
    pub fn is_object(&self, name: &str) -> bool {
        self.map.get(name).is_some_and(Value::is_object)
    }

    /// A text.
    ///
    /// # Errors
    /// 1009 when it is neither a string nor a number.
    pub fn text(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        let value = self.take(name);
        let read = value.map(|value| text_of(value).ok_or_else(|| self.invalid(name, "a string")));
        read.transpose()
    }

    /// A text in which an empty one means something.
    ///
    /// # Errors
    /// As [`Fields::text`].
    pub fn text_or_empty(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        match self.map.get(name) {
            Some(Value::String(text)) if text.is_empty() => Ok(Some(String::new())),
            _ => self.text(name),
        }
    }

    /// A text that must be there.
    ///
    /// # Errors
    /// 1008 when it is missing, 1009 when it is something else.
    pub fn need_text(&mut self, name: &str) -> Result<String, ApiError> {
        self.text(name)?.ok_or_else(|| self.missing(name))
    }

    /// A text of so many characters at most.
    ///
    /// # Errors
    /// 1009 when it is something else, 1001 when it is longer.
    pub fn text_within(
        &mut self,
        name: &str,
        chars_max: usize,
    ) -> Result<Option<String>, ApiError> {
        let text = self.text(name)?;
        text.map(|text| self.not_longer(name, text, chars_max))
            .transpose()
    }

    /// The same, in which an empty one means something.
    ///
    /// # Errors
    /// As [`Fields::text_within`].
    pub fn text_or_empty_within(
        &mut self,
        name: &str,
        chars_max: usize,
    ) -> Result<Option<String>, ApiError> {
        let text = self.text_or_empty(name)?;
        text.map(|text| self.not_longer(name, text, chars_max))
            .transpose()
    }

    /// A text of this object, if it has so many characters at most.
    ///
    /// # Errors
    /// 1001 when it has more.
    pub fn not_longer(
        &self,
        name: &str,
        text: String,
        chars_max: usize,
    ) -> Result<String, ApiError> {
        let length = text.chars().count();
        if length > chars_max {
            let path = self.path(name);
            return Err(ApiError::with(
                Code::TooLong,
                format!("{path} has {length} characters, {chars_max} are allowed"),
            ));
        }
        Ok(text)
    }

    /// One of these words.
    ///
    /// # Errors
    /// 1009 when it is another one.
    pub fn word(&mut self, name: &str, words: &[&str]) -> Result<Option<String>, ApiError> {
        match self.text(name) {
            Ok(Some(text)) if words.contains(&text.as_str()) => Ok(Some(text)),
            Ok(None) => Ok(None),
            Ok(Some(_)) | Err(_) => {
                Err(self.invalid(name, &format!("one of {}", words.join(", "))))
            }
        }
    }

    /// A boolean.
    ///
    /// # Errors
    /// 1009 when it is something else.
    pub fn flag(&mut self, name: &str) -> Result<Option<bool>, ApiError> {
        let value = self.take(name);
        let read =
            value.map(|value| flag_of(&value).ok_or_else(|| self.invalid(name, "a boolean")));
        read.transpose()
    }

    /// A whole number within these bounds.
    ///
    /// # Errors
    /// 1009 when it is something else.
    pub fn whole(
        &mut self,
        name: &str,
        bounds: RangeInclusive<u64>,
    ) -> Result<Option<u64>, ApiError> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        match whole_of(&value).filter(|number| bounds.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(self.invalid(
                name,
                &format!("a whole number from {} to {}", bounds.start(), bounds.end()),
            )),
        }
    }

    /// A number.
    ///
    /// # Errors
    /// 1009 when it is something else.
    pub fn number(&mut self, name: &str) -> Result<Option<f64>, ApiError> {
        let value = self.take(name);
        let read =
            value.map(|value| number_of(&value).ok_or_else(|| self.invalid(name, "a number")));
        read.transpose()
    }

    /// An object.
    ///
    /// # Errors
    /// 1009 when it is something else.
    pub fn object(&mut self, name: &str) -> Result<Option<Self>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Self {
                at: self.path(name),
                map,
            })),
            Some(_) => Err(self.invalid(name, "an object")),
        }
    }

    /// An object with something in it.
    ///
    /// # Errors
    /// 1009 when it is something else.
    pub fn filled_object(&mut self, name: &str) -> Result<Option<Self>, ApiError> {
        let object = self.object(name)?;
        Ok(object.filter(|object| object.map.values().any(|value| !empty(value))))
    }

    /// Checks that an object is there, and leaves it.
    ///
    /// # Errors
    /// 1008 when it is missing, 1009 when it is something else.
    pub fn check_object(&self, name: &str) -> Result<(), ApiError> {
        match self.map.get(name) {
            Some(Value::Object(_)) => Ok(()),
            Some(other) if !absent(other) => Err(self.invalid(name, "an object")),
            Some(_) | None => Err(self.missing(name)),
        }
    }

    /// An object that must be there.
    ///
    /// # Errors
    /// 1008 when it is missing, 1009 when it is something else.
    pub fn need_object(&mut self, name: &str) -> Result<Self, ApiError> {
        self.object(name)?.ok_or_else(|| self.missing(name))
    }

    /// A list; an object in its place is a list of one.
    ///
    /// # Errors
    /// 1009 when it is something else.
    pub fn list(&mut self, name: &str) -> Result<Option<List>, ApiError> {
        let items = match self.take(name) {
            None => return Ok(None),
            Some(Value::Array(items)) => items,
            Some(one @ Value::Object(_)) => vec![one],
            Some(_) => return Err(self.invalid(name, "a list")),
        };
        Ok(Some(List {
            at: self.path(name),
            items,
        }))
    }

    /// A list that must be there.
    ///
    /// # Errors
    /// 1008 when it is missing, 1009 when it is something else.
    pub fn need_list(&mut self, name: &str) -> Result<List, ApiError> {
        self.list(name)?.ok_or_else(|| self.missing(name))
    }

    /// 1008: this field must be there.
    pub fn missing(&self, name: &str) -> ApiError {
        ApiError::missing(&self.path(name))
    }

    /// 1009: this field must be something else.
    pub fn invalid(&self, name: &str, must_be: &str) -> ApiError {
        ApiError::invalid(format!("{} must be {must_be}", self.path(name)))
    }

    /// 1010: this field must not be there.
    pub fn extra(&self, name: &str, why: &str) -> ApiError {
        let path = self.path(name);
        ApiError::with(Code::ParameterNotRequired, format!("{path} {why}"))
    }

    /// Where a field of this object stands in the body.
    pub fn path(&self, name: &str) -> String {
        match self.at.as_str() {
            "" => name.to_owned(),
            at => format!("{at}.{name}"),
        }
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name).filter(|value| !absent(value))
    }
}

impl List {
    /// Reads a body that is a list; an object in its place is a list of one.
    ///
    /// # Errors
    /// 1025 for anything else.
    pub fn parse(bytes: &[u8]) -> Result<Self, ApiError> {
        let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
        let items = match serde_json::from_slice(bytes) {
            Ok(Value::Array(items)) => items,
            Ok(one @ Value::Object(_)) => vec![one],
            Ok(_) => {
                return Err(ApiError::with(
                    Code::InvalidRequest,
                    "The body must be a JSON list",
                ));
            }
            Err(error) => return Err(not_json(&error)),
        };
        Ok(Self {
            at: String::new(),
            items,
        })
    }

    /// How many items it has.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// It has none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Its items, all of them texts. An empty text is an item like any other.
    ///
    /// # Errors
    /// 1009 for the first one that is none.
    pub fn texts(self) -> Result<Vec<String>, ApiError> {
        let at = self.at;
        let items = self.items.into_iter().enumerate();
        items
            .map(|(index, item)| {
                text_of(item)
                    .ok_or_else(|| ApiError::invalid(format!("{at}[{index}] must be a string")))
            })
            .collect()
    }

    /// Its items: texts, and each that is none as JSON.
    pub fn texts_or_json(self) -> Vec<Result<String, String>> {
        let one = |item: Value| match item {
            Value::String(_) | Value::Number(_) => text_of(item).ok_or_else(String::new),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
                Err(item.to_string())
            }
        };
        self.items.into_iter().map(one).collect()
    }

    /// Its items, all of them objects.
    ///
    /// # Errors
    /// 1009 for the first one that is none.
    pub fn objects(self) -> Result<Vec<Fields>, ApiError> {
        let at = self.at;
        let items = self.items.into_iter().enumerate();
        items
            .map(|(index, item)| match item {
                Value::Object(map) => Ok(Fields {
                    at: format!("{at}[{index}]"),
                    map,
                }),
                _ => Err(ApiError::invalid(format!(
                    "{at}[{index}] must be an object"
                ))),
            })
            .collect()
    }
}

/// The parser's text names line and column and never quotes the body's values.
fn not_json(error: &serde_json::Error) -> ApiError {
    ApiError::with(
        Code::InvalidRequest,
        format!(
            "The body is not valid JSON (line {}, column {})",
            error.line(),
            error.column()
        ),
    )
}

fn absent(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => false,
    }
}

/// Says nothing: absent, or a list or an object without anything in it.
fn empty(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => absent(value),
    }
}

fn within_depth(value: &Value, levels: usize) -> bool {
    let Some(left) = levels.checked_sub(1) else {
        return false;
    };
    match value {
        Value::Array(items) => items.iter().all(|item| within_depth(item, left)),
        Value::Object(map) => map.values().all(|item| within_depth(item, left)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}

fn text_of(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(digits_of(&number)),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A number as its writer would have put it between quotes: `4.47e11` was an integer once.
fn digits_of(number: &Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < EXACT_MAX => {
            format!("{float:.0}")
        }
        _ => number.to_string(),
    }
}

fn flag_of(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(on) => Some(*on),
        Value::String(text) => text.trim().to_ascii_lowercase().parse().ok(),
        Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn whole_of(value: &Value) -> Option<u64> {
    match value {
        // `3000.0` is what some JSON writers make of an integer.
        Value::Number(number) => number.as_u64().or_else(|| digits_of(number).parse().ok()),
        Value::String(text) => text.trim().parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A number, or a text that is one; never infinite.
pub fn number_of(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    number.filter(|number| number.is_finite())
}

#[cfg(test)]
#[path = "fields_tests.rs"]
mod tests;
