//! The life of every message of ours in a measurement: taken by the upstream, its statuses posted, the business told of them.
//! Off unless a measurement switches it on. Judges nothing: `limit/` does.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use wa_core::time::Instant;

/// The statuses that a delivered and read message has, in order.
pub const WORDS: [&str; 3] = ["sent", "delivered", "read"];
/// Messages that are kept; later ones are left out, and counted.
const LIVES_MAX: usize = 4_000_000;

/// One status of a message.
#[derive(Debug, Clone, Copy, Default)]
pub struct Heard {
    /// When the upstream first tried to tell us.
    pub posted_at: Option<Instant>,
    /// When the business was first told.
    pub told_at: Option<Instant>,
    /// How often the business was told.
    pub told: u16,
}

/// What became of one message.
#[derive(Debug, Clone, Copy, Default)]
pub struct Life {
    /// When the upstream took it first.
    pub taken_at: Option<Instant>,
    /// How often the upstream took it.
    pub taken: u16,
    /// The business was told that it failed.
    pub failed: bool,
    /// In the order of [`WORDS`].
    pub heard: [Heard; WORDS.len()],
}

impl Life {
    /// The business knows all of its statuses.
    pub fn whole(&self) -> bool {
        self.heard.iter().all(|heard| heard.told > 0)
    }
}

/// How far all of them are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Messages that the upstream took.
    pub taken: u64,
    /// Messages of which the business knows all statuses.
    pub whole: u64,
    /// Messages that were not kept because too many were.
    pub left_out: u64,
}

#[derive(Debug, Default)]
struct Lives {
    /// By our id.
    by_id: HashMap<String, Life>,
    progress: Progress,
}

/// All lives since a measurement began.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Option<Lives>>);

impl Ledger {
    fn lives(&self) -> MutexGuard<'_, Option<Lives>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins anew, with room for so many: a table that grows holds up everybody.
    pub fn begin(&self, expected: usize) {
        let by_id = HashMap::with_capacity(expected.min(LIVES_MAX));
        *self.lives() = Some(Lives {
            by_id,
            progress: Progress::default(),
        });
    }

    /// Ends, and hands over what is known of each message, by our id.
    pub fn end(&self) -> HashMap<String, Life> {
        self.lives().take().unwrap_or_default().by_id
    }

    /// How far all of them are.
    pub fn progress(&self) -> Progress {
        let lives = self.lives();
        lives
            .as_ref()
            .map(|lives| lives.progress)
            .unwrap_or_default()
    }

    /// Each of these is through.
    pub fn all_whole<'a>(&self, mut ids: impl Iterator<Item = &'a str>) -> bool {
        let lives = self.lives();
        let Some(lives) = lives.as_ref() else {
            return false;
        };
        ids.all(|id| lives.by_id.get(id).is_some_and(Life::whole))
    }

    /// The upstream took a message.
    pub fn taken(&self, id: &str, at: Instant) {
        self.note(id, |life, progress| {
            life.taken = life.taken.saturating_add(1);
            if life.taken_at.is_none() {
                life.taken_at = Some(at);
                progress.taken += 1;
            }
        });
    }

    /// The upstream is about to post a status for the first time.
    pub fn posted(&self, id: &str, word: &str, at: Instant) {
        self.note(id, |life, _| {
            if let Some(n) = place(word) {
                life.heard[n].posted_at.get_or_insert(at);
            }
        });
    }

    /// The business was told of a status.
    pub fn told(&self, id: &str, word: &str, at: Instant) {
        self.note(id, |life, progress| {
            life.failed |= word == "failed";
            let Some(n) = place(word) else { return };
            let before = life.whole();
            let heard = &mut life.heard[n];
            heard.told_at.get_or_insert(at);
            heard.told = heard.told.saturating_add(1);
            progress.whole += u64::from(!before && life.whole());
        });
    }

    fn note(&self, id: &str, change: impl FnOnce(&mut Life, &mut Progress)) {
        let mut lives = self.lives();
        let Some(lives) = lives.as_mut() else { return };
        if let Some(life) = lives.by_id.get_mut(id) {
            return change(life, &mut lives.progress);
        }
        if lives.by_id.len() >= LIVES_MAX {
            lives.progress.left_out += 1;
            return;
        }
        let life = lives.by_id.entry(id.to_owned()).or_default();
        change(life, &mut lives.progress);
    }
}

fn place(word: &str) -> Option<usize> {
    WORDS.iter().position(|known| *known == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    /// Goal: each step is kept with its first time and counted each time; nothing is kept while it is off. Method: one message
    /// that is taken twice and told twice, another that fails.
    #[test]
    fn lives_are_told_from_begin_to_end() {
        let ledger = Ledger::default();
        ledger.taken("off", at(1));
        assert_eq!(ledger.progress(), Progress::default());
        ledger.begin(10);
        ledger.taken("a", at(1));
        ledger.taken("a", at(9));
        for (n, word) in WORDS.iter().enumerate() {
            assert_eq!(ledger.progress().whole, 0);
            ledger.posted("a", word, at(10 + n as u64));
            ledger.posted("a", word, at(90));
            ledger.told("a", word, at(20 + n as u64));
        }
        ledger.told("a", "read", at(99));
        ledger.told("b", "failed", at(5));
        let progress = ledger.progress();
        assert_eq!((progress.taken, progress.whole), (1, 1));
        let lives = ledger.end();
        let a = &lives["a"];
        assert_eq!((a.taken, a.taken_at, a.failed), (2, Some(at(1)), false));
        let read = a.heard[2];
        assert_eq!(
            (read.posted_at, read.told_at, read.told),
            (Some(at(12)), Some(at(22)), 2)
        );
        assert!(lives["b"].failed && !lives["b"].whole());
        assert!(ledger.end().is_empty());
    }
}
