//! The figures of the cluster that a master knows, for the metrics, for `status` and for `doctor`.
//! Decides nothing, and watches nothing: `watch.rs` does.

use std::time::Duration;

use wa_core::alarm::{Alarm, Figures};
use wa_core::judgement::{Problem, WORD_AGE_MAX};
use wa_core::master::{Handover, Master};

use super::view::View;
use super::watch::Watch;
use crate::api::alarm::AlarmStatus;
use crate::config::{Settings, longest_takeover_with, takeover_with};
use crate::metrics::MasterMetrics;
use crate::sys::clock;

/// A shard begins to move: it is watched for how long.
pub fn handover(watch: &mut Watch, (core, settings): (&Master, &Settings), handover: &Handover) {
    let (in_force, timers) = (core.detector().intervals, &settings.timers);
    let from = handover.previous.first();
    let peer = from.and_then(|from| core.detector().peers.get(&from.owner));
    let spans = (
        takeover_with(timers, in_force),
        longest_takeover_with(timers, in_force),
    );
    let heard = peer.and_then(|peer| peer.heard_at());
    let reason = core.verdict_reason(handover.shard);
    watch.handover(clock::now(), handover, heard, spans, reason);
}

/// How much of a lease is left, in percent.
fn left(margin: Duration, ttl: Duration) -> i64 {
    let percent = margin.as_micros() * 100 / ttl.as_micros().max(1);
    i64::try_from(percent).unwrap_or(i64::MAX)
}

/// All figures that this master knows.
pub fn figures(view: &View<'_>, problems: &[Problem]) -> Figures {
    let mut all = Figures::default();
    for alarm in problems
        .iter()
        .filter_map(|problem| Alarm::of(problem.kind))
    {
        all.put(alarm, alarm.beyond());
    }
    let (now, watch) = (view.now, view.watch);
    if let Some(margin) = view.core.lease_margin(now) {
        let percent = left(margin, view.settings.timers.lease_ttl);
        all.put(Alarm::FailoverImminent, percent);
    }
    if let Some(it) = watch.takeover(now) {
        let percent = it.took.as_millis() * 100 / it.promised.as_millis().max(1);
        all.put(
            Alarm::TakeoverSlow,
            i64::try_from(percent).unwrap_or(i64::MAX),
        );
    }
    let read = i64::try_from(watch.read_takes(now).as_millis()).unwrap_or(i64::MAX);
    all.put(Alarm::DatabaseSlow, read);
    let count = i64::try_from(watch.false_starts(now)).unwrap_or(i64::MAX);
    all.put(Alarm::FalseStarts, count);
    if let Some(percent) = view.disk_free_percent {
        all.put(Alarm::DiskFull, percent);
    }
    for word in view.table.words.values() {
        let answer = word.answer.as_ref();
        let fresh = answer.filter(|(at, _)| now.since(*at) <= WORD_AGE_MAX);
        if let Some(work) = fresh.and_then(|(_, answer)| answer.work.as_ref()) {
            all.join(&work.figures());
        }
    }
    all
}

/// Shows in the metrics what is watched.
pub fn show(view: &View<'_>, m: &MasterMetrics) {
    let (now, watch, timers) = (view.now, view.watch, &view.settings.timers);
    m.lease.set(timers.lease_ttl.as_secs_f64());
    m.database_read.set(watch.read_takes(now).as_secs_f64());
    let takeover = watch.takeover(now);
    let in_force = view.core.detector().intervals;
    let promised = takeover.map_or_else(|| takeover_with(timers, in_force), |it| it.promised);
    m.takeover_promised.set(promised.as_secs_f64());
    m.takeover
        .set(takeover.map_or(0.0, |it| it.took.as_secs_f64()));
}

/// The alarms that ring, for people.
pub fn told(figures: &Figures) -> Vec<AlarmStatus> {
    let mut all: Vec<AlarmStatus> = figures.ringing().into_iter().map(Into::into).collect();
    all.sort_by_key(|alarm| alarm.severity != wa_core::alarm::Severity::Page.as_str());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the part of a lease that is left is right at its ends.
    #[test]
    fn a_lease_is_left_in_percent() {
        let second = Duration::from_secs(1);
        assert_eq!(left(second, second), 100);
        assert_eq!(left(Duration::from_millis(399), second), 39);
        assert_eq!(left(Duration::ZERO, second), 0);
    }
}
