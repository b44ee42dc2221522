//! What all consoles of this webapp look at: the cluster as it was told last, and its curves.
//! Asks nobody: `look.rs` does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};
use wa_core::time::Instant;

use crate::api::control::{ClusterStatus, Explanation};
use crate::api::parked::Parked;
use crate::api::picture::curve::{self, Counted, Curves, Measure, Name};
use crate::db::history::Decision;
use crate::db::mount::Mount;
use crate::sys::clock;
use crate::webapp::shared::Shared;

/// Pages that one webapp keeps fresh at once, and those of one user.
pub const STREAMS_MAX: usize = 64;
pub const STREAMS_OF_ONE_MAX: usize = 16;
/// How often a master is asked while somebody looks.
pub const LOOKED_AT: Duration = Duration::from_millis(1000);

/// A page that is opened while nobody looks waits so long for a fresh look.
pub const LOOK_WITHIN: Duration = Duration::from_secs(3);

/// The cluster at one moment.
#[derive(Debug, Default)]
pub struct Seen {
    /// When it was asked; `None`: never yet.
    pub at: Option<Instant>,
    /// `None`: no master answered.
    pub status: Option<ClusterStatus>,
    /// A master answered, and refused: it is of an older release, or has another key.
    pub refused: bool,
    /// Everything was asked for; for the curves alone less is.
    pub whole: bool,
    /// One for each shard; empty where no master explained them.
    pub explained: Vec<Explanation>,
    pub mounts: Vec<Mount>,
    /// What all coreapps counted since they started, together.
    pub counted: BTreeMap<Counted, u64>,
    /// And how many a second since the look before, in thousandths.
    pub rates: BTreeMap<Counted, u64>,
}

/// Asks, keeps and tells.
#[derive(Default)]
pub struct Sampler {
    seen: ArcSwap<Seen>,
    curves: Mutex<Curves>,
    /// Streams that are open, by user.
    watchers: Mutex<BTreeMap<Arc<str>, usize>>,
    /// What the database says of decisions and of callbacks that were put aside, once for all who look.
    pub decisions: Shared<Vec<Decision>>,
    pub parked: Shared<(Vec<Parked>, u64)>,
    asked: watch::Sender<u64>,
    now: Notify,
}

/// Somebody looks, for as long as it lives.
pub struct Watches {
    of: Arc<Sampler>,
    who: Arc<str>,
}

impl Drop for Watches {
    fn drop(&mut self) {
        let mut open = self.of.open();
        if let Some(count) = open.get_mut(&self.who) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.who);
            }
        }
    }
}

impl Sampler {
    /// The newest look.
    pub fn seen(&self) -> Arc<Seen> {
        self.seen.load_full()
    }

    /// The points of one curve.
    pub fn points(&self, measure: Measure, of: &str) -> Vec<Option<u64>> {
        let curves = self.curves.lock().unwrap_or_else(PoisonError::into_inner);
        curves.points(measure, of)
    }

    /// Wakes after every look.
    pub fn looks(&self) -> watch::Receiver<u64> {
        self.asked.subscribe()
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, usize>> {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks are frequent until the answer is dropped; `None`: too many look already, or this user in too many windows.
    pub fn watch(self: &Arc<Self>, who: &Arc<str>) -> Option<Watches> {
        let mut open = self.open();
        let all: usize = open.values().sum();
        let own = open.get(who).copied().unwrap_or(0);
        if all >= STREAMS_MAX || own >= STREAMS_OF_ONE_MAX {
            return None;
        }
        open.insert(Arc::clone(who), own + 1);
        self.now.notify_one();
        Some(Watches {
            of: Arc::clone(self),
            who: Arc::clone(who),
        })
    }

    /// A whole look that is not older than a few seconds: for pages that are opened while nobody looks.
    pub async fn fresh(&self, within: Duration) -> Arc<Seen> {
        let is_fresh = |seen: &Seen| {
            let age = seen.at.map(|at| clock::now().since(at));
            seen.whole && age.is_some_and(|age| age < LOOKED_AT * 2)
        };
        let mut looks = self.looks();
        let look = async {
            while !is_fresh(&self.seen()) {
                // One that is under way may have been begun for the curves alone.
                self.now.notify_one();
                if looks.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(within, look).await;
        self.seen()
    }

    /// Takes a new look, and tells everybody.
    pub fn take(&self, seen: Seen) {
        if let Some(at) = seen.at {
            let mut curves = self.curves.lock().unwrap_or_else(PoisonError::into_inner);
            curves.take(at, measured(seen.status.as_ref(), &seen.rates));
        }
        self.seen.store(Arc::new(seen));
        self.asked
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Somebody looks right now.
    pub fn watched(&self) -> bool {
        !self.open().is_empty()
    }

    /// Waits until somebody wants a look at once.
    pub async fn wanted(&self) {
        self.now.notified().await;
    }
}

/// What goes into the curves.
fn measured(status: Option<&ClusterStatus>, rates: &BTreeMap<Counted, u64>) -> Vec<(Name, u64)> {
    let rates = rates.iter();
    let rates = rates.map(|(of, rate)| ((Measure::Rate(*of), String::new()), *rate));
    let told = status.map(curve::measured);
    told.into_iter().flatten().chain(rates).collect()
}
