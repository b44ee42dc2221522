//! What the upstream says of the number, and what its answers to the calls of a registration mean. Pure.
//! Makes no call: `coreapp/registration` does.

use serde::Deserialize;
use serde_json::Value;
use wa_core::pace::Level;
use wa_core::registration::{Answer, Call, Number};

use super::{ErrorAnswer, ErrorBody, code};
use crate::api::registration::Outcome;
use crate::api::v1::code::Code;

/// After which a call that may help is made again at the earliest, in seconds.
const SOON_S: u32 = 60;
const MINUTES_S: u32 = 300;
const HOURS_S: u32 = 3600;
const DAYS_S: u32 = 72 * 3600;

/// The number, as the upstream tells of it. Any of it may be missing.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Told {
    verified_name: String,
    display_phone_number: String,
    status: String,
    code_verification_status: String,
    platform_type: String,
    throughput: Value,
}

/// What is known of the number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// The name that customers see.
    pub vname: String,
    /// The number in digits; empty: not told.
    pub digits: String,
    pub registered: bool,
    pub verified: bool,
    /// It is surely not registered: it must be before anything can be sent.
    pub unregistered: bool,
    /// How much it may send; `None`: not told, or in words of later.
    pub level: Option<Level>,
}

impl State {
    /// From an answer; `None`: it does not say where the number stands.
    pub fn read(status: u16, body: &[u8]) -> Option<Self> {
        let success = (200..300).contains(&status);
        let told: Told = success.then(|| serde_json::from_slice(body).ok())??;
        if told.status.is_empty() {
            return None;
        }
        let here = matches!(told.platform_type.as_str(), "CLOUD_API" | "");
        // A number in trouble is a registered one all the same.
        let serves = matches!(told.status.as_str(), "CONNECTED" | "FLAGGED" | "RESTRICTED");
        let waits = matches!(
            told.status.as_str(),
            "DISCONNECTED" | "PENDING" | "UNVERIFIED" | "MIGRATED" | "DELETED"
        );
        let digits = told.display_phone_number.chars();
        Some(Self {
            vname: told.verified_name,
            digits: digits.filter(char::is_ascii_digit).collect(),
            registered: serves && here,
            verified: told.code_verification_status == "VERIFIED",
            unregistered: waits || (serves && !here),
            level: level(&told.throughput),
        })
    }

    /// As the core asks for it.
    pub fn number(&self, new_name: bool) -> Number {
        Number {
            registered: self.registered,
            verified: self.verified,
            new_name,
        }
    }
}

/// `{"level": "HIGH"}`.
fn level(throughput: &Value) -> Option<Level> {
    match throughput["level"].as_str()? {
        "STANDARD" => Some(Level::Standard),
        "HIGH" => Some(Level::High),
        _ => None,
    }
}

/// A new name was approved, and shows after the next registration. An upstream that does not know the field has none.
pub fn new_name(status: u16, body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Named {
        new_name_status: String,
    }
    (200..300).contains(&status)
        && serde_json::from_slice::<Named>(body).is_ok_and(|n| n.new_name_status == "APPROVED")
}

/// What became of a call, and the upstream's own words.
pub fn answer(status: u16, body: &[u8]) -> (Answer, String) {
    #[derive(Deserialize)]
    struct Success {
        success: bool,
    }
    if (200..300).contains(&status) {
        let done = serde_json::from_slice::<Success>(body).is_ok_and(|answer| answer.success);
        let answer = [Answer::Unknown, Answer::Accepted][usize::from(done)];
        return (answer, String::new());
    }
    match serde_json::from_slice::<ErrorAnswer>(body) {
        Ok(ErrorAnswer { error }) => {
            let doubt = matches!(error.code, 1 | 2 | 131_000 | 131_016 | 133_004);
            let answer = match doubt {
                true => Answer::Unknown,
                false => Answer::Refused(error.code),
            };
            (answer, words(&error))
        }
        // A proxy's page: whether the upstream has seen the call is not known from a 5xx.
        Err(_) if status >= 500 => (Answer::Unknown, String::new()),
        Err(_) => (Answer::Refused(0), format!("HTTP status {status}")),
    }
}

/// The upstream's words, with the number of the call in its own logs.
fn words(error: &ErrorBody) -> String {
    let said = error.details().unwrap_or(&error.message);
    let trace = error.fbtrace_id.as_deref();
    trace.map_or(said.to_owned(), |trace| {
        format!("{said}; fbtrace_id {trace}")
    })
}

/// What a person is told of a refused call: what to do about it, and when. `said`: the upstream's own words.
pub fn refused(call: Call, vendor: u32, said: &str) -> Outcome {
    let (advice, retry_after_s) = advice(call, vendor);
    let said = match said {
        "" => String::new(),
        said => format!(": {said}"),
    };
    Outcome::Failed {
        code: told_as(code::of(vendor)),
        details: format!(
            "WhatsApp refused {} with code {vendor}{said}. {advice}",
            call.as_str()
        ),
        retry_after_s,
    }
}

/// What to do about a refusal, and after how many seconds.
fn advice(call: Call, vendor: u32) -> (&'static str, Option<u32>) {
    match vendor {
        0 | 3 | 10 | 190 | 200..=299 | 131_005 => (
            "Check the access token and its permissions ([upstream] token_file), then try again",
            None,
        ),
        4 | 80_007 => (
            "Too many calls: wait an hour, then try again",
            Some(HOURS_S),
        ),
        368 | 131_031 => (
            "WhatsApp has locked the account: see WhatsApp Manager",
            None,
        ),
        131_045 => (
            "The number's certificate is not valid: see WhatsApp Manager",
            None,
        ),
        133_000 => (
            "An earlier deregistration did not finish: deregister the number in WhatsApp Manager, then try again",
            None,
        ),
        133_005 => (
            "The pin is not the number's pin: send the right one as \"pin\", or set a new one in WhatsApp Manager",
            None,
        ),
        133_006 => (
            "The number must be verified again: type POST /v1/account for a new code",
            None,
        ),
        133_008 => (
            "The pin was wrong too often: wait as long as WhatsApp says",
            Some(HOURS_S),
        ),
        133_009 => (
            "Pins were tried too fast: wait as long as WhatsApp says",
            Some(SOON_S),
        ),
        133_010 => ("The number is not registered: type POST /v1/account", None),
        133_015 => (
            "The number was deleted a moment ago: try again in 5 minutes",
            Some(MINUTES_S),
        ),
        133_016 => (
            "WhatsApp takes 10 registrations and deregistrations of a number in 72 hours: wait until they have passed",
            Some(DAYS_S),
        ),
        136_024 => (
            "No code can be sent now: a code was asked for too often, or the number needs none. See WhatsApp Manager",
            None,
        ),
        136_025 => (
            "The code is wrong or too old: type POST /v1/account for a new one",
            None,
        ),
        2_494_100 => (
            "WhatsApp is working on the number: try again in 5 minutes",
            Some(MINUTES_S),
        ),
        _ => match call {
            Call::RequestCode | Call::Register => {
                ("Correct that, then type POST /v1/account again", None)
            }
            Call::VerifyCode => (
                "Correct that, then type POST /v1/account/verify again",
                None,
            ),
        },
    }
}

/// The answer to a call that was not made.
pub fn not_made(call: Call) -> Outcome {
    Outcome::Failed {
        code: Code::NotReady,
        details: format!(
            "WhatsApp did not answer, and {} was not made: nothing was used up. Try again",
            call.as_str()
        ),
        retry_after_s: Some(1),
    }
}

/// The answer to a call whose fate nobody knows.
pub fn unknown(call: Call) -> Outcome {
    let what = call.as_str();
    let next = match call {
        Call::RequestCode => "If a code arrives, type POST /v1/account/verify with it",
        Call::VerifyCode | Call::Register => {
            "Type POST /v1/account again: it looks at the number before anything else"
        }
    };
    Outcome::Failed {
        code: Code::NotReady,
        details: format!(
            "Nobody knows whether WhatsApp took {what}, and it is not repeated by itself. {next}"
        ),
        retry_after_s: Some(SOON_S),
    }
}

/// A refusal that has no `/v1` code of an answer is no failure of ours.
fn told_as(code: Code) -> Code {
    match code.http_status() {
        500 => Code::AccessDenied,
        _ => code,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn state(status: &str, platform: &str, verified: &str) -> State {
        let body = json!({"id": "106", "status": status, "platform_type": platform, "verified_name": "Example Ltd",
            "display_phone_number": "+44 7700 900123", "code_verification_status": verified});
        State::read(200, body.to_string().as_bytes()).expect("it says so")
    }

    /// Goal: what the upstream says of the number is understood. Method: the documented words.
    #[test]
    fn a_number_is_registered_or_not() {
        for (status, platform, registered, unregistered) in [
            ("CONNECTED", "CLOUD_API", true, false),
            ("FLAGGED", "CLOUD_API", true, false),
            ("CONNECTED", "ON_PREMISE", false, true),
            ("PENDING", "NOT_APPLICABLE", false, true),
            ("UNVERIFIED", "CLOUD_API", false, true),
            ("DISCONNECTED", "CLOUD_API", false, true),
            ("BANNED", "CLOUD_API", false, false),
            ("OF_TOMORROW", "CLOUD_API", false, false),
        ] {
            let read = state(status, platform, "VERIFIED");
            assert_eq!(
                (read.registered, read.unregistered),
                (registered, unregistered),
                "{status}"
            );
        }
        let read = state("PENDING", "CLOUD_API", "NOT_VERIFIED");
        assert!(!read.verified && read.vname == "Example Ltd" && read.digits == "447700900123");
        for (status, body) in [
            (200, "{}"),
            (200, "<html>"),
            (500, r#"{"status":"CONNECTED"}"#),
        ] {
            assert_eq!(State::read(status, body.as_bytes()), None, "{body}");
        }
        assert!(new_name(200, br#"{"new_name_status":"APPROVED","id":"1"}"#));
        for (status, body) in [(200, "{}"), (400, r#"{"new_name_status":"APPROVED"}"#)] {
            assert!(!new_name(status, body.as_bytes()));
        }
    }

    /// Goal: what the number may send is understood, and nothing that stands there instead hides the rest.
    #[test]
    fn a_number_may_send_so_much() {
        for (told, wanted) in [
            (json!({"level": "STANDARD"}), Some(Level::Standard)),
            (json!({"level": "HIGH"}), Some(Level::High)),
            (json!({"level": "NOT_APPLICABLE"}), None),
            (json!({"level": 1000}), None),
            (json!("HIGH"), None),
            (json!(null), None),
            (json!([1]), None),
        ] {
            let body = json!({"status": "CONNECTED", "throughput": told});
            let read = State::read(200, body.to_string().as_bytes());
            let read = read.expect("it says where it stands");
            assert_eq!((read.level, read.registered), (wanted, true), "{body}");
        }
    }

    /// Goal: only what surely did nothing counts as refused. Method: answers of each sort.
    #[test]
    fn answers_are_refusals_or_in_doubt() {
        let error = |code: u32| json!({"error": {"code": code, "message": "m"}}).to_string();
        for (status, body, wanted) in [
            (200, r#"{"success":true}"#.into(), Answer::Accepted),
            (200, r#"{"success":true,"id":"1"}"#.into(), Answer::Accepted),
            (200, r#"{"success":false}"#.into(), Answer::Unknown),
            (200, "<html>".into(), Answer::Unknown),
            (400, error(133_016), Answer::Refused(133_016)),
            (500, error(133_005), Answer::Refused(133_005)),
            (503, error(133_004), Answer::Unknown),
            (500, error(131_000), Answer::Unknown),
            (502, "bad gateway".into(), Answer::Unknown),
            (404, "not here".into(), Answer::Refused(0)),
        ] {
            assert_eq!(answer(status, body.as_bytes()).0, wanted, "{status} {body}");
        }
    }

    /// Goal: each documented refusal is the right code, says what to do, and is no 5xx but 503. Method: the table of the facts.
    #[test]
    fn refusals_say_what_to_do() {
        for (call, vendor, code, status, retry) in [
            (Call::Register, 133_005, 1009, 400, None),
            (Call::VerifyCode, 136_025, 1009, 400, None),
            (Call::RequestCode, 136_024, 1005, 403, None),
            (Call::Register, 133_016, 1015, 429, Some(DAYS_S)),
            (Call::Register, 133_015, 1015, 429, Some(MINUTES_S)),
            (Call::Register, 133_008, 1015, 429, Some(HOURS_S)),
            (Call::Register, 133_009, 1015, 429, Some(SOON_S)),
            (Call::Register, 133_006, 1005, 403, None),
            (Call::Register, 133_000, 1005, 403, None),
            (Call::Register, 131_045, 1005, 403, None),
            (Call::Register, 2_494_100, 1011, 503, Some(MINUTES_S)),
            (Call::Register, 368, 1031, 403, None),
            (Call::Register, 190, 1005, 403, None),
            (Call::RequestCode, 100, 1009, 400, None),
            (Call::Register, 999_999, 1005, 403, None),
        ] {
            let Outcome::Failed {
                code: found,
                details,
                retry_after_s,
            } = refused(call, vendor, "w")
            else {
                panic!("{vendor}")
            };
            assert_eq!(
                (found.number(), found.http_status(), retry_after_s),
                (code, status, retry),
                "{vendor}"
            );
            assert!(
                details.contains(&vendor.to_string()) && details.contains(": w. "),
                "{details}"
            );
        }
    }
}
