//! Whether this node's disk takes the highest epoch that it obeys. Tried anew by itself, before a shard depends on it.
//! Writes nothing: the driver does, and says what came of it.

use crate::guard::{self, Guard};
use crate::time::{Duration, Instant};

/// A disk that took the last write is written to again after this long: one that has become full is known before it is needed.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// One that refused is tried again after this long.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// One that has not answered for this long refuses.
const HANGS: Duration = Duration::from_secs(5);

/// What is known of the disk.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Disk {
    takes: bool,
    try_at: Instant,
    /// Since when a try waits for its answer.
    trying: Option<Instant>,
}

impl Disk {
    /// One that takes writes; looked at for the first time after [`LOOK_EVERY`].
    pub fn new(now: Instant) -> Self {
        Self {
            takes: true,
            try_at: now + LOOK_EVERY,
            trying: None,
        }
    }

    /// The highest epoch can be written: the last write went well, and none hangs.
    pub fn takes(&self, now: Instant) -> bool {
        self.takes && self.trying.is_none_or(|since| now < since + HANGS)
    }

    /// When [`Disk::due`] is to be asked next.
    pub fn deadline(&self) -> Option<Instant> {
        self.trying.is_none().then_some(self.try_at)
    }

    /// True when it is to be tried now; its answer is [`Disk::tried`].
    pub fn due(&mut self, now: Instant) -> bool {
        let due = self.trying.is_none()
            && now >= self.try_at
            && (self.takes || guard::on(Guard::DiskTriedAgain));
        if due {
            self.trying = Some(now);
        }
        due
    }

    /// What came of a try.
    pub fn tried(&mut self, now: Instant, stored: bool) {
        self.trying = None;
        self.wrote(now, stored);
    }

    /// What came of any other write.
    pub fn wrote(&mut self, now: Instant, stored: bool) {
        self.takes = stored;
        self.try_at = now + if stored { LOOK_EVERY } else { TRY_AGAIN };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a disk that refused once is not given up, and one that hangs is not taken for good. Method: a clock by hand.
    #[test]
    fn a_disk_that_refused_is_tried_until_it_takes_writes() {
        let at = Instant::from_millis;
        let mut disk = Disk::new(at(0));
        assert!(disk.takes(at(0)) && !disk.due(at(4_999)));
        assert!(disk.due(at(5_000)), "looked at before it is needed");
        assert!(!disk.due(at(5_001)), "one try at a time");
        disk.tried(at(5_002), false);
        assert!(!disk.takes(at(5_002)));
        for second in 1..4 {
            let now = at(5_002 + second * 1_000);
            assert_eq!(disk.deadline(), Some(now));
            assert!(disk.due(now));
            disk.tried(now, false);
        }
        assert!(disk.due(at(9_002)));
        disk.tried(at(9_003), true);
        assert!(disk.takes(at(9_003)));
        assert!(disk.due(at(14_003)));
        assert!(
            disk.takes(at(19_002)) && !disk.takes(at(19_003)),
            "it hangs"
        );
        disk.tried(at(19_500), true);
        assert!(disk.takes(at(19_500)));
    }
}
