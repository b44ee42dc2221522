//! `/v1/contacts/{wa_id}/block` and `/unblock`: who is meant, and what may stand in the body.
//! What the upstream is asked stands in `api/cloud/block.rs`.

use serde::Serialize;
use utoipa::ToSchema;

use super::fields::Fields;
use super::who::Recipient;
use crate::api::error::ApiError;

/// Why a customer is blocked, in words. It is not passed on.
#[derive(Debug, Serialize, ToSchema)]
pub struct BlockReason {
    pub reason: Option<String>,
}

/// Who is meant.
///
/// # Errors
/// 1009 for nobody, for the business itself, and for an id that stands for a customer of several businesses: the upstream
/// blocks no such id.
pub fn customer(written: &str, own: Option<&str>) -> Result<Recipient, ApiError> {
    let must_be = || ApiError::invalid("wa_id must be a phone number or a user id");
    let who = Recipient::parse(written).ok_or_else(must_be)?;
    let parent = |id: &str| id.split('.').nth(1) == Some("ENT") && id.split('.').count() > 2;
    match &who {
        Recipient::User(id) if parent(id) => Err(ApiError::invalid(
            "wa_id must not be a parent user id: WhatsApp blocks only the customer's id for this business",
        )),
        Recipient::Phone(digits) | Recipient::International(digits)
            if own == Some(digits.as_str()) =>
        {
            Err(ApiError::invalid(
                "wa_id must not be the business's own number",
            ))
        }
        Recipient::User(_) | Recipient::Phone(_) | Recipient::International(_) => Ok(who),
    }
}

/// Reads the body for what it may not be; the reason goes nowhere.
///
/// # Errors
/// 1025 for what is there and is no object.
pub fn check(body: &[u8]) -> Result<(), ApiError> {
    Fields::parse_optional(body).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: only whom the upstream can block is asked for. Method: every form of a path, and who it may not be.
    #[test]
    fn customers_are_told_from_others() {
        let of =
            |text: &str| customer(text, Some("447700900999")).map_err(|error| error.code.number());
        for good in [
            "+16315551000",
            "16315551000",
            "+44 (0)7700 900123",
            "US.13491208655302741918",
            "GB.ENT",
        ] {
            assert!(of(good).is_ok(), "{good}");
        }
        for bad in [
            "nobody",
            "447700900999",
            "+447700900999",
            "US.ENT.1349",
            "",
            "12",
        ] {
            assert_eq!(of(bad).map(drop), Err(1009), "{bad}");
        }
        assert!(check(b"").is_ok() && check(b" \r\n").is_ok());
        let long = format!(r#"{{"reason":"{}"}}"#, "x".repeat(5_000));
        assert!(check(long.as_bytes()).is_ok() && check(b"{\"reason\":7}").is_ok());
        assert_eq!(check(b"{").map_err(|error| error.code.number()), Err(1025));
    }
}
