//! Waiting times that grow: exponential for the upstream, linear for webhooks (as the reference client did).
//! Draws no random numbers: jitter comes in as a value.

use crate::time::Duration;

/// Linear growth per failure up to a cap: `step · failures` (API facts, webhook delivery rules).
pub fn linear(step: Duration, failures: u32, cap: Duration) -> Duration {
    step.saturating_mul(failures.max(1)).min(cap)
}

/// Doubles per failure from `first` up to `cap`, then takes up to a quarter off by `jitter` (0 ..= 255).
pub fn exponential(first: Duration, failures: u32, cap: Duration, jitter: u8) -> Duration {
    let grown = first
        .saturating_mul(1u32 << failures.saturating_sub(1).min(20))
        .min(cap);
    grown - grown / 4 * u32::from(jitter) / 255
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_grows_by_the_step_and_stops_at_the_cap() {
        let (step, cap) = (Duration::from_secs(3), Duration::from_secs(900));
        assert_eq!(linear(step, 1, cap), Duration::from_secs(3));
        assert_eq!(linear(step, 3, cap), Duration::from_secs(9));
        assert_eq!(linear(step, 1_000_000, cap), cap);
    }

    #[test]
    fn exponential_doubles_and_jitter_only_shortens() {
        let (first, cap) = (Duration::from_millis(100), Duration::from_secs(5));
        assert_eq!(exponential(first, 1, cap, 0), first);
        assert_eq!(exponential(first, 3, cap, 0), Duration::from_millis(400));
        assert_eq!(exponential(first, 60, cap, 0), cap);
        let shortest = exponential(first, 3, cap, 255);
        assert!(shortest >= Duration::from_millis(299) && shortest <= Duration::from_millis(301));
    }
}
