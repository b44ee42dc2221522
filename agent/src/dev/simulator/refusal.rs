//! Why a call is refused: the vendor's number, and what exactly is wrong.
//! Decides nothing: it is made by whoever finds the fault.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::codes::{self, Known};

/// Number and details.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub code: u32,
    pub why: String,
}

impl Refusal {
    pub fn new(code: u32, why: impl Into<String>) -> Self {
        let why = why.into();
        Self { code, why }
    }

    /// A code of the table, with words that say that it was asked for.
    pub fn played(known: &Known) -> Self {
        Self::new(known.code, "This recipient makes this error")
    }

    /// Not documented, or of another type.
    pub fn bad(why: &str) -> Self {
        Self::new(100, why)
    }

    pub fn missing(what: &str) -> Self {
        Self::new(131_008, format!("{what} is required"))
    }

    /// Against a documented limit or form.
    pub fn value(why: &str) -> Self {
        Self::new(131_009, why)
    }

    /// The token is not ours.
    pub fn token() -> Self {
        Self::new(190, "Invalid OAuth access token")
    }

    /// Nothing has this id.
    pub fn nothing(id: &str) -> Self {
        let id: String = id.chars().take(64).collect();
        Self::bad(&format!(
            "Unsupported request. Object with ID '{id}' does not exist, cannot be loaded due to missing permissions, or does \
             not support this operation"
        ))
    }

    fn title(&self) -> &'static str {
        codes::find(self.code).map_or("Something went wrong", |known| known.title)
    }

    fn status(&self) -> StatusCode {
        let known = codes::find(self.code).map_or(400, |known| known.http);
        StatusCode::from_u16(known).unwrap_or(StatusCode::BAD_REQUEST)
    }

    /// The body of an answer.
    pub fn body(&self) -> Value {
        json!({"error": {
            "message": format!("(#{}) {}", self.code, self.title()),
            "type": "OAuthException",
            "code": self.code,
            "error_data": {"messaging_product": "whatsapp", "details": self.why},
            "fbtrace_id": "AsimulatedTrace",
        }})
    }

    /// An item of `errors` in a `failed` status.
    pub fn item(&self) -> Value {
        json!({
            "code": self.code, "title": self.title(), "message": self.title(), "error_data": {"details": self.why},
            "href": "https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes/",
        })
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status(), Json(self.body())).into_response()
    }
}
