//! What the business is told of a message: which status of the upstream is told, which comes too late.
//! Stores nothing and words nothing: `agent/src/api/cloud/told.rs` does, with a column of the message's row.

use std::cmp::Ordering;

use crate::message::MessageState;

/// What the business was told last of a message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Told {
    #[default]
    Nothing,
    Sent,
    Failed,
    Delivered,
    Read,
}

/// A status of the upstream that moves a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Heard {
    Sent,
    Failed,
    Delivered,
    Read,
}

impl Heard {
    /// What was told once it is told.
    pub fn told(self) -> Told {
        match self {
            Self::Sent => Told::Sent,
            Self::Failed => Told::Failed,
            Self::Delivered => Told::Delivered,
            Self::Read => Told::Read,
        }
    }

    /// The state that it says.
    pub fn state(self) -> MessageState {
        match self {
            Self::Sent => MessageState::Sent,
            Self::Failed => MessageState::Failed,
            Self::Delivered => MessageState::Delivered,
            Self::Read => MessageState::Read,
        }
    }

    /// The place among the statuses of one message that come together. A failure keeps its own.
    pub fn rank(self) -> Option<u8> {
        match self {
            Self::Sent => Some(0),
            Self::Delivered => Some(1),
            Self::Read => Some(2),
            Self::Failed => None,
        }
    }
}

impl Told {
    /// The later that a message can be told.
    #[must_use]
    pub fn higher(self, other: Self) -> Self {
        match self.rank() < other.rank() {
            true => other,
            false => self,
        }
    }

    /// The place in the order in which a message is told.
    pub fn rank(self) -> u8 {
        match self {
            Self::Nothing => 0,
            Self::Sent => 1,
            // What arrived after all outranks the failure that was told.
            Self::Failed => 2,
            Self::Delivered => 3,
            Self::Read => 4,
        }
    }

    /// The message reached the customer's device.
    pub fn arrived(self) -> bool {
        match self {
            Self::Nothing | Self::Sent | Self::Failed => false,
            Self::Delivered | Self::Read => true,
        }
    }
}

/// What becomes of a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    Tell,
    /// It is lower than what was told: what it says beside its word goes with the next one.
    Late,
    /// It was told before: the upstream sent the message twice, or the failure came in an answer as well.
    Again,
    /// A failure of what arrived: counted, and not told.
    Contradicts,
}

/// What becomes of a status, after what was told.
pub fn judge(told: Told, heard: Heard) -> Verdict {
    let (before, now) = (told.rank(), heard.told().rank());
    if heard == Heard::Failed && told.arrived() {
        return Verdict::Contradicts;
    }
    match now.cmp(&before) {
        Ordering::Equal => Verdict::Again,
        Ordering::Less => Verdict::Late,
        Ordering::Greater => Verdict::Tell,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what arrived outranks a failure, whatever comes first, and nothing goes back. Method: every pair.
    #[test]
    fn every_pair_has_its_verdict() {
        use Verdict::{Again, Contradicts, Late, Tell};
        let heard = [Heard::Sent, Heard::Failed, Heard::Delivered, Heard::Read];
        for (told, wanted) in [
            (Told::Nothing, [Tell, Tell, Tell, Tell]),
            (Told::Sent, [Again, Tell, Tell, Tell]),
            (Told::Failed, [Late, Again, Tell, Tell]),
            (Told::Delivered, [Late, Contradicts, Again, Tell]),
            (Told::Read, [Late, Contradicts, Late, Again]),
        ] {
            assert_eq!(heard.map(|heard| judge(told, heard)), wanted, "{told:?}");
        }
    }

    /// Goal: what is told and what the row says are one story. Method: all orders of three statuses.
    #[test]
    fn the_row_and_the_business_end_alike() {
        let all = [Heard::Sent, Heard::Failed, Heard::Delivered, Heard::Read];
        for one in all {
            for two in all {
                for three in all {
                    let (mut told, mut state) = (Told::Nothing, MessageState::Ambiguous);
                    for heard in [one, two, three] {
                        state = state.after(heard.state());
                        if judge(told, heard) == Verdict::Tell {
                            told = heard.told();
                        }
                    }
                    let last = match told {
                        Told::Nothing => MessageState::Ambiguous,
                        Told::Sent => MessageState::Sent,
                        Told::Failed => MessageState::Failed,
                        Told::Delivered => MessageState::Delivered,
                        Told::Read => MessageState::Read,
                    };
                    assert_eq!(state, last, "{one:?} {two:?} {three:?}");
                }
            }
        }
    }
}
