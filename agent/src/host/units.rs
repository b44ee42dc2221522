//! The units of this machine that are followed: which start runs, in which control group, and which starts are over.
//! Looks at the kernel only; what the units wrote is brought by whoever has read it (see `written`). Sends nothing.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::inotify::WatchDescriptor;
use wa_core::id::{Epoch, Incarnation, NodeId};
use wa_core::starts::{Hardware, Ledger, Seen};
use wa_core::time::Instant;

use super::written::Said;
use crate::sys::cgroup::{Cgroup, Watcher};
use crate::sys::state::Run;
use crate::sys::systemd::{UnitState, instance_of, unit_of};

/// Starts that are known to be over, kept to answer fences that come late.
const DEAD_MAX: usize = 256;

/// A start that has written nothing of itself yet is looked at again after this.
const READ_EVERY: Duration = Duration::from_millis(500);

/// Role and instance number.
pub type Instance = (String, u16);

/// A unit with a control group that was not empty when it was last looked at.
struct Followed {
    invocation: u128,
    group: Arc<Cgroup>,
    watch: WatchDescriptor,
    /// What the process said of itself; `None` until that was read.
    run: Option<Run>,
    /// Its state file is being read.
    reading: bool,
    /// When it is read again, if it said nothing.
    read_again_at: Instant,
    /// The group was empty already when the last reading began: nothing more will be written.
    read_at_the_end: bool,
}

/// A start of one of our units that is over: nobody is left in its control group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Death {
    pub instance: Instance,
    pub run: Option<Run>,
    /// The kernel's number of its control group.
    pub group: Option<u64>,
}

/// Why no receipt can be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No such instance ever ran here.
    Stranger,
    /// This agent has not heard yet which units run, or an unknown one runs in its place.
    NotSeen,
    /// It is not among the starts that this agent has seen on this machine.
    NotHere,
    /// What stands in the place of its state file is none, or its disk does not answer.
    Unreadable,
}

impl Refusal {
    /// For the log.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Stranger => "no such instance ever ran on this machine",
            Self::NotSeen => "something runs in its place that this agent does not know yet",
            Self::NotHere => {
                "this agent has not seen that start on this machine: its disk was copied from another one or replaced, or nobody \
                 watched; its lease has to run out"
            }
            Self::Unreadable => {
                "what the instance wrote of itself cannot be read; look at its state directory"
            }
        }
    }
}

/// What a fence request for one start comes to.
pub enum Judgement {
    /// Nobody of it is left.
    Gone(Run),
    /// It runs: these are its processes.
    Runs(Run, Arc<Cgroup>),
    /// It runs, and obeys a newer epoch by now: it may not be killed.
    Newer(Run, Arc<Cgroup>),
    /// Another start runs in its place, in another control group; this agent did not see the named one end.
    Replaced(Run),
    Refused(Refusal),
}

/// Where the control group of an instance's unit is, below the root of the hierarchy.
pub fn control_group(role: &str, number: u16) -> String {
    let slice = match role {
        "coreapp" => crate::sys::gate::SLICE,
        _ => "wa.slice",
    };
    format!("{slice}/{}", unit_of(role, number))
}

/// How the ledger calls an instance: as its state directory is called.
fn name_of((role, number): &Instance) -> NodeId {
    NodeId::new(&format!("{role}-{number}"))
}

fn seen(instance: &Instance, incarnation: Incarnation, hardware: Hardware) -> Seen {
    Seen {
        node: name_of(instance),
        incarnation,
        hardware,
    }
}

/// Everything that is followed.
pub struct Units {
    cgroups: PathBuf,
    boot: u128,
    watcher: Arc<Watcher>,
    followed: BTreeMap<Instance, Followed>,
    dead: VecDeque<(Instance, Run)>,
    /// All that were seen, with the hardware that they were seen on. It stands on a disk, which may come from elsewhere.
    ledger: Ledger,
    hardware: Hardware,
    /// The ledger holds more than was written down.
    unsaved: bool,
    /// As the service manager listed them last.
    pub listed: Vec<UnitState>,
}

impl Units {
    /// Follows nothing yet. `cgroups`: the root of the hierarchy. `ledger`: what was written down of starts seen before.
    pub fn new(
        cgroups: PathBuf,
        boot: u128,
        watcher: Arc<Watcher>,
        (hardware, ledger): (Hardware, Ledger),
    ) -> Self {
        Self {
            cgroups,
            boot,
            watcher,
            followed: BTreeMap::new(),
            dead: VecDeque::new(),
            ledger,
            hardware,
            unsaved: false,
            listed: Vec::new(),
        }
    }

    /// Takes in what the service manager says: new starts are followed, and ended ones told.
    pub fn list(&mut self, units: Vec<UnitState>) -> Vec<Death> {
        let mut deaths = self.ended();
        for unit in &units {
            let Some((role, number)) = instance_of(&unit.name) else {
                continue;
            };
            let instance = (role.to_owned(), number);
            let Some(invocation) = unit.invocation.filter(|_| !unit.control_group.is_empty())
            else {
                continue;
            };
            if let Some(followed) = self.followed.get_mut(&instance)
                && followed.invocation == invocation
            {
                continue;
            }
            // A new invocation under an old one that is not empty yet: the old one is followed until it is.
            if self.followed.contains_key(&instance) {
                continue;
            }
            let root = self.cgroups.clone();
            match self.follow(&root, &instance, invocation, &unit.control_group) {
                Ok(true) => tracing::debug!(unit = %unit.name, "following"),
                Ok(false) => {}
                Err(error) => {
                    tracing::debug!(unit = %unit.name, %error, "not followed; it may be gone already");
                }
            }
        }
        self.listed = units;
        deaths.extend(self.ended());
        deaths
    }

    fn follow(
        &mut self,
        root: &Path,
        instance: &Instance,
        invocation: u128,
        control_group: &str,
    ) -> io::Result<bool> {
        let group = Cgroup::open(root, control_group)?;
        let watch = self.watcher.add(&group)?;
        // Looked at after the watch began: a death in between is not missed.
        if group.empty()? {
            self.watcher.remove(watch);
            return Ok(false);
        }
        let followed = Followed {
            invocation,
            group: Arc::new(group),
            watch,
            run: None,
            reading: false,
            read_again_at: Instant(0),
            read_at_the_end: false,
        };
        self.followed.insert(instance.clone(), followed);
        Ok(true)
    }

    /// Whose state files have to be read: [`Self::learn`] is to be told, whatever came of it.
    pub fn unread(&mut self, now: Instant) -> Vec<(Instance, u128)> {
        let mut unread = Vec::new();
        for (instance, followed) in &mut self.followed {
            if followed.run.is_some() || followed.reading {
                continue;
            }
            let empty = followed.group.empty().unwrap_or(false);
            let last = empty && !followed.read_at_the_end;
            if last || now >= followed.read_again_at {
                followed.reading = true;
                followed.read_at_the_end = empty;
                followed.read_again_at = now + READ_EVERY;
                unread.push((instance.clone(), followed.invocation));
            }
        }
        unread
    }

    /// What was read for [`Self::unread`]. Who is over already is told by the next [`Self::ended`].
    pub fn learn(&mut self, instance: &Instance, invocation: u128, run: Option<Run>) {
        if let Some(followed) = self.followed.get_mut(instance)
            && followed.invocation == invocation
        {
            followed.reading = false;
            followed.run = run.filter(|run| run.invocation == invocation);
            if let Some(run) = followed.run {
                let seen = seen(instance, run.incarnation, self.hardware);
                self.unsaved |= self.ledger.note(seen);
            }
        }
    }

    /// The starts that were seen, if some of them are to be written down.
    pub fn unsaved(&mut self) -> Option<Ledger> {
        std::mem::take(&mut self.unsaved).then(|| self.ledger.clone())
    }

    /// It was seen on this very machine.
    fn here(&self, instance: &Instance, start: Incarnation) -> bool {
        let hardware = Some(self.hardware);
        self.ledger.here(hardware, &name_of(instance), start)
    }

    /// Looks at every group again: which became empty? One of which nothing was read yet waits for that.
    pub fn ended(&mut self) -> Vec<Death> {
        let mut over = Vec::new();
        for (instance, followed) in &self.followed {
            let told = followed.run.is_some() || followed.read_at_the_end && !followed.reading;
            if told && followed.group.empty().unwrap_or(false) {
                over.push(instance.clone());
            }
        }
        let mut deaths = Vec::new();
        for instance in over {
            let Some(followed) = self.followed.remove(&instance) else {
                continue;
            };
            self.watcher.remove(followed.watch);
            if let Some(run) = followed.run {
                self.remember(&instance, run);
            }
            deaths.push(Death {
                instance,
                run: followed.run,
                group: followed.group.id().ok(),
            });
        }
        deaths
    }

    fn remember(&mut self, instance: &Instance, run: Run) {
        self.dead.push_back((instance.clone(), run));
        while self.dead.len() > DEAD_MAX {
            self.dead.pop_front();
        }
    }

    /// Is this start of that instance over, or what would have to be killed? `said`: what the instance wrote.
    pub fn judge(
        &self,
        instance: &Instance,
        asked: Incarnation,
        epoch: Epoch,
        said: &Said,
    ) -> Judgement {
        let seen = self
            .dead
            .iter()
            .find(|(of, run)| of == instance && run.incarnation == asked);
        if let Some((_, run)) = seen {
            return Judgement::Gone(*run);
        }
        let Ok(run) = &said.run else {
            return Judgement::Refused(Refusal::Unreadable);
        };
        let Some(run) = *run else {
            return Judgement::Refused(Refusal::Stranger);
        };
        // What its own file says of this boot is of this machine: no other has this boot. Anything else may have come with the disk.
        let of_this_boot = run.incarnation == asked && run.boot == self.boot;
        if !of_this_boot && !self.here(instance, asked) {
            return Judgement::Refused(Refusal::NotHere);
        }
        let named = Run {
            incarnation: asked,
            ..run
        };
        let followed = self.followed.get(instance);
        if run.incarnation != asked {
            // An earlier start. What runs now is not it; nothing runs, or the machine was started again: it is over.
            return match followed {
                Some(followed) if run.boot == self.boot => {
                    // The old one is followed until it is empty.
                    if followed.invocation == run.invocation {
                        Judgement::Replaced(named)
                    } else {
                        Judgement::Refused(Refusal::NotSeen)
                    }
                }
                None if run.boot == self.boot && self.unknown_runs(instance) => {
                    Judgement::Refused(Refusal::NotSeen)
                }
                Some(_) | None => Judgement::Gone(named),
            };
        }
        if run.boot != self.boot {
            return Judgement::Gone(named);
        }
        match followed {
            None if self.unknown_runs(instance) => Judgement::Refused(Refusal::NotSeen),
            None => Judgement::Gone(named),
            Some(followed) if followed.invocation != run.invocation => {
                Judgement::Refused(Refusal::NotSeen)
            }
            Some(followed) => {
                if said.obeyed.as_ref().is_ok_and(|obeyed| *obeyed > epoch.0) {
                    return Judgement::Newer(run, Arc::clone(&followed.group));
                }
                Judgement::Runs(run, Arc::clone(&followed.group))
            }
        }
    }

    /// The control group that an instance's unit has now, whoever is in it.
    pub fn group(&self, (role, number): &Instance) -> Option<Cgroup> {
        Cgroup::open(&self.cgroups, &control_group(role, *number)).ok()
    }

    /// Somebody is in the unit's control group though nothing is followed: this agent has only just started.
    fn unknown_runs(&self, instance: &Instance) -> bool {
        let group = self.group(instance);
        group.is_some_and(|group| !group.empty().unwrap_or(false))
    }

    /// Units by what they are doing, for a line of status.
    pub fn summary(&self) -> String {
        let running = self.followed.len();
        let failed = self
            .listed
            .iter()
            .filter(|unit| unit.active == "failed")
            .count();
        match failed {
            0 => format!("following {running} units"),
            _ => format!("following {running} units, {failed} failed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_run(state: &Path, counter: u64, invocation: u128, boot: u128) {
        let directory = state.join("coreapp-1");
        std::fs::create_dir_all(&directory).expect("made");
        let line = format!("{counter} 7 {invocation:032x} {boot:032x}\n");
        std::fs::write(directory.join("running"), line).expect("written");
    }

    fn units() -> Units {
        let watcher = Arc::new(Watcher::new().expect("inotify"));
        let machine = (Hardware(1), Ledger::default());
        Units::new("/sys/fs/cgroup".into(), 5, watcher, machine)
    }

    fn instance() -> Instance {
        ("coreapp".to_owned(), 1)
    }

    /// What the loop does with those of which nothing was read yet.
    fn read(units: &mut Units, state: &Path, at_s: u64) -> usize {
        let unread = units.unread(Instant(at_s * 1_000_000_000));
        for (instance, invocation) in &unread {
            let run = Said::read(state, instance).run.ok().flatten();
            units.learn(instance, *invocation, run);
        }
        unread.len()
    }

    fn asked(counter: u64) -> Incarnation {
        Incarnation { counter, random: 7 }
    }

    fn judged(units: &Units, state: &Path, counter: u64) -> &'static str {
        let said = Said::read(state, &instance());
        match units.judge(&instance(), asked(counter), Epoch(3), &said) {
            Judgement::Gone(_) => "gone",
            Judgement::Runs(..) => "runs",
            Judgement::Refused(Refusal::Stranger) => "stranger",
            Judgement::Refused(Refusal::NotHere) => "not here",
            Judgement::Refused(Refusal::NotSeen) => "not seen",
            Judgement::Refused(Refusal::Unreadable) => "unreadable",
            Judgement::Newer(..) => "newer epoch",
            Judgement::Replaced(_) => "replaced",
        }
    }

    /// Goal: a receipt is given only for what surely is over. Method: nothing is followed; the files say what ran.
    #[tokio::test]
    async fn what_does_not_run_is_gone_and_what_never_ran_is_a_stranger() {
        let state = tempfile::tempdir().expect("a directory");
        let mut units = units();
        assert_eq!(judged(&units, state.path(), 1), "stranger");
        write_run(state.path(), 2, 9, 5);
        assert_eq!(
            judged(&units, state.path(), 3),
            "not here",
            "a start that has not come yet"
        );
        assert_eq!(judged(&units, state.path(), 2), "gone");
        assert_eq!(judged(&units, state.path(), 1), "not here", "never seen");
        units
            .ledger
            .note(seen(&instance(), asked(1), units.hardware));
        assert_eq!(judged(&units, state.path(), 1), "gone");
        std::fs::remove_file(state.path().join("coreapp-1/running")).expect("removed");
        let fifo = state.path().join("coreapp-1/running");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("made");
        assert_eq!(judged(&units, state.path(), 1), "unreadable");
    }

    /// Attack 39. Goal: the host agent of a copied machine says of no start of the original that it is over. Method: a disk on which
    /// a start of another boot is the newest, with the list of starts that were seen; on the same hardware, and on other.
    #[tokio::test]
    async fn a_copied_disk_signs_nothing_for_the_original() {
        let state = tempfile::tempdir().expect("a directory");
        write_run(state.path(), 7, 9, 4);
        let mut units = units();
        for counter in [6, 7] {
            let seen = seen(&instance(), asked(counter), units.hardware);
            units.ledger.note(seen);
        }
        for counter in [6, 7] {
            assert_eq!(judged(&units, state.path(), counter), "gone", "rebooted");
        }
        units.hardware = Hardware(2);
        for counter in [6, 7] {
            assert_eq!(judged(&units, state.path(), counter), "not here");
        }
        // The copy starts its own.
        write_run(state.path(), 8, 10, 5);
        assert_eq!(judged(&units, state.path(), 8), "gone");
        for counter in [6, 7] {
            assert_eq!(judged(&units, state.path(), counter), "not here");
        }
    }

    /// Goal: what runs is killed only when it is exactly the start that is meant, and never when it obeys a newer epoch.
    /// Method: a real control group with a process in it; needs root.
    #[tokio::test]
    async fn a_running_start_is_judged_by_its_own_name() {
        use std::io::Write as _;
        let Ok(root) = crate::sys::cgroup::root() else {
            return;
        };
        let name = format!("wa-test-units-{}", std::process::id());
        let path = root.join(&name);
        if std::fs::create_dir(&path).is_err() {
            let _ = writeln!(
                std::io::stdout(),
                "SKIPPED: a_running_start_is_judged_by_its_own_name: making a control group needs root"
            );
            return;
        }
        let state = tempfile::tempdir().expect("a directory");
        let mut units = units();
        units.cgroups = root;
        let mut child = std::process::Command::new("sleep")
            .arg("600")
            .spawn()
            .expect("sleep");
        std::fs::write(path.join("cgroup.procs"), child.id().to_string()).expect("moved");
        write_run(state.path(), 4, 9, 5);
        let listed = UnitState {
            name: "wa-coreapp@1.service".into(),
            active: "active".into(),
            sub: "running".into(),
            invocation: Some(9),
            control_group: format!("/{name}"),
            main_pid: child.id(),
            result: "success".into(),
            restarts: 0,
            status: String::new(),
        };
        assert!(units.list(vec![listed]).is_empty());
        let running = state.path().join("coreapp-1/running");
        std::fs::rename(&running, state.path().join("later")).expect("renamed");
        assert_eq!(read(&mut units, state.path(), 1), 1, "nothing yet");
        assert_eq!(read(&mut units, state.path(), 1), 0, "not at once again");
        std::fs::rename(state.path().join("later"), &running).expect("renamed");
        assert_eq!(read(&mut units, state.path(), 2), 1);
        assert_eq!(read(&mut units, state.path(), 9), 0, "it is known");
        assert_eq!(judged(&units, state.path(), 4), "runs");
        assert_eq!(judged(&units, state.path(), 3), "not here", "never seen");
        let before = seen(&instance(), asked(3), units.hardware);
        units.ledger.note(before);
        assert!(units.unsaved().is_some(), "the running one is new");
        assert_eq!(
            judged(&units, state.path(), 3),
            "replaced",
            "an earlier start of the same boot"
        );
        std::fs::write(state.path().join("coreapp-1/epoch"), "4\n").expect("written");
        assert_eq!(judged(&units, state.path(), 4), "newer epoch");
        child.kill().expect("killed");
        child.wait().expect("reaped");
        let deaths = units.ended();
        assert_eq!(deaths.len(), 1);
        assert_eq!(deaths[0].run.map(|run| run.incarnation), Some(asked(4)));
        write_run(state.path(), 5, 10, 5);
        assert_eq!(judged(&units, state.path(), 4), "gone", "seen to end");
        std::fs::remove_dir(&path).expect("removed");
    }
}
