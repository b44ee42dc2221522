//! What this master knows of the nodes at one moment, as a plain value: their rows, their places, what they say of themselves.
//! Reads nothing and judges nobody.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use wa_core::id::{NodeId, Role};
use wa_core::judgement::WORD_AGE_MAX;
use wa_core::time::Instant;

use super::former::Former;
use super::news::News;
use super::replies::Replies;
use crate::api::internal::HealthAnswer;
use crate::db::fence::FenceWord;
use crate::db::mount::Mount;
use crate::db::node::{Registered, Registration};
use crate::net::udp::Target;

/// What was heard of one start of a coreapp.
#[derive(Debug, Clone)]
pub struct Heard {
    pub start: String,
    /// When this start was asked first.
    pub asked: Instant,
    /// Its newest word, and when it came.
    pub answer: Option<(Instant, HealthAnswer)>,
    /// When it refused the question last, and has not said a word since: it does not know how this release looks.
    pub older: Option<Instant>,
}

/// What was heard, by name.
pub type Words = BTreeMap<String, Heard>;

/// The newest of everything that is read of nodes.
#[derive(Debug, Clone, Default)]
pub struct Table {
    pub nodes: Arc<Vec<Registered>>,
    /// What nodes say of their media directories.
    pub mounts: Arc<Vec<Mount>>,
    /// What host agents say of their machines' fences.
    pub fences: Arc<Vec<FenceWord>>,
    /// What coreapps say of their work.
    pub words: Arc<Words>,
    /// What the upstream told that people should know.
    pub news: Arc<News>,
    /// How long their last answers took: shared by all tables of a master.
    pub replies: Arc<Replies>,
    /// Where nodes were before.
    pub former: Former,
}

impl Table {
    /// Takes over the rows as they were read. Where a node was before it is asked until `until`.
    pub fn take_nodes(&mut self, nodes: Arc<Vec<Registered>>, until: Instant) {
        let places = nodes
            .iter()
            .filter_map(|n| Some((&n.registration.node, n.registration.heartbeat()?)));
        self.former.note(until, places);
        self.nodes = nodes;
    }

    /// The row of a node.
    pub fn row(&self, node: &NodeId) -> Option<&Registered> {
        self.nodes.iter().find(|n| n.registration.node == *node)
    }

    /// Where a node's heartbeats go.
    pub fn heartbeat_of(&self, node: &NodeId) -> Option<SocketAddr> {
        self.row(node)?.registration.heartbeat()
    }

    /// Where a node is by its row, and where it was a while ago if that is another place: two machines that use one name
    /// write the row in turn.
    pub fn places(&self, node: &NodeId, now: Instant) -> Vec<SocketAddr> {
        let mut places: Vec<SocketAddr> = self.heartbeat_of(node).into_iter().collect();
        places.extend(self.former.of(node, now));
        places
    }

    /// The host agents of a node's machine.
    pub fn hosts_of(&self, node: &NodeId) -> Vec<SocketAddr> {
        let machine = self.row(node).map(|n| &n.registration.machine);
        let hosts = self.nodes.iter().map(|n| &n.registration);
        hosts
            .filter(|r| r.role == Role::Host && Some(&r.machine) == machine)
            .filter_map(Registration::heartbeat)
            .collect()
    }

    /// Heartbeat addresses of a role.
    pub fn of_role(&self, role: Role) -> Vec<(NodeId, SocketAddr)> {
        let nodes = self.nodes.iter().map(|n| &n.registration);
        nodes
            .filter(|r| r.role == role)
            .filter_map(|r| Some((r.node.clone(), r.heartbeat()?)))
            .collect()
    }

    /// Everybody that this master pings.
    pub fn targets(&self, own: &NodeId, now: Instant) -> Vec<Target> {
        let nodes = self.nodes.iter().map(|n| &n.registration);
        let peers = nodes.filter(|r| r.role != Role::Webapp && r.node != *own);
        let targets = peers.flat_map(|r| {
            let at = |address| Target {
                node: r.node.clone(),
                address,
            };
            self.places(&r.node, now)
                .into_iter()
                .map(at)
                .collect::<Vec<_>>()
        });
        targets.collect()
    }

    /// How long a coreapp has not answered its own page; `None`: it was not asked yet, or refuses the question, which is an answer.
    pub fn mute_for(&self, node: &str, now: Instant) -> Option<Duration> {
        let heard = self.words.get(node)?;
        if self.older(now).any(|older| older == node) {
            return None;
        }
        let heard_at = heard.answer.iter().map(|(at, _)| *at).chain(heard.older);
        let since = heard_at.max().unwrap_or(heard.asked);
        Some(now.since(since))
    }

    /// Coreapps that refuse the question for their word now.
    pub fn older(&self, now: Instant) -> impl Iterator<Item = &str> {
        let lately = move |heard: &Heard| {
            let refused = heard.older.map(|at| now.since(at));
            refused.is_some_and(|age| age <= WORD_AGE_MAX)
        };
        let older = self.words.iter().filter(move |(_, heard)| lately(heard));
        older.map(|(node, _)| node.as_str())
    }

    /// What the host agent of a node's machine says of the fence there, if it has lately.
    pub fn fence_of(&self, node: &str) -> Option<&FenceWord> {
        let (hostname, _) = node.rsplit_once(':')?;
        let of = |word: &&FenceWord| {
            word.node
                .rsplit_once(':')
                .is_some_and(|(h, _)| h == hostname)
        };
        self.fences.iter().find(of)
    }
}
