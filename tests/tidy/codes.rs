//! Error codes of the public API have names: their numbers stand in `agent/src/api/v1/code.rs`, and nowhere else in the program.
//! Held for those from 1001 on: the lower ones are numbers of everything.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex_lite::Regex;

use crate::{code, hold, is_test, root};

const HOME: &str = "agent/src/api/v1/code.rs";
/// Documented codes that are lengths and times elsewhere.
const LENGTHS: &[u32] = &[1024, 2000, 2048];

static NUMBER: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\b\d{4}\b").expect("a fixed pattern"));
static TEXT: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#""(?:[^"\\]|\\.)*""#).expect("a fixed pattern"));

/// The numbers of the table.
fn documented() -> BTreeSet<u32> {
    let text = std::fs::read_to_string(root().join(HOME)).expect("the table of codes");
    let row = Regex::new(r"(?m)^ {4}[A-Z]\w+ = (\d+), ").expect("a fixed pattern");
    let numbers = row.captures_iter(&text).map(|c| c[1].parse());
    numbers.map(|n| n.expect("digits")).collect()
}

static DOCUMENTED: LazyLock<BTreeSet<u32>> = LazyLock::new(documented);

/// Numbers of codes in the lines of a program. Tests beside the code, which come last in a file, may write them.
fn numbers(path: &str, text: &str) -> Vec<String> {
    if !path.starts_with("agent/src/") || path == HOME || is_test(path) {
        return Vec::new();
    }
    let program = text.split("#[cfg(test)]\nmod tests {").next();
    let mut bad = Vec::new();
    for (n, line) in code(program.unwrap_or_default()) {
        let line = TEXT.replace_all(line, "");
        let line = line.split("//").next().unwrap_or_default();
        let found = NUMBER.find_iter(line).map(|m| m.as_str().parse());
        for number in found.flatten() {
            if number > 1000 && DOCUMENTED.contains(&number) && !LENGTHS.contains(&number) {
                bad.push(format!("{path}:{n}: {number} has a name in {HOME}"));
            }
        }
    }
    bad
}

#[test]
fn codes_are_written_by_name() {
    assert!(DOCUMENTED.len() > 60, "{:?}", *DOCUMENTED);
    let bad = "let error = ApiError::with(1008, \"to\");";
    assert!(!numbers("agent/src/webapp/a.rs", bad).is_empty());
    for good in [
        "let text = \"answered 1008\"; // 1008",
        "const LEN_MAX: usize = 1024;",
        "#[cfg(test)]\nmod tests {\n    assert_eq!(code, 1008);",
    ] {
        assert!(numbers("agent/src/webapp/a.rs", good).is_empty(), "{good}");
    }
    hold(numbers);
}
