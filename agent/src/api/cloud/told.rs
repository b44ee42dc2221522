//! What the business is told of a message of ours: statuses in order, none twice, none too late; and the column `told` of its row,
//! which says what was told and keeps what a late status said beside its word. Pure.
//! Judges no pair of statuses itself: `wa_core::told` does.

use std::collections::HashMap;

use serde_json::{Map, Value};
use wa_core::message::MessageState;
use wa_core::told::{Heard, Told, Verdict, judge};

use super::event::{Event, Status, Word};

/// Longest text of the column, in bytes.
const COLUMN_LEN_MAX: usize = 512;
/// In front of what was told one by one.
const EACH: char = '+';
/// What a late status hands on.
const KEPT: [&str; 2] = ["conversation", "pricing"];

/// Which statuses the business wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wants {
    pub sent: bool,
    pub delivered: bool,
    pub read: bool,
    /// A status that comes behind a higher one, too.
    pub late: bool,
}

impl Wants {
    fn has(self, heard: Heard) -> bool {
        match heard {
            Heard::Sent => self.sent,
            Heard::Delivered => self.delivered,
            Heard::Read => self.read,
            Heard::Failed => true,
        }
    }
}

/// What was told of a message, as its row has it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Row {
    pub told: Told,
    /// The highest that was heard, told or not: where the row's state is higher, a release that writes no such column told it.
    heard: Told,
    /// From statuses that came too late to be told: it goes with the next one.
    kept: Map<String, Value>,
    /// What was told one by one, where late statuses are told, too.
    each: Vec<Told>,
}

impl Row {
    /// Of a message of which this was told, and nothing is kept.
    pub fn of(told: Told) -> Self {
        Self {
            told,
            heard: told,
            ..Self::default()
        }
    }

    /// What the row of a message says of which the business is told that it failed.
    pub fn failed() -> Self {
        Self::of(Told::Failed)
    }

    /// Reads the column: the letter of what was told, that of what was heard where it is higher, then what is kept, or behind a
    /// plus sign what was told one by one, which the release before this one passes over. What this release does not understand was
    /// told by none: at worst something is told twice.
    pub fn read(text: &str) -> Self {
        let mut letters = text.chars();
        let told = letters.next().and_then(of_letter).unwrap_or_default();
        let mut rest = letters.clone();
        let heard = match rest.next().and_then(of_letter) {
            Some(heard) => {
                letters = rest;
                heard
            }
            None => told,
        };
        let rest = letters.as_str();
        let each = rest.strip_prefix(EACH).unwrap_or_default().chars();
        Self {
            told,
            heard,
            kept: serde_json::from_str(rest).unwrap_or_default(),
            each: each.filter_map(of_letter).collect(),
        }
    }

    /// Reads the column beside the state of its row. An earlier release moves the state, tells, and writes no column.
    pub fn beside(text: &str, state: Option<MessageState>) -> Self {
        let mut row = Self::read(text);
        let moved = match state {
            Some(MessageState::Delivered) => Told::Delivered,
            Some(MessageState::Read) => Told::Read,
            Some(MessageState::Failed) => Told::Failed,
            Some(
                MessageState::Queued
                | MessageState::Sending
                | MessageState::Ambiguous
                | MessageState::Sent,
            )
            | None => Told::Nothing,
        };
        if moved.rank() > row.heard.rank() {
            row.told = row.told.higher(moved);
            row.heard = moved;
        }
        row
    }

    /// A status came that nobody is told of.
    pub fn note(&mut self, word: &Word) {
        if let Some(heard) = word.heard() {
            self.heard = self.heard.higher(heard.told());
        }
    }

    /// The column; empty only where nothing was heard. What is kept is left out where it is too long.
    pub fn text(&self) -> String {
        if self.heard == Told::Nothing && self.kept.is_empty() {
            return String::new();
        }
        let mut text = letter(self.told).to_string();
        if self.heard != self.told {
            text.push(letter(self.heard));
        }
        if !self.kept.is_empty() {
            let kept = serde_json::to_string(&self.kept).expect("plain data is JSON");
            if text.len() + kept.len() <= COLUMN_LEN_MAX {
                text.push_str(&kept);
            }
        } else if !self.each.is_empty() {
            text.push(EACH);
            text.extend(self.each.iter().map(|told| letter(*told)));
        }
        text
    }

    /// It is told now; where late ones are told, it is remembered. False: it was told before.
    fn first(&mut self, told: Told, wants: Wants) -> bool {
        let first = !self.each.contains(&told);
        if wants.late && first {
            self.each.push(told);
        }
        first
    }

    fn keep(&mut self, mut status: Status) {
        for name in KEPT {
            if let Some(value) = status.more.remove(name) {
                self.kept.insert(name.to_owned(), value);
            }
        }
    }

    fn hand_on(&mut self, status: &mut Status) {
        for (name, value) in std::mem::take(&mut self.kept) {
            status.more.entry(name).or_insert(value);
        }
    }
}

fn of_letter(letter: char) -> Option<Told> {
    match letter {
        '-' => Some(Told::Nothing),
        's' => Some(Told::Sent),
        'f' => Some(Told::Failed),
        'd' => Some(Told::Delivered),
        'r' => Some(Told::Read),
        _ => None,
    }
}

fn letter(told: Told) -> char {
    match told {
        Told::Nothing => '-',
        Told::Sent => 's',
        Told::Failed => 'f',
        Told::Delivered => 'd',
        Told::Read => 'r',
    }
}

/// What became of a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Became {
    Told,
    /// The business does not want to hear of it.
    Unwanted,
    /// It was told before.
    Again,
    Late,
    /// A failure of what arrived.
    Contradicts,
}

impl Word {
    /// What it says of the message, if it moves it.
    pub fn heard(&self) -> Option<Heard> {
        match self {
            Self::Sent => Some(Heard::Sent),
            Self::Delivered => Some(Heard::Delivered),
            Self::Read => Some(Heard::Read),
            Self::Failed => Some(Heard::Failed),
            Self::Other(_) => None,
        }
    }
}

/// What is told of a status, in order, after what its message's row says; the row is what it is after that. Without a row nothing
/// is known of what was told: it is told as it comes, and nothing before it.
pub fn hear(row: Option<&mut Row>, mut status: Status, wants: Wants) -> (Vec<Status>, Became) {
    let Some(heard) = status.word.heard() else {
        // The reference client knows no such word: a voice message was played.
        return match &status.word {
            Word::Other(Some(word)) if word == "played" => (Vec::new(), Became::Unwanted),
            Word::Other(_) | Word::Sent | Word::Delivered | Word::Read | Word::Failed => {
                (vec![status], Became::Told)
            }
        };
    };
    let Some(row) = row else {
        return match wants.has(heard) {
            true => (vec![status], Became::Told),
            false => (Vec::new(), Became::Unwanted),
        };
    };
    row.note(&status.word);
    match judge(row.told, heard) {
        Verdict::Again => return (Vec::new(), Became::Again),
        Verdict::Contradicts => return (Vec::new(), Became::Contradicts),
        Verdict::Late if wants.late && wants.has(heard) => {
            return match row.first(heard.told(), wants) {
                true => (vec![status], Became::Told),
                false => (Vec::new(), Became::Again),
            };
        }
        Verdict::Late => {
            row.keep(status);
            return (Vec::new(), Became::Late);
        }
        Verdict::Tell => {}
    }
    let mut told = Vec::new();
    // The upstream leaves it out where a message is read at once.
    if heard == Heard::Read && wants.delivered && !row.told.arrived() {
        let mut delivered = status.clone();
        delivered.word = Word::Delivered;
        KEPT.iter()
            .for_each(|name| drop(delivered.more.remove(*name)));
        row.hand_on(&mut delivered);
        told.push(delivered);
        row.told = Told::Delivered;
        row.first(Told::Delivered, wants);
    }
    if wants.has(heard) {
        row.hand_on(&mut status);
        told.push(status);
        row.told = heard.told();
        row.first(heard.told(), wants);
    }
    let became = match told.is_empty() {
        true => Became::Unwanted,
        false => Became::Told,
    };
    (told, became)
}

/// The order in which events that came together are told: those that move one message by their rank, on the places that they
/// have. A failure keeps its place, and parts those before it from those behind it.
pub fn order(events: &[Option<Event>]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..events.len()).collect();
    let mut runs: HashMap<&str, Vec<(u8, usize)>> = HashMap::new();
    let mut done = Vec::new();
    for (at, event) in events.iter().enumerate() {
        let Some(Event::Status(status)) = event else {
            continue;
        };
        let (Some(ours), Some(heard)) = (status.ours.as_deref(), status.word.heard()) else {
            continue;
        };
        match heard.rank() {
            Some(rank) => runs.entry(ours).or_default().push((rank, at)),
            None => done.extend(runs.remove(ours)),
        }
    }
    done.extend(runs.into_values());
    for run in done.into_iter().filter(|run| run.len() > 1) {
        let places: Vec<usize> = run.iter().map(|(_, at)| *at).collect();
        let mut sorted = run;
        sorted.sort_by_key(|(rank, _)| *rank);
        for (place, (_, at)) in places.into_iter().zip(sorted) {
            order[place] = at;
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::cloud::event::Raw;

    const ALL: Wants = Wants {
        sent: true,
        delivered: true,
        read: true,
        late: false,
    };

    fn status(word: &str, more: Value) -> Status {
        let mut status = json!({"id": "wamid.A", "status": word, "recipient_id": "447700900456",
            "biz_opaque_callback_data": "gBEGkYaYVSEEAgnZxQ3JmKK6Ww.00000007"});
        let Value::Object(more) = more else {
            panic!("an object");
        };
        status.as_object_mut().expect("an object").extend(more);
        match Event::of(Raw::Status(status)) {
            Event::Status(status) => status,
            Event::Message(_) | Event::Error(_) | Event::Account { .. } | Event::Unread { .. } => {
                panic!("a status")
            }
        }
    }

    /// What is told of statuses that come one by one, each over the column.
    fn told(wants: Wants, words: &[&str]) -> (Vec<String>, Vec<Became>) {
        let mut column = String::new();
        let (mut told, mut all) = (Vec::new(), Vec::new());
        for word in words {
            let mut row = Row::read(&column);
            let (some, became) = hear(Some(&mut row), status(word, json!({})), wants);
            told.extend(some.into_iter().filter_map(|status| status.word.text()));
            all.push(became);
            column = row.text();
        }
        (told, all)
    }

    /// Goal: what is told is what the facts say, whatever comes in which order. Method: the upstream's known habits.
    #[test]
    fn statuses_are_told_forward() {
        let words = |words: &[&str]| told(ALL, words).0;
        assert_eq!(
            words(&["sent", "delivered", "read"]),
            ["sent", "delivered", "read"]
        );
        assert_eq!(words(&["read", "delivered", "sent"]), ["delivered", "read"]);
        assert_eq!(
            words(&["sent", "sent", "read", "read"]),
            ["sent", "delivered", "read"]
        );
        assert_eq!(words(&["failed", "delivered"]), ["failed", "delivered"]);
        assert_eq!(
            words(&["failed", "failed", "sent", "read"]),
            ["failed", "delivered", "read"]
        );
        assert_eq!(words(&["delivered", "failed", "played"]), ["delivered"]);
        assert_eq!(words(&["warning"]), ["warning"]);
        let became = told(ALL, &["read", "sent", "failed", "read"]).1;
        let wanted = [
            Became::Told,
            Became::Late,
            Became::Contradicts,
            Became::Again,
        ];
        assert_eq!(became, wanted);
    }

    #[test]
    fn only_what_is_wanted_is_told() {
        let usual = Wants { sent: false, ..ALL };
        assert_eq!(
            told(usual, &["sent", "delivered"]),
            (
                vec!["delivered".to_owned()],
                vec![Became::Unwanted, Became::Told]
            )
        );
        let only_delivered = Wants {
            read: false,
            ..usual
        };
        assert_eq!(
            told(only_delivered, &["sent", "read", "delivered"]).0,
            ["delivered"]
        );
        let only_read = Wants {
            delivered: false,
            ..usual
        };
        assert_eq!(told(only_read, &["read", "delivered"]).0, ["read"]);
        let late = Wants { late: true, ..ALL };
        let twice = ["read", "sent", "delivered", "sent", "read"];
        assert_eq!(told(late, &twice).0, ["delivered", "read", "sent"]);
        assert_eq!(
            told(late, &["failed", "sent", "sent", "delivered"]).0,
            ["failed", "sent", "delivered"]
        );
        // What is kept matters more than that nothing is told twice.
        let mut row = Row::read("r+drs");
        assert_eq!(row.text(), "r+drs");
        row.kept.insert("pricing".into(), json!({}));
        assert_eq!(row.text(), r#"r{"pricing":{}}"#);
    }

    /// Goal: what a late status says of prices is not lost, over the column. Method: it goes with the next one that has none.
    #[test]
    fn prices_go_with_the_next() {
        let mut row = Row::read("d");
        let pricing = json!({"billable": true, "pricing_model": "PMP"});
        let late = status("sent", json!({"pricing": pricing, "x": 1}));
        assert_eq!(hear(Some(&mut row), late, ALL), (Vec::new(), Became::Late));
        let mut row = Row::read(&row.text());
        let (told, _) = hear(Some(&mut row), status("read", json!({})), ALL);
        assert_eq!(told[0].more.get("pricing"), Some(&pricing));
        assert_eq!((told.len(), row.text().as_str()), (1, "r"));
        let mut long = Row::read("r");
        let conversation = json!({"id": "x".repeat(600)});
        hear(
            Some(&mut long),
            status("sent", json!({"conversation": conversation})),
            ALL,
        );
        assert_eq!(long.text(), "r");
        assert_eq!(Row::read("z{").told, Told::Nothing);
        assert_eq!(Row::read("sd{}").text(), "sd");
        assert_eq!(Row::default().text(), "");
    }

    /// Goal: what nobody wanted to hear is not taken for told, and what an earlier release told is not told again. Method: columns
    /// beside the states of their rows.
    #[test]
    fn the_state_counts_where_an_earlier_release_moved_it() {
        let only_sent = Wants {
            delivered: false,
            read: false,
            ..ALL
        };
        let mut row = Row::beside("", Some(MessageState::Sent));
        hear(Some(&mut row), status("delivered", json!({})), only_sent);
        assert_eq!(row.text(), "-d");
        // Nothing was told: the late one is.
        let mut row = Row::beside(&row.text(), Some(MessageState::Delivered));
        let (told, _) = hear(Some(&mut row), status("sent", json!({})), only_sent);
        assert_eq!((told.len(), row.text().as_str()), (1, "sd"));
        // An earlier release told it, over an empty column and over ours.
        for column in ["", "s", "-"] {
            let mut row = Row::beside(column, Some(MessageState::Delivered));
            let (told, _) = hear(Some(&mut row), status("read", json!({})), ALL);
            let words: Vec<_> = told.into_iter().map(|one| one.word).collect();
            assert_eq!(words, [Word::Read], "{column:?}");
        }
        // Nobody was told while there was no URL.
        let mut row = Row::beside("", Some(MessageState::Sent));
        row.note(&Word::Delivered);
        assert_eq!(
            Row::beside(&row.text(), Some(MessageState::Delivered)).told,
            Told::Nothing
        );
    }

    /// Goal: of a message that is not kept nothing is invented. Method: `read` without a row.
    #[test]
    fn without_a_row_a_status_is_told_as_it_comes() {
        let (told, became) = hear(None, status("read", json!({})), ALL);
        assert_eq!((told.len(), became), (1, Became::Told));
        let none = Wants { read: false, ..ALL };
        let (told, became) = hear(None, status("read", json!({})), none);
        assert_eq!((told.len(), became), (0, Became::Unwanted));
    }

    /// Goal: statuses that come together go out by rank, and nobody else's place changes. Method: two messages and a text among
    /// each other; a failure in the middle.
    #[test]
    fn a_batch_goes_out_by_rank() {
        let of = |id: &str, word: &str| {
            let mut status = status(word, json!({}));
            status.ours = Some(id.into());
            Some(Event::Status(status))
        };
        let events = [
            of("a", "read"),
            of("b", "delivered"),
            None,
            of("a", "sent"),
            of("b", "sent"),
            of("a", "delivered"),
        ];
        assert_eq!(order(&events), [3, 4, 2, 5, 1, 0]);
        let parted = [
            of("a", "read"),
            of("a", "delivered"),
            of("a", "failed"),
            of("a", "sent"),
        ];
        assert_eq!(order(&parted), [1, 0, 2, 3]);
    }
}
