//! The sender: takes claimed messages upstream within concurrency, rate and limits.
//! A message is claimed in the store before its first byte leaves (`claim.rs`); what became of it is kept by `record.rs`.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};
use wa_core::hold::{Event, Pace};
use wa_core::outcome::{Limit, Outcome};

use super::attempt::{Attempt, FILE_DELAY_MS, attempt};
use super::hold;
use super::line::{Back, COMES_WITHIN, Line};
use super::node::Node;
use super::work::Work;
use crate::db::left::Left;
use crate::db::message::{Claimed, Finished};
use crate::sys::{clock, state};

/// Starts attempts within concurrency, rate and limits, until the tenure ends. `left`: what an earlier owner left; nothing is
/// claimed before that is known, and what webapps bring waits in the store so long.
pub async fn dispatch(
    node: Arc<Node>,
    work: Arc<Work>,
    (mut queue, left): (mpsc::Receiver<Claimed>, oneshot::Receiver<Vec<Left>>),
    outcomes: mpsc::Sender<Attempt>,
) {
    let settings = &node.settings.upstream;
    let mut hold = work.hold_changes();
    let mut line = Line::new(
        work.per_second(),
        settings.pair_burst,
        Arc::clone(&work.replies),
    );
    let mut attempts = FuturesUnordered::new();
    let left = left.await.unwrap_or_default();
    line.inherit(clock::now(), &left, longest(settings.ambiguity_window));
    loop {
        line.rate.set_most(work.per_second());
        let mut wait = sooner(line.unpark(clock::now()), line.unblock(clock::now()));
        let pace = work.holding.pace();
        let away = work.reach.paused(clock::now()).is_some() || pace == Pace::None;
        if *hold.borrow_and_update() || away {
            wait = None;
            if !give_back(&outcomes, all_for(line.take_all(), 0)).await {
                return;
            }
        } else {
            let mut late = all_for(line.too_many_parked(), FILE_DELAY_MS);
            late.extend(line.too_many_blocked(clock::now()));
            if !give_back(&outcomes, late).await {
                return;
            }
            let (part, together) = match pace {
                Pace::None | Pace::One => (2, 1),
                Pace::Half => (2, settings.concurrency.max(1)),
                Pace::Full => (1, settings.concurrency.max(1)),
            };
            while attempts.len() < together {
                match next(&work, &mut line, part) {
                    Next::Go(message) => {
                        attempts.push(attempt(Arc::clone(&node), Arc::clone(&work), message));
                    }
                    Next::Back(late) => {
                        if !give_back(&outcomes, late).await {
                            return;
                        }
                    }
                    Next::Wait(span) => {
                        wait = sooner(wait, Some(span));
                        break;
                    }
                    Next::Nothing => break,
                }
            }
        }
        tokio::select! {
            Some(done) = attempts.next(), if !attempts.is_empty() => {
                if !finish(&node, &work, &mut line, &outcomes, done).await {
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

/// What the line has to offer.
enum Next {
    Go(Claimed),
    /// These have to wait, and others need not.
    Back(Back),
    /// All have to wait for so long.
    Wait(Duration),
    Nothing,
}

/// Takes the next message within the rate, payment and its customer's bucket. `part`: one in so many of the rate.
fn next(work: &Work, line: &mut Line, part: u32) -> Next {
    if line.ready.is_empty() {
        return Next::Nothing;
    }
    if let Some(span) = line.rate.wait(clock::now(), part) {
        return Next::Wait(span.max(Duration::from_millis(1)));
    }
    let Some(message) = line.ready.pop_front() else {
        return Next::Nothing;
    };
    if let Some(wait) = work.holding.admit(&message) {
        line.next_of(message.route());
        let delay_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        return Next::Back(vec![(message, delay_ms)]);
    }
    match line.admit(clock::now(), message) {
        Ok(message) => {
            let _ = line.rate.take(clock::now(), part);
            Next::Go(message)
        }
        Err(late) => {
            for (message, _) in &late {
                work.holding.no_call(&message.id);
            }
            Next::Back(late)
        }
    }
}

/// The sooner of two waits.
fn sooner(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// The longest that later messages of a customer wait behind one: the window, until `ambiguity.rs` looks, and one repeat.
fn longest(window: Duration) -> Duration {
    window + Duration::from_secs(2)
}

/// How long later messages of the customer wait behind this one: while its fate is not known or it is put off, at most for the
/// window and one repeat. What is put off with those behind it keeps its order in the store.
fn behind(done: &Attempt, pair: bool, window: Duration) -> Option<Duration> {
    let longest = longest(window);
    match done.to {
        Finished::Ambiguous => Some(longest),
        Finished::Retry { delay_ms } if delay_ms > 0 && !pair => {
            Some((Duration::from_millis(delay_ms) + COMES_WITHIN).min(longest))
        }
        Finished::Retry { .. } | Finished::Sent { .. } | Finished::Failed { .. } => None,
    }
}

/// What follows from an attempt. False: the tenure is over.
async fn finish(
    node: &Arc<Node>,
    work: &Arc<Work>,
    line: &mut Line,
    outcomes: &mpsc::Sender<Attempt>,
    mut done: Attempt,
) -> bool {
    let now = clock::now();
    if work.reach.note(&done.way, work.own.shard) {
        work.claim_wanted.notify_one();
    }
    let trial = work.holding.pace() == Pace::One;
    if let Some((sort, outcome)) = done.came {
        hold::note(node, work, Event::Came(sort, outcome));
    }
    // Another message is tried next: it may be this one that is refused.
    if let (Some((_, Outcome::Account(_))), Finished::Retry { delay_ms }) =
        (done.came, &mut done.to)
        && trial
    {
        let left = u64::try_from(work.holding.left().as_millis()).unwrap_or(u64::MAX);
        *delay_ms = (*delay_ms).max(left.saturating_add(2000));
    }
    if !done.called {
        work.holding.no_call(&done.message.id);
        line.no_call(done.message.route());
    }
    let jitter = state::random_u64().to_le_bytes()[0];
    if let (Some(pause), Finished::Retry { delay_ms }) =
        (line.note(now, &done, jitter), &mut done.to)
    {
        *delay_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
    }
    let mut late = Back::new();
    let pair = matches!(done.came, Some((_, Outcome::Rejected(Limit::Pair))));
    if let Finished::Retry { delay_ms } = &mut done.to
        && pair
    {
        (*delay_ms, late) = line.refused(now, &done.message);
    }
    if done.park {
        line.park(now, done.message);
        return true;
    }
    let window = node.settings.upstream.ambiguity_window;
    let span = behind(&done, pair, window);
    match (span, done.behind) {
        // The message that it names may wait behind it.
        (Some(span), true) => {
            line.block_once(now, &done.message, span, longest(window));
        }
        (Some(span), false) => line.block(&done.message, now + span),
        (None, _) => line.next_of(done.message.route()),
    }
    if !done.behind {
        line.found(&done.message.id);
    }
    // In the order in which they were accepted.
    outcomes.send(done).await.is_ok() && give_back(outcomes, late).await
}

fn all_for(messages: Vec<Claimed>, delay_ms: u64) -> Back {
    let each = messages.into_iter();
    each.map(|message| (message, delay_ms)).collect()
}

/// Into the store: they are sent later, by whoever owns the shard then. False: the tenure is over.
async fn give_back(outcomes: &mpsc::Sender<Attempt>, messages: Back) -> bool {
    for (message, delay_ms) in messages {
        let back = Attempt::new(message, Finished::Retry { delay_ms });
        if outcomes.send(back).await.is_err() {
            return false;
        }
    }
    true
}
