//! Looks at the media directory from a disposable child with a deadline: a mount that hangs takes the child, nobody else.
//! A child that cannot be killed is left alone, never waited for, and no other is started while it is there.

use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};
use wa_core::time::Instant;

use super::clock;
use super::mount::{Demand, Findings, Trouble, examine};
use crate::config::Require;

/// The hidden verb of the child.
pub const VERB: &str = "probe-mount";
/// Longest answer of a child, in bytes.
const ANSWER_LEN_MAX: u64 = 16 << 10;
/// How long a child that has answered may take to end.
const END_WITHIN: Duration = Duration::from_secs(1);

/// What the child is told on its command line.
#[derive(Debug, Clone, clap::Args)]
pub struct ProbeArgs {
    #[arg(long)]
    pub directory: PathBuf,
    #[arg(long)]
    pub require: String,
    #[arg(long, default_value_t = 0)]
    pub free_min_bytes: u64,
    #[arg(long, default_value_t = 0)]
    pub inodes_min: u64,
    /// Name of the node, for the probe's own files; without it nothing is written.
    #[arg(long)]
    pub node: Option<String>,
    /// Identity to write where there is none.
    #[arg(long)]
    pub offer: Option<String>,
}

/// The child: one JSON document on standard output, then the end.
pub fn run(args: ProbeArgs) -> ExitCode {
    let Some(require) = Require::parse(&args.require) else {
        return ExitCode::FAILURE;
    };
    let demand = Demand {
        directory: args.directory,
        require,
        free_min_bytes: args.free_min_bytes,
        inodes_min: args.inodes_min,
        node: args.node,
    };
    let found = examine(&demand, args.offer.as_deref());
    println!(
        "{}",
        serde_json::to_string(&found).expect("plain data is JSON")
    );
    ExitCode::SUCCESS
}

/// Starts the children, one at a time.
pub struct Prober {
    program: PathBuf,
    demand: Demand,
    timeout: Duration,
    /// A child that did not answer in time, and since when.
    stuck: Option<(Child, Instant)>,
    started: u64,
}

impl Prober {
    /// A prober that starts this program with [`VERB`].
    pub fn of(program: PathBuf, demand: Demand, timeout: Duration) -> Self {
        Self {
            program,
            demand,
            timeout,
            stuck: None,
            started: 0,
        }
    }

    /// What is demanded.
    pub fn demand(&self) -> &Demand {
        &self.demand
    }

    /// How many children were started.
    pub fn started(&self) -> u64 {
        self.started
    }

    /// One look; returns within the timeout and a second, whatever the mount does.
    pub async fn look(&mut self, offer: Option<&str>) -> Findings {
        if let Some((child, since)) = &mut self.stuck {
            match child.try_wait() {
                Ok(None) => return hanging(*since),
                Ok(Some(_)) | Err(_) => self.stuck = None,
            }
        }
        let began = clock::now();
        let mut child = match self.start(offer) {
            Ok(child) => child,
            Err(error) => return failed("start the probe", &error),
        };
        let mut text = Vec::new();
        let answer = async {
            let out = child.stdout.take();
            if let Some(out) = out {
                out.take(ANSWER_LEN_MAX).read_to_end(&mut text).await?;
            }
            Ok::<_, std::io::Error>(())
        };
        let answered = tokio::time::timeout(self.timeout, answer).await;
        let ended = match answered {
            Ok(_) => tokio::time::timeout(END_WITHIN, child.wait()).await.is_ok(),
            Err(_) => false,
        };
        if !ended {
            // It may not die of it: waits for NFS can be killed, those of other file systems cannot.
            let _ = child.start_kill();
            self.stuck = Some((child, began));
            return hanging(began);
        }
        match answered {
            Ok(Err(error)) => failed("hear the probe", &error),
            _ => serde_json::from_slice(&text).unwrap_or_else(|_| Findings {
                trouble: Some(Trouble::Failed(
                    "the probe".into(),
                    "it ended without an answer".into(),
                )),
                ..Findings::default()
            }),
        }
    }

    fn start(&mut self, offer: Option<&str>) -> std::io::Result<Child> {
        let demand = &self.demand;
        let mut command = Command::new(&self.program);
        command
            .arg(VERB)
            .args(["--require", demand.require.as_str()])
            .args(["--free-min-bytes", &demand.free_min_bytes.to_string()])
            .args(["--inodes-min", &demand.inodes_min.to_string()])
            .arg("--directory")
            .arg(&demand.directory)
            // Not the service manager's socket, no credentials: it needs nothing.
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        for (option, value) in [("--node", demand.node.as_deref()), ("--offer", offer)] {
            if let Some(value) = value {
                command.args([option, value]);
            }
        }
        self.started += 1;
        command.spawn()
    }
}

fn hanging(since: Instant) -> Findings {
    let ms = u64::try_from(clock::now().since(since).as_millis()).unwrap_or(u64::MAX);
    Findings {
        trouble: Some(Trouble::Hanging(ms)),
        ..Findings::default()
    }
}

fn failed(what: &str, error: &std::io::Error) -> Findings {
    Findings {
        trouble: Some(Trouble::Failed(what.into(), error.to_string())),
        ..Findings::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a child that never answers costs one timeout, and no second one is started while it lives; one that ends
    /// without a word is said to have failed. Method: scripts in the place of the program.
    #[tokio::test]
    async fn children_never_pile_up() {
        use std::os::unix::fs::PermissionsExt as _;
        let place = tempfile::tempdir().expect("a directory");
        let script = |name: &str, text: &str| {
            let path = place.path().join(name);
            std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("written");
            let mode = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(&path, mode).expect("executable");
            path
        };
        let demand = Demand {
            directory: place.path().to_owned(),
            require: Require::Directory,
            free_min_bytes: 0,
            inodes_min: 0,
            node: None,
        };
        let silent = script("silent", "exit 0");
        let mut prober = Prober::of(silent, demand.clone(), Duration::from_secs(10));
        let found = prober.look(None).await.trouble;
        assert!(matches!(found, Some(Trouble::Failed(..))), "{found:?}");

        // The output is held open by a grandchild, so that killing the child does not end the wait for it.
        let slow = script("slow", "exec sleep 30");
        let mut prober = Prober::of(slow, demand, Duration::from_millis(100));
        let found = prober.look(None).await.trouble;
        assert!(matches!(found, Some(Trouble::Hanging(_))), "{found:?}");
        assert_eq!(prober.started(), 1);
        assert!(prober.stuck.is_some());
        // Killed, it goes; until the kernel says so nobody else is started.
        for _ in 0..1000 {
            if prober.started() > 1 {
                break;
            }
            prober.look(None).await;
            clock::sleep(Duration::from_millis(5)).await;
        }
        assert!(
            prober.started() > 1,
            "it looks again after the child is gone"
        );
    }
}
