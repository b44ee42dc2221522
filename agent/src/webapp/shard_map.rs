//! The shard map as one reading of it: which shard is whose, and where its owner is called. A plain value.
//! Reads nothing: `watcher.rs` does.

use std::collections::HashMap;
use std::sync::Arc;

use wa_core::id::NodeId;
use wa_core::shard_map::{MasterRow, Phase, ShardRow, shard_of};

use crate::api::v1::message::stored::Form;
use crate::db::node::{Registered, Registration};

/// Where requests for one shard go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub shard: u16,
    pub generation: u32,
    pub epoch: u64,
    /// Base URL of the owner's API port; `None` while there is no owner that may act.
    pub url: Option<Arc<str>>,
}

/// One reading of the map.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Map {
    /// 0 until it was read.
    pub count: u16,
    pub generation: u32,
    pub routes: Vec<Route>,
    /// Newest form of messages that every coreapp reads; 0 until it was read.
    pub form: u16,
    /// Holder of the master lease, and the base URL of its control port.
    pub master: Option<(NodeId, Arc<str>)>,
}

/// Base URLs of a node's API and control ports, by name.
pub type Places = HashMap<NodeId, (Arc<str>, Arc<str>)>;

/// Where these nodes are called.
pub fn places(members: &[Registered]) -> Places {
    let place = |r: &Registration| {
        let urls = (r.api_url().into(), r.control_url().into());
        (r.node.clone(), urls)
    };
    members.iter().map(|n| place(&n.registration)).collect()
}

impl Map {
    /// What the rows say. An owner that may not act yet, or whose place is unknown, is none; the same holds for the master.
    pub fn of(master: &MasterRow, rows: &[ShardRow], places: &Places, form: u16) -> Self {
        let route = |row: &ShardRow| {
            let owner = row.owner.as_ref().filter(|_| row.phase == Phase::Active);
            let place = owner.and_then(|node| places.get(node));
            Route {
                shard: row.shard.0,
                generation: row.generation.0,
                epoch: row.epoch.0,
                url: place.map(|(api, _)| Arc::clone(api)),
            }
        };
        let holder = master.holder.as_ref().and_then(|node| {
            let (_, control) = places.get(node)?;
            Some((node.clone(), Arc::clone(control)))
        });
        Self {
            count: master.shard_count,
            generation: master.generation.0,
            routes: rows.iter().map(route).collect(),
            form,
            master: holder,
        }
    }

    /// The shard of a recipient; `None` before the map was read.
    pub fn shard(&self, recipient_hash: u32) -> Option<u16> {
        (self.count > 0).then(|| shard_of(recipient_hash, self.count).0)
    }

    /// The form to write: the newest that this webapp and every coreapp know.
    pub fn form(&self) -> Form {
        Form::of(self.form.min(Form::NEWEST.number())).unwrap_or(Form::One)
    }

    /// The route of a shard under the newest generation.
    pub fn route(&self, shard: u16) -> Option<&Route> {
        self.routes
            .iter()
            .find(|route| route.shard == shard && route.generation == self.generation)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wa_core::id::{Epoch, Generation, Grant, Incarnation, Nonce, Role, ShardId, Term};

    use super::*;

    #[test]
    fn a_route_is_of_the_newest_generation() {
        let route = |shard, generation| Route {
            shard,
            generation,
            epoch: 1,
            url: None,
        };
        let map = Map {
            count: 2,
            generation: 3,
            routes: vec![route(0, 2), route(1, 3)],
            form: 0,
            master: None,
        };
        assert_eq!(map.route(0), None);
        assert_eq!(map.route(1), Some(&route(1, 3)));
        assert_eq!(Map::default().shard(7), None);
        assert_eq!(map.shard(7), Some(1));
    }

    #[test]
    fn what_this_webapp_cannot_write_is_not_written() {
        let newer = Map {
            form: 9,
            ..Map::default()
        };
        assert_eq!(newer.form(), Form::NEWEST);
        assert_eq!(Map::default().form(), Form::One);
    }

    /// Goal: only an owner that may act is called, and only where its row says; a map goes to no node whose place is unknown.
    /// Method: rows in each phase, nodes with addresses of both families, one that is not registered.
    #[test]
    fn only_who_may_act_is_called() {
        let member = |node: &str, address: &str| Registered {
            beat_ms: 0,
            clock_ms: 0,
            beat_age_ms: 0,
            draining: false,
            registration: Registration {
                node: NodeId::new(node),
                role: Role::Coreapp,
                incarnation: Incarnation::default(),
                machine: "m".into(),
                zone: "z".into(),
                address: address.into(),
                port_heartbeat: 1,
                port_control: 2,
                port_api: 3,
                version: "0".into(),
                weight: 0,
                keys: Default::default(),
            },
        };
        let places = places(&[member("a", "192.0.2.1"), member("b", "2001:db8::1")]);
        let row = |shard, phase, owner: &str| ShardRow {
            shard: ShardId(shard),
            generation: Generation(4),
            phase,
            owner: Some(NodeId::new(owner)),
            incarnation: Incarnation::default(),
            epoch: Epoch(9),
            grant: Grant(1),
            ttl: Duration::from_secs(1),
            nonce: Nonce(1),
            previous: Vec::new(),
        };
        let mut master = MasterRow {
            holder: Some(NodeId::new("b")),
            incarnation: Incarnation::default(),
            term: Term(1),
            grant: Grant(1),
            ttl: Duration::from_secs(1),
            nonce: Nonce(1),
            epoch_high: Epoch(9),
            shard_count: 4,
            generation: Generation(4),
        };
        let rows = [
            row(0, Phase::Active, "a"),
            row(1, Phase::Active, "b"),
            row(2, Phase::Handover, "a"),
            row(3, Phase::Active, "nobody"),
        ];
        let map = Map::of(&master, &rows, &places, 1);
        let url = |shard| map.route(shard).and_then(|route| route.url.as_deref());
        assert_eq!(url(0), Some("http://192.0.2.1:3"));
        assert_eq!(url(1), Some("http://[2001:db8::1]:3"));
        assert_eq!((url(2), url(3)), (None, None));
        let (holder, control) = map.master.clone().expect("its place is known");
        assert_eq!(
            (holder.as_str(), &*control),
            ("b", "http://[2001:db8::1]:2")
        );
        master.holder = Some(NodeId::new("nobody"));
        assert_eq!(Map::of(&master, &rows, &places, 1).master, None);
    }
}
