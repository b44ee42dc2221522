//! `/v1/account/shards`: how many shards the cluster has.
//! Types only: the primary master changes the count.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wa_core::shard_map::SHARD_COUNTS;

use super::Meta;
use crate::api::error::ApiError;

/// The answer of `GET /v1/account/shards`.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ShardsAnswer {
    pub account: Shards,
    pub meta: Meta,
}

/// `{"shards":4}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Shards {
    #[schema(example = 4)]
    pub shards: u16,
}

/// Reads `shards` of a `POST /v1/account/shards`: an integer, or a string as published samples send it.
pub fn wanted_shards(body: &serde_json::Value) -> Result<u16, ApiError> {
    let value = body
        .get("shards")
        .ok_or_else(|| ApiError::missing("shards"))?;
    let number = match value {
        serde_json::Value::String(text) => text.trim().parse().ok(),
        other => other.as_u64().and_then(|n| u16::try_from(n).ok()),
    };
    number
        .filter(|n| SHARD_COUNTS.contains(n))
        .ok_or_else(|| ApiError::invalid("shards must be 1, 2, 4, 8, 16 or 32"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn shards_may_be_a_number_or_a_string() {
        assert_eq!(wanted_shards(&json!({"shards": 4})), Ok(4));
        assert_eq!(wanted_shards(&json!({"shards": "32"})), Ok(32));
        assert_eq!(wanted_shards(&json!({})).unwrap_err().code, 1008);
        for bad in [json!(3), json!("x"), json!(-1), json!(70000), json!(null)] {
            assert_eq!(
                wanted_shards(&json!({ "shards": bad })).unwrap_err().code,
                1009
            );
        }
    }
}
