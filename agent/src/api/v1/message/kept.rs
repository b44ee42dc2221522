//! Objects that are checked field by field and kept whole: what this version does not know goes upstream as it came, so that
//! new options of the upstream can be used at once, and nothing that a client sent is lost.
//! Knows no field by name.

use serde_json::{Map, Value};

use crate::api::error::ApiError;
use crate::api::v1::code::Code;
use crate::api::v1::fields::{Fields, List};

/// How deep objects and lists may lie in each other. The parser that reads stored messages takes 128.
const DEPTH_MAX: usize = 32;
/// So long may such an object be, as JSON in bytes.
const LEN_MAX: usize = 256 << 10;

/// An object that is being checked.
pub struct Draft {
    fields: Fields,
    kept: Map<String, Value>,
}

impl Draft {
    /// Starts with all of it unread.
    pub fn of(fields: Fields) -> Self {
        Self {
            fields,
            kept: Map::new(),
        }
    }

    /// A text of so many characters at most. It is kept as a text, also where it came as a number.
    ///
    /// # Errors
    /// 1009 or 1001.
    pub fn text(&mut self, name: &str, chars_max: usize) -> Result<Option<String>, ApiError> {
        let text = self.fields.text_within(name, chars_max)?;
        if let Some(text) = &text {
            self.kept.insert(name.to_owned(), text.as_str().into());
        }
        Ok(text)
    }

    /// A text that must be there.
    ///
    /// # Errors
    /// 1008, 1009 or 1001.
    pub fn need_text(&mut self, name: &str, chars_max: usize) -> Result<String, ApiError> {
        let text = self.text(name, chars_max)?;
        text.ok_or_else(|| self.missing(name))
    }

    /// Texts that may be there, of any length.
    ///
    /// # Errors
    /// 1009.
    pub fn texts(&mut self, names: &[&str]) -> Result<(), ApiError> {
        for name in names {
            self.text(name, usize::MAX)?;
        }
        Ok(())
    }

    /// An object. One of which nothing is filled in is as good as absent.
    ///
    /// # Errors
    /// 1009, or those of `read`.
    pub fn object<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&mut Self) -> Result<T, ApiError>,
    ) -> Result<Option<T>, ApiError> {
        match self.fields.object(name)? {
            Some(object) if !object.is_silent() => self.keep(name, object, read).map(Some),
            Some(_) | None => Ok(None),
        }
    }

    /// An object that must be there.
    ///
    /// # Errors
    /// 1008, 1009, or those of `read`.
    pub fn need_object<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&mut Self) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        let object = self.fields.need_object(name)?;
        self.keep(name, object, read)
    }

    /// A list of objects; an empty one is as good as absent. Answers how many there are.
    ///
    /// # Errors
    /// 1009, or those of `read`.
    pub fn list(
        &mut self,
        name: &str,
        read: impl FnMut(&mut Self) -> Result<(), ApiError>,
    ) -> Result<usize, ApiError> {
        match self.fields.list(name)? {
            Some(list) if !list.is_empty() => self.keep_all(name, list, read),
            Some(_) | None => Ok(0),
        }
    }

    /// A list of objects that must be there, and may be empty.
    ///
    /// # Errors
    /// 1008, 1009, or those of `read`.
    pub fn need_list(
        &mut self,
        name: &str,
        read: impl FnMut(&mut Self) -> Result<(), ApiError>,
    ) -> Result<usize, ApiError> {
        let list = self.fields.need_list(name)?;
        self.keep_all(name, list, read)
    }

    /// Reads an object by other means than these, and keeps what is left of it.
    ///
    /// # Errors
    /// 1008, 1009, or those of `read`.
    pub fn need_rest<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&mut Fields) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        let mut object = self.fields.need_object(name)?;
        let found = read(&mut object)?;
        self.kept.insert(name.to_owned(), object.into_rest().into());
        Ok(found)
    }

    /// A field says something.
    pub fn has(&self, name: &str) -> bool {
        self.fields.says(name)
    }

    /// Leaves a field out. The documentation says which ones.
    pub fn leave_out(&mut self, name: &str) {
        self.fields.value(name);
    }

    /// 1008: this field must be there.
    pub fn missing(&self, name: &str) -> ApiError {
        self.fields.missing(name)
    }

    /// 1009: this field must be something else.
    pub fn invalid(&self, name: &str, must_be: &str) -> ApiError {
        self.fields.invalid(name, must_be)
    }

    /// Another code for a field.
    pub fn refused(&self, code: Code, name: &str, why: &str) -> ApiError {
        ApiError::with(code, format!("{} {why}", self.path(name)))
    }

    /// Where a field of this object stands in the body.
    pub fn path(&self, name: &str) -> String {
        self.fields.path(name)
    }

    /// What was checked, and what was not looked at, without fields that say nothing.
    pub fn done(mut self) -> Map<String, Value> {
        self.kept.extend(self.fields.into_rest());
        self.kept
    }

    fn keep<T>(
        &mut self,
        name: &str,
        object: Fields,
        read: impl FnOnce(&mut Self) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        let mut draft = Self::of(object);
        let found = read(&mut draft)?;
        self.kept.insert(name.to_owned(), draft.done().into());
        Ok(found)
    }

    fn keep_all(
        &mut self,
        name: &str,
        list: List,
        mut read: impl FnMut(&mut Self) -> Result<(), ApiError>,
    ) -> Result<usize, ApiError> {
        let mut kept = Vec::with_capacity(list.len());
        for item in list.objects()? {
            let mut draft = Self::of(item);
            read(&mut draft)?;
            kept.push(Value::Object(draft.done()));
        }
        let count = kept.len();
        self.kept.insert(name.to_owned(), kept.into());
        Ok(count)
    }
}

/// Whether it is small and flat enough to be kept.
///
/// # Errors
/// 1001 when it is longer than [`LEN_MAX`], 1009 when it is deeper than [`DEPTH_MAX`].
pub fn fits(name: &str, value: &Value) -> Result<(), ApiError> {
    if depth(value) > DEPTH_MAX {
        let most = format!("{name} has objects and lists in each other, {DEPTH_MAX} deep at most");
        return Err(ApiError::invalid(most));
    }
    let length = value.to_string().len();
    match length <= LEN_MAX {
        true => Ok(()),
        false => Err(ApiError::with(
            Code::TooLong,
            format!("{name} has {length} bytes, {LEN_MAX} are allowed"),
        )),
    }
}

fn depth(value: &Value) -> usize {
    let below = match value {
        Value::Object(map) => map.values().map(depth).max(),
        Value::Array(items) => items.iter().map(depth).max(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return 0,
    };
    1 + below.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn nested(levels: usize) -> Value {
        (0..levels).fold(Value::Null, |inner, level| match level % 2 {
            0 => json!([inner]),
            _ => json!({ "x": inner }),
        })
    }

    /// Goal: what is kept can be stored and read again, however it was made. Method: at the bounds, and one beyond.
    #[test]
    fn what_is_too_deep_or_too_long_is_not_kept() {
        let code = |value| fits("interactive", &value).map_err(|error| error.code.number());
        assert_eq!(code(nested(DEPTH_MAX)), Ok(()));
        assert_eq!(code(nested(DEPTH_MAX + 1)), Err(1009));
        assert_eq!(code(json!("x".repeat(LEN_MAX - 2))), Ok(()));
        assert_eq!(code(json!("x".repeat(LEN_MAX - 1))), Err(1001));
    }

    /// Goal: nothing is lost but what says nothing. Method: an object with every kind of field, of which some are read.
    #[test]
    fn what_nobody_reads_is_kept() {
        let body = json!({"text": 7, "nothing": null, "empty": "", "object": {"a": 1, "b": null}, "silent": {"a": ""},
            "list": {"a": "x"}, "none": [], "unread": {"deep": [null, ""]}, "out": 1});
        let mut draft = Draft::of(Fields::parse(body.to_string().as_bytes()).expect("an object"));
        assert_eq!(draft.need_text("text", 1), Ok("7".into()));
        let object = draft.object("object", |object| object.need_text("a", 1));
        assert_eq!(object, Ok(Some("1".into())));
        assert_eq!(draft.object("silent", |_| Ok(())), Ok(None));
        assert_eq!(draft.list("list", |item| item.texts(&["a"])), Ok(1));
        assert_eq!(draft.list("none", |_| Ok(())), Ok(0));
        draft.leave_out("out");
        let kept = json!({"text": "7", "object": {"a": "1"}, "list": [{"a": "x"}], "unread": {"deep": [null, ""]}});
        assert_eq!(Value::Object(draft.done()), kept);
    }
}
