//! `/v1/account` and what lies below it, and the pin: what clients send and what they get.
//! Types only: the primary master changes the count of shards and admits registrations.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wa_core::shard_map::SHARD_COUNTS;

use super::Meta;
use super::backup;
use super::fields::Fields;
use super::number::Number;
use crate::api::error::ApiError;
use crate::api::registration::{Backup, CodeMethod, Hidden};

/// Digits of a pin, and of a code.
const PIN_LEN: usize = 6;
/// Hyphens and dashes that people and programs put into a code.
const DASHES: &str = "-‐‑‒–—―";

/// The answer of `GET /v1/account/shards`.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ShardsAnswer {
    pub account: Shards,
    pub meta: Meta,
}

/// `{"shards":4}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Shards {
    #[schema(example = 4)]
    pub shards: u16,
}

/// Reads `shards` of a `POST /v1/account/shards`: an integer, or a string as published samples send it.
pub fn wanted_shards(body: &mut Fields) -> Result<u16, ApiError> {
    let wrong = || ApiError::invalid("shards must be 1, 2, 4, 8, 16 or 32");
    let number = body.whole("shards", 1..=32).map_err(|_| wrong())?;
    let number = number.ok_or_else(|| body.missing("shards"))?;
    let number = u16::try_from(number).ok();
    number
        .filter(|n| SHARD_COUNTS.contains(n))
        .ok_or_else(wrong)
}

/// Body of `POST /v1/account`.
#[derive(Debug, Serialize, ToSchema)]
pub struct AccountRequest {
    /// The country code of the number.
    #[schema(example = "44")]
    pub cc: String,
    /// The number without its country code.
    #[schema(example = "7700900123")]
    pub phone_number: String,
    /// `sms` or `voice`: how the code comes.
    #[schema(example = "sms")]
    pub method: String,
    /// Six digits. Kept sealed until it is used, at most for a day.
    pub pin: Option<String>,
    /// Taken and not needed.
    pub cert: Option<String>,
}

/// Body of `POST /v1/account/verify`.
#[derive(Debug, Serialize, ToSchema)]
pub struct VerifyRequest {
    /// The code that came; dashes and blanks in it do not count.
    #[schema(example = "123-456")]
    pub code: String,
    /// Six digits, where `POST /v1/account` had none. Not part of the reference API.
    pub pin: Option<String>,
    /// A backup of the reference client, which the upstream takes over. Not part of the reference API.
    pub backup: Option<BackupObject>,
}

/// A backup of the reference client.
#[derive(Debug, Serialize, ToSchema)]
pub struct BackupObject {
    pub password: String,
    pub data: String,
}

/// Body of `POST /v1/settings/account/two-step`.
#[derive(Debug, Serialize, ToSchema)]
pub struct TwoStepRequest {
    /// Six digits.
    #[schema(example = "123456")]
    pub pin: String,
}

/// The answer to `POST /v1/account` when a code was sent.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct CodeSentAnswer {
    pub account: Vec<VName>,
    pub meta: Meta,
}

/// The name that customers see.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct VName {
    #[schema(example = "Example Ltd")]
    pub vname: String,
}

impl CodeSentAnswer {
    /// For one number.
    pub fn of(vname: String) -> Self {
        Self {
            account: vec![VName { vname }],
            meta: Meta::default(),
        }
    }
}

/// What `POST /v1/account` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The whole number in digits.
    pub number: String,
    pub method: CodeMethod,
    pub pin: Option<Hidden>,
}

/// Reads a `POST /v1/account`. `own`: the number of this cluster, where it is known.
///
/// # Errors
/// 1008 for what is missing, 1009 for what is not valid or is another number.
pub fn wanted_registration(body: &mut Fields, own: Option<&str>) -> Result<Wanted, ApiError> {
    let cc = body.need_text("cc")?;
    let local = body.need_text("phone_number")?;
    let method = body.need_text("method")?;
    let method = match method.to_ascii_lowercase().as_str() {
        "sms" => CodeMethod::Sms,
        "voice" => CodeMethod::Voice,
        _ => return Err(body.invalid("method", "one of sms, voice")),
    };
    let pin = pin(body)?;
    let code = cc.trim().trim_start_matches('+').trim_start_matches("00");
    if code.is_empty() || code.len() > 3 || !code.bytes().all(|b| b.is_ascii_digit()) {
        return Err(body.invalid("cc", "a country code of 1 to 3 digits"));
    }
    let number = Number::parse(&format!("+{code} {local}"));
    let number = number
        .ok_or_else(|| body.invalid("phone_number", "a phone number without its country code"))?;
    match own {
        Some(own) if own != number.digits => Err(not_ours()),
        Some(_) | None => Ok(Wanted {
            number: number.digits,
            method,
            pin,
        }),
    }
}

/// 1009: the number that was named is another one.
pub fn not_ours() -> ApiError {
    ApiError::invalid(
        "cc and phone_number must be the number of this cluster; see [upstream] phone_number_id and phone_number",
    )
}

/// What `POST /v1/account/verify` brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    pub code: Hidden,
    pub pin: Option<Hidden>,
    pub backup: Option<Backup>,
}

/// Reads a `POST /v1/account/verify`.
///
/// # Errors
/// 1008 for what is missing, 1009 for what is not valid, and for a backup of our own.
pub fn proof(body: &mut Fields) -> Result<Proof, ApiError> {
    let code = body.need_text("code")?;
    let code = cleaned(&code).ok_or_else(|| body.invalid("code", "the six digits that came"))?;
    let pin = pin(body)?;
    let backup = match body.filled_object("backup")? {
        None => None,
        Some(mut backup) => {
            let password = Hidden(backup.need_text("password")?);
            let data = backup.need_text("data")?;
            // The upstream cannot read them.
            if backup::is_ours(&data) {
                let must_be = "a backup of the reference client; a backup of wa-agent is for POST /v1/settings/restore";
                return Err(backup.invalid("data", must_be));
            }
            let data = Hidden(data);
            Some(Backup { password, data })
        }
    };
    Ok(Proof { code, pin, backup })
}

/// Six digits, however they were typed.
fn cleaned(code: &str) -> Option<Hidden> {
    let dash = |c: char| c.is_whitespace() || DASHES.contains(c);
    let digits: String = code.chars().filter(|c| !dash(*c)).collect();
    six_digits(&digits).then_some(Hidden(digits))
}

fn six_digits(text: &str) -> bool {
    text.len() == PIN_LEN && text.bytes().all(|b| b.is_ascii_digit())
}

/// A pin is well-formed.
pub fn is_pin(text: &str) -> bool {
    six_digits(text)
}

/// Reads `pin`, where there is one.
///
/// # Errors
/// 1009 when it has not six digits.
pub fn pin(body: &mut Fields) -> Result<Option<Hidden>, ApiError> {
    match body.text("pin")? {
        None => Ok(None),
        Some(pin) if six_digits(&pin) => Ok(Some(Hidden(pin))),
        Some(_) => Err(body.invalid("pin", "six digits in quotes")),
    }
}

/// Reads the pin of a `POST /v1/settings/account/two-step`.
///
/// # Errors
/// 1008 when it is missing, 1009 when it has not six digits.
pub fn wanted_pin(body: &mut Fields) -> Result<Hidden, ApiError> {
    pin(body)?.ok_or_else(|| body.missing("pin"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn shards_may_be_a_number_or_a_string() {
        let read = |body: serde_json::Value| {
            let mut body = Fields::parse(body.to_string().as_bytes()).expect("an object");
            wanted_shards(&mut body).map_err(|error| error.code.number())
        };
        assert_eq!(read(json!({"shards": 4})), Ok(4));
        assert_eq!(read(json!({"shards": "32"})), Ok(32));
        for missing in [json!({}), json!({"shards": null}), json!({"shards": ""})] {
            assert_eq!(read(missing), Err(1008));
        }
        for bad in [
            json!(3),
            json!(0),
            json!("x"),
            json!(-1),
            json!(70000),
            json!([4]),
        ] {
            assert_eq!(read(json!({ "shards": bad })), Err(1009));
        }
    }

    fn fields(body: &serde_json::Value) -> Fields {
        Fields::parse(body.to_string().as_bytes()).expect("an object")
    }

    /// Goal: our number is known however it is typed, and another one is refused. Method: spellings of old clients.
    #[test]
    fn the_number_must_be_ours() {
        let read = |cc: serde_json::Value, number: &str, own: Option<&str>| {
            let body = json!({"cc": cc, "phone_number": number, "method": "SMS", "cert": "AAAA"});
            let wanted = wanted_registration(&mut fields(&body), own);
            wanted
                .map(|wanted| wanted.number)
                .map_err(|e| e.code.number())
        };
        let own = Some("447700900123");
        for (cc, number) in [
            (json!("44"), "7700900123"),
            (json!(44), "7700 900-123"),
            (json!("+44"), "7700900123"),
            (json!("0044"), "7700900123"),
        ] {
            assert_eq!(read(cc, number, own), Ok("447700900123".into()), "{number}");
        }
        assert_eq!(read(json!("44"), "7700900124", own), Err(1009));
        assert_eq!(
            read(json!("44"), "7700900124", None),
            Ok("447700900124".into())
        );
        for (cc, number) in [
            ("x", "7700900123"),
            ("44", "abc"),
            ("44444", "1"),
            ("44", "+447700900123"),
        ] {
            assert_eq!(read(json!(cc), number, None), Err(1009), "{cc} {number}");
        }
        for missing in ["cc", "phone_number", "method"] {
            let mut body = json!({"cc": "44", "phone_number": "7700900123", "method": "voice"});
            body.as_object_mut().expect("an object").remove(missing);
            let error = wanted_registration(&mut fields(&body), own).expect_err("missing");
            assert_eq!(
                (error.code.number(), error.details.as_deref()),
                (1008, Some(missing))
            );
        }
    }

    /// Goal: codes and pins are six digits, and our own backup never goes upstream. Method: good and bad ones of each.
    #[test]
    fn codes_pins_and_backups_are_checked() {
        let read = |body: serde_json::Value| proof(&mut fields(&body)).map_err(|e| e.code.number());
        for code in ["123-456", "123456", " 123 456 ", "123\u{2011}456"] {
            let read = read(json!({ "code": code })).expect("a code");
            assert_eq!(read.code, Hidden("123456".into()));
        }
        assert_eq!(
            read(json!({"code": 123456})).map(|p| p.code),
            Ok(Hidden("123456".into()))
        );
        for (body, code) in [
            (json!({}), 1008),
            (json!({"code": "12345"}), 1009),
            (json!({"code": "12345x"}), 1009),
            (json!({"code": "123456", "pin": "12345"}), 1009),
            (json!({"code": "123456", "pin": 12345}), 1009),
            (json!({"code": "123456", "backup": {"password": "p"}}), 1008),
            (json!({"code": "123456", "backup": {"data": "d"}}), 1008),
            (json!({"code": "123456", "backup": "d"}), 1009),
            (
                json!({"code": "123456", "backup": {"password": "p", "data": format!("{}x", backup::PREFIX)}}),
                1009,
            ),
        ] {
            assert_eq!(read(body.clone()), Err(code), "{body}");
        }
        let whole =
            json!({"code": "123456", "pin": "654321", "backup": {"password": "p", "data": "d"}});
        let whole = read(whole).expect("a whole one");
        assert_eq!(whole.pin, Some(Hidden("654321".into())));
        assert_eq!(whole.backup.map(|b| b.data), Some(Hidden("d".into())));
        assert_eq!(
            wanted_pin(&mut fields(&json!({}))).map_err(|e| e.code.number()),
            Err(1008)
        );
    }
}
