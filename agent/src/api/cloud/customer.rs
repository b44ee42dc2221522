//! Who is who: what an event of the upstream says of a customer's number and user id, and what stands in the place of a number
//! that the upstream leaves out. Pure.
//! Keeps nothing: `coreapp/customers.rs` does, in the table of `db/customer.rs`.

use serde_json::{Map, Value, json};

use super::event::{Event, Inbound, Kind, Status, VendorError};
use crate::api::v1::callback::{Callback, Message};
use crate::api::v1::who::is_user_id;

/// Lengths of what is kept, in bytes: what the columns take, and for numbers what can be one.
pub const USERNAME_LEN_MAX: usize = 128;
pub const NAME_LEN_MAX: usize = 256;
const NUMBER_LEN: std::ops::RangeInclusive<usize> = 5..=20;

/// What one event says of one customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    pub user_id: String,
    pub number: Number,
    pub username: Option<String>,
    /// The name in the customer's profile.
    pub name: Option<String>,
}

/// What it says of the number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Number {
    /// It stands beside the user id.
    Told(String),
    /// It is left out: what is known of it holds.
    Hidden,
    /// It is another one from now on, which nobody told: what was known is not used any more.
    Lost,
}

/// What is known of a user id. Times by the store's clock, in ms since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    pub wa_id: Option<String>,
    /// The upstream leaves the number out since: it is only remembered.
    pub remembered: bool,
    pub username: String,
    pub name: String,
    /// When one webhook carried both last; 0: none did.
    pub both_ms: u64,
    pub seen_ms: u64,
}

/// A pair that is seen again is written again after so long, so that its age is never taken for much higher than it is.
const WRITTEN_AGAIN_AFTER_MS: u64 = 6 * 3600 * 1000;

impl Known {
    /// After one more event, which came at this time. What came earlier changes nothing.
    #[must_use]
    pub fn after(&self, sighting: &Sighting, at_ms: u64) -> Self {
        if at_ms < self.seen_ms {
            return self.clone();
        }
        let mut known = self.clone();
        known.seen_ms = at_ms;
        let texts = [
            (&mut known.username, &sighting.username, USERNAME_LEN_MAX),
            (&mut known.name, &sighting.name, NAME_LEN_MAX),
        ];
        for (target, told, len_max) in texts {
            if let Some(told) = told.as_ref().filter(|told| told.len() <= len_max) {
                target.clone_from(told);
            }
        }
        match &sighting.number {
            Number::Told(number) => {
                known.wa_id = Some(number.clone());
                known.remembered = false;
                known.both_ms = at_ms;
            }
            Number::Hidden => known.remembered = known.wa_id.is_some(),
            Number::Lost => known = known.lost(),
        }
        known
    }

    /// Without a number since somebody else was seen with it: what came earlier does not give it back.
    #[must_use]
    pub fn taken(&self, at_ms: u64) -> Self {
        Self {
            seen_ms: self.seen_ms.max(at_ms),
            ..self.lost()
        }
    }

    /// Without a number: it is another customer's by now, or has changed.
    #[must_use]
    pub fn lost(&self) -> Self {
        Self {
            wa_id: None,
            remembered: false,
            both_ms: 0,
            ..self.clone()
        }
    }

    /// Beside its row, which another owner may have written since it was as `written`. The number is the row's, unless this owner
    /// itself saw it told or lost since, at `own_ms` (0: it never did).
    #[must_use]
    pub fn beside(&self, row: &Self, written: Option<&Self>, own_ms: u64) -> Self {
        let seen_ms = self.seen_ms.max(row.seen_ms);
        let untouched =
            written.is_some_and(|written| written.wa_id == row.wa_id && row.both_ms <= own_ms);
        let own = own_ms > 0 && (own_ms >= row.seen_ms || untouched);
        let named = match row.seen_ms > self.seen_ms {
            true => row.named_as(self),
            false => self.named_as(row),
        };
        let number = if own { self } else { row };
        // What came after the number was told came without it, whoever saw it.
        let hidden = number.remembered
            || match own {
                true => row.remembered && row.wa_id == self.wa_id && row.seen_ms > self.both_ms,
                false => self.seen_ms > row.seen_ms,
            };
        Self {
            wa_id: number.wa_id.clone(),
            remembered: hidden && number.wa_id.is_some(),
            both_ms: number.both_ms,
            seen_ms,
            ..named
        }
    }

    /// With the names of before, where no event told any.
    #[must_use]
    pub fn named_as(&self, before: &Self) -> Self {
        let or = |own: &String, other: &String| match own.is_empty() {
            true => other.clone(),
            false => own.clone(),
        };
        Self {
            username: or(&self.username, &before.username),
            name: or(&self.name, &before.name),
            ..self.clone()
        }
    }

    /// Whether the store must hear of it, which knows `written`.
    pub fn differs(&self, written: &Self) -> bool {
        let same = self.wa_id == written.wa_id
            && self.remembered == written.remembered
            && self.username == written.username
            && self.name == written.name;
        !same || self.both_ms > written.both_ms.saturating_add(WRITTEN_AGAIN_AFTER_MS)
    }
}

/// A number as the upstream spells it.
pub fn is_number(text: &str) -> bool {
    NUMBER_LEN.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn text<'a>(value: Option<&'a Value>, key: &str) -> Option<&'a str> {
    let text = value?.get(key)?.as_str()?;
    (!text.is_empty()).then_some(text)
}

fn word<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    map.get(key)?.as_str().filter(|text| !text.is_empty())
}

/// A customer whose number or user id is another one from now on.
struct Change<'a> {
    user_id: Option<&'a str>,
    previous: Option<&'a str>,
    number: Option<&'a str>,
}

/// What a message of the system says of its customer's number; `None`: it is no such message.
fn change(message: &Inbound) -> Option<Change<'_>> {
    let system = message.more.get("system")?;
    let kind = text(Some(system), "type")?;
    let number = match kind {
        "user_changed_user_id" => None,
        "user_changed_number" | "customer_changed_number" => {
            text(Some(system), "wa_id").or_else(|| text(Some(system), "new_wa_id"))
        }
        _ => return None,
    };
    Some(Change {
        user_id: text(Some(system), "user_id"),
        previous: text(Some(system), "previous_user_id"),
        number,
    })
}

/// The user id of whoever wrote.
fn writer(message: &Inbound) -> Option<&str> {
    let contact = message.contact.as_ref();
    word(&message.more, "from_user_id")
        .or_else(|| text(contact, "user_id"))
        .or_else(|| text(message.more.get("system"), "user_id"))
}

/// All that an event says of customers.
pub fn sightings(event: &Event) -> Vec<Sighting> {
    let found = match event {
        Event::Status(status) => of_status(status).into_iter().collect(),
        Event::Message(message) => match change(message) {
            Some(change) => of_change(&change),
            None => of_message(message).into_iter().collect(),
        },
        Event::Error(_) | Event::Account { .. } | Event::Unread { .. } => Vec::new(),
    };
    let found: Vec<Sighting> = found;
    let good = |sighting: &Sighting| match &sighting.number {
        Number::Told(number) => is_number(number),
        Number::Hidden | Number::Lost => true,
    };
    let known = |sighting: &Sighting| is_user_id(&sighting.user_id) && good(sighting);
    found.into_iter().filter(known).collect()
}

fn of_status(status: &Status) -> Option<Sighting> {
    // That a number is left out here says nothing: the message may have been for the user id.
    Some(Sighting {
        user_id: word(&status.more, "recipient_user_id")?.to_owned(),
        number: Number::Told(status.recipient.clone()?),
        username: None,
        name: None,
    })
}

fn of_message(message: &Inbound) -> Option<Sighting> {
    let contact = message.contact.as_ref();
    let profile = contact.and_then(|contact| contact.get("profile"));
    let number = message.from.as_deref().filter(|from| !from.is_empty());
    let number = number.or_else(|| text(contact, "wa_id"));
    Some(Sighting {
        user_id: writer(message)?.to_owned(),
        number: number.map_or(Number::Hidden, |number| Number::Told(number.to_owned())),
        username: text(profile, "username").map(str::to_owned),
        name: text(profile, "name").map(str::to_owned),
    })
}

fn of_change(change: &Change<'_>) -> Vec<Sighting> {
    let sighting = |user_id: &str, number: Number| Sighting {
        user_id: user_id.to_owned(),
        number,
        username: None,
        name: None,
    };
    let previous = change.previous.filter(|id| Some(*id) != change.user_id);
    let lost = previous.map(|id| sighting(id, Number::Lost));
    let told = |number: &str| Number::Told(number.to_owned());
    let number = change.number.map_or(Number::Lost, told);
    let new = change.user_id.map(|id| sighting(id, number));
    lost.into_iter().chain(new).collect()
}

/// A user id that is another one from now on: the former, and the one in its place.
pub fn succession(event: &Event) -> Option<(&str, &str)> {
    let Event::Message(message) = event else {
        return None;
    };
    let change = change(message)?;
    let (former, next) = (change.previous?, change.user_id?);
    (former != next && is_user_id(former) && is_user_id(next)).then_some((former, next))
}

/// User ids of an event that came without a number: what is known of them is asked for.
pub fn unnumbered(event: &Event) -> Vec<&str> {
    match event {
        Event::Status(status) => match &status.recipient {
            Some(_) => Vec::new(),
            None => word(&status.more, "recipient_user_id")
                .into_iter()
                .collect(),
        },
        Event::Message(message) => {
            let change = change(message);
            let previous = change.and_then(|change| change.previous);
            let numbered = message.from.as_deref().is_some_and(|from| !from.is_empty());
            let contact = message.contact.as_ref();
            let bare = contact.is_some() && text(contact, "wa_id").is_none();
            let own = writer(message).filter(|_| !numbered || bare);
            own.into_iter().chain(previous).collect()
        }
        Event::Error(_) | Event::Account { .. } | Event::Unread { .. } => Vec::new(),
    }
}

/// Puts into the place of each number that is left out what `address` says of the user id. Callbacks of messages of ours say the
/// recipient that their `POST` answered: that was filled in before.
pub fn fill(event: &mut Event, address: impl Fn(&str) -> String) {
    match event {
        Event::Status(status) => {
            let user_id = word(&status.more, "recipient_user_id");
            if status.recipient.is_none()
                && let Some(user_id) = user_id
            {
                status.recipient = Some(address(user_id));
            }
        }
        Event::Message(message) => {
            fill_system(message);
            let change = change(message);
            // Who changed the number wrote from the old one.
            let old = change.filter(|change| change.number.is_some());
            let old = old.and_then(|change| change.previous);
            let user_id = old.or_else(|| writer(message)).map(str::to_owned);
            let Some(user_id) = user_id else { return };
            let told = text(message.contact.as_ref(), "wa_id").map(str::to_owned);
            if message.from.as_deref().is_none_or(str::is_empty) {
                message.from = Some(told.unwrap_or_else(|| address(&user_id)));
            }
            if let Some(Value::Object(contact)) = &mut message.contact
                && word(contact, "wa_id").is_none()
            {
                let own = word(contact, "user_id").unwrap_or(&user_id).to_owned();
                contact.insert("wa_id".to_owned(), address(&own).into());
            }
        }
        Event::Error(_) | Event::Account { .. } | Event::Unread { .. } => {}
    }
}

/// What the business is told when the number of a customer comes whom it knows by an alias.
pub fn named(message: &Inbound, alias: &str, number: &str) -> Callback {
    let mut told = Message {
        from: Some(alias.to_owned()),
        id: Some(format!("ABGG{alias}")),
        timestamp: message.timestamp.clone(),
        kind: Some("system".to_owned()),
        ..Message::default()
    };
    let mut system = json!({"type": "user_changed_number", "body": format!("{alias} is {number} from now on"),
        "wa_id": number, "new_wa_id": number});
    if let Some(user_id) = writer(message) {
        system["user_id"] = user_id.into();
    }
    told.more.insert("system".to_owned(), system);
    Callback {
        messages: vec![told],
        ..Callback::default()
    }
}

/// A message of a customer who shows no number, as clients are told that cannot know such customers: without its content.
pub fn reject(message: &mut Inbound) {
    // What is taken back is taken back, whoever does.
    if matches!(message.kind, Kind::Revoked(_)) {
        return;
    }
    let user_id = writer(message).unwrap_or_default().to_owned();
    message.kind = Kind::Unsupported;
    message.errors = vec![VendorError {
        details: Some(format!("The customer {user_id} shows no phone number")),
        ..VendorError::default()
    }];
    let kept = ["from_user_id", "context", "group_id"];
    message.more.retain(|name, _| kept.contains(&name.as_str()));
}

/// The reference client called the new number `new_wa_id`.
fn fill_system(message: &mut Inbound) {
    let number = change(message).and_then(|change| change.number);
    let number = number.map(str::to_owned);
    if let Some(Value::Object(system)) = message.more.get_mut("system")
        && let Some(number) = number
    {
        system
            .entry("new_wa_id")
            .or_insert_with(|| number.clone().into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::cloud::event::Raw;

    const USER: &str = "GB.1234567890123456";

    fn message(message: Value, contact: Option<Value>) -> Event {
        Event::of(Raw::Message { message, contact })
    }

    fn told(number: Number) -> Sighting {
        Sighting {
            user_id: USER.into(),
            number,
            username: None,
            name: None,
        }
    }

    /// Goal: every webhook that carries both teaches a pair, and no other does. Method: messages and statuses with fields left
    /// out one by one.
    #[test]
    fn pairs_come_from_whatever_carries_both() {
        let number = || Number::Told("447700900456".into());
        let contact = json!({"wa_id": "447700900456", "user_id": USER, "profile": {"name": "Ann Lee", "username": "ann"}});
        let by_contact = message(json!({"type": "text"}), Some(contact));
        let wanted = Sighting {
            username: Some("ann".into()),
            name: Some("Ann Lee".into()),
            ..told(number())
        };
        assert_eq!(sightings(&by_contact), [wanted]);
        let status = |status| Event::of(Raw::Status(status));
        let both =
            status(json!({"recipient_id": "447700900456", "recipient_user_id": USER, "id": "w"}));
        assert_eq!(sightings(&both), [told(number())]);
        let hidden = message(
            json!({"from_user_id": USER}),
            Some(json!({"user_id": USER})),
        );
        assert_eq!(sightings(&hidden), [told(Number::Hidden)]);
        for nothing in [
            status(json!({"recipient_id": "447700900456"})),
            status(json!({"recipient_user_id": USER})),
            status(json!({"recipient_id": "Z3JvdXA=", "recipient_user_id": USER})),
            message(json!({"from": "447700900456"}), None),
            message(
                json!({"from": "447700900456", "from_user_id": "nobody"}),
                None,
            ),
            message(json!({"from_user_id": 7}), Some(json!([]))),
        ] {
            assert_eq!(sightings(&nothing), [], "{nothing:?}");
        }
    }

    /// Goal: a number that changed is not used any more. Method: both changes.
    #[test]
    fn changes_are_understood() {
        let system = |system: Value| message(json!({"type": "system", "system": system}), None);
        let of = |user_id: &str, number: Number| Sighting {
            user_id: user_id.into(),
            ..told(number)
        };
        let user_id = system(json!({"type": "user_changed_user_id", "user_id": "GB.2",
            "previous_user_id": USER, "wa_id": "447700900456"}));
        let wanted = [of(USER, Number::Lost), of("GB.2", Number::Lost)];
        assert_eq!(sightings(&user_id), wanted);
        assert_eq!(unnumbered(&user_id), ["GB.2", USER]);
        let number = system(json!({"type": "user_changed_number", "user_id": "GB.2",
            "previous_user_id": USER, "wa_id": "447700900457"}));
        let new = Number::Told("447700900457".into());
        assert_eq!(
            sightings(&number),
            [of(USER, Number::Lost), of("GB.2", new)]
        );
        let other = system(json!({"type": "user_identity_changed", "user_id": USER}));
        assert_eq!(sightings(&other), [told(Number::Hidden)]);
    }

    /// Goal: what is known grows with what comes, and never goes back. Method: one event after the other.
    #[test]
    fn knowledge_grows_with_events() {
        let both = told(Number::Told("447700900456".into()));
        let one = Known::default().after(&both, 100);
        assert_eq!(
            (one.wa_id.as_deref(), one.both_ms),
            (Some("447700900456"), 100)
        );
        let hidden = one.after(&told(Number::Hidden), 200);
        assert!(hidden.remembered && hidden.both_ms == 100 && hidden.differs(&one));
        assert_eq!(
            hidden.after(&told(Number::Lost), 150),
            hidden,
            "it came earlier"
        );
        let lost = hidden.after(&told(Number::Lost), 300);
        assert_eq!(
            (lost.wa_id.as_deref(), lost.remembered, lost.both_ms),
            (None, false, 0)
        );
        let again = one.after(&both, 101 + WRITTEN_AGAIN_AFTER_MS);
        assert!(again.differs(&one) && !one.after(&both, 101).differs(&one));
        let gone = one.taken(250);
        assert_eq!(gone.after(&both, 100).wa_id, None, "it came earlier");
        let long = Sighting {
            name: Some("x".repeat(NAME_LEN_MAX + 1)),
            ..both
        };
        assert_eq!(one.after(&long, 100).name, "");
    }

    /// Goal: of two owners who see one customer neither undoes what the other was told. Method: what one knows, beside rows that
    /// the other wrote.
    #[test]
    fn what_another_owner_was_told_stands() {
        let both = |number: &str| told(Number::Told(number.into()));
        let row = Known::default().after(&both("447700900456"), 100);
        // Seen without a number by us, later: it is only remembered.
        let hidden = Known::default().after(&told(Number::Hidden), 200);
        let found = hidden.beside(&row, None, 0);
        assert_eq!(
            (found.wa_id.as_deref(), found.remembered),
            (Some("447700900456"), true)
        );
        assert_eq!((found.both_ms, found.seen_ms), (100, 200));
        // Lost by the other, after it was told us.
        let ours = Known::default().after(&both("447700900456"), 100);
        let lost = ours.after(&told(Number::Lost), 300);
        assert_eq!(ours.beside(&lost, Some(&ours), 100).wa_id, None);
        // Told us after the other saw anything.
        let newer = ours.after(&both("447700900457"), 400);
        let found = newer.beside(&lost, Some(&ours), 400);
        assert_eq!(found.wa_id.as_deref(), Some("447700900457"));
        // The other only saw it without a number since.
        let other = Known {
            remembered: true,
            seen_ms: 500,
            ..ours.clone()
        };
        let found = ours.beside(&other, Some(&ours), 100);
        assert_eq!(
            (found.wa_id.as_deref(), found.seen_ms),
            (Some("447700900456"), 500)
        );
        assert!(found.remembered);
    }
}
