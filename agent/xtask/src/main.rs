//! `cargo xtask`: the build and test commands of the workspace.
//! Knows nothing of wa-agent itself and depends on next to nothing, so that it is built in seconds.

mod bench;
mod chart;
mod count;
mod fuzz;
mod install;
mod keepalived;
mod lab;
mod model;
mod mutants;
mod package;
mod sim;
mod soak;
#[cfg(test)]
mod supply;
mod test;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask VERB
  test [PART] [--list]                        formatting, lints and all tests; ends with `N passed, N failed, N skipped`
  install --destdir DIR [--profile P]         everything that a package has, laid out as it is installed
  deb, rpm [--profile P] [--target T] [--out DIR] [--version V]   a package, below target/packages
  repo DIR [--key ID]                         the packages as an apt and a dnf repository, signed by this key of gpg
  model                                       the protocol in a small cluster, every placement of a few faults
  sim [--seeds N] [--from SEED] [--jobs N]    simulated clusters, seed by seed; one seed alone tells its story
  fuzz [TARGET] [--seconds N]                 hostile input for the parsers, guided by coverage (libFuzzer, stable toolchain)
  mutants [--check]                           takes each guard of the core out: something must turn red (2 min; --check: 10 s)
  soak [--minutes M] [--failovers N]          a cluster under strikes on busy processors with lost heartbeats: no false failover
  bench intake [--seconds N] [--connections N]  messages accepted per second on a private MariaDB
  bench send [--rate N] [--seconds N] [--kill-every N]  the highest rate that is sent and told with flat queues while owners are killed
  bench pending                               a million webhooks that wait: memory, and sending beside them, on a private MariaDB
  bench rows [--rows N] [--database mariadb|sqlite] [--rounds N]  intake, claim and takeover on a store of ten million messages
  bench console [--rounds N]                  what ten open consoles cost a webapp: memory, and messages accepted beside none
  bench takeover [--times N]                  killed, frozen, cut off, handed over on booted machines, from the shipped packages (root)
  bench detection [--times N]                 reply gaps of the heartbeat thread; detection and takeover by profile and fault
  bench keepalived [--times N]                takeovers by wa-agent and by keepalived on the same network namespaces
  bench gate                                  what the kernel gate costs: ns per packet by verdict, throughput with and without (root)";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.split_first() {
        Some((&"test", rest)) => test::run(rest),
        Some((&"install", rest)) => package::install(rest),
        Some((&"deb", rest)) => package::deb(rest),
        Some((&"rpm", rest)) => package::rpm(rest),
        Some((&"repo", rest)) => package::repo(rest),
        Some((&"bench", rest)) => bench::run(rest),
        Some((&"soak", rest)) => soak::run(rest),
        // Runs in a namespace, started by a measurement.
        Some((&"answer", rest)) => keepalived::answer(rest),
        Some((&"model", rest)) => model::run(rest),
        Some((&"sim", rest)) => sim::run(rest),
        Some((&"mutants", rest)) => mutants::run(rest),
        Some((&"fuzz", rest)) => fuzz::run(rest),
        _ => Err(USAGE.to_owned()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::from(2)
        }
    }
}

/// What the packages have beside the program of `cargo run -- dev`, and what is tested with it.
const FEATURES: &str = "watch";

/// The root of the workspace, wherever the command was typed.
fn root() -> std::path::PathBuf {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors()
        .nth(2)
        .expect("agent/xtask lies two folders below the root")
        .to_path_buf()
}

/// The cargo that runs this command, without what it told this process about the package xtask: build scripts that watch
/// such variables would run again, and half the workspace with them, whenever somebody types plain `cargo` in between.
fn cargo() -> std::process::Command {
    let program = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = std::process::Command::new(program);
    for (name, _) in std::env::vars_os() {
        let told = name.to_string_lossy();
        if told.starts_with("CARGO_PKG_") || told.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}
