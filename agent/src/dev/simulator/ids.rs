//! Ids of messages as the vendor's look: they hold when they were made, so that nothing must be remembered.
//! Ids that were not made here have no age.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// How every id begins.
const PREFIX: &str = "wamid.";
/// The first byte of what follows, before seconds since 1970 and a number.
const MARK: u8 = 0x1d;
const LEN: usize = 13;

/// An id; `number` makes it unique.
pub fn make(at_s: u64, number: u64) -> String {
    let seconds = u32::try_from(at_s).unwrap_or(u32::MAX).to_be_bytes();
    let mut bytes = vec![MARK];
    bytes.extend(seconds);
    bytes.extend(number.to_be_bytes());
    format!("{PREFIX}{}", BASE64_STANDARD.encode(bytes))
}

/// When it was made, in seconds since 1970; `None`: not here.
pub fn made_at_s(id: &str) -> Option<u64> {
    let bytes = BASE64_STANDARD.decode(id.strip_prefix(PREFIX)?).ok()?;
    let seconds: [u8; 4] = bytes.get(1..5)?.try_into().ok()?;
    (bytes.len() == LEN && bytes[0] == MARK).then(|| u64::from(u32::from_be_bytes(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_when_it_was_made() {
        assert_eq!(
            made_at_s(&make(1_893_456_000, u64::MAX)),
            Some(1_893_456_000)
        );
        assert_ne!(make(1, 1), make(1, 2));
        for foreign in [
            "",
            "wamid.",
            "wamid.A=",
            "wamid.HBgMNDQ3NzAwOTAwNDU2FQIAEhg=",
            "x",
        ] {
            assert_eq!(made_at_s(foreign), None, "{foreign}");
        }
    }
}
