//! A message that its owner has claimed for sending, as its row and the claim have it.
//! Claims nothing: `message.rs` does.

use std::time::Duration;

use wa_core::time::Instant;

/// A claimed message.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Claimed {
    /// Number of its row, in the order of acceptance; `None` when it was claimed as it was accepted: newer than all others.
    pub seq: Option<i64>,
    pub id: String,
    pub recipient: String,
    /// The customer's hash: decides shard and order.
    pub recipient_hash: i64,
    /// Number of the form that `payload` is in.
    pub form: i64,
    pub payload: String,
    /// Claims of the row before this one; −1 when it was claimed as it was accepted.
    pub attempts: i64,
    /// How old it was at this claim, by the database's clock, in ms; negative where that clock was set back.
    pub age_ms: i64,
    /// How many earlier attempts had an outcome that nobody learned.
    pub doubt: i64,
    /// When it was claimed, by this machine's clock.
    #[sqlx(skip)]
    pub claimed: Instant,
}

impl Claimed {
    /// How many claims its row has had with this one.
    pub fn claims(&self) -> i64 {
        self.attempts.saturating_add(1)
    }

    /// The customer's hash.
    pub fn route(&self) -> u32 {
        u32::try_from(self.recipient_hash).unwrap_or(0)
    }

    /// How old it is at this moment.
    pub fn age(&self, now: Instant) -> Duration {
        let at_claim = Duration::from_millis(u64::try_from(self.age_ms).unwrap_or(0));
        at_claim + now.since(self.claimed)
    }

    /// An earlier attempt may have reached the upstream.
    pub fn doubtful(&self) -> bool {
        self.doubt != 0
    }
}
