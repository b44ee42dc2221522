//! Who a message is for: a phone number, or a user id of the upstream. An alias of ours reads as the number that it looks like; what
//! it stands for is not known here.

use serde::{Deserialize, Serialize};

use super::alias;
use super::message::form::Form;
use super::number::{Number, is_unseen};

/// A recipient, as it is stored and routed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Recipient {
    /// A phone number as it was typed, digits only. Whether it starts with a country code is not known.
    Phone(String),
    /// A phone number that was typed with `+` or `00`, digits only: it starts with its country code.
    International(String),
    /// A business-scoped user id (BSUID): the customer shows no number, or the client does not want to use it.
    User(String),
}

impl std::fmt::Debug for Recipient {
    // Recipients must not reach a log by way of a debug print.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Phone(_) => "Phone",
            Self::International(_) => "International",
            Self::User(_) => "User",
        })
    }
}

impl Recipient {
    /// Reads what a client wrote; `None`: nobody can be meant.
    pub fn parse(input: &str) -> Option<Self> {
        let text = input.trim_matches(is_unseen);
        if is_user_id(text) {
            return Some(Self::User(text.to_owned()));
        }
        let number = Number::parse(text)?;
        if alias::is_reserved(&number.digits) {
            // A mistyped one is nobody's, and must not become anybody's.
            return alias::is_alias(&number.digits).then_some(Self::Phone(number.digits));
        }
        Some(match number.international {
            true => Self::International(number.digits),
            false => Self::Phone(number.digits),
        })
    }

    /// The first form that can hold it. Older ones hold an international number, too, without the mark: [`Recipient::unmarked`].
    pub fn since(&self) -> Form {
        match self {
            Self::Phone(_) | Self::International(_) => Form::One,
            Self::User(_) => Form::Three,
        }
    }

    /// The same, without what is known of how it was typed: as forms of before know it, and as requests are compared.
    pub fn unmarked(&self) -> Self {
        match self {
            Self::Phone(digits) | Self::International(digits) => Self::Phone(digits.clone()),
            Self::User(id) => Self::User(id.clone()),
        }
    }

    /// Its text in the column `recipient`, in answers and callbacks; its hash decides the shard.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Phone(text) | Self::International(text) | Self::User(text) => text,
        }
    }

    /// It is an alias of ours: its digits.
    pub fn alias(&self) -> Option<&str> {
        match self {
            Self::Phone(digits) | Self::International(digits) => {
                alias::is_alias(digits).then_some(digits)
            }
            Self::User(_) => None,
        }
    }

    /// It is this number.
    pub fn is_phone(&self, digits: &str) -> bool {
        match self {
            Self::Phone(own) | Self::International(own) => own == digits,
            Self::User(_) => false,
        }
    }
}

/// `^[A-Z]{2}(\.ENT)?\.[A-Za-z0-9]{1,128}$`. What the upstream is given elsewhere than in its own field is never delivered,
/// so nothing else is taken for one.
pub fn is_user_id(text: &str) -> bool {
    let Some((country, rest)) = text.split_once('.') else {
        return false;
    };
    let own = rest.strip_prefix("ENT.").unwrap_or(rest);
    country.len() == 2
        && country.bytes().all(|byte| byte.is_ascii_uppercase())
        && (1..=128).contains(&own.len())
        && own.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(input: &str) -> Option<String> {
        let recipient = Recipient::parse(input)?;
        Some(serde_json::to_string(&recipient).expect("plain data"))
    }

    /// Goal (F25): a customer without a number can be written to, and nothing else is taken for a user id. Method: the
    /// documented pattern at its edges.
    #[test]
    fn user_ids_are_told_from_numbers_and_from_nothing() {
        let longest = format!("DE.{}", "a".repeat(128));
        for id in [
            "GB.1234567890123456",
            "US.ENT.aZ9",
            "GB.ENT",
            "XX.1",
            &longest,
        ] {
            let wanted = format!(r#"{{"user":"{id}"}}"#);
            assert_eq!(stored(id), Some(wanted.clone()));
            assert_eq!(stored(&format!("\u{202a} {id}\n")), Some(wanted));
        }
        let too_long = format!("DE.{}", "a".repeat(129));
        for nobody in [
            "gb.123456",
            "GBR.123456",
            "G.123456",
            "GB.",
            "GB..1",
            "GB.ENT.",
            "GB.ENT.ENT.1",
            "GB.12-34",
            "GB.12 34",
            "GB 123456",
            "GB:123456",
            "GB.ü",
            "GB.1.2",
            "nobody",
            &too_long,
        ] {
            assert_eq!(stored(nobody), None, "{nobody}");
        }
    }

    #[test]
    fn aliases_are_read_and_mistyped_ones_are_not() {
        let alias = alias::of_chance(12_345_678_901);
        for typed in [
            alias.clone(),
            format!("+{alias}"),
            format!("{} {}", &alias[..5], &alias[5..]),
        ] {
            let found = Recipient::parse(&typed);
            assert_eq!(
                found.as_ref().and_then(Recipient::alias),
                Some(&*alias),
                "{typed}"
            );
        }
        let wrong = alias::of_chance(12_345_678_902);
        let wrong = format!("{}{}", &wrong[..14], &alias[14..]);
        assert!(Recipient::parse(&wrong).is_none());
        assert!(Recipient::parse("447700900123").is_some_and(|to| to.alias().is_none()));
    }

    #[test]
    fn how_a_number_was_typed_is_kept_and_can_be_left_out() {
        let plain = r#"{"phone":"447700900123"}"#.to_owned();
        assert_eq!(stored("44 7700 900123"), Some(plain.clone()));
        for typed in ["+44 (0)7700 900123", "00447700900123"] {
            let marked = r#"{"international":"447700900123"}"#.to_owned();
            assert_eq!(stored(typed), Some(marked));
            let unmarked = Recipient::parse(typed).expect("a number").unmarked();
            assert_eq!(serde_json::to_string(&unmarked).ok(), Some(plain.clone()));
        }
        assert!(Recipient::parse("+447700900123").is_some_and(|to| to.is_phone("447700900123")));
        assert!(Recipient::parse("GB.1").is_some_and(|to| !to.is_phone("1")));
    }
}
