//! What all consoles of this webapp look at: the cluster as it was told last, and its curves.
//! Asks nobody: `look.rs` does.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};
use wa_core::time::Instant;

use super::curve::{Counted, Curves, Measure, Name};
use crate::api::control::{ClusterStatus, Explanation};
use crate::db::mount::Mount;
use crate::sys::clock;

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
    /// One for each shard; empty while nobody looked lately.
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
    watchers: AtomicUsize,
    asked: watch::Sender<u64>,
    now: Notify,
}

/// Somebody looks, for as long as it lives.
pub struct Watches(Arc<Sampler>);

impl Drop for Watches {
    fn drop(&mut self) {
        self.0.watchers.fetch_sub(1, Ordering::Relaxed);
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

    /// Looks are frequent until the answer is dropped; `None`: `limit` look already.
    pub fn watch(self: &Arc<Self>, limit: usize) -> Option<Watches> {
        let before = self.watchers.fetch_add(1, Ordering::Relaxed);
        let watches = Watches(Arc::clone(self));
        self.now.notify_one();
        (before < limit).then_some(watches)
    }

    /// A look that is not older than a few seconds: for pages that are opened while nobody looks.
    pub async fn fresh(&self, within: Duration) -> Arc<Seen> {
        let is_fresh = |seen: &Seen| {
            let age = seen.at.map(|at| clock::now().since(at));
            age.is_some_and(|age| age < LOOKED_AT * 2) && !seen.explained.is_empty()
        };
        let seen = self.seen();
        if is_fresh(&seen) {
            return seen;
        }
        let mut looks = self.looks();
        self.now.notify_one();
        let _ = tokio::time::timeout(within, looks.changed()).await;
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
        self.watchers.load(Ordering::Relaxed) > 0
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
    let Some(status) = status else {
        return rates.collect();
    };
    let margin = status.lease_margin_ms;
    let margin = margin.map(|ms| ((Measure::LeaseMargin, String::new()), ms));
    let shards = status.shards.iter().filter_map(|shard| {
        let name = (Measure::RenewalAge, shard.shard.to_string());
        Some((name, shard.renewal_age_ms?))
    });
    let ages = status.nodes.iter().filter_map(|node| {
        let name = (Measure::HeartbeatAge, node.node.clone());
        Some((name, node.heartbeat_age_ms?))
    });
    let replies = status.nodes.iter().filter_map(|node| {
        let name = (Measure::ReplyTime, node.node.clone());
        Some((name, node.reply_us?))
    });
    let all = margin.into_iter().chain(shards);
    all.chain(ages).chain(replies).chain(rates).collect()
}
