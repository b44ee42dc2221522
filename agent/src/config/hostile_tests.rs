//! Goal: no text can panic the reader of the configuration, and whatever it refuses it names. Method: a hundred thousand
//! files: noise, and sections and keys that exist with values that do not fit.

use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::Config;

use super::read_text;

const SECTIONS: &[&str] = &[
    "cluster", "node", "database", "timers", "ports", "upstream", "webapp", "timer",
];
const KEYS: &[&str] = &[
    "name",
    "key_file",
    "fence",
    "exempt",
    "shards",
    "hostname",
    "zone",
    "weight",
    "urls",
    "profile",
    "lease_ttl",
    "drift",
    "heartbeat_interval",
    "hold_timeout",
    "offset",
    "heartbeat",
    "api",
    "version",
    "rate_per_second",
    "tls",
    "tls_names",
    "lease_tll",
];
const VALUES: &[&str] = &[
    "1",
    "-1",
    "70000",
    "1e999",
    "nan",
    "true",
    "\"1s\"",
    "\"1 s 5\"",
    "\"\"",
    "[]",
    "[\"a\"]",
    "[1, \"a\"]",
    "{}",
    "{ a = 1 }",
    "1979-05-27",
    "\"fast\"",
    "'x",
    "\"\\u0000\"",
    "99999999999999999999",
];

proptest! {
    #![proptest_config(Config { cases: 100_000, failure_persistence: None, ..Config::default() })]

    #[test]
    fn noise_is_refused_with_the_file(text in "\\PC{0,60}") {
        if let Err(error) = read_text(Path::new("some.toml"), &text) {
            prop_assert!(error.to_string().contains("some.toml"), "{}", error);
        }
    }

    #[test]
    fn wrong_values_are_refused_with_the_file(
        lines in proptest::collection::vec(
            (any::<bool>(), proptest::sample::select(SECTIONS), proptest::sample::select(KEYS), proptest::sample::select(VALUES)),
            0..5,
        )
    ) {
        let mut text = String::new();
        for (section, name, key, value) in lines {
            if section {
                text.push_str(&format!("[{name}]\n"));
            }
            text.push_str(&format!("{key} = {value}\n"));
        }
        if let Err(error) = read_text(Path::new("some.toml"), &text) {
            prop_assert!(error.to_string().contains("some.toml"), "{}", error);
        }
    }
}

/// Goal: what a fuzzing run found stays fixed. Method: the committed seeds of `tests/fuzz`.
#[test]
fn seeds_of_the_fuzzer_are_understood_or_refused_with_the_file() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus/config");
    let mut understood = 0;
    for entry in std::fs::read_dir(folder).expect("seeds").flatten() {
        let Ok(text) = std::fs::read_to_string(entry.path()) else {
            continue;
        };
        match read_text(Path::new("some.toml"), &text) {
            Ok(_) => understood += 1,
            Err(error) => assert!(error.to_string().contains("some.toml"), "{error}"),
        }
    }
    assert!(understood > 0, "no seed is a configuration");
}
