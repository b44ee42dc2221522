//! Blocking and unblocking one customer: the upstream's request, and what its answer means for this customer.
//! The upstream takes a list, and answers for each of its users; an error beside it may speak of others.

use serde_json::{Value, json};

use super::{ErrorBody, callback, refusal};
use crate::api::owner::Settled;
use crate::api::v1::code::Code;
use crate::api::v1::who::Recipient;

/// The customer has not written in the last day.
const NOT_ENGAGED: u32 = 131_047;

/// The body of both calls.
pub fn body(who: &Recipient) -> Value {
    let user = match who {
        Recipient::Phone(digits) => json!({ "user": digits }),
        Recipient::International(digits) => json!({"user": format!("+{digits}")}),
        Recipient::User(id) => json!({ "user_id": id }),
    };
    json!({"messaging_product": "whatsapp", "block_users": [user]})
}

/// What an answer means for this customer, whatever its HTTP status is.
pub fn settled(status: u16, body: &[u8], who: &Recipient) -> Settled {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    let users = |list: &str| {
        let users = answer.get("block_users").and_then(|lists| lists.get(list));
        users.and_then(Value::as_array).into_iter().flatten()
    };
    let is = |user: &&Value| names(user, who);
    if users("added_users")
        .chain(users("removed_users"))
        .any(|user| is(&user))
    {
        return Settled::Done;
    }
    if let Some(failed) = users("failed_users").find(is) {
        return refused(failed);
    }
    refusal::settled(status, body)
}

/// An item of a list is about this customer.
fn names(user: &Value, who: &Recipient) -> bool {
    let word = |name: &str| user.get(name).and_then(Value::as_str);
    let digits = |text: &str| -> String { text.chars().filter(char::is_ascii_digit).collect() };
    match who {
        Recipient::Phone(own) | Recipient::International(own) => ["input", "user", "wa_id"]
            .into_iter()
            .filter_map(word)
            .any(|text| digits(text) == *own),
        Recipient::User(own) => ["input", "user", "user_id"]
            .into_iter()
            .filter_map(word)
            .any(|text| text == own),
    }
}

/// Why one customer was not blocked. One that was blocked already is no failure.
fn refused(failed: &Value) -> Settled {
    let error = failed.get("errors").and_then(|errors| errors.get(0));
    let error = error.cloned().unwrap_or_default();
    let error: ErrorBody = serde_json::from_value(error).unwrap_or_default();
    let said = [Some(error.message.as_str()), error.details()];
    let already = |text: &str| text.to_ascii_lowercase().contains("already");
    if said.into_iter().flatten().any(already) {
        return Settled::Done;
    }
    if error.code == NOT_ENGAGED {
        let details = callback::refusal(&error).details.unwrap_or_default();
        return Settled::Refused {
            code: Code::ContactNotEngaged,
            details,
        };
    }
    match refusal::of(&error) {
        // Whom nobody can block: another business, or the business itself.
        Settled::Refused {
            code: Code::BadUser | Code::ReceiverIncapable | Code::UserNotValid | Code::GenericError,
            details,
        } => Settled::Refused {
            code: Code::ParameterNotValid,
            details,
        },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(text: &str) -> Recipient {
        Recipient::parse(text).expect("somebody")
    }

    fn code(settled: Settled) -> u16 {
        match settled {
            Settled::Done => 0,
            Settled::Refused { code, .. } => code.number(),
            other => panic!("{other:?}"),
        }
    }

    fn settled_for(status: u16, answer: &Value, text: &str) -> Settled {
        settled(status, answer.to_string().as_bytes(), &who(text))
    }

    #[test]
    fn each_customer_has_the_field_of_its_kind() {
        for (text, user) in [
            ("16315551000", json!({"user": "16315551000"})),
            ("+16315551000", json!({"user": "+16315551000"})),
            (
                "US.13491208655302741918",
                json!({"user_id": "US.13491208655302741918"}),
            ),
        ] {
            let wanted = json!({"messaging_product": "whatsapp", "block_users": [user]});
            assert_eq!(body(&who(text)), wanted, "{text}");
        }
    }

    /// Goal: an error beside the lists is a success for who was added, and a refusal for who failed.
    /// Method: one partial answer with HTTP 200, looked at for both, and with 400.
    #[test]
    fn a_partial_failure_is_read_for_each() {
        let failed = json!({"input": "16315551001", "wa_id": "16315551001",
                            "errors": [{"code": 131_047, "message": "Re-engagement message", "error_data": {"details": "24 hours"}}]});
        let partial = json!({"messaging_product": "whatsapp",
            "block_users": {"added_users": [{"input": "+16315551000", "wa_id": "16315551000"}], "failed_users": [failed]},
            "error": {"code": 139_100, "message": "(#139100) Failed to block/unblock users"}});
        for status in [200, 400] {
            assert_eq!(code(settled_for(status, &partial, "+16315551000")), 0);
            assert_eq!(code(settled_for(status, &partial, "+16315551001")), 2048);
        }
        assert_eq!(
            code(settled_for(200, &partial, "+16315551002")),
            1000,
            "nobody speaks of him"
        );
        let removed =
            json!({"block_users": {"removed_users": [{"input": "US.1", "user_id": "US.1"}]}});
        assert_eq!(code(settled_for(200, &removed, "US.1")), 0);
    }

    #[test]
    fn who_cannot_be_blocked_is_not_valid_and_who_is_already_is_done() {
        let answer = |vendor: u32, message: &str| {
            json!({"block_users": {"failed_users": [{"input": "16315551000", "errors": [{"code": vendor, "message": message}]}]},
                   "error": {"code": 139_100, "message": "x"}})
        };
        for (vendor, message, wanted) in [
            (100, "Invalid parameter", 1009),
            (131_021, "Recipient cannot be sender", 1009),
            (139_100, "a business", 1009),
            (139_100, "User is already blocked", 0),
            (131_047, "Re-engagement message", 2048),
        ] {
            let found = settled_for(200, &answer(vendor, message), "16315551000");
            assert_eq!(code(found), wanted, "{vendor}");
        }
        assert_eq!(
            code(settled_for(200, &json!({"success": true}), "16315551000")),
            0
        );
    }
}
