//! Aliases: numbers of ours that stand for customers who show none, for clients that take nothing but digits.
//! Gives none out and keeps none: `coreapp/aliases.rs` does, in the table of `db/alias.rs`.

/// No country has this code.
const PREFIX: &str = "999";
/// Digits by chance between the prefix and the check digit.
const CHANCE_LEN: usize = 11;
/// Digits of an alias.
const LEN: usize = PREFIX.len() + CHANCE_LEN + 1;

/// The alias of a number that chance gave.
pub fn of_chance(chance: u64) -> String {
    let digits = chance % 10u64.pow(u32::try_from(CHANCE_LEN).unwrap_or(0));
    let text = format!("{PREFIX}{digits:0>CHANCE_LEN$}");
    let check = check_digit(&text);
    format!("{text}{check}")
}

/// Digits that only an alias has, whether it is one or a mistyped one.
pub fn is_reserved(digits: &str) -> bool {
    digits.len() == LEN && digits.starts_with(PREFIX) && digits.bytes().all(|b| b.is_ascii_digit())
}

/// An alias: with the check digit that it must have.
pub fn is_alias(digits: &str) -> bool {
    is_reserved(digits)
        && digits
            .split_at_checked(LEN - 1)
            .is_some_and(|(text, check)| check == check_digit(text).to_string())
}

/// Luhn's: any wrong digit, and nearly all that changed places, make another one.
fn check_digit(text: &str) -> u32 {
    let digits = text.bytes().rev().map(|byte| u32::from(byte - b'0'));
    let sum: u32 = digits
        .enumerate()
        .map(|(at, digit)| match (at.is_multiple_of(2), digit) {
            (true, 5..) => digit * 2 - 9,
            (true, _) => digit * 2,
            (false, _) => digit,
        })
        .sum();
    (10 - sum % 10) % 10
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a mistyped alias is none, and no number is taken for one. Method: every wrong digit, neighbours that changed places,
    /// numbers.
    #[test]
    fn a_mistyped_alias_is_none() {
        // From the right, every other digit counts twice: 1·2, then 9, 9·2−9 and 9 make 29.
        assert_eq!(of_chance(1), "999000000000011");
        for chance in [0, 1, 12_345_678_901, u64::MAX] {
            let alias = of_chance(chance);
            assert!(is_alias(&alias) && is_reserved(&alias), "{alias}");
            for at in PREFIX.len()..LEN {
                let mut other = alias.clone().into_bytes();
                other[at] = b'0' + (other[at] - b'0' + 1) % 10;
                let other = String::from_utf8(other).expect("digits");
                assert!(!is_alias(&other) && is_reserved(&other), "{other}");
            }
        }
        for number in [
            "447700900123",
            "999",
            "99912345678901",
            "9991234567890123",
            "99a123456789012",
            "",
        ] {
            assert!(!is_reserved(number) && !is_alias(number), "{number}");
        }
    }
}
