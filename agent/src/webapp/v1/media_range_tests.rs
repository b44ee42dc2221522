//! Goal: no header `Range` panics its reader, asks for bytes that a file does not have, or for none. Method: a hundred thousand
//! headers, noise and nearly right ones, for files of every length; the right ones beside a reader of the test's own.

use axum::http::{HeaderMap, HeaderValue, header};
use proptest::prelude::*;

use super::Part;

fn asked(range: &[u8], length: u64) -> Option<Part> {
    let mut headers = HeaderMap::new();
    headers.insert(header::RANGE, HeaderValue::from_bytes(range).ok()?);
    Some(Part::of(&headers, length))
}

/// What is asked for lies in the file.
fn inside(range: &[u8], length: u64) {
    if let Some(Part::Of(first, last)) = asked(range, length) {
        assert!(first <= last && last < length, "{first}-{last} of {length}");
    }
}

const PIECES: &[&str] = &[
    "bytes=",
    "Bytes=",
    "items=",
    "bytes",
    "=",
    "-",
    "--",
    ",",
    ", ",
    " ",
    "0",
    "1",
    "7",
    "99",
    "100",
    "18446744073709551615",
    "18446744073709551616",
    "-1",
    "x",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 100_000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn parts_lie_in_the_file(noise in proptest::collection::vec(any::<u8>(), 0..12), pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..6),
                             length: u64, short in 0u64..100) {
        let nearly = pieces.concat();
        for length in [length, short] {
            inside(&noise, length);
            inside(nearly.as_bytes(), length);
        }
    }

    #[test]
    fn good_ranges_are_what_they_say(first in 0u64..120, last in 0u64..120, length in 0u64..100) {
        match asked(format!("bytes={first}-{last}").as_bytes(), length) {
            Some(Part::Of(from, to)) => {
                prop_assert!(first <= last && first < length);
                prop_assert_eq!((from, to), (first, last.min(length - 1)));
            }
            Some(Part::Whole) => prop_assert!(first > last, "{}-{} of {}", first, last, length),
            Some(Part::Nothing) => prop_assert!(first >= length || first > last, "{}-{} of {}", first, last, length),
            None => prop_assert!(false, "a header"),
        }
        match asked(format!("bytes=-{last}").as_bytes(), length) {
            Some(Part::Of(from, to)) => {
                prop_assert_eq!((from, to), (length.saturating_sub(last), length - 1));
            }
            Some(Part::Nothing | Part::Whole) => prop_assert!(last == 0 || length == 0 || last > length, "-{} of {}", last, length),
            None => prop_assert!(false, "a header"),
        }
    }
}
