//! The one number by which the business knows a customer, whose number the upstream spells otherwise: it stands in the customer's
//! messages in the place of the upstream's spelling. Pure.
//! Knows no number: `db/route.rs` has what was written to, `coreapp/stable.rs` asks it.

use serde_json::Value;

use super::customer::is_number;
use super::event::{Event, Inbound};

/// Numbers of customers in an event, as the upstream spells them.
pub fn numbers(event: &Event) -> Vec<&str> {
    let Event::Message(message) = event else {
        // A status says what the `POST` of its message answered.
        return Vec::new();
    };
    let from = message.from.as_deref();
    let numbers = [from, contact_number(message)].into_iter().flatten();
    numbers.filter(|number| is_number(number)).collect()
}

fn contact_number(message: &Inbound) -> Option<&str> {
    message.contact.as_ref()?.get("wa_id")?.as_str()
}

/// Puts the number that the business knows into the place of the upstream's spelling: in `from`, in `contacts`, and where the
/// message answers one of the customer's own.
pub fn rename(event: &mut Event, told: impl Fn(&str) -> Option<String>) {
    let Event::Message(message) = event else {
        return;
    };
    let from = message.from.clone();
    let own = message
        .more
        .get_mut("context")
        .and_then(|c| c.get_mut("from"));
    if let Some(own) = own
        && own.as_str() == from.as_deref()
    {
        put(own, &told);
    }
    if let Some(contact) = message.contact.as_mut().and_then(|c| c.get_mut("wa_id")) {
        put(contact, &told);
    }
    if let Some(told) = from.as_deref().and_then(&told) {
        message.from = Some(told);
    }
}

fn put(place: &mut Value, told: &impl Fn(&str) -> Option<String>) {
    if let Some(told) = place.as_str().and_then(told) {
        *place = told.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::cloud::callback::{Attached, callback};
    use crate::api::cloud::event::Raw;
    use serde_json::json;

    const SPELT: &str = "5215512345678";
    const TYPED: &str = "525512345678";

    fn told(mut event: Event) -> Value {
        rename(&mut event, |number| {
            (number == SPELT).then(|| TYPED.to_owned())
        });
        serde_json::to_value(callback(event, Attached::Nothing)).expect("plain data")
    }

    /// Goal: a message names its customer by one number in all places, and nobody else's number changes. Method: whole callbacks.
    #[test]
    fn a_customer_has_one_number_in_a_message() {
        let message = |from: &str| {
            let message = json!({"from": from, "id": "wamid.A=", "timestamp": "1893456000", "type": "text",
                "text": {"body": SPELT}, "context": {"from": from, "id": "wamid.B="}});
            let contact = json!({"wa_id": from, "user_id": "MX.1", "profile": {"name": "Ann Lee"}});
            Event::of(Raw::Message {
                message,
                contact: Some(contact),
            })
        };
        let event = message(SPELT);
        assert_eq!(numbers(&event), [SPELT, SPELT]);
        let found = told(event);
        assert_eq!(found["messages"][0]["from"], TYPED, "{found}");
        assert_eq!(found["messages"][0]["context"]["from"], TYPED, "{found}");
        assert_eq!(found["contacts"][0]["wa_id"], TYPED, "{found}");
        // What the customer wrote stays what it is.
        assert_eq!(found["messages"][0]["text"]["body"], SPELT, "{found}");
        let other = told(message("447700900456"));
        assert_eq!(other["messages"][0]["from"], "447700900456", "{other}");
        assert_eq!(other["contacts"][0]["wa_id"], "447700900456", "{other}");
    }

    /// Goal: nothing is made up where fields are missing, or hold what is no number. Method: such events.
    #[test]
    fn what_is_not_there_is_not_asked_for() {
        for message in [
            json!({}),
            json!({"from": ""}),
            json!({"from": 7}),
            json!({"from": "GB.1"}),
            json!({"context": {"from": null}}),
        ] {
            let raw = Raw::Message {
                message: message.clone(),
                contact: Some(json!({"wa_id": null})),
            };
            let event = Event::of(raw);
            assert_eq!(numbers(&event), Vec::<&str>::new(), "{message}");
            told(event);
        }
        let status = Event::of(Raw::Status(
            json!({"id": "wamid.A=", "recipient_id": SPELT}),
        ));
        assert_eq!(numbers(&status), Vec::<&str>::new());
        assert_eq!(told(status)["statuses"][0]["recipient_id"], SPELT);
    }
}
