//! Works off verified upstream events: message states and webhooks in one commit, by the owner only.
//! Stores no events: webapps do. Delivers no webhooks: `webhook.rs` does.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use wa_core::backoff::exponential;

use super::behind::Behind;
use super::fetch::{self, automatic};
use super::fetches::Fetched;
use super::media;
use super::node::Node;
use super::placing::Placing;
use super::resolve::{Batch, resolve};
use super::work::Work;
use super::{news, tally, unread};
use crate::api::cloud::callback::{Attached, callback};
use crate::api::cloud::code;
use crate::api::cloud::event::{Event, Status, Wanted, Word};
use crate::api::cloud::told::{self, Became, Wants};
use crate::api::v1::setting::ApplicationSettings;
use crate::config::{ForeignStatuses, LateStatuses};
use crate::db::event::State;
use crate::db::inbox::{Processed, Stored};
use crate::db::remote::Remote;
use crate::log::seldom;
use crate::sys::clock;

/// Events of one commit.
const BATCH_LEN_MAX: usize = 256;
/// The same on the embedded store, whose one lock a lease may be waiting for.
const BATCH_LEN_MAX_EMBEDDED: usize = 48;
/// How often the inbox is looked into when nobody says that something came.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How a round ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Nothing waits that was there when it began, but messages whose files are on the way.
    Drained,
    /// The batch was full: more may wait.
    Full,
    /// The same, and all of it waits for files: more may wait behind it.
    Stuck,
}

/// Processes events until the tenure ends.
pub async fn process(node: Arc<Node>, work: Arc<Work>) {
    let (mut failures, mut placing) = (0u32, Placing::default());
    loop {
        if work.held() {
            // The handover waits for what is being sent: it goes first.
            clock::sleep(Duration::from_millis(5)).await;
            continue;
        }
        match round(&node, &work, &mut placing).await {
            Ok(end) => {
                failures = 0;
                let since = *work.inbox_drained.borrow();
                // A full batch, or statuses that nobody looked at: more may wait, and receipts among it.
                let drained = end == End::Drained && !placing.more;
                let drained = drained.then(|| since.unwrap_or_else(clock::now));
                work.inbox_drained.send_replace(drained);
                if end != End::Full {
                    let _ = tokio::time::timeout(LOOK_EVERY, work.inbox_wanted.notified()).await;
                }
            }
            Err(error) => {
                work.inbox_drained.send_replace(None);
                failures += 1;
                let wait = exponential(
                    Duration::from_millis(50),
                    failures,
                    Duration::from_secs(1),
                    0,
                );
                seldom!(tracing::warn!(%error, "processing events failed; retrying in {wait:?}"));
                clock::sleep(wait).await;
            }
        }
    }
}

/// Places what nobody has placed, and works off a batch. What cannot be placed holds up no event that needs no place.
async fn round(node: &Arc<Node>, work: &Arc<Work>, placing: &mut Placing) -> Result<End, String> {
    let db = node.db().ok_or("no database")?;
    if let Err(error) = placing.look(work, &db).await {
        // Until a look succeeds, `placing.more` says that statuses wait.
        seldom!(
            tracing::warn!(%error, "statuses whose messages are not known yet could not be looked up; retrying, and processing the others")
        );
    }
    batch(node, work).await
}

/// Some events, in the order in which they came.
async fn batch(node: &Arc<Node>, work: &Arc<Work>) -> Result<End, String> {
    let db = node.db().ok_or("no database")?;
    let limit = limit(work, db.embedded());
    let stored = db
        .pending_events(&work.own, work.shard_count, limit)
        .await
        .map_err(|error| error.brief())?;
    if stored.is_empty() {
        work.behind.store(0, Ordering::Relaxed);
        return Ok(End::Drained);
    }
    let full = stored.len() >= limit as usize;
    let settings = node.application.load();
    let mut found = resolve(node, work, &db, &stored).await?;
    let events = &mut found.events;
    let read = tally::Read::of(events);
    let reread = unread::again(node, &db, events).await;
    let news = news::of(events);
    heard(work, &stored, events);
    let refused: Vec<&str> = events.iter().flatten().filter_map(refused_file).collect();
    media::forget_of(node, work, &refused).await?;
    let before = work.behind.load(Ordering::Relaxed);
    let mut behind = Behind::of(&stored, events, before);
    let (processed, became) = meanings(
        (node, work, &settings),
        &stored,
        &mut found,
        &mut behind,
        &reread,
    );
    work.behind.store(behind.len(), Ordering::Relaxed);
    if processed.is_empty() {
        // What stands behind others makes the next batch longer: it reaches whoever comes after them.
        return Ok(match full {
            true if behind.len() > before => End::Full,
            true => End::Stuck,
            false => End::Drained,
        });
    }
    let blank = node.settings.client.keep_bodies.is_zero();
    // In order, and in parts: what waited comes all at once.
    for part in processed.chunks(batch_len(db.embedded())) {
        let held = node
            .in_turn(db.process_events(&work.own, part, blank))
            .await
            .map_err(|error| error.brief())?;
        if !held {
            return Err("this node does not own the shard any more".into());
        }
        done(work, part);
    }
    tally::count(node, &processed, read);
    tally::became(node, &processed, &became);
    for (field, value) in &news {
        news::tell(node, &db, field, value).await;
    }
    Ok(if full { End::Full } else { End::Drained })
}

/// What each event of a batch means, in the order in which it is told; without those that wait.
fn meanings(
    (node, work, settings): (&Arc<Node>, &Arc<Work>, &ApplicationSettings),
    stored: &[Stored],
    found: &mut Batch,
    behind: &mut Behind,
    reread: &HashSet<usize>,
) -> (Vec<Processed>, Vec<Became>) {
    let mut processed: Vec<Processed> = Vec::with_capacity(stored.len());
    let mut became = Vec::with_capacity(stored.len());
    for at in told::order(&found.events) {
        let (event, stored) = (found.events[at].take(), &stored[at]);
        let customer = stored.recipient_hash;
        if reread.contains(&at) {
            processed.push(nothing(stored));
            continue;
        }
        if behind.stands(customer, event.as_ref()) {
            // Its own file comes meanwhile.
            if let Some(file) = event.as_ref().and_then(Event::file)
                && automatic(node, settings, &file)
            {
                fetch::ask(node, work, stored, &file);
            }
            continue;
        }
        let patient = behind.may_wait(customer);
        let told = &mut found.told;
        // Without one, its file is on the way.
        let meant = meaning(node, work, settings, (stored, patient), event, told);
        let Some((mut one, what)) = meant else {
            behind.waits(customer);
            continue;
        };
        one.before = found.news.remove(&at).or(one.before);
        processed.push(one);
        became.push(what);
    }
    (processed, became)
}

/// Whoever wrote is answered first from now on.
fn heard(work: &Work, stored: &[Stored], events: &[Option<Event>]) {
    let mut asks = false;
    for (stored, event) in stored.iter().zip(events) {
        if let Some(Event::Message(_)) = event {
            let route = u32::try_from(stored.recipient_hash).unwrap_or(0);
            let received = u64::try_from(stored.received_ms).unwrap_or(0);
            let ago = clock::wall_ms().saturating_sub(received);
            asks |= work.replies.heard(route, Duration::from_millis(ago));
        }
    }
    if asks && work.outbox.backlog() {
        work.claim_wanted.notify_one();
    }
}

/// Events that are looked at together. Those that wait for their files, and their customers' others behind them, hold up nobody else.
fn limit(work: &Work, embedded: bool) -> u32 {
    // They have bounds: `fetches.rs`, `behind.rs`.
    let waiting = work.fetches.waiting() + work.behind.load(Ordering::Relaxed);
    u32::try_from(batch_len(embedded) + waiting).unwrap_or(u32::MAX)
}

/// Events of one commit.
fn batch_len(embedded: bool) -> usize {
    match embedded {
        true => BATCH_LEN_MAX_EMBEDDED,
        false => BATCH_LEN_MAX,
    }
}

/// What a commit taught, and who has work now.
fn done(work: &Work, processed: &[Processed]) {
    work.fetches
        .forget(processed.iter().map(|p| p.key.as_str()));
    for event in processed {
        if let Some((ours, _, Some(theirs))) = &event.status
            && work.known_ids.ours(theirs).is_none()
        {
            work.known_ids.write_soon(ours, theirs);
        }
    }
    if processed.iter().any(|p| p.webhook.is_some()) {
        work.webhook_wanted.notify_one();
    }
}

/// What an event means; `None`: not yet, its file is on the way. One that is not `patient` waits for none.
fn meaning(
    node: &Arc<Node>,
    work: &Arc<Work>,
    settings: &ApplicationSettings,
    (stored, patient): (&Stored, bool),
    event: Option<Event>,
    told: &mut HashMap<String, told::Row>,
) -> Option<(Processed, Became)> {
    let event = match event {
        None | Some(Event::Unread { .. }) => {
            return Some((kept(stored, State::Unread), Became::Unwanted));
        }
        Some(Event::Status(status)) => {
            let late = node.settings.client.late_statuses == LateStatuses::Tell;
            let wants = wants(settings, late);
            let foreign = node.settings.events.foreign_statuses;
            if status.ours.is_none() && foreign == ForeignStatuses::Drop {
                return Some((kept(stored, State::Foreign), Became::Unwanted));
            }
            return Some(of_status(settings, stored, status, wants, told));
        }
        Some(news @ Event::Account { .. }) => {
            let wanted = node.settings.events.account_events;
            let wanted = wanted && !settings.webhooks.url.is_empty();
            let webhook = wanted.then(|| callback(news, Attached::Nothing).text());
            let processed = Processed {
                webhook,
                ..nothing(stored)
            };
            return Some((processed, Became::Told));
        }
        Some(other @ (Event::Message(_) | Event::Error(_))) => other,
    };
    let (file, remote) = attached(node, work, settings, (stored, patient), event.file())?;
    let processed = Processed {
        webhook: Some(callback(event, file).text()),
        remote,
        ..nothing(stored)
    };
    Some((processed, Became::Told))
}

/// What becomes of a file, and what is to be remembered of it; `None`: it is on the way. One that is not fetched now can be asked
/// for later.
fn attached(
    node: &Arc<Node>,
    work: &Arc<Work>,
    settings: &ApplicationSettings,
    (stored, patient): (&Stored, bool),
    file: Option<Wanted>,
) -> Option<(Attached, Option<Remote>)> {
    let Some(file) = file else {
        return Some((Attached::Nothing, None));
    };
    if automatic(node, settings, &file) {
        let fetched = match patient {
            true => fetch::ask(node, work, stored, &file),
            false => work.fetches.here(&stored.event_key),
        };
        match fetched {
            Fetched::Running => return None,
            Fetched::There(id) => return Some((Attached::Ours(id), None)),
            Fetched::Failed => {}
        }
    }
    let remote = fetch::remote(node, file);
    let attached = match &remote {
        Some(remote) => Attached::Later(remote.id.clone()),
        None => Attached::Undownloaded,
    };
    Some((attached, remote))
}

/// Our id of a message that failed because of a file: the upstream does not know it any more, or cannot use it.
fn refused_file(event: &Event) -> Option<&str> {
    match event {
        Event::Status(status) if status.word == Word::Failed => {
            let mut errors = status.errors.iter();
            let refused = errors.any(|error| error.code == code::FILE_REFUSED);
            status.ours.as_deref().filter(|_| refused)
        }
        Event::Status(_)
        | Event::Message(_)
        | Event::Error(_)
        | Event::Account { .. }
        | Event::Unread { .. } => None,
    }
}

/// An event that is not told, and stays for people to look at.
fn kept(stored: &Stored, state: State) -> Processed {
    Processed {
        kept: Some(state),
        ..nothing(stored)
    }
}

/// An event that means nothing.
fn nothing(stored: &Stored) -> Processed {
    Processed {
        key: stored.event_key.clone(),
        recipient_hash: u32::try_from(stored.recipient_hash).unwrap_or(0),
        ..Processed::default()
    }
}

/// What a status means for our message and for the business. Without a URL nobody ever takes a status; messages wait for one.
fn of_status(
    settings: &ApplicationSettings,
    stored: &Stored,
    status: Status,
    wants: Wants,
    told: &mut HashMap<String, told::Row>,
) -> (Processed, Became) {
    let ours = status.ours.clone();
    let event = Event::Status(status);
    let change = event.status_change();
    let Event::Status(status) = event else {
        return (nothing(stored), Became::Unwanted);
    };
    let once = status.key();
    // Of a message that is nobody's, or not kept any more, nothing is known: it is told as it comes.
    let mut row = ours.as_ref().and_then(|id| told.get_mut(id));
    let before = row.as_deref().cloned();
    let (mut callbacks, became) = match settings.webhooks.url.is_empty() {
        true => {
            row.iter_mut().for_each(|row| row.note(&status.word));
            (Vec::new(), Became::Unwanted)
        }
        false => told::hear(row.as_deref_mut(), status, wants),
    };
    // The row of its message says what was told, where there is one and it knows the word.
    let judged = row.is_some() && change.is_some();
    let once = once.filter(|_| !judged);
    let after = row.map(|row| &*row);
    let text = |status: Status| callback(Event::Status(status), Attached::Nothing).text();
    let webhook = callbacks.pop().map(text);
    let processed = Processed {
        status: change,
        told: after
            .filter(|row| Some(*row) != before.as_ref())
            .map(told::Row::text),
        webhook,
        before: callbacks.pop().map(text),
        once,
        ..nothing(stored)
    };
    (processed, became)
}

/// Which statuses the business wants to hear of.
fn wants(settings: &ApplicationSettings, late: bool) -> Wants {
    let chosen = &settings.webhooks.message;
    Wants {
        sent: chosen.sent || settings.sent_status,
        delivered: chosen.delivered,
        read: chosen.read,
        late,
    }
}

#[cfg(test)]
mod tests {
    use super::super::resolve::read;
    use super::*;
    use crate::api::cloud::event::{Item, Raw};
    use serde_json::json;
    use wa_core::message::MessageState;

    const OURS: &str = "gBEGkYaYVSEEAgnZxQ3JmKK6Ww";

    fn stored(word: &str) -> Stored {
        let item = Item {
            key: String::new(),
            customer: "447700900456".into(),
            recipient_hash: None,
            placed: false,
            raw: Raw::Status(json!({
                "id": "wamid.X", "status": word, "biz_opaque_callback_data": format!("{OURS}.00000007"), "recipient_id": "447700900456"
            })),
        };
        Stored {
            event_key: format!("wamid.X:{word}"),
            recipient_hash: 7,
            payload: serde_json::to_string(&item).expect("plain JSON"),
            received_ms: 1,
        }
    }

    fn meaning(settings: &ApplicationSettings, stored: &Stored) -> Processed {
        let mut told = HashMap::from([(OURS.to_owned(), told::Row::default())]);
        match read(stored) {
            Some(Event::Status(status)) => {
                of_status(settings, stored, status, wants(settings, false), &mut told).0
            }
            Some(_) => nothing(stored),
            None => kept(stored, State::Unread),
        }
    }

    /// Goal: every status moves our message; only the chosen ones reach the business.
    #[test]
    fn statuses_are_told_as_the_settings_say() {
        let mut settings = ApplicationSettings::default();
        assert_eq!(meaning(&settings, &stored("delivered")).webhook, None);
        settings.webhooks.url = "https://business.example/hook".into();
        let sent = meaning(&settings, &stored("sent"));
        assert_eq!(sent.webhook, None);
        assert_eq!(
            sent.status,
            Some((OURS.into(), MessageState::Sent, Some("wamid.X".into())))
        );
        assert!(
            meaning(&settings, &stored("delivered"))
                .webhook
                .is_some_and(|w| w.contains(OURS))
        );
        assert!(meaning(&settings, &stored("failed")).webhook.is_some());
        settings.sent_status = true;
        let sent = meaning(&settings, &stored("sent"));
        assert!(sent.webhook.is_some() && sent.told.as_deref() == Some("s"));
        let read = meaning(&settings, &stored("read"));
        let both = [read.before, read.webhook].map(Option::unwrap_or_default);
        assert!(both[0].contains("\"delivered\"") && both[1].contains("\"read\""));
        assert_eq!(read.told.as_deref(), Some("r"));
    }

    #[test]
    fn an_event_that_cannot_be_read_is_put_away() {
        let rubbish = Stored {
            event_key: "k".into(),
            recipient_hash: 1,
            payload: "{".into(),
            received_ms: 1,
        };
        let processed = meaning(&ApplicationSettings::default(), &rubbish);
        assert_eq!((processed.key.as_str(), processed.webhook), ("k", None));
        assert_eq!(processed.kept, Some(State::Unread), "people can look at it");
    }
}
