//! The life of an accepted message, and what an upstream's answer means for it.
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

/// What to do after one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Upstream has it and gave it an id.
    Sent,
    /// Upstream refused for now: try again after a wait.
    Retry(RetryClass),
    /// Upstream refused for good: report `failed`.
    Failed,
    /// Nobody knows: wait for a receipt first.
    Ambiguous,
}

/// How long to wait before trying again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RetryClass {
    /// Passing trouble upstream: 1 s doubling to 1 min.
    Passing,
    /// The whole number sends too fast (130429, 80007, 4): hold all of it back.
    NumberLimit,
    /// Too fast to this one recipient (131056): about one message in 6 s.
    PairLimit,
    /// Quality limit (131048): minutes.
    Long,
}

/// What a Cloud API error code means (API facts, errors and limits).
pub fn classify(cloud_code: u32) -> Outcome {
    match cloud_code {
        130_429 | 80_007 | 4 | 131_057 => Outcome::Retry(RetryClass::NumberLimit),
        131_056 => Outcome::Retry(RetryClass::PairLimit),
        131_048 => Outcome::Retry(RetryClass::Long),
        1 | 2 | 131_000 | 131_016 | 133_004 => Outcome::Retry(RetryClass::Passing),
        _ => Outcome::Failed,
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

    #[test]
    fn limits_are_retried_and_the_rest_is_final() {
        assert_eq!(classify(131_056), Outcome::Retry(RetryClass::PairLimit));
        assert_eq!(classify(131_047), Outcome::Failed);
        assert_eq!(classify(999_999), Outcome::Failed);
    }
}
