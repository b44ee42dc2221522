//! The rules of the house, held by reading the sources: floors, where SQL, clocks and `unsafe` live, lengths, names.
//! Each rule is a function from text to complaints, and each is shown a bad text that it must complain about.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

#[path = "tidy/book.rs"]
mod book;
#[path = "tidy/circles.rs"]
mod circles;
#[path = "tidy/codes.rs"]
mod codes;
#[path = "tidy/floors.rs"]
mod floors;
#[path = "tidy/memory.rs"]
mod memory;
#[path = "tidy/privileged.rs"]
mod privileged;
#[path = "tidy/rest.rs"]
mod rest;

const FILE_LINES_MAX: usize = 600;
/// Files above that, with the lines that they may have. This list may only shrink.
const FILES_LONG: &[(&str, usize)] = &[
    ("agent/core/src/master/failover.rs", 700),
    ("agent/core/src/master/mod.rs", 750),
    ("agent/core/src/wire.rs", 750),
    ("agent/src/coreapp/driver.rs", 680),
    ("agent/src/db/lease.rs", 630),
    ("agent/src/dev/cluster.rs", 730),
    ("agent/src/net/udp_tests.rs", 690),
    ("tests/integration/setup.rs", 610),
    ("tests/integration/store_message.rs", 640),
    ("tests/sim/src/fault.rs", 710),
    ("tests/sim/src/node.rs", 660),
    ("tests/sim/src/world.rs", 669),
    ("tests/tidy.rs", 690),
];
const FUNCTION_LINES_MAX: usize = 70;
/// Longer ones, each a table in the form of one `match` over every variant of an enum, or one order of steps that a
/// reader must see whole. A name that is no longer too long must leave the list.
const FUNCTIONS_LONG: &[(&str, &str)] = &[("agent/src/master/driver.rs", "act")];
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

/// Lines of tests beside the deciding code that touch files: the list of reasons for people is compared, and written anew.
/// This list may only shrink: an entry that is not needed any more must leave it.
const CORE_ALLOWED: &[(&str, &str)] = &[
    ("agent/core/src/reason.rs", "std::env"),
    ("agent/core/src/reason.rs", "std::fs"),
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

/// The lines of code, tests included: comments are gone.
fn code(text: &str) -> Vec<(usize, &str)> {
    text.lines()
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
    let listed = FILES_LONG.iter().find(|(file, _)| *file == path);
    let most = listed.map_or(FILE_LINES_MAX, |(_, most)| *most);
    if lines > most {
        vec![format!("{path}: {lines} lines, at most {most}")]
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

/// Tests beside the code that connect to a listener of their own by its address. This list may only shrink.
const DIALING_ALLOWED: &[&str] = &["agent/src/net/server.rs", "agent/src/sys/sock_destroy.rs"];

/// Connects to names, and looks names up, whose other addresses are never tried.
fn dialing(path: &str, text: &str) -> Vec<String> {
    let allowed = path == "agent/src/sys/dial.rs" || DIALING_ALLOWED.contains(&path);
    if !path.starts_with("agent/src/") || allowed || is_test(path) {
        return Vec::new();
    }
    let ways = [
        "TcpStream::connect(",
        "TcpSocket::new",
        "HttpConnector",
        "lookup_host",
        "to_socket_addrs",
        "getaddrinfo",
    ];
    code(text)
        .into_iter()
        .filter(|(_, line)| ways.iter().any(|way| line.contains(way)))
        .map(|(n, _)| {
            format!("{path}:{n}: names are dialled in sys/dial.rs only, by all of their addresses")
        })
        .collect()
}

/// Our enums whose matches hand work on: an arm for all the rest would swallow whatever is added to them.
const DISPATCHED: &[&str] = &[
    "Action", "Body", "Command", "Event", "Install", "Look", "Nudge", "Steer", "Verb",
];

/// `_ =>` in a match over one of [`DISPATCHED`]. Relies on rustfmt: the arms of a match share their indentation.
fn swallowed(path: &str, text: &str) -> Vec<String> {
    if is_test(path) || !path.starts_with("agent/") {
        return Vec::new();
    }
    let lines: Vec<&str> = text.lines().collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let rest = |n: &usize| lines[*n].trim_start().starts_with("_ =>");
    let over_ours = |n: &usize| {
        let own = indent(lines[*n]);
        let before = lines[..*n].iter().rev();
        let block = before.take_while(|line| line.trim().is_empty() || indent(line) >= own);
        let mut arms = block.filter(|line| indent(line) == own);
        arms.any(|line| {
            let pattern = line.trim_start().trim_start_matches("| ");
            let mut ours = DISPATCHED.iter();
            ours.any(|of| pattern.starts_with(&format!("{of}::")))
        })
    };
    let found = (0..lines.len()).filter(rest).filter(over_ours);
    found
        .map(|n| {
            format!(
                "{path}:{}: name the rest: what is added later must not be swallowed",
                n + 1
            )
        })
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

/// Sessions of servers are opened where they are prepared. The servers that `dev` starts have no defaults but ours.
fn connections(path: &str, text: &str) -> Vec<String> {
    let prepares = path == "agent/src/db/session.rs" || SQL_ALLOWED.contains(&path);
    if prepares || !path.starts_with("agent/") || is_test(path) {
        return Vec::new();
    }
    let opens = [
        "MySqlConnection::connect",
        "MySqlPoolOptions",
        "MySqlPool::",
    ];
    code(text)
        .into_iter()
        .filter(|(_, line)| opens.iter().any(|open| line.contains(open)))
        .map(|(n, _)| {
            format!(
                "{path}:{n}: a connection to a server is opened by db/session.rs, which prepares it"
            )
        })
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
            .filter(|f| !CORE_ALLOWED.contains(&(path, **f)))
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

fn roots(names: &BTreeSet<String>) -> Vec<String> {
    let known = |name: &String| name.starts_with('.') || TOP_LEVEL.contains(&name.as_str());
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
    assert!(!length("a.rs", &"x\n".repeat(601)).is_empty());
    hold(length);
    let main = std::fs::read_to_string(root().join("agent/src/main.rs")).expect("the program");
    assert!(
        main.lines().count() <= 100,
        "main.rs parses, starts, and ends"
    );
    let all = sources();
    for (path, most) in FILES_LONG {
        let source = all.iter().find(|s| s.path == *path);
        let lines = source.map_or(0, |s| s.text.lines().count());
        assert!(
            lines > FILE_LINES_MAX && lines + 30 > *most,
            "{path} has {lines} lines: say so in FILES_LONG, or take it off"
        );
    }
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
fn no_dispatch_swallows_the_rest() {
    let bad = "match a {\n    Action::Read => b(),\n    _ => {}\n}\n";
    assert!(!swallowed("agent/a.rs", bad).is_empty());
    let other = "match a {\n    Some(1) => Action::Read,\n    _ => Action::Exit,\n}\n";
    assert!(swallowed("agent/a.rs", other).is_empty());
    hold(swallowed);
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
fn f02_names_are_dialled_in_one_file() {
    for bad in [
        "TcpStream::connect((host, port)).await",
        "let c = HttpConnector::new();",
        "(host, 0).to_socket_addrs()",
    ] {
        assert!(!dialing("agent/src/net/client.rs", bad).is_empty());
    }
    assert!(
        dialing(
            "agent/src/sys/suitability.rs",
            "TcpStream::connect_timeout(&a, t)"
        )
        .is_empty()
    );
    hold(dialing);
}

#[test]
fn unsafe_is_in_named_files() {
    assert!(!unsafe_code("agent/src/db/mod.rs", "unsafe { f() }").is_empty());
    hold(unsafe_code);
}

#[test]
fn sql_is_in_one_folder() {
    assert!(!sql("agent/src/webapp/v1/user.rs", "query(\"SELECT 1\")").is_empty());
    hold(sql);
}

#[test]
fn sessions_are_opened_where_they_are_prepared() {
    let line = "let c = sqlx::MySqlConnection::connect_with(&options).await?;";
    assert!(!connections("agent/src/db/host.rs", line).is_empty());
    assert!(connections("agent/src/db/session.rs", line).is_empty());
    hold(connections);
}

#[test]
fn the_core_decides_and_touches_nothing() {
    assert!(!core("agent/core/src/a.rs", "use std::net::UdpSocket;").is_empty());
    assert!(!core("agent/core/src/a.rs", "let x: HashMap<u8, u8>;").is_empty());
    let after_tests = "#[cfg(test)]\nmod tests;\n\nuse std::net::UdpSocket;\n";
    assert!(
        !core("agent/core/src/a.rs", after_tests).is_empty(),
        "a file is read to its end"
    );
    hold(core);
    let all = sources();
    for (path, what) in CORE_ALLOWED {
        let source = all.iter().find(|s| s.path == *path);
        assert!(
            source.is_some_and(|s| code(&s.text).iter().any(|(_, line)| word(line, what))),
            "{path}: {what} is not used any more: take it off CORE_ALLOWED"
        );
    }
}

#[test]
fn the_gate_serves_nobody() {
    assert!(!gate("agent/bpf/src/a.rs", "use tokio::net::TcpStream;").is_empty());
    assert!(gate("agent/bpf/src/a.rs", "// as tokio does").is_empty());
    hold(gate);
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
