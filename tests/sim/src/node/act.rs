//! What the simulated nodes do when the core says so: datagrams, the gate, statements on the database.
//! Decides nothing.

use wa_core::id::{Epoch, NodeId, Role, Term};
use wa_core::master::{self, NodeRow, Server, Snapshot};
use wa_core::opinion::Said;
use wa_core::plausible;
use wa_core::tenure::{self, Renewal};
use wa_core::time::Duration;
use wa_core::wire::Health;

use super::{Brain, TTL};
use crate::database::{Op, Rows};
use crate::fault::FAULTS_END;
use crate::invariant::invariant_s2_obeys;
use crate::world::{MS, Sim, Then, What};

impl Sim {
    pub(crate) fn master_action(&mut self, node: usize, action: master::Action) {
        use master::Action as A;
        self.narrate_master(node, &action);
        let me = self.nodes[node].name.clone();
        let incarnation = self.nodes[node].incarnation;
        match action {
            A::Read => self.call(node, Op::ReadMap, Then::Map(self.local(node))),
            A::Take {
                expect,
                term,
                grant,
                nonce,
                ttl,
            } => {
                let op = Op::Take(me, incarnation, expect, (term, grant, nonce), ttl);
                self.call(node, op, Then::Lease(nonce));
            }
            A::Renew {
                term,
                grant,
                nonce,
                ttl,
            } => {
                self.call(node, Op::Renew(term, grant, nonce, ttl), Then::Lease(nonce));
            }
            A::GiveBack { term, grant } => {
                self.call(node, Op::GiveBack(term, grant), Then::Nothing)
            }
            A::InsertShards {
                attempt,
                term,
                term_grant,
                count,
            } => {
                self.call(
                    node,
                    Op::Insert(term, term_grant, count),
                    Then::Attempt(attempt),
                );
            }
            A::Handover {
                attempt,
                term,
                term_grant,
                handover,
            } => {
                let op = Op::Handover(term, term_grant, handover);
                self.call(node, op, Then::Attempt(attempt));
            }
            A::Activate {
                attempt,
                term,
                term_grant,
                shard,
                epoch,
                grant,
            } => {
                let op = Op::Activate(term, term_grant, shard, epoch, grant);
                self.call(node, op, Then::Attempt(attempt));
            }
            A::Exit => self.exit(node),
            other => self.master_rest(node, other),
        }
    }

    fn master_rest(&mut self, node: usize, action: master::Action) {
        use master::Action as A;
        let me = self.nodes[node].name.clone();
        match action {
            A::ChangeShardCount {
                attempt,
                term,
                term_grant,
                regroup,
            } => {
                let op = Op::Reshard(term, term_grant, regroup);
                self.call(node, op, Then::Attempt(attempt));
            }
            A::KnowServer {
                term,
                term_grant,
                server,
            } => {
                let op = Op::KnowServer(term, term_grant, server);
                self.call(node, op, Then::Nothing);
            }
            A::StoreSeen(seen) => self.nodes[node].seen = seen,
            A::Fence {
                ownership, nonce, ..
            } => {
                let owner = self.index(&ownership.owner);
                self.datagram(node, owner, What::Fence(node, ownership, nonce));
            }
            A::Quiesce { ownership, on } => {
                let owner = self.index(&ownership.owner);
                let event = tenure::Event::Quiesce {
                    epoch: ownership.epoch,
                    on,
                };
                self.datagram(node, owner, What::App(event));
            }
            A::Nudge(_) => {
                for app in self.masters..self.nodes.len() {
                    self.datagram(node, app, What::App(tenure::Event::Nudged));
                }
            }
            A::SayOpinions {
                term,
                heard,
                opinions,
                ..
            } => {
                let said = Said {
                    term: self.nodes[node].boast.map_or(term, Term),
                    lateness_ms: 0,
                    heard,
                    opinions,
                };
                let event = master::Event::Opinions { from: me, said };
                self.tell_masters(node, &event);
            }
            _ => {}
        }
    }

    fn exit(&mut self, node: usize) {
        self.crash(node, None);
    }

    pub(crate) fn tell_masters(&mut self, from: usize, event: &master::Event) {
        for master in (0..self.masters).filter(|master| *master != from) {
            self.datagram(from, master, What::Master(event.clone()));
        }
    }

    pub(crate) fn app_action(&mut self, node: usize, action: tenure::Action) {
        use tenure::Action as A;
        self.narrate_app(node, &action);
        match action {
            A::Read => self.call(node, Op::ReadMap, Then::Map(self.local(node))),
            A::StoreHighWater(epoch) => self.store_high_water(node, epoch),
            A::TryDisk(_) => self.try_disk(node),
            A::Renew {
                ownership,
                nonce,
                ttl,
            } => {
                self.call(
                    node,
                    Op::RenewShard(ownership, nonce, ttl),
                    Then::Renewed(nonce),
                );
            }
            A::Open {
                ownership,
                deadline,
            } => {
                let n = &mut self.nodes[node];
                match n.gate.open(n.incarnation, &ownership, deadline) {
                    Ok(()) => {
                        self.begin_work(node, &ownership);
                        self.begin_sending(node, ownership);
                    }
                    Err(epoch) => {
                        // The gate refuses, and tells why.
                        n.obeyed = n.obeyed.max(epoch);
                        self.push(0, node, What::App(tenure::Event::Sealed { epoch }));
                    }
                }
            }
            A::Extend { epoch, deadline } => {
                let n = &mut self.nodes[node];
                n.gate.extend(n.incarnation, deadline);
                let seal = n.gate.seal;
                if epoch <= seal {
                    // Sealed while it stood still, and not replaced after all: the gate tells.
                    self.push(0, node, What::App(tenure::Event::Sealed { epoch: seal }));
                }
            }
            A::Close { ownership, .. } => {
                let n = &mut self.nodes[node];
                n.gate.shut(n.incarnation);
                n.work = None;
                self.end_sending(node, ownership.epoch);
            }
            A::Exit => self.exit(node),
            other => self.app_rest(node, other),
        }
    }

    fn store_high_water(&mut self, node: usize, epoch: Epoch) {
        let n = &self.nodes[node];
        let before = n.rotten.map_or(n.obeyed, |(obeyed, _)| obeyed);
        if let Err(why) = invariant_s2_obeys(n.name.as_str(), before, epoch) {
            self.broken = Some(why);
        }
        self.judge_obeyed(node, epoch);
        let stored = !self.nodes[node].ill.has(Health::HIGH_WATER_OK);
        if stored {
            self.nodes[node].obeyed = epoch;
            self.nodes[node].rotten = None;
        }
        let after = self.delay(4) + self.nodes[node].disk_ms * MS;
        self.push(
            after,
            node,
            What::App(tenure::Event::HighWater { epoch, stored }),
        );
    }

    /// What its disk says is told when it is another word than before.
    fn try_disk(&mut self, node: usize) {
        let now = self.local(node);
        let n = &self.nodes[node];
        let stored = !n.ill.has(Health::HIGH_WATER_OK);
        let before = matches!(&n.brain, Brain::App(tenure) if tenure.disk_takes(now));
        if stored != before {
            let word = if stored {
                "takes writes again"
            } else {
                "refuses"
            };
            self.count(&format!("disk tried: {word}"));
            self.tell(format!("{} tries its disk: it {word}", self.who(node)));
        }
        let after = MS + self.nodes[node].disk_ms * MS;
        self.push(after, node, What::App(tenure::Event::DiskTried { stored }));
    }

    fn app_rest(&mut self, node: usize, action: tenure::Action) {
        use tenure::Action as A;
        let from = self.nodes[node].name.clone();
        match action {
            A::Release(own) => self.call(node, Op::ReleaseShard(own), Then::Released),
            A::Hold { epoch, on } => {
                if let Some(work) = self.nodes[node].work.as_deref_mut() {
                    work.held = on;
                }
                if self.nodes[node].deaf {
                    return;
                }
                let n = &self.nodes[node];
                let Some(own) = n.gate.owned(n.incarnation).cloned() else {
                    return;
                };
                if on && own.epoch == epoch {
                    let (shard, grant) = (own.shard, own.grant);
                    self.tell_masters(
                        node,
                        &master::Event::Quiesced {
                            from,
                            shard,
                            epoch,
                            grant,
                        },
                    );
                }
            }
            A::SayEnded(own) => {
                let (incarnation, shard, epoch, grant) =
                    (own.incarnation, own.shard, own.epoch, own.grant);
                let event = master::Event::Ended {
                    from,
                    incarnation,
                    shard,
                    epoch,
                    grant,
                };
                self.tell_masters(node, &event);
            }
            A::Ask(own) => {
                let (shard, epoch, grant) = (own.shard, own.epoch, own.grant);
                self.tell_masters(
                    node,
                    &master::Event::Ask {
                        from,
                        shard,
                        epoch,
                        grant,
                    },
                );
            }
            _ => {}
        }
    }

    pub(crate) fn index(&self, name: &NodeId) -> usize {
        let first = || self.nodes.iter().position(|n| n.name == *name);
        let registered = self.registered.get(name).copied();
        registered.or_else(first).unwrap_or(0)
    }

    /// Sends a statement: it may be slow, lost on the way, or carried out with its answer lost.
    pub(crate) fn call(&mut self, node: usize, op: Op, then: Then) {
        self.next_op += 1;
        let id = self.next_op;
        self.pending
            .insert(id, (node, self.nodes[node].incarnation, then));
        let timeout = TTL.as_nanos() as u64 / 4;
        self.push(timeout, node, What::Timeout(id));
        if self.db_cut.contains(&node) {
            return;
        }
        if self.refused_by_replica(node) {
            return self.count("database: refused, not the writer");
        }
        // L4 speaks of what comes when faults stop: a database that goes on to fail is one.
        let bad = self.hostile && self.now < FAULTS_END;
        let slow = if bad { 25 } else { 300 };
        let delay = if self.rare(slow) {
            self.below(3000 * MS)
        } else if self.rare(60) {
            self.below(400 * MS)
        } else {
            self.delay(2)
        };
        let slow = match op {
            Op::Handover(..) => self.nodes[node].handover_after_ms.take(),
            Op::Reshard(..) => self.nodes[node].reshard_after_ms.take(),
            _ => None,
        };
        let delay = slow.map_or(delay, |ms| ms * MS);
        let mut at = self.now + delay;
        if matches!(then, Then::Map(_)) {
            if let Some(ms) = self.nodes[node].read_after_ms.take() {
                at = self.now + ms * MS;
            }
            at = at.max(self.nodes[node].last_exec + 1);
            self.nodes[node].last_exec = at;
        }
        if at > self.now + 10 * MS {
            self.count("database: slow statement");
        }
        let server = self.db_of(node).server;
        self.push(at - self.now, node, What::Database(id, server, op, then));
    }

    pub(crate) fn executed(&mut self, node: usize, id: u64, server: u64, op: &Op, then: Then) {
        let gone = self.db_cut.contains(&node) || self.refused_by_replica(node);
        if gone || server != self.db_of(node).server {
            return;
        }
        let delay = self.delay(2);
        if matches!(then, Then::Map(_)) {
            let at = (self.now + delay).max(self.nodes[node].last_reply + 1);
            self.nodes[node].last_reply = at;
            let (rows, made) = (self.db_of(node).rows.clone(), self.db_of(node).made);
            if self.db_deaf.contains(&node) {
                return;
            }
            self.push(at - self.now, node, What::Reply(id, rows, (server, made)));
            return;
        }
        let outcome = self.write_row(node, op);
        let deaf = self.db_deaf.contains(&node);
        let lost = self.rare(100) || deaf || std::mem::take(&mut self.nodes[node].lose_answer);
        let after = self.nodes[node].answer_after_ms.take();
        let delay = after.map_or(delay, |ms| ms * MS);
        if lost {
            self.count("database: commit whose outcome is unknown");
        } else {
            self.push(delay, node, What::Outcome(id, outcome, server));
        }
    }

    pub(crate) fn reply(&mut self, id: u64, rows: Rows, (server, made): (u64, u64)) {
        let Some((node, _, Then::Map(begun))) = self.pending.remove(&id) else {
            return;
        };
        let made_before = std::mem::replace(&mut self.nodes[node].made_seen, made);
        if made_before != made && made_before != 0 && node >= self.masters {
            self.step_app(node, tenure::Event::ServerChanged);
        }
        self.server(node, server);
        self.nodes[node].informed = true;
        if node >= self.masters {
            let rows = plausible::credible(&rows.master, &rows.shards);
            self.step_app(node, tenure::Event::Rows { begun, rows });
            return;
        }
        let there = (0..self.nodes.len()).filter(|other| self.has_row(*other));
        let hosts = there.clone().filter(|n| *n >= self.masters);
        let hosts = hosts.map(|n| self.host_row(n));
        let nodes = there.map(|n| self.node_row(n)).chain(hosts).collect();
        let snapshot = Snapshot {
            identity: server << 32 | self.nodes[node].opened,
            made,
            server: self.lossy.map_or_else(Server::default, |lossy| Server {
                id: if lossy { server } else { 1 },
                known: rows.known,
                lossy,
            }),
            master: rows.master,
            shards: rows.shards,
            nodes,
        };
        self.step_master(node, master::Event::Snapshot(Box::new(snapshot)));
    }

    /// The first answer from another server says so first.
    pub(crate) fn server(&mut self, node: usize, server: u64) {
        let seen = std::mem::replace(&mut self.nodes[node].server_seen, server);
        if seen != server && seen != 0 && node >= self.masters {
            self.step_app(node, tenure::Event::ServerChanged);
        }
    }

    pub(crate) fn node_row(&self, node: usize) -> NodeRow {
        let n = &self.nodes[node];
        NodeRow {
            node: n.name.clone(),
            role: if node < self.masters {
                Role::Master
            } else {
                Role::Coreapp
            },
            incarnation: n.incarnation,
            machine: n.name.host().into(),
            zone: String::new(),
            beat_age: Some(Duration::from_nanos(
                // At worst by the database's clock, which counts for a row that was not seen before.
                self.now
                    .saturating_add_signed(self.db_clock_ms.saturating_mul(1_000_000))
                    .saturating_sub(n.beat),
            )),
            draining: n.draining,
            weight: 0,
            home: Some(self.home(node)),
        }
    }

    pub(crate) fn outcome(&mut self, id: u64, outcome: master::Outcome) {
        let Some((node, _, then)) = self.pending.remove(&id) else {
            return self.late_outcome(id, outcome);
        };
        match then {
            Then::Lease(nonce) => self.step_master(node, master::Event::Lease { nonce, outcome }),
            Then::Attempt(attempt) => {
                self.step_master(node, master::Event::Done { attempt, outcome })
            }
            Then::Renewed(nonce) => {
                let outcome = renewal(outcome);
                self.step_app(node, tenure::Event::Renewed { nonce, outcome });
            }
            Then::Released => self.step_app(node, tenure::Event::ReleaseDone),
            Then::Map(_) | Then::Nothing => {}
        }
    }

    /// The driver gave it up long ago; the core must not take it for the answer to a newer one.
    fn late_outcome(&mut self, id: u64, outcome: master::Outcome) {
        if let Some((node, life, nonce)) = self.late.remove(&id)
            && life == self.nodes[node].incarnation
        {
            let outcome = renewal(outcome);
            self.step_app(node, tenure::Event::Renewed { nonce, outcome });
        }
    }

    pub(crate) fn timeout(&mut self, id: u64) {
        let Some((node, life, then)) = self.pending.get(&id).copied() else {
            return;
        };
        if life != self.nodes[node].incarnation {
            self.pending.remove(&id);
            return;
        }
        self.nodes[node].opened += 1;
        self.count("database: no answer in time");
        if let Then::Renewed(nonce) = then {
            self.late.insert(id, (node, life, nonce));
        }
        if !matches!(then, Then::Map(_)) {
            return self.outcome(id, master::Outcome::Unknown);
        }
        self.pending.remove(&id);
        if node < self.masters {
            self.step_master(node, master::Event::ReadFailed);
        } else {
            self.step_app(node, tenure::Event::ReadFailed);
        }
    }
}

fn renewal(outcome: master::Outcome) -> Renewal {
    match outcome {
        master::Outcome::Held => Renewal::Held,
        master::Outcome::Lost => Renewal::Lost,
        master::Outcome::Unknown => Renewal::Unknown,
    }
}
