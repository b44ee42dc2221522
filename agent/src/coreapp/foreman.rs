//! The foreman of one tenure: starts everybody who works in it, when the gate is open.
//! Knows nothing of leases: the driver begins and ends the work.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use wa_core::id::{Generation, Ownership};
use wa_core::pace::{self, Level};

use super::alarms;
use super::collect::KEEP_MS;
use super::node::Node;
use super::upstream::Upstream;
use super::work::Work;
use super::{
    ambiguity, claim, collect, customer_writer, hold, id_writer, identity_switch, inbox, intake,
    link, number, record, registration, sender, sweep, template, token, wall_clock, webhook,
    writers,
};
use crate::api::cloud::call::Call;
use crate::config::SendsThen;
use crate::db::Db;
use crate::db::collection::Kind;
use crate::sys::clock;
use crate::sys::dial::Dialer;

/// With no other traffic the upstream is asked this often.
const PROBE_EVERY: Duration = Duration::from_secs(10);
/// Rows of the webhook table that one statement counts, and such statements in a round.
const COUNT_PAGE_LEN: u32 = 10_000;
const COUNT_PAGES_MAX: u32 = 8;
/// Up to so many parked webhooks are counted in each round.
const PARKED_OFTEN_MAX: u64 = 1000;
/// Outcomes that wait to be recorded.
const OUTCOMES_LEN_MAX: usize = 1024;

/// Begins to work. The gate is open already.
pub fn begin(
    node: &Arc<Node>,
    own: Ownership,
    shard_count: u16,
    generation: Generation,
) -> Arc<Work> {
    let links = link::permit(node.settings.client.link_hosts.clone());
    let links = Dialer::system().permitting(links);
    let settings = &node.settings.upstream;
    let gate = Arc::clone(&node.gate);
    let upstream = Upstream::new(settings, &node.roots, links, gate, own.clone());
    let runtime = node.runtime.clone();
    let (work, queues) = Work::new(upstream, own, shard_count, generation, runtime);
    work.set_per_second(pace::most(
        settings.rate_per_second,
        Level::Standard,
        shard_count,
    ));
    let (outcomes, recorded) = mpsc::channel(OUTCOMES_LEN_MAX);
    let (tell_left, left) = oneshot::channel();
    let both = || (Arc::clone(node), Arc::clone(&work));
    let (n, w) = both();
    work.spawn(intake::commit(n, w, queues.groups));
    let (n, w) = both();
    work.spawn(sender::dispatch(n, w, (queues.queue, left), outcomes));
    let (n, w) = both();
    work.spawn(record::record(n, w, recorded));
    let (n, w) = both();
    work.spawn(id_writer::write(n, w));
    let (n, w) = both();
    work.spawn(customer_writer::write(n, w));
    let (n, w) = both();
    work.spawn(identity_switch::follow(n, w));
    let (n, w) = both();
    work.spawn(claim::claim(n, w, tell_left));
    let (n, w) = both();
    work.spawn(writers::remember(n, w));
    let (n, w) = both();
    work.spawn(ambiguity::resolve(n, w));
    let (n, w) = both();
    work.spawn(ambiguity::find_orphans(n, w));
    let (n, w) = both();
    work.spawn(hold::watch(n, w));
    let (n, w) = both();
    work.spawn(inbox::process(n, w));
    let (n, w) = both();
    work.spawn(webhook::deliver(n, w));
    let (n, w) = both();
    work.spawn(probe(n, w));
    let (n, w) = both();
    work.spawn(template::keep(n, w));
    let (n, w) = both();
    work.spawn(number::watch(n, w));
    let (n, w) = both();
    work.spawn(registration::settle(n, w));
    let (n, w) = both();
    work.spawn(wall_clock::watch(n, w, Duration::from_millis(KEEP_MS)));
    let (n, w) = both();
    work.spawn(collect::collect(n, w, Kind::Messages));
    let (n, w) = both();
    work.spawn(collect::collect(n, w, Kind::Media));
    let (n, w) = both();
    work.spawn(sweep::sweep(n, w));
    let (n, w) = both();
    work.spawn(token::watch(n, w));
    let (n, w) = both();
    work.spawn(measure(n, w));
    work
}

/// Asks the upstream now and then, so that silence of the business does not look like a lost connection.
async fn probe(node: Arc<Node>, work: Arc<Work>) {
    loop {
        if !work.held() {
            match work.upstream.call(&Call::Number).await {
                Ok((status, _)) => {
                    let refused = matches!(status.as_u16(), 401 | 403 | 500..);
                    node.upstream_seen(!refused);
                    if refused {
                        let error = format!("it answers {status}");
                        node.troubles.upstream.failed(&error);
                        tracing::warn!(%status, "the upstream refuses the probe; after a new [upstream] token type: systemctl reload 'wa-coreapp@*'; retrying");
                    }
                }
                Err(error) => {
                    node.upstream_seen(false);
                    node.troubles.upstream.failed(&error.to_string());
                    tracing::warn!(%error, "the upstream does not answer the probe; retrying");
                }
            }
        }
        // A new token is tried at once.
        tokio::select! {
            () = clock::sleep(PROBE_EVERY) => {}
            () = node.settings.upstream.token.renewed() => {}
        }
    }
}

/// How many webhooks wait, and how many are parked. A large backlog is counted on from where the last round ended.
async fn count_webhooks(node: &Node, work: &Work, db: &Db, rounds: u32) {
    let gauge = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let from = work.callbacks.backlog(|backlog| backlog.behind());
    let (mut after, mut found) = (from, 0);
    for _ in 0..COUNT_PAGES_MAX {
        let page = db.webhooks_counted(&work.own, work.shard_count, after, COUNT_PAGE_LEN);
        // What was counted stays known.
        let Ok((count, last, full)) = page.await else {
            return;
        };
        (after, found) = (last.max(after), found + count);
        if !full {
            break;
        }
    }
    work.callbacks
        .backlog(|backlog| backlog.counted(from, found, after));
    let waiting = work.callbacks.now().waiting;
    node.metrics.webhook_depth.set(gauge(waiting));
    node.documented
        .pending_callbacks
        .store(waiting, Ordering::Relaxed);
    // Many are counted once a minute.
    if work.callbacks.now().parked > PARKED_OFTEN_MAX && !rounds.is_multiple_of(12) {
        return;
    }
    let slice = Some((work.own.shard.0, work.shard_count));
    if let Ok(parked) = db.parked_count(slice).await {
        work.callbacks.parked(parked);
        node.metrics.webhooks_parked_now.set(gauge(parked));
    }
}

/// Depths for the metrics.
async fn measure(node: Arc<Node>, work: Arc<Work>) {
    let mut rounds = 0u32;
    let mut round = alarms::Round::default();
    loop {
        clock::sleep(Duration::from_secs(5)).await;
        let Some(db) = node.db() else { continue };
        let gauge = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        if let Ok(depth) = db.outbox_depth().await {
            node.metrics.outbox_depth.set(gauge(depth));
        }
        count_webhooks(&node, &work, &db, rounds).await;
        rounds = rounds.wrapping_add(1);
        let settings = &node.settings.upstream;
        let (own, sends_max) = (&work.own, settings.ambiguity_sends_max);
        if settings.ambiguity_sends_then == SendsThen::Wait
            && let Ok((_, wait)) = db.unknown_of(own, work.shard_count, sends_max).await
        {
            work.for_person.store(wait, Ordering::Relaxed);
        }
        let waiting = db.waiting_of(work.own.shard.0, work.shard_count).await;
        if let Ok((messages, events)) = &waiting {
            let (messages, events) = (*messages, *events);
            work.waiting.store(messages, Ordering::Relaxed);
            let documented = &node.documented;
            documented
                .pending_messages
                .store(messages, Ordering::Relaxed);
            documented.pending_events.store(events, Ordering::Relaxed);
        }
        round.look(&node, &work, waiting.ok());
    }
}
