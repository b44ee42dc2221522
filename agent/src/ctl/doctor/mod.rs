//! `wa-agent doctor`: everything that an installation needs, one line each, with what to type where something is wrong.
//! Changes nothing.

mod here;
mod machine;
mod neighbour;
mod ports;
mod store;
mod upstream;
mod webhooks;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anstyle::{AnsiColor, Style};
use clap::Args;
use serde::Serialize;
use wa_core::id::Role;

pub use store::{SIMULATOR_URL, chosen_login, file as store_file, first_login};

use crate::config::{self, ConfigError, Settings};
use crate::exit::Exit;

const GOOD: Style = AnsiColor::Green.on_default();
const WARN: Style = AnsiColor::Yellow.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();

/// Exit codes: 0 nothing is bad (warnings included), 3 something is bad.
#[derive(Debug, Clone, Args)]
pub struct DoctorArgs {
    /// Configuration file instead of the installed ones.
    #[arg(long, value_name = "FILE", env = "WA_CONFIG")]
    pub config: Option<PathBuf>,
    /// Folder to use instead of /.
    #[arg(long, value_name = "DIRECTORY", default_value = "/")]
    pub root: PathBuf,
    /// Print one JSON document instead of lines.
    #[arg(long)]
    pub json: bool,
}

/// How one thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Ok,
    Warn,
    Bad,
}

/// One line of the doctor's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at, for example `database`.
    pub area: &'static str,
    pub verdict: Verdict,
    pub text: String,
    /// What to do; only where something is to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// It is mended on another machine, or by starting this one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub elsewhere: bool,
}

impl Check {
    pub fn ok(area: &'static str, text: impl Into<String>) -> Self {
        Self::new(area, Verdict::Ok, text.into(), None)
    }

    pub fn warn(area: &'static str, text: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(area, Verdict::Warn, text.into(), Some(advice.into()))
    }

    pub fn bad(area: &'static str, text: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(area, Verdict::Bad, text.into(), Some(advice.into()))
    }

    fn new(area: &'static str, verdict: Verdict, text: String, advice: Option<String>) -> Self {
        Self {
            area,
            verdict,
            text,
            advice: advice.filter(|advice| !advice.is_empty()),
            elsewhere: false,
        }
    }

    /// The same, as something that this machine is not to blame for.
    #[must_use]
    pub fn elsewhere(mut self) -> Self {
        self.elsewhere = true;
        self
    }
}

/// What is to be examined.
#[derive(Debug, Clone)]
pub struct Asked {
    pub root: PathBuf,
    pub config: Option<PathBuf>,
    /// Roles that will run here, beside those whose units are enabled.
    pub roles: Vec<String>,
    /// Watch timers for a moment only.
    pub quick: bool,
}

/// One instance that runs here, or will.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instance {
    pub role: &'static str,
    pub number: u16,
}

impl Instance {
    pub fn role(self) -> Role {
        match self.role {
            "master" => Role::Master,
            "webapp" => Role::Webapp,
            _ => Role::Coreapp,
        }
    }

    /// For example `coreapp-1`.
    pub fn shown(self) -> String {
        format!("{}-{}", self.role, self.number)
    }
}

impl Asked {
    /// The system that runs, not a folder.
    pub fn live(&self) -> bool {
        self.root == Path::new("/")
    }

    fn below(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Settings of an instance as its role would load them.
    pub fn settings(&self, instance: Instance) -> Result<Settings, ConfigError> {
        let (role, number) = (instance.role(), instance.number);
        let loaded = match &self.config {
            Some(file) => config::load(role, number, Some(file)),
            None if self.live() => config::load(role, number, None),
            None => config::load_below(&self.root, role, number),
        };
        loaded.map(|loaded| loaded.settings)
    }
}

/// Examines and prints.
///
/// # Errors
/// When the runtime cannot be made.
pub fn run(args: &DoctorArgs) -> anyhow::Result<Exit> {
    let asked = Asked {
        root: args.root.clone(),
        config: args.config.clone(),
        roles: Vec::new(),
        quick: false,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let checks = runtime.block_on(examine(&asked));
    if args.json {
        println!("{}", serde_json::to_string(&checks)?);
    } else {
        styled!("{}", render(&checks));
    }
    Ok(exit(&checks))
}

/// All checks, in the order in which things depend on each other.
pub async fn examine(asked: &Asked) -> Vec<Check> {
    let instances = here::instances(asked).await;
    let mut checks = Vec::new();
    let settings = here::configuration(asked, &instances, &mut checks);
    checks.extend(here::credentials(asked));
    checks.extend(here::passwords(asked));
    checks.extend(here::open_files(asked, &instances));
    let mut peers = Vec::new();
    if let Some(settings) = &settings {
        let cluster = store::examine(settings, &mut checks).await;
        if asked.config.is_none() {
            checks.extend(ports::here(asked, &instances));
        }
        checks.extend(ports::there(asked, settings, &cluster).await);
        if here::runs(&instances, "webapp") && !asked.quick {
            checks.extend(cluster.first_login(settings));
        }
        if here::runs(&instances, "webapp") {
            checks.extend(here::plain(settings));
        }
        checks.extend(store::simulated(settings));
        checks.push(upstream::version(settings));
        // No other role has the token; a file that is named is for all of them.
        let coreapp = here::runs(&instances, "coreapp") && asked.live();
        if !asked.quick && (coreapp || asked.config.is_some()) {
            checks.extend(upstream::examine(settings).await);
        }
        // Only these call it, from this machine.
        if here::runs(&instances, "coreapp") {
            let uncalled = webhooks::examine(settings, &cluster.receiver).await;
            checks.extend(uncalled.map(|of| Check::bad("webhooks", of.text, of.advice)));
        }
        peers.extend(cluster.peers(settings));
    }
    let runs = here::Runs::of(asked, &instances);
    checks.extend(machine::examine(asked, settings.as_ref(), (peers, runs)).await);
    if asked.config.is_none() {
        checks.extend(here::leftovers(asked, &instances));
    }
    checks
}

/// One line each; `anstream` strips the styles where no terminal looks.
pub fn render(checks: &[Check]) -> String {
    let mut out = String::new();
    for check in checks {
        let (style, word) = match check.verdict {
            Verdict::Ok => (GOOD, "ok  "),
            Verdict::Warn => (WARN, "warn"),
            Verdict::Bad => (BAD, "bad "),
        };
        let advice = check
            .advice
            .as_deref()
            .map_or(String::new(), |advice| format!("; {advice}"));
        let text = check.text.replace('\n', " ");
        let _ = writeln!(
            out,
            "{style}{word}{style:#} {:<14} {text}{advice}",
            check.area
        );
    }
    let count = |verdict| {
        checks
            .iter()
            .filter(|check| check.verdict == verdict)
            .count()
    };
    let _ = writeln!(
        out,
        "{} ok, {} to look at, {} bad",
        count(Verdict::Ok),
        count(Verdict::Warn),
        count(Verdict::Bad)
    );
    out
}

/// Nothing on this machine keeps it from being started. A cluster that has lost a machine, or has no coreapp yet, is mended
/// by starting one more.
pub fn may_start(checks: &[Check]) -> bool {
    let bad = |check: &Check| check.verdict == Verdict::Bad && !check.elsewhere;
    !checks.iter().any(bad)
}

/// 3 when something is bad.
pub fn exit(checks: &[Check]) -> Exit {
    if checks.iter().any(|check| check.verdict == Verdict::Bad) {
        Exit::Refuted
    } else {
        Exit::Ok
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: one line for each check, with what to do, and the exit code by the worst of them; a machine may start whatever is
    /// wrong elsewhere.
    #[test]
    fn a_line_each_and_a_code() {
        let mut checks = vec![
            Check::ok("clock", "fine"),
            Check::warn("mounts", "full", "make room"),
        ];
        assert_eq!(exit(&checks), Exit::Ok);
        let elsewhere = Check::bad("cluster", "no owner", "start one").elsewhere();
        let cluster = [&checks[..], &[elsewhere]].concat();
        assert!(exit(&cluster) == Exit::Refuted && may_start(&cluster));
        checks.push(Check::bad("ports", "taken\nby nginx", "stop it"));
        assert!(exit(&checks) == Exit::Refuted && !may_start(&checks));
        let text = anstream::adapter::strip_str(&render(&checks)).to_string();
        assert_eq!(text.lines().count(), 4, "{text}");
        assert!(
            text.contains("warn mounts         full; make room"),
            "{text}"
        );
        assert!(text.contains("taken by nginx; stop it"), "{text}");
        assert!(text.ends_with("1 ok, 1 to look at, 1 bad\n"), "{text}");
    }
}
