//! From the command line to a role or a verb: every command stands here once.
//! Does no work of its own.

use std::sync::Arc;

use wa_core::id::Role;

use crate::api::control::{SwitchoverRequest, Verb};
use crate::cli::{
    Command, EventsVerb, GateCommand, Install, Instance, KeysVerb, Local, Reach, Steer,
};
use crate::config::{self, ConfigError, Settings};
use crate::ctl::local::{Of, audited};
use crate::exit::Exit;
use crate::runtime::Reload;
use crate::{coreapp, ctl, dev, host, log, master, runtime, sys, webapp};

/// Runs a role until it is stopped, or a verb; the hidden helpers were answered before the log was set up.
///
/// # Errors
/// Whatever ended the role or the verb; `main.rs` makes an exit code of it.
pub fn run(command: Command) -> anyhow::Result<Exit> {
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
        Command::Switchover {
            reach,
            shard,
            to,
            at,
            cancel,
            dry_run,
            reason,
        } => {
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
            return ctl::switchover::run(&reach, wish);
        }
        Command::Explain {
            reach,
            shard,
            decision,
        } => {
            return explain(&reach, shard, decision);
        }
        Command::Plan { reach, node } => return ctl::plan::run(&reach, &node),
        Command::History {
            reach,
            limit,
            shard,
        } => return ctl::history::run(&reach, limit, shard),
        Command::Audit(args) => return ctl::audit::run(&args),
        Command::Users { verb } => return ctl::users::run(verb),
        Command::Events { verb } => return events(verb),
        Command::Settings { reach } => return ctl::settings::run(&reach),
        Command::Webhooks { verb } => return ctl::webhooks::run(&verb),
        Command::Steer(verb) => return steer(verb),
        Command::Fence { which, reason } => return fence(&which, reason, true),
        Command::Unfence { which, reason } => return fence(&which, reason, false),
        Command::Gate { what } => return gate(what),
        Command::ProbeMount(_) | Command::SendFromGroup { .. } => {}
        Command::Install(verb) => return install(verb),
    }
    Ok(Exit::Ok)
}

fn gate(what: GateCommand) -> anyhow::Result<Exit> {
    match what {
        GateCommand::Remove => audited(Of::Config(None), "gate remove", || ctl::gate::run(what)),
        GateCommand::Status { .. } | GateCommand::Attest(_) => ctl::gate::run(what),
    }
}

fn fence(which: &Local, reason: Option<String>, on: bool) -> anyhow::Result<Exit> {
    let words = ctl::local::fence_words(which, on);
    audited(Of::Config(which.config.as_deref()), &words, || {
        ctl::gate::fence(which, reason.as_deref(), on)
    })
}

fn events(verb: EventsVerb) -> anyhow::Result<Exit> {
    match verb {
        EventsVerb::List { reach, limit } => ctl::events::list(&reach, limit),
        EventsVerb::Retry { wish, key } => {
            ctl::operate::run(&wish, Verb::RetryEvents { key }, true)
        }
    }
}

fn explain(reach: &Reach, shard: Option<u16>, decision: Option<i64>) -> anyhow::Result<Exit> {
    match decision {
        Some(id) => ctl::explain::decision(reach, id),
        None => ctl::explain::run(reach, shard),
    }
}

/// The verbs for one installation: they make it, look at it, and clear it away.
fn install(verb: Install) -> anyhow::Result<Exit> {
    match verb {
        Install::Setup(args) if args.dry_run => ctl::setup::run(&args),
        Install::Setup(args) => audited(Of::Root(&args.root), "setup", || ctl::setup::run(&args)),
        Install::Doctor(args) => ctl::doctor::run(&args),
        Install::Debug(args) => ctl::debug::run(&args),
        Install::Import(args) if args.dry_run => ctl::import::run(&args),
        Install::Import(args) => {
            audited(Of::Root(&args.root), "import", || ctl::import::run(&args))
        }
        Install::Reset(args) => {
            let file = args.config.as_deref();
            audited(Of::Config(file), &args.words(), || ctl::reset::run(&args))
        }
        Install::CheckConfig {
            instance,
            role,
            json: _,
            open_files: true,
        } => ctl::check_config::open_files(&instance, &role),
        Install::CheckConfig {
            instance,
            role,
            json,
            open_files: false,
        } => ctl::check_config::run(&instance, &role, json),
        Install::Generate { out } => ctl::generate::run(&out),
        Install::Keys {
            verb: KeysVerb::Rotate(args),
        } => ctl::keys::run(&args),
        Install::Keys {
            verb: KeysVerb::Lay { role, instance },
        } => ctl::lay::run(&role, instance),
        Install::Raise { pid } => ctl::raise::run(pid),
        Install::Keygen { out, webapp_of } => {
            let words = ctl::keygen::words(out.as_deref(), webapp_of.as_deref());
            audited(Of::Config(None), &words, || {
                ctl::keygen::run(out.as_deref(), webapp_of.as_deref())
            })
        }
    }
}

/// The verbs that change something through the primary master.
fn steer(verb: Steer) -> anyhow::Result<Exit> {
    let (wish, verb, sure) = match verb {
        Steer::Drain { wish, node } => (wish, Verb::Drain { node, on: true }, true),
        Steer::Undrain { wish, node } => (wish, Verb::Drain { node, on: false }, true),
        Steer::Pause { wish, span, shard } => {
            let for_ms = Some(u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
            (wish, Verb::Pause { shard, for_ms }, true)
        }
        Steer::Resume { wish, shard } => {
            let for_ms = None;
            (wish, Verb::Pause { shard, for_ms }, true)
        }
        Steer::Ack {
            wish, shard, yes, ..
        } => match shard {
            Some(shard) => (wish, Verb::Ack { shard }, true),
            None => (wish, Verb::AckServer, yes),
        },
        Steer::Adopt { wish } => {
            anyhow::ensure!(
                wish.reason.is_some() || wish.dry_run,
                "say why: add --reason TEXT, for example which dump was restored"
            );
            (wish, Verb::Adopt, true)
        }
        Steer::Failover {
            wish,
            shard,
            to,
            yes,
            ..
        } => (wish, Verb::Failover { shard, to }, yes),
        Steer::Forget { wish, node } => (wish, Verb::Forget { node }, true),
    };
    ctl::operate::run(&wish, verb, sure)
}

fn load(role: Role, instance: Instance) -> Result<(Arc<Settings>, Reload), ConfigError> {
    let loaded = config::load(role, instance.instance, instance.config.as_deref())
        .inspect_err(|error| sys::notify::status(&error.in_one_line()))?;
    let settings = &loaded.settings;
    refuse_old_client(settings).inspect_err(|error| sys::notify::status(&error.in_one_line()))?;
    log::set_node(settings.node.as_str());
    for open in &loaded.open {
        tracing::warn!("{open}");
    }
    webapp::plain::check(&loaded).inspect_err(|error| sys::notify::status(&error.in_one_line()))?;
    let settings = Arc::new(loaded.settings);
    tracing::info!(
        MESSAGE_ID = crate::log::message_id::ROLE_STARTED,
        node = %settings.node,
        version = env!("CARGO_PKG_VERSION"),
        "started"
    );
    // Whoever develops may trace what was started by hand.
    let by_hand = settings.development && sys::machine::own_invocation().is_none();
    if !by_hand && let Err(error) = sys::process::close_memory() {
        tracing::warn!(%error, "other processes of this user may read the keys in the memory of this one; going on");
    }
    let reload = Reload {
        settings: Arc::clone(&settings),
        role,
        instance: instance.instance,
        file: instance.config,
        origins: loaded.origins,
        tries: Default::default(),
    };
    Ok((settings, reload))
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
