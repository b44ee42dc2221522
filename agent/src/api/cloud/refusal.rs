//! What a refused call means for who asked an owner for it: the `/v1` code and its words, or that the upstream is in trouble.
//! Messages are judged elsewhere: they are sent again by themselves, and these calls never are.

use wa_core::outcome::Outcome;

use super::{ErrorAnswer, ErrorBody, callback, code};
use crate::api::owner::Settled;
use crate::api::v1::code::Code;

/// What is said while the upstream does not take our token. 401 is for credentials of clients only.
const TOKEN_REFUSED: &str = "WhatsApp refuses this installation's access token. Ask its operator for a new one, then try again";

/// The upstream does not know our token (API facts, errors): nothing was done, and nothing will be with this one.
pub fn token_refused(status: u16, body: &[u8]) -> bool {
    const ACCESS_TOKEN: u32 = 190;
    let code = || serde_json::from_slice::<ErrorAnswer>(body).map(|answer| answer.error.code);
    status == 401 || ((400..500).contains(&status) && code().is_ok_and(|code| code == ACCESS_TOKEN))
}

/// What an answer means. An error beside a 200 is one.
pub fn settled(status: u16, body: &[u8]) -> Settled {
    if token_refused(status, body) {
        return Settled::Refused {
            code: Code::NotReady,
            details: TOKEN_REFUSED.into(),
        };
    }
    let error = serde_json::from_slice::<ErrorAnswer>(body).map(|answer| answer.error);
    match (status, error) {
        (500.., _) => Settled::Unreachable,
        (_, Ok(error)) => of(&error),
        (200..300, Err(_)) => Settled::Done,
        (_, Err(_)) => Settled::Refused {
            code: Code::GenericError,
            details: format!("WhatsApp answered {status} without a reason"),
        },
    }
}

/// What an error means.
pub fn of(error: &ErrorBody) -> Settled {
    let (outcome, code) = code::meaning(error, 400);
    let said = callback::refusal(error);
    let details = said.details.unwrap_or_else(|| error.message.clone());
    let code = match outcome {
        Outcome::Unknown => return Settled::Unreachable,
        Outcome::Rejected(_) | Outcome::WaitLong => Code::TooManyRequests,
        Outcome::Sent | Outcome::Account(_) | Outcome::Failed => code,
    };
    Settled::Refused { code, details }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: whose fault it is decides what a client does next. Method: an answer of each sort.
    #[test]
    fn trouble_is_told_from_refusals() {
        let answer = |code: u32| {
            format!(r#"{{"error":{{"code":{code},"message":"m","error_data":{{"details":"d"}}}}}}"#)
        };
        let of = |status, code| settled(status, answer(code).as_bytes());
        let refused = |found: Settled| match found {
            Settled::Refused { code, .. } => code.number(),
            other => panic!("{other:?}"),
        };
        assert_eq!(settled(200, b"{\"success\":true}"), Settled::Done);
        for (status, vendor) in [
            (500, 131_009),
            (400, 131_000),
            (503, 2),
            (400, 1),
            (400, 133_004),
        ] {
            assert_eq!(of(status, vendor), Settled::Unreachable, "{vendor}");
        }
        assert_eq!(settled(502, b"bad\ngateway"), Settled::Unreachable);
        for (status, vendor, wanted) in [
            (401, 190, 1011),
            (400, 190, 1011),
            (400, 100, 1009),
            (400, 131_009, 1009),
            (403, 200, 1005),
            (400, 4, 1015),
            (429, 130_429, 1015),
            (400, 131_056, 1015),
            (200, 139_100, 1000),
        ] {
            assert_eq!(refused(of(status, vendor)), wanted, "{vendor}");
        }
        assert_eq!(refused(settled(401, b"")), 1011);
        assert_eq!(refused(settled(404, b"<html>")), 1000);
    }
}
