//! Who is who, as this tenure has learned it: numbers of user ids, at once, and kept until `customer_writer.rs` has them in the
//! store. Keeps no promise: what is lost here with the process, the next webhook of the customer teaches again, but for numbers
//! that changed, which are written before anything else is done with them (`resolve.rs`).

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use wa_core::shard_map::recipient_hash as hash_of;
use wa_core::time::Instant;

use crate::api::cloud::customer::{Known, Number, Sighting};
use crate::db::customer::{Customer, Remembered};
use crate::sys::clock;

/// Customers that are remembered, and of those how many may wait to be written.
const LEN_MAX: usize = 32_768;
const WAITING_MAX: usize = 8192;
/// Numbers that are only remembered; of more than these the store is asked one by one.
pub const REMEMBERED_MAX: usize = 50_000;
/// What the store says of a customer is asked for again after so long: another owner may have learned more.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(10);
/// Customers in one statement.
const WRITE_LEN_MAX: usize = 256;

#[derive(Debug, Clone)]
struct Entry {
    known: Known,
    recipient_hash: u32,
    /// What the store has; `None`: that was not looked at.
    written: Option<Known>,
    /// When this tenure itself saw the number told or lost last, in ms since 1970 by the store's clock; 0: it did not.
    own_ms: u64,
    /// When the store was looked at, or would have been.
    read_at: Instant,
    /// It cannot go the way of its number yet: it is tried again with its next event.
    parted: bool,
}

/// What became of a customer that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// As the row has it.
    pub known: Known,
    /// It could not go the way of its number yet.
    pub parted: bool,
}

/// A customer that waits to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    pub customer: Customer,
    written: Option<Known>,
    own_ms: u64,
}

impl Waiting {
    /// As it is written beside this row.
    pub fn beside(&self, row: &Known) -> Known {
        let known = &self.customer.known;
        known.beside(row, self.written.as_ref(), self.own_ms)
    }
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
    /// User ids whose numbers changed: they go first, and nothing is done with their events until they are in the store.
    urgent: BTreeSet<String>,
    /// Events of the last batch: those that wait for their files come again.
    learned: HashSet<String>,
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
    /// Held from taking until it is written: whoever must not go on before that does not overtake whoever writes.
    pub writing: tokio::sync::Mutex<()>,
}

impl State {
    fn put(&mut self, user_id: &str, entry: Entry) {
        let number = entry.known.wa_id.clone();
        let (both_ms, seen_ms) = (entry.known.both_ms, entry.known.seen_ms);
        if self.known.insert(user_id.to_owned(), entry).is_none() {
            self.order.push_back(user_id.to_owned());
        }
        if let Some(number) = number {
            self.live(number, user_id, (both_ms, seen_ms));
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

    /// A number has one living user id: the one that was told with it last.
    fn live(&mut self, number: String, user_id: &str, (both_ms, seen_ms): (u64, u64)) {
        let holder = self.living.get(&number).filter(|holder| *holder != user_id);
        let holder = holder.and_then(|holder| Some((holder, self.known.get(holder)?)));
        let newer = holder.filter(|(_, entry)| entry.known.both_ms > both_ms);
        let keeps = newer.is_some();
        let (loser, at_ms) = match (newer, holder) {
            (Some((_, entry)), _) => (Some(user_id.to_owned()), entry.known.both_ms),
            (None, holder) => (holder.map(|(holder, _)| holder.clone()), seen_ms),
        };
        if !keeps {
            self.living.insert(number, user_id.to_owned());
        }
        if let Some(entry) = loser.and_then(|loser| self.known.get_mut(&loser)) {
            entry.known = entry.known.taken(at_ms);
            entry.own_ms = entry.own_ms.max(at_ms);
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

    /// What the store taught of a customer.
    fn renew(&mut self, user_id: &str, known: Known, now: Instant) {
        let Some(entry) = self.known.get(user_id) else {
            return;
        };
        let before = entry.known.wa_id.clone();
        let entry = Entry {
            known,
            ..entry.clone()
        };
        self.remember(user_id, before.as_deref(), &entry.known, now);
        self.put(user_id, entry);
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

    /// Those that the store must be asked for, or asked once more.
    pub fn unknown<'a>(&self, user_ids: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
        let now = clock::now();
        let state = self.state();
        let fresh = |entry: &Entry| now.since(entry.read_at) < READ_AGAIN_AFTER;
        user_ids
            .filter(|id| !state.known.get(*id).is_some_and(fresh))
            .collect()
    }

    /// A batch of events comes: those of the last one that are not in it are not remembered.
    pub fn begin<'a>(&self, keys: impl Iterator<Item = &'a str>) {
        let batch: HashSet<&str> = keys.collect();
        let mut state = self.state();
        state.learned.retain(|key| batch.contains(key.as_str()));
    }

    /// Nothing was learned of this event before. One that waits for its file teaches nothing when it comes again.
    pub fn first_time(&self, key: &str) -> bool {
        self.state().learned.insert(key.to_owned())
    }

    /// A number changed, and is not in the store yet.
    pub fn urgent(&self) -> bool {
        !self.state().urgent.is_empty()
    }

    /// What the store says of user ids; those that it does not know are known to be unknown, for a while.
    pub fn read<'a>(
        &self,
        asked: impl Iterator<Item = &'a str>,
        mut found: HashMap<String, Customer>,
    ) {
        let now = clock::now();
        let mut state = self.state();
        for user_id in asked {
            let found = found.remove(user_id);
            let row = found.as_ref().map(|customer| customer.known.clone());
            let Some(entry) = state.known.get_mut(user_id) else {
                let entry = Entry {
                    known: row.clone().unwrap_or_default(),
                    recipient_hash: found.map_or(0, |customer| customer.recipient_hash),
                    written: row,
                    own_ms: 0,
                    read_at: now,
                    parted: false,
                };
                state.put(user_id, entry);
                continue;
            };
            entry.read_at = now;
            if let Some(row) = row {
                let known = entry
                    .known
                    .beside(&row, entry.written.as_ref(), entry.own_ms);
                entry.written = Some(row);
                state.renew(user_id, known, now);
            }
        }
    }

    /// The number of a user id.
    pub fn number(&self, user_id: &str) -> Option<String> {
        self.state().known.get(user_id)?.known.wa_id.clone()
    }

    /// The upstream told this number, which is a customer's.
    pub fn lives(&self, number: &str) -> bool {
        self.state().living.contains_key(number)
    }

    /// One more event of a customer, who has this hash. True: the store must hear of it before the event is worked off.
    pub fn learn(&self, sighting: &Sighting, recipient_hash: u32, at_ms: u64) -> bool {
        let now = clock::now();
        let mut state = self.state();
        let user_id = sighting.user_id.as_str();
        // An event that named nobody went the way of an empty name, which is no customer's.
        let recipient_hash = match recipient_hash == hash_of("") {
            true => hash_of(user_id),
            false => recipient_hash,
        };
        let before = state.known.get(user_id).cloned();
        let before = before.unwrap_or_else(|| Entry {
            known: Known::default(),
            recipient_hash,
            written: None,
            own_ms: 0,
            read_at: now,
            parted: false,
        });
        // By the user id it comes until it goes the way of its number.
        let own_way = recipient_hash == hash_of(user_id) && before.recipient_hash != 0;
        let recipient_hash = match own_way {
            true => before.recipient_hash,
            false => recipient_hash,
        };
        let own = at_ms >= before.known.seen_ms && sighting.number != Number::Hidden;
        let known = before.known.after(sighting, at_ms);
        let before_number = before.known.wa_id.clone();
        let written = before.written.clone().unwrap_or_default();
        let differs = known.differs(&written)
            || (before.written.is_none() && known.seen_ms > 0)
            || before.parted;
        let entry = Entry {
            known,
            recipient_hash,
            written: before.written,
            own_ms: if own { at_ms } else { before.own_ms },
            read_at: before.read_at,
            parted: before.parted,
        };
        state.remember(user_id, before_number.as_deref(), &entry.known, now);
        state.put(user_id, entry);
        let lost = differs && sighting.number == Number::Lost;
        if lost {
            state.urgent.insert(user_id.to_owned());
        }
        if lost || (differs && state.wait(user_id)) {
            self.wanted.notify_one();
        }
        lost
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

    /// No number at all is only remembered.
    pub fn none_remembered(&self) -> bool {
        let state = self.state();
        state.whole && state.remembered.is_empty()
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

    /// What waits to be written, as much as one statement takes, numbers that changed first. Whoever takes holds `writing`.
    pub fn take(&self) -> Vec<Waiting> {
        let mut state = self.state();
        let mut ids: Vec<String> = state.urgent.iter().take(WRITE_LEN_MAX).cloned().collect();
        let some = state.waiting.len().min(WRITE_LEN_MAX - ids.len());
        let others: Vec<String> = state.waiting.drain(..some).collect();
        for user_id in others {
            state.waits.remove(&user_id);
            if !state.urgent.contains(&user_id) {
                ids.push(user_id);
            }
        }
        let mut taken = Vec::with_capacity(ids.len());
        for user_id in ids {
            let Some(entry) = state.known.get(&user_id).cloned() else {
                state.urgent.remove(&user_id);
                continue;
            };
            let customer = Customer {
                known: entry.known,
                recipient_hash: entry.recipient_hash,
                user_id,
            };
            taken.push(Waiting {
                customer,
                written: entry.written,
                own_ms: entry.own_ms,
            });
        }
        taken
    }

    /// They are in the store: what became of each, in the same order.
    pub fn written(&self, taken: &[Waiting], done: &[Done]) {
        let now = clock::now();
        let mut state = self.state();
        for (taken, done) in taken.iter().zip(done) {
            let user_id = &taken.customer.user_id;
            let Some(entry) = state.known.get_mut(user_id) else {
                state.urgent.remove(user_id);
                continue;
            };
            entry.written = Some(done.known.clone());
            entry.parted = done.parted;
            // What was learned meanwhile waits by itself.
            if entry.known == taken.customer.known {
                state.urgent.remove(user_id);
                state.renew(user_id, done.known.clone(), now);
            }
        }
    }

    /// They were not written.
    pub fn put_back(&self, taken: &[Waiting]) {
        let mut state = self.state();
        for taken in taken {
            let user_id = &taken.customer.user_id;
            if !state.urgent.contains(user_id) {
                state.wait(user_id);
            }
        }
    }
}

#[cfg(test)]
#[path = "customers_tests.rs"]
mod tests;
