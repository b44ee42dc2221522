//! Counters of the gate: how many packets passed, were dropped, and why.
//! Since the maps were made, summed over all processors; reset by nothing but the removal of the gate.

/// In the order of `enum wa_reason`: for each a name for metrics, and what it counts.
const NAMES: [&str; Counters::LEN] = [
    "passed_tenure",
    "passed_exempt",
    "passed_rst",
    "dropped_no_unit",
    "dropped_no_tenure",
    "dropped_lapsed",
    "dropped_too_far",
    "dropped_torn",
    "dropped_sealed",
    "dropped_unstamped",
    "dropped_other_epoch",
    "dropped_other_unit",
    "dropped_malformed",
    "dropped_no_wire",
    "dropped_at_wire",
    "refused_socket",
    "refused_connect",
    "refused_send",
    "refused_foreign",
];

/// Packets that passed or were dropped, and calls that were refused, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    counts: [u64; Counters::LEN],
}

impl Counters {
    /// `WA_REASONS`.
    pub const LEN: usize = 19;

    pub(crate) const fn new(counts: [u64; Counters::LEN]) -> Counters {
        Counters { counts }
    }

    /// Each with its name.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
        NAMES.into_iter().zip(self.counts)
    }

    /// One of them; `None`: there is no such name.
    pub fn get(&self, name: &str) -> Option<u64> {
        self.named()
            .find(|(n, _)| *n == name)
            .map(|(_, count)| count)
    }

    fn sum(&self, start: &str) -> u64 {
        self.named()
            .filter(|(name, _)| name.starts_with(start))
            .map(|(_, count)| count)
            .sum()
    }

    pub fn passed(&self) -> u64 {
        self.sum("passed_")
    }

    pub fn dropped(&self) -> u64 {
        self.sum("dropped_")
    }

    /// Calls of socket, connect and sendto that were refused.
    pub fn refused(&self) -> u64 {
        self.sum("refused_")
    }

    /// What was counted since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Counters) -> Counters {
        let mut counts = self.counts;
        for (count, before) in counts.iter_mut().zip(earlier.counts) {
            *count = count.saturating_sub(before);
        }
        Counters { counts }
    }
}
