//! Kinds that show products of a catalogue: `product` and `product_list`. Limits are those of the API reference.
//! Knows no catalogue.

use super::super::kept::Draft;
use super::answer::check_sections;
use super::placed::Placed;
use super::shape::{self, Header};
use crate::api::error::ApiError;
use crate::api::v1::code::Code;

/// Most products of a list, in all of its sections.
const PRODUCTS_LEN_MAX: usize = 30;

/// Checks a message of kind `product`: one product, without a header, the body may be left out.
///
/// # Errors
/// 2036 for a header, else the documented code of what is wrong.
pub fn one(draft: &mut Draft) -> Result<(), ApiError> {
    if draft.has("header") {
        let code = Code::HeaderStructureNotValid;
        return Err(draft.refused(code, "header", "does not belong to a product"));
    }
    draft.leave_out("header");
    shape::body(draft)?;
    shape::footer(draft)?;
    draft.need_object("action", |action| {
        action.need_text("catalog_id", usize::MAX)?;
        action.need_text("product_retailer_id", usize::MAX)?;
        Ok(())
    })
}

/// Checks a message of kind `product_list`: products in sections, under a header of text.
///
/// # Errors
/// 2015 for the number of sections, else the documented code of what is wrong.
pub fn list(draft: &mut Draft, files: &mut Vec<Placed>) -> Result<(), ApiError> {
    if !shape::header(draft, Header::Text, files)? {
        return Err(draft.missing("header"));
    }
    shape::need_body(draft, shape::BODY_LEN_MAX)?;
    shape::footer(draft)?;
    draft.need_object("action", |action| {
        action.need_text("catalog_id", usize::MAX)?;
        let mut products = 0;
        let sections = action.need_list("sections", |section| {
            section.texts(&["title"])?;
            let count = section.need_list("product_items", |item| {
                item.need_text("product_retailer_id", usize::MAX)?;
                Ok(())
            })?;
            products += count;
            match count > 0 && products <= PRODUCTS_LEN_MAX {
                true => Ok(()),
                false => {
                    let must_be = format!(
                        "a list of at least one product, and of {PRODUCTS_LEN_MAX} in all sections at most"
                    );
                    Err(section.invalid("product_items", &must_be))
                }
            }
        })?;
        check_sections(action, sections)
    })
}
