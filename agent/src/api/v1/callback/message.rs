//! A message of a customer, as the business is told of it.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::api::error::ErrorObject;

/// One entry of `messages`. What a type brings, and what is new, stands in `more` under its own name.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Message {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Seconds since 1970, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ErrorObject>,
    #[serde(flatten)]
    pub more: Map<String, Value>,
}
