//! Whether messages may go to the upstream at all. They are kept while it refuses the account, or answers nothing that can be
//! understood; it is asked after the number now and then, and what waits goes on by itself.
//! Sends nothing and asks nobody: `coreapp/hold.rs` carries the actions out.
//!
//! A question costs nothing, a message of unknown fate does: so a question comes first, then one message, then all at half
//! pace until nothing waits. Payment holds messages of its own sort only, and no question about it exists: one message of
//! the sort is tried after each pause.

use std::collections::BTreeMap;

use crate::guard::{Guard, on};
use crate::outcome::{Account, Outcome, Probe};
use crate::time::{Duration, Instant};

/// How long is waited between questions, and after how many unknown outcomes in a row they are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Config {
    /// The first pause; it doubles.
    pub first: Duration,
    pub longest: Duration,
    /// The same for messages of one sort, held for payment.
    pub payment_first: Duration,
    pub payment_longest: Duration,
    /// Sends of unknown outcome in a row, without any other answer between them.
    pub unknown_max: u32,
    /// A question without an answer is asked again after so long.
    pub asked_for: Duration,
}

impl Default for Config {
    fn default() -> Self {
        let s = Duration::from_secs;
        Self {
            first: s(5),
            longest: s(60),
            payment_first: s(60),
            payment_longest: s(900),
            unknown_max: 8,
            asked_for: s(30),
        }
    }
}

/// Why messages are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Why {
    Account(Account),
    /// Its answers say nothing.
    Trouble,
}

impl Why {
    /// All of them, with the words that nodes say to each other.
    pub const ALL: &[(Self, &str)] = &[
        (Self::Account(Account::Token), "token"),
        (Self::Account(Account::Denied), "denied"),
        (Self::Account(Account::Locked), "locked"),
        (Self::Account(Account::Unregistered), "unregistered"),
        (Self::Account(Account::Suspected), "permission"),
        (Self::Account(Account::Payment), "payment"),
        (Self::Trouble, "trouble"),
    ];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        let found = Self::ALL.iter().find(|(why, _)| *why == self);
        found.map_or("", |(_, word)| word)
    }

    /// What a word stands for; `None`: a newer release's.
    pub fn of(word: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(_, known)| *known == word);
        found.map(|(why, _)| *why)
    }

    /// It holds messages of one sort only.
    pub fn partly(self) -> bool {
        self == Self::Account(Account::Payment)
    }

    /// What is wrong, as one sentence without its end.
    pub fn says(self) -> &'static str {
        match self {
            Self::Account(Account::Token) => "WhatsApp refuses the access token",
            Self::Account(Account::Denied) => "WhatsApp refuses this app access to the number",
            Self::Account(Account::Locked) => "WhatsApp has locked the business account",
            Self::Account(Account::Unregistered) => "the number is not registered at WhatsApp",
            Self::Account(Account::Suspected) => {
                "WhatsApp lacks a permission of this app, or does not know the number"
            }
            Self::Account(Account::Payment) => {
                "WhatsApp takes messages of one kind only after payment"
            }
            Self::Trouble => "WhatsApp's answers to messages cannot be understood",
        }
    }

    /// What a person does about it. `unit`: the coreapp's.
    pub fn remedy(self, unit: &str) -> String {
        match self {
            Self::Account(Account::Token) => format!(
                "Write a valid token into the file of [upstream] token_file, and type: systemctl reload {unit}"
            ),
            Self::Account(Account::Denied | Account::Suspected) => format!(
                "Give the app the permission whatsapp_business_messaging for this number in the business manager, check [upstream] \
                 phone_number_id; after a new token type: systemctl reload {unit}"
            ),
            Self::Account(Account::Locked) => {
                "Look into the business manager: it says why, and how to appeal".into()
            }
            Self::Account(Account::Unregistered) => "Register it: POST /v1/account".into(),
            Self::Account(Account::Payment) => {
                "Add or correct the payment method of the account in the business manager".into()
            }
            Self::Trouble => format!(
                "Look for a proxy in between, and at WhatsApp's own status page: journalctl -u {unit}"
            ),
        }
    }
}

/// Messages that payment tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Sort {
    Template,
    Other,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// An attempt with a message of this sort came to this.
    Came(Sort, Outcome),
    /// The answer to a question.
    Probed(Probe),
    /// There is a new token, or the number was registered just now: it is asked at once.
    Nudged,
    /// Nothing waits in the store.
    Drained,
    /// The deadline has come.
    Time,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Ask after the number: the answer is [`Event::Probed`].
    Probe,
    /// Say that messages are held.
    Tell(Why),
    /// Say that they go on.
    TellAgain(Why),
}

/// How fast messages may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pace {
    None,
    /// One, and no second before its outcome is known.
    One,
    Half,
    Full,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
enum State {
    #[default]
    Open,
    Held {
        why: Why,
        since: Instant,
        /// Questions and messages that were refused in a row.
        tries: u32,
        next: Instant,
    },
    /// The question was answered well: one message shows.
    Trial {
        why: Why,
        since: Instant,
        tries: u32,
    },
    /// What waited goes first, at half pace.
    Draining,
}

/// A sort of messages that is held for payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Unpaid {
    since: Instant,
    tries: u32,
    /// One message may go then.
    next: Instant,
    /// It went, and its outcome is not known.
    tried: bool,
}

/// What holds the messages of one tenure, if anything does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Hold {
    config: Config,
    state: State,
    /// Unknown outcomes in a row.
    unknown: u32,
    unpaid: [Option<Unpaid>; 2],
    /// Messages that were taken.
    taken: u64,
    /// Messages that were refused for the account: how many had been taken then, and how often others were taken in between.
    refused: BTreeMap<String, (u64, u32)>,
}

/// Messages that are remembered as refused for the account.
const REFUSED_MAX: usize = 4096;
/// A message that is refused for the account so often, while others are taken in between, is refused itself.
const OWN_AFTER: u32 = 3;

fn grown(first: Duration, tries: u32, longest: Duration) -> Duration {
    crate::backoff::exponential(first, tries, longest, 0)
}

impl Hold {
    /// Holds nothing yet.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            ..Self::default()
        }
    }

    /// Takes note of an event.
    pub fn step(&mut self, now: Instant, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::Came(sort, Outcome::Account(Account::Payment)) => {
                self.not_paid(now, sort, actions);
                self.answered(actions);
            }
            Event::Came(_, Outcome::Account(account)) => {
                self.unknown = 0;
                if on(Guard::RefusedAccountHolds) {
                    self.hold(now, Why::Account(account), actions);
                }
            }
            Event::Came(_, Outcome::Unknown) => {
                self.unknown = self.unknown.saturating_add(1);
                let trial = matches!(self.state, State::Trial { .. });
                if trial || self.unknown >= self.config.unknown_max {
                    self.hold(now, Why::Trouble, actions);
                }
            }
            Event::Came(sort, Outcome::Sent) => {
                self.taken += 1;
                if self.unpaid[sort as usize].take().is_some() {
                    actions.push(Action::TellAgain(Why::Account(Account::Payment)));
                }
                self.answered(actions);
            }
            // The message was judged, so that the account is none to refuse.
            Event::Came(_, Outcome::Rejected(_) | Outcome::WaitLong | Outcome::Failed) => {
                self.answered(actions);
            }
            Event::Probed(probe) => self.probed(now, probe),
            Event::Nudged => self.nudged(now),
            Event::Drained => {
                if self.state == State::Draining {
                    self.state = State::Open;
                }
            }
            Event::Time => {}
        }
        self.ask(now, actions);
    }

    /// This message is refused for the account. True: others were taken in between again and again, so that it is refused itself,
    /// and holds up nobody any more.
    pub fn itself(&mut self, id: &str) -> bool {
        let taken = self.taken;
        if self.refused.len() >= REFUSED_MAX {
            self.refused.clear();
        }
        let (before, times) = self.refused.entry(id.to_owned()).or_insert((taken, 1));
        if *before < taken {
            (*before, *times) = (taken, *times + 1);
        }
        let itself = *times >= OWN_AFTER;
        if itself {
            self.refused.remove(id);
        }
        itself
    }

    /// When it wants to be called with [`Event::Time`].
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Held { next, .. } => Some(next),
            State::Open | State::Trial { .. } | State::Draining => None,
        }
    }

    /// How fast messages may go.
    pub fn pace(&self) -> Pace {
        match self.state {
            State::Open => Pace::Full,
            State::Held { .. } => Pace::None,
            State::Trial { .. } => Pace::One,
            State::Draining => Pace::Half,
        }
    }

    /// Whether a message of this sort may go now; else how long it waits. The first one after a pause may.
    pub fn admit(&mut self, now: Instant, sort: Sort) -> Option<Duration> {
        let config = self.config;
        let unpaid = self.unpaid[sort as usize].as_mut()?;
        if now < unpaid.next {
            return Some(unpaid.next.since(now));
        }
        let pause = grown(config.payment_first, unpaid.tries, config.payment_longest);
        (unpaid.next, unpaid.tried) = (now + pause, true);
        None
    }

    /// The one message that was let go made no call, so that nothing was learned: the next one may go instead.
    pub fn give_back(&mut self, now: Instant, sort: Sort) {
        if let Some(unpaid) = self.unpaid[sort as usize].as_mut()
            && unpaid.tried
        {
            (unpaid.next, unpaid.tried) = (now, false);
        }
    }

    /// Messages of this sort are held for payment.
    pub fn unpaid_sort(&self, sort: Sort) -> bool {
        self.unpaid[sort as usize].is_some()
    }

    /// Messages of some sort are held for payment.
    pub fn unpaid(&self) -> bool {
        self.unpaid.iter().any(Option::is_some)
    }

    /// What holds messages, and since when. Payment last: it holds some of them only.
    pub fn why(&self) -> Option<(Why, Instant)> {
        match self.state {
            State::Held { why, since, .. } | State::Trial { why, since, .. } => Some((why, since)),
            State::Open | State::Draining => {
                let since = self
                    .unpaid
                    .iter()
                    .flatten()
                    .map(|unpaid| unpaid.since)
                    .min();
                since.map(|since| (Why::Account(Account::Payment), since))
            }
        }
    }

    fn not_paid(&mut self, now: Instant, sort: Sort, actions: &mut Vec<Action>) {
        let before = self.unpaid[sort as usize];
        if before.is_none() {
            actions.push(Action::Tell(Why::Account(Account::Payment)));
        }
        // Those that were on their way together are one refusal.
        if before.is_some_and(|before| !before.tried) {
            return;
        }
        let tries = before.map_or(1, |before| before.tries.saturating_add(1));
        let pause = grown(
            self.config.payment_first,
            tries,
            self.config.payment_longest,
        );
        self.unpaid[sort as usize] = Some(Unpaid {
            since: before.map_or(now, |before| before.since),
            tries,
            next: now + pause,
            tried: false,
        });
    }

    /// Messages are held, or still.
    fn hold(&mut self, now: Instant, why: Why, actions: &mut Vec<Action>) {
        let (since, tries) = match self.state {
            // Of those that were on their way, the first one counts.
            State::Held { .. } => return,
            State::Trial {
                why: before,
                since,
                tries,
            } => {
                if before != why {
                    actions.push(Action::Tell(why));
                }
                (since, tries.saturating_add(1))
            }
            State::Open | State::Draining => {
                actions.push(Action::Tell(why));
                (now, 1)
            }
        };
        self.state = State::Held {
            why,
            since,
            tries,
            next: now + grown(self.config.first, tries, self.config.longest),
        };
    }

    /// The upstream judged a message.
    fn answered(&mut self, actions: &mut Vec<Action>) {
        self.unknown = 0;
        if let State::Trial { why, .. } = self.state {
            actions.push(Action::TellAgain(why));
            self.state = State::Draining;
        }
    }

    fn probed(&mut self, now: Instant, probe: Probe) {
        let State::Held {
            why, since, tries, ..
        } = self.state
        else {
            return;
        };
        let why = match probe {
            Probe::Good => {
                self.state = State::Trial { why, since, tries };
                return;
            }
            Probe::Refused(account) => Why::Account(account),
            Probe::Nothing => why,
        };
        let tries = tries.saturating_add(1);
        self.state = State::Held {
            why,
            since,
            tries,
            next: now + grown(self.config.first, tries, self.config.longest),
        };
    }

    fn nudged(&mut self, now: Instant) {
        if let State::Held { next, tries, .. } = &mut self.state {
            (*next, *tries) = (now, 1);
        }
    }

    /// Asks when it is time, and again when nobody answered.
    fn ask(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if let State::Held { next, .. } = &mut self.state
            && now >= *next
        {
            *next = now + self.config.asked_for;
            actions.push(Action::Probe);
        }
    }
}

#[cfg(test)]
#[path = "hold_tests.rs"]
mod tests;
