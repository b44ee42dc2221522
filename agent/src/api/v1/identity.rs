//! `/v1/contacts/{wa_id}/identity`: a customer's key, and that the business acknowledges it.
//! Keeps nothing: `db/identity_key.rs` does.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Meta;
use super::fields::Fields;
use crate::api::error::ApiError;

/// A customer's key, in answers and callbacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Identity {
    /// False: the key changed, and messages to this customer are refused with 1028 until a `PUT`.
    pub acknowledged: bool,
    /// Since when it is the customer's key, in ms since 1970.
    #[schema(example = 1_893_456_000_000_u64)]
    pub created_timestamp: u64,
    #[schema(example = "Sjvjlx8G6Z0=")]
    pub hash: String,
}

/// The answer of `GET`.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct IdentityAnswer {
    pub identity: Identity,
    pub meta: Meta,
}

/// The body of `PUT`.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub struct IdentityRequest {
    /// The key that is acknowledged: the one that `GET` and the callback say.
    #[schema(example = "Sjvjlx8G6Z0=")]
    pub hash: String,
}

/// Reads the body of `PUT`.
///
/// # Errors
/// 1008 without a hash, 1009 where it is no text.
pub fn parse(body: &[u8]) -> Result<IdentityRequest, ApiError> {
    let hash = Fields::parse(body)?.need_text("hash")?;
    Ok(IdentityRequest { hash })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_has_a_hash() {
        let code = |body: &str| {
            let read = parse(body.as_bytes()).map(|read| read.hash);
            read.map_err(|error| error.code.number())
        };
        assert_eq!(code(r#"{"hash":"a="}"#), Ok("a=".to_owned()));
        assert_eq!(code("{}"), Err(1008));
        assert_eq!(code(r#"{"hash":[]}"#), Err(1009));
    }
}
