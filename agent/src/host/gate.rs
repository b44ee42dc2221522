//! Owns the kernel gate of this machine: puts it in front of the coreapps' slice, looks at it each second, makes and ends
//! the entries of units. Grants nothing: what opens an entry is a coreapp's own store of its deadline.
//!
//! Its programs, links and maps are pinned: they stay when this process ends, whatever the reason. What this process adds
//! is attestation. Without it the gate goes on to enforce, and nobody new is promoted.

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use wa_bpf::{Network, Unjudged};
use wa_core::backoff::exponential;
use wa_core::id::Epoch;
use wa_core::master::Fence;
use wa_core::time::Instant;

use super::fallback::Fallback;
use crate::config::Settings;
use crate::log::message_id;
use crate::sys::cgroup::{self, Cgroup};
use crate::sys::gate::{self, ByHand, Fenced, Gate, GateError, Lent};
use crate::sys::gate_socket::Word;
use crate::sys::{clock, memory, nft};

/// Between two looks at the kernel.
const LOOK_EVERY: Duration = Duration::from_millis(900);
/// Longest wait before programs that the kernel did not take are offered again: each time costs the decision loop a while.
const OPEN_AGAIN_MAX: Duration = Duration::from_secs(60);

/// The gate as this agent knows it.
pub struct Owner {
    inner: Mutex<Inner>,
    by_hand: ByHand,
    settings: Arc<Settings>,
    /// Something changed that coreapps must hear at once.
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Inner {
    gate: Option<Gate>,
    attested_at: Option<Instant>,
    looked_at: Option<Instant>,
    /// Attempts to open that failed in a row, and when the next one is due.
    failures: u32,
    open_at: Instant,
    /// Why it is not attested; empty at first and when it is.
    why: String,
    exempt: Vec<Network>,
    /// Devices that took no judge at the last look.
    unjudged: Vec<Unjudged>,
    /// What stands instead, where the kernel took no gate and none is demanded.
    fallback: Option<Fallback>,
    /// Why that does not stand either.
    why_no_fallback: String,
}

impl Owner {
    /// Opens and attaches; what fails now is tried again at each look.
    pub fn start(settings: &Arc<Settings>) -> Self {
        let owner = Self {
            inner: Mutex::default(),
            by_hand: ByHand::new(&settings.state_directory),
            settings: Arc::clone(settings),
            changed: watch::Sender::new(0),
        };
        owner.inner().exempt = settings.gate_exempt.clone();
        owner.look();
        owner
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Hears of changes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn tell(&self) {
        self.changed.send_modify(|n| *n += 1);
    }

    /// Looks at the kernel, if the last look is old enough; mends what can be mended.
    pub fn look(&self) {
        let now = clock::now();
        let mut inner = self.inner();
        if inner.looked_at.is_some_and(|at| now.since(at) < LOOK_EVERY) {
            return;
        }
        inner.looked_at = Some(now);
        if inner.gate.is_none() && now < inner.open_at {
            if let Some(fallback) = &mut inner.fallback
                && let Err(error) = fallback.look()
            {
                inner.no_fallback(&error);
                drop(inner);
                self.tell();
            }
            return;
        }
        match inner.attest(&self.settings) {
            Ok(()) => {
                inner.failures = 0;
                let before = std::mem::take(&mut inner.why);
                if inner.attested_at.replace(clock::now()).is_none() {
                    // Of this process, or of one before it: nobody would admit anybody any more.
                    inner.fallback = None;
                    nft::remove();
                    tracing::info!(
                        MESSAGE_ID = message_id::GATE_HEALED,
                        before,
                        "the kernel gate stands in front of {}",
                        gate::SLICE
                    );
                }
            }
            Err(error) => {
                let why = error.to_string();
                let news = inner.attested_at.take().is_some() || inner.why.is_empty();
                if news {
                    say_broken(&why, self.settings.fence);
                } else if inner.why != why {
                    tracing::warn!(why, "still no kernel gate; trying again");
                }
                inner.why = why;
                // Opened anew at the next look: the pins may have been removed, or come.
                if !matches!(error, GateError::Broken(_)) {
                    inner.gate = None;
                    inner.failures = inner.failures.saturating_add(1);
                    let second = Duration::from_secs(1);
                    inner.open_at = now + exponential(second, inner.failures, OPEN_AGAIN_MAX, 0);
                    inner.fall_back(&self.settings);
                }
            }
        }
        if let Some(gate) = &mut inner.gate
            && let Err(error) = gate.sweep()
        {
            tracing::debug!(%error, "entries of units that are gone could not be taken away; again in a second");
        }
        drop(inner);
        self.tell();
    }

    /// The last look found it whole.
    pub fn attested(&self) -> bool {
        self.inner().attested_at.is_some()
    }

    /// Which kind of fence stands on this machine, for lines of status; why no better one, where that is so.
    pub fn kind(&self) -> String {
        match self.level() {
            (level, why) if why.is_empty() => format!("fence={level}"),
            (level, why) => format!("fence={level} ({why})"),
        }
    }

    /// The fence's name, and why no better one.
    pub fn level(&self) -> (&'static str, String) {
        let inner = self.inner();
        match (inner.attested_at, &inner.fallback) {
            (Some(_), _) => ("bpf", String::new()),
            (None, Some(_)) => ("nftables", inner.why.clone()),
            (None, None) => ("process", inner.why_process()),
        }
    }

    /// Counters of the program, by name.
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        let inner = self.inner();
        let counters = inner.gate.as_ref().map(Gate::counters);
        counters.and_then(Result::ok).unwrap_or_default()
    }

    /// Fences what a start may still send: epochs up to this one are sealed, its connections ended, both verified.
    /// `None` where there is no gate; an error: no receipt may be given.
    pub fn fence(&self, cgroup: u64, epoch: Epoch) -> Option<Result<Fenced, GateError>> {
        let mut inner = self.inner();
        let fenced = match inner.attested_at {
            Some(_) => Some(
                inner
                    .gate
                    .as_mut()?
                    .fence(cgroup, epoch.0.saturating_add(1)),
            ),
            None => inner.fallback.as_ref()?.fence(cgroup, epoch),
        };
        drop(inner);
        self.tell();
        fenced
    }

    /// A unit is over: nobody is left in its control group. The seal that holds from now on for ever, where there is a
    /// gate and the kernel said that nothing of that group can leave any more.
    pub fn bury(&self, cgroup: u64) -> Option<Epoch> {
        let mut inner = self.inner();
        if inner.attested_at.is_none() {
            // Said of the processes only: what stands instead of the gate is no proof for a group that may be gone by now.
            inner.fallback.as_ref()?.bury(cgroup);
            return None;
        }
        match inner.gate.as_mut()?.bury(cgroup) {
            Ok(fenced) => Some(Epoch(fenced.seal)),
            Err(error) => {
                tracing::error!(%error, "a unit that ended could not be sealed; its lease has to run out");
                None
            }
        }
    }

    /// Nothing of any group that is gone can leave: true where there is a gate.
    pub fn covers_the_dead(&self) -> bool {
        let mut inner = self.inner();
        inner.attested_at.is_some() && inner.gate.as_mut().is_some_and(|gate| gate.sweep().is_ok())
    }

    /// A coreapp asks that its unit be let through until its deadline, or no more: only where nftables is the fence. The
    /// epoch that is admitted now.
    pub fn admit(
        &self,
        instance: u16,
        group: &Cgroup,
        asked: Option<(Epoch, Instant)>,
    ) -> Option<Epoch> {
        let inner = self.inner();
        let fallback = inner.fallback.as_ref()?;
        let asked = asked.filter(|_| self.by_hand.reason(instance).is_none());
        match fallback.admit(instance, group, asked) {
            Ok(()) => asked.map(|(epoch, _)| epoch),
            Err(error) => {
                tracing::warn!(instance, %error, "a coreapp is not let through by nftables");
                None
            }
        }
    }

    /// What a coreapp is told of its own unit, and its map. `obeyed`: the highest epoch that it wrote down.
    pub fn word(
        &self,
        instance: u16,
        group: &Cgroup,
        obeyed: &io::Result<u64>,
    ) -> (Word, Option<Lent>) {
        let by_hand = self.by_hand.reason(instance);
        let mut inner = self.inner();
        let lent = match &by_hand {
            Some(reason) => Err(format!(
                "fenced by hand ({reason}); wa-agent unfence --instance {instance} lifts it"
            )),
            None => inner.lend(group, obeyed),
        };
        let over = by_hand.is_some() || self.settings.fence == Fence::Required;
        let (why, lent, seal) = match lent {
            Ok(lent) => {
                let seal = lent.seal;
                (String::new(), Some(lent), seal)
            }
            Err(why) => {
                // Whatever it holds has to end: nobody says any more that it is held back.
                let obeyed = obeyed.as_ref().ok().filter(|_| over);
                (
                    why,
                    None,
                    obeyed.map_or(0, |obeyed| obeyed.saturating_add(1)),
                )
            }
        };
        let fallback = inner.fallback.as_ref().filter(|_| lent.is_none());
        let word = Word {
            nftables: fallback.is_some(),
            admitted: None,
            attested_at_ns: inner.attested_at.filter(|_| lent.is_some()).map(|at| at.0),
            seal: fallback.map_or(seal, |fallback| seal.max(fallback.seal(instance))),
            map: lent.as_ref().map_or(0, |lent| lent.map),
            by_hand: by_hand.is_some(),
            why,
        };
        (word, lent)
    }

    /// Sets the networks that need no tenure: those configured, and what the cluster itself needs. `keep`: and those in
    /// force, because the table of nodes could not be read yet. Never one with an address of the upstream in it.
    pub fn exempt(&self, derived: Vec<Network>, upstream: &[IpAddr], keep: bool) {
        let mut inner = self.inner();
        let mut all = self.settings.gate_exempt.clone();
        all.extend(derived);
        if keep {
            all.extend_from_slice(&inner.exempt);
        }
        all.retain(|network| {
            let found = upstream.iter().find(|address| network.contains(**address));
            if let Some(address) = found && self.settings.gate_exempt.contains(network) {
                tracing::error!(%network, %address, "an exempt network contains the upstream: it is left out; take it out of [gate] exempt");
            }
            found.is_none()
        });
        let all = largest(all);
        inner.exempt = all.clone();
        if let Some(gate) = &mut inner.gate
            && let Err(error) = gate.set_exempt(&all)
        {
            tracing::error!(%error, "the exempt networks cannot be set; the old ones hold");
        }
        if let Some(fallback) = &mut inner.fallback
            && let Err(error) = fallback.set_exempt(&all)
        {
            tracing::error!(%error, "the exempt networks cannot be set in nftables; the old ones hold");
        }
    }
}

impl Inner {
    /// Opens and attaches where need be, then reads back from the kernel.
    fn attest(&mut self, settings: &Settings) -> Result<(), GateError> {
        // Before anything is attached: it would drop everything.
        gate::same_clock()?;
        if self.gate.is_none() {
            let opened = Gate::installed();
            // The loader reads the kernel's type information, some megabytes that nobody needs afterwards.
            memory::give_back();
            let mut gate = opened?;
            // What an agent before this one has found is better than nothing until the database answers.
            self.exempt.extend_from_slice(gate.exempt());
            self.exempt.sort_unstable();
            self.exempt.dedup();
            gate.set_exempt(&self.exempt)?;
            let unjudged = gate.attach(settings.timers.lease_ttl)?;
            self.gate = Some(gate);
            self.say_unjudged(unjudged);
        }
        let Some(gate) = &mut self.gate else {
            return Ok(());
        };
        let Err(broken) = gate.attest() else {
            match gate.judge_devices() {
                Ok(unjudged) => self.say_unjudged(unjudged),
                // What came since is closed until then.
                Err(error) => {
                    tracing::debug!(%error, "network devices cannot be looked through; again in a second");
                }
            }
            return Ok(());
        };
        // Whoever went past it meanwhile shall not go on: every unit needs a new grant, behind the gate.
        if let Err(error) = gate.seal_everything() {
            tracing::error!(%error, "the gate is broken, and not every unit could be sealed");
        }
        if self.attested_at.is_none() {
            // Told a look ago: put it back, and say so only when the kernel shows that it stands.
            let unjudged = gate.attach(settings.timers.lease_ttl)?;
            gate.attest()?;
            self.say_unjudged(unjudged);
            return Ok(());
        }
        Err(broken)
    }

    /// Names a device once, when it is found to take no judge.
    fn say_unjudged(&mut self, unjudged: Vec<Unjudged>) {
        for found in unjudged
            .iter()
            .filter(|found| !self.unjudged.contains(found))
        {
            tracing::error!(
                device = found.device,
                why = found.why,
                "the gate cannot judge at a network device: what coreapps send upstream by it is dropped; trying again each second"
            );
        }
        self.unjudged = unjudged;
    }

    /// Puts up what stands where the kernel takes no gate, or looks whether it stands.
    fn fall_back(&mut self, settings: &Settings) {
        if settings.fence == Fence::Required {
            return;
        }
        let done = match &mut self.fallback {
            Some(fallback) => fallback.look(),
            None => Fallback::put(settings, &self.exempt).map(|fallback| {
                tracing::warn!("nftables stands in front of {} instead of the kernel gate: it admits units, not epochs", gate::SLICE);
                self.fallback = Some(fallback);
                self.why_no_fallback.clear();
            }),
        };
        if let Err(error) = done {
            self.no_fallback(&error);
        }
    }

    fn no_fallback(&mut self, error: &GateError) {
        let why = error.to_string();
        let news = why != self.why_no_fallback;
        if news {
            tracing::warn!(why, "no fence by nftables either");
        }
        self.why_no_fallback = why;
        if self.fallback.take().is_some() || news {
            // Nobody would admit anybody any more: a table that is left, of a process before this one too, would shut the
            // units off.
            nft::remove();
        }
    }

    fn why_process(&self) -> String {
        if self.why_no_fallback.is_empty() {
            self.why.clone()
        } else {
            format!("{}; no nftables either: {}", self.why, self.why_no_fallback)
        }
    }

    fn lend(&mut self, group: &Cgroup, obeyed: &io::Result<u64>) -> Result<Lent, String> {
        if self.attested_at.is_none() {
            return Err(self.why.clone());
        }
        let seal = match obeyed {
            Ok(obeyed) => obeyed.saturating_add(1),
            Err(error) => return Err(format!("the highest epoch obeyed cannot be read: {error}")),
        };
        let id = group.id().map_err(|error| error.to_string())?;
        let Some(gate) = &mut self.gate else {
            return Err(self.why.clone());
        };
        gate.lend(id, seal).map_err(|error| error.to_string())
    }
}

fn say_broken(why: &str, fence: Fence) {
    let after = match fence {
        Fence::Required => {
            "every unit is sealed, no coreapp of this machine is promoted until it stands again; trying again"
        }
        Fence::BestEffort => {
            "going on without (best effort): with nftables where that works, else a former primary is known to be over when its process is, or by time"
        }
    };
    tracing::error!(
        MESSAGE_ID = message_id::GATE_BROKEN,
        "no kernel gate: {why}; {after}"
    );
}

/// Addresses that coreapps must reach without a tenure: this machine, databases, name servers, nodes of the cluster.
pub fn derived(databases: &[IpAddr], nodes: &[IpAddr], resolv_conf: &str) -> Vec<Network> {
    let servers = resolv_conf.lines().filter_map(|line| {
        let address = line.strip_prefix("nameserver")?.trim();
        // A link-local address may name its interface.
        address.split('%').next()?.parse::<IpAddr>().ok()
    });
    let addresses = databases.iter().chain(nodes).copied().chain(servers);
    let mut all: Vec<Network> = addresses
        .map(|address| address.to_canonical())
        // Of this machine too: where the upstream is on it, its networks are not exempt as a whole.
        .filter(|address| !address.is_unspecified())
        .map(Network::host)
        .collect();
    all.extend(Network::new(IpAddr::from([127, 0, 0, 0]), 8));
    all.push(Network::host(std::net::Ipv6Addr::LOCALHOST.into()));
    all.sort_unstable();
    all.dedup();
    all
}

/// Without those that lie within another one, in order.
fn largest(mut all: Vec<Network>) -> Vec<Network> {
    all.sort_unstable();
    all.dedup();
    let within = |small: &Network, large: &Network| {
        large.prefix() < small.prefix() && large.contains(small.address())
    };
    let found = all.clone();
    all.retain(|small| !found.iter().any(|large| within(small, large)));
    all
}

/// Opens the group that a connected process is in, if it is a coreapp's unit.
pub fn unit_of(pid: i32) -> Result<(u16, Cgroup), String> {
    let group = cgroup::of_process(pid).map_err(|error| error.to_string())?;
    let Some(instance) = gate::instance_of(&group) else {
        return Err(format!(
            "process {pid} runs in {group}, which is no coreapp's unit"
        ));
    };
    let root = cgroup::root().map_err(|error| error.to_string())?;
    let group = Cgroup::open(&root, &group).map_err(|error| error.to_string())?;
    Ok((instance, group))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what the cluster needs is let through, and nothing else.
    #[test]
    fn what_the_cluster_needs_is_found() {
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        let all = derived(
            &[address("192.0.2.10"), address("::ffff:192.0.2.11")],
            &[address("192.0.2.20"), address("127.0.0.1")],
            "search example\nnameserver 192.0.2.53\nnameserver fe80::1%eth0\nnameserver x\n",
        );
        let shown: Vec<String> = all.iter().map(ToString::to_string).collect();
        for there in [
            "127.0.0.0/8",
            "::1/128",
            "192.0.2.10/32",
            "192.0.2.11/32",
            "192.0.2.20/32",
            "192.0.2.53/32",
            "fe80::1/128",
        ] {
            assert!(
                shown.iter().any(|network| network == there),
                "{there} in {shown:?}"
            );
        }
        // The node's own address lies in the first of them: it is what stays where the upstream is on this machine.
        assert_eq!(shown.len(), 8, "{shown:?}");
        assert_eq!(largest(all.clone()).len(), 7, "{all:?}");
        let upstream = address("127.0.0.2");
        let others = all
            .into_iter()
            .filter(|network| !network.contains(upstream));
        let left = largest(others.collect());
        assert!(
            left.contains(&Network::host(address("127.0.0.1"))),
            "{left:?}"
        );
        assert!(!left.iter().any(|network| network.contains(upstream)));
    }
}
