//! Ids of customers' messages in the form and length that the reference client gave them, for clients that cannot keep longer ones.
//! Keeps none: the map of ids does (`db/message_id.rs`), which leads back to the upstream's.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

const PREFIX: &str = "ABGG";
/// Characters behind the prefix: 16 bytes in base64.
const REST_LEN: usize = 22;

/// The short id of an id of the upstream: the same at every time, on every node.
pub fn short(upstream_id: &str) -> String {
    let digest = Sha256::digest(upstream_id);
    format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(&digest[..16]))
}

/// An id of this form.
pub fn is_short(id: &str) -> bool {
    id.strip_prefix(PREFIX).is_some_and(|rest| {
        rest.len() == REST_LEN
            && rest
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::cloud::opaque::is_ours;
    use crate::api::v1::message::is_message_id;

    #[test]
    fn short_ids_have_a_form_of_their_own() {
        let id = short("wamid.HBgLNDQ3NzAwOTAwMTIzFQIAERgSQjZDQzA1Rjg2OTlBM0Y5MjIA");
        assert_eq!(id.len(), 26);
        assert!(is_short(&id) && is_message_id(&id) && !is_ours(&id), "{id}");
        assert_ne!(id, short("wamid.A"));
        for other in [
            "wamid.A",
            "gBEGkYaYVSEEAgnZxQ3JmKK6Ww",
            "ABGG",
            "ABGGFlA5FpafAgo6tHcNmNjXmuSf",
        ] {
            assert!(!is_short(other), "{other}");
        }
    }
}
