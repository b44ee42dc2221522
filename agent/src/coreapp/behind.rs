//! Who waits in a batch: behind a message whose file is on the way stand the later messages of its customer, so that he is told in
//! order. Within bounds: beyond them no message waits for its file.
//! Fetches nothing: `fetch.rs` does.

use std::collections::{HashMap, HashSet};

use crate::api::cloud::event::Event;
use crate::db::inbox::Stored;

/// Messages of one customer that wait, and messages of all that stand behind others.
const OF_ONE_MAX: usize = 256;
const LEN_MAX: usize = 2048;

/// Who waits in one batch.
#[derive(Debug, Default)]
pub struct Behind {
    /// Messages of each customer.
    messages: HashMap<i64, usize>,
    /// Customers whose messages wait.
    customers: HashSet<i64>,
    len: usize,
    /// So many stood behind others in the last batch that none waits in this one.
    over: bool,
}

impl Behind {
    /// Of a batch, before it is worked off. `before`: how many stood behind others in the last one.
    pub fn of(stored: &[Stored], events: &[Option<Event>], before: usize) -> Self {
        let mut behind = Self {
            over: before >= LEN_MAX,
            ..Self::default()
        };
        for (stored, event) in stored.iter().zip(events) {
            if is_message(event.as_ref()) {
                *behind.messages.entry(stored.recipient_hash).or_default() += 1;
            }
        }
        behind
    }

    /// A message of this customer may wait for its file.
    pub fn may_wait(&self, customer: i64) -> bool {
        let messages = self.messages.get(&customer).copied().unwrap_or(0);
        !self.over && messages <= OF_ONE_MAX
    }

    /// A message of this customer waits for its file.
    pub fn waits(&mut self, customer: i64) {
        self.customers.insert(customer);
    }

    /// Whether this event stands behind another one, and waits, too.
    pub fn stands(&mut self, customer: i64, event: Option<&Event>) -> bool {
        let stands = is_message(event) && self.customers.contains(&customer);
        self.len += usize::from(stands);
        stands
    }

    /// How many stand behind others.
    pub fn len(&self) -> usize {
        self.len
    }
}

fn is_message(event: Option<&Event>) -> bool {
    matches!(event, Some(Event::Message(_)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::cloud::event::Raw;

    fn stored(customer: i64) -> Stored {
        Stored {
            event_key: String::new(),
            recipient_hash: customer,
            payload: String::new(),
            received_ms: 1,
        }
    }

    fn message() -> Option<Event> {
        let message = json!({"type": "text"});
        let contact = None;
        Some(Event::of(Raw::Message { message, contact }))
    }

    /// Goal: only messages stand, and only behind their own customer's. Method: events of two customers.
    #[test]
    fn only_messages_of_the_same_customer_stand() {
        let (text, status) = (message(), Some(Event::of(Raw::Status(json!({})))));
        let mut behind = Behind::of(&[stored(1), stored(2)], &[message(), message()], 0);
        assert!(!behind.stands(1, text.as_ref()));
        behind.waits(1);
        assert!(behind.stands(1, text.as_ref()));
        assert!(!behind.stands(2, text.as_ref()));
        assert!(!behind.stands(1, status.as_ref()) && !behind.stands(1, None));
        assert_eq!(behind.len(), 1);
    }

    /// Goal: what waits has a bound. Method: a customer with as many messages as may wait, one with more, and a batch behind one in
    /// which too many stood.
    #[test]
    fn beyond_the_bounds_nobody_waits() {
        let batch = |len: usize, before: usize| {
            let stored: Vec<Stored> = (0..len).map(|_| stored(1)).collect();
            let events: Vec<Option<Event>> = (0..len).map(|_| message()).collect();
            Behind::of(&stored, &events, before)
        };
        assert!(batch(OF_ONE_MAX, LEN_MAX - 1).may_wait(1));
        let more = batch(OF_ONE_MAX + 1, 0);
        assert!(!more.may_wait(1) && more.may_wait(2));
        assert!(!batch(1, LEN_MAX).may_wait(1));
    }
}
