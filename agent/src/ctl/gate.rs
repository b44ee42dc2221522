//! The kernel gate of this machine for hands and for units: look at it, attest before a start, fence and lift, take away.
//! Asks the kernel itself, not the host agent: works while that is down. Needs root.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Serialize;
use wa_core::id::Role;
use wa_core::master::Fence;

use crate::cli::{GateCommand, Instance, Local};
use crate::config::{self, Settings};
use crate::exit::Exit;
use crate::log::message_id;
use crate::sys::cgroup::{self, Cgroup};
use crate::sys::gate::{self, ByHand, Gate, GateError, first_seal};
use crate::sys::{clock, nft, systemd};

/// The host agent looks each second, and mends what it found broken at its next look.
const ATTACHED_WITHIN: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Dispatches.
///
/// # Errors
/// What the verb could not do, with what to type next.
pub fn run(what: GateCommand) -> anyhow::Result<Exit> {
    match what {
        GateCommand::Status { json } => status(json),
        GateCommand::Attest(instance) => attest(&instance),
        GateCommand::Remove => remove(),
    }
}

fn root_only() -> anyhow::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("only root may ask the kernel about its gate: sudo wa-agent ...");
    }
    Ok(())
}

/// Before a start, in the unit's own control group (`ExecStartPre=+`).
fn attest(which: &Instance) -> anyhow::Result<Exit> {
    let Ok(loaded) = config::load(Role::Coreapp, which.instance, which.config.as_deref()) else {
        // The role itself is started next, and says what is wrong with the configuration in its own exit code.
        return Ok(Exit::Ok);
    };
    let settings = loaded.settings;
    let own = i32::try_from(std::process::id())?;
    let name = cgroup::of_process(own).unwrap_or_default();
    let within = gate::instance_of(&name) == Some(which.instance);
    let group = Cgroup::open(&cgroup::root()?, &name)
        .with_context(|| format!("the control group {name} cannot be opened"))?;
    if within {
        let others: Vec<i32> = group
            .pids()?
            .into_iter()
            .filter(|pid| *pid != own)
            .collect();
        if !others.is_empty() {
            bail!(
                "processes of an earlier start are still in {name} ({others:?}): they cannot be killed, most likely they wait \
                 for a disk or mount; the machine may have to be restarted"
            );
        }
    }
    match enter(&settings, within.then_some(&group)) {
        Ok(says) => {
            println!("{says}");
            Ok(Exit::Ok)
        }
        Err(why) if settings.fence == Fence::Required => bail!(
            "no kernel gate, and fence = \"required\": {why:#}; systemctl status wa-host says more, `wa-agent gate status` what the kernel says"
        ),
        Err(why) => {
            println!("no kernel gate (fence = \"best-effort\"): {why:#}");
            Ok(Exit::Ok)
        }
    }
}

/// The gate, once it stands. A slice that was stopped and started again is a new one: the host agent puts the gate in front
/// of it within two of its looks, and the start waits for that. The kernel tells nobody when a program is attached: it is asked
/// again, until `ATTACHED_WITHIN` is over.
fn attested() -> Result<Gate, GateError> {
    let until = clock::now() + ATTACHED_WITHIN;
    loop {
        let gate = Gate::installed()?;
        match gate.attest() {
            Ok(_) => return Ok(gate),
            Err(GateError::Broken(_)) if clock::now() < until => std::thread::sleep(LOOK_EVERY),
            Err(error) => return Err(error),
        }
    }
}

/// Reads the gate back from the kernel, and makes the entry of the unit.
fn enter(settings: &Settings, unit: Option<&Cgroup>) -> anyhow::Result<String> {
    let mut gate = attested()?;
    let Some(unit) = unit else {
        return Ok("the kernel gate stands; no entry was made: this is no coreapp's unit".into());
    };
    if let Some(reason) = ByHand::new(&settings.state_directory).reason(settings.instance) {
        return Ok(format!(
            "fenced by hand ({reason}): the kernel lets nothing of this unit out; wa-agent unfence --instance {} lifts it",
            settings.instance
        ));
    }
    let seal = first_seal(&settings.state_directory, settings.instance)
        .context("the highest epoch obeyed cannot be read")?;
    gate.enter(unit.id()?, seal)?;
    Ok(format!(
        "the kernel gate stands; this unit's epochs begin with {seal}"
    ))
}

/// Control groups of the units in the slice, by the kernel's number.
fn names() -> BTreeMap<u64, String> {
    let folder = gate::slice().and_then(std::fs::read_dir);
    let entries = folder.into_iter().flatten().flatten();
    let named = entries.filter_map(|entry| {
        let id = wa_bpf::cgroup_id(&entry.path()).ok()?;
        Some((id, entry.file_name().to_string_lossy().into_owned()))
    });
    named.collect()
}

#[derive(Serialize)]
struct Status {
    /// The kernel enforces it for the slice as it is now.
    stands: bool,
    /// Why not; empty otherwise.
    why: String,
    /// `bpf`; else `nftables` where that stands instead, or `process`.
    fence: &'static str,
    /// By nftables: control groups that are let through, and for how many seconds more.
    admitted: BTreeMap<String, u64>,
    programs: Vec<Program>,
    /// Network devices, and whether what is sent under a tenure may leave by them.
    devices: BTreeMap<String, bool>,
    exempt: Vec<String>,
    units: Vec<Unit>,
    counters: BTreeMap<&'static str, u64>,
}

#[derive(Serialize)]
struct Program {
    name: String,
    id: u32,
    tag: String,
}

#[derive(Serialize)]
struct Unit {
    cgroup: u64,
    unit: String,
    epoch: u64,
    /// Below this one every epoch is over.
    seal: u64,
    /// Time left until packets stop; 0 when shut.
    left_ms: u64,
}

fn read() -> anyhow::Result<Status> {
    let gate = Gate::installed()?;
    let attested = gate.attest();
    let (programs, why) = match attested {
        Ok(found) => (found.programs, String::new()),
        Err(error) => (Vec::new(), error.to_string()),
    };
    let (names, now) = (names(), clock::now());
    let units = gate.units()?.into_iter().filter_map(|cgroup| {
        let state = gate.read(cgroup).ok()?;
        let left = Duration::from_nanos(state.deadline_ns.saturating_sub(now.0));
        Some(Unit {
            cgroup,
            unit: names.get(&cgroup).cloned().unwrap_or_default(),
            epoch: state.epoch,
            seal: state.seal,
            left_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
        })
    });
    Ok(Status {
        stands: why.is_empty(),
        fence: if why.is_empty() { "bpf" } else { "process" },
        admitted: BTreeMap::new(),
        why,
        programs: programs
            .into_iter()
            .map(|program| Program {
                name: program.name.to_owned(),
                id: program.id,
                tag: program.tag,
            })
            .collect(),
        devices: gate.devices()?.into_iter().collect(),
        exempt: gate.exempt().iter().map(ToString::to_string).collect(),
        units: units.collect(),
        counters: gate.counters()?.into_iter().collect(),
    })
}

fn status(json: bool) -> anyhow::Result<Exit> {
    root_only()?;
    let mut status = read().unwrap_or_else(|error| Status {
        stands: false,
        why: format!("{error:#}"),
        fence: "process",
        admitted: BTreeMap::new(),
        programs: Vec::new(),
        devices: BTreeMap::new(),
        exempt: Vec::new(),
        units: Vec::new(),
        counters: BTreeMap::new(),
    });
    if !status.stands
        && let Ok(admitted) = nft::open()
    {
        status.fence = "nftables";
        status.admitted = admitted.into_iter().collect();
    }
    if json {
        println!("{}", serde_json::to_string(&status)?);
    } else {
        print!("{}", shown(&status));
    }
    Ok(if status.stands {
        Exit::Ok
    } else {
        Exit::Failure
    })
}

fn shown(status: &Status) -> String {
    let mut out = if status.stands {
        format!("the gate stands in front of {}\n", gate::SLICE)
    } else {
        format!("no gate: {}\n", status.why)
    };
    if status.fence == "nftables" {
        out.push_str("nftables stands instead (fence = \"best-effort\"): it lets units through, not epochs\n");
    }
    for (group, left) in &status.admitted {
        out.push_str(&format!(
            "  unit {group}: let through for at most {} s more\n",
            left + 1
        ));
    }
    for program in &status.programs {
        out.push_str(&format!(
            "  program {} id {} tag {}\n",
            program.name, program.id, program.tag
        ));
    }
    for (device, judged) in &status.devices {
        out.push_str(&match judged {
            true => format!("  device {device}\n"),
            false => format!(
                "  device {device}: no judge there, what is sent under a tenure is dropped\n"
            ),
        });
    }
    if !status.exempt.is_empty() {
        out.push_str(&format!("  exempt {}\n", status.exempt.join(" ")));
    }
    for unit in &status.units {
        let state = match unit.left_ms {
            _ if unit.seal > unit.epoch => "sealed".to_owned(),
            0 => "shut".to_owned(),
            left => format!("open for {left} ms more"),
        };
        out.push_str(&format!(
            "  unit {} (cgroup {}): epoch {}, seal {}, {state}\n",
            unit.unit, unit.cgroup, unit.epoch, unit.seal
        ));
    }
    for (name, count) in status.counters.iter().filter(|(_, count)| **count > 0) {
        out.push_str(&format!("  {name} {count}\n"));
    }
    out
}

fn remove() -> anyhow::Result<Exit> {
    root_only()?;
    let running: Vec<String> = names()
        .into_values()
        .filter(|name| systemd::instance_of(name).is_some())
        .collect();
    if !running.is_empty() {
        bail!(
            "{} would go on without a gate: stop it first (systemctl stop 'wa-coreapp@*')",
            running.join(", ")
        );
    }
    // What stood in the gate's place, perhaps; nothing is done where there is none.
    nft::remove();
    let pins = Path::new(gate::PINS);
    let pinned = std::fs::read_dir(pins).is_ok_and(|mut entries| entries.next().is_some());
    if !pinned {
        println!("no kernel gate is pinned here: there is nothing to take away");
        return Ok(Exit::Ok);
    }
    // Only the gate holds back what dead processes have left in send queues: it goes after their connections.
    let ended = Gate::installed()
        .and_then(|mut gate| gate.end_everything())
        .with_context(|| {
            format!(
                "the gate stays, since connections behind it could not be ended; stop what runs in {}, or remove it all the same: rm -r {}",
                gate::SLICE,
                pins.display()
            )
        })?;
    wa_bpf::Gate::remove(pins)?;
    println!("{}", removed(&ended));
    Ok(Exit::Ok)
}

fn removed(ended: &gate::Ended) -> String {
    let first = match ended.unsupported {
        true => "this kernel cannot end connections: what dead processes have left in send queues may leave now".to_owned(),
        false => format!(
            "{} connections of {} control groups were ended first",
            ended.destroyed, ended.groups
        ),
    };
    format!("the kernel gate is taken away; {first}")
}

/// What a hand did, as `--json` prints it.
#[derive(Serialize)]
struct Done {
    node: String,
    fenced: bool,
    message: String,
}

/// Fences a coreapp of this machine, or lifts that.
///
/// # Errors
/// When the instance is not of this machine, or files and kernel do not take it.
pub fn fence(which: &Local, reason: Option<&str>, on: bool) -> anyhow::Result<Exit> {
    root_only()?;
    let instance = match (which.instance, &which.node) {
        (Some(instance), _) => instance,
        (None, Some(node)) => instance_of(node)?,
        (None, None) => bail!("name the coreapp: --instance 1, or --node core1.example:coreapp-1"),
    };
    let settings = config::load(Role::Host, 1, which.config.as_deref())?.settings;
    let own = settings.node.as_str();
    let hostname = own.rsplit_once(':').map_or(own, |(hostname, _)| hostname);
    let node = format!("{hostname}:coreapp-{instance}");
    if let Some(asked) = &which.node
        && *asked != node
    {
        bail!(
            "{asked} is not of this machine, whose coreapps are named like {node}: type this there"
        );
    }
    let by_hand = ByHand::new(&settings.state_directory);
    let message = if on {
        let reason = reason.unwrap_or("no reason given");
        by_hand
            .fence(instance, reason)
            .context("the fence cannot be written down; nothing was done")?;
        shut(instance)?
    } else if by_hand.unfence(instance)? {
        "lifted: within a second it may be promoted again".to_owned()
    } else {
        "it was not fenced".to_owned()
    };
    crate::log::to_journal(|| {
        let verb = if on { "fence" } else { "unfence" };
        let reason = reason.unwrap_or_default();
        tracing::warn!(
            MESSAGE_ID = message_id::GATE_BY_HAND,
            REASON = reason,
            "by hand: {verb} {node}: {message} ({reason})"
        );
    });
    let done = Done {
        node,
        fenced: on,
        message,
    };
    if which.json {
        println!("{}", serde_json::to_string(&done)?);
    } else {
        println!("{}: {}", done.node, done.message);
    }
    Ok(Exit::Ok)
}

fn instance_of(node: &str) -> anyhow::Result<u16> {
    let number = node.rsplit_once(":coreapp-").map(|(_, number)| number);
    number
        .and_then(|number| number.parse().ok())
        .with_context(|| format!("{node} is no coreapp; wa-agent status shows their names"))
}

/// Ends what runs: no entry, no packet; and its connections.
fn shut(instance: u16) -> anyhow::Result<String> {
    let path = gate::slice()?.join(systemd::unit_of("coreapp", instance));
    if let (Ok(_), Ok(cgroup)) = (nft::open(), wa_bpf::cgroup_id(&path)) {
        // Where nftables stands instead of the gate; its host agent lets nobody through who is fenced by hand.
        nft::shut(&path, cgroup).context("written down, but nftables still lets it through")?;
        return Ok(
            "nftables lets nothing of it out any more; no later start of it is let through either"
                .to_owned(),
        );
    }
    let mut gate = Gate::installed()
        .context("written down, but there is no kernel gate to shut: stop the unit")?;
    gate.attest()
        .context("written down, but the kernel gate does not stand: stop the unit")?;
    let Ok(cgroup) = wa_bpf::cgroup_id(&path) else {
        return Ok("it does not run; no later start of it is let through".to_owned());
    };
    let ended = gate.bury(cgroup)?;
    Ok(format!(
        "the kernel lets nothing of it out any more, {} connections were ended; no later start of it is let through either",
        ended.destroyed
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_what_is_open_and_what_is_not() {
        let unit = |epoch, seal, left_ms| Unit {
            cgroup: 7,
            unit: "wa-coreapp@1.service".into(),
            epoch,
            seal,
            left_ms,
        };
        let text = shown(&Status {
            stands: true,
            why: String::new(),
            fence: "bpf",
            admitted: BTreeMap::new(),
            programs: Vec::new(),
            devices: [("eth0".to_owned(), true), ("ppp0".to_owned(), false)].into(),
            exempt: vec!["127.0.0.0/8".into()],
            units: vec![unit(4, 3, 900), unit(4, 5, 900), unit(4, 3, 0)],
            counters: [("dropped_sealed", 2), ("passed_rst", 0)].into(),
        });
        for part in [
            "open for 900 ms",
            "seal 5, sealed",
            "seal 3, shut",
            "dropped_sealed 2",
            "device eth0\n",
            "device ppp0: no judge there",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(!text.contains("passed_rst"));
        let text = shown(&Status {
            stands: false,
            why: "no bpf file system".into(),
            fence: "nftables",
            admitted: [("wa.slice/x".to_owned(), 2)].into(),
            programs: Vec::new(),
            devices: BTreeMap::new(),
            exempt: Vec::new(),
            units: Vec::new(),
            counters: BTreeMap::new(),
        });
        for part in [
            "no gate: no bpf file system",
            "nftables stands instead",
            "unit wa.slice/x: let through for at most 3 s",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    #[test]
    fn a_removal_says_what_it_ended() {
        let mut ended = gate::Ended {
            groups: 3,
            destroyed: 2,
            unsupported: false,
        };
        let said = removed(&ended);
        assert!(said.contains("2 connections of 3 control groups"), "{said}");
        ended.unsupported = true;
        assert!(removed(&ended).contains("may leave now"));
    }

    #[test]
    fn only_coreapps_can_be_fenced() {
        assert_eq!(instance_of("core1.example:coreapp-12").expect("one"), 12);
        assert!(instance_of("core1.example:master-1").is_err());
        assert!(instance_of("12").is_err());
    }
}
