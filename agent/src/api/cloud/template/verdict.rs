//! Whether a template message can be what its template wants. Pure; refuses only what the upstream surely refuses.
//! Asks nobody: a list that is not fresh enough for a refusal ends in the wish for a look at it.

use std::collections::BTreeSet;

use super::{Entry, Header, Shape};
use crate::api::error::ApiError;
use crate::api::v1::code::Code;
use crate::api::v1::message::template::{Component, Given, Part, Template};

/// What an older entry says about places is no reason to refuse.
pub const FRESH_MS: u64 = 5 * 60 * 1000;

/// An entry of the list, and how long ago it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    pub entry: Entry,
    pub age_ms: u64,
}

/// What becomes of a message.
#[derive(Debug)]
pub enum Verdict {
    Send,
    Refuse(ApiError),
    /// The owner asks the upstream for the templates of this name; then it is decided.
    Look,
}

/// Decides. `known` are the template's entries in all languages; `looked`: they were read just now, for this message.
pub fn decide(template: &Template, known: &[Known], looked: bool) -> Verdict {
    let refuse = |error, sure| match sure {
        true => Verdict::Refuse(error),
        false if looked => Verdict::Send,
        false => Verdict::Look,
    };
    let exact = known.iter().find(|k| k.entry.language == template.language);
    let Some(Known { entry, age_ms }) = exact else {
        let spelling = |code: &str| code.replace('-', "_").to_ascii_lowercase();
        let wanted = spelling(&template.language);
        // The upstream may take that spelling.
        return match known.iter().any(|k| spelling(&k.entry.language) == wanted) {
            true => Verdict::Send,
            false => refuse(missing(template), looked),
        };
    };
    if let Some(error) = unusable(entry) {
        return refuse(error, looked);
    }
    match fits(&entry.shape, template) {
        Ok(()) => Verdict::Send,
        Err(error) => refuse(error, *age_ms <= FRESH_MS),
    }
}

fn missing(template: &Template) -> ApiError {
    ApiError::with(
        Code::TemplateMissing,
        format!(
            "There is no template {} in the language {}",
            template.name, template.language
        ),
    )
}

/// States in which nothing is sent. Others pass: a template that is looked through anew may still be sent as it was.
fn unusable(entry: &Entry) -> Option<ApiError> {
    let code = match entry.status.to_ascii_uppercase().as_str() {
        "REJECTED" => Code::TemplateRejected,
        "PAUSED" => Code::TemplatePaused,
        "DISABLED" => Code::TemplateDisabled,
        _ => return None,
    };
    let (name, language) = (&entry.name, &entry.language);
    let details = format!("Template {name} in the language {language}");
    Some(ApiError::with(code, details))
}

/// Whether the message fills the places. Files of headers, codes and flows are not counted, nor are cards.
fn fits(shape: &Shape, template: &Template) -> Result<(), ApiError> {
    let all = &template.components;
    let part = |wanted: Part| all.iter().enumerate().find(move |(_, c)| c.part == wanted);
    check_header(shape, part(Part::Header))?;
    if let Some(places) = &shape.body {
        let body = part(Part::Body);
        check_texts(shape.named, places, "the body", body)?;
    }
    for (index, wants) in shape.buttons.iter().enumerate() {
        let ours = |component: &&Component| {
            let at = component.index.and_then(|at| usize::try_from(at).ok());
            component.part == Part::Button && at == Some(index)
        };
        let given = all.iter().find(ours).map_or(0, |c| c.parameters.len());
        if *wants && given == 0 {
            let what = format!("template.components has nothing for button {index}, which wants 1");
            return Err(ApiError::with(Code::TemplateParameterCount, what));
        }
    }
    Ok(())
}

fn check_header(shape: &Shape, found: Option<(usize, &Component)>) -> Result<(), ApiError> {
    let first = found.and_then(|(at, header)| Some((at, header.parameters.first()?)));
    let given = first.and_then(|(at, parameter)| {
        let word = match &parameter.given {
            Given::File(file) => file.as_str(),
            Given::Location(_) => "location",
            Given::Text(_) | Given::Currency(_) | Given::DateTime(_) => "text",
            Given::Other(word) if word == "product" => "product",
            Given::Other(_) | Given::Payload(_) | Given::CouponCode(_) | Given::Offer(_) => {
                return None;
            }
        };
        Some((at, word))
    });
    let wanted = match &shape.header {
        None => return Ok(()),
        Some(Header::Text(_)) => "text",
        Some(Header::Other(word)) => word.as_str(),
    };
    if let Some((at, word)) = given.filter(|(_, word)| *word != wanted) {
        let what = format!(
            "template.components[{at}].parameters[0].type is {word}, the header wants {wanted}"
        );
        return Err(ApiError::with(Code::ParameterFormatMismatch, what));
    }
    match &shape.header {
        Some(Header::Text(places)) => check_texts(shape.named, places, "the header", found),
        Some(Header::Other(_)) | None => Ok(()),
    }
}

/// The texts of one part against its places.
fn check_texts(
    named: bool,
    places: &BTreeSet<String>,
    part: &str,
    found: Option<(usize, &Component)>,
) -> Result<(), ApiError> {
    let parameters = found.map_or(&[][..], |(_, component)| &component.parameters);
    let path = match found {
        Some((at, _)) => format!("template.components[{at}].parameters"),
        None => "template.components".to_owned(),
    };
    let (given, wanted) = (parameters.len(), places.len());
    if given != wanted {
        let what = format!("{path}: {given} given for {part}, {wanted} wanted");
        return Err(ApiError::with(Code::TemplateParameterCount, what));
    }
    for (number, parameter) in parameters.iter().enumerate() {
        let fits = match (&parameter.name, named) {
            (Some(name), true) => places.contains(name),
            (None, false) => true,
            (Some(_), false) | (None, true) => false,
        };
        if !fits {
            let names: Vec<_> = places.iter().map(String::as_str).collect();
            let wants = match named {
                true => format!("one of {}", names.join(", ")),
                false => "left out: the template numbers its places".to_owned(),
            };
            let what = format!("{path}[{number}].parameter_name must be {wants}");
            return Err(ApiError::with(Code::ParameterFormatMismatch, what));
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
