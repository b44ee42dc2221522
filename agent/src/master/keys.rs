//! The rotation of the cluster key as the primary master watches it: no phase begins before every live node has reported
//! the one before, and the old key does not go before every sealed secret is under the new one. Shows ids only, never a key.

use std::sync::Mutex;
use std::time::Duration;

use wa_core::roll::Roll;

use super::record;
use crate::api::control::{KeysAnswer, KeysPhase, KeysStatus, KeysStep, NodeKeys, Rotation};
use crate::db::node_key::NodeKeyRow;
use crate::db::setting::KEYS;
use crate::db::{Db, DbError};
use crate::member::sealed;
use crate::member::settings::{self, KeyRotation};
use crate::net::keys::Keys;

/// What this master remembers of the node table, and how long after its last beat a node is waited for.
pub type Live<'a> = (&'a Mutex<Roll>, Duration);

/// Nodes, and the rotation under way, as the database says it now.
///
/// # Errors
/// When the database does not answer.
pub async fn read(db: &Db, (roll, live): Live<'_>) -> Result<(u64, KeysStatus), DbError> {
    let row = settings::read::<KeyRotation>(db).await?;
    let version = row.version;
    let KeyRotation(rotation) = row.or_default();
    let row = |row: NodeKeyRow| NodeKeys {
        node: row.node.as_str().into(),
        role: row.role.as_str().into(),
        live: row.live,
        sends: row.sends,
        accepts: row.accepts,
    };
    let nodes: Vec<NodeKeys> = db
        .node_keys(roll, live)
        .await?
        .into_iter()
        .map(row)
        .collect();
    let waiting = rotation
        .as_ref()
        .map_or_else(Vec::new, |r| waiting(r, &nodes));
    let status = KeysStatus {
        rotation,
        nodes,
        waiting,
    };
    Ok((version, status))
}

/// Live nodes that have not reported the phase yet.
fn waiting(rotation: &Rotation, nodes: &[NodeKeys]) -> Vec<String> {
    let to = &rotation.to;
    let reported = |n: &NodeKeys| match rotation.phase {
        KeysPhase::Accept => n.accepts.contains(to),
        KeysPhase::Send => n.sends.as_ref() == Some(to),
        KeysPhase::Drop => n.sends.as_ref() == Some(to) && n.accepts == [to.clone()],
    };
    let open = nodes.iter().filter(|n| n.live && !reported(n));
    open.map(|n| n.node.clone()).collect()
}

/// What a step leads to: the rotation afterwards (`None`: it is over), or why not.
///
/// # Errors
/// The sentence for the operator.
pub fn decide(status: &KeysStatus, step: &KeysStep) -> Result<Option<Rotation>, String> {
    let wanted = |phase| {
        Some(Rotation {
            from: step.from.clone(),
            to: step.to.clone(),
            phase,
        })
    };
    let Some(now) = &status.rotation else {
        if step.phase != Some(KeysPhase::Accept) {
            return Err("no rotation of keys is under way; type: wa-agent keys rotate".into());
        }
        if step.from == step.to {
            return Err(
                "the new key has the id of the old one: remove it and type the same again".into(),
            );
        }
        let other = |n: &&NodeKeys| n.live && n.sends.as_ref() != Some(&step.from);
        let others: Vec<&str> = status
            .nodes
            .iter()
            .filter(other)
            .map(|n| &*n.node)
            .collect();
        if !others.is_empty() {
            return Err(format!(
                "these do not sign with the key {}, or have not said so: {}; bring them in line first",
                step.from,
                others.join(", ")
            ));
        }
        return Ok(wanted(KeysPhase::Accept));
    };
    if (&now.from, &now.to) != (&step.from, &step.to) {
        return Err(format!(
            "a rotation from key {} to {} is under way, phase {}: finish it first, on the machine where it began",
            now.from,
            now.to,
            now.phase.number()
        ));
    }
    // The same step again is no step: whoever types the command again goes on where it stopped.
    if step.phase == Some(now.phase) {
        return Ok(Some(now.clone()));
    }
    if step.phase != now.phase.next() {
        return Err(format!(
            "the rotation is in phase {}: one after the other",
            now.phase.number()
        ));
    }
    if !status.waiting.is_empty() {
        return Err(format!(
            "phase {} is not over: waiting for {}",
            now.phase.number(),
            status.waiting.join(", ")
        ));
    }
    Ok(step.phase.and_then(wanted))
}

/// Carries a step out, or says why not.
///
/// # Errors
/// When the database does not answer.
pub async fn step(
    db: &Db,
    live: Live<'_>,
    keys: &Keys,
    step: &KeysStep,
) -> Result<KeysAnswer, DbError> {
    let (version, status) = read(db, live).await?;
    let answer = |accepted, message: String, status| KeysAnswer {
        accepted,
        elsewhere: false,
        message,
        status,
    };
    let next = match decide(&status, step) {
        Ok(next) => next,
        Err(why) => return Ok(answer(false, why, status)),
    };
    let mut said = match &next {
        Some(r) => format!(
            "keys {} to {}: phase {}, {}",
            r.from,
            r.to,
            r.phase.number(),
            r.phase.sentence()
        ),
        None => format!("key {} is dropped, every node uses {}", step.from, step.to),
    };
    if step.dry_run {
        return Ok(answer(true, said, status));
    }
    // Every node knows both keys now: the last moment for it. Also when the same phase is asked for again: what was sealed before
    // the phase began may have come into the database after it, and whoever has the old key still can open it.
    if step.phase == Some(KeysPhase::Drop) {
        match under_the_new_key(db, keys, step).await? {
            Ok(more) => said.push_str(&more),
            Err(why) => return Ok(answer(false, why, status)),
        }
    }
    if next == status.rotation {
        return Ok(answer(true, said, status));
    }
    // Decided by what nodes report as well, which is read beside the row: whoever is too late asks anew.
    let text = settings::text_of(&KeyRotation(next));
    if !db.store_setting(KEYS, version, &text).await? {
        let why = "somebody else is at it; type the same again".into();
        return Ok(answer(false, why, status));
    }
    let subject = format!("{} to {}", step.from, step.to);
    let what = step.phase.map_or("keys-done", KeysPhase::word);
    let asked = (step.reason.as_deref(), step.by.as_deref());
    record::record(db, what, (None, &subject), asked, &said).await?;
    record::journal(asked, &said);
    let (_, status) = read(db, live).await?;
    Ok(answer(true, said, status))
}

/// Seals everything anew, before the old key may go. What to say of it, or why the old key has to stay.
async fn under_the_new_key(
    db: &Db,
    keys: &Keys,
    step: &KeysStep,
) -> Result<Result<String, String>, DbError> {
    if keys.ids().0 != step.to {
        return Ok(Err(format!(
            "this master does not sign with the key {} yet; type the same again",
            step.to
        )));
    }
    let done = sealed::reseal(db, keys).await?;
    if let Some(first) = done.left.first() {
        return Ok(Err(format!(
            "{} secrets in the database are sealed with the key {} still, among them {first}; type the same again",
            done.left.len(),
            step.from
        )));
    }
    // They open with neither key: keeping the old one would bring none of them back.
    let lost = done.lost.iter().map(|error| format!("; {error}"));
    let sealed = match done.count {
        0 => String::new(),
        count => format!("; {count} secrets were sealed anew"),
    };
    Ok(Ok(sealed + &lost.collect::<String>()))
}

#[cfg(test)]
#[path = "rotation_tests.rs"]
mod rotation_tests;

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, live: bool, sends: &str, accepts: &[&str]) -> NodeKeys {
        NodeKeys {
            node: name.into(),
            role: "coreapp".into(),
            live,
            sends: Some(sends.to_owned()).filter(|id| !id.is_empty()),
            accepts: accepts.iter().map(ToString::to_string).collect(),
        }
    }

    fn status(phase: Option<KeysPhase>, nodes: Vec<NodeKeys>) -> KeysStatus {
        let rotation = phase.map(|phase| Rotation {
            from: "a1".into(),
            to: "7f".into(),
            phase,
        });
        let waiting = rotation
            .as_ref()
            .map_or_else(Vec::new, |r| waiting(r, &nodes));
        KeysStatus {
            rotation,
            nodes,
            waiting,
        }
    }

    fn step(phase: Option<KeysPhase>) -> KeysStep {
        KeysStep {
            from: "a1".into(),
            to: "7f".into(),
            phase,
            reason: None,
            by: None,
            dry_run: false,
        }
    }

    /// Goal: no phase begins before every live node has reported the one before; a dead one is not waited for, a silent
    /// one is. Method: each step from each state.
    #[test]
    fn no_phase_begins_before_all_reported() {
        use KeysPhase::{Accept, Drop, Send};
        let old = || node("x", true, "a1", &["a1"]);
        let both = || node("x", true, "a1", &["a1", "7f"]);
        let sends = || node("y", true, "7f", &["7f", "a1"]);
        let new = || node("y", true, "7f", &["7f"]);
        let dead = || node("z", false, "a1", &["a1"]);
        let mute = || node("m", true, "", &[]);
        let phase = |r: Result<Option<Rotation>, String>| r.map(|r| r.map(|r| r.phase));
        let go = |from, nodes, to| phase(decide(&status(from, nodes), &step(to)));
        assert_eq!(
            go(None, vec![old(), dead()], Some(Accept)),
            Ok(Some(Accept))
        );
        assert!(go(None, vec![old(), mute()], Some(Accept)).is_err());
        assert!(go(None, vec![new()], Some(Accept)).is_err());
        assert!(go(None, vec![old()], Some(Send)).is_err());
        assert_eq!(
            go(Some(Accept), vec![old()], Some(Accept)),
            Ok(Some(Accept)),
            "again"
        );
        let why = go(Some(Accept), vec![both(), old()], Some(Send)).expect_err("not yet");
        assert!(why.contains("waiting for x"), "{why}");
        assert_eq!(
            go(Some(Accept), vec![both(), dead()], Some(Send)),
            Ok(Some(Send))
        );
        assert!(
            go(Some(Accept), vec![both()], Some(Drop)).is_err(),
            "one after the other"
        );
        assert!(go(Some(Send), vec![sends(), both()], Some(Drop)).is_err());
        assert_eq!(go(Some(Send), vec![sends()], Some(Drop)), Ok(Some(Drop)));
        assert!(go(Some(Drop), vec![new(), sends()], None).is_err());
        assert_eq!(go(Some(Drop), vec![new()], None), Ok(None));
        let mut other = step(Some(Send));
        other.to = "99".into();
        let other = decide(&status(Some(Accept), vec![both()]), &other);
        assert!(other.expect_err("another").contains("under way"));
    }
}
