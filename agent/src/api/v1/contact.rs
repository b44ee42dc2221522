//! `/v1/contacts`: phone numbers in any format in, WhatsApp ids out. A user id of the upstream is its own.
//! Like the reference client since v2.43 it answers `valid` for every number; nothing is asked upstream.

use serde::Serialize;
use utoipa::ToSchema;

use super::Meta;
use super::fields::Fields;
use super::who::Recipient;
use crate::api::error::ApiError;

/// Most numbers that one call may carry.
pub const CONTACTS_LEN_MAX: usize = 10_000;

/// The answer of `POST /v1/contacts`.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ContactsAnswer {
    pub contacts: Vec<Contact>,
    pub meta: Meta,
}

/// One number: as given, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Contact {
    /// What is no text stands here as JSON.
    #[schema(example = "+44 7700 900123")]
    pub input: String,
    /// `valid`, or `invalid` when the input holds no phone number at all.
    pub status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "447700900123")]
    pub wa_id: Option<String>,
}

/// Reads a request and answers it. `blocking` and `force_check` are checked for their type and change nothing.
pub fn answer(body: &mut Fields) -> Result<Vec<Contact>, ApiError> {
    body.word("blocking", &["wait", "no_wait"])?;
    body.flag("force_check")?;
    if body.is_object("contacts") {
        return Err(body.invalid("contacts", "a list"));
    }
    let inputs = body.need_list("contacts")?;
    if inputs.is_empty() || inputs.len() > CONTACTS_LEN_MAX {
        return Err(body.invalid(
            "contacts",
            &format!("a list of 1 to {CONTACTS_LEN_MAX} numbers"),
        ));
    }
    let inputs = inputs.texts_or_json().into_iter();
    let contacts = inputs.map(|input| {
        let wa_id = input.as_deref().ok().and_then(Recipient::parse);
        let wa_id = wa_id.map(|to| to.as_str().to_owned());
        Contact {
            input: input.unwrap_or_else(|json| json),
            status: if wa_id.is_some() { "valid" } else { "invalid" },
            wa_id,
        }
    });
    Ok(contacts.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(body: serde_json::Value) -> Result<Vec<Contact>, u16> {
        let mut body = Fields::parse(body.to_string().as_bytes()).expect("an object");
        answer(&mut body).map_err(|error| error.code.number())
    }

    #[test]
    fn contacts_answer_in_the_documented_shape() {
        let answer = read(
            json!({"blocking":"wait","contacts":["+44 7700 900123","x",447700900456u64,"GB.1"],"force_check":"true"}),
        )
        .expect("well-formed");
        assert_eq!(
            serde_json::to_value(answer).expect("plain data"),
            json!([{"input":"+44 7700 900123","status":"valid","wa_id":"447700900123"},
                   {"input":"x","status":"invalid"},
                   {"input":"447700900456","status":"valid","wa_id":"447700900456"},
                   {"input":"GB.1","status":"valid","wa_id":"GB.1"}])
        );
    }

    /// Goal: one bad item fails no batch. Method: whatever JSON knows, between two good ones.
    #[test]
    fn what_is_no_text_is_invalid_alone() {
        let answer = read(
            json!({"contacts": ["447700900123", null, [], ["447700900123"], {"wa_id": "447700900123"}, true, "", 447700900456u64]}),
        );
        let answer = serde_json::to_value(answer.expect("well-formed")).expect("plain data");
        let invalid = |input: &str| json!({"input": input, "status": "invalid"});
        let wanted = [
            json!({"input": "447700900123", "status": "valid", "wa_id": "447700900123"}),
            invalid("null"),
            invalid("[]"),
            invalid(r#"["447700900123"]"#),
            invalid(r#"{"wa_id":"447700900123"}"#),
            invalid("true"),
            invalid(""),
            json!({"input": "447700900456", "status": "valid", "wa_id": "447700900456"}),
        ];
        assert_eq!(answer, json!(wanted));
    }

    #[test]
    fn malformed_contacts_get_the_documented_codes() {
        for (body, code) in [
            (json!({}), 1008),
            (json!({"contacts": null}), 1008),
            (json!({"contacts": "x"}), 1009),
            (json!({"contacts": []}), 1009),
            (json!({"contacts": {"0": "447700900123"}}), 1009),
            (
                json!({"contacts": ["447700900123"], "blocking": "yes"}),
                1009,
            ),
            (
                json!({"contacts": ["447700900123"], "force_check": 1}),
                1009,
            ),
        ] {
            assert_eq!(read(body.clone()).map(|_| ()), Err(code), "{body}");
        }
    }
}
