//! Messages in the form that templates had first.
//! They go out as templates whose body has the parameters in their order; there is nothing else in them.

use serde::{Deserialize, Serialize};
use serde_json::Map;

use super::template::parameter::{BODY_LEN_MAX, need_text};
use super::template::{Component, Currency, Given, Parameter, Part, Template, check_namespace};
use crate::api::error::ApiError;
use crate::api::v1::fields::Fields;

/// The object of such a message, also as it is stored.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hsm {
    pub element_name: String,
    /// The code of the language, as the client wrote it: `en` is not `en_US`.
    pub language: String,
    /// The client asked for another language where this one is missing, which the upstream does not do.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fallback: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<Given>,
}

impl Hsm {
    /// Reads it from the body of a message. `namespace`, and what a date is made of, are read and not kept.
    ///
    /// # Errors
    /// The documented code of what is wrong.
    pub fn parse(body: &mut Fields) -> Result<Self, ApiError> {
        let mut object = body.need_object("hsm")?;
        check_namespace(&mut object)?;
        let element_name = object.need_text("element_name")?;
        let mut language = object.need_object("language")?;
        let code = language.need_text("code")?;
        let policy = language.word("policy", &["fallback", "deterministic"])?;
        let parameters = match object.list("localizable_params")? {
            Some(list) => list.objects()?.into_iter().map(given).collect(),
            None => Ok(Vec::new()),
        };
        Ok(Self {
            element_name,
            language: code,
            fallback: policy.is_some_and(|word| word == "fallback"),
            parameters: parameters?,
        })
    }

    /// The template message that it is.
    pub fn template(&self) -> Template {
        let parameters = self.parameters.iter().cloned().map(Parameter::of);
        let body = Component {
            part: Part::Body,
            sub_type: None,
            index: None,
            parameters: parameters.collect(),
            cards: Vec::new(),
            more: Map::new(),
        };
        Template {
            name: self.element_name.clone(),
            language: self.language.clone(),
            components: vec![body],
            more: Map::new(),
        }
    }
}

/// A parameter: a text, and beside it what it stands for. An empty object beside it says nothing.
fn given(mut object: Fields) -> Result<Given, ApiError> {
    let default = need_text(&mut object, "default", BODY_LEN_MAX)?;
    let currency = object.filled_object("currency")?;
    let date_time = object.filled_object("date_time")?;
    match (currency, date_time) {
        (Some(_), Some(_)) => Err(object.extra("date_time", "does not belong beside currency")),
        (Some(mut currency), None) => {
            let currency = Currency::parse(&mut currency, "currency_code", default)?;
            Ok(Given::Currency(currency))
        }
        (None, Some(_)) => Ok(Given::DateTime(default)),
        (None, None) => Ok(Given::Text(default)),
    }
}
