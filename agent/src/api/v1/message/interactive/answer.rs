//! Kinds with buttons that the customer answers with: `button` and `list`. Limits are those of the API reference.
//! Reads no answer.

use std::collections::BTreeSet;

use super::super::kept::Draft;
use super::placed::Placed;
use super::shape::{self, Header};
use crate::api::error::ApiError;
use crate::api::v1::code::Code;

/// Most buttons of one message.
const BUTTONS_LEN_MAX: usize = 3;
/// Longest id of a button, in characters.
const BUTTON_ID_LEN_MAX: usize = 256;
/// Longest title of a button, in characters.
const BUTTON_TITLE_LEN_MAX: usize = 20;
/// Most sections of a list.
pub const SECTIONS_LEN_MAX: usize = 10;
/// Most rows of a list, in all of its sections.
const ROWS_LEN_MAX: usize = 10;
/// Longest title of a section, and of a row, in characters.
const TITLE_LEN_MAX: usize = 24;
/// Longest id of a row, in characters.
const ROW_ID_LEN_MAX: usize = 200;
/// Longest description of a row, in characters.
const DESCRIPTION_LEN_MAX: usize = 72;

/// Checks a message of kind `button`.
///
/// # Errors
/// The documented code of what is wrong.
pub fn button(draft: &mut Draft, files: &mut Vec<Placed>) -> Result<(), ApiError> {
    shape::header(draft, Header::Any, files)?;
    shape::need_body(draft, shape::BODY_LEN_MAX)?;
    shape::footer(draft)?;
    draft.need_object("action", |action| {
        let (mut ids, mut titles) = (BTreeSet::new(), BTreeSet::new());
        let count = action.need_list("buttons", |button| {
            if button.need_text("type", usize::MAX)? != "reply" {
                return Err(button.invalid("type", "reply"));
            }
            button.need_object("reply", |reply| {
                let id = reply.need_text("id", BUTTON_ID_LEN_MAX)?;
                if id.trim() != id {
                    return Err(reply.invalid("id", "without blanks at its ends"));
                }
                let title = reply.need_text("title", BUTTON_TITLE_LEN_MAX)?;
                for (name, value, seen) in [("id", id, &mut ids), ("title", title, &mut titles)] {
                    if !seen.insert(value) {
                        return Err(reply.invalid(name, "unlike those of the other buttons"));
                    }
                }
                Ok(())
            })
        })?;
        match (1..=BUTTONS_LEN_MAX).contains(&count) {
            true => Ok(()),
            false => {
                let must_be = format!("a list of 1 to {BUTTONS_LEN_MAX} buttons");
                Err(action.invalid("buttons", &must_be))
            }
        }
    })
}

/// Checks a message of kind `list`.
///
/// # Errors
/// 2015 and 2016 for numbers of sections and rows, else the documented code of what is wrong.
pub fn list(draft: &mut Draft, files: &mut Vec<Placed>) -> Result<(), ApiError> {
    shape::header(draft, Header::Text, files)?;
    shape::need_body(draft, shape::LIST_BODY_LEN_MAX)?;
    shape::footer(draft)?;
    draft.need_object("action", |action| {
        action.need_text("button", BUTTON_TITLE_LEN_MAX)?;
        let mut rows = 0;
        let mut untitled = None;
        let sections = action.need_list("sections", |section| {
            if section.text("title", TITLE_LEN_MAX)?.is_none() {
                untitled.get_or_insert(section.missing("title"));
            }
            let count = section.need_list("rows", row)?;
            rows += count;
            match count > 0 && rows <= ROWS_LEN_MAX {
                true => Ok(()),
                false => {
                    let why = format!(
                        "must have at least one row, and all sections {ROWS_LEN_MAX} at most"
                    );
                    Err(section.refused(Code::RowCountNotValid, "rows", &why))
                }
            }
        })?;
        check_sections(action, sections)?;
        match untitled {
            Some(error) if sections > 1 => Err(error),
            Some(_) | None => Ok(()),
        }
    })
}

/// Whether there are as many sections as there may be.
///
/// # Errors
/// 2015.
pub fn check_sections(action: &Draft, count: usize) -> Result<(), ApiError> {
    match (1..=SECTIONS_LEN_MAX).contains(&count) {
        true => Ok(()),
        false => {
            let why = format!("must have 1 to {SECTIONS_LEN_MAX} sections");
            Err(action.refused(Code::SectionCountNotValid, "sections", &why))
        }
    }
}

fn row(row: &mut Draft) -> Result<(), ApiError> {
    row.need_text("id", ROW_ID_LEN_MAX)?;
    row.need_text("title", TITLE_LEN_MAX)?;
    row.text("description", DESCRIPTION_LEN_MAX)?;
    Ok(())
}
