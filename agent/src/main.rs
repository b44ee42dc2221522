//! The wa-agent binary: parse, log, settings, run, exit code.

use std::process::ExitCode;

use clap::Parser as _;
use wa_agent::cli::{Cli, Command};
use wa_agent::config::ConfigError;
use wa_agent::exit::Exit;
use wa_agent::{dispatch, log, say, sys};

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Command::ProbeMount(args) = cli.command {
        return sys::probe::run(args);
    }
    if let Command::SendFromGroup { group } = &cli.command {
        return match sys::nft::send_from(group) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                say::err(format_args!("{}: {error}\n", group.display()));
                ExitCode::FAILURE
            }
        };
    }
    log::init(cli.log_format);
    let exit = match dispatch::run(cli.command) {
        Ok(exit) => exit,
        Err(error) => {
            say::err(format_args!("wa-agent: {error:#}\n"));
            class_of(&error)
        }
    };
    ExitCode::from(exit.code())
}

fn class_of(error: &anyhow::Error) -> Exit {
    if error.downcast_ref::<ConfigError>().is_some() {
        Exit::Config
    } else {
        Exit::Failure
    }
}
