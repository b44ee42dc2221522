//! Files of customers at the upstream: what it says of one, that it has none, and digests as it writes them. Pure.
//! Fetches nothing: `coreapp/fetch.rs` does.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};
use serde::Deserialize;

use super::ErrorAnswer;

/// The upstream has a file of a customer for so long (API reference), in ms.
pub const INBOUND_KEEP_MS: u64 = 7 * 24 * 3600 * 1000;
/// Length of a digest, in bytes.
const DIGEST_LEN: usize = 32;
/// Nothing has this id, or a parameter names what is not there.
const NOTHING: [u32; 2] = [33, 100];

/// What the upstream says of a file that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// Where its bytes are, for five minutes.
    pub url: String,
    /// Empty: it does not say.
    pub mime: String,
    /// In hexadecimal, where it says one that can be read.
    pub sha256: Option<String>,
}

#[derive(Deserialize)]
struct Answer {
    url: String,
    #[serde(default)]
    mime_type: String,
    #[serde(default)]
    sha256: String,
}

impl About {
    /// Reads an answer.
    ///
    /// # Errors
    /// When it is none of the documented shape.
    pub fn read(body: &[u8]) -> Result<Self, serde_json::Error> {
        let answer: Answer = serde_json::from_slice(body)?;
        Ok(Self {
            url: answer.url,
            mime: answer.mime_type,
            sha256: digest(&answer.sha256),
        })
    }
}

/// A digest in hexadecimal: webhooks have it in Base64, answers in hexadecimal. `None`: it is none.
pub fn digest(text: &str) -> Option<String> {
    let text = text.trim();
    let hexadecimal = hex::decode(text).ok();
    let read = hexadecimal.filter(|bytes| bytes.len() == DIGEST_LEN);
    let read = read.or_else(|| BASE64_STANDARD.decode(text).ok());
    let read = read.or_else(|| BASE64_STANDARD_NO_PAD.decode(text).ok());
    let digest = read.filter(|bytes| bytes.len() == DIGEST_LEN)?;
    Some(hex::encode(digest))
}

/// Whether the answer to the question for a file says that there is none, or none any more.
pub fn is_gone(status: u16, body: &[u8]) -> bool {
    let nothing = || {
        let answer = serde_json::from_slice::<ErrorAnswer>(body);
        answer.is_ok_and(|answer| NOTHING.contains(&answer.error.code))
    };
    status == 404 || (status == 400 && nothing())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: one digest is one, however it is written. Method: the same bytes in each way, and what is no digest.
    #[test]
    fn digests_are_read_as_the_upstream_writes_them() {
        let bytes = [0xa5u8; DIGEST_LEN];
        let wanted = Some(hex::encode(bytes));
        assert_eq!(digest(&hex::encode(bytes)), wanted);
        assert_eq!(digest(&hex::encode_upper(bytes)), wanted);
        assert_eq!(digest(&BASE64_STANDARD.encode(bytes)), wanted);
        assert_eq!(digest(&BASE64_STANDARD_NO_PAD.encode(bytes)), wanted);
        for none in ["", "c2hh", "not a digest", &"a5".repeat(31)] {
            assert_eq!(digest(none), None, "{none}");
        }
    }

    /// Goal: a client is told that a file is gone only where the upstream says so. Method: answers of each sort.
    #[test]
    fn what_is_gone_is_told_from_trouble() {
        let answer = |code: u32| format!(r#"{{"error":{{"code":{code},"message":"m"}}}}"#);
        for (status, body, gone) in [
            (400, answer(100), true),
            (400, answer(33), true),
            (404, String::new(), true),
            (400, answer(131_000), false),
            (400, "{}".into(), false),
            (401, answer(190), false),
            (403, answer(100), false),
            (500, answer(100), false),
            (200, answer(100), false),
        ] {
            assert_eq!(is_gone(status, body.as_bytes()), gone, "{status} {body}");
        }
    }

    #[test]
    fn an_answer_needs_an_address_and_no_more() {
        let bare = About::read(br#"{"url":"https://x"}"#).expect("an address");
        assert_eq!((bare.mime.as_str(), bare.sha256), ("", None));
        assert!(About::read(br#"{"mime_type":"image/png"}"#).is_err());
    }
}
