//! `/v1/account/shards`: how many shards the cluster has.
//! Types only: the primary master changes the count.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wa_core::shard_map::SHARD_COUNTS;

use super::Meta;
use super::fields::Fields;
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
pub fn wanted_shards(body: &mut Fields) -> Result<u16, ApiError> {
    let wrong = || ApiError::invalid("shards must be 1, 2, 4, 8, 16 or 32");
    let number = body.whole("shards", 1..=32).map_err(|_| wrong())?;
    let number = number.ok_or_else(|| body.missing("shards"))?;
    let number = u16::try_from(number).ok();
    number
        .filter(|n| SHARD_COUNTS.contains(n))
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn shards_may_be_a_number_or_a_string() {
        let read = |body: serde_json::Value| {
            let mut body = Fields::parse(body.to_string().as_bytes()).expect("an object");
            wanted_shards(&mut body).map_err(|error| error.code.number())
        };
        assert_eq!(read(json!({"shards": 4})), Ok(4));
        assert_eq!(read(json!({"shards": "32"})), Ok(32));
        for missing in [json!({}), json!({"shards": null}), json!({"shards": ""})] {
            assert_eq!(read(missing), Err(1008));
        }
        for bad in [
            json!(3),
            json!(0),
            json!("x"),
            json!(-1),
            json!(70000),
            json!([4]),
        ] {
            assert_eq!(read(json!({ "shards": bad })), Err(1009));
        }
    }
}
