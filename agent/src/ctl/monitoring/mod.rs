//! What Prometheus and Grafana need of this program: rules, their tests, dashboards and the list of targets.
//! Measures nothing, and starts neither of them.

mod boards;
mod queries;
mod rules;
pub mod targets;

/// Where the packages put the files.
pub const INSTALLED: &str = "/usr/share/wa-agent/monitoring";

/// Every file of `packaging/monitoring`: its name, and what it holds.
pub fn files() -> Vec<(String, String)> {
    let mut all = vec![
        ("rules.yml".to_owned(), rules::all()),
        ("rules-test.yml".to_owned(), rules::tests()),
    ];
    let boards = boards::all().into_iter();
    all.extend(boards.map(|(name, text)| (format!("dashboards/{name}.json"), text)));
    all
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Goal: what is packaged is what the table of alarms says, and nothing else lies there. Method: compare each file, rewrite
    /// on demand; the packages install each of them.
    #[test]
    fn packaged_files_are_current() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = root.join("packaging/monitoring");
        let list = std::fs::read_to_string(root.join("packaging/files")).expect("a list");
        for (name, text) in files() {
            let path = folder.join(&name);
            if std::env::var_os("UPDATE_SCENARIOS").is_some() {
                std::fs::write(&path, &text).expect("written");
            }
            let found = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(
                found == text,
                "{name} is not current: run with UPDATE_SCENARIOS=1"
            );
            let installed = format!("packaging/monitoring/{name} ");
            assert!(list.contains(&installed), "packaging/files lacks {name}");
        }
        let there = |folder: &Path| std::fs::read_dir(folder).expect("listed").count();
        let all = there(&folder) - 1 + there(&folder.join("dashboards"));
        assert_eq!(all, files().len());
    }
}
