//! The sender: takes claimed messages upstream within concurrency, rate and limits.
//! A message is claimed in the store before its first byte leaves (`claim.rs`); what became of it is kept by `record.rs`.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use governor::clock::Clock as _;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::mpsc;
use wa_core::hold::{Event, Pace};

use super::attempt::{Attempt, FILE_DELAY_MS, attempt};
use super::hold;
use super::line::Line;
use super::node::Node;
use super::work::Work;
use crate::db::message::{Claimed, Finished};
use crate::sys::clock;

/// Starts attempts within concurrency, rate and limits, until the tenure ends.
pub async fn dispatch(
    node: Arc<Node>,
    work: Arc<Work>,
    mut queue: mpsc::Receiver<Claimed>,
    outcomes: mpsc::Sender<Attempt>,
) {
    let settings = &node.settings.upstream;
    let rate = NonZeroU32::new(settings.rate_per_second).unwrap_or(NonZeroU32::MIN);
    let limiter = RateLimiter::direct(Quota::per_second(rate));
    let half = NonZeroU32::new(rate.get() / 2).unwrap_or(NonZeroU32::MIN);
    let slow = RateLimiter::direct(Quota::per_second(half));
    let mut hold = work.hold_changes();
    let mut line = Line::default();
    let mut attempts = FuturesUnordered::new();
    loop {
        let mut wait = line.unpark(clock::now());
        let pace = work.holding.pace();
        let away = work.reach.paused(clock::now()).is_some() || pace == Pace::None;
        if *hold.borrow_and_update() || away {
            wait = None;
            if !give_back(&outcomes, line.take_all(), 0).await {
                return;
            }
        } else {
            if !give_back(&outcomes, line.too_many_parked(), FILE_DELAY_MS).await {
                return;
            }
            let (limiter, together) = match pace {
                Pace::None | Pace::One => (&slow, 1),
                Pace::Half => (&slow, settings.concurrency.max(1)),
                Pace::Full => (&limiter, settings.concurrency.max(1)),
            };
            while attempts.len() < together && !line.ready.is_empty() {
                if let Some(span) = must_wait(limiter, &line) {
                    wait = Some(wait.map_or(span, |other| other.min(span)));
                    break;
                }
                let Some(message) = line.ready.pop_front() else {
                    break;
                };
                if let Some(wait) = work.holding.admit(&message) {
                    line.next_of(message.route());
                    let delay_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                    if !give_back(&outcomes, vec![message], delay_ms).await {
                        return;
                    }
                    continue;
                }
                let spared = line.spared.get(&message.route()).copied();
                attempts.push(attempt(
                    Arc::clone(&node),
                    Arc::clone(&work),
                    message,
                    spared,
                ));
            }
        }
        tokio::select! {
            Some(done) = attempts.next(), if !attempts.is_empty() => {
                let done: Attempt = done;
                if work.reach.note(&done.way, work.own.shard) {
                    work.claim_wanted.notify_one();
                }
                if let Some((sort, outcome)) = done.came {
                    hold::note(&node, &work, Event::Came(sort, outcome));
                }
                line.note(clock::now(), &done);
                if done.park {
                    line.park(clock::now(), done.message);
                    continue;
                }
                line.next_of(done.message.route());
                if outcomes.send(done).await.is_err() {
                    return;
                }
            }
            message = queue.recv() => match message {
                Some(message) => line.place(message),
                None => return,
            },
            _ = hold.changed() => {}
            () = clock::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
        }
    }
}

/// Into the store: they are sent later, by whoever owns the shard then. False: the tenure is over.
async fn give_back(
    outcomes: &mpsc::Sender<Attempt>,
    messages: Vec<Claimed>,
    delay_ms: u64,
) -> bool {
    for message in messages {
        let back = Attempt::new(message, Finished::Retry { delay_ms });
        if outcomes.send(back).await.is_err() {
            return false;
        }
    }
    true
}

/// How long the rate of the number, or a pause that it was told to make, forbids the next attempt.
fn must_wait(limiter: &DefaultDirectRateLimiter, line: &Line) -> Option<Duration> {
    let now = clock::now();
    if now < line.paused_until {
        return Some(line.paused_until.since(now));
    }
    let refused = limiter.check().err()?;
    Some(
        refused
            .wait_time_from(limiter.clock().now())
            .max(Duration::from_millis(1)),
    )
}
