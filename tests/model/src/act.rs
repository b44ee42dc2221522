//! What the modelled nodes do when the core says so: datagrams, gates, statements. The same as the drivers do.
//! Decides nothing.

use wa_core::detector::Intervals;
use wa_core::id::{Epoch, Incarnation, NodeId, Nonce, Ownership, Role};
use wa_core::lease::Tolerance;
use wa_core::master::{self, Fence, Master, NodeRow, Outcome, Snapshot};
use wa_core::opinion::Said;
use wa_core::tenure::{self, Renewal, Tenure};
use wa_core::time::{Drift, Duration, Instant};
use wa_core::wire::{Health, Receipt, Report};

use crate::world::{Brain, Then, What, World};
use crate::{DRIFT, HEARTBEAT_MS, MARGIN_MS, TTL_MS, UNHEALTHY_MS};
use wa_sim::database::{Op, Rows};

impl World {
    pub(crate) fn start(&mut self, node: usize) {
        let now = self.local(node);
        let n = &mut self.nodes[node];
        if n.brain != Brain::Down {
            return;
        }
        let counter = n.incarnation.counter + 1;
        n.incarnation = Incarnation { counter, random: 0 };
        (n.paused, n.server_seen) = (false, 0);
        n.backlog.clear();
        n.opened += 1;
        let (name, incarnation) = (n.name.clone(), n.incarnation);
        let (ttl, drift) = (Self::span(TTL_MS), Drift(DRIFT));
        // Nonces of all starts differ.
        let seed = (node as u64 + 1) * 1000 + counter;
        n.brain = if node < self.masters {
            let config = master::Config {
                node: name,
                incarnation,
                ttl,
                tolerance: Tolerance {
                    drift,
                    margin: Self::span(MARGIN_MS),
                    vm_pause: Duration::ZERO,
                },
                intervals: Intervals {
                    heartbeat: Self::span(HEARTBEAT_MS),
                    unhealthy: Self::span(UNHEALTHY_MS),
                },
                db_unhealthy: Self::span(TTL_MS),
                fence: Fence::Required,
                shard_count: 1,
                quiesce_max: Self::span(TTL_MS / 4),
                flap_max: 1000,
                flap_window: Self::span(TTL_MS * 10),
                seen: Default::default(),
                seed,
            };
            Brain::Master(Box::new(Master::new(now, config)))
        } else {
            let config = tenure::Config {
                node: name,
                incarnation,
                ttl,
                drift,
                margin: Self::span(MARGIN_MS),
                quiesce_max: Self::span(TTL_MS / 4),
                stop_max: Self::span(TTL_MS),
                seed,
            };
            Brain::App(Box::new(Tenure::new(now, config, n.obeyed)))
        };
        if node < self.masters {
            self.push(1, node, What::Round);
        }
    }

    /// The host agent found the control group empty: it deletes the gate's entry, then signs.
    pub(crate) fn obituary(&mut self, node: usize, dead: Incarnation) {
        let n = &mut self.nodes[node];
        let own = n.gate.take().map_or_else(
            || Ownership {
                shard: Default::default(),
                epoch: Epoch(0),
                grant: Default::default(),
                owner: n.name.clone(),
                incarnation: dead,
            },
            |(own, _)| own,
        );
        for master in 0..self.masters {
            let receipt = receipt(&own, dead, Nonce(0), true);
            self.datagram(node, master, What::Master(self.signed(node, receipt)));
        }
    }

    /// The host agent seals, kills if that start still runs and obeys nothing newer, and answers.
    pub(crate) fn fence(&mut self, node: usize, master: usize, own: &Ownership, nonce: Nonce) {
        if !self.hosts {
            return;
        }
        let n = &mut self.nodes[node];
        n.seal = n.seal.max(own.epoch);
        let runs = n.brain != Brain::Down && n.incarnation == own.incarnation;
        let newer = n.gate.as_ref().is_some_and(|(o, _)| o.epoch > own.epoch);
        if runs && !newer {
            self.kill(node);
        }
        let receipt = receipt(own, own.incarnation, nonce, !(runs && newer));
        self.datagram(node, master, What::Master(self.signed(node, receipt)));
    }

    pub(crate) fn answer(&mut self, node: usize, from: usize) {
        let now = self.local(node);
        let n = &self.nodes[node];
        let Brain::App(tenure) = &n.brain else { return };
        let own = tenure.ownership();
        let live = tenure.live(now).is_some();
        let (epoch, grant) = own.map_or_else(Default::default, |own| (own.epoch, own.grant));
        let report = Report {
            shard: own.filter(|_| live).map(|own| own.shard),
            epoch,
            grant,
            epoch_high: n.obeyed,
            health: Health(0b1_1111),
            progress_age_ms: 0,
            lateness_ms: 0,
            in_flight: 0,
        };
        let answer = master::Event::Answered {
            node: n.name.clone(),
            incarnation: n.incarnation,
            asked: self.local(from),
            report,
        };
        self.datagram(node, from, What::Master(answer));
    }

    pub(crate) fn step_master(&mut self, node: usize, event: master::Event) {
        let now = self.local(node);
        let Brain::Master(brain) = &mut self.nodes[node].brain else {
            return;
        };
        let mut actions = Vec::new();
        brain.step(now, event, &mut actions);
        for action in actions {
            self.master_action(node, action);
        }
    }

    pub(crate) fn step_app(&mut self, node: usize, event: tenure::Event) {
        let now = self.local(node);
        let Brain::App(brain) = &mut self.nodes[node].brain else {
            return;
        };
        let mut actions = Vec::new();
        brain.step(now, event, &mut actions);
        for action in actions {
            self.app_action(node, action);
        }
    }

    fn master_action(&mut self, node: usize, action: master::Action) {
        use master::Action as A;
        let (me, life) = (self.nodes[node].name.clone(), self.nodes[node].incarnation);
        match action {
            A::Read => self.call(node, Op::ReadMap, Then::Map(self.local(node))),
            A::Take {
                expect,
                term,
                grant,
                nonce,
                ttl,
            } => {
                let op = Op::Take(me, life, expect, (term, grant, nonce), ttl);
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
                let op = Op::Insert(term, term_grant, count);
                self.call(node, op, Then::Attempt(attempt));
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
            other => self.master_says(node, other),
        }
    }

    fn master_says(&mut self, node: usize, action: master::Action) {
        use master::Action as A;
        match action {
            A::Fence {
                ownership, nonce, ..
            } => {
                let owner = self.index(&ownership);
                self.datagram(node, owner, What::Fence(node, ownership, nonce));
            }
            A::Quiesce { ownership, on } => {
                let owner = self.index(&ownership);
                let epoch = ownership.epoch;
                self.datagram(node, owner, What::App(tenure::Event::Quiesce { epoch, on }));
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
                    term,
                    lateness_ms: 0,
                    heard,
                    opinions,
                };
                let from = self.nodes[node].name.clone();
                self.tell_masters(node, &master::Event::Opinions { from, said });
            }
            _ => {}
        }
    }

    fn tell_masters(&mut self, from: usize, event: &master::Event) {
        for master in (0..self.masters).filter(|master| *master != from) {
            self.datagram(from, master, What::Master(event.clone()));
        }
    }

    fn app_action(&mut self, node: usize, action: tenure::Action) {
        use tenure::Action as A;
        match action {
            A::Read => self.call(node, Op::ReadMap, Then::Map(self.local(node))),
            A::StoreHighWater(epoch) => {
                let n = &mut self.nodes[node];
                self.obeyed_lower |= epoch < n.obeyed;
                n.obeyed = epoch;
                let stored = true;
                self.push(
                    1,
                    node,
                    What::App(tenure::Event::HighWater { epoch, stored }),
                );
            }
            A::TryDisk(_) => {
                let tried = tenure::Event::DiskTried { stored: true };
                self.push(1, node, What::App(tried));
            }
            A::Renew {
                ownership,
                nonce,
                ttl,
            } => {
                let op = Op::RenewShard(ownership, nonce, ttl);
                self.call(node, op, Then::Renewed(nonce));
            }
            A::Open {
                ownership,
                deadline,
            } => {
                self.taken_over |= ownership.epoch > Epoch(1);
                self.nodes[node].gate = Some((ownership, deadline));
            }
            A::Extend { deadline, .. } => {
                if let Some((_, gate)) = &mut self.nodes[node].gate {
                    *gate = deadline;
                }
            }
            A::Close { ownership, .. } => {
                self.nodes[node].gate = None;
                let epoch = ownership.epoch;
                self.push(2, node, What::App(tenure::Event::WorkStopped { epoch }));
            }
            A::Release(own) => self.call(node, Op::ReleaseShard(own), Then::Released),
            A::SayEnded(own) => {
                let event = master::Event::Ended {
                    from: self.nodes[node].name.clone(),
                    incarnation: own.incarnation,
                    shard: own.shard,
                    epoch: own.epoch,
                    grant: own.grant,
                };
                self.tell_masters(node, &event);
            }
            _ => {}
        }
    }

    fn index(&self, own: &Ownership) -> usize {
        let found = self.nodes.iter().position(|n| n.name == own.owner);
        found.expect("owners are nodes of this cluster")
    }

    pub(crate) fn reply(&mut self, node: usize, (rows, begun): (Rows, Instant), server: u64) {
        self.server(node, server);
        if node >= self.masters {
            return self.step_app(
                node,
                tenure::Event::Rows {
                    begun,
                    rows: rows.shards,
                },
            );
        }
        let snapshot = Snapshot {
            identity: server << 32 | self.nodes[node].opened,
            made: 0,
            server: Default::default(),
            master: rows.master,
            shards: rows.shards,
            nodes: self.rows(),
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

    fn node_row(&self, node: usize) -> NodeRow {
        let n = &self.nodes[node];
        let role = if node < self.masters {
            Role::Master
        } else {
            Role::Coreapp
        };
        NodeRow {
            node: n.name.clone(),
            role,
            incarnation: n.incarnation,
            machine: n.name.host().into(),
            zone: String::new(),
            // The reference rule of a single master: the beat is old whenever the node is not there.
            beat_age: (!n.paused && !n.isolated).then_some(Duration::ZERO),
            draining: false,
            weight: 0,
            home: None,
        }
    }

    /// Of all nodes, and of the host agents of coreapps' machines.
    fn rows(&self) -> Vec<NodeRow> {
        let hosts = (self.masters..self.nodes.len()).filter(|_| self.hosts);
        let host = |n: usize| {
            let (node, incarnation) = self.host(n);
            NodeRow {
                node,
                role: Role::Host,
                incarnation,
                ..self.node_row(n)
            }
        };
        let nodes = (0..self.nodes.len()).map(|n| self.node_row(n));
        nodes.chain(hosts.map(host)).collect()
    }

    /// The host agent of a node's machine. It does not die here.
    fn host(&self, node: usize) -> (NodeId, Incarnation) {
        let name = format!("{}:host-1", self.nodes[node].name.host());
        (NodeId::new(&name), Incarnation::default())
    }

    fn signed(&self, node: usize, receipt: Receipt) -> master::Event {
        master::Event::Receipt(self.host(node), receipt)
    }

    pub(crate) fn outcome(&mut self, node: usize, then: Then, outcome: Outcome) {
        match then {
            Then::Lease(nonce) => self.step_master(node, master::Event::Lease { nonce, outcome }),
            Then::Attempt(attempt) => {
                self.step_master(node, master::Event::Done { attempt, outcome });
            }
            Then::Renewed(nonce) => {
                let outcome = match outcome {
                    Outcome::Held => Renewal::Held,
                    Outcome::Lost => Renewal::Lost,
                    Outcome::Unknown => Renewal::Unknown,
                };
                self.step_app(node, tenure::Event::Renewed { nonce, outcome });
            }
            Then::Released => self.step_app(node, tenure::Event::ReleaseDone),
            Then::Map(_) | Then::Nothing => {}
        }
    }
}

fn receipt(own: &Ownership, incarnation: Incarnation, nonce: Nonce, cgroup_empty: bool) -> Receipt {
    Receipt {
        machine_id: 1,
        boot_id: 1,
        invocation: u128::from(incarnation.counter),
        node: own.owner.clone(),
        incarnation,
        shard: own.shard,
        epoch: own.epoch,
        grant: own.grant,
        seal: own.epoch,
        nonce,
        sealed: true,
        cgroup_empty,
    }
}
