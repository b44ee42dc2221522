//! `cargo xtask mutants`: takes out one guard of the core after the other; each must turn something red.
//! Takes none out itself: `agent/core/tests/cluster/mutants.rs` does. Writes the table of guards into GUARDS.md.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

const DOCUMENT: &str = "agent/core/GUARDS.md";
const BEGIN: &str = "<!-- guards: written by `cargo xtask mutants` -->";
const END: &str = "<!-- guards: end -->";
#[rustfmt::skip]
const CLUSTER: &[&str] = &[
    "test", "--locked", "--release", "--package", "wa-core", "--features", "mutants", "--test", "cluster", "--",
    "--ignored", "--nocapture", "--exact",
];
#[rustfmt::skip]
const MODEL: &[&str] = &[
    "test", "--locked", "--release", "--package", "wa-model", "--features", "mutants", "--lib", "--",
    "--ignored", "--nocapture",
];
#[rustfmt::skip]
const STORE: &[&str] = &[
    "test", "--locked", "--package", "wa-agent", "--features", "mutants", "--test", "integration", "store_mutants", "--",
    "--ignored", "--nocapture",
];
const HEAD: &str =
    "| guard | what holds while it stands | from | lives in | caught by |\n|---|---|---|---|---|\n";

/// Runs all of them, or with `--check` only what the table says. `Ok(false)` when a guard is not caught.
pub fn run(words: &[&str]) -> Result<bool, String> {
    match words {
        [] => all(),
        ["--check"] => {
            let (table, _) = test("mutants::check")?;
            let (model, _) = run_and_read(MODEL, "model without ")?;
            Ok(table && model)
        }
        _ => Err("usage: cargo xtask mutants [--check]".to_owned()),
    }
}

fn all() -> Result<bool, String> {
    let (good, mut rows) = test("mutants::all")?;
    if rows.is_empty() {
        return Ok(false);
    }
    let (good_too, stored) = run_and_read(STORE, "store-mutant: ")?;
    for line in &stored {
        add(&mut rows, line);
    }
    let good = good && good_too;
    let path = crate::root().join(DOCUMENT);
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{DOCUMENT}: {e}"))?;
    let text = with_table(&text, &rows)?;
    std::fs::write(&path, text).map_err(|e| format!("{DOCUMENT}: {e}"))?;
    println!("{} guards, {DOCUMENT} written", rows.len());
    Ok(good)
}

/// The document with these rows between its two marks.
fn with_table(text: &str, rows: &[String]) -> Result<String, String> {
    let (before, rest) = text
        .split_once(BEGIN)
        .ok_or_else(|| format!("{DOCUMENT} has no line {BEGIN}"))?;
    let (_, after) = rest
        .split_once(END)
        .ok_or_else(|| format!("{DOCUMENT} has no line {END}"))?;
    let rows: String = rows.iter().map(|row| format!("{row}\n")).collect();
    Ok(format!("{before}{BEGIN}\n{HEAD}{rows}{END}{after}"))
}

/// `NAME | what catches it` becomes part of the row of that name.
fn add(rows: &mut [String], line: &str) {
    let Some((name, what)) = line.split_once(" | ") else {
        return;
    };
    let start = format!("| `{name}` |");
    for row in rows.iter_mut().filter(|row| row.starts_with(&start)) {
        let before = row.trim_end_matches([' ', '|']);
        let place_only = before.ends_with("Sql");
        *row = format!("{before}{}{what} |", if place_only { " | " } else { "; " });
    }
}

/// Runs one of the tests, alone in its process; whether it was good, and the rows that it printed.
fn test(name: &str) -> Result<(bool, Vec<String>), String> {
    let arguments = [CLUSTER, &[name]].concat();
    run_and_read(&arguments, "mutant: ")
}

/// Runs cargo; whether it ended well, and what it printed on lines that begin like this.
fn run_and_read(arguments: &[&str], begin: &str) -> Result<(bool, Vec<String>), String> {
    let mut child = crate::cargo()
        .args(arguments)
        .current_dir(crate::root())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| format!("cargo does not start: {e}"))?;
    let output = child.stdout.take().expect("it was asked for");
    let mut rows = Vec::new();
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        println!("{line}");
        if let Some(row) = line.strip_prefix(begin) {
            rows.push(row.to_owned());
        }
    }
    let status = child.wait().map_err(|e| format!("cargo: {e}"))?;
    Ok((status.success(), rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what the store suite catches is told in the guard's own row. Method: a row with and one without a scenario.
    #[test]
    fn a_row_is_added_to() {
        let mut rows = vec![
            "| `A` | x | rule | Sql |  |".to_owned(),
            "| `B` | x | rule | Sql | scenario `y` |".to_owned(),
        ];
        add(&mut rows, "A | store test `t`");
        add(&mut rows, "B | store test `t`");
        assert_eq!(rows[0], "| `A` | x | rule | Sql | store test `t` |");
        assert_eq!(
            rows[1],
            "| `B` | x | rule | Sql | scenario `y`; store test `t` |"
        );
    }

    /// Goal: only what stands between the marks is replaced, and a document without marks is refused.
    #[test]
    fn the_table_is_replaced_between_its_marks() {
        let rows = ["| a |".to_owned()];
        let text = format!("x\n{BEGIN}\nold\n{END}\ny\n");
        let new = with_table(&text, &rows).expect("both marks are there");
        assert_eq!(new, format!("x\n{BEGIN}\n{HEAD}| a |\n{END}\ny\n"));
        assert!(with_table("x\n", &rows).is_err());
        assert!(with_table(&format!("{BEGIN}\n"), &rows).is_err());
    }
}
