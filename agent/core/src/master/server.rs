//! The database server behind the rows: SAFE, a server that took over and may lack commits, a restored dump.
//! Names nobody: `failover.rs` asks here what holds it.

use super::{Action, Master, NodeRow, Snapshot, mark};
use crate::guard::{self, Guard};
use crate::id::{Epoch, Grant, NodeId, Role, Term};
use crate::lease;
use crate::plausible;
use crate::reason::Reason;
use crate::time::{Duration, Instant};

/// What a deciding read says of the server that answered (rule 5.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Server {
    /// Names the server, or the group of servers that lose nothing when one of them goes; 0: not known, nothing here applies.
    pub id: u64,
    /// The server on which the rows are known to be complete, as a row says it; 0: never written.
    pub known: u64,
    /// Another server that takes over may lack the newest commits (asynchronous replication).
    pub lossy: bool,
}

/// What a master keeps on disk of what it has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Seen {
    /// [`Server::id`].
    pub server: u64,
    /// The highest epoch that its rows have shown.
    pub epoch: Epoch,
}

impl Master {
    /// SAFE (rule 5.5): every clock of rule 5.3 restarts, and no promotion step is taken for the longest ttl in any row.
    pub(super) fn begin_safe(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        reason: Reason,
        actions: &mut Vec<Action>,
    ) {
        if guard::on(Guard::SafeRestartsClocks) {
            self.watch.restart();
        }
        let longest = longest_ttl(snapshot).max(self.config.ttl);
        let until = now + self.config.tolerance.challenge(longest);
        self.safe_until = Some(until);
        // A successor that has not begun yet waits for its own SAFE first.
        for work in self.work.values_mut() {
            work.activated_at = work.activated_at.map(|_| until);
        }
        actions.push(Action::Decide {
            shard: None,
            what: "safe",
            node: None,
            reason,
        });
    }

    /// Remembers what this server has shown, on disk as well: a dump that is restored later shows less.
    pub(super) fn note_server(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        actions: &mut Vec<Action>,
    ) {
        let server = snapshot.server.id;
        let before = self.map.as_ref().map(|map| map.server.id);
        if before != Some(server) {
            self.server_since = now;
            self.knowing_at = None;
        }
        if server == 0 {
            return;
        }
        let epoch = snapshot.shown();
        // Another server may lack something: that is rule 5.9's question, and no restored dump. What the file says and
        // cannot be true is written anew.
        let known = plausible::heard(epoch.0, self.seen.epoch.0);
        let odd = !known && !self.agreed(snapshot, &self.config.node, self.seen.epoch);
        if odd {
            actions.push(Action::Decide {
                shard: None,
                what: "ignored",
                node: Some(self.config.node.clone()),
                reason: Reason::NumberImplausible,
            });
        }
        if self.seen.server != server || epoch > self.seen.epoch || odd {
            self.seen = Seen { server, epoch };
            actions.push(Action::StoreSeen(self.seen));
        }
    }

    /// The server has shown higher epochs before: somebody restored an older state of it. Nothing is promoted until an
    /// operator adopts it.
    pub fn restored(&self) -> bool {
        self.map.as_ref().is_some_and(|map| {
            let seen = self.remembered();
            // A dump takes the counter back as well: where that stands, single rows were overwritten.
            let counter = map.master.epoch_high;
            let counted = counter >= seen.epoch && plausible::agree(counter.0, seen.epoch.0);
            let lower = map.shown() < seen.epoch && !counted;
            map.server.id != 0 && map.server.id == seen.server && lower
        }) && guard::on(Guard::RestoreHolds)
    }

    /// The highest epoch that the present server has shown.
    pub fn seen(&self) -> Seen {
        self.seen
    }

    /// Another server has taken over that may lack commits, and not everybody is accounted for yet.
    pub fn server_changed(&self) -> bool {
        self.map.as_ref().is_some_and(|map| {
            let Server { id, known, lossy } = map.server;
            lossy && id != 0 && known != 0 && known != id
        }) && guard::on(Guard::ServerChangeHolds)
    }

    /// The coreapps that may act by a grant which this server does not know of: they do not answer and are not known to
    /// be dead, or hold what no row shows, or have not renewed here yet. In the order of their names.
    pub fn unaccounted(&self) -> Vec<NodeId> {
        let nodes = self.map.iter().flat_map(|map| &map.nodes);
        let coreapps = nodes.filter(|n| n.role == Role::Coreapp);
        let open = coreapps.filter(|n| !self.accounted(n));
        open.map(|n| n.node.clone()).collect()
    }

    fn accounted(&self, n: &NodeRow) -> bool {
        let dead = |start| self.obituaries.contains_key(&(n.node.clone(), start));
        let Some(peer) = self.detector.peers.get(&n.node) else {
            return false;
        };
        let start = peer.incarnation().unwrap_or(n.incarnation);
        if self.twin(&n.node).is_some() {
            return false;
        }
        if dead(start) {
            return true;
        }
        let heard_here = peer.heard_at().is_some_and(|at| at > self.server_since);
        let fresh = peer.fresh(&self.detector.intervals).filter(|_| heard_here);
        let Some(report) = fresh else { return false };
        let Some(shard) = report.shard else {
            return true;
        };
        let mut rows = self.map.iter().flat_map(|map| &map.shards);
        rows.any(|row| {
            let own = row.shard == shard && row.owner.as_ref() == Some(&n.node);
            // A nonce that came after the first reading: it renews on this very server.
            let since = self.watch.since(&mark(row));
            let renewed = since.is_some_and(|at| at > self.server_since);
            own && renewed && (row.epoch, row.grant) == (report.epoch, report.grant)
        })
    }

    /// What keeps every shard from being promoted, if anything. Says so once when it begins, and writes that the server is
    /// known when nothing speaks against it any more.
    pub(super) fn held_by_server(
        &mut self,
        now: Instant,
        term: (Term, Grant),
        actions: &mut Vec<Action>,
    ) -> Option<Reason> {
        let held = if self.restored() {
            Some(Reason::RestoredDatabase)
        } else if self.server_changed() {
            Some(Reason::ServerChanged)
        } else {
            None
        };
        if held != self.held {
            let (what, reason) = match (held, self.held) {
                (Some(reason), _) => ("blocked", reason),
                (None, _) => ("unblocked", Reason::ServerKnown),
            };
            self.held = held;
            actions.push(Action::Decide {
                shard: None,
                what,
                node: None,
                reason,
            });
        }
        let safe = self.safe_left(now).is_some();
        let may = match held {
            None => true,
            Some(Reason::ServerChanged) => self.unaccounted().is_empty(),
            Some(_) => false,
        };
        if may && !safe {
            self.know_server(now, term, actions);
        }
        held
    }

    /// Writes the present server down, a try a ttl, until a read shows it.
    pub(super) fn know_server(
        &mut self,
        now: Instant,
        (term, term_grant): (Term, Grant),
        actions: &mut Vec<Action>,
    ) {
        let Some(server) = self.map.as_ref().map(|map| map.server) else {
            return;
        };
        let lately = self.knowing_at.is_some_and(|at| now < at + self.config.ttl);
        if server.id == 0 || server.id == server.known || lately {
            return;
        }
        self.knowing_at = Some(now);
        actions.push(Action::KnowServer {
            term,
            term_grant,
            server: server.id,
        });
    }
}

/// Why no row may be believed to be the newest one, if anything speaks against it (rule 5.5).
pub(super) fn safe_because(before: Option<&Snapshot>, after: &Snapshot) -> Option<Reason> {
    let Some(before) = before else {
        return Some(Reason::Safe);
    };
    let new_connection = before.identity != after.identity;
    if rewound(before, after) && guard::on(Guard::SafeOnRewind) {
        Some(Reason::RewoundRow)
    } else if new_connection && guard::on(Guard::SafeOnNewConnection) {
        // Each node of a Galera cluster has made the table at a time of its own: of another one that says nothing.
        Some(Reason::Safe)
    } else if !new_connection && before.made != after.made && guard::on(Guard::SafeOnNewTable) {
        // A grant or a renewal that nobody has read may be lost. It was made before the table was, so it is over when SAFE is.
        Some(Reason::TableMadeAnew)
    } else {
        None
    }
}

/// The new read shows less than the one before: the database lost commits.
fn rewound(before: &Snapshot, after: &Snapshot) -> bool {
    let lower_epoch = before.shards.iter().any(|old| {
        after
            .shards
            .iter()
            .find(|new| new.shard == old.shard)
            .is_none_or(|new| new.epoch < old.epoch && plausible::row(&before.master, old))
    });
    // A number that cannot be true, and is mended, is no rewind.
    let term = plausible::term(after.master.term, before.master.term);
    let counter = plausible::counter(&before.master, &before.shards);
    after.master.term < before.master.term && term
        || after.master.epoch_high < before.master.epoch_high && counter
        || lower_epoch
}

/// The longest ttl in any row (rule 5.5).
fn longest_ttl(snapshot: &Snapshot) -> Duration {
    let rows = snapshot.shards.iter().flat_map(|row| {
        let own = plausible::ttl(row.owner.is_some(), row.ttl);
        let before = row.previous.iter().map(|p| plausible::ttl(true, p.ttl));
        before.chain([own])
    });
    rows.fold(lease::held(&snapshot.master), Duration::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detector::Intervals;
    use crate::id::{Incarnation, Nonce, ShardId};
    use crate::lease::Tolerance;
    use crate::master::{Config, Event, Fence};
    use crate::shard_map::{MasterRow, Phase, ShardRow};
    use crate::time::Drift;
    use crate::wire::{Health, Report};

    fn master() -> Master {
        let ms = Duration::from_millis;
        let config = Config {
            node: NodeId::new("m:master-1"),
            incarnation: Incarnation::default(),
            ttl: ms(1000),
            tolerance: Tolerance {
                drift: Drift(100),
                margin: ms(20),
                vm_pause: Duration::ZERO,
            },
            intervals: Intervals {
                heartbeat: ms(50),
                unhealthy: ms(300),
            },
            db_unhealthy: ms(2000),
            fence: Fence::BestEffort,
            shard_count: 1,
            quiesce_max: ms(300),
            flap_max: 3,
            flap_window: ms(600_000),
            seen: Seen::default(),
            seed: 1,
        };
        Master::new(Instant::ZERO, config)
    }

    fn read(m: &mut Master, at: u64, server: u64, nonce: u64) {
        let now = Instant::from_millis(at);
        m.step(now, Event::Nudged, &mut Vec::new());
        let master = MasterRow {
            holder: None,
            incarnation: Incarnation::default(),
            term: Term(1),
            grant: Grant(1),
            ttl: Duration::from_millis(1000),
            nonce: Nonce(1),
            epoch_high: Epoch(5),
            shard_count: 1,
            generation: Default::default(),
        };
        let row = ShardRow {
            shard: ShardId(0),
            generation: Default::default(),
            phase: Phase::Active,
            owner: Some(NodeId::new("c:coreapp-1")),
            incarnation: Incarnation::default(),
            epoch: Epoch(5),
            grant: Grant(55),
            ttl: Duration::from_millis(1000),
            nonce: Nonce(nonce),
            previous: Vec::new(),
        };
        let node = NodeRow {
            node: NodeId::new("c:coreapp-1"),
            role: Role::Coreapp,
            incarnation: Incarnation::default(),
            machine: "c".into(),
            zone: "c".into(),
            beat_age: None,
            draining: false,
            weight: 0,
            home: None,
        };
        let snapshot = Snapshot {
            identity: server,
            made: 0,
            server: Server {
                id: server,
                known: 2,
                lossy: true,
            },
            master,
            shards: vec![row],
            nodes: vec![node],
        };
        m.step(now, Event::Snapshot(Box::new(snapshot)), &mut Vec::new());
    }

    fn answer(m: &mut Master, at: u64, shard: Option<ShardId>, grant: u64) {
        let report = Report {
            shard,
            epoch: Epoch(5),
            grant: Grant(grant),
            epoch_high: Epoch(5),
            health: Health(0),
            progress_age_ms: 0,
            lateness_ms: 0,
            in_flight: 0,
        };
        let event = Event::Answered {
            node: NodeId::new("c:coreapp-1"),
            incarnation: Incarnation::default(),
            asked: Instant::from_millis(at),
            report,
        };
        m.step(Instant::from_millis(at), event, &mut Vec::new());
    }

    /// Attacks 4 and 40. Goal: what begins SAFE, and what it is called; another node of a Galera cluster, which made the table at
    /// a time of its own, is a new connection and no restored dump. Method: two readings each.
    #[test]
    fn rows_that_may_lack_something_begin_safe() {
        let reading = |identity, made, epoch| {
            let mut m = master();
            read(&mut m, 100, identity, 7);
            let mut map = m.map().cloned().expect("it was read");
            (map.made, map.shards[0].epoch) = (made, Epoch(epoch));
            map
        };
        let before = reading(2, 8, 5);
        assert_eq!(safe_because(None, &before), Some(Reason::Safe));
        for (after, reason) in [
            (reading(2, 8, 5), None),
            (reading(2, 8, 6), None),
            (reading(3, 8, 5), Some(Reason::Safe)),
            (reading(3, 9, 5), Some(Reason::Safe)),
            (reading(2, 9, 5), Some(Reason::TableMadeAnew)),
            (reading(2, 9, 6), Some(Reason::TableMadeAnew)),
            (reading(2, 9, 4), Some(Reason::RewoundRow)),
            (reading(2, 8, 4), Some(Reason::RewoundRow)),
        ] {
            assert_eq!(safe_because(Some(&before), &after), reason);
        }
    }

    /// Attack 7. Goal: an owner that answers, and may renew on the former server, is not accounted for; nor is one that
    /// holds what no row shows, or was heard before the change only. Method: reads and answers by hand.
    #[test]
    fn who_may_act_by_the_former_server_is_not_accounted_for() {
        let mut m = master();
        read(&mut m, 100, 2, 7);
        answer(&mut m, 110, Some(ShardId(0)), 55);
        assert!(!m.server_changed(), "it is the one that is known");
        read(&mut m, 200, 3, 7);
        assert!(m.server_changed());
        assert_eq!(m.unaccounted().len(), 1, "heard before the change only");
        answer(&mut m, 210, Some(ShardId(0)), 55);
        assert_eq!(m.unaccounted().len(), 1, "it has not renewed here");
        read(&mut m, 300, 3, 8);
        assert_eq!(m.unaccounted(), [], "it has");
        answer(&mut m, 310, Some(ShardId(0)), 56);
        assert_eq!(m.unaccounted().len(), 1, "a grant that no row shows");
        answer(&mut m, 320, None, 0);
        assert_eq!(m.unaccounted(), [], "it holds nothing");
    }
}
