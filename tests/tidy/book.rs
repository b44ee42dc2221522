//! The rule book: every promise, rule, step and attack that a source names exists in `agent/DESIGN.md` or
//! `agent/ATTACKS.md`, and every source file or document that a comment names exists. Judges no rule's content.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex_lite::Regex;

use crate::{Source, files, root};

/// What a source may point at.
struct Book {
    /// `S1`, `L4`.
    promises: BTreeSet<String>,
    /// `5.3`.
    rules: BTreeSet<String>,
    /// Steps of a promotion: `2`.
    steps: BTreeSet<String>,
    /// Sections of the design: `8`.
    sections: BTreeSet<String>,
    attacks: BTreeSet<String>,
}

impl Book {
    fn read(design: &str, attacks: &str) -> Self {
        let all = |text: &str, pattern: &str| {
            let pattern = Regex::new(pattern).expect("a fixed pattern");
            let found = pattern.captures_iter(text).map(|c| c[1].to_owned());
            found.collect()
        };
        Self {
            promises: all(design, r"(?m)^- \*\*([SL]\d)\*\*"),
            rules: all(design, r"(?m)^- \*\*Rule (\d+\.\d+)\*\*"),
            steps: all(design, r"(?m)^- \*\*Promotion (\d)\*\*"),
            sections: all(design, r"(?m)^## (\d+)\. "),
            attacks: all(attacks, r"(?m)^- \*\*Attack (\d+):"),
        }
    }

    fn of_the_house() -> Self {
        let read = |name: &str| {
            std::fs::read_to_string(root().join(name))
                .unwrap_or_else(|e| panic!("{name} cannot be read: {e}"))
        };
        Self::read(&read("agent/DESIGN.md"), &read("agent/ATTACKS.md"))
    }
}

/// A list of numbers as in `rules 5.3, 5.5 and 5.9` or `attacks 13/14`.
const NUMBERS: &str = r"(\d+(?:\.\d+)?(?:(?:, | and | or | to |/|–)\d+(?:\.\d+)?)*)\b";

static NUMBER: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\d+(?:\.\d+)?").expect("a fixed pattern"));

/// A kind of reference: its pattern, the set it must be in, and where to look.
type Kind = (Regex, fn(&Book) -> &BTreeSet<String>, &'static str);

static KINDS: LazyLock<Vec<Kind>> = LazyLock::new(|| {
    let named = |word: &str| Regex::new(&format!("{word}{NUMBERS}")).expect("a fixed pattern");
    vec![
        (
            named(r"\b[Rr]ules? "),
            |book| &book.rules,
            "rules of agent/DESIGN.md",
        ),
        (
            named(r"\b[Aa]ttacks? "),
            |book| &book.attacks,
            "attacks of agent/ATTACKS.md",
        ),
        (
            named(r"\b[Pp]romotion "),
            |book| &book.steps,
            "steps of agent/DESIGN.md, section 7",
        ),
        (
            named(r"\b[Dd]esign,? (?:§ ?)?"),
            |book| &book.sections,
            "sections of agent/DESIGN.md",
        ),
    ]
});

static PROMISE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\b([SL]\d)\b").expect("a fixed pattern"));

/// Complaints about references that lead nowhere.
fn references(path: &str, text: &str, book: &Book) -> Vec<String> {
    let mut complaints = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        for (pattern, set, place) in KINDS.iter() {
            let lists = pattern.captures_iter(line).map(|c| c[1].to_owned());
            for list in lists {
                for found in NUMBER.find_iter(&list) {
                    if !set(book).contains(found.as_str()) {
                        complaints.push(format!(
                            "{path}:{number}: `{}` is none of the {place}",
                            found.as_str()
                        ));
                    }
                }
            }
        }
        for found in PROMISE.captures_iter(line) {
            if !book.promises.contains(&found[1]) {
                complaints.push(format!(
                    "{path}:{number}: `{}` is none of the promises of agent/DESIGN.md",
                    &found[1]
                ));
            }
        }
    }
    complaints
}

static COMMENT: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?:^|\s)(?://[/!]?|#|--)\s(.*)$").expect("a fixed pattern"));
static FILE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?:^|[\s`(])([A-Za-z0-9_./{},-]*[A-Za-z0-9_{}-]\.(?:rs|md|sql|bpf\.c|h))\b")
        .expect("a fixed pattern")
});

/// Files that a comment may name though this repository does not hold them.
const FILES_ELSEWHERE: &[&str] = &[
    "linux/bpf.h",
    "linux/filter.h",
    "linux/inet_diag.h",
    "linux/magic.h",
    "linux/sock_diag.h",
    "tcp_states.h",
];

/// Complaints about files that a comment names and that do not exist. A comment may leave out leading folders.
fn named_files(path: &str, text: &str, all: &BTreeSet<String>) -> Vec<String> {
    let mut complaints = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let Some(comment) = COMMENT.captures(line) else {
            continue;
        };
        for found in FILE.captures_iter(&comment[1]) {
            let name = found[1].trim_start_matches("../").trim_start_matches("./");
            let exists = |name: &str| {
                let end = format!("/{name}");
                FILES_ELSEWHERE.contains(&name)
                    || all.iter().any(|file| file == name || file.ends_with(&end))
            };
            // `store/{mysql,sqlite}.rs` names several.
            if !name.contains('{') && !exists(name) {
                complaints.push(format!(
                    "{path}:{number}: names the file {name}, which does not exist"
                ));
            }
        }
    }
    complaints
}

/// Everything in which somebody may point at the book.
fn readable() -> Vec<Source> {
    const ENDINGS: [&str; 8] = ["rs", "c", "h", "sql", "txt", "toml", "service", "slice"];
    let folders = ["agent", "tests", "units", "migrations", "packaging"];
    let all = folders
        .iter()
        .flat_map(|folder| ENDINGS.iter().flat_map(|ending| files(folder, ending)));
    let all: Vec<Source> = all.collect();
    assert!(all.len() > 400, "the sources were not found");
    all
}

/// Goal: nobody is sent to a rule that is written nowhere. Method: every reference in every source, then a bad text.
#[test]
fn every_reference_leads_to_the_book() {
    let book = Book::of_the_house();
    for (set, wanted) in [
        (&book.promises, 10),
        (&book.rules, 9),
        (&book.steps, 6),
        (&book.sections, 13),
        (&book.attacks, 38),
    ] {
        assert!(set.len() >= wanted, "the book was misread: {set:?}");
    }
    let mut documents = readable();
    for name in [
        "agent/ARCHITECTURE.md",
        "agent/ROOMS.md",
        "agent/bpf/GATE.md",
        "agent/core/GUARDS.md",
        "agent/core/REASONS.md",
        "tests/PROOF.md",
        "tests/README.md",
    ] {
        let text = std::fs::read_to_string(root().join(name)).expect(name);
        documents.push(Source {
            path: name.into(),
            text,
        });
    }
    // This file's own examples point nowhere on purpose.
    let others = documents.iter().filter(|s| s.path != "tests/tidy/book.rs");
    let complaints: Vec<String> = others
        .flat_map(|source| references(&source.path, &source.text, &book))
        .collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));

    let bad = "// rule 5.3 holds, rules 5.5 and 5.99 do not\n// attack 77, S1 and S9, promotion 8, design 40";
    let complaints = references("x.rs", bad, &book);
    assert_eq!(complaints.len(), 5, "{}", complaints.join("\n"));
}

/// Goal: nobody is sent to a file that has moved. Method: every comment of every source, then a bad text.
#[test]
fn every_file_in_a_comment_exists() {
    let sources = readable();
    let mut all: BTreeSet<String> = sources.iter().map(|s| s.path.clone()).collect();
    all.extend(
        ["agent", "tests", "migrations", "packaging", "etc", "units"]
            .iter()
            .flat_map(|folder| files(folder, "md"))
            .map(|s| s.path),
    );
    all.insert("README.md".into());
    let complaints: Vec<String> = sources
        .iter()
        .filter(|s| s.path != "tests/tidy/book.rs")
        .flat_map(|source| named_files(&source.path, &source.text, &all))
        .collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));

    let bad = "/// See `agent/src/nowhere.rs` and net/udp.rs.";
    assert_eq!(named_files("x.rs", bad, &all).len(), 1);
}
