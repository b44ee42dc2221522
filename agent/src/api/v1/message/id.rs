//! Ids of messages, of ours and of customers, as clients name them.
//! Knows no message.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

/// Longest message id that clients may name in a reply or a read mark, in bytes.
pub const MESSAGE_ID_LEN_MAX: usize = 256;

/// Random bytes in a new message id; all but six bits of them are kept.
pub const RANDOM_LEN: usize = 10;

/// A new message id: a UUID of version 7 behind the prefix that the reference client's ids have. It begins with the moment (ms of
/// the wall clock): so new rows stand together in the database's index of ids, and it stays quick when it is large. The moment
/// need not be right: nothing is ordered by it.
pub fn new_id(wall_ms: u64, random: &[u8; RANDOM_LEN]) -> String {
    let id = uuid::Builder::from_unix_timestamp_millis(wall_ms, random).into_uuid();
    format!("gBEG{}", BASE64_URL_SAFE_NO_PAD.encode(id.as_bytes()))
}

/// Whether a text can be the id of a message: printable, no blanks, of a sane length.
pub fn is_message_id(id: &str) -> bool {
    (1..=MESSAGE_ID_LEN_MAX).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::cloud::opaque;

    /// Goal: ids of one moment stand together, and no two are alike. Method: ids of seconds that follow each other, and of a year before;
    /// of one moment with two random parts that differ in one bit.
    #[test]
    fn ids_of_one_moment_stand_together() {
        let random = [0x5a; RANDOM_LEN];
        let at = 1_796_000_000_000;
        let (id, next, before) = (
            new_id(at, &random),
            new_id(at + 1000, &random),
            new_id(at - 31_536_000_000, &random),
        );
        assert_eq!(id[..9], next[..9]);
        assert_ne!(id[..9], before[..9]);
        let mut other = random;
        other[9] ^= 1;
        assert_ne!(id, new_id(at, &other));
        for id in [
            id,
            next,
            before,
            new_id(u64::MAX, &random),
            new_id(0, &random),
        ] {
            assert!(is_message_id(&id) && opaque::is_ours(&id), "{id}");
            assert_eq!(id.len(), 26);
        }
    }
}
