//! What becomes of attempts as `agent/src/coreapp/{attempt,sender}.rs` see to it: answers of the upstream, or none.
//! Records nothing: `work.rs` does.

use wa_core::hold::Event;
use wa_core::outcome::{Account, Limit, Outcome, Refusal, classify};

use super::line::Behind;
use super::work::{ATTEMPT_MS, Work};
use crate::message::{Finished, Id};
use crate::world::{MS, Sim};

impl Sim {
    /// The gate refused the connection: nothing was sent.
    pub(crate) fn nothing_sent(&mut self, node: usize, id: Id) {
        if work_has(&self.nodes[node].work, id) {
            self.no_call(node, id, true);
        }
        let to = Finished::Retry { delay_ms: 100 };
        self.outcome_of(node, id, to, Behind::Waits);
    }

    /// No answer came in time.
    pub(crate) fn give_up(&mut self, node: usize, id: Id) {
        let now = self.now;
        let work = self.nodes[node].work.as_deref();
        let began = work.and_then(|w| w.waiting.get(&id));
        if began.is_some_and(|at| now >= at + ATTEMPT_MS * MS) {
            let sort = self.sort(id);
            self.look_at_hold(node, Event::Came(sort, Outcome::Unknown));
            self.outcome_of(node, id, Finished::Ambiguous, Behind::Waits);
        }
    }

    /// The upstream answered: 200, or with one of its codes.
    pub(crate) fn upstream_said(&mut self, node: usize, id: Id, code: u32) {
        let refusal = Refusal {
            status: 400,
            code,
            subcode: 0,
        };
        let outcome = match code {
            0 => Outcome::Sent,
            _ => classify(refusal),
        };
        let ours = work_has(&self.nodes[node].work, id);
        if ours {
            let sort = self.sort(id);
            self.look_at_hold(node, Event::Came(sort, outcome));
        }
        let strict = ours && self.web.strict.on;
        let mut behind = Behind::Waits;
        let to = match outcome {
            Outcome::Sent => {
                if strict {
                    self.pair_taken(node, id);
                }
                Finished::Sent
            }
            Outcome::Rejected(Limit::Pair) if strict => {
                behind = Behind::Goes;
                self.one_too_many(node, id)
            }
            Outcome::Rejected(limit) => Finished::Retry {
                delay_ms: retry_ms(limit),
            },
            Outcome::WaitLong => Finished::Retry { delay_ms: 1200 },
            Outcome::Account(Account::Payment) => Finished::Retry { delay_ms: 600 },
            Outcome::Account(_) => Finished::Retry { delay_ms: 0 },
            Outcome::Failed => Finished::Failed,
            Outcome::Unknown => Finished::Ambiguous,
        };
        self.outcome_of(node, id, to, behind);
    }

    pub(super) fn outcome_of(&mut self, node: usize, id: Id, to: Finished, behind: Behind) {
        if let Some(work) = self.nodes[node].work.as_deref_mut()
            && work.waiting.remove(&id).is_some()
        {
            let claims = work.in_hand.get(&id).copied().unwrap_or(0);
            work.outcomes.push((id, to, claims));
            work.late_goes();
            self.after(node, id, to, behind);
        }
    }
}

/// The message is being sent by this work.
fn work_has(work: &Option<Box<Work>>, id: Id) -> bool {
    let work = work.as_deref();
    work.is_some_and(|work| work.waiting.contains_key(&id))
}

/// A fiftieth of what the sender waits, so that it fits into a seed.
fn retry_ms(limit: Limit) -> u64 {
    match limit {
        Limit::Number => 20,
        Limit::Pair => 120,
    }
}
