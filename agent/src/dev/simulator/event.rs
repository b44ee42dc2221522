//! Events that webhooks tell: what each is in JSON, and which statuses a send leads to.
//! Sends nothing: `webhooks.rs` does.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use wa_core::time::Instant;

use super::reader::sent::Recipient;
use super::refusal::Refusal;
use super::script::Story;

/// One event, due at a time.
#[derive(Debug)]
pub struct Outgoing {
    pub due: Instant,
    pub what: What,
}

#[derive(Debug)]
pub enum What {
    /// A status of a send: text comes last, since hundreds of thousands may wait.
    Status { send: Arc<Send>, told: Told },
    /// A customer's message, and who that is.
    Inbound {
        message: Value,
        contact: Option<Value>,
    },
    /// A change of another field.
    Other { field: String, value: Value },
}

/// A send that was taken.
#[derive(Debug)]
pub struct Send {
    pub at: Instant,
    pub at_s: u64,
    pub wamid: String,
    pub to: Recipient,
    /// Our opaque data.
    pub opaque: String,
    /// What its price is called by.
    pub category: &'static str,
    /// See [`Story::Strange`].
    pub strange: bool,
}

/// What a status says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    Sent,
    Delivered,
    Read,
    Played,
    Failed(Refusal),
}

impl Word {
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Delivered => "delivered",
            Self::Read => "read",
            Self::Played => "played",
            Self::Failed(_) => "failed",
        }
    }
}

/// One status of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub word: Word,
    /// It says the price.
    pub priced: bool,
}

/// The statuses of a send, in order.
pub type Plan = Vec<Told>;

fn plan(words: impl IntoIterator<Item = Word>) -> Plan {
    let mut plan: Plan = words
        .into_iter()
        .map(|word| Told {
            priced: word == Word::Sent,
            word,
        })
        .collect();
    // The price stands on one of delivered and read, too.
    let second = |wanted: &Word| plan.iter().position(|told| told.word == *wanted);
    if let Some(at) = second(&Word::Delivered).or_else(|| second(&Word::Read)) {
        plan[at].priced = true;
    }
    plan
}

/// What all messages get. A reaction is never delivered or read.
pub fn usual(reaction: bool) -> Plan {
    match reaction {
        true => plan([Word::Sent]),
        false => plan([Word::Sent, Word::Delivered, Word::Read]),
    }
}

pub fn failed(refusal: Refusal) -> Plan {
    plan([Word::Failed(refusal)])
}

/// What the messages of a recipient with a story get.
pub fn of_story(story: Story) -> Plan {
    let late = || Word::Failed(Refusal::new(131_026, "Message undeliverable"));
    let usual = [Word::Sent, Word::Delivered, Word::Read];
    match story {
        Story::Silent => Plan::new(),
        Story::SentOnly => plan([Word::Sent]),
        Story::NeverDelivered => plan([Word::Sent, Word::Read]),
        Story::Backwards => plan([Word::Read, Word::Delivered, Word::Sent]),
        Story::Twice => plan(usual.into_iter().flat_map(|word| [word.clone(), word])),
        Story::Strange | Story::BeforeAnswer => plan(usual),
        Story::Played => plan(usual.into_iter().chain([Word::Played])),
        Story::DeliveredAfterFailed => plan([late(), Word::Delivered]),
        Story::FailedAfterDelivered => plan([Word::Sent, Word::Delivered, late()]),
    }
}

/// The user id of whoever has a number: sixteen digits.
pub fn user_id(digits: &str) -> String {
    format!("GB.1{digits:0>15}")
}

impl Send {
    /// Our id of the message.
    pub fn ours(&self) -> &str {
        self.opaque.split('.').next().unwrap_or_default()
    }

    /// How the recipient is called in webhooks: number and user id, as far as they are told.
    fn names(&self) -> (Option<String>, Option<String>) {
        match &self.to {
            Recipient::Number { digits, .. } => {
                let user = user_id(digits);
                match digits.split_at_checked(4).filter(|_| self.strange) {
                    Some((country, rest)) => (Some(format!("{country}9{rest}")), Some(user)),
                    None => (Some(digits.clone()), Some(user)),
                }
            }
            Recipient::User(id) => (None, Some(id.clone())),
            Recipient::Group(id) => (Some(id.clone()), None),
            Recipient::Nobody { digits, .. } => (Some(digits.clone()), None),
        }
    }

    fn json(&self, told: &Told) -> Value {
        let mut status = Map::new();
        let mut put = |name: &str, value: Value| drop(status.insert(name.into(), value));
        put("id", self.wamid.as_str().into());
        put("status", told.word.as_str().into());
        put("timestamp", self.at_s.to_string().into());
        let failed = matches!(told.word, Word::Failed(_));
        let (number, user) = self.names();
        if let Some(number) = &number {
            put("recipient_id", number.as_str().into());
        }
        // A failed send to a number is told without the user id.
        if let Some(user) = user.filter(|_| number.is_none() || !failed) {
            put("recipient_user_id", user.into());
        }
        if matches!(self.to, Recipient::Group(_)) {
            put("recipient_type", "group".into());
        }
        if !self.opaque.is_empty() && !self.strange {
            put("biz_opaque_callback_data", self.opaque.as_str().into());
        }
        if told.priced {
            put(
                "pricing",
                json!({"billable": true, "pricing_model": "PMP", "type": "regular", "category": self.category}),
            );
        }
        if let Word::Failed(refusal) = &told.word {
            put("errors", json!([refusal.item()]));
        }
        status.into()
    }

    /// The contact that may stand beside a status: no profile.
    fn contact(&self) -> Value {
        let (number, user) = self.names();
        let pairs = [("wa_id", number), ("user_id", user)];
        let given = pairs
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?.into())));
        given.collect::<Map<String, Value>>().into()
    }
}

/// The changes of one webhook call: those of the field `messages` apart by what they carry.
pub fn changes(metadata: &Value, events: &[What], status_contacts: bool) -> Vec<Value> {
    let envelope = || json!({"messaging_product": "whatsapp", "metadata": metadata});
    let (mut statuses, mut messages, mut others) = (Vec::new(), Vec::new(), Vec::new());
    let mut contacts = [Vec::new(), Vec::new()];
    let mut add = |of: usize, contact: &Value| {
        if !contacts[of].contains(contact) {
            contacts[of].push(contact.clone());
        }
    };
    for event in events {
        match event {
            What::Status { send, told } => {
                statuses.push(send.json(told));
                if status_contacts {
                    add(0, &send.contact());
                }
            }
            What::Inbound { message, contact } => {
                messages.push(message.clone());
                contact.iter().for_each(|contact| add(1, contact));
            }
            What::Other { field, value } => {
                others.push(json!({"field": field, "value": value}));
            }
        }
    }
    let [beside_statuses, beside_messages] = contacts;
    let lists = [
        ("statuses", statuses, beside_statuses),
        ("messages", messages, beside_messages),
    ];
    let mut changes = Vec::new();
    for (name, list, contacts) in lists {
        if list.is_empty() {
            continue;
        }
        let mut value = envelope();
        if !contacts.is_empty() {
            value["contacts"] = contacts.into();
        }
        value[name] = list.into();
        changes.push(json!({"field": "messages", "value": value}));
    }
    changes.extend(others);
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(to: Recipient) -> Send {
        Send {
            at: Instant::ZERO,
            at_s: 7,
            wamid: "wamid.A".into(),
            to,
            opaque: "m1".into(),
            category: "service",
            strange: false,
        }
    }

    fn number() -> Recipient {
        Recipient::Number {
            input: "+447700900456".into(),
            digits: "447700900456".into(),
        }
    }

    /// Goal: statuses have the documented fields. Method: one of each kind of recipient and word, whole.
    #[test]
    fn statuses_are_as_documented() {
        let pricing = json!({"billable": true, "pricing_model": "PMP", "type": "regular", "category": "service"});
        let plan = usual(false);
        assert_eq!(
            send(number()).json(&plan[0]),
            json!({"id": "wamid.A", "status": "sent", "timestamp": "7", "recipient_id": "447700900456",
                "recipient_user_id": "GB.1000447700900456", "biz_opaque_callback_data": "m1", "pricing": pricing})
        );
        assert_eq!(
            plan.iter().map(|told| told.priced).collect::<Vec<_>>(),
            [true, true, false]
        );
        let unseen = of_story(Story::NeverDelivered);
        assert!(unseen.iter().all(|told| told.priced), "{unseen:?}");
        let to_user = send(Recipient::User("GB.17".into())).json(&plan[2]);
        assert_eq!(
            to_user,
            json!({"id": "wamid.A", "status": "read", "timestamp": "7", "recipient_user_id": "GB.17",
                "biz_opaque_callback_data": "m1"})
        );
        let failed = send(number()).json(&failed(Refusal::new(131_047, "closed"))[0]);
        assert_eq!(failed["errors"][0]["code"], 131_047);
        assert_eq!(failed["errors"][0]["title"], "Re-engagement message");
        assert_eq!(failed["errors"][0]["error_data"]["details"], "closed");
        assert_eq!(failed.get("recipient_user_id"), None);
        let mut odd = send(number());
        odd.strange = true;
        let odd = odd.json(&plan[0]);
        assert_eq!(odd["recipient_id"], "4477900900456");
        assert_eq!(odd.get("biz_opaque_callback_data"), None);
    }

    #[test]
    fn changes_are_apart() {
        let send = Arc::new(send(number()));
        let status = |told: &Told| What::Status {
            send: Arc::clone(&send),
            told: told.clone(),
        };
        let plan = usual(false);
        let events = [
            status(&plan[0]),
            status(&plan[1]),
            What::Inbound {
                message: json!({"id": "w"}),
                contact: Some(json!({"wa_id": "1"})),
            },
            What::Other {
                field: "account_update".into(),
                value: json!({"event": "X"}),
            },
        ];
        let metadata = json!({"phone_number_id": "9"});
        let found = changes(&metadata, &events, true);
        let lengths = |n: usize, list: &str| found[n]["value"][list].as_array().map(Vec::len);
        assert_eq!(found.len(), 3);
        assert_eq!(
            (lengths(0, "statuses"), lengths(0, "contacts")),
            (Some(2), Some(1))
        );
        assert_eq!(
            (lengths(1, "messages"), lengths(1, "statuses")),
            (Some(1), None)
        );
        assert_eq!(found[1]["value"]["contacts"], json!([{"wa_id": "1"}]));
        assert_eq!(
            found[2],
            json!({"field": "account_update", "value": {"event": "X"}})
        );
        assert_eq!(
            changes(&metadata, &events, false)[0]["value"].get("contacts"),
            None
        );
    }
}
