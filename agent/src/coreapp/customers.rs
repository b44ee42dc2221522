//! Who is who, as this tenure has learned it: numbers of user ids, at once, and kept until `customer_writer.rs` has them in the
//! store. Keeps no promise: what is lost here with the process, the next webhook of the customer teaches again, but for numbers
//! that changed, which are written before anything else is done with them (`resolve.rs`).

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use wa_core::time::Instant;

use crate::api::cloud::customer::{Known, Number, Sighting};
use crate::db::customer::{Customer, Remembered};
use crate::sys::clock;

/// Customers that are remembered, and of those how many may wait to be written.
const LEN_MAX: usize = 32_768;
const WAITING_MAX: usize = 8192;
/// Numbers that are only remembered; of more than these the store is asked one by one.
pub const REMEMBERED_MAX: usize = 50_000;
/// Customers in one statement.
const WRITE_LEN_MAX: usize = 256;

#[derive(Debug, Clone)]
struct Entry {
    known: Known,
    recipient_hash: u32,
    /// What the store has; `None`: that was not looked at.
    written: Option<Known>,
}

#[derive(Debug, Default)]
struct State {
    known: HashMap<String, Entry>,
    order: VecDeque<String>,
    /// The living user id of a number.
    living: HashMap<String, String>,
    /// User ids that are not in the store as they are known here.
    waiting: VecDeque<String>,
    waits: HashSet<String>,
    remembered: HashMap<String, Together>,
    /// All numbers that are only remembered are known here.
    whole: bool,
}

/// The user id of a number that is only remembered, and how long ago, at a moment, one webhook carried both.
#[derive(Debug, Clone)]
struct Together {
    user_id: String,
    ago: Duration,
    at: Instant,
}

/// What is known of a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Memory {
    /// The upstream tells it, or nobody was ever seen with it.
    Plain,
    /// It is only remembered: its user id, and how long ago one webhook carried both.
    Remembered(String, Duration),
    /// The store must be asked.
    Unknown,
}

/// The customers that one tenure has seen.
#[derive(Debug, Default)]
pub struct Customers {
    state: Mutex<State>,
    /// Something waits to be written.
    pub wanted: Notify,
}

impl State {
    fn put(&mut self, user_id: &str, entry: Entry) {
        let number = entry.known.wa_id.clone();
        if self.known.insert(user_id.to_owned(), entry).is_none() {
            self.order.push_back(user_id.to_owned());
        }
        if let Some(number) = number {
            self.live(number, user_id);
        }
        while self.order.len() > LEN_MAX {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            if let Some(gone) = self.known.remove(&oldest)
                && let Some(number) = gone.known.wa_id
                && self.living.get(&number) == Some(&oldest)
            {
                self.living.remove(&number);
            }
        }
    }

    /// The number of a remembered pair is another user id's by now.
    fn living(&self, one: &Remembered) -> bool {
        let living = self.living.get(&one.number);
        living.is_some_and(|user_id| *user_id != one.user_id)
    }

    /// A number has one living user id.
    fn live(&mut self, number: String, user_id: &str) {
        let before = self.living.insert(number, user_id.to_owned());
        if let Some(before) = before.filter(|before| before != user_id)
            && let Some(entry) = self.known.get_mut(&before)
        {
            entry.known = entry.known.lost();
        }
    }

    /// Keeps in mind whether the number of a customer is only remembered.
    fn remember(&mut self, user_id: &str, before: Option<&str>, known: &Known, now: Instant) {
        if let Some(before) = before {
            self.remembered.remove(before);
        }
        let Some(number) = &known.wa_id else { return };
        if !known.remembered {
            self.remembered.remove(number);
            return;
        }
        if self.remembered.len() >= REMEMBERED_MAX {
            self.whole = false;
            return;
        }
        let together = Together {
            user_id: user_id.to_owned(),
            ago: Duration::from_millis(known.seen_ms.saturating_sub(known.both_ms)),
            at: now,
        };
        self.remembered.insert(number.clone(), together);
    }

    fn wait(&mut self, user_id: &str) -> bool {
        if self.waiting.len() >= WAITING_MAX || !self.waits.insert(user_id.to_owned()) {
            return false;
        }
        self.waiting.push_back(user_id.to_owned());
        true
    }
}

impl Customers {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that the store must be asked for.
    pub fn unknown<'a>(&self, user_ids: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
        let state = self.state();
        user_ids
            .filter(|id| !state.known.contains_key(*id))
            .collect()
    }

    /// What the store says of user ids; those that it does not know are known to be unknown.
    pub fn read<'a>(
        &self,
        asked: impl Iterator<Item = &'a str>,
        mut found: HashMap<String, Customer>,
    ) {
        let mut state = self.state();
        for user_id in asked {
            let entry = match found.remove(user_id) {
                Some(customer) => Entry {
                    written: Some(customer.known.clone()),
                    known: customer.known,
                    recipient_hash: customer.recipient_hash,
                },
                None => Entry {
                    known: Known::default(),
                    recipient_hash: 0,
                    written: None,
                },
            };
            if !state.known.contains_key(user_id) {
                state.put(user_id, entry);
            }
        }
    }

    /// The number of a user id.
    pub fn number(&self, user_id: &str) -> Option<String> {
        self.state().known.get(user_id)?.known.wa_id.clone()
    }

    /// One more event of a customer, who has this hash. True: the store must hear of it before the event is worked off.
    pub fn learn(&self, sighting: &Sighting, recipient_hash: u32, at_ms: u64) -> bool {
        let now = clock::now();
        let mut state = self.state();
        let user_id = sighting.user_id.as_str();
        let before = state.known.get(user_id).cloned();
        let before = before.unwrap_or_else(|| Entry {
            known: Known::default(),
            recipient_hash,
            written: None,
        });
        let known = before.known.after(sighting, at_ms);
        let before_number = before.known.wa_id.clone();
        let written = before.written.clone().unwrap_or_default();
        let differs = known.differs(&written) || (before.written.is_none() && known.seen_ms > 0);
        let entry = Entry {
            known,
            recipient_hash,
            written: before.written,
        };
        state.remember(user_id, before_number.as_deref(), &entry.known, now);
        state.put(user_id, entry);
        if differs && state.wait(user_id) {
            self.wanted.notify_one();
        }
        differs && sighting.number == Number::Lost
    }

    /// What the store says of numbers that are only remembered; not all of them where it has more than [`REMEMBERED_MAX`]. What was
    /// learned meanwhile is newer.
    pub fn remembered(&self, found: Vec<Remembered>) {
        let now = clock::now();
        let mut state = self.state();
        state.whole = found.len() < REMEMBERED_MAX;
        for one in found {
            let newer = state.known.get(&one.user_id);
            if newer.is_some_and(|entry| !entry.known.remembered) || state.living(&one) {
                continue;
            }
            let together = Together {
                user_id: one.user_id,
                ago: Duration::from_millis(one.together_ago_ms),
                at: now,
            };
            state.remembered.entry(one.number).or_insert(together);
        }
    }

    /// What is known of a number.
    pub fn memory(&self, number: &str) -> Memory {
        let state = self.state();
        match state.remembered.get(number) {
            Some(one) => {
                let ago = one.ago + clock::now().since(one.at);
                Memory::Remembered(one.user_id.clone(), ago)
            }
            None if state.whole => Memory::Plain,
            None => Memory::Unknown,
        }
    }

    /// What waits to be written, as much as one statement takes, each number once: of its living user id.
    pub fn take(&self) -> Vec<Customer> {
        let mut state = self.state();
        let some = state.waiting.len().min(WRITE_LEN_MAX);
        let ids: Vec<String> = state.waiting.drain(..some).collect();
        let mut taken = Vec::with_capacity(ids.len());
        for user_id in ids {
            state.waits.remove(&user_id);
            let Some(entry) = state.known.get(&user_id) else {
                continue;
            };
            taken.push(Customer {
                known: entry.known.clone(),
                recipient_hash: entry.recipient_hash,
                user_id,
            });
        }
        taken
    }

    /// It is in the store.
    pub fn written(&self, customers: &[Customer]) {
        let mut state = self.state();
        for customer in customers {
            if let Some(entry) = state.known.get_mut(&customer.user_id) {
                entry.written = Some(customer.known.clone());
            }
        }
    }

    /// It was not written.
    pub fn put_back(&self, customers: &[Customer]) {
        let mut state = self.state();
        for customer in customers {
            state.wait(&customer.user_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(user_id: &str, number: &str) -> Sighting {
        Sighting {
            user_id: user_id.into(),
            number: Number::Told(number.into()),
            username: None,
            name: None,
        }
    }

    /// Goal: a pair is known at once, written once, and a number has one living user id. Method: a number that goes to another
    /// customer.
    #[test]
    fn a_number_has_one_living_user_id() {
        let customers = Customers::default();
        assert!(!customers.learn(&told("GB.1", "447700900456"), 7, 100));
        assert_eq!(customers.number("GB.1").as_deref(), Some("447700900456"));
        let taken = customers.take();
        assert_eq!((taken.len(), taken[0].recipient_hash), (1, 7));
        customers.written(&taken);
        customers.learn(&told("GB.1", "447700900456"), 7, 200);
        assert!(customers.take().is_empty(), "nothing changed");
        customers.learn(&told("GB.2", "447700900456"), 7, 300);
        assert_eq!(customers.number("GB.1"), None);
        let taken = customers.take();
        customers.put_back(&taken);
        assert_eq!(customers.take(), taken);
        let lost = Sighting {
            number: Number::Lost,
            ..told("GB.2", "")
        };
        customers.written(&taken);
        assert!(customers.learn(&lost, 7, 400), "written at once");
        assert_eq!(customers.number("GB.2"), None);
    }

    /// Goal: a number that the upstream does not tell any more is known as such, at once and after a takeover. Method: events, and
    /// what the store says.
    #[test]
    fn numbers_that_are_only_remembered_are_known_as_such() {
        let customers = Customers::default();
        assert_eq!(customers.memory("447700900456"), Memory::Unknown);
        customers.learn(&told("GB.1", "447700900456"), 7, 1000);
        customers.learn(&told("GB.3", "447700900458"), 7, 1000);
        let old = |number: &str, user_id: &str| Remembered {
            number: number.into(),
            user_id: user_id.into(),
            together_ago_ms: 60_000,
        };
        customers.remembered(vec![
            old("447700900457", "GB.2"),
            old("447700900456", "GB.1"),
            old("447700900458", "GB.4"),
        ]);
        assert_eq!(customers.memory("447700900456"), Memory::Plain);
        assert_eq!(customers.memory("447700900458"), Memory::Plain);
        let of = |number: &str| match customers.memory(number) {
            Memory::Remembered(user_id, ago) => (user_id, ago.as_secs()),
            other @ (Memory::Plain | Memory::Unknown) => panic!("{other:?}"),
        };
        assert_eq!(of("447700900457"), ("GB.2".to_owned(), 60));
        let hidden = Sighting {
            number: Number::Hidden,
            ..told("GB.1", "")
        };
        customers.learn(&hidden, 7, 31_000);
        assert_eq!(of("447700900456"), ("GB.1".to_owned(), 30));
        customers.learn(&told("GB.1", "447700900456"), 7, 32_000);
        assert_eq!(customers.memory("447700900456"), Memory::Plain);
    }

    #[test]
    fn what_the_store_says_is_known_and_has_a_bound() {
        let customers = Customers::default();
        let found = Customer {
            user_id: "GB.1".into(),
            known: Known::default().after(&told("GB.1", "447700900456"), 5),
            recipient_hash: 9,
        };
        let asked = ["GB.1", "GB.2"];
        assert_eq!(customers.unknown(asked.into_iter()), asked);
        customers.read(
            asked.into_iter(),
            HashMap::from([("GB.1".to_owned(), found)]),
        );
        assert!(customers.unknown(asked.into_iter()).is_empty());
        assert_eq!(customers.number("GB.1").as_deref(), Some("447700900456"));
        customers.learn(&told("GB.1", "447700900456"), 9, 6);
        assert!(customers.take().is_empty(), "the store has it");
        for n in 0..LEN_MAX {
            customers.learn(&told(&format!("GB.9{n}"), &format!("{n:0>9}")), 1, 7);
        }
        assert_eq!(customers.number("GB.1"), None);
        let state = customers.state();
        assert_eq!(
            (state.known.len(), state.waiting.len()),
            (LEN_MAX, WAITING_MAX)
        );
        assert!(state.living.len() <= LEN_MAX);
    }
}
