//! Counts what came of events, for the documented figures.
//! Decides nothing.

use std::sync::atomic::Ordering;

use wa_core::message::MessageState;

use super::node::Node;
use crate::api::cloud::event::Event;
use crate::api::cloud::told::Became;
use crate::db::event::State;
use crate::db::inbox::Processed;
use crate::metrics::coreapp::{STATUSES, is_message};

/// Events of one reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read {
    /// Customers' messages that were understood.
    messages: u64,
    /// What was not understood.
    unread: u64,
}

impl Read {
    /// Before they are taken apart.
    pub fn of(events: &[Option<Event>]) -> Self {
        let message = |read: &&Option<Event>| matches!(read, Some(Event::Message(_)));
        Self {
            messages: events.iter().filter(message).count() as u64,
            unread: events.iter().filter(|read| read.is_none()).count() as u64,
        }
    }
}

/// What one commit did not tell.
pub fn became(node: &Node, processed: &[Processed], became: &[Became]) {
    for event in processed {
        match event.kept {
            Some(State::Unread) => drop(node.metrics.events_unread.inc()),
            Some(State::Foreign) => drop(node.metrics.statuses_foreign.inc()),
            Some(State::Pending | State::Done | State::Unplaced | State::Blank) | None => {}
        }
    }
    for became in became {
        match became {
            Became::Told | Became::Unwanted | Became::Again => {}
            Became::Late => drop(node.metrics.statuses_late.inc()),
            Became::Contradicts => drop(node.metrics.statuses_contradicted.inc()),
        }
    }
}

/// The figures of one commit. A message that waits for its file is counted when it is worked off.
pub fn count(node: &Node, processed: &[Processed], read: Read) {
    let mut words = [0; STATUSES.len()];
    for event in processed {
        let Some((_, state, _)) = &event.status else {
            continue;
        };
        let word = match state {
            MessageState::Sent => 0,
            MessageState::Delivered => 1,
            MessageState::Read => 2,
            MessageState::Failed => 3,
            MessageState::Queued | MessageState::Sending | MessageState::Ambiguous => continue,
        };
        words[word] += 1;
    }
    if words.iter().any(|count| *count > 0) {
        node.watch.came();
    }
    let documented = &node.documented;
    for (count, more) in documented.statuses.iter().zip(words) {
        count.fetch_add(more, Ordering::Relaxed);
    }
    let told = processed.iter().filter_map(|event| event.webhook.as_ref());
    let persisted = told.filter(|told| is_message(told)).count() as u64;
    // Every message is told.
    let decoded = read.messages.min(persisted);
    let more = [
        (&documented.in_read, decoded + read.unread),
        (&documented.in_decoded, decoded),
        (&documented.in_persisted, persisted),
    ];
    for (count, more) in more {
        count.fetch_add(more, Ordering::Relaxed);
    }
}
