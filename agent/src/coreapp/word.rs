//! What a coreapp says of its own work: what fails, since when, and how many callbacks wait.
//! Judges nothing: `wa_core::judgement` does, here for `STATUS=` and the page of figures, on masters for everybody.

use std::sync::atomic::Ordering;
use std::time::Duration;

use wa_core::judgement::{self, Database, Evidence, Kind, Problem};
use wa_core::time::Instant;

use super::alarms;
use super::node::Node;
use crate::api::internal::{FailingMs, HeldMs, UNREGISTERED, WorkWord};
use crate::sys::clock;
use crate::sys::trouble::Trouble;

/// A write of a lease or a beat that failed longer ago than this says nothing about now.
const WRITES_WITHIN: Duration = Duration::from_secs(20);
/// Clients try again at once: an intake that nobody asked for this long may be well again.
const INTAKE_WITHIN: Duration = Duration::from_secs(30);
/// The probe asks every 10 s.
const UPSTREAM_WITHIN: Duration = Duration::from_secs(30);

/// How often it is judged what is wrong.
const JUDGE_EVERY: Duration = Duration::from_secs(1);

/// What is wrong with this coreapp, judged once a second: people read it.
#[derive(Debug, Default)]
pub struct Judge {
    wrong: Option<String>,
    at: Option<Instant>,
}

impl Judge {
    /// Judges anew when it is time, for the page of figures and for [`Self::before`].
    pub fn look(&mut self, node: &Node, read_at: Option<Instant>, now: Instant) {
        let lately = |at| now.since(at) < JUDGE_EVERY;
        if self.at.is_some_and(lately) || node.db().is_none() {
            return;
        }
        self.at = Some(now);
        let problems = problems(node, read_at.map(|at| now.since(at)));
        node.metrics.problems.set(&problems);
        self.wrong = judgement::remark(&problems);
    }

    /// The unit's status with what is wrong before it.
    pub fn before(&self, status: String) -> String {
        match &self.wrong {
            Some(wrong) => format!("{wrong}; {status}"),
            None => status,
        }
    }
}

/// How the work of the tenure goes, if there is one.
pub fn of(node: &Node) -> Option<WorkWord> {
    let work = node.work()?;
    let troubles = &node.troubles;
    let callbacks = work.callbacks.now();
    // What failed under an earlier tenure is no news about this one.
    let own = clock::now().since(work.began);
    let standing = |trouble: &Trouble, within: Duration| trouble.standing(within.min(own));
    let held = work.holding.why();
    let since = |at| u64::try_from(clock::now().since(at).as_millis()).unwrap_or(u64::MAX);
    // Health shows it as well, where all messages are held.
    let refused = held
        .filter(|(why, _)| !why.partly())
        .map(|(why, at)| FailingMs {
            since_ms: since(at),
            error: why.says().to_owned(),
        });
    Some(WorkWord {
        held: held.map(|(why, at)| HeldMs {
            why: why.as_str().to_owned(),
            since_ms: since(at),
        }),
        for_person: work.for_person.load(Ordering::Relaxed),
        intake: standing(&troubles.intake, INTAKE_WITHIN).map(Into::into),
        upstream: refused.or_else(|| standing(&troubles.upstream, UPSTREAM_WITHIN).map(Into::into)),
        callbacks: callbacks.waiting,
        callbacks_parked: callbacks.parked,
        oldest_callback_ms: u64::try_from(callbacks.oldest.as_millis()).unwrap_or(u64::MAX),
        callback_error: standing(&troubles.callbacks, Duration::MAX).map(|failing| failing.error),
        figures: alarms::figures(node),
    })
}

/// What is wrong with this coreapp, as far as it knows itself. `read_age`: since the shard map was read last.
fn problems(node: &Node, read_age: Option<Duration>) -> Vec<Problem> {
    let shard = node.work().map_or(0, |work| work.own.shard.0);
    let word =
        of(node).map(|word| word.evidence(node.settings.node.as_str(), shard, Duration::ZERO));
    judgement::judge(&Evidence {
        database: Some(Database {
            read_age,
            fresh_for: node.settings.timers.lease_ttl * 2,
            read_error: None,
            writes: node.troubles.writes.standing(WRITES_WITHIN),
        }),
        words: word.into_iter().collect(),
        told: told(node),
        ..Evidence::default()
    })
}

/// What this coreapp knows in words of its own.
fn told(node: &Node) -> Vec<(Kind, String)> {
    let said = node.unregistered().then(|| UNREGISTERED.to_owned());
    said.map(|said| (Kind::Unregistered, said))
        .into_iter()
        .collect()
}
