//! News of the account that the upstream tells by webhook: what stands in a headline, and how grave it is. Pure.
//! Facts: the API reference's section on other fields.

use std::fmt;

use serde_json::Value;

/// Longest word of a headline, in characters.
const WORD_LEN_MAX: usize = 48;
/// Where the word of an event stands, by habit of the field.
const PLACES: [&str; 7] = [
    "/event",
    "/decision",
    "/new_quality_score",
    "/alert_type",
    "/alert_info/alert_type",
    "/status",
    "/type",
];

/// What a person should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gravity {
    /// Messages are held back or lost until somebody does something.
    Act,
    /// Something may be limited.
    Look,
    /// For the record.
    Know,
    /// Of single customers, as many as those do things: counted only.
    Count,
    /// Of a field that this release does not know: who it is about is unknown, too. Counted only.
    Unknown,
}

/// Fields that tell what single customers did.
const OF_CUSTOMERS: [&str; 5] = [
    "user_preferences",
    "calls",
    "messaging_handovers",
    "automatic_events",
    "flows",
];

/// Fields that tell of the account, its numbers and its templates, and of no single customer.
const OF_ACCOUNT: [&str; 17] = [
    "account_alerts",
    "account_review_update",
    "account_settings_update",
    "account_update",
    "business_capability_update",
    "business_status_update",
    "business_username_updates",
    "message_template_components_update",
    "message_template_quality_update",
    "message_template_status_update",
    "partner_solutions",
    "payment_configuration_update",
    "phone_number_name_update",
    "phone_number_quality_update",
    "security",
    "template_category_update",
    "template_correct_category_detection",
];

/// An event in two words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headline {
    pub field: String,
    /// The upstream's word of it; empty: it has none.
    pub event: String,
    pub gravity: Gravity,
}

impl Headline {
    /// Of what came. Nothing of it but words of the upstream's own lists: no texts, no numbers of customers.
    pub fn of(field: &str, value: &Value) -> Self {
        let words = PLACES
            .iter()
            .filter_map(|place| value.pointer(place)?.as_str());
        let event = words.map(plain).find(|word| !word.is_empty());
        let field = plain(field);
        let event = event.unwrap_or_default();
        let gravity = gravity(&field, &event);
        Self {
            field,
            event,
            gravity,
        }
    }
}

impl fmt::Display for Headline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.event.is_empty() {
            true => f.write_str(&self.field),
            false => write!(f, "{} {}", self.field, self.event),
        }
    }
}

/// A word of a list: letters, digits and underscores.
fn plain(word: &str) -> String {
    let plain = word
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
    match plain {
        true => word.chars().take(WORD_LEN_MAX).collect(),
        false => String::new(),
    }
}

/// How grave the event of this field is.
pub fn gravity(field: &str, event: &str) -> Gravity {
    if field.starts_with("messages.")
        || field.starts_with("group_")
        || OF_CUSTOMERS.contains(&field)
    {
        return Gravity::Count;
    }
    if !OF_ACCOUNT.contains(&field) {
        return Gravity::Unknown;
    }
    match (field, event) {
        (
            "account_update",
            "ACCOUNT_DELETED"
            | "ACCOUNT_RESTRICTION"
            | "ACCOUNT_VIOLATION"
            | "DISABLED_UPDATE"
            | "ACCOUNT_OFFBOARDED",
        )
        | ("account_review_update", "REJECTED") => Gravity::Act,
        ("account_alerts" | "security", _)
        | ("phone_number_quality_update", "FLAGGED" | "DOWNGRADE")
        | (
            "message_template_status_update",
            "REJECTED" | "PAUSED" | "DISABLED" | "FLAGGED" | "DELETED" | "LIMIT_EXCEEDED"
            | "LOCKED",
        )
        | ("message_template_quality_update", "RED")
        | ("phone_number_name_update", "REJECTED") => Gravity::Look,
        _ => Gravity::Know,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Goal: who reads the journal sees what happened, and no text of anybody. Method: events of the documentation.
    #[test]
    fn headlines_are_words_of_the_upstreams_lists() {
        for (field, value, said, gravity) in [
            (
                "account_update",
                json!({"event": "ACCOUNT_RESTRICTION", "restriction_info": []}),
                "account_update ACCOUNT_RESTRICTION",
                Gravity::Act,
            ),
            (
                "message_template_status_update",
                json!({"event": "PAUSED", "message_template_name": "x"}),
                "message_template_status_update PAUSED",
                Gravity::Look,
            ),
            (
                "phone_number_quality_update",
                json!({"event": "THROUGHPUT_UPGRADE"}),
                "phone_number_quality_update THROUGHPUT_UPGRADE",
                Gravity::Know,
            ),
            (
                "account_review_update",
                json!({"decision": "APPROVED"}),
                "account_review_update APPROVED",
                Gravity::Know,
            ),
            (
                "user_preferences",
                json!([{"detail": "Ann wants none"}]),
                "user_preferences",
                Gravity::Count,
            ),
            (
                "calls",
                json!({"event": "call me: +447700900456"}),
                "calls",
                Gravity::Count,
            ),
            (
                "customer_secrets",
                json!({"event": "TOLD", "text": "Ann wants none"}),
                "customer_secrets TOLD",
                Gravity::Unknown,
            ),
            (
                "messages.user_actions",
                json!({"action_type": "x"}),
                "messages.user_actions",
                Gravity::Count,
            ),
        ] {
            let headline = Headline::of(field, &value);
            assert_eq!(
                (headline.to_string().as_str(), headline.gravity),
                (said, gravity)
            );
        }
    }
}
