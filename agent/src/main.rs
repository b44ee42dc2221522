//! The wa-agent binary: parse, log, settings, run, exit code.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;
use wa_agent::api::control::{SwitchoverRequest, Verb};
use wa_agent::cli::{Cli, Command, Instance, KeysVerb};
use wa_agent::config::{self, ConfigError, Settings};
use wa_agent::exit::Exit;
use wa_agent::runtime::Reload;
use wa_agent::{coreapp, ctl, dev, host, log, master, runtime, sys, webapp};
use wa_core::id::Role;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Command::ProbeMount(args) = cli.command {
        return sys::probe::run(args);
    }
    if let Command::SendFromGroup { group } = &cli.command {
        return match sys::nft::send_from(group) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{}: {error}", group.display());
                ExitCode::FAILURE
            }
        };
    }
    log::init(cli.log_format);
    let exit = match run(cli.command) {
        Ok(exit) => exit,
        Err(error) => {
            eprintln!("wa-agent: {error:#}");
            class_of(&error)
        }
    };
    ExitCode::from(exit.code())
}

fn run(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Master(instance) => {
            let (settings, reload) = load(Role::Master, instance)?;
            runtime::run(Some(&reload), |stop| master::run(settings, stop))?;
        }
        Command::Coreapp(instance) => {
            let (settings, reload) = load(Role::Coreapp, instance)?;
            runtime::run(Some(&reload), |stop| coreapp::run(settings, stop))?;
        }
        Command::Webapp(instance) => {
            let (settings, reload) = load(Role::Webapp, instance)?;
            runtime::run(Some(&reload), |stop| webapp::run(settings, stop))?;
        }
        Command::Host(instance) => {
            let (settings, reload) = load(Role::Host, instance)?;
            runtime::run(Some(&reload), |stop| host::run(settings, stop))?;
        }
        Command::Dev(args) => return dev::run(args),
        Command::Simulator(args) => return dev::simulator::run(args),
        Command::Status { reach, watch } => return ctl::status::run(&reach, watch),
        command @ Command::Switchover { .. } => return switchover(command),
        Command::Explain {
            reach,
            shard,
            decision,
        } => {
            return match decision {
                Some(id) => ctl::explain::decision(&reach, id),
                None => ctl::explain::run(&reach, shard),
            };
        }
        Command::Plan { reach, node } => return ctl::plan::run(&reach, &node),
        Command::History {
            reach,
            limit,
            shard,
        } => return ctl::history::run(&reach, limit, shard),
        Command::Settings { reach } => return ctl::settings::run(&reach),
        command @ (Command::Drain { .. }
        | Command::Undrain { .. }
        | Command::Pause { .. }
        | Command::Resume { .. }
        | Command::Ack { .. }
        | Command::Adopt { .. }
        | Command::Failover { .. }) => return operate(command),
        Command::Fence { which, reason } => {
            return ctl::gate::fence(&which, reason.as_deref(), true);
        }
        Command::Unfence { which, reason } => {
            return ctl::gate::fence(&which, reason.as_deref(), false);
        }
        Command::Gate { what } => return ctl::gate::run(what),
        // Answered before the log is set up.
        Command::ProbeMount(_) | Command::SendFromGroup { .. } => {}
        other => return install(other),
    }
    Ok(Exit::Ok)
}

/// The verbs for one installation: they make it, look at it, and clear it away.
fn install(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Setup(args) => ctl::setup::run(&args),
        Command::Doctor(args) => ctl::doctor::run(&args),
        Command::Debug(args) => ctl::debug::run(&args),
        Command::Import(args) => ctl::import::run(&args),
        Command::Reset(args) => ctl::reset::run(&args),
        Command::CheckConfig {
            instance,
            role,
            json,
        } => ctl::check_config::run(&instance, &role, json),
        Command::Generate { out } => ctl::generate::run(&out),
        Command::Keys {
            verb: KeysVerb::Rotate(args),
        } => ctl::keys::run(&args),
        Command::Keygen { out, webapp_of } => {
            ctl::keygen::run(out.as_deref(), webapp_of.as_deref())
        }
        _ => Ok(Exit::Usage),
    }
}

fn switchover(command: Command) -> anyhow::Result<Exit> {
    let Command::Switchover {
        reach,
        shard,
        to,
        at,
        cancel,
        dry_run,
        reason,
    } = command
    else {
        return Ok(Exit::Usage);
    };
    let (in_ms, at_ms) = at.unwrap_or_default();
    let wish = SwitchoverRequest {
        shard,
        to,
        in_ms,
        at_ms,
        cancel,
        dry_run,
        reason,
        by: Some(ctl::reach::who()),
    };
    ctl::switchover::run(&reach, wish)
}

/// The verbs that change something through the primary master.
fn operate(command: Command) -> anyhow::Result<Exit> {
    let (wish, verb, sure) = match command {
        Command::Drain { wish, node } => (wish, Verb::Drain { node, on: true }, true),
        Command::Undrain { wish, node } => (wish, Verb::Drain { node, on: false }, true),
        Command::Pause { wish, span, shard } => {
            let for_ms = Some(u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
            (wish, Verb::Pause { shard, for_ms }, true)
        }
        Command::Resume { wish, shard } => {
            let for_ms = None;
            (wish, Verb::Pause { shard, for_ms }, true)
        }
        Command::Ack {
            wish, shard, yes, ..
        } => match shard {
            Some(shard) => (wish, Verb::Ack { shard }, true),
            None => (wish, Verb::AckServer, yes),
        },
        Command::Adopt { wish } => {
            anyhow::ensure!(
                wish.reason.is_some() || wish.dry_run,
                "say why: add --reason TEXT, for example which dump was restored"
            );
            (wish, Verb::Adopt, true)
        }
        Command::Failover {
            wish,
            shard,
            to,
            yes,
            ..
        } => (wish, Verb::Failover { shard, to }, yes),
        _ => return Ok(Exit::Usage),
    };
    ctl::operate::run(&wish, verb, sure)
}

fn load(role: Role, instance: Instance) -> Result<(Arc<Settings>, Reload), ConfigError> {
    let loaded = config::load(role, instance.instance, instance.config.as_deref())
        .inspect_err(|error| sys::notify::status(&error.in_one_line()))?;
    let settings = loaded.settings;
    refuse_old_client(&settings).inspect_err(|error| sys::notify::status(&error.in_one_line()))?;
    log::set_node(settings.node.as_str());
    tracing::info!(
        MESSAGE_ID = wa_agent::log::message_id::ROLE_STARTED,
        node = %settings.node,
        version = env!("CARGO_PKG_VERSION"),
        "started"
    );
    let reload = Reload {
        key: settings.cluster_key.clone(),
        role,
        instance: instance.instance,
        file: instance.config,
        origins: loaded.origins,
    };
    Ok((Arc::new(settings), reload))
}

/// At the first start of an installed instance: the old client must not be connected at the same time.
fn refuse_old_client(settings: &Settings) -> Result<(), ConfigError> {
    let first = !settings.instance_directory().join("incarnation").exists();
    let installed = sys::machine::own_invocation().is_some() && !settings.development;
    if !first || !installed || settings.ignore_old_client || settings.role == Role::Host {
        return Ok(());
    }
    match sys::old_client::look().first() {
        None => Ok(()),
        Some(trace) => Err(ConfigError::Rule(format!(
            "{}. Two connected clients get a number banned; [cluster] ignore_old_client = true starts all the same",
            trace.sentence()
        ))),
    }
}

fn class_of(error: &anyhow::Error) -> Exit {
    if error.downcast_ref::<ConfigError>().is_some() {
        Exit::Config
    } else {
        Exit::Failure
    }
}
