//! What the upstream said of the business a moment ago, for one tenure. Only the owner of shard 0 is asked for these, so that a
//! change, which goes through it, too, is seen by everybody at once; the next owner remembers nothing.
//! Asks nobody: `profile.rs` does.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wa_core::time::Instant;

use crate::api::v1::business::{Compliance, Profile};
use crate::api::v1::photo::Photo;

/// How long an answer counts.
const KEEP: Duration = Duration::from_secs(60);

/// One answer of each kind, at most.
#[derive(Default)]
pub struct Memory(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    /// Changes that began or ended: an answer that was asked for before one of them is not kept.
    changes: u64,
    profile: Option<(Instant, Profile)>,
    compliance: Option<(Instant, Compliance)>,
    photo: Option<(Instant, Photo)>,
}

/// When an answer was asked for, counted in changes.
#[derive(Clone, Copy)]
pub struct Asked(u64);

fn fresh<T: Clone>(kept: Option<&(Instant, T)>, now: Instant) -> Option<T> {
    let (at, value) = kept?;
    (now.since(*at) < KEEP).then(|| value.clone())
}

impl Memory {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be called before the upstream is asked.
    pub fn asking(&self) -> Asked {
        Asked(self.kept().changes)
    }

    /// Something changes, or has changed: nothing that was said before counts.
    pub fn forget(&self) {
        let mut kept = self.kept();
        *kept = Kept {
            changes: kept.changes + 1,
            ..Kept::default()
        };
    }

    pub fn profile(&self, now: Instant) -> Option<Profile> {
        fresh(self.kept().profile.as_ref(), now)
    }

    pub fn compliance(&self, now: Instant) -> Option<Compliance> {
        fresh(self.kept().compliance.as_ref(), now)
    }

    pub fn photo(&self, now: Instant) -> Option<Photo> {
        fresh(self.kept().photo.as_ref(), now)
    }

    pub fn keep_profile(&self, asked: Asked, now: Instant, profile: &Profile) {
        self.keep(asked, |kept| kept.profile = Some((now, profile.clone())));
    }

    pub fn keep_compliance(&self, asked: Asked, now: Instant, info: &Compliance) {
        self.keep(asked, |kept| kept.compliance = Some((now, info.clone())));
    }

    pub fn keep_photo(&self, asked: Asked, now: Instant, photo: &Photo) {
        self.keep(asked, |kept| kept.photo = Some((now, photo.clone())));
    }

    fn keep(&self, asked: Asked, put: impl FnOnce(&mut Kept)) {
        let mut kept = self.kept();
        if kept.changes == asked.0 {
            put(&mut kept);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(about: &str) -> Profile {
        Profile {
            about: about.into(),
            ..Profile::default()
        }
    }

    /// Goal: nobody is told what was true before a change. Method: an answer from before, one from during, one from after.
    #[test]
    fn a_change_makes_all_answers_old() {
        let (memory, now) = (Memory::default(), Instant::from_millis(1_000));
        let before = memory.asking();
        memory.keep_profile(before, now, &profile("old"));
        assert_eq!(memory.profile(now), Some(profile("old")));
        memory.forget();
        assert_eq!(memory.profile(now), None);
        let during = memory.asking();
        memory.forget();
        for late in [before, during] {
            memory.keep_profile(late, now, &profile("old"));
            assert_eq!(memory.profile(now), None);
        }
        memory.keep_profile(memory.asking(), now, &profile("new"));
        let later = now + KEEP;
        assert_eq!(
            memory.profile(later - Duration::from_millis(1)),
            Some(profile("new"))
        );
        assert_eq!(memory.profile(later), None);
    }
}
