//! A message that names another one: it answers it, or reacts to it. Decides whether it may go, and how.
//! Looks nothing up: `agent/src/coreapp/naming.rs` does, with a statement of `agent/src/db/message_id.rs`.

use crate::guard::{Guard, on};

/// What a message has to do with the one that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Naming {
    /// It can go without.
    Answer,
    /// Nothing is left of it without.
    Reaction,
}

/// What is known of the message that is named, when it is one of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Named {
    /// The upstream has it, under an id that is known.
    Sent,
    /// Accepted before the one that names it, and not at its end: it may still get an id.
    Open,
    /// It will never get an id, or nobody knows it any more: failed, collected, of another customer, or accepted later. Messages
    /// that wait for later ones could wait for each other.
    Gone,
}

/// What becomes of the message that names another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// It goes, and names the other by the upstream's id.
    Go,
    /// It goes, and names nothing.
    GoBare,
    /// It is put off.
    Wait,
    /// It ends as failed.
    Fail,
}

/// What becomes of a message that names one of ours.
pub fn step(naming: Naming, named: Named) -> Step {
    match (named, naming) {
        (Named::Sent, _) => Step::Go,
        (Named::Open, _) if on(Guard::NamedGoesFirst) => Step::Wait,
        (Named::Open | Named::Gone, Naming::Answer) => Step::GoBare,
        (Named::Open | Named::Gone, Naming::Reaction) => Step::Fail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: nothing overtakes the message that it names, and nothing waits for one that never comes. Method: every pair.
    #[test]
    fn every_pair_has_its_step() {
        for (naming, named, wanted) in [
            (Naming::Answer, Named::Sent, Step::Go),
            (Naming::Answer, Named::Open, Step::Wait),
            (Naming::Answer, Named::Gone, Step::GoBare),
            (Naming::Reaction, Named::Sent, Step::Go),
            (Naming::Reaction, Named::Open, Step::Wait),
            (Naming::Reaction, Named::Gone, Step::Fail),
        ] {
            assert_eq!(step(naming, named), wanted, "{naming:?} {named:?}");
        }
    }
}
