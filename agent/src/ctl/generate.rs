//! `wa-agent generate`: man pages and shell completions from the command line itself, and the files for Prometheus and
//! Grafana from the table of alarms, for the packages.
//! Writes files and nothing else.

use std::path::Path;

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;

use super::monitoring;
use crate::cli::Cli;
use crate::exit::Exit;

/// Writes `man/*.1`, `completions/*` and `monitoring/*` below `out`.
///
/// # Errors
/// When a file cannot be written.
pub fn run(out: &Path) -> anyhow::Result<Exit> {
    let (man, completions) = (out.join("man"), out.join("completions"));
    for folder in [&man, &completions] {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
    }
    clap_mangen::generate_to(Cli::command(), &man).context("cannot write the man pages")?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut Cli::command(), "wa-agent", &completions)
            .context("cannot write the completions")?;
    }
    for (name, text) in monitoring::files() {
        let path = out.join("monitoring").join(name);
        let folder = path.parent().unwrap_or(out);
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&path, text))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: every verb has a page, every page names itself. Method: into a fresh folder.
    #[test]
    fn every_verb_has_a_page() {
        let out = tempfile::tempdir().expect("a temporary directory");
        run(out.path()).expect("written");
        for verb in Cli::command()
            .get_subcommands()
            .filter(|v| !v.is_hide_set())
        {
            let page = out
                .path()
                .join(format!("man/wa-agent-{}.1", verb.get_name()));
            let text = std::fs::read_to_string(&page).expect("a page");
            assert!(text.contains(".TH"), "{}", page.display());
        }
        let bash = out.path().join("completions/wa-agent.bash");
        assert!(
            std::fs::read_to_string(bash)
                .expect("written")
                .contains("switchover")
        );
    }
}
