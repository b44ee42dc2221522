//! The error object of the public API, and a failed call. Codes are in `v1/code.rs`.
//! Builds no HTTP response: `webapp/answer.rs` does.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::v1::Meta;
use super::v1::code::Code;

/// One entry of `errors`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorObject {
    #[schema(value_type = u16)]
    pub code: Code,
    #[schema(example = "Parameter value is not valid")]
    pub title: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub href: Option<String>,
}

impl ErrorObject {
    /// An object with the documented title.
    pub fn new(code: Code, details: Option<String>) -> Self {
        Self {
            code,
            title: code.title().to_owned(),
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
#[error("{code} {}{}", .code.title(), details.as_deref().map(|d| format!(": {d}")).unwrap_or_default())]
pub struct ApiError {
    pub code: Code,
    pub details: Option<String>,
    /// Instead of the code's status: 401 for credentials, 404/405/413 for what never reached a handler.
    pub status: Option<u16>,
    /// Seconds for `Retry-After`; answers with 503 and 429 carry 1 where nothing is said.
    pub retry_after_s: Option<u32>,
}

impl ApiError {
    /// An error with the code's usual status and no details.
    pub fn new(code: Code) -> Self {
        Self {
            code,
            details: None,
            status: None,
            retry_after_s: None,
        }
    }

    /// An error that says what exactly is wrong. Details go to the client: no internals, no secrets.
    pub fn with(code: Code, details: impl Into<String>) -> Self {
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
        Self::with(Code::AccessDenied, details).status(401)
    }

    /// 1008: a parameter that must be there is not.
    pub fn missing(parameter: &str) -> Self {
        Self::with(Code::ParameterMissing, parameter)
    }

    /// 1009: a parameter has a value that it must not have.
    pub fn invalid(details: impl Into<String>) -> Self {
        Self::with(Code::ParameterNotValid, details)
    }

    /// The HTTP status of the answer.
    pub fn http_status(&self) -> u16 {
        self.status.unwrap_or_else(|| self.code.http_status())
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
    fn body_has_the_documented_shape() {
        let body = serde_json::to_value(ApiError::with(Code::ParameterNotValid, "to").body())
            .expect("plain data");
        assert_eq!(
            body["errors"],
            serde_json::json!([{"code":1009,"title":"Parameter value is not valid","details":"to"}])
        );
        assert_eq!(body["meta"]["api_status"], "stable");
        let bare = serde_json::to_value(ApiError::new(Code::NotPrimaryCoreapp).body())
            .expect("plain data");
        assert!(bare["errors"][0].get("details").is_none());
        assert_eq!(ApiError::unauthorized("x").http_status(), 401);
    }
}
