//! What a role's heartbeat socket has counted, and how its thread stands, as the page of figures shows them.
//! Sends nothing.

use std::sync::atomic::Ordering;

use crate::metrics::HeartbeatGauges;
use crate::net::udp::Heartbeats;

/// Takes the counts over.
pub fn show(heartbeats: &Heartbeats, gauges: &HeartbeatGauges<'_>) {
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let (drops, standing) = (heartbeats.drops(), heartbeats.standing());
    gauges.dropped.set(count(drops.sum()));
    gauges
        .kept_away
        .set(count(drops.kernel.load(Ordering::Relaxed)));
    if let Some(refused) = gauges.refused {
        refused.set(count(drops.refused.load(Ordering::Relaxed)));
    }
    gauges
        .realtime
        .set(i64::from(standing.realtime.load(Ordering::Relaxed)));
    gauges
        .locked
        .set(count(standing.locked_bytes.load(Ordering::Relaxed)));
}
