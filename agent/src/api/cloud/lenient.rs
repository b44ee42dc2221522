//! What a third party signed, made readable: what cannot be said in Unicode becomes U+FFFD, so that one bad character holds up
//! nothing (F04). Pure.
//! Understands no JSON beyond its texts: serde_json reads the rest, and refuses what is none.

/// Stands for what cannot be said.
const INSTEAD: char = '\u{FFFD}';
const BYTE_ORDER_MARK: char = '\u{FEFF}';
/// Escapes of two characters.
const SHORT: [&str; 8] = [r#"\""#, r"\\", r"\/", r"\b", r"\f", r"\n", r"\r", r"\t"];
/// Length of an escape `\u0000`.
const ESCAPE_LEN: usize = 6;

/// The call as text: bytes that are no UTF-8, halves of surrogate pairs, bare control characters in texts and backslashes that begin
/// no escape of JSON are replaced.
pub fn readable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_start_matches(BYTE_ORDER_MARK);
    let mut out = String::with_capacity(text.len());
    let (mut rest, mut inside) = (text, false);
    while let Some(first) = rest.chars().next() {
        let len = match (inside, first) {
            (true, '\\') => escape(rest, &mut out),
            (true, control) if control.is_control() && control.is_ascii() => {
                out.push(INSTEAD);
                1
            }
            (_, other) => {
                inside ^= other == '"';
                out.push(other);
                other.len_utf8()
            }
        };
        rest = &rest[len..];
    }
    out
}

/// Copies the escape at the beginning of `rest`, or what stands for it; says how many bytes it was.
fn escape(rest: &str, out: &mut String) -> usize {
    if let Some(short) = rest.get(..2).filter(|two| SHORT.contains(two)) {
        out.push_str(short);
        return short.len();
    }
    let Some(unit) = unit(rest) else {
        // What follows the backslash is text.
        out.push(INSTEAD);
        return 1;
    };
    let pair = rest.get(ESCAPE_LEN..).and_then(self::unit);
    match (unit, pair) {
        (0xD800..=0xDBFF, Some(0xDC00..=0xDFFF)) => {
            out.push_str(&rest[..2 * ESCAPE_LEN]);
            2 * ESCAPE_LEN
        }
        (0xD800..=0xDFFF, _) => {
            out.push(INSTEAD);
            ESCAPE_LEN
        }
        _ => {
            out.push_str(&rest[..ESCAPE_LEN]);
            ESCAPE_LEN
        }
    }
}

/// The unit of UTF-16 that an escape `\uXXXX` at the beginning names.
fn unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    let hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    hex.then(|| u16::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn body(bytes: &[u8]) -> Value {
        let text = readable(bytes);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Goal: one bad character is one bad character (F04). Method: every way in which a text is no Unicode, beside good ones.
    #[test]
    fn f04_what_is_no_unicode_is_replaced() {
        for (bytes, wanted) in [
            (&br#"{"b":"cut \ud83d"}"#[..], "cut \u{FFFD}"),
            (br#"{"b":"\ude00\ud83d"}"#, "\u{FFFD}\u{FFFD}"),
            (br#"{"b":"\ud83d\ud83d\ude00"}"#, "\u{FFFD}\u{1F600}"),
            (br#"{"b":"\ud83d\u0041"}"#, "\u{FFFD}A"),
            (br#"{"b":"\uD83D\uDE00 \\ud83d"}"#, "\u{1F600} \\ud83d"),
            (br#"{"b":"\\\ud83d\""}"#, "\\\u{FFFD}\""),
            (b"{\"b\":\"\xF0\x9F\x98\"}", "\u{FFFD}"),
            (b"{\"b\":\"a\xFFb\"}", "a\u{FFFD}b"),
            (b"{\"b\":\"a\nb\x00\"}", "a\u{FFFD}b\u{FFFD}"),
            (br#"{"b":"a\qb\u12"}"#, "a\u{FFFD}qb\u{FFFD}u12"),
            (br#"{"b":"\u12g4 \u"}"#, "\u{FFFD}u12g4 \u{FFFD}u"),
            (br#"{"b":"\/\b\f\n\r\t\"\\"}"#, "/\u{8}\u{c}\n\r\t\"\\"),
            (b"{\"b\":\"\\\xC3\xA9\"}", "\u{FFFD}\u{e9}"),
            (b"\xEF\xBB\xBF{\n\t\"b\": \"\\n\\u00e9\"}", "\n\u{e9}"),
        ] {
            assert_eq!(body(bytes), json!({ "b": wanted }), "{bytes:?}");
        }
    }

    /// Goal: numbers keep every digit (F04). Method: numbers that no machine word holds, out again as they came.
    #[test]
    fn f04_numbers_keep_every_digit() {
        let text = r#"{"a":123456789012345678901234567890,"b":1.10,"c":-0.30000000000000000001,"d":1e999}"#;
        let again = serde_json::to_string(&body(text.as_bytes())).expect("plain data");
        assert_eq!(again, text.replace("1e999", "1e+999"));
    }

    proptest! {
        /// Goal: good JSON stays what it says, and any bytes give a text. Method: texts of any characters; noise.
        #[test]
        fn good_json_is_left_alone(text in any::<String>()) {
            let written = json!({ "b": text }).to_string();
            prop_assert_eq!(readable(written.as_bytes()), written);
        }

        #[test]
        fn any_bytes_give_a_text(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = readable(&bytes);
        }

        /// Goal: whatever stands in a text, its neighbours are read. Method: noise without quotes, which ends no escape.
        #[test]
        fn neighbours_are_read(noise in proptest::collection::vec(any::<u8>(), 0..32)) {
            let noise: Vec<u8> = noise.into_iter().filter(|b| *b != b'"').collect();
            let bytes = [br#"{"a":""#, &noise[..], br#" ","b":1}"#].concat();
            prop_assert_eq!(&body(&bytes)["b"], &json!(1));
        }
    }
}
