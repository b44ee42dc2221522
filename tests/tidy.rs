//! The rules of the house, held by reading the sources: floors, where SQL, clocks and `unsafe` live, lengths, names.
//! Each rule is a function from text to complaints, and each is shown a bad text that it must complain about.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;
/// Longer ones, each a table in the form of one `match` over every variant of an enum, or one order of steps that a
/// reader must see whole. A name that is no longer too long must leave the list.
const FUNCTIONS_LONG: &[(&str, &str)] = &[
    ("agent/src/master/driver.rs", "act"),
    ("agent/src/master/store.rs", "carry_out"),
];
/// Names that say nothing about what is inside.
const NAMES_FORBIDDEN: &[&str] = &[
    "utils", "util", "common", "helpers", "helper", "manager", "service", "types",
];
/// The only files that may say `unsafe`, each because no safe wrapper exists.
const UNSAFE_ALLOWED: &[&str] = &[
    "agent/src/sys/",
    "agent/bpf/src/syscall.rs",
    "agent/bpf/src/unit.rs",
    "agent/bpf/tests/gate/",
];
const ROLES: &[&str] = &["master", "coreapp", "webapp", "host", "ctl", "dev"];
const TOP_LEVEL: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "agent",
    "etc",
    "migrations",
    "packaging",
    "tests",
    "units",
];
/// Modules of the binary that a floor may not use (house: say, touch, serve). `metrics` and `log` (message ids) are open to all.
const MAY_NOT_USE: &[(&str, &[&str])] = &[
    (
        "api",
        &[
            "db", "net", "sys", "config", "log", "runtime", "cli", "exit", "media", "master",
            "coreapp", "webapp", "host", "ctl", "dev",
        ],
    ),
    (
        "db",
        &[
            "net", "runtime", "cli", "exit", "media", "master", "coreapp", "webapp", "host", "ctl",
            "dev",
        ],
    ),
    (
        "net",
        &[
            "db", "runtime", "cli", "exit", "media", "master", "coreapp", "webapp", "host", "ctl",
            "dev",
        ],
    ),
    (
        "sys",
        &[
            "db", "net", "runtime", "cli", "exit", "media", "master", "coreapp", "webapp", "host",
            "ctl", "dev",
        ],
    ),
    (
        "config",
        &[
            "db", "net", "runtime", "cli", "exit", "media", "master", "coreapp", "webapp", "host",
            "ctl", "dev",
        ],
    ),
    (
        "media",
        &[
            "net", "runtime", "cli", "exit", "master", "coreapp", "webapp", "host", "ctl", "dev",
        ],
    ),
    (
        "metrics",
        &[
            "db", "net", "sys", "runtime", "cli", "exit", "media", "master", "coreapp", "webapp",
            "host", "ctl", "dev",
        ],
    ),
];
/// What the deciding code may not touch.
const CORE_FORBIDDEN: &[&str] = &[
    "tokio",
    "serde",
    "std::net",
    "std::fs",
    "std::time",
    "std::thread",
    "std::env",
    "std::process",
    "HashMap",
    "HashSet",
    "f32",
    "f64",
    "println!",
    "tracing",
    "rand",
];

/// What the gate's crate may not touch: it says what the kernel is told, for whoever serves.
const GATE_FORBIDDEN: &[&str] = &[
    "tokio",
    "serde",
    "tracing",
    "wa_agent",
    "std::net::TcpStream",
    "std::net::UdpSocket",
    "std::env",
    "println!",
];

struct Source {
    path: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            walk(&path, found);
        } else {
            found.push(path);
        }
    }
}

fn files(folder: &str, ending: &str) -> Vec<Source> {
    let mut paths = Vec::new();
    walk(&root().join(folder), &mut paths);
    paths.sort();
    paths
        .into_iter()
        .filter(|p| p.extension().is_some_and(|e| e == ending))
        .map(|p| Source {
            path: p
                .strip_prefix(root())
                .expect("found below the root")
                .display()
                .to_string(),
            text: std::fs::read_to_string(&p).expect("sources are text"),
        })
        .collect()
}

fn sources() -> Vec<Source> {
    let mut all = files("agent", "rs");
    all.extend(files("tests", "rs"));
    assert!(all.len() > 50, "the sources were not found");
    all
}

/// The lines of code: comments gone, and everything from the first test module on.
fn code(text: &str) -> Vec<(usize, &str)> {
    text.lines()
        .take_while(|line| !line.starts_with("#[cfg(test)]"))
        .enumerate()
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(n, line)| (n + 1, line))
        .collect()
}

fn is_test(path: &str) -> bool {
    path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("tests.rs")
}

fn word(line: &str, wanted: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(wanted).any(|(at, _)| {
        !line[..at].chars().next_back().is_some_and(part)
            && !line[at + wanted.len()..].chars().next().is_some_and(part)
    })
}

// --- the rules ---------------------------------------------------------------------------------------------------

fn header(path: &str, text: &str) -> Vec<String> {
    if text.starts_with("//! ") {
        Vec::new()
    } else {
        vec![format!(
            "{path}: the first line says what the file is for, with //!"
        )]
    }
}

fn length(path: &str, text: &str) -> Vec<String> {
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        vec![format!("{path}: {lines} lines, at most {FILE_LINES_MAX}")]
    } else {
        Vec::new()
    }
}

/// Functions that are too long: line, name, length. Relies on rustfmt: a function ends at the first `}` with the
/// indentation of its `fn`.
fn long_functions(text: &str) -> Vec<(usize, String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut long = Vec::new();
    for (n, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        let Some((before, after)) = trimmed.split_once("fn ") else {
            continue;
        };
        let modifier = |word: &str| {
            word.starts_with("pub") || ["async", "const", "unsafe", "in", "extern"].contains(&word)
        };
        let named: String = after
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect();
        if named.is_empty() || trimmed.ends_with(';') || !before.split_whitespace().all(modifier) {
            continue;
        }
        let end = format!("{}}}", " ".repeat(line.len() - trimmed.len()));
        // A trait's method without a body ends with its signature, which may take several lines.
        let indent = &end[..end.len() - 1];
        let ends = |l: &&str| {
            *l == end
                || l.strip_prefix(indent)
                    .is_some_and(|rest| rest.starts_with(')') && rest.ends_with(';'))
        };
        let length = lines[n..].iter().position(ends).map_or(0, |at| at + 1);
        if length > FUNCTION_LINES_MAX {
            long.push((n + 1, named, length));
        }
    }
    long
}

fn functions(path: &str, text: &str) -> Vec<String> {
    let named = |name: &str| FUNCTIONS_LONG.contains(&(path, name));
    long_functions(text)
        .into_iter()
        .filter(|(_, name, _)| !named(name))
        .map(|(n, name, length)| {
            format!("{path}:{n}: {name} has {length} lines, at most {FUNCTION_LINES_MAX}")
        })
        .collect()
}

fn name(path: &str) -> Vec<String> {
    let parts = path.trim_end_matches(".rs").split('/');
    let bad = parts.filter(|part| NAMES_FORBIDDEN.contains(part));
    bad.map(|part| format!("{path}: `{part}` says nothing about what is inside"))
        .collect()
}

fn clocks(path: &str, text: &str) -> Vec<String> {
    if path == "agent/src/sys/clock.rs" || path == "agent/xtask/src/bench.rs" || is_test(path) {
        return Vec::new();
    }
    let read = ["Instant::now(", "SystemTime::now(", "clock_gettime("];
    code(text)
        .into_iter()
        .filter(|(_, line)| read.iter().any(|r| line.contains(r)))
        .map(|(n, _)| format!("{path}:{n}: clocks are read in sys/clock.rs only"))
        .collect()
}

fn unsafe_code(path: &str, text: &str) -> Vec<String> {
    if UNSAFE_ALLOWED
        .iter()
        .any(|allowed| path.starts_with(allowed))
        || path == "tests/tidy.rs"
    {
        return Vec::new();
    }
    code(text)
        .into_iter()
        .filter(|(_, line)| word(line, "unsafe"))
        .map(|(n, _)| format!("{path}:{n}: unsafe is not for this file"))
        .collect()
}

/// Statements of no table: the accounts and states of private servers.
const SQL_ALLOWED: &[&str] = &["agent/src/dev/galera.rs", "agent/src/dev/mariadb.rs"];

fn sql(path: &str, text: &str) -> Vec<String> {
    if SQL_ALLOWED.contains(&path) {
        return Vec::new();
    }
    if !path.starts_with("agent/src/") || path.starts_with("agent/src/db/") || is_test(path) {
        return Vec::new();
    }
    let statements = [
        "\"SELECT ",
        "\"INSERT INTO",
        "\"UPDATE ",
        "\"DELETE FROM",
        "\"CREATE TABLE",
        "sqlx::",
    ];
    code(text)
        .into_iter()
        .filter(|(_, line)| statements.iter().any(|s| line.contains(s)))
        .map(|(n, _)| format!("{path}:{n}: SQL lives in db only"))
        .collect()
}

fn core(path: &str, text: &str) -> Vec<String> {
    if !path.starts_with("agent/core/src/") {
        return Vec::new();
    }
    let mut bad = Vec::new();
    for (n, line) in code(text) {
        for forbidden in CORE_FORBIDDEN
            .iter()
            .filter(|f| word(line, f.trim_end_matches('!')))
        {
            bad.push(format!(
                "{path}:{n}: the deciding code may not use {forbidden}"
            ));
        }
    }
    bad
}

fn gate(path: &str, text: &str) -> Vec<String> {
    // The compiler's call belongs to the build script.
    if !path.starts_with("agent/bpf/src/") || path == "agent/bpf/src/clang.rs" {
        return Vec::new();
    }
    let mut bad = Vec::new();
    for (n, line) in code(text) {
        for forbidden in GATE_FORBIDDEN
            .iter()
            .filter(|f| word(line, f.trim_end_matches('!')))
        {
            bad.push(format!(
                "{path}:{n}: the gate's crate may not use {forbidden}"
            ));
        }
    }
    bad
}

/// Where one role names another, and why it may.
const FLOORS_ALLOWED: &[(&str, &str)] = &[
    // Operator verbs find the development cluster of the same user.
    ("agent/src/ctl/reach.rs", "crate::dev::state_directory"),
];

fn floors(path: &str, text: &str) -> Vec<String> {
    let Some(rest) = path.strip_prefix("agent/src/") else {
        return Vec::new();
    };
    if is_test(path) {
        return Vec::new();
    }
    let room = rest
        .split('/')
        .next()
        .unwrap_or(rest)
        .trim_end_matches(".rs");
    let forbidden: Vec<&str> = match MAY_NOT_USE.iter().find(|(from, _)| *from == room) {
        Some((_, list)) => list.to_vec(),
        None if ROLES.contains(&room) => ROLES
            .iter()
            .copied()
            .filter(|other| *other != room)
            .collect(),
        None => return Vec::new(),
    };
    let mut bad = Vec::new();
    let allowed = |line: &str| {
        FLOORS_ALLOWED
            .iter()
            .any(|(p, name)| *p == path && line.contains(name))
    };
    for (n, line) in code(text).into_iter().filter(|(_, line)| !allowed(line)) {
        for other in forbidden
            .iter()
            .filter(|other| line.contains(&format!("crate::{other}::")))
        {
            bad.push(format!("{path}:{n}: {room} may not use {other}"));
        }
    }
    bad
}

fn roots(names: &BTreeSet<String>) -> Vec<String> {
    let known = |name: &String| {
        name.starts_with('.') || name == "rustfmt.toml" || TOP_LEVEL.contains(&name.as_str())
    };
    let strange = names.iter().filter(|name| !known(name));
    strange
        .map(|name| format!("{name}: the top level stays as the house says"))
        .collect()
}

fn dialects(mysql: &BTreeSet<String>, sqlite: &BTreeSet<String>) -> Vec<String> {
    let lonely = mysql.symmetric_difference(sqlite);
    lonely
        .map(|name| format!("migrations: {name} exists in one dialect only"))
        .collect()
}

/// Verbs and parts that a document names after `cargo xtask` must exist.
fn commands(path: &str, text: &str, known: &str) -> Vec<String> {
    let mut bad = Vec::new();
    for (at, found) in text.match_indices("cargo xtask ") {
        let verb: String = text[at + found.len()..]
            .chars()
            .take_while(char::is_ascii_lowercase)
            .collect();
        if !verb.is_empty() && !known.contains(&format!("Some((&\"{verb}\"")) {
            bad.push(format!("{path}: there is no `cargo xtask {verb}`"));
        }
    }
    bad
}

fn machine_paths(path: &str, text: &str) -> Vec<String> {
    // Written in two halves so that this file passes its own rule.
    let places = [
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("/wo", "rk/"),
    ];
    let mut bad = Vec::new();
    for (n, line) in text.lines().enumerate() {
        if places.iter().any(|place| line.contains(place)) {
            bad.push(format!("{path}:{}: a path of somebody's machine", n + 1));
        }
    }
    bad
}

// --- held against what is here -----------------------------------------------------------------------------------

fn hold(rule: fn(&str, &str) -> Vec<String>) {
    let bad: Vec<String> = sources()
        .iter()
        .flat_map(|s| rule(&s.path, &s.text))
        .collect();
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[test]
fn every_file_says_what_it_is_for() {
    assert!(!header("a.rs", "use std::fmt;").is_empty());
    hold(header);
}

#[test]
fn no_file_is_too_long() {
    assert!(!length("a.rs", &"x\n".repeat(801)).is_empty());
    hold(length);
}

#[test]
fn no_function_is_too_long() {
    assert!(
        !functions(
            "a.rs",
            &format!("fn a() {{\n{}}}\n", "    b();\n".repeat(70))
        )
        .is_empty()
    );
    assert!(
        functions(
            "a.rs",
            &format!("fn a() {{\n{}}}\n", "    b();\n".repeat(68))
        )
        .is_empty()
    );
    hold(functions);
    let all = sources();
    for (path, name) in FUNCTIONS_LONG {
        let source = all.iter().find(|s| s.path == *path);
        assert!(
            source.is_some_and(|s| long_functions(&s.text).iter().any(|(_, n, _)| n == name)),
            "{path}: {name} is not too long any more: take it off FUNCTIONS_LONG"
        );
    }
}

#[test]
fn names_say_something() {
    assert!(!name("agent/src/utils.rs").is_empty());
    assert!(!name("agent/src/common/mod.rs").is_empty());
    hold(|path, _| name(path));
}

#[test]
fn clocks_are_read_in_one_file() {
    assert!(!clocks("agent/src/net/udp.rs", "let now = Instant::now();").is_empty());
    assert!(clocks("agent/src/net/udp.rs", "// Instant::now() is banned").is_empty());
    hold(clocks);
}

#[test]
fn unsafe_is_in_named_files() {
    assert!(!unsafe_code("agent/src/db/mod.rs", "unsafe { f() }").is_empty());
    hold(unsafe_code);
}

#[test]
fn sql_is_in_one_folder() {
    assert!(!sql("agent/src/webapp/users.rs", "query(\"SELECT 1\")").is_empty());
    hold(sql);
}

#[test]
fn the_core_decides_and_touches_nothing() {
    assert!(!core("agent/core/src/a.rs", "use std::net::UdpSocket;").is_empty());
    assert!(!core("agent/core/src/a.rs", "let x: HashMap<u8, u8>;").is_empty());
    hold(core);
}

#[test]
fn the_gate_serves_nobody() {
    assert!(!gate("agent/bpf/src/a.rs", "use tokio::net::TcpStream;").is_empty());
    assert!(gate("agent/bpf/src/a.rs", "// as tokio does").is_empty());
    hold(gate);
}

#[test]
fn floors_use_only_what_lies_below() {
    assert!(!floors("agent/src/webapp/a.rs", "use crate::coreapp::Intake;").is_empty());
    assert!(!floors("agent/src/db/a.rs", "use crate::net::udp;").is_empty());
    assert!(floors("agent/src/webapp/a.rs", "use crate::db::Db;").is_empty());
    hold(floors);
}

#[test]
fn the_top_level_stays_small() {
    assert!(!roots(&BTreeSet::from(["notes.txt".to_owned()])).is_empty());
    let ignored = std::fs::read_to_string(root().join(".gitignore")).unwrap_or_default();
    let names = std::fs::read_dir(root())
        .expect("the root can be listed")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !ignored.lines().any(|line| line.trim_matches('/') == name))
        .collect();
    let bad = roots(&names);
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[test]
fn migrations_come_in_pairs() {
    let one = BTreeSet::from(["0001-a.sql".to_owned()]);
    assert!(!dialects(&one, &BTreeSet::new()).is_empty());
    let names = |folder: &str| -> BTreeSet<String> {
        let found = files(folder, "sql");
        assert!(!found.is_empty(), "{folder} is empty");
        found
            .iter()
            .filter_map(|s| s.path.rsplit('/').next().map(str::to_owned))
            .collect()
    };
    let bad = dialects(&names("migrations/mysql"), &names("migrations/sqlite"));
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[test]
fn documents_name_commands_that_exist() {
    let known =
        std::fs::read_to_string(root().join("agent/xtask/src/main.rs")).expect("xtask is there");
    assert!(!commands("README.md", "run `cargo xtask frobnicate`", &known).is_empty());
    let mut bad = Vec::new();
    for document in documents() {
        bad.extend(commands(&document.path, &document.text, &known));
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[test]
fn nothing_names_somebodys_machine() {
    assert!(!machine_paths("README.md", concat!("cd /ho", "me/me/wa-agent")).is_empty());
    let mut all = documents();
    all.extend(sources());
    let bad: Vec<String> = all
        .iter()
        .flat_map(|s| machine_paths(&s.path, &s.text))
        .collect();
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

fn documents() -> Vec<Source> {
    let mut all = files("agent", "md");
    for folder in ["tests", "migrations", "packaging"] {
        all.extend(files(folder, "md"));
    }
    all.push(Source {
        path: "README.md".to_owned(),
        text: std::fs::read_to_string(root().join("README.md")).expect("there is a README.md"),
    });
    all
}
