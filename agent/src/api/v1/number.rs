//! Phone numbers as people paste them: which characters count, and which do not.
//! Makes no other number of one: nobody here guesses a country code that is missing.

use icu_properties::props::{Dash, DefaultIgnorableCodePoint, GeneralCategory, WhiteSpace};
use icu_properties::{CodePointMapData, CodePointSetData};

/// Fewest and most digits of a number (E.164 allows 15; short codes start at 5).
const DIGITS_LEN: std::ops::RangeInclusive<usize> = 5..=15;
/// What may stand in front of a number.
const SCHEMES: [&str; 2] = ["tel:", "whatsapp:"];
/// Italy, San Marino and the Vatican: the zero is part of the number there, also behind the country code.
const ZERO_STAYS: [&str; 3] = ["39", "378", "379"];
/// Country codes of two digits (E.164). Those of one digit are 1 and 7; all others have three.
const TWO_DIGITS: &[&str] = &[
    "20", "27", "30", "31", "32", "33", "34", "36", "39", "40", "41", "43", "44", "45", "46", "47",
    "48", "49", "51", "52", "53", "54", "55", "56", "57", "58", "60", "61", "62", "63", "64", "65",
    "66", "81", "82", "84", "86", "90", "91", "92", "93", "94", "95", "98",
];

/// A phone number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Number {
    /// Digits only. A national number keeps the zero that it starts with.
    pub digits: String,
    /// It was typed with `+` or `00`: it starts with its country code.
    pub international: bool,
}

/// What is left of a pasted text once everything that means nothing is gone.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    Digit(char),
    Plus,
    Open,
    Close,
}

impl Number {
    /// Reads what a client wrote; `None`: it is no phone number.
    pub fn parse(input: &str) -> Option<Self> {
        let mut rest = without_scheme(input.trim_start_matches(is_unseen)).chars();
        let mut marks = Vec::new();
        // More than one plus and one zero in brackets are never needed.
        while let Some(character) = rest.find(|c| !is_ignored(*c)) {
            marks.push(mark(character)?);
            if marks.len() > 4 * DIGITS_LEN.end() {
                return None;
            }
        }
        let digits_before_plus = marks.iter().take_while(|mark| **mark != Mark::Plus);
        let plus = match marks.iter().filter(|mark| **mark == Mark::Plus).count() {
            0 => false,
            1 if !digits_before_plus.into_iter().any(|m| m.digit().is_some()) => true,
            _ => return None,
        };
        let (before, after) = split_at_zero(&marks);
        let zeros = if plus { "" } else { "00" };
        let code = before.strip_prefix(zeros).unwrap_or(&before);
        let digits = match after {
            None => before.clone(),
            Some(after) if is_country_code(code) && !ZERO_STAYS.contains(&code) => {
                format!("{before}{after}")
            }
            Some(after) => format!("{before}0{after}"),
        };
        let international = plus || digits.starts_with("00");
        let digits = match plus {
            true => digits,
            false => digits.strip_prefix("00").unwrap_or(&digits).to_owned(),
        };
        // No country code starts with a zero.
        let possible = !(international && digits.starts_with('0'));
        (possible && DIGITS_LEN.contains(&digits.len())).then_some(Self {
            digits,
            international,
        })
    }
}

impl Mark {
    fn digit(self) -> Option<char> {
        match self {
            Self::Digit(digit) => Some(digit),
            Self::Plus | Self::Open | Self::Close => None,
        }
    }
}

/// The digits before the first `(0)` and those after it; all of them, and `None`, where there is none.
fn split_at_zero(marks: &[Mark]) -> (String, Option<String>) {
    let digits = |marks: &[Mark]| marks.iter().filter_map(|mark| mark.digit()).collect();
    let zero = [Mark::Open, Mark::Digit('0'), Mark::Close];
    match marks.windows(zero.len()).position(|three| three == zero) {
        Some(at) => (
            digits(&marks[..at]),
            Some(digits(&marks[at + zero.len()..])),
        ),
        None => (digits(marks), None),
    }
}

fn without_scheme(text: &str) -> &str {
    let is_of = |scheme: &&&str| {
        let start = text.get(..scheme.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    match SCHEMES.iter().find(is_of) {
        Some(scheme) => &text[scheme.len()..],
        None => text,
    }
}

fn mark(character: char) -> Option<Mark> {
    match character {
        '+' | '\u{ff0b}' | '\u{fe62}' => Some(Mark::Plus),
        '(' | '[' | '\u{ff08}' | '\u{ff3b}' => Some(Mark::Open),
        ')' | ']' | '\u{ff09}' | '\u{ff3d}' => Some(Mark::Close),
        other => digit(other).map(Mark::Digit),
    }
}

/// The decimal digit that a character of any script stands for. Unicode promises that the ten of a script follow each other,
/// so that its value is how many stand before it, less whole tens of other scripts.
fn digit(character: char) -> Option<char> {
    if character.is_ascii() {
        return character.is_ascii_digit().then_some(character);
    }
    let categories = CodePointMapData::<GeneralCategory>::new();
    let is_digit = |point: &u32| categories.get32(*point) == GeneralCategory::DecimalNumber;
    let point = u32::from(character);
    if !is_digit(&point) {
        return None;
    }
    let before = (0..point).rev().take_while(is_digit).count();
    char::from_digit(u32::try_from(before % 10).ok()?, 10)
}

fn is_ignored(character: char) -> bool {
    match character {
        '.' | '/' | '\u{ff0e}' | '\u{ff0f}' => true,
        other => is_unseen(other) || CodePointSetData::new::<Dash>().contains(other),
    }
}

/// Blanks of every kind, and characters that nobody sees: marks of direction, joiners, a byte order mark.
pub fn is_unseen(character: char) -> bool {
    CodePointSetData::new::<WhiteSpace>().contains(character)
        || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(character)
        || CodePointMapData::<GeneralCategory>::new().get(character) == GeneralCategory::Format
}

fn is_country_code(digits: &str) -> bool {
    match digits.as_bytes() {
        [b'1' | b'7'] => true,
        [_, _] => TWO_DIGITS.contains(&digits),
        [b'2'..=b'6' | b'8' | b'9', _, _] => !TWO_DIGITS.contains(&&digits[..2]),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(input: &str) -> Option<(String, bool)> {
        Number::parse(input).map(|number| (number.digits, number.international))
    }

    /// Goal (F16): what people paste is the number that they mean. Method: one of each kind, with what it must become.
    #[test]
    fn numbers_are_read_as_people_paste_them() {
        #[rustfmt::skip]
        let table = [
            ("447700900123", "447700900123", false),
            ("+44 7700 900123", "447700900123", true),
            ("0044-7700-900123", "447700900123", true),
            ("(+44) 7700.900/123", "447700900123", true),
            ("(44) 7700.900/123", "447700900123", false),
            ("\u{202a}+447700900123\u{202c}", "447700900123", true),
            ("\u{feff}+44\u{200b}7700\u{2060}900123", "447700900123", true),
            ("+44\u{a0}7700\u{202f}900\u{3000}123\t\n", "447700900123", true),
            ("+44\u{2010}7700\u{2011}900\u{2013}1\u{2014}2\u{2212}3", "447700900123", true),
            ("\u{ff0b}\u{ff14}\u{ff14}\u{ff08}7700\u{ff09}900123", "447700900123", true),
            ("+٤٤٧٧٠٠٩٠٠١٢٣", "447700900123", true),
            ("०७७०० ९००१२३", "07700900123", false),
            ("\u{1d7d7}\u{1d7d8}\u{1d7e1}\u{1d7e2}12345", "909012345", false),
            ("tel:+44-7700-900123", "447700900123", true),
            ("TEL: 07700 900123", "07700900123", false),
            ("whatsapp:+447700900123", "447700900123", true),
            ("07700 900123", "07700900123", false),
            ("+44 (0)7700 900123", "447700900123", true),
            ("+44 ( 0 ) 7700 900123", "447700900123", true),
            ("0044 [0] 7700 900123", "447700900123", true),
            ("44(0)7700900123", "447700900123", false),
            ("(+49)(0)30 123456", "4930123456", true),
            ("+353 (0)1 2345678", "35312345678", true),
            ("+39 (0)6 1234567", "39061234567", true),
            ("0039 (0)6 1234567", "39061234567", true),
            ("+378 (0)549 123456", "3780549123456", true),
            ("+379 (0)6 12345", "37906 12345", true),
            ("(0)7700 900123", "07700900123", false),
            ("(07700) 900123", "07700900123", false),
            ("030 (0) 123456", "0300123456", false),
            ("011 44 7700 900123", "011447700900123", false),
            ("12345", "12345", false),
            ("+1 (415) 555-0100", "14155550100", true),
        ];
        for (input, digits, international) in table {
            let wanted = (digits.replace(' ', ""), international);
            assert_eq!(read(input), Some(wanted), "{input:?}");
        }
    }

    #[test]
    fn what_is_no_number_is_not_made_one() {
        #[rustfmt::skip]
        let table = [
            "", " ", "+", "\u{202a}\u{202c}", "tel:", "1234", "+1234", "1234567890123456", "+1234567890123456",
            "44770090a123", "+44 7700 900123 ext 4", "+44 7700 900123;ext=4", "+447700900123x4", "+44 7700 900123#4",
            "++447700900123", "+44+7700900123", "447700900123+", "+0447700900123", "+00447700900123", "000447700900123",
            "GB.1234567890", "447700900123@c.us", "mailto:447700900123", "tel:tel:447700900123", "whatsapp://447700900123x",
            "44770090012\u{bd}", "44770090012\u{b2}", "4477009001\u{1}23", "\u{4e00}\u{4e8c}\u{4e09}\u{56db}\u{4e94}",
        ];
        for input in table {
            assert_eq!(read(input), None, "{input:?}");
        }
        assert_eq!(read(&"(".repeat(100_000)), None);
        assert_eq!(read(&"\u{202a}".repeat(100_000)), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]

        /// Goal: no text panics it, and what it makes is digits. Method: noise of characters that mean something.
        #[test]
        fn any_text_is_a_number_or_none(input in "[0-9+() \u{202a}٠-٩\u{ff10}-\u{ff19}.a]{0,24}|\\PC{0,24}") {
            if let Some(number) = Number::parse(&input) {
                prop_assert!(DIGITS_LEN.contains(&number.digits.len()));
                prop_assert!(number.digits.bytes().all(|byte| byte.is_ascii_digit()));
                prop_assert!(!(number.international && number.digits.starts_with('0')));
                prop_assert_eq!(Number::parse(&number.digits).map(|n| n.digits), Some(number.digits));
            }
        }

        /// Goal: what nobody sees changes nothing. Method: the same digits with such characters strewn in.
        #[test]
        fn unseen_characters_change_nothing(digits in "[1-9][0-9]{5,13}", unseen in "[\u{202a}-\u{202e}\u{200b}-\u{200f}\u{a0}\u{2009}\u{2010}-\u{2015} .\\-]{1}") {
            let strewn: String = digits.chars().flat_map(|c| [c.to_string(), unseen.clone()]).collect();
            prop_assert_eq!(Number::parse(&strewn), Number::parse(&digits));
        }
    }
}
