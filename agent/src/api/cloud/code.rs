//! The upstream's numbers of errors: what each means for a message, and which `/v1` code says it.

use wa_core::outcome::{Account, Answer, Outcome, Probe, classify};

use super::{ErrorAnswer, ErrorBody, SendAnswer};
use crate::api::v1::code::Code;

/// It cannot use a file of a message: it could not be fetched, is not what it must be, or is not known any more.
pub const FILE_REFUSED: u32 = 131_053;

/// This message cannot go to a user id.
pub const USER_ID_REFUSED: u32 = 131_062;
/// The number must be registered first.
pub const NOT_REGISTERED: u32 = 133_010;

/// Whether a send was refused because of a file that the message names. An id that is not known any more is also called a
/// parameter that is not valid.
pub fn names_a_file(error: &ErrorBody) -> bool {
    let words = [Some(error.message.as_str()), error.details()];
    let said = || {
        let mut words = words.into_iter().flatten();
        words.any(|text| text.to_ascii_lowercase().contains("media"))
    };
    match error.code {
        FILE_REFUSED => true,
        33 | 100 | 131_006 | 131_008 | 131_009 => said(),
        _ => false,
    }
}

/// What became of a call that was refused with this error, and the code that says so.
pub fn meaning(error: &ErrorBody, status: u16) -> (Outcome, Code) {
    (classify(error.refusal(status)), of(error.code))
}

/// The error object of an answer, whatever status it has: one beside a 200 is one, too.
pub fn error_of(body: &[u8]) -> Option<ErrorBody> {
    let answer = serde_json::from_slice::<ErrorAnswer>(body).ok()?;
    Some(answer.error)
}

/// The error object of an answer, where it has a number. One without is no answer of the API.
fn numbered(body: &[u8]) -> Option<ErrorBody> {
    let object = serde_json::from_slice::<serde_json::Value>(body).ok()?;
    object.pointer("/error/code")?;
    error_of(body)
}

/// What the answer to a send is. Success only with an id (F06); what is not the API's says nothing of the message.
pub fn answer(status: u16, body: &[u8]) -> Answer {
    match (numbered(body), error_of(body)) {
        (Some(error), _) => return Answer::Refused(error.refusal(status)),
        (None, Some(_)) => return Answer::Foreign,
        (None, None) => {}
    }
    let sent = serde_json::from_slice::<SendAnswer>(body).ok();
    match sent.as_ref().and_then(SendAnswer::id) {
        Some(_) if (200..300).contains(&status) => Answer::Accepted,
        Some(_) | None => Answer::Foreign,
    }
}

/// What the answer to a question about the number says: good is an object that names the number.
pub fn probe(status: u16, body: &[u8]) -> Probe {
    let outcome = match numbered(body) {
        Some(error) => classify(error.refusal(status)),
        None if status == 401 => Outcome::Account(Account::Token),
        None => {
            let object = serde_json::from_slice::<serde_json::Value>(body).ok();
            let named = object.is_some_and(|object| object.get("id").is_some());
            let error = error_of(body).is_some();
            return match named && !error && (200..300).contains(&status) {
                true => Probe::Good,
                false => Probe::Nothing,
            };
        }
    };
    match outcome {
        Outcome::Account(account) => Probe::Refused(account),
        // No such number, or none that it may be asked after.
        Outcome::Failed => Probe::Refused(Account::Suspected),
        Outcome::Sent | Outcome::Rejected(_) | Outcome::Unknown | Outcome::WaitLong => {
            Probe::Nothing
        }
    }
}

/// The `/v1` code of a number: by equal titles where there are any, the others by choice (API facts, codes).
pub fn of(vendor: u32) -> Code {
    match vendor {
        0 | 190 | 3 | 10 | 200..=299 | 131_005 | 130_497 => Code::AccessDenied,
        4 | 80_007 => Code::TooManyRequests,
        33 | 100 | 131_009 => Code::ParameterNotValid,
        368 | 131_031 => Code::SenderLocked,
        130_403 => Code::ReceiverIncapable,
        130_429 | 131_056 => Code::RateLimitHit,
        130_472 => Code::UserInExperiment,
        131_000 => Code::Generic,
        131_001 => Code::TooLong,
        131_002 => Code::RecipientTypeNotValid,
        131_006 => Code::NotFound,
        131_008 => Code::ParameterMissing,
        131_016 | 131_057 => Code::Overloaded,
        131_021 => Code::BadUser,
        131_026 => Code::ReceiverIncapable,
        131_042 => Code::PaymentIssue,
        131_043 => Code::MessageExpired,
        131_045 => Code::UnsignedCertificate,
        131_047 => Code::ReEngagement,
        131_048 | 131_049 | 131_050 | 131_064 => Code::SpamRateLimitHit,
        131_051 | 131_060 => Code::TypeNotSupported,
        131_052 => Code::MediaDownload,
        FILE_REFUSED => Code::Internal,
        USER_ID_REFUSED => Code::UserNotValid,
        131_055 | 131_063 | 134_100..=134_102 => Code::TemplateMissing,
        132_015 => Code::TemplatePaused,
        132_016 => Code::TemplateDisabled,
        132_018 => Code::ParameterFormatMismatch,
        132_000..=132_099 => {
            // Equal titles under equal ends: 132001 is 2001.
            Code::of(u64::from(vendor) - 130_000).unwrap_or(Code::GenericError)
        }
        133_004 | NOT_REGISTERED | 2_494_100 => Code::NotReady,
        133_000 | 133_006 | 136_024 => Code::AccessDenied,
        133_005 | 136_025 => Code::ParameterNotValid,
        133_008 | 133_009 | 133_015 | 133_016 => Code::TooManyRequests,
        137_000 => Code::UserPotentiallyChanged,
        _ => Code::GenericError,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: only a refusal of a file counts as one. Method: the number, and words that the upstream has for an id that it
    /// does not know.
    #[test]
    fn f14_a_refusal_of_a_file_is_known() {
        let error = |code, message: &str| ErrorBody {
            code,
            message: message.into(),
            ..ErrorBody::default()
        };
        let unknown =
            "Param image['id'] is not a valid whatsapp business account media attachment ID";
        assert!(names_a_file(&error(FILE_REFUSED, "")));
        assert!(names_a_file(&error(100, unknown)));
        assert!(!names_a_file(&error(100, "Param to is not valid")));
        assert!(!names_a_file(&error(131_047, unknown)));
    }

    /// Goal: numbers mean what the facts say. Method: the table of the facts, as numbers.
    #[test]
    fn numbers_are_those_of_the_facts() {
        #[rustfmt::skip]
        let table = [
            (131_001, 1001), (131_002, 1002), (131_005, 1005), (131_006, 1006), (131_008, 1008), (131_009, 1009),
            (131_016, 1016), (131_021, 1021), (131_026, 1026), (131_031, 1031), (132_000, 2000), (132_001, 2001),
            (132_005, 2005), (132_007, 2007), (132_012, 2012), (132_068, 2068), (132_069, 2069),
            (130_429, 429), (130_472, 472), (131_000, 500), (131_042, 402), (131_043, 410), (131_045, 430),
            (131_047, 470), (131_048, 471), (131_051, 501), (131_052, 400), (131_053, 1014), (131_056, 429),
            (80_007, 1015), (4, 1015), (190, 1005), (0, 1005), (100, 1009), (132_015, 2061), (132_016, 2062),
            (133_010, 1011), (131_049, 471), (131_060, 501), (131_062, 1013), (137_000, 480), (132_018, 2012),
            (130_497, 1005), (131_055, 2001), (999_999, 1000), (131_099, 1000), (132_099, 1000), (u32::MAX, 1000),
        ];
        for (vendor, code) in table {
            assert_eq!(of(vendor).number(), code, "{vendor}");
        }
    }

    /// Goal (F06): a send is a success only with an id, and what is not the API's says nothing. Method: answers as proxies,
    /// sign-in pages and the API give them.
    #[test]
    fn f06_success_has_an_id() {
        let good =
            br#"{"messaging_product":"whatsapp","contacts":[],"messages":[{"id":"wamid.A=="}]}"#;
        assert_eq!(answer(200, good), Answer::Accepted);
        assert_eq!(answer(502, good), Answer::Foreign);
        for foreign in [
            &b"<html>Sign in</html>"[..],
            b"",
            b"{}",
            br#"{"messages":[]}"#,
            br#"{"messages":[{"id":""}]}"#,
            br#"{"messages":[{"id":"not an id"}]}"#,
            br#"{"messages":[{"id":7}]}"#,
            br#"{"success":true}"#,
            b"[1]",
        ] {
            for status in [200, 204, 301, 400, 403, 404, 407, 502] {
                let found = answer(status, foreign);
                assert_eq!(found, Answer::Foreign, "{status} {foreign:?}");
            }
        }
        let beside = br#"{"error":{"code":190,"error_subcode":460,"message":"m"}}"#;
        let Answer::Refused(refusal) = answer(200, beside) else {
            panic!("an error beside a 200 is one");
        };
        assert_eq!((refusal.code, refusal.subcode), (190, 460));
        for status in [200, 400, 403, 500, 503] {
            for nameless in [
                &br#"{"error":{}}"#[..],
                br#"{"error":{"message":"no route"}}"#,
                br#"{"error":{},"messages":[{"id":"wamid.A=="}]}"#,
            ] {
                assert_eq!(answer(status, nameless), Answer::Foreign, "{status}");
            }
        }
        assert_eq!(
            answer(500, br#"{"error":{"code":0}}"#).outcome(),
            Outcome::Unknown
        );
    }

    #[test]
    fn f05_a_question_tells_the_account_from_trouble() {
        let error = |code: u32| format!(r#"{{"error":{{"code":{code}}}}}"#);
        assert_eq!(probe(200, br#"{"id":"1"}"#), Probe::Good);
        for (status, body, wanted) in [
            (200, "<html>".into(), Probe::Nothing),
            (401, String::new(), Probe::Refused(Account::Token)),
            (400, error(190), Probe::Refused(Account::Token)),
            (400, error(100), Probe::Refused(Account::Suspected)),
            (403, error(131_031), Probe::Refused(Account::Locked)),
            (503, error(2), Probe::Nothing),
            (429, error(4), Probe::Nothing),
            (502, "bad gateway".into(), Probe::Nothing),
            (403, r#"{"error":{"message":"m"}}"#.into(), Probe::Nothing),
            (200, r#"{"error":{},"id":"1"}"#.into(), Probe::Nothing),
            (403, error(10), Probe::Refused(Account::Suspected)),
            (503, error(10), Probe::Nothing),
        ] {
            assert_eq!(probe(status, body.as_bytes()), wanted, "{status} {body}");
        }
    }
}
