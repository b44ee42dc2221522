//! Texts.

use serde_json::{Value, json};

use crate::api::v1::message::text::Text;

/// The object `text`.
pub fn object(text: &Text, preview_url: bool) -> Value {
    json!({"preview_url": preview_url, "body": text.body})
}
