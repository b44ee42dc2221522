//! What goes wrong in a seed, and when. Everything is over at `FAULTS_END`.

use wa_core::id::{Epoch, ShardId, splitmix};
use wa_core::master;
use wa_core::tenure;
use wa_core::time::Duration;
use wa_core::wire::Health;

use crate::node::{Brain, Trap};
use crate::web::Outside;
use crate::world::{MS, Sim, Thread, What};

/// When the last fault is undone.
pub const FAULTS_END: u64 = 7000 * MS;

/// One fault.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The process dies; it is started again after this many ms.
    Crash(usize, u64),
    Pause(usize),
    Resume(usize),
    /// Datagrams from the first to the second are lost.
    Cut(usize, usize),
    Mend(usize, usize),
    CutDatabase(usize),
    MendDatabase(usize),
    /// Another server takes over and has lost this many ms.
    Rewind(u64),
    /// Somebody puts a dump of so many ms ago in the place of the rows, on the same server.
    Restore(u64),
    /// The operator adopts what was restored.
    Adopt,
    Loss(u64),
    Terminate(usize),
    Switchover(u16),
    Reshard(u16),
    /// The machine loses its power and is up again after this many ms, with a clock that begins anew.
    Reboot(usize, u64),
    /// The host agent is down for so many ms, and its row names the new start so many ms later.
    RestartHost(usize, u64, u64),
    /// The connection to the database breaks.
    Disconnect(usize),
    /// The disk of a coreapp takes no more writes.
    DiskFull(usize),
    DiskFree(usize),
    /// One thread of a process stands still, and goes on.
    Stop(usize, Thread),
    Go(usize, Thread),
    /// A whole machine stands still, kernel and host agent with it, and goes on.
    Freeze(usize),
    Thaw(usize),
    /// A process stands still and cannot even be killed, until it is resumed.
    Stick(usize),
    /// Something happens before the action of this number.
    Trap(usize, u32, Trap),
    /// The next connection escapes the abort at the end of its tenure.
    Leak(usize),
    /// A process without a tenure opens a connection.
    Rogue(usize),
    /// The deadline in a coreapp's entry is overwritten with rubbish.
    Spoil(usize),
    /// Statements of a node are carried out, their answers are lost.
    DeafenDatabase(usize),
    HearDatabase(usize),
    /// The two servers lose each other; these nodes (bits) reach only the one that is not the writer.
    SplitDatabase(u64),
    JoinDatabase,
    /// The wall clock of the database is set forward, or back, by this many ms.
    StepClock(i64),
    /// The disk of a coreapp takes this many ms for a write.
    SlowDisk(usize, u64),
    /// Nothing gets from the webapp to a coreapp (true), or back.
    CutWeb(bool, usize),
    MendWeb(bool, usize),
    WebappDies,
    /// The file of a node's disk that remembers epochs holds this number; and what it held before again.
    RotFile(usize, u64),
    MendFile(usize),
    /// A node names this number in its heartbeats; and tells the truth again.
    Boast(usize, u64),
    Humble(usize),
    /// A number in the rows is overwritten.
    RotRow(Cell, u64),
    /// What a node's disk holds is kept aside: a snapshot.
    KeepDisk(usize),
    /// The machine is down, gets a new disk, and is up again after so many ms.
    NewDisk(usize, u64),
    /// The same with the state of the disk that was kept.
    OldDisk(usize, u64),
    /// The disk of a node, or what was kept of it, is put into another machine, which is started beside it.
    Copy(usize, usize),
    /// The same, and the numbers of that machine's hardware are those of the original, as some hypervisors copy them.
    Double(usize, usize),
    /// That machine is switched off.
    CopyGone(usize),
}

/// A number in the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    Counter,
    Term,
    Epoch(u16),
    Ttl(u16),
}

impl Fault {
    /// Its name in the counts.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Crash(..) => "fault: crash",
            Self::Pause(_) => "fault: pause",
            Self::Resume(_) => "fault: resume",
            Self::Cut(..) => "fault: one-way cut",
            Self::Mend(..) => "fault: mend",
            Self::CutDatabase(_) => "fault: database cut off",
            Self::MendDatabase(_) => "fault: database back",
            Self::Rewind(_) => "fault: database failover with rewind",
            Self::Restore(_) => "fault: restored dump",
            Self::Adopt => "fault: operator adopts",
            Self::Loss(_) => "fault: loss",
            Self::Terminate(_) => "fault: terminate",
            Self::Switchover(_) => "fault: switchover",
            Self::Reshard(_) => "fault: reshard",
            Self::Reboot(..) => "fault: reboot",
            Self::RestartHost(..) => "fault: host agent started anew",
            Self::Disconnect(_) => "fault: connection dropped",
            Self::DiskFull(_) => "fault: disk full",
            Self::DiskFree(_) => "fault: disk free",
            Self::Stop(_, Thread::Heartbeats) => "fault: heartbeat thread stands still",
            Self::Stop(_, Thread::Driver) => "fault: driver thread stands still",
            Self::Stop(_, Thread::Sender) => "fault: sender thread stands still",
            Self::Go(..) => "fault: thread goes on",
            Self::Freeze(_) => "fault: machine stands still",
            Self::Thaw(_) => "fault: machine goes on",
            Self::Stick(_) => "fault: process that cannot be killed",
            Self::Trap(..) => "fault: trap laid",
            Self::Leak(_) => "fault: connection escapes the abort",
            Self::Rogue(_) => "fault: connection without a tenure",
            Self::Spoil(_) => "fault: deadline overwritten",
            Self::DeafenDatabase(_) => "fault: answers of the database lost",
            Self::HearDatabase(_) => "fault: answers of the database heard again",
            Self::SplitDatabase(_) => "fault: two servers",
            Self::JoinDatabase => "fault: one server again",
            Self::StepClock(ms) if *ms < 0 => "fault: wall clock set back",
            Self::StepClock(_) => "fault: wall clock set",
            Self::SlowDisk(_, 0) => "fault: disk quick again",
            Self::SlowDisk(..) => "fault: disk slow",
            Self::CutWeb(true, _) => "fault: webapp does not reach a coreapp",
            Self::CutWeb(false, _) => "fault: webapp does not hear a coreapp",
            Self::MendWeb(..) => "fault: webapp mended",
            Self::WebappDies => "fault: webapp killed",
            Self::RotFile(..) => "fault: epoch file holds rubbish",
            Self::MendFile(_) => "fault: epoch file mended",
            Self::Boast(..) => "fault: absurd number in heartbeats",
            Self::Humble(_) => "fault: true numbers in heartbeats again",
            Self::KeepDisk(_) => "fault: disk kept aside",
            Self::NewDisk(..) => "fault: new disk",
            Self::OldDisk(..) => "fault: older disk",
            Self::Copy(..) => "fault: copy of a machine",
            Self::Double(..) => "fault: copy of a machine with its hardware's numbers",
            Self::CopyGone(_) => "fault: copy switched off",
            Self::RotRow(Cell::Counter, _) => "fault: counter in the row overwritten",
            Self::RotRow(Cell::Term, _) => "fault: term in the row overwritten",
            Self::RotRow(Cell::Epoch(_), _) => "fault: epoch in a row overwritten",
            Self::RotRow(Cell::Ttl(_), _) => "fault: length of a lease in a row overwritten",
        }
    }
}

/// Draws what happens to machines: reboots, broken connections, full disks.
pub fn draw_machines(random: &mut u64, masters: usize, apps: usize) -> Vec<(u64, Fault)> {
    let below = |random: &mut u64, n: u64| splitmix(random) % n;
    let mut faults = Vec::new();
    for _ in 0..1 + below(random, 4) {
        let at = (1500 + below(random, 5000)) * MS;
        let until = (at + (30 + below(random, 2500)) * MS).min(FAULTS_END);
        let node = below(random, (masters + apps) as u64) as usize;
        let app = masters + below(random, apps as u64) as usize;
        match below(random, 4) {
            0 | 1 => faults.push((at, Fault::Reboot(node, 50 + below(random, 2500)))),
            2 => faults.push((at, Fault::Disconnect(node))),
            _ => faults.extend([(at, Fault::DiskFull(app)), (until, Fault::DiskFree(app))]),
        }
    }
    faults
}

/// Draws the faults of one seed: (when, what).
pub fn draw(random: &mut u64, masters: usize, apps: usize) -> Vec<(u64, Fault)> {
    let mut faults = Vec::new();
    let nodes = (masters + apps) as u64;
    let below = |random: &mut u64, n: u64| splitmix(random) % n;
    let count = 2 + below(random, 9);
    for _ in 0..count {
        let at = (1500 + below(random, 5000)) * MS;
        let node = below(random, nodes) as usize;
        let app = masters + below(random, apps as u64) as usize;
        let until = (at + (30 + below(random, 2500)) * MS).min(FAULTS_END);
        match below(random, 13) {
            0 | 1 => faults.push((at, Fault::Crash(app, 20 + below(random, 2000)))),
            2 => faults.push((at, Fault::Crash(node, 20 + below(random, 3000)))),
            3 | 4 => faults.extend([(at, Fault::Pause(app)), (until, Fault::Resume(app))]),
            5 => faults.extend([(at, Fault::Pause(node)), (until, Fault::Resume(node))]),
            6 => {
                let other = below(random, nodes) as usize;
                faults.extend([
                    (at, Fault::Cut(node, other)),
                    (until, Fault::Mend(node, other)),
                ]);
                if below(random, 2) == 0 {
                    faults.extend([
                        (at, Fault::Cut(other, node)),
                        (until, Fault::Mend(other, node)),
                    ]);
                }
            }
            7 => faults.extend([
                (at, Fault::CutDatabase(node)),
                (until, Fault::MendDatabase(node)),
            ]),
            8 => faults.push((at, Fault::Rewind(below(random, 400)))),
            9 => faults.extend([
                (at, Fault::Loss(below(random, 300))),
                (until, Fault::Loss(0)),
            ]),
            10 => faults.push((at, Fault::Terminate(app))),
            11 => faults.push((at, Fault::Switchover(below(random, 2) as u16))),
            _ if below(random, 4) == 0 => {
                faults.push((at, Fault::Reshard(1 + below(random, 2) as u16)))
            }
            _ => faults.push((at, Fault::Terminate(node))),
        }
    }
    faults
}

/// Draws faults that come together, as the attacks have them: an owner frozen while the database fails over, a master gone
/// in the middle of a handover.
pub fn draw_bursts(random: &mut u64, masters: usize, apps: usize) -> Vec<(u64, Fault)> {
    let below = |random: &mut u64, n: u64| splitmix(random) % n;
    let mut faults = Vec::new();
    let nodes = (masters + apps) as u64;
    for _ in 0..1 + below(random, 3) {
        let burst = 1500 + below(random, 4000);
        for _ in 0..2 + below(random, 4) {
            let at = (burst + below(random, 1200)) * MS;
            let until = (at + (30 + below(random, 3500)) * MS).min(FAULTS_END);
            let node = below(random, nodes) as usize;
            let app = masters + below(random, apps as u64) as usize;
            match below(random, 12) {
                0..=3 => faults.extend([(at, Fault::Pause(app)), (until, Fault::Resume(app))]),
                4 => faults.extend([(at, Fault::Pause(node)), (until, Fault::Resume(node))]),
                5 => faults.push((at, Fault::Rewind(below(random, 600)))),
                6 => faults.push((at, Fault::Crash(node, 10 + below(random, 1500)))),
                7 => faults.push((at, Fault::Crash(app, 10 + below(random, 400)))),
                8 => faults.extend([
                    (at, Fault::CutDatabase(node)),
                    (until, Fault::MendDatabase(node)),
                ]),
                9 => faults.push((at, Fault::Switchover(below(random, 2) as u16))),
                10 => faults.push((at, Fault::Reshard(1 + below(random, 2) as u16))),
                _ => {
                    let other = below(random, nodes) as usize;
                    for (a, b) in [(node, other), (other, node)] {
                        faults.extend([(at, Fault::Cut(a, b)), (until, Fault::Mend(a, b))]);
                    }
                }
            }
        }
    }
    faults
}

/// Draws what no protocol can prevent and the gate must stop: single threads and whole machines that stand still, also
/// between a decision and its action; processes that cannot be killed; connections that nobody aborts.
pub fn draw_threads(random: &mut u64, masters: usize, apps: usize) -> Vec<(u64, Fault)> {
    let below = |random: &mut u64, n: u64| splitmix(random) % n;
    let mut faults = Vec::new();
    for _ in 0..4 + below(random, 8) {
        let at = (1200 + below(random, 5300)) * MS;
        let until = (at + (20 + below(random, 2500)) * MS).min(FAULTS_END);
        let node = below(random, (masters + apps) as u64) as usize;
        let app = masters + below(random, apps as u64) as usize;
        let span = 20 + below(random, 2000);
        let count = below(random, 12) as u32;
        let thread =
            [Thread::Heartbeats, Thread::Driver, Thread::Sender][below(random, 3) as usize];
        match below(random, 12) {
            0 | 1 => faults.extend([
                (at, Fault::Stop(app, thread)),
                (until, Fault::Go(app, thread)),
            ]),
            2 => {
                let thread = [Thread::Heartbeats, Thread::Driver][below(random, 2) as usize];
                faults.extend([
                    (at, Fault::Stop(node, thread)),
                    (until, Fault::Go(node, thread)),
                ]);
            }
            3 => faults.extend([(at, Fault::Freeze(app)), (until, Fault::Thaw(app))]),
            4 => faults.extend([(at, Fault::Freeze(node)), (until, Fault::Thaw(node))]),
            5 => faults.extend([(at, Fault::Stick(app)), (until, Fault::Resume(app))]),
            6 => faults.push((
                at,
                Fault::Trap(node, count, Trap::Crash(10 + below(random, 1500))),
            )),
            7 => faults.push((at, Fault::Trap(app, count, Trap::Pause(span)))),
            8 => faults.push((at, Fault::Trap(node, count, Trap::Pause(span)))),
            9 => faults.push((at, Fault::Leak(app))),
            10 => faults.extend((0..6).map(|n| (at + n * 150 * MS, Fault::Rogue(app)))),
            _ => faults.push((at, Fault::Spoil(app))),
        }
    }
    faults
}

/// Draws what happens between nodes and their database, and around the cluster: answers lost one way, two servers, wall
/// clocks set, slow disks, webapps that die or do not reach a coreapp.
pub fn draw_database(random: &mut u64, masters: usize, apps: usize) -> Vec<(u64, Fault)> {
    let below = |random: &mut u64, n: u64| splitmix(random) % n;
    let mut faults = Vec::new();
    let nodes = (masters + apps) as u64;
    let mut split = false;
    for _ in 0..4 + below(random, 7) {
        let at = (1200 + below(random, 5300)) * MS;
        let until = (at + (20 + below(random, 2500)) * MS).min(FAULTS_END);
        let node = below(random, nodes) as usize;
        let app = masters + below(random, apps as u64) as usize;
        let some = below(random, 1 << nodes);
        let to = below(random, 2) == 0;
        match below(random, 10) {
            0..=2 => faults.extend([
                (at, Fault::DeafenDatabase(node)),
                (until, Fault::HearDatabase(node)),
            ]),
            3 | 4 if !std::mem::replace(&mut split, true) => {
                faults.extend([
                    (at, Fault::SplitDatabase(some)),
                    (until, Fault::JoinDatabase),
                ]);
            }
            3 | 4 => faults.extend([
                (at, Fault::CutDatabase(node)),
                (until, Fault::MendDatabase(node)),
            ]),
            5 => {
                let ms = i64::try_from(below(random, 200_000)).unwrap_or(0);
                // Half of them back.
                let ms = if ms % 2 == 0 { ms } else { -ms };
                faults.push((at, Fault::StepClock(ms)));
            }
            6 => faults.extend([
                (at, Fault::SlowDisk(app, below(random, 1500))),
                (until, Fault::SlowDisk(app, 0)),
            ]),
            7 => faults.push((at, Fault::WebappDies)),
            _ => faults.extend([
                (at, Fault::CutWeb(to, app)),
                (until, Fault::MendWeb(to, app)),
            ]),
        }
    }
    faults
}

/// Draws what asynchronous replication and restored dumps do: servers that take over and lack commits, one after another,
/// while owners die or are silent; an operator who looks, and adopts what was restored (rule 5.9).
pub fn draw_failovers(random: &mut u64, masters: usize, apps: usize) -> Vec<(u64, Fault)> {
    let below = |random: &mut u64, n: u64| splitmix(random) % n;
    let mut faults = Vec::new();
    for _ in 0..1 + below(random, 3) {
        let burst = 1500 + below(random, 4000);
        faults.push((burst * MS, Fault::Rewind(below(random, 900))));
        for _ in 0..below(random, 4) {
            let at = (burst + below(random, 900)).saturating_sub(450) * MS;
            let until = (at + (30 + below(random, 2500)) * MS).min(FAULTS_END);
            let node = below(random, (masters + apps) as u64) as usize;
            let app = masters + below(random, apps as u64) as usize;
            match below(random, 6) {
                0 => faults.extend([(at, Fault::Pause(app)), (until, Fault::Resume(app))]),
                1 => faults.push((at, Fault::Crash(node, 10 + below(random, 1500)))),
                2 => faults.push((at, Fault::Reboot(app, 50 + below(random, 1500)))),
                3 => faults.push((at, Fault::Switchover(below(random, 2) as u16))),
                4 => faults.extend([
                    (at, Fault::CutDatabase(node)),
                    (until, Fault::MendDatabase(node)),
                ]),
                _ => faults.extend(
                    (0..masters)
                        .flat_map(|m| [(at, Fault::Cut(app, m)), (until, Fault::Mend(app, m))]),
                ),
            }
        }
    }
    if below(random, 3) == 0 {
        let at = (2500 + below(random, 3500)) * MS;
        faults.push((at, Fault::Restore(50 + below(random, 2400))));
    }
    // An operator who sees "restored" adopts it sooner or later; where nothing is restored it is refused.
    for at in [FAULTS_END / MS, 12_000, 20_000] {
        faults.push(((at + below(random, 2000)) * MS, Fault::Adopt));
    }
    faults
}

/// Draws numbers that nothing counts up to, in files, heartbeats and rows, while owners die.
pub fn draw_rotten(random: &mut u64, masters: usize, apps: usize) -> Vec<(u64, Fault)> {
    let below = |random: &mut u64, n: u64| splitmix(random) % n;
    let mut faults = Vec::new();
    for _ in 0..2 + below(random, 6) {
        let at = (1200 + below(random, 5300)) * MS;
        let until = (at + (200 + below(random, 4000)) * MS).min(FAULTS_END);
        let node = below(random, (masters + apps) as u64) as usize;
        let app = masters + below(random, apps as u64) as usize;
        let number = [
            u64::MAX,
            u64::MAX - 1 - below(random, 1000),
            1 << 63,
            (1 << 63) - 1,
            1 << 61,
            (1 << 60) + below(random, 1 << 50),
            (1 << 41) + below(random, 1 << 50),
            (1 << 38) + below(random, 1 << 38),
        ][below(random, 8) as usize];
        // Epochs and terms that start at a few: what lies within a leap of them is believed, so it may not be undone.
        let far = if number < 1 << 42 {
            number + (1 << 42)
        } else {
            number
        };
        let shard = below(random, 2) as u16;
        match below(random, 8) {
            0 | 1 => faults.extend([
                (at, Fault::RotFile(node, far)),
                (at + MS, Fault::Crash(node, 20 + below(random, 300))),
                (until, Fault::MendFile(node)),
            ]),
            2 => faults.extend([
                (at, Fault::RotFile(node, far)),
                (until, Fault::MendFile(node)),
            ]),
            3 | 4 => faults.extend([
                (at, Fault::Boast(node, number)),
                (until, Fault::Humble(node)),
            ]),
            5 => faults.push((at, Fault::RotRow(Cell::Counter, number))),
            6 => faults.push((at, Fault::RotRow(Cell::Term, far))),
            // A lease of absurd length makes everybody wait for the longest there can be: a scenario shows that.
            _ => faults.push((at, Fault::RotRow(Cell::Epoch(shard), far))),
        }
        if below(random, 2) == 0 {
            let after = at + below(random, 1500) * MS;
            faults.push((after, Fault::Crash(app, 20 + below(random, 1500))));
        }
    }
    faults
}

/// Draws what becomes of disks: new ones, older states, copies that run beside their originals; databases that lose commits,
/// and owners that die or stand still meanwhile. The copy is the node of that number.
pub fn draw_disks(random: &mut u64, masters: usize, apps: usize, copy: usize) -> Vec<(u64, Fault)> {
    let below = |random: &mut u64, n: u64| splitmix(random) % n;
    let mut faults = Vec::new();
    let (mut copied, mut gone) = (false, false);
    for _ in 0..2 + below(random, 4) {
        let at = (1500 + below(random, 4500)) * MS;
        let until = (at + (200 + below(random, 3000)) * MS).min(FAULTS_END);
        let app = masters + below(random, apps as u64) as usize;
        let after = 50 + below(random, 1500);
        let earlier = at.saturating_sub(below(random, 1500) * MS);
        match below(random, 6) {
            0 | 1 => faults.push((at, Fault::NewDisk(app, after))),
            2 => faults.extend([
                (earlier, Fault::KeepDisk(app)),
                (at, Fault::OldDisk(app, after)),
            ]),
            _ if !std::mem::replace(&mut copied, true) => {
                if below(random, 2) == 0 {
                    faults.push((earlier, Fault::KeepDisk(app)));
                }
                match below(random, 4) {
                    0 => faults.extend([(at, Fault::Freeze(app)), (until, Fault::Thaw(app))]),
                    1 => faults.extend([(at, Fault::Pause(app)), (until, Fault::Resume(app))]),
                    2 => faults.push((at, Fault::Reboot(app, after))),
                    _ => {}
                }
                let begins = at + below(random, 400) * MS;
                let copied = match at / MS % 2 {
                    0 => Fault::Copy(app, copy),
                    _ => Fault::Double(app, copy),
                };
                faults.extend([(begins, copied), (until.max(begins), Fault::CopyGone(copy))]);
            }
            3 if masters > 1 && !std::mem::replace(&mut gone, true) => {
                let master = below(random, masters as u64) as usize;
                faults.push((at, Fault::NewDisk(master, after)));
            }
            3 => faults.push((at, Fault::Switchover(below(random, 2) as u16))),
            4 => {
                let master = below(random, masters as u64) as usize;
                for (a, b) in [(master, app), (app, master)] {
                    faults.extend([(at, Fault::Cut(a, b)), (until, Fault::Mend(a, b))]);
                }
            }
            _ => faults.push((at, Fault::Crash(app, after))),
        }
        if below(random, 3) == 0 {
            let later = at + below(random, 1500) * MS;
            faults.push((later, Fault::Rewind(below(random, 900))));
        }
    }
    faults
}

impl Sim {
    /// Something goes wrong, or is put right.
    pub fn fault(&mut self, fault: Fault) {
        if !self.calm {
            self.tell(format!("fault {fault:?}"));
        }
        self.count(fault.kind());
        match fault {
            Fault::Reboot(node, after_ms) => self.reboot(node, after_ms),
            Fault::RestartHost(node, down, late) => self.restart_host(node, down, late),
            Fault::Disconnect(node) => self.nodes[node].opened += 1,
            Fault::DiskFull(node) => self.nodes[node].ill = Health::HIGH_WATER_OK,
            Fault::DiskFree(node) => self.nodes[node].ill = Health(0),
            Fault::Crash(node, restart) => self.crash(node, Some(restart)),
            Fault::Pause(node) => self.nodes[node].paused = true,
            Fault::Resume(node) => {
                (self.nodes[node].paused, self.nodes[node].unkillable) = (false, false);
                self.catch_up(node);
            }
            Fault::Stop(node, thread) => self.stop_thread(node, thread),
            Fault::Go(node, thread) => {
                let n = &mut self.nodes[node];
                n.stopped.retain(|other| *other != thread);
                if thread == Thread::Driver {
                    n.driver_since = None;
                }
                self.catch_up(node);
            }
            Fault::Freeze(node) => self.nodes[node].frozen = true,
            Fault::Thaw(node) => {
                self.nodes[node].frozen = false;
                for what in std::mem::take(&mut self.nodes[node].frozen_backlog) {
                    self.push(self.order % 1000, node, what);
                }
                self.catch_up(node);
            }
            Fault::Stick(node) => {
                (self.nodes[node].paused, self.nodes[node].unkillable) = (true, true);
            }
            Fault::Trap(node, after, trap) => self.nodes[node].trap = Some((after, trap)),
            Fault::Leak(node) => self.leak(node),
            Fault::Rogue(node) => {
                let n = &self.nodes[node];
                if n.gate.owned(n.incarnation).is_none() {
                    self.push_traffic(0, node, What::Write(None, None));
                }
            }
            Fault::Spoil(node) => {
                let n = &mut self.nodes[node];
                n.gate.spoil(n.incarnation);
            }
            Fault::Cut(a, b) => drop(self.cut.insert((a, b))),
            Fault::Mend(a, b) => drop(self.cut.remove(&(a, b))),
            Fault::Loss(permille) => self.loss = permille,
            Fault::Terminate(node) => {
                if node < self.masters {
                    self.push(0, node, What::Master(master::Event::Stop));
                } else {
                    self.push(0, node, What::App(tenure::Event::Stop));
                }
            }
            Fault::Switchover(shard) => {
                let shard = ShardId(shard);
                self.command(&master::Command::Switchover { shard, to: None });
            }
            Fault::Reshard(count) => self.command(&master::Command::ShardCount(count)),
            other => self.fault_of_the_database(other),
        }
    }

    /// What goes wrong between nodes and their database, and around the cluster.
    fn fault_of_the_database(&mut self, fault: Fault) {
        match fault {
            Fault::DeafenDatabase(node) => drop(self.db_deaf.insert(node)),
            Fault::HearDatabase(node) => drop(self.db_deaf.remove(&node)),
            Fault::SplitDatabase(nodes) => {
                let mut replica = self.db.clone();
                // Another server names itself otherwise.
                replica.server += 1000;
                self.replica = Some(Box::new(replica));
                let all = 0..self.nodes.len();
                self.on_replica = all.filter(|node| nodes >> node & 1 == 1).collect();
            }
            Fault::JoinDatabase => {
                self.replica = None;
                self.on_replica.clear();
            }
            Fault::StepClock(ms) => {
                self.db_clock_ms += ms;
                // Owners see it within two seconds (`coreapp/wall_clock.rs`); here they do at once.
                let wall_ms = self.wall_ms();
                if ms < 0 {
                    self.db.make_due(wall_ms);
                    if let Some(replica) = &mut self.replica {
                        replica.make_due(wall_ms);
                    }
                }
            }
            Fault::SlowDisk(node, ms) => self.nodes[node].disk_ms = ms,
            Fault::CutWeb(to, node) => drop(self.web_cut.insert((to, node))),
            Fault::MendWeb(to, node) => drop(self.web_cut.remove(&(to, node))),
            Fault::WebappDies => self.push_outside(0, Outside::Dies),
            Fault::CutDatabase(node) => drop(self.db_cut.insert(node)),
            Fault::MendDatabase(node) => drop(self.db_cut.remove(&node)),
            Fault::Rewind(ms) => {
                let before = self.db.rows.clone();
                self.db.rewind(self.now.saturating_sub(ms * MS));
                self.note_rewind(&before);
            }
            Fault::Restore(ms) => self.db.restore(self.now.saturating_sub(ms * MS)),
            Fault::Adopt => self.command(&master::Command::Adopt),
            other => self.fault_of_a_number(other),
        }
    }

    /// Numbers that nothing counts up to.
    fn fault_of_a_number(&mut self, fault: Fault) {
        match fault {
            Fault::RotFile(node, number) => {
                let n = &mut self.nodes[node];
                n.rotten.get_or_insert((n.obeyed, n.seen));
                n.obeyed = Epoch(number);
                n.seen.epoch = Epoch(number);
            }
            Fault::MendFile(node) => self.mend_file(node),
            Fault::Boast(node, number) => self.nodes[node].boast = Some(number),
            Fault::Humble(node) => self.nodes[node].boast = None,
            Fault::RotRow(cell, number) => self.db.rot(cell, number),
            other => self.fault_of_a_disk(other),
        }
    }

    /// Somebody writes the number of before into the file; a coreapp that asks for that reads it again.
    fn mend_file(&mut self, node: usize) {
        let Some((obeyed, seen)) = self.nodes[node].rotten.take() else {
            return;
        };
        if node < self.masters {
            // A master writes it anew by itself.
            if self.nodes[node].seen.epoch > seen.epoch {
                self.nodes[node].seen = seen;
            }
            return;
        }
        self.nodes[node].obeyed = obeyed;
        self.read_memory_again(node);
    }

    /// As the driver does each second, while the core asks for it and the file can be true.
    pub(crate) fn read_memory_again(&mut self, node: usize) {
        let n = &self.nodes[node];
        let epoch = n.obeyed;
        let asks = matches!(&n.brain, Brain::App(tenure) if tenure.implausible());
        if asks && n.rotten.is_none() {
            self.push(0, node, What::App(tenure::Event::Remembered { epoch }));
        }
    }

    pub(crate) fn stop_thread(&mut self, node: usize, thread: Thread) {
        let now = self.local(node);
        self.nodes[node].stopped.push(thread);
        if thread == Thread::Driver {
            self.nodes[node].driver_since.get_or_insert(now);
        }
    }

    /// What a process did not see while it stood still comes to it now.
    fn catch_up(&mut self, node: usize) {
        for what in std::mem::take(&mut self.nodes[node].backlog) {
            self.push(self.order % 1000, node, what);
        }
    }

    /// An operator wants nothing to be replaced on evidence for a while.
    pub fn pause_failover(&mut self, for_ms: u64) {
        for master in 0..self.masters {
            let until = Some(self.local(master) + Duration::from_millis(for_ms));
            let pause = master::Command::Pause { shard: None, until };
            self.push(0, master, What::Master(master::Event::Command(pause)));
        }
    }

    /// An operator asks every master.
    pub fn command(&mut self, command: &master::Command) {
        for master in 0..self.masters {
            self.push(
                0,
                master,
                What::Master(master::Event::Command(command.clone())),
            );
        }
    }
}
