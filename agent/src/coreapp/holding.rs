//! What holds messages of one tenure, as its tasks look at it: `wa_core::hold` behind a lock.
//! Asks nobody and tells nobody: `hold.rs` does.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use wa_core::hold::{Action, Event, Hold, Pace, Sort, Why};
use wa_core::outcome::Probe;
use wa_core::time::Instant;

use crate::api::v1::message::Content;
use crate::api::v1::message::stored;
use crate::db::message::Claimed;
use crate::sys::clock;

/// What holds messages of one tenure.
#[derive(Debug, Default)]
pub struct Holding {
    hold: Mutex<Hold>,
    /// The messages that were let go to show whether payment is in order: one of each sort.
    tries: Mutex<[Option<String>; 2]>,
    /// The deadline may have changed.
    pub changed: Notify,
    /// What was asked last for a message that was refused for what may be the account.
    pub asked: tokio::sync::Mutex<Option<(Instant, Probe)>>,
}

impl Holding {
    fn hold(&self) -> MutexGuard<'_, Hold> {
        self.hold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of an event: what is to be done, and whether pace or deadline changed.
    pub fn step(&self, event: Event) -> (Vec<Action>, bool) {
        let mut actions = Vec::new();
        let mut hold = self.hold();
        let before = (hold.pace(), hold.deadline());
        hold.step(clock::now(), event, &mut actions);
        let changed = before != (hold.pace(), hold.deadline());
        (actions, changed)
    }

    /// When it wants to be told the time.
    pub fn deadline(&self) -> Option<Instant> {
        self.hold().deadline()
    }

    /// How fast messages may go.
    pub fn pace(&self) -> Pace {
        self.hold().pace()
    }

    /// This message is refused for the account, and it is the message that is refused.
    pub fn itself(&self, id: &str) -> bool {
        self.hold().itself(id)
    }

    /// How long all messages wait yet.
    pub fn left(&self) -> Duration {
        let deadline = self.hold().deadline();
        deadline.map_or(Duration::ZERO, |at| at.since(clock::now()))
    }

    /// What holds messages, and since when.
    pub fn why(&self) -> Option<(Why, Instant)> {
        self.hold().why()
    }

    /// How long this message has to wait for what its sort is not allowed now.
    pub fn admit(&self, message: &Claimed) -> Option<Duration> {
        let mut hold = self.hold();
        if !hold.unpaid() {
            return None;
        }
        let sort = sort_of(message);
        let wait = hold.admit(clock::now(), sort);
        if wait.is_none() && hold.unpaid_sort(sort) {
            self.tries()[sort as usize] = Some(message.id.clone());
        }
        wait
    }

    /// This message made no call: if it was let go to show something, another one may.
    pub fn no_call(&self, id: &str) {
        let mut hold = self.hold();
        for sort in [Sort::Template, Sort::Other] {
            let tried = &mut self.tries()[sort as usize];
            if tried.as_deref() == Some(id) {
                *tried = None;
                hold.give_back(clock::now(), sort);
            }
        }
    }

    /// Messages of this sort wait for payment.
    pub fn unpaid(&self, sort: Sort) -> bool {
        self.hold().unpaid_sort(sort)
    }

    fn tries(&self) -> MutexGuard<'_, [Option<String>; 2]> {
        self.tries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sort of a message, as far as it plays a part now.
    pub fn sort(&self, message: &Claimed) -> Sort {
        match self.hold().unpaid() {
            true => sort_of(message),
            false => Sort::Other,
        }
    }
}

/// Which messages payment tells apart.
pub fn sort_of(message: &Claimed) -> Sort {
    let form = u16::try_from(message.form).unwrap_or(u16::MAX);
    let read = stored::read(form, &message.payload);
    read.map_or(Sort::Other, |message| sort_in(&message.content))
}

/// The same, of what it says.
pub fn sort_in(content: &Content) -> Sort {
    match content {
        Content::Template(_) | Content::Hsm(_) => Sort::Template,
        Content::Text(_)
        | Content::Media(_)
        | Content::Location(_)
        | Content::Contacts(_)
        | Content::Interactive(_)
        | Content::Reaction(_) => Sort::Other,
    }
}
