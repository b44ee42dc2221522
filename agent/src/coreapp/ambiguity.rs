//! Messages of which nobody knows whether they were sent: after the window, sent again or reported, as configured; later, while
//! receipts are late. `sender.rs` marks most of them; here, those that a database failover made again what they were. Receipts
//! come through `inbox.rs`; whether a missing one is only late is decided by `wa_core::receipt`.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use wa_core::outcome::{Next, Policy, after_window};
use wa_core::receipt::{Patience, Verdict, judge};

use super::node::Node;
use super::outbox::IN_HAND_MAX;
use super::work::Work;
use crate::api::v1::callback::{Callback, Status};
use crate::api::v1::code::Code;
use crate::api::v1::message::stored;
use crate::config::{OnAmbiguity, SendsThen};
use crate::db::ambiguity::{ForPerson, Overdue};
use crate::db::inbox::failure_key;
use crate::db::message::{Finish, Finished, OwnWebhook};
use crate::db::{Db, DbError};
use crate::sys::clock;

/// Messages that are judged at a time: as many as a commit may report.
const BATCH_LEN_MAX: u32 = 64;
/// The documented code of a generic error in a `failed` status.
const CODE: u16 = Code::Generic.number();

/// Settles overdue messages until the tenure ends. The window counts from when the inbox is drained: a receipt that is
/// stored and not processed is no missing receipt.
pub async fn resolve(node: Arc<Node>, work: Arc<Work>) {
    let settings = &node.settings.upstream;
    let patience = Patience {
        window: settings.ambiguity_window,
        max: settings.ambiguity_max,
    };
    let policy = policy(&node);
    let window = patience.window;
    let every = (window / 4).clamp(Duration::from_millis(50), Duration::from_secs(1));
    let mut told = None;
    loop {
        clock::sleep(every).await;
        let drained = *work.inbox_drained.borrow();
        if work.held() || drained.is_none_or(|since| clock::now().since(since) < window) {
            continue;
        }
        let Some(db) = node.db() else { continue };
        match settle(&node, &work, &db, (patience, policy)).await {
            Ok(waits) => tell(&work, &mut told, waits, patience),
            Err(error) => {
                tracing::warn!(error = %error.brief(), "settling ambiguous messages failed; retrying");
            }
        }
    }
}

/// Says once that messages wait for longer than the window, and once that none does any more.
fn tell(work: &Work, told: &mut Option<Verdict>, waits: Option<Verdict>, patience: Patience) {
    if told.is_some() == waits.is_some() {
        return;
    }
    *told = waits;
    let shard = &work.own.shard;
    match waits {
        Some(_) => tracing::info!(
            %shard,
            "the upstream's receipts are late; messages of unknown fate wait for theirs, at most {:?}, before they are settled",
            patience.max
        ),
        None => {
            tracing::info!(%shard, "no message of unknown fate waits for a late receipt any more");
        }
    }
}

/// What is configured for messages of unknown fate.
fn policy(node: &Node) -> Policy {
    let settings = &node.settings.upstream;
    Policy {
        resend: settings.on_ambiguity == OnAmbiguity::Resend,
        sends_max: settings.ambiguity_sends_max,
        then_report: settings.ambiguity_sends_then == SendsThen::Report,
        window: settings.ambiguity_window,
    }
}

/// One look: settles what may be, and says why the rest waits, if there is any.
async fn settle(
    node: &Node,
    work: &Work,
    db: &Db,
    (patience, policy): (Patience, Policy),
) -> Result<Option<Verdict>, DbError> {
    let pending_max = node.settings.client.pending_max;
    let but = (policy.resend && !policy.then_report).then_some(ForPerson {
        sends_max: policy.sends_max,
        younger_than: pending_max,
    });
    let (own, count) = (&work.own, work.shard_count);
    let overdue = db
        .overdue_but(own, count, patience.window, BATCH_LEN_MAX, but)
        .await?;
    if overdue.is_empty() {
        return Ok(None);
    }
    let (settled, waits) = sift(db, overdue, patience).await?;
    let (mut again, mut over) = (Vec::new(), Vec::new());
    for mut message in settled {
        match after_window(message.sends(), policy) {
            Next::Again(pause) => {
                message.pause = pause;
                again.push(message);
            }
            Next::Report => over.push(message),
            // Nobody came: what has waited for so long is over, whoever held it up.
            Next::Person if message.age() > pending_max => over.push(message),
            Next::Person => {}
        }
    }
    if !again.is_empty() {
        resend(node, work, db, &again).await?;
    }
    if !over.is_empty() {
        report(node, work, db, over).await?;
    }
    Ok(waits)
}

/// Those that may be settled, and why the first of the others waits. Receipts come about in the order of the claims: what was
/// claimed before one that may be settled may be as well, so a few questions are enough.
async fn sift(
    db: &Db,
    overdue: Vec<Overdue>,
    patience: Patience,
) -> Result<(Vec<Overdue>, Option<Verdict>), DbError> {
    let (mut settled, mut open): (Vec<Overdue>, Vec<Overdue>) = overdue
        .into_iter()
        .partition(|message| message.waited() >= patience.max);
    open.sort_by_key(|message| message.claim_order);
    let (mut from, mut to, mut waits) = (0, open.len(), None);
    // The newest first: mostly it speaks for all.
    let mut next = to.saturating_sub(1);
    while from < to {
        let message = &open[next];
        let evidence = db.receipts_around(message.claim_order).await?;
        let verdict = judge(message.waited(), patience, &evidence);
        if verdict.settles() {
            from = next + 1;
        } else {
            (to, waits) = (next, Some(verdict));
        }
        next = from + (to - from) / 2;
    }
    settled.extend(open.drain(..from));
    Ok((settled, waits))
}

/// How often orphans are looked for: twice the time that a commit may take to be answered.
const ORPHANS_EVERY: Duration = Duration::from_secs(10);

/// Finds rows that this ownership has claimed and that the process does not have in hand, until the tenure ends: a database
/// that lost commits says again that they are being sent. Nobody else would ever look at them while this tenure lasts.
pub async fn find_orphans(node: Arc<Node>, work: Arc<Work>) {
    let limit = u32::try_from(2 * IN_HAND_MAX).unwrap_or(u32::MAX);
    let mut before: HashSet<String> = HashSet::new();
    loop {
        clock::sleep(ORPHANS_EVERY).await;
        let Some(db) = node.db() else { continue };
        // Marked at the start of the tenure; the database may have lost that.
        let marked = node.in_turn(db.mark_ambiguous(&work.own, work.shard_count));
        match marked.await {
            Ok(0) => {}
            Ok(rows) => {
                tracing::warn!(shard = %work.own.shard, rows, "messages of an earlier owner are half sent again; waiting for their receipts");
            }
            Err(error) => {
                tracing::warn!(error = %error.brief(), "marking messages as ambiguous failed; retrying");
                continue;
            }
        }
        let claimed = match db.claimed_by(&work.own, limit).await {
            Ok(claimed) => claimed.into_iter(),
            Err(error) => {
                tracing::warn!(error = %error.brief(), "looking for claimed messages failed; retrying");
                continue;
            }
        };
        let orphans: HashSet<String> = claimed.filter(|id| !work.outbox.has(id)).collect();
        // Seen twice: a claim that was just committed is not in hand yet.
        let sure: Vec<Finish> = orphans
            .intersection(&before)
            .map(|id| Finish {
                id: id.clone(),
                to: Finished::Ambiguous,
                claims: i64::MAX,
            })
            .collect();
        before = orphans;
        if sure.is_empty() {
            continue;
        }
        match node.in_turn(db.finish(&work.own, &sure)).await {
            Ok(_) => {
                tracing::warn!(shard = %work.own.shard, rows = sure.len(), "the database does not know any more what became of some messages; waiting for their receipts");
            }
            Err(error) => {
                tracing::warn!(error = %error.brief(), "marking messages as ambiguous failed; retrying");
            }
        }
    }
}

async fn resend(node: &Node, work: &Work, db: &Db, settled: &[Overdue]) -> Result<(), DbError> {
    let requeue = db.requeue_ambiguous(&work.own, settled);
    let rows = node.in_turn(requeue).await?;
    if rows > 0 {
        tracing::info!(shard = %work.own.shard, rows, "no receipt came for some messages; sending them again");
        work.claim_wanted.notify_one();
    }
    Ok(())
}

async fn report(node: &Node, work: &Work, db: &Db, settled: Vec<Overdue>) -> Result<(), DbError> {
    let at_s = clock::wall_ms() / 1000;
    let told = |message: Overdue| {
        let recipient = stored::answered(message.form, &message.payload, &message.recipient);
        let id = message.id;
        let data = stored::callback_data(message.form, &message.payload);
        let status = Status::unknown_outcome(&id, &recipient, at_s).with_data(data);
        let webhook = OwnWebhook {
            message_id: id.clone(),
            key: failure_key(&id),
            recipient_hash: u32::try_from(message.recipient_hash).unwrap_or(0),
            payload: Callback::of_status(status).text(),
        };
        (id, webhook)
    };
    let messages: Vec<(String, OwnWebhook)> = settled.into_iter().map(told).collect();
    let reported = db.report_ambiguous(&work.own, CODE, &messages);
    if node.in_turn(reported).await? {
        tracing::info!(shard = %work.own.shard, rows = messages.len(), "no receipt came for some messages; reporting them as failed");
        work.webhook_wanted.notify_one();
    }
    Ok(())
}
