//! The two intervals of the heartbeats: which pair is in force, which one `GET` shows, and which one is refused. Asked by the
//! webapp, by masters and by nobody else's own rule. Reads no settings, no clock and no machine: all of it is handed over.

/// Shortest heartbeat interval.
pub const HEARTBEAT_MS_MIN: u64 = 10;

/// `heartbeat_interval` and `unhealthy_interval`, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    pub heartbeat_ms: u64,
    pub unhealthy_ms: u64,
}

/// What the reference client has by itself. Integrations that were written for it send these unasked.
pub const REFERENCE: Pair = Pair {
    heartbeat_ms: 5_000,
    unhealthy_ms: 30_000,
};

impl Pair {
    /// Whether the two go together.
    pub fn fits(self) -> bool {
        self.heartbeat_ms >= HEARTBEAT_MS_MIN
            && self.unhealthy_ms >= self.heartbeat_ms.saturating_mul(3)
    }
}

/// What clients have sent, over all calls; `None` is what nobody has sent, or `null` has unset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    pub heartbeat_ms: Option<u64>,
    pub unhealthy_ms: Option<u64>,
}

/// Who has the say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    Configuration,
    Api,
}

/// What becomes of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judged {
    pub in_force: Pair,
    pub by: By,
    /// What `GET` shows as sent: the reference client's values where nobody has sent any, as documented. Sent back as it is, it
    /// changes nothing that is in force.
    pub shown: Pair,
}

/// Why a pair is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// `unhealthy_interval` is less than three times the other one.
    Unfit(Pair),
    /// A master's own timers were late by so much lately that it would take living nodes for dead.
    TooFast { late_ms: u64, least_ms: u64 },
}

impl Sent {
    /// Nothing was sent, or nothing but values that the reference client has by itself.
    fn of_the_reference(self) -> bool {
        let own = |sent: Option<u64>, reference| sent.is_none_or(|ms| ms == reference);
        own(self.heartbeat_ms, REFERENCE.heartbeat_ms)
            && own(self.unhealthy_ms, REFERENCE.unhealthy_ms)
    }

    fn over(self, configured: Pair) -> Pair {
        Pair {
            heartbeat_ms: self.heartbeat_ms.unwrap_or(configured.heartbeat_ms),
            unhealthy_ms: self.unhealthy_ms.unwrap_or(configured.unhealthy_ms),
        }
    }

    /// The pair is judged as a whole. The reference client's own values leave in force what is configured, whichever of them
    /// was sent: nobody means by them that a takeover shall take 40 s. Any other pair is meant. One that does not fit together,
    /// because another profile was configured since, gives way to the configured one.
    pub fn judge(self, configured: Pair) -> Judged {
        let pair = self.over(configured);
        let configuration = |shown| Judged {
            in_force: configured,
            by: By::Configuration,
            shown,
        };
        if self.of_the_reference() {
            configuration(REFERENCE)
        } else if !pair.fits() {
            configuration(configured)
        } else {
            Judged {
                in_force: pair,
                by: By::Api,
                shown: pair,
            }
        }
    }

    /// Whether a client may ask for this. `late_ms` is by how much the timers of the masters were late lately, at worst: a pair
    /// that is faster than the configured one must leave twice that. What is configured is its operator's business.
    ///
    /// # Errors
    /// [`Refusal`]
    pub fn check(self, configured: Pair, late_ms: u64) -> Result<(), Refusal> {
        if self.of_the_reference() {
            return Ok(());
        }
        let pair = self.over(configured);
        if !pair.fits() {
            return Err(Refusal::Unfit(pair));
        }
        let least_ms = late_ms.saturating_mul(2);
        if pair.unhealthy_ms < configured.unhealthy_ms.min(least_ms) {
            return Err(Refusal::TooFast { late_ms, least_ms });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn pair(heartbeat_ms: u64, unhealthy_ms: u64) -> Pair {
        Pair {
            heartbeat_ms,
            unhealthy_ms,
        }
    }

    const FAST: Pair = pair(50, 300);
    const STANDARD: Pair = pair(200, 2_000);
    const SLOWER: Pair = pair(10_000, 60_000);

    fn sent(heartbeat_ms: Option<u64>, unhealthy_ms: Option<u64>) -> Sent {
        Sent {
            heartbeat_ms,
            unhealthy_ms,
        }
    }

    /// Goal: the reference's own values, one or both, never change what is in force; any other pair that fits does; one that
    /// does not fit never does. Method: every pair of values that means something, under every profile.
    #[test]
    fn every_pair_under_every_profile() {
        let values = [
            None,
            Some(10),
            Some(50),
            Some(300),
            Some(5_000),
            Some(10_000),
            Some(30_000),
            Some(60_000),
        ];
        for configured in [FAST, STANDARD, REFERENCE, SLOWER] {
            for (heartbeat, unhealthy) in values.iter().flat_map(|h| values.map(|u| (*h, u))) {
                let asked = sent(heartbeat, unhealthy);
                let said = asked.judge(configured);
                let own = matches!(heartbeat, None | Some(5_000))
                    && matches!(unhealthy, None | Some(30_000));
                let whole = pair(
                    heartbeat.unwrap_or(configured.heartbeat_ms),
                    unhealthy.unwrap_or(configured.unhealthy_ms),
                );
                let fits = whole.heartbeat_ms * 3 <= whole.unhealthy_ms;
                let meant = !own && fits;
                assert_eq!(said.by == By::Api, meant, "{asked:?} {configured:?}");
                assert_eq!(said.in_force, if meant { whole } else { configured });
                assert_eq!(asked.check(configured, 0).is_ok(), own || fits, "{asked:?}");
                assert!(said.in_force.fits() && said.shown.fits());
                // Some clients send back what GET showed.
                let back = sent(Some(said.shown.heartbeat_ms), Some(said.shown.unhealthy_ms));
                assert_eq!(back.check(configured, 0), Ok(()));
                assert_eq!(
                    back.judge(configured).in_force,
                    said.in_force,
                    "{asked:?} {configured:?}"
                );
                assert_eq!(back.judge(configured).shown, said.shown);
            }
        }
    }

    #[test]
    fn get_shows_what_was_sent() {
        let shown = |h, u| sent(h, u).judge(FAST).shown;
        assert_eq!(shown(Some(5_000), Some(30_000)), REFERENCE);
        assert_eq!(shown(Some(5_000), None), REFERENCE);
        assert_eq!(shown(None, None), REFERENCE);
        assert_eq!(shown(Some(1_000), Some(6_000)), pair(1_000, 6_000));
        assert_eq!(shown(Some(100), None), pair(100, 300));
    }

    /// Goal: what a master that was late would break is refused, unless the operator has configured as much.
    #[test]
    fn faster_than_the_masters_sustain_is_refused() {
        let fast = sent(Some(50), Some(300));
        assert_eq!(fast.check(STANDARD, 150), Ok(()));
        let refused = Refusal::TooFast {
            late_ms: 151,
            least_ms: 302,
        };
        assert_eq!(fast.check(STANDARD, 151), Err(refused));
        assert_eq!(fast.check(FAST, 10_000), Ok(()));
        assert!(sent(Some(50), Some(200)).check(FAST, 10_000).is_err());
        assert_eq!(
            sent(Some(5_000), Some(30_000)).check(SLOWER, u64::MAX),
            Ok(())
        );
        assert_eq!(
            sent(Some(20_000), None).check(STANDARD, 0),
            Err(Refusal::Unfit(pair(20_000, 2_000)))
        );
    }
}
