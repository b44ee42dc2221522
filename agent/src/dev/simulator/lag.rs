//! How long receipts take: from the moment that a send was taken until somebody has stored its first status.
//! Judges nothing: a drill prints it beside what was sent twice.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Lags that are kept; later ones are left out.
const LEN_MAX: usize = 1_000_000;

/// The lags since the last reset, in ms.
#[derive(Debug, Default)]
pub struct Lags(Vec<u32>);

/// What a drill prints of them, in ms; zero when there was none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spread {
    pub p50_ms: u32,
    pub p99_ms: u32,
    pub worst_ms: u32,
}

impl Lags {
    pub fn add(&mut self, lag: Duration) {
        if self.0.len() < LEN_MAX {
            self.0
                .push(u32::try_from(lag.as_millis()).unwrap_or(u32::MAX));
        }
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Half of them are at most the first, 99 of 100 at most the second, all at most the third.
    pub fn spread(&self) -> Spread {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = |percent: usize| {
            let rank = (sorted.len() * percent).div_ceil(100);
            sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
        };
        Spread {
            p50_ms: at(50),
            p99_ms: at(99),
            worst_ms: at(100),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_by_rank() {
        let mut lags = Lags::default();
        assert_eq!(lags.spread(), Spread::default());
        (1..=200u64)
            .rev()
            .for_each(|ms| lags.add(Duration::from_millis(ms)));
        let spread = lags.spread();
        assert_eq!(
            (spread.p50_ms, spread.p99_ms, spread.worst_ms),
            (100, 198, 200)
        );
    }
}
