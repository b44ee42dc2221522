//! What would happen if a node died now, in a sentence: from what a master explains of the shards and sees of the nodes.
//! Decides nothing: masters do, by `wa_core`.

use wa_core::worst_case::Failure;

use super::span;
use crate::api::control::{ClusterStatus, Explanation, NodeStatus, WorstCaseMs};

/// How the death of a node would be felt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Harm {
    /// Nobody would notice.
    Nothing,
    /// For a moment, or the next failure would be felt more.
    Little,
    /// Messages would wait for people.
    Outage,
}

fn of_role<'a>(status: &'a ClusterStatus, role: &'a str) -> impl Iterator<Item = &'a NodeStatus> {
    let all = status.nodes.iter();
    all.filter(move |node| node.role == role && node.healthy)
}

/// Takeover at worst from a process that was killed; with a host agent where one is known.
fn takeover(cases: &[WorstCaseMs]) -> Option<u64> {
    let killed = Failure::ProcessKilled.as_str();
    let worst = |host_agent: bool| {
        let mut of = cases
            .iter()
            .filter(|case| case.host_agent == host_agent && case.class == killed);
        of.next().map(|case| case.takeover_ms)
    };
    worst(true).or_else(|| worst(false))
}

/// What would happen if this node died now.
pub fn of(status: &ClusterStatus, explained: &[Explanation], node: &NodeStatus) -> (Harm, String) {
    match node.role.as_str() {
        "coreapp" => of_coreapp(status, explained, node),
        "master" => of_master(status, node),
        "webapp" => of_webapp(status, node),
        "host" => (
            Harm::Little,
            "Nothing stops. Deaths on this machine would be noticed by silence only, which takes longer.".into(),
        ),
        _ => (Harm::Nothing, "Nothing.".into()),
    }
}

fn of_coreapp(
    status: &ClusterStatus,
    explained: &[Explanation],
    node: &NodeStatus,
) -> (Harm, String) {
    let shards = status.shards.iter();
    let owned = shards.filter(|shard| shard.owner.as_deref() == Some(&node.node));
    let owned: Vec<u16> = owned.map(|shard| shard.shard).collect();
    if owned.is_empty() {
        let standby = of_role(status, "coreapp").filter(|other| {
            let owns = status
                .shards
                .iter()
                .any(|shard| shard.owner.as_deref() == Some(&other.node));
            !owns && other.node != node.node
        });
        return match standby.count() {
            0 => (
                Harm::Little,
                "Nothing stops, but nobody would be left to take over.".into(),
            ),
            left => (
                Harm::Nothing,
                format!("Nothing stops; other standbys: {left}."),
            ),
        };
    }
    let (mut harm, mut said) = (Harm::Little, Vec::new());
    for number in owned {
        let Some(shard) = explained.iter().find(|e| e.shard == number) else {
            said.push(format!(
                "It owns shard {number}; what would follow is not known at the moment."
            ));
            continue;
        };
        said.push(match &shard.successor {
            Some(successor) if shard.obstacles.is_empty() => {
                let within = takeover(&shard.worst_cases);
                let within =
                    within.map_or(String::new(), |ms| format!(" within {} at worst", span(ms)));
                format!("Shard {number} moves to {successor}{within}; messages wait meanwhile.")
            }
            Some(successor) => {
                harm = Harm::Outage;
                format!(
                    "Shard {number} would move to {successor}, but: {}",
                    shard.obstacles.join("; ")
                )
            }
            None => {
                harm = Harm::Outage;
                format!(
                    "Messages of shard {number} wait until somebody acts: nobody can take over."
                )
            }
        });
    }
    (harm, said.join(" "))
}

fn of_master(status: &ClusterStatus, node: &NodeStatus) -> (Harm, String) {
    let others = of_role(status, "master")
        .filter(|other| other.node != node.node)
        .count();
    let primary = status.primary_master.as_deref() == Some(&node.node);
    match (primary, others) {
        (_, 0) => (
            Harm::Outage,
            "Owners go on, but no master would be left: nobody would take over from an owner that fails.".into(),
        ),
        (true, others) => (
            Harm::Little,
            format!("Another master takes the lease when it has run out; owners go on. Other masters: {others}."),
        ),
        (false, others) => (Harm::Nothing, format!("Nothing stops; other masters: {others}.")),
    }
}

fn of_webapp(status: &ClusterStatus, node: &NodeStatus) -> (Harm, String) {
    let others = of_role(status, "webapp")
        .filter(|other| other.node != node.node)
        .count();
    match others {
        0 => (
            Harm::Outage,
            "The API would be gone: no other webapp is up.".into(),
        ),
        others => (
            Harm::Little,
            format!("Its clients must go to another webapp. Other webapps: {others}."),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, role: &str, healthy: bool) -> NodeStatus {
        let value = serde_json::json!({
            "node": name, "role": role, "address": "", "zone": "", "version": "", "heartbeat_age_ms": 1,
            "db_beat_age_ms": 1, "healthy": healthy, "shard": null, "epoch": null, "health": [],
        });
        serde_json::from_value(value).expect("a node")
    }

    fn status(nodes: Vec<NodeStatus>) -> ClusterStatus {
        let value = serde_json::json!({
            "node": "a:master-1", "version": "", "primary": true, "primary_master": "a:master-1", "term": 1,
            "lease_margin_ms": 1, "safe_ms": null, "database_error": null, "fence": "", "heartbeat_interval_ms": 1,
            "unhealthy_interval_ms": 1, "settings_version": 1, "problems": [], "decisions": [], "nodes": [],
            "shards": [{"shard": 0, "generation": 1, "phase": "active", "owner": "a:coreapp-1", "epoch": 1,
                "renewal_age_ms": 1, "unsettled": [], "diagnosis": null}],
        });
        ClusterStatus {
            nodes,
            ..serde_json::from_value(value).expect("a status")
        }
    }

    fn explained(successor: Option<&str>, obstacles: &[&str]) -> Vec<Explanation> {
        vec![Explanation {
            shard: 0,
            phase: "active".into(),
            owner: Some("a:coreapp-1".into()),
            epoch: 1,
            rule: String::new(),
            outcome: String::new(),
            evidence: Vec::new(),
            obstacles: obstacles.iter().map(ToString::to_string).collect(),
            successor: successor.map(str::to_owned),
            worst_cases: vec![WorstCaseMs {
                class: Failure::ProcessKilled.as_str().into(),
                host_agent: true,
                detection_ms: 40,
                takeover_ms: 90,
            }],
        }]
    }

    /// Goal: the sentence of an owner names who takes over and when, or that nobody can. Method: with, without, and with an
    /// obstacle.
    #[test]
    fn the_death_of_an_owner_is_told() {
        let owner = node("a:coreapp-1", "coreapp", true);
        let status = status(vec![owner.clone()]);
        let of = |successor, obstacles: &[&str]| {
            super::of(&status, &explained(successor, obstacles), &owner)
        };
        let (harm, said) = of(Some("b:coreapp-1"), &[]);
        assert_eq!(harm, Harm::Little);
        assert!(said.contains("moves to b:coreapp-1 within 90 ms"), "{said}");
        let (harm, said) = of(Some("b:coreapp-1"), &["failover is paused"]);
        assert!(
            harm == Harm::Outage && said.contains("failover is paused"),
            "{said}"
        );
        let (harm, said) = of(None, &[]);
        assert!(
            harm == Harm::Outage && said.contains("nobody can take over"),
            "{said}"
        );
        let (harm, said) = super::of(&status, &[], &owner);
        assert!(
            harm == Harm::Little && said.contains("not known"),
            "an owner is none of the standbys: {said}"
        );
    }

    /// Goal: the last one of a role is an outage, or says that nobody is left behind it. Method: each role alone, and with one more.
    #[test]
    fn the_last_of_its_kind_is_told() {
        let harm = |role: &str, others: &[(&str, bool)]| {
            let one = node("x", role, true);
            let mut nodes = vec![one.clone()];
            let more = others
                .iter()
                .enumerate()
                .map(|(at, (role, healthy))| node(&format!("y{at}"), role, *healthy));
            nodes.extend(more);
            super::of(&status(nodes), &[], &one).0
        };
        for role in ["master", "webapp"] {
            assert_eq!(harm(role, &[]), Harm::Outage, "{role}");
            assert_eq!(harm(role, &[(role, false)]), Harm::Outage, "{role}");
            assert!(harm(role, &[(role, true)]) < Harm::Outage, "{role}");
        }
        assert_eq!(harm("coreapp", &[]), Harm::Little);
        assert_eq!(harm("coreapp", &[("coreapp", true)]), Harm::Nothing);
        assert_eq!(harm("host", &[]), Harm::Little);
    }
}
