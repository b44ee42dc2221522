//! The identity keys of customers: whether one is news, and how it stands until the business has acknowledged it.
//! Keeps nothing: `agent/src/db/identity_key.rs` does.

/// How the key of a customer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Standing {
    /// It took the place of another one, and the business has not acknowledged it.
    Changed = 0,
    /// The first one that was seen, or one that came while nobody wanted to hear of changes.
    Known = 1,
    /// The business has acknowledged it: messages go to it alone.
    Acknowledged = 2,
}

impl Standing {
    /// The standing of a row's number. What is not known was never acknowledged, and holds up nothing.
    pub fn of(number: i64) -> Self {
        match number {
            0 => Self::Changed,
            2 => Self::Acknowledged,
            _ => Self::Known,
        }
    }
}

/// What is known of a customer's key when one comes with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Before {
    Nothing,
    /// This key. `by_this`: it is known from this very event, which was not worked off to its end.
    Same {
        standing: Standing,
        by_this: bool,
    },
    Another,
}

/// How the key stands now, and whether the business must be told of it. `watched`: it wants to hear of changes.
pub fn see(before: Before, watched: bool) -> (Standing, bool) {
    match before {
        Before::Nothing => (Standing::Known, false),
        Before::Same { standing, by_this } => {
            let news = by_this && standing == Standing::Changed;
            (standing, news)
        }
        Before::Another if watched => (Standing::Changed, true),
        Before::Another => (Standing::Known, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a change is told once, also when its event is worked off twice, and to nobody who does not want it. Method: every
    /// pair.
    #[test]
    fn a_change_is_told_once() {
        let same = |standing, by_this| Before::Same { standing, by_this };
        for (before, watched, wanted) in [
            (Before::Nothing, true, (Standing::Known, false)),
            (Before::Another, true, (Standing::Changed, true)),
            (Before::Another, false, (Standing::Known, false)),
            (
                same(Standing::Changed, true),
                true,
                (Standing::Changed, true),
            ),
            (
                same(Standing::Changed, false),
                true,
                (Standing::Changed, false),
            ),
            (same(Standing::Known, true), true, (Standing::Known, false)),
            (
                same(Standing::Acknowledged, true),
                true,
                (Standing::Acknowledged, false),
            ),
        ] {
            assert_eq!(see(before, watched), wanted, "{before:?} {watched}");
        }
        let all = [Standing::Changed, Standing::Known, Standing::Acknowledged];
        for standing in all {
            assert_eq!(Standing::of(i64::from(standing as u8)), standing);
        }
        assert_eq!(Standing::of(7), Standing::Known);
    }
}
