//! Goal: nothing that a stranger sends before a login can panic a reader or be half understood. Method: a hundred thousand headers
//! and names each, noise and nearly right ones; the seeds of the fuzzer.

use axum::http::{HeaderMap, HeaderValue, header};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use proptest::prelude::*;
use proptest::test_runner::Config;

use super::auth::{basic, credentials, signature};
use super::console::{is_foreign, tongue};
use crate::api::v1::block::customer;
use crate::net::health::wants_openmetrics;

fn cases() -> Config {
    Config {
        cases: 100_000,
        failure_persistence: None,
        ..Config::default()
    }
}

fn signed(value: &[u8]) -> Option<usize> {
    let mut headers = HeaderMap::new();
    headers.insert("x-hub-signature-256", HeaderValue::from_bytes(value).ok()?);
    signature(&headers).map(|found| found.0.len())
}

/// A name in a path, as the router decodes it.
fn named(text: &str) {
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8();
    let Ok(name) = decoded else { return };
    match customer(&name, None) {
        Ok(who) => assert!(who.as_str().len() <= 200 && !who.as_str().is_empty()),
        Err(error) => assert_eq!(error.code.number(), 1009),
    }
}

/// What a browser says, read as each of the heads that it could stand in.
fn said(value: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(value) else {
        return;
    };
    let of = |name| HeaderMap::from_iter([(name, value.clone())]);
    for name in [header::COOKIE, header::ACCEPT_LANGUAGE] {
        assert!(["en", "ar", "qps"].contains(&tongue(&of(name)).tag()));
    }
    let mut headers = of(header::ORIGIN);
    headers.insert(header::HOST, HeaderValue::from_static("wa.example"));
    assert!(is_foreign(&headers) || value.as_bytes().ends_with(b"://wa.example"));
    let _ = wants_openmetrics(&of(header::ACCEPT));
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn credentials_are_whole_or_none(name in "[^:]{0,12}", password in ".{0,12}", noise in ".{0,24}") {
        let encoded = BASE64_STANDARD.encode(format!("{name}:{password}"));
        prop_assert_eq!(basic(&encoded), Some((name, password)));
        if let Some((name, _)) = basic(&noise) {
            prop_assert!(!name.contains(':'));
        }
    }

    #[test]
    fn credentials_stand_behind_their_scheme(noise in proptest::collection::vec(any::<u8>(), 0..12), visible in proptest::collection::vec(0x21u8..0x7f, 1..12),
                                             scheme in proptest::sample::select(&["Bearer ", "bearer  ", "BASIC ", "basic", " Basic ", "Digest ", ""][..])) {
        let nearly = [scheme.as_bytes(), &noise].concat();
        let good = String::from_utf8(visible).expect("visible");
        for value in [&noise, &nearly] {
            let Ok(value) = HeaderValue::from_bytes(value) else { continue };
            for scheme in ["Bearer", "Basic"] {
                let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value.clone())]);
                let Some(found) = credentials(&headers, scheme) else { continue };
                let text = value.to_str().expect("what was read is text");
                prop_assert!(text.to_ascii_lowercase().starts_with(&scheme.to_ascii_lowercase()));
                prop_assert!(text.ends_with(found) || text.trim_end().ends_with(found));
            }
        }
        let value = HeaderValue::try_from(format!("bearer {good}")).expect("visible");
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value)]);
        prop_assert_eq!(credentials(&headers, "Bearer"), Some(good.as_str()));
        prop_assert_eq!(credentials(&headers, "Basic"), None);
    }

    #[test]
    fn signatures_are_whole_or_none(noise in proptest::collection::vec(any::<u8>(), 0..80), good in "(sha256=)?[0-9a-fA-Fx]{0,66}") {
        for value in [noise.as_slice(), good.as_bytes()] {
            if let Some(length) = signed(value) {
                prop_assert!(value.starts_with(b"sha256=") && 7 + 2 * length == value.len());
            }
        }
    }

    #[test]
    fn names_in_paths_are_somebody_or_refused(noise in ".{0,24}", nearly in "(%2B|\\+|%20|[0-9A-Z.]|%[0-9a-f]{2}){0,20}") {
        named(&noise);
        named(&nearly);
    }
}

proptest! {
    // Each case is read in four heads, which takes four times as long.
    #![proptest_config(Config { cases: 25_000, ..cases() })]

    #[test]
    fn what_browsers_say_is_read(noise in proptest::collection::vec(any::<u8>(), 0..40), nearly in "(https?)?:?/{0,2}(wa\\.example|null|[a-z.:]{0,6}){0,2}",
                                 cookie in "(wa-language=(ar|en|qps)?|[a-z]=\"?|; ?){0,6}", accept in "(application/openmetrics-text|text/plain|;q=[0-9.e-]{0,4}|, ?){0,6}") {
        for value in [noise.as_slice(), nearly.as_bytes(), cookie.as_bytes(), accept.as_bytes()] {
            said(value);
        }
    }
}

/// Goal: what a fuzzing run found stays fixed.
#[test]
fn seeds_of_the_fuzzer_are_whole_or_refused() {
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    let folders = ["door", "browser"].map(|name| corpus.join(name));
    let seeds = folders.map(|folder| std::fs::read_dir(folder).expect("seeds"));
    let mut count = 0;
    for entry in seeds.into_iter().flatten().flatten() {
        let bytes = std::fs::read(entry.path()).expect("a seed");
        let _ = signed(&bytes);
        said(&bytes);
        if let Ok(text) = std::str::from_utf8(&bytes) {
            let _ = basic(text);
            named(text);
        }
        count += 1;
    }
    assert!(count > 9, "{count} seeds");
}
