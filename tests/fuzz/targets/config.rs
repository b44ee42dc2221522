//! The reader of configuration files: no text panics it, and what it refuses it names with the file.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use wa_agent::config::read_text;

fuzz_target!(|text: &str| {
    if let Err(error) = read_text(Path::new("some.toml"), text) {
        assert!(error.to_string().contains("some.toml"), "{error}");
        assert!(!error.in_one_line().is_empty());
    }
});
