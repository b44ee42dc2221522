//! The life of an accepted message. What an upstream's answer means for it: `outcome`.
//! Sends nothing and stores nothing: `coreapp/sender.rs` and `db/message.rs` do.

use crate::time::Duration;

/// Where an accepted message stands. `Queued` and `Sending` have an outbox row; the others are final for the sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum MessageState {
    Queued = 0,
    /// Claimed under (epoch, grant) before the first byte left.
    Sending = 1,
    /// Its sender died, timed out or could not record the outcome: upstream may have it. Waits for its receipt.
    Ambiguous = 2,
    Sent = 3,
    Delivered = 4,
    Read = 5,
    Failed = 6,
}

impl MessageState {
    /// The state of a row's number.
    pub fn from_u8(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Queued,
            1 => Self::Sending,
            2 => Self::Ambiguous,
            3 => Self::Sent,
            4 => Self::Delivered,
            5 => Self::Read,
            6 => Self::Failed,
            _ => return None,
        })
    }

    /// The state after a status event: events arrive in any order and more than once, so only progress counts. What arrived
    /// after all is no failure, and what arrived does not fail.
    #[must_use]
    pub fn after(self, event: Self) -> Self {
        if event.progress() > self.progress() {
            event
        } else {
            self
        }
    }

    fn progress(self) -> u8 {
        match self {
            Self::Queued => 0,
            Self::Sending => 1,
            Self::Ambiguous => 2,
            Self::Sent => 3,
            Self::Failed => 4,
            Self::Delivered => 5,
            Self::Read => 6,
        }
    }
}

/// Why a message is not sent any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Expired {
    /// Its own time to live has passed.
    Ttl,
    /// It waited for too long.
    Age,
}

/// How long messages may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AgeLimits {
    /// For one without a time to live; time in which all sending was held does not count.
    pub max: Duration,
    /// For every message, whoever held it up.
    pub pending_max: Duration,
}

/// Whether a message is too old to be sent. `held`: for how much of its age all sending was held.
pub fn expired(
    age: Duration,
    held: Duration,
    ttl: Option<Duration>,
    limits: AgeLimits,
) -> Option<Expired> {
    match ttl {
        Some(ttl) if age > ttl => Some(Expired::Ttl),
        _ if age > limits.pending_max => Some(Expired::Age),
        Some(_) => None,
        None if age.saturating_sub(held) > limits.max => Some(Expired::Age),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_and_repeated_statuses_never_go_back() {
        assert_eq!(
            MessageState::Delivered.after(MessageState::Sent),
            MessageState::Delivered
        );
        assert_eq!(
            MessageState::Sent.after(MessageState::Read),
            MessageState::Read
        );
        assert_eq!(
            MessageState::Failed.after(MessageState::Read),
            MessageState::Read
        );
        assert_eq!(
            MessageState::Delivered.after(MessageState::Failed),
            MessageState::Delivered
        );
        assert_eq!(
            MessageState::Failed.after(MessageState::Sent),
            MessageState::Failed
        );
    }

    /// Goal: each clock ends what it is for, and no other. Method: both sides of every limit.
    #[test]
    fn ages_end_what_they_are_for() {
        let s = Duration::from_secs;
        let limits = AgeLimits {
            max: s(100),
            pending_max: s(700),
        };
        for (age, held, ttl, wanted) in [
            (100, 0, None, None),
            (101, 0, None, Some(Expired::Age)),
            (101, 1, None, None),
            (700, 650, None, None),
            (701, 700, None, Some(Expired::Age)),
            (10, 0, Some(10), None),
            (11, 11, Some(10), Some(Expired::Ttl)),
            (300, 0, Some(400), None),
            (701, 0, Some(900), Some(Expired::Age)),
            (5, 90, None, None),
        ] {
            let found = expired(s(age), s(held), ttl.map(s), limits);
            assert_eq!(found, wanted, "{age} {held} {ttl:?}");
        }
    }
}
