//! What one machine, or one zone, would take down with it: said in the status, while there is time to spread.
//! Promotion itself prefers another machine and another zone (`wa_core::master`).

use std::collections::BTreeSet;

use wa_core::id::{NodeId, Role};

use crate::db::node::Registered;

/// Nodes that have not beaten for this long have left.
const GONE_MS: u64 = 3_600_000;

/// A sentence for each thing that is in one place only. `owners`: the coreapps that own a shard.
pub fn warnings(nodes: &[Registered], owners: &[NodeId]) -> Vec<String> {
    let here: Vec<&Registered> = nodes.iter().filter(|n| n.beat_age_ms < GONE_MS).collect();
    let of = |role: Role| -> Vec<&Registered> {
        let mut of_role = here.clone();
        of_role.retain(|n| n.registration.role == role);
        of_role
    };
    let (masters, coreapps) = (of(Role::Master), of(Role::Coreapp));
    let standbys = coreapps
        .iter()
        .filter(|n| !owners.contains(&n.registration.node) && !n.draining)
        .copied();
    let standbys: Vec<&Registered> = standbys.collect();
    let mut found = Vec::new();
    found.extend(together(&masters, "all masters"));
    match together(&coreapps, "all coreapps") {
        Some(all) => found.push(all),
        None => found.extend(coreapps.iter().filter_map(|owner| {
            let [only] = standbys[..] else { return None };
            let pair = [*owner, only];
            let owns = owners.contains(&owner.registration.node);
            let name = format!("{} and its only standby", owner.registration.node);
            owns.then(|| together(&pair, &name)).flatten()
        })),
    }
    found
}

/// That these are in one place, if they are and are more than one.
fn together(nodes: &[&Registered], what: &str) -> Option<String> {
    if nodes.len() < 2 {
        return None;
    }
    let one = |f: fn(&Registered) -> &str| {
        let places: BTreeSet<&str> = nodes.iter().map(|n| f(n)).collect();
        places.first().copied().filter(|_| places.len() == 1)
    };
    if let Some(machine) = one(|n| &n.registration.machine) {
        return Some(format!(
            "{what} are on one machine ({machine}): its end takes them all; start one elsewhere"
        ));
    }
    let zone = one(|n| &n.registration.zone)?;
    Some(format!(
        "{what} are in one zone ({zone}): start one in another, or set [node] zone where it is wrong"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::node::Registration;
    use wa_core::id::Incarnation;

    fn node(role: Role, name: &str, machine: &str, zone: &str) -> Registered {
        Registered {
            beat_ms: 0,
            clock_ms: 0,
            beat_age_ms: 0,
            draining: false,
            registration: Registration {
                role,
                incarnation: Incarnation::default(),
                node: NodeId::new(name),
                machine: machine.into(),
                zone: zone.into(),
                address: "192.0.2.1".into(),
                port_heartbeat: 1,
                port_control: 2,
                port_api: 3,
                version: "0".into(),
                weight: 0,
                keys: Default::default(),
            },
        }
    }

    /// Goal: each shared place is named once, the narrowest first, and a spread cluster is silent.
    #[test]
    fn shared_places_are_named() {
        let owners = [NodeId::new("c1")];
        let good = [
            node(Role::Master, "m1", "a", "rack-1"),
            node(Role::Master, "m2", "b", "rack-2"),
            node(Role::Coreapp, "c1", "a", "rack-1"),
            node(Role::Coreapp, "c2", "b", "rack-2"),
        ];
        assert_eq!(warnings(&good, &owners), Vec::<String>::new());
        let mut one_machine = good.clone();
        for node in &mut one_machine {
            node.registration.machine = "a".into();
        }
        let said = warnings(&one_machine, &owners).join("\n");
        assert!(
            said.contains("all masters are on one machine (a)"),
            "{said}"
        );
        assert!(
            said.contains("all coreapps are on one machine (a)"),
            "{said}"
        );
        let mut one_zone = good.clone();
        for node in &mut one_zone {
            node.registration.zone = "rack-1".into();
        }
        assert_eq!(
            warnings(&one_zone, &owners)
                .join(" ")
                .matches("in one zone (rack-1)")
                .count(),
            2
        );
        // A third coreapp elsewhere is drained: owner and only standby share a machine.
        let mut pair = good.to_vec();
        pair[3].registration.machine = "a".into();
        let mut third = node(Role::Coreapp, "c3", "c", "rack-3");
        third.draining = true;
        pair.push(third);
        let said = warnings(&pair, &owners).join("\n");
        assert!(
            said.contains("c1 and its only standby are on one machine"),
            "{said}"
        );
        // One node alone shares nothing: that it is alone is said elsewhere.
        assert_eq!(warnings(&good[..1], &[]), Vec::<String>::new());
    }
}
