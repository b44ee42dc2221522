//! The units of this machine that are followed: which start runs, in which control group, and which starts are over.
//! Looks at the kernel and at state files; sends nothing.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sys::inotify::WatchDescriptor;
use wa_core::id::{Epoch, Incarnation};

use crate::sys::cgroup::{Cgroup, Watcher};
use crate::sys::state::{NumberFile, Run, last_run};
use crate::sys::systemd::{UnitState, instance_of, unit_of};

/// Starts that are known to be over, kept to answer fences that come late.
const DEAD_MAX: usize = 256;

/// Role and instance number.
pub type Instance = (String, u16);

/// A unit with a control group that was not empty when it was last looked at.
struct Followed {
    invocation: u128,
    group: Arc<Cgroup>,
    watch: WatchDescriptor,
    /// What the process said of itself; `None` until it has written that.
    run: Option<Run>,
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
}

impl Refusal {
    /// For the log.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Stranger => "no such instance ever ran on this machine",
            Self::NotSeen => "something runs in its place that this agent does not know yet",
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

/// Everything that is followed.
pub struct Units {
    state: PathBuf,
    cgroups: PathBuf,
    boot: u128,
    watcher: Arc<Watcher>,
    followed: BTreeMap<Instance, Followed>,
    dead: VecDeque<(Instance, Run)>,
    /// As the service manager listed them last.
    pub listed: Vec<UnitState>,
}

impl Units {
    /// Follows nothing yet. `state`: the state directory of the roles; `cgroups`: the root of the hierarchy.
    pub fn new(state: PathBuf, cgroups: PathBuf, boot: u128, watcher: Arc<Watcher>) -> Self {
        Self {
            state,
            cgroups,
            boot,
            watcher,
            followed: BTreeMap::new(),
            dead: VecDeque::new(),
            listed: Vec::new(),
        }
    }

    fn directory(&self, (role, number): &Instance) -> PathBuf {
        self.state.join(format!("{role}-{number}"))
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
        let run = last_run(&self.directory(instance)).filter(|run| run.invocation == invocation);
        let followed = Followed {
            invocation,
            group: Arc::new(group),
            watch,
            run,
        };
        self.followed.insert(instance.clone(), followed);
        Ok(true)
    }

    /// Looks at every group again: which became empty?
    pub fn ended(&mut self) -> Vec<Death> {
        let mut over = Vec::new();
        for (instance, followed) in &mut self.followed {
            let directory = self.state.join(format!("{}-{}", instance.0, instance.1));
            if followed.run.is_none() {
                followed.run =
                    last_run(&directory).filter(|run| run.invocation == followed.invocation);
            }
            if followed.group.empty().unwrap_or(false) {
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

    /// Is this start of that instance over, or what would have to be killed?
    pub fn judge(&self, instance: &Instance, asked: Incarnation, epoch: Epoch) -> Judgement {
        let seen = self
            .dead
            .iter()
            .find(|(of, run)| of == instance && run.incarnation == asked);
        if let Some((_, run)) = seen {
            return Judgement::Gone(*run);
        }
        let directory = self.directory(instance);
        let Some(run) = last_run(&directory).filter(|run| run.incarnation.counter >= asked.counter)
        else {
            return Judgement::Refused(Refusal::Stranger);
        };
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
                _ => Judgement::Gone(named),
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
                let obeyed = NumberFile::open(&directory, "epoch").and_then(|file| file.load());
                if obeyed.is_ok_and(|obeyed| obeyed > epoch.0) {
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

    fn units(state: &Path) -> Units {
        let watcher = Arc::new(Watcher::new().expect("inotify"));
        Units::new(state.into(), "/sys/fs/cgroup".into(), 5, watcher)
    }

    fn asked(counter: u64) -> Incarnation {
        Incarnation { counter, random: 7 }
    }

    fn judged(units: &Units, counter: u64) -> &'static str {
        let instance = ("coreapp".to_owned(), 1);
        match units.judge(&instance, asked(counter), Epoch(3)) {
            Judgement::Gone(_) => "gone",
            Judgement::Runs(..) => "runs",
            Judgement::Refused(Refusal::Stranger) => "stranger",
            Judgement::Refused(Refusal::NotSeen) => "not seen",
            Judgement::Newer(..) => "newer epoch",
            Judgement::Replaced(_) => "replaced",
        }
    }

    /// Goal: a receipt is given only for what surely is over. Method: nothing is followed; the files say what ran.
    #[tokio::test]
    async fn what_does_not_run_is_gone_and_what_never_ran_is_a_stranger() {
        let state = tempfile::tempdir().expect("a directory");
        let units = units(state.path());
        assert_eq!(judged(&units, 1), "stranger");
        write_run(state.path(), 2, 9, 5);
        assert_eq!(
            judged(&units, 3),
            "stranger",
            "a start that has not come yet"
        );
        assert_eq!(judged(&units, 2), "gone");
        assert_eq!(judged(&units, 1), "gone");
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
        let mut units = units(state.path());
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
        assert_eq!(judged(&units, 4), "runs");
        assert_eq!(
            judged(&units, 3),
            "replaced",
            "an earlier start of the same boot"
        );
        std::fs::write(state.path().join("coreapp-1/epoch"), "4\n").expect("written");
        assert_eq!(judged(&units, 4), "newer epoch");
        child.kill().expect("killed");
        child.wait().expect("reaped");
        let deaths = units.ended();
        assert_eq!(deaths.len(), 1);
        assert_eq!(deaths[0].run.map(|run| run.incarnation), Some(asked(4)));
        write_run(state.path(), 5, 10, 5);
        assert_eq!(judged(&units, 4), "gone", "seen to end");
        std::fs::remove_dir(&path).expect("removed");
    }
}
