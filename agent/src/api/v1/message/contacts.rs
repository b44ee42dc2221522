//! Cards of contacts. Asks nobody whether their numbers exist.

use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::kept::{Draft, fits};
use crate::api::error::ApiError;
use crate::api::v1::fields::Fields;

/// Most cards of one message. One source says 257 and another 5: the upstream decides.
const CARDS_LEN_MAX: usize = 257;
/// The documented form of a birthday.
const BIRTHDAY: &str = "%Y-%m-%d";

/// Cards of contacts, also as they are stored.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contacts {
    /// Checked, and with what else the client wrote into them.
    pub cards: Vec<Map<String, Value>>,
}

impl Contacts {
    /// Reads the list `contacts` of a message.
    ///
    /// # Errors
    /// 1008 for a card without `name.formatted_name`, 1009, or 1001 when all of it is too long.
    pub fn parse(body: &mut Fields) -> Result<Self, ApiError> {
        let list = body.need_list("contacts")?;
        if !(1..=CARDS_LEN_MAX).contains(&list.len()) {
            let must_be = format!("a list of 1 to {CARDS_LEN_MAX} contacts");
            return Err(body.invalid("contacts", &must_be));
        }
        let mut cards = Vec::with_capacity(list.len());
        for card in list.objects()? {
            let mut draft = Draft::of(card);
            check(&mut draft)?;
            cards.push(draft.done());
        }
        let whole = cards.iter().cloned().map(Value::Object).collect();
        fits("contacts", &Value::Array(whole))?;
        Ok(Self { cards })
    }
}

/// Types of numbers and addresses (HOME, WORK, CELL, …) are passed on as they are: clients have more of them than documents.
fn check(card: &mut Draft) -> Result<(), ApiError> {
    card.need_object("name", |name| {
        name.need_text("formatted_name", usize::MAX)?;
        name.texts(&["first_name", "last_name", "middle_name", "prefix", "suffix"])
    })?;
    card.object("org", |org| org.texts(&["company", "department", "title"]))?;
    let lists: [(&str, &[&str]); 4] = [
        ("phones", &["phone", "type", "wa_id"]),
        ("emails", &["email", "type"]),
        ("urls", &["url", "type"]),
        (
            "addresses",
            &[
                "street",
                "city",
                "state",
                "zip",
                "country",
                "country_code",
                "type",
            ],
        ),
    ];
    for (name, texts) in lists {
        card.list(name, |item| item.texts(texts))?;
    }
    if let Some(birthday) = card.text("birthday", usize::MAX)?
        && Date::strptime(BIRTHDAY, &birthday).is_err()
    {
        return Err(card.invalid("birthday", "a date such as 1990-12-31"));
    }
    // The upstream has no word for accounts of other messengers.
    card.leave_out("ims");
    Ok(())
}
