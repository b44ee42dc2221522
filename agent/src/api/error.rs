//! Error codes of the public API: one table code → title → HTTP status, and the error object.
//! Builds no HTTP response: `webapp/answer.rs` does.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::v1::Meta;

/// One row of the table. `status` is `None` for codes that only arrive in a `failed` status.
struct Row(u16, &'static str, Option<u16>);

const ASYNC: Option<u16> = None;

/// Every documented code. Sorted, so that a lookup is a binary search; a test keeps it sorted.
#[rustfmt::skip]
const TABLE: &[Row] = &[
    Row(400, "Media download error", ASYNC),
    Row(402, "Business eligibility, payment issue", ASYNC),
    Row(408, "Message is not valid", ASYNC),
    Row(410, "Message expired", ASYNC),
    Row(429, "Rate limit hit", ASYNC),
    Row(430, "Unsigned certificate", ASYNC),
    Row(432, "Certificate ID mismatch", ASYNC),
    Row(433, "Certificate signature invalid", ASYNC),
    Row(470, "Re-engagement message", ASYNC),
    Row(471, "Spam rate limit hit", ASYNC),
    Row(472, "User's number is part of an experiment", ASYNC),
    Row(480, "User potentially changed", ASYNC),
    Row(500, "Generic error", ASYNC),
    Row(501, "Message type is not currently supported", ASYNC),
    Row(1000, "Generic error", Some(500)),
    Row(1001, "Message too long", Some(400)),
    Row(1002, "Invalid recipient type", Some(400)),
    Row(1003, "Not a group participant", Some(403)),
    Row(1004, "Resource already exists", Some(409)),
    Row(1005, "Access denied", Some(403)),
    Row(1006, "Resource not found", Some(404)),
    Row(1007, "Recipient blocked to receive message", Some(403)),
    Row(1008, "Required parameter is missing", Some(400)),
    Row(1009, "Parameter value is not valid", Some(400)),
    Row(1010, "Parameter is not required", Some(400)),
    Row(1011, "Service not ready", Some(503)),
    Row(1012, "Group is unknown", Some(404)),
    Row(1013, "User is not valid", Some(404)),
    Row(1014, "Internal error", Some(500)),
    Row(1015, "Too many requests", Some(429)),
    Row(1016, "System overloaded", Some(503)),
    Row(1017, "Not Primary Master", Some(503)),
    Row(1018, "Not Primary Coreapp", Some(503)),
    Row(1021, "Bad User", Some(400)),
    Row(1022, "Webhooks URL is not configured", Some(400)),
    Row(1023, "Database error occurred", Some(500)),
    Row(1024, "Password Change Required", Some(401)),
    Row(1025, "Invalid Request", Some(400)),
    Row(1026, "Receiver incapable", ASYNC),
    Row(1028, "user_identity_changed needs acknowledgement", Some(400)),
    Row(1031, "Sender account has been locked", Some(403)),
    Row(2000, "Template Param Count Mismatch", Some(400)),
    Row(2001, "Template Missing", Some(404)),
    Row(2002, "Template Fetch Failed", ASYNC),
    Row(2003, "Template Pack Missing", ASYNC),
    Row(2004, "Param Length Too Long", Some(400)),
    Row(2005, "Hydrated Text Too Long", Some(400)),
    Row(2006, "White Space Policy Violated", Some(400)),
    Row(2007, "Format Character Policy Violated", Some(400)),
    Row(2008, "Media Format Unsupported", Some(400)),
    Row(2009, "Required Component Missing", Some(400)),
    Row(2010, "Invalid Hydrated URL", Some(400)),
    Row(2011, "Invalid Phone Number", Some(400)),
    Row(2012, "Parameter Format Mismatch", Some(400)),
    Row(2013, "Buttons Unsupported", Some(400)),
    Row(2014, "Expected Namespace is Empty", Some(400)),
    Row(2015, "Invalid number of sections", Some(400)),
    Row(2016, "Invalid number of rows", Some(400)),
    Row(2017, "Character Policy Violated", Some(400)),
    Row(2036, "Invalid Header Structure", Some(400)),
    Row(2048, "Not engaged contact", Some(400)),
    Row(2050, "Missing Compliance Info", Some(400)),
    Row(2060, "Template Rejected", Some(400)),
    Row(2061, "Template Paused", Some(400)),
    Row(2062, "Template Disabled", Some(400)),
    Row(2068, "Flow is blocked", Some(400)),
    Row(2069, "Flow is throttled", Some(400)),
];

fn row(code: u16) -> Option<&'static Row> {
    TABLE
        .binary_search_by_key(&code, |row| row.0)
        .ok()
        .map(|index| &TABLE[index])
}

/// The documented title of a code; an unknown code is a generic error.
pub fn title(code: u16) -> &'static str {
    row(code).map_or("Generic error", |row| row.1)
}

/// The HTTP status of a code that the API answers; 500 for codes that only arrive asynchronously.
pub fn http_status(code: u16) -> u16 {
    row(code).and_then(|row| row.2).unwrap_or(500)
}

/// One entry of `errors`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorObject {
    #[schema(example = 1009)]
    pub code: u16,
    #[schema(example = "Parameter value is not valid")]
    pub title: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub href: Option<String>,
}

impl ErrorObject {
    /// An object with the documented title.
    pub fn new(code: u16, details: Option<String>) -> Self {
        Self {
            code,
            title: title(code).to_owned(),
            details,
            href: None,
        }
    }
}

/// The body of every failed call.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ErrorBody {
    pub errors: Vec<ErrorObject>,
    pub meta: Meta,
}

/// A failed call: what is wrong, in the API's words, and the HTTP status where it is not the code's usual one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code} {}{}", title(*.code), details.as_deref().map(|d| format!(": {d}")).unwrap_or_default())]
pub struct ApiError {
    pub code: u16,
    pub details: Option<String>,
    /// Instead of the table's status: 401 for credentials, 404/405/413 for what never reached a handler.
    pub status: Option<u16>,
    /// Seconds for `Retry-After`; answers with 503 and 429 carry 1 where nothing is said.
    pub retry_after_s: Option<u32>,
}

impl ApiError {
    /// An error with the code's usual status and no details.
    pub fn new(code: u16) -> Self {
        Self {
            code,
            details: None,
            status: None,
            retry_after_s: None,
        }
    }

    /// An error that says what exactly is wrong. Details go to the client: no internals, no secrets.
    pub fn with(code: u16, details: impl Into<String>) -> Self {
        Self {
            details: Some(details.into()),
            ..Self::new(code)
        }
    }

    /// The same with another HTTP status.
    pub fn status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// The same, asking the client to come back after `seconds`.
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// Missing, wrong or expired credentials: 1005 with HTTP 401.
    pub fn unauthorized(details: impl Into<String>) -> Self {
        Self::with(1005, details).status(401)
    }

    /// 1008: a parameter that must be there is not.
    pub fn missing(parameter: &str) -> Self {
        Self::with(1008, parameter)
    }

    /// 1009: a parameter has a value that it must not have.
    pub fn invalid(details: impl Into<String>) -> Self {
        Self::with(1009, details)
    }

    /// The HTTP status of the answer.
    pub fn http_status(&self) -> u16 {
        self.status.unwrap_or_else(|| http_status(self.code))
    }

    /// The body of the answer.
    pub fn body(&self) -> ErrorBody {
        ErrorBody {
            errors: vec![ErrorObject::new(self.code, self.details.clone())],
            meta: Meta::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_sorted_without_doubles_and_has_possible_statuses() {
        assert!(TABLE.windows(2).all(|pair| pair[0].0 < pair[1].0));
        for Row(code, title, status) in TABLE {
            assert!(!title.is_empty(), "{code}");
            assert!(status.is_none_or(|s| (400..600).contains(&s)), "{code}");
        }
    }

    #[test]
    fn documented_codes_have_their_titles_and_statuses() {
        for (code, text, status) in [
            (1005, "Access denied", 403),
            (1009, "Parameter value is not valid", 400),
            (1015, "Too many requests", 429),
            (1016, "System overloaded", 503),
            (1018, "Not Primary Coreapp", 503),
            (1024, "Password Change Required", 401),
        ] {
            assert_eq!((title(code), http_status(code)), (text, status));
        }
        assert_eq!(
            (title(999), http_status(999), http_status(470)),
            ("Generic error", 500, 500)
        );
    }

    #[test]
    fn body_has_the_documented_shape() {
        let body = serde_json::to_value(ApiError::with(1009, "to").body()).expect("plain data");
        assert_eq!(
            body["errors"],
            serde_json::json!([{"code":1009,"title":"Parameter value is not valid","details":"to"}])
        );
        assert_eq!(body["meta"]["api_status"], "stable");
        let bare = serde_json::to_value(ApiError::new(1018).body()).expect("plain data");
        assert!(bare["errors"][0].get("details").is_none());
        assert_eq!(ApiError::unauthorized("x").http_status(), 401);
    }
}
