//! Words for who could take a shard over and what keeps each of the others out.
//! Judges nobody: the core says what speaks against each.

use wa_core::id::ShardId;
use wa_core::master::Candidate;
use wa_core::reason::Reason;
use wa_core::shard_map::ShardRow;

use super::view::View;

/// What is known of a candidate beyond what the core knows.
#[derive(Debug, Default)]
struct Known {
    /// What its host agent says of the fence there: kind, and why no better one.
    fence: Option<(String, String)>,
    version: String,
}

/// A sentence for each coreapp that cannot take the shard now.
pub fn unfit(view: &View<'_>, row: &ShardRow) -> Vec<String> {
    let all = view.core.candidates(view.now, row);
    let nodes = &view.table.nodes;
    let known = |candidate: &Candidate| Known {
        fence: view
            .table
            .fence_of(candidate.node.as_str())
            .map(|word| (word.level.clone(), word.sentence.clone())),
        version: nodes
            .iter()
            .find(|n| n.registration.node == candidate.node)
            .map(|n| n.registration.version.clone())
            .unwrap_or_default(),
    };
    all.iter()
        .filter(|candidate| !candidate.against.is_empty())
        .map(|candidate| sentence(candidate, &known(candidate), env!("CARGO_PKG_VERSION")))
        .collect()
}

/// A shard that has to be moved now, and why it cannot be.
pub fn nobody(shard: ShardId, reason: Reason) -> String {
    format!(
        "shard {shard} has to move and cannot: {}",
        reason.sentence()
    )
}

/// What is known beyond two of the reasons; the others say everything themselves.
fn beside(reason: Reason, known: &Known, own: &str) -> Option<String> {
    if reason == Reason::GateNotAttested {
        return Some(match &known.fence {
            Some((level, why)) if level != "bpf" => {
                format!("; its host agent says: fence={level}, because {why}")
            }
            Some(_) => "; its host agent says that the gate stands, so the coreapp has not been lent its map: \
                 its own status says why"
                .into(),
            None => "; its host agent has said nothing: systemctl status wa-host".into(),
        });
    }
    let other = !known.version.is_empty() && known.version != own;
    (reason == Reason::NodeSilent && other).then(|| {
        format!(
            "; it runs version {}, this master {own}: versions further apart than one release do not understand each other",
            known.version
        )
    })
}

fn sentence(candidate: &Candidate, known: &Known, own: &str) -> String {
    let against = candidate.against.iter().map(|reason| {
        let beside = beside(*reason, known, own).unwrap_or_default();
        format!("{}: {}{beside}", reason.name(), reason.sentence())
    });
    let against: Vec<String> = against.collect();
    format!(
        "{} cannot take it: {}",
        candidate.node,
        against.join("; and ")
    )
}

#[cfg(test)]
mod tests {
    use wa_core::id::NodeId;

    use super::*;

    /// Goal: who reads why nobody takes over learns which condition, why, and what to type. Method: each special case.
    #[test]
    fn the_reason_and_what_to_type_are_said() {
        let says = |against: &[Reason], fence: Option<(&str, &str)>, version: &str| {
            let candidate = Candidate {
                node: NodeId::new("core2:coreapp-1"),
                against: against.to_vec(),
            };
            let known = Known {
                fence: fence.map(|(level, why)| (level.into(), why.into())),
                version: version.into(),
            };
            sentence(&candidate, &known, "2.0.0")
        };
        let gate = [Reason::GateNotAttested];
        let refused = says(&gate, Some(("process", "the kernel refuses")), "2.0.0");
        for part in [
            "core2:coreapp-1 cannot take it: GateNotAttested",
            "wa-agent gate status",
            "wa-agent doctor",
            "fence=process, because the kernel refuses",
        ] {
            assert!(refused.contains(part), "{part} is not in {refused}");
        }
        assert!(says(&gate, None, "2.0.0").contains("has said nothing"));
        assert!(says(&gate, Some(("bpf", "")), "2.0.0").contains("lent its map"));
        let silent = [Reason::NodeSilent, Reason::Draining];
        let silent = says(&silent, None, "1.0.0");
        assert!(
            silent.contains("version 1.0.0") && silent.contains("Draining"),
            "{silent}"
        );
        assert!(!says(&[Reason::NodeSilent], None, "2.0.0").contains("version"));
    }
}
