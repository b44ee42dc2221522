//! Kinds with one button that opens something: `catalog_message`, `flow` and `cta_url`. Limits are those of the API reference.
//! Knows no flow and no catalogue.

use super::super::kept::Draft;
use super::placed::Placed;
use super::shape::{self, Header};
use crate::api::error::ApiError;
use crate::api::v1::code::Code;

/// Longest text of the button of a `cta_url`, in characters.
const DISPLAY_TEXT_LEN_MAX: usize = 20;

/// Checks a message of kind `catalog_message`.
///
/// # Errors
/// The documented code of what is wrong.
pub fn catalog(draft: &mut Draft, files: &mut Vec<Placed>) -> Result<(), ApiError> {
    around(draft, files)?;
    draft.need_object("action", |action| {
        named(action, "catalog_message")?;
        action.object("parameters", |parameters| {
            parameters.texts(&["thumbnail_product_retailer_id"])
        })?;
        Ok(())
    })
}

/// Checks a message of kind `flow`. What the flow is given is its own business and stays as it is.
///
/// # Errors
/// The documented code of what is wrong.
pub fn flow(draft: &mut Draft, files: &mut Vec<Placed>) -> Result<(), ApiError> {
    around(draft, files)?;
    draft.need_object("action", |action| {
        named(action, "flow")?;
        action.need_object("parameters", |parameters| {
            let (id, name) = (parameters.path("flow_id"), parameters.path("flow_name"));
            let by_id = parameters.text("flow_id", usize::MAX)?.is_some();
            let by_name = parameters.text("flow_name", usize::MAX)?.is_some();
            match (by_id, by_name) {
                (true, false) | (false, true) => {}
                (false, false) => return Err(ApiError::missing(&format!("{id} or {name}"))),
                (true, true) => {
                    let code = Code::ParameterNotRequired;
                    return Err(parameters.refused(code, "flow_name", &format!("beside {id}")));
                }
            }
            parameters.need_text("flow_message_version", usize::MAX)?;
            parameters.need_text("flow_cta", usize::MAX)?;
            parameters.texts(&["flow_token", "mode", "flow_action"])
        })
    })
}

/// Checks a message of kind `cta_url`.
///
/// # Errors
/// The documented code of what is wrong.
pub fn cta_url(draft: &mut Draft, files: &mut Vec<Placed>) -> Result<(), ApiError> {
    around(draft, files)?;
    draft.need_object("action", |action| {
        named(action, "cta_url")?;
        action.need_object("parameters", |parameters| {
            parameters.need_text("display_text", DISPLAY_TEXT_LEN_MAX)?;
            parameters.need_text("url", usize::MAX)?;
            Ok(())
        })
    })
}

/// Header, body and footer, which are alike in all of them.
fn around(draft: &mut Draft, files: &mut Vec<Placed>) -> Result<(), ApiError> {
    shape::header(draft, Header::Any, files)?;
    shape::need_body(draft, shape::BODY_LEN_MAX)?;
    shape::footer(draft)
}

fn named(action: &mut Draft, name: &str) -> Result<(), ApiError> {
    match action.need_text("name", usize::MAX)? == name {
        true => Ok(()),
        false => Err(action.invalid("name", name)),
    }
}
