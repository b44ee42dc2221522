//! Model of the protocol: the core's own objects in a small cluster, every placement of a few faults, explored to the end.
//! Knows nothing of messages, of several shards, or of changes of settings: scenarios and seeds do.
//!
//! The bounds, all of them in [`BOUNDS`] and [`FAULTS`]: one shard, two coreapps, one or two masters, clocks at the two
//! limits of ρ that are worst for S1 (an owner's slow, a master's fast) or equal, everything taking a fixed time
//! (datagrams, statements and answers 1 ms). The cluster first comes up without faults. Then, for a while (`window_ms`),
//! before every statement that is carried out, every answer and every datagram, any of the faults may happen, as many in all as
//! the bounds say; after that it goes on for [`SETTLE_MS`]. Two runs that come to the same state are one.

mod act;
mod world;

use stateright::{Checker, HasDiscoveries, Model, Property};
use world::{Fault, Then, What, World};

pub const TTL_MS: u64 = 400;
pub const HEARTBEAT_MS: u64 = 100;
pub const UNHEALTHY_MS: u64 = 300;
pub const MARGIN_MS: u64 = 5;
/// ρ in parts per thousand.
pub const DRIFT: u16 = 100;
/// Faults begin here: the first owner lives and has renewed.
const CALM_MS: u64 = 700;
/// Steps between the offsets.
const PHASE_MS: u64 = 37;
/// How long it goes on after the window, by when somebody must live.
const SETTLE_MS: u64 = 3500;
/// The least that counts as a proof.
pub const STATES_MIN: usize = 10_000;

/// One cluster to explore.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub name: &'static str,
    pub masters: usize,
    /// Host agents answer fences and tell deaths.
    pub hosts: bool,
    pub master_rate: u64,
    pub app_rate: u64,
    pub faults: u8,
    /// How many different offsets between the coreapps' and the masters' timers.
    pub phases: u64,
    /// For how long faults may begin.
    pub window_ms: u64,
    /// Faults only where a write or its answer is under way; otherwise before every event.
    pub only_writes: bool,
}

/// All of them.
pub const BOUNDS: &[Bounds] = &[
    Bounds {
        name: "two masters, no host agents, worst clocks, one fault anywhere",
        masters: 2,
        hosts: false,
        master_rate: 1100,
        app_rate: 900,
        faults: 1,
        phases: 3,
        window_ms: 450,
        only_writes: false,
    },
    Bounds {
        name: "two masters, host agents, one fault anywhere",
        masters: 2,
        hosts: true,
        master_rate: 1000,
        app_rate: 1000,
        faults: 1,
        phases: 3,
        window_ms: 450,
        only_writes: false,
    },
    Bounds {
        name: "one master, no host agents, worst clocks, two faults around writes",
        masters: 1,
        hosts: false,
        master_rate: 1100,
        app_rate: 900,
        faults: 2,
        phases: 1,
        window_ms: 190,
        only_writes: true,
    },
];

/// Longer than a tenure, and shorter than one.
const PAUSES_MS: [u64; 2] = [200, 900];

impl Bounds {
    fn end_ms(&self) -> u64 {
        CALM_MS + self.window_ms + SETTLE_MS
    }

    fn faults(&self, world: &World) -> Vec<Fault> {
        let Some(head) = world.head() else {
            return Vec::new();
        };
        let (write, read) = match &head.what {
            What::Statement(_, Then::Map(_), ..) | What::Reply(..) => (false, true),
            What::Statement(..) | What::Outcome(..) => (true, false),
            _ => (false, false),
        };
        if self.only_writes && !write {
            return Vec::new();
        }
        let mut faults = Vec::new();
        if write || read || matches!(head.what, What::Master(_) | What::App(_) | What::Ping(_)) {
            faults.push(Fault::Lose);
        }
        if !write && !read {
            return faults;
        }
        if let What::Statement(_, _, _, false) = head.what {
            faults.push(Fault::Late(TTL_MS));
        }
        for node in 0..world.nodes.len() {
            faults.push(Fault::Kill(node));
            faults.extend(PAUSES_MS.map(|ms| Fault::Pause(node, ms)));
            faults.push(Fault::Isolate(node, 900));
        }
        faults.extend((0..3).map(Fault::FailOver));
        faults
    }
}

/// What the checker may do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    Next,
    Fault(Fault),
}

impl Model for Bounds {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        let calm = |phase| {
            let mut world = World::new(self, phase * PHASE_MS);
            while world.next_at() < CALM_MS {
                world.go_on();
            }
            world
        };
        (0..self.phases).map(calm).collect()
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        if world.next_at() > self.end_ms() || broken(world) {
            return;
        }
        steps.push(Step::Next);
        if world.faults_left > 0 && world.now < CALM_MS + self.window_ms {
            steps.extend(self.faults(world).into_iter().map(Step::Fault));
        }
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut world = world.clone();
        match step {
            Step::Next => world.go_on(),
            Step::Fault(fault) => world.fault(fault),
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("S1: at most one gate is open", |_, world: &World| {
                world.live_count() <= 1
            }),
            Property::always(
                "S2: no two ownerships are named alike",
                |_, world: &World| !world.db.named_twice,
            ),
            Property::always("S2: nobody obeys a lower epoch", |_, world: &World| {
                !world.obeyed_lower
            }),
            Property::always(
                "L4: somebody lives in the end",
                |bounds: &Self, world: &World| {
                    world.next_at() <= bounds.end_ms() || world.live_count() == 1
                },
            ),
            Property::sometimes("somebody took over", |_, world: &World| world.taken_over),
        ]
    }
}

fn broken(world: &World) -> bool {
    world.live_count() > 1 || world.db.named_twice || world.obeyed_lower
}

/// What one exploration came to.
#[derive(Debug)]
pub struct Explored {
    pub states: usize,
    pub depth: usize,
    /// Every state within the bounds was visited.
    pub exhausted: bool,
    /// What was found against a promise, with the way there.
    pub found: Vec<String>,
}

/// Visits every state within the bounds, unless a promise is broken on the way.
pub fn explore(bounds: Bounds) -> Explored {
    let checker = bounds
        .checker()
        .threads(2)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    let mut found = Vec::new();
    let mut took_over = false;
    for (name, path) in checker.discoveries() {
        if name == "somebody took over" {
            took_over = true;
            continue;
        }
        let steps: Vec<String> = path
            .into_vec()
            .into_iter()
            .filter_map(|(world, step)| match step {
                Some(Step::Fault(fault)) => {
                    let head = world.head().map(|due| &due.what);
                    Some(format!("{} ms: {fault:?} at {head:?}", world.now))
                }
                _ => None,
            })
            .collect();
        found.push(format!("{name}\n  {}", steps.join("\n  ")));
    }
    if !took_over {
        found.push("nobody ever took over: the model is too small to show anything".into());
    }
    Explored {
        states: checker.unique_state_count(),
        depth: checker.max_depth(),
        exhausted: checker.is_done() && found.is_empty(),
        found,
    }
}

#[cfg(test)]
mod tests;
