//! Cards of contacts.
//! Numbers and addresses are taken as they are: the vendor shows them, and dials none.

use super::super::refusal::Refusal;
use super::strict::Strict;

/// Most cards of one message: the wider of two documented limits.
const CARDS_MAX: usize = 257;
/// Most entries of one list of a card.
const ENTRIES_MAX: usize = 100;

pub fn contacts(body: &mut Strict) -> Result<(), Refusal> {
    for mut card in body.need_objects("contacts", 1..=CARDS_MAX)? {
        let mut name = card.need_object("name")?;
        name.need_text("formatted_name")?;
        texts(
            &mut name,
            &["first_name", "last_name", "middle_name", "prefix", "suffix"],
        )?;
        name.end()?;
        entries(&mut card, "phones", &["phone", "type", "wa_id"])?;
        entries(&mut card, "emails", &["email", "type"])?;
        entries(&mut card, "urls", &["url", "type"])?;
        let address = [
            "street",
            "city",
            "state",
            "zip",
            "country",
            "country_code",
            "type",
        ];
        entries(&mut card, "addresses", &address)?;
        if let Some(mut org) = card.object("org")? {
            texts(&mut org, &["company", "department", "title"])?;
            org.end()?;
        }
        if let Some(day) = card.text("birthday")? {
            // `2000-01-31`, and nothing else.
            if day.len() != 10 || day.parse::<jiff::civil::Date>().is_err() {
                let why = format!("{} must be YYYY-MM-DD", card.path("birthday"));
                return Err(Refusal::value(&why));
            }
        }
        card.end()?;
    }
    Ok(())
}

fn entries(card: &mut Strict, name: &str, fields: &[&str]) -> Result<(), Refusal> {
    for mut entry in card.objects(name, 0..=ENTRIES_MAX)?.unwrap_or_default() {
        texts(&mut entry, fields)?;
        entry.end()?;
    }
    Ok(())
}

fn texts(object: &mut Strict, fields: &[&str]) -> Result<(), Refusal> {
    fields
        .iter()
        .try_for_each(|field| object.text(field).map(drop))
}
