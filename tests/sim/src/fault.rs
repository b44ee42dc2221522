//! What goes wrong in a seed, and when. Everything is over at `FAULTS_END`.

use wa_core::id::splitmix;

use wa_core::id::ShardId;
use wa_core::master;
use wa_core::tenure;
use wa_core::time::Duration;
use wa_core::wire::Health;

use crate::world::{MS, Sim, What};

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
    Loss(u64),
    Terminate(usize),
    Switchover(u16),
    Reshard(u16),
    /// The machine loses its power and is up again after this many ms, with a clock that begins anew.
    Reboot(usize, u64),
    /// The connection to the database breaks.
    Disconnect(usize),
    /// The disk of a coreapp takes no more writes.
    DiskFull(usize),
    DiskFree(usize),
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
            Self::Loss(_) => "fault: loss",
            Self::Terminate(_) => "fault: terminate",
            Self::Switchover(_) => "fault: switchover",
            Self::Reshard(_) => "fault: reshard",
            Self::Reboot(..) => "fault: reboot",
            Self::Disconnect(_) => "fault: connection dropped",
            Self::DiskFull(_) => "fault: disk full",
            Self::DiskFree(_) => "fault: disk free",
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

impl Sim {
    /// Something goes wrong, or is put right.
    pub fn fault(&mut self, fault: Fault) {
        if !self.calm {
            self.tell(format!("fault {fault:?}"));
        }
        self.count(fault.kind());
        match fault {
            Fault::Reboot(node, after_ms) => self.reboot(node, after_ms),
            Fault::Disconnect(node) => self.nodes[node].opened += 1,
            Fault::DiskFull(node) => self.nodes[node].ill = Health::HIGH_WATER_OK,
            Fault::DiskFree(node) => self.nodes[node].ill = Health(0),
            Fault::Crash(node, restart) => self.crash(node, Some(restart)),
            Fault::Pause(node) => self.nodes[node].paused = true,
            Fault::Resume(node) => {
                self.nodes[node].paused = false;
                for what in std::mem::take(&mut self.nodes[node].backlog) {
                    self.push(self.order % 1000, node, what);
                }
            }
            Fault::Cut(a, b) => drop(self.cut.insert((a, b))),
            Fault::Mend(a, b) => drop(self.cut.remove(&(a, b))),
            Fault::CutDatabase(node) => drop(self.db_cut.insert(node)),
            Fault::MendDatabase(node) => drop(self.db_cut.remove(&node)),
            Fault::Rewind(ms) => self.db.rewind(self.now.saturating_sub(ms * MS)),
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
