//! Actions that stand in messages and in cards alike.
//! Those of one kind only stand in `interactive.rs`.

use super::super::refusal::Refusal;
use super::sent::File;
use super::strict::Strict;

/// Longest text of a button, in characters.
pub const BUTTON_MAX: usize = 20;

/// An action that has a name and nothing else.
pub fn named(action: &mut Strict, name: &str) -> Result<(), Refusal> {
    action.need_word("name", &[name]).map(drop)
}

pub fn product(action: &mut Strict, _: &mut Vec<File>) -> Result<(), Refusal> {
    action.need_text("catalog_id")?;
    action.need_text("product_retailer_id")?;
    Ok(())
}

pub fn cta_url(action: &mut Strict, _: &mut Vec<File>) -> Result<(), Refusal> {
    named(action, "cta_url")?;
    let mut parameters = action.need_object("parameters")?;
    parameters.need_within("display_text", BUTTON_MAX)?;
    parameters.need_link("url")?;
    parameters.end()
}
