//! The calls that an owner makes to the upstream, but for those that stream a file: method, path, body, and what an answer
//! means. Pure: `coreapp/upstream.rs` makes them.

use serde_json::{Value, json};

pub use super::refusal::{settled, token_refused};
use super::{ErrorAnswer, block, code, profile};
use crate::api::owner::OwnerCall;
use crate::api::registration::{Backup, CodeMethod, Hidden};
use crate::api::v1::business::{Compliance, ProfileChange};
use crate::api::v1::code::Code;
use crate::api::v1::photo::Photo;
use crate::api::v1::who::Recipient;

/// Longest answer kept for a log line, in bytes; answers carry no message bodies.
const TEXT_LEN_MAX: usize = 200;
/// What is read of a template.
const TEMPLATE_FIELDS: &str = "name,language,status,category,components,parameter_format";
/// Templates a page: a few kilobytes each.
const TEMPLATES_A_PAGE: &str = "100";
/// What is read of the number, before it is registered and later.
const NUMBER_FIELDS: &str = "verified_name,display_phone_number,status,code_verification_status,name_status,platform_type,throughput";
/// What people are shown of the number, and of the limit of the business.
const STANDING_FIELDS: &str =
    "status,quality_rating,name_status,verified_name,display_phone_number";
const LIMIT_FIELD: &str = "whatsapp_business_manager_messaging_limit";
/// A new name of a number that is registered.
const NEW_NAME_FIELDS: &str = "new_name_status";

/// Everything that is asked of the upstream with a body in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Send a message: the body that `request.rs` made of it.
    Send(Value),
    MarkRead {
        wamid: String,
    },
    /// Tell identity keys with messages, or do not.
    IdentityCheck {
        on: bool,
    },
    /// The number itself: does the upstream answer?
    Number,
    /// Does the upstream take our token for the number?
    Probe,
    /// Until when this token lives.
    TokenState {
        token: Hidden,
    },
    /// What the console shows of the number, of its limit, and of the apps that get the account's events (see `checkup.rs`).
    Standing,
    Limit,
    Subscriptions {
        waba_id: String,
    },
    /// Where the registration of the number stands.
    NumberState,
    /// Whether a new name of the number was approved.
    NewName,
    /// Send a code to the number.
    RequestCode {
        method: CodeMethod,
        language: String,
    },
    VerifyCode {
        code: Hidden,
    },
    Register {
        pin: Hidden,
        backup: Option<Backup>,
    },
    /// Set the number's pin.
    SetPin {
        pin: Hidden,
    },
    /// What is known of a file.
    Medium {
        id: String,
    },
    /// A page of the account's templates: of this name, or all; from this cursor, or from the beginning.
    Templates {
        waba_id: String,
        name: Option<String>,
        after: Option<String>,
    },
    /// The business profile.
    Profile,
    ChangeProfile(ProfileChange),
    Compliance,
    ChangeCompliance(Compliance),
    Block(Recipient),
    Unblock(Recipient),
    /// Begin to upload a photo for this app: `coreapp/profile.rs` sends the bytes.
    BeginUpload {
        app_id: String,
        photo: Photo,
    },
    /// Make an uploaded file the photo of the profile.
    ChangePhoto {
        handle: String,
    },
}

/// How a call is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Get,
    Post,
    Delete,
}

impl Call {
    /// What an owner's call asks of the upstream; `None` when it asks nothing.
    pub fn of(call: &OwnerCall) -> Option<Self> {
        match call {
            // Many calls, which `coreapp/template.rs` makes.
            OwnerCall::Accept { .. } | OwnerCall::LookUpTemplate { .. } => None,
            // Several, which `coreapp/fetch.rs` makes.
            OwnerCall::FetchMedium { .. } => None,
            // Several, which `coreapp/registration` makes.
            OwnerCall::AskRegistration(_) | OwnerCall::VerifyRegistration(_) => None,
            OwnerCall::TwoStep { pin } => Some(Self::SetPin { pin: pin.clone() }),
            // Several calls, which `coreapp/profile.rs` makes.
            OwnerCall::ReadPhoto | OwnerCall::ChangePhoto { .. } => None,
            OwnerCall::MarkRead { wamid } => Some(Self::MarkRead {
                wamid: wamid.clone(),
            }),
            OwnerCall::ReadProfile => Some(Self::Profile),
            OwnerCall::ChangeProfile { change } => Some(Self::ChangeProfile(change.clone())),
            OwnerCall::ReadCompliance => Some(Self::Compliance),
            OwnerCall::ChangeCompliance { info } => Some(Self::ChangeCompliance(info.clone())),
            OwnerCall::Block { who } => Some(Self::Block(who.clone())),
            OwnerCall::Unblock { who } => Some(Self::Unblock(who.clone())),
        }
    }

    /// See [`Method`].
    pub fn method(&self) -> Method {
        match self {
            Self::Send(_)
            | Self::MarkRead { .. }
            | Self::IdentityCheck { .. }
            | Self::ChangeProfile(_)
            | Self::ChangeCompliance(_)
            | Self::Block(_)
            | Self::BeginUpload { .. }
            | Self::ChangePhoto { .. } => Method::Post,
            Self::RequestCode { .. } | Self::VerifyCode { .. } => Method::Post,
            Self::Register { .. } | Self::SetPin { .. } => Method::Post,
            Self::NumberState | Self::NewName | Self::TokenState { .. } => Method::Get,
            Self::Standing | Self::Limit | Self::Subscriptions { .. } => Method::Get,
            Self::Number
            | Self::Probe
            | Self::Medium { .. }
            | Self::Templates { .. }
            | Self::Profile
            | Self::Compliance => Method::Get,
            Self::Unblock(_) => Method::Delete,
        }
    }

    /// The path below the version, for the number with this id.
    pub fn path(&self, phone_number_id: &str) -> String {
        match self {
            Self::Send(_) | Self::MarkRead { .. } => format!("{phone_number_id}/messages"),
            Self::IdentityCheck { .. } => format!("{phone_number_id}/settings"),
            Self::Number | Self::SetPin { .. } => phone_number_id.to_owned(),
            Self::Probe => format!("{phone_number_id}?fields=id"),
            Self::TokenState { token } => token_path(&token.0),
            Self::Standing => standing_path(phone_number_id),
            Self::Limit => limit_path(phone_number_id),
            Self::Subscriptions { waba_id } => subscriptions_path(waba_id),
            Self::NumberState => format!("{phone_number_id}?fields={NUMBER_FIELDS}"),
            Self::NewName => format!("{phone_number_id}?fields={NEW_NAME_FIELDS}"),
            Self::RequestCode { .. } => format!("{phone_number_id}/request_code"),
            Self::VerifyCode { .. } => format!("{phone_number_id}/verify_code"),
            Self::Register { .. } => format!("{phone_number_id}/register"),
            Self::Medium { id } => encoded(id),
            Self::Profile => format!(
                "{phone_number_id}/whatsapp_business_profile?fields={}",
                profile::FIELDS
            ),
            Self::ChangeProfile(_) | Self::ChangePhoto { .. } => {
                format!("{phone_number_id}/whatsapp_business_profile")
            }
            Self::Compliance | Self::ChangeCompliance(_) => {
                format!("{phone_number_id}/business_compliance_info")
            }
            Self::Block(_) | Self::Unblock(_) => format!("{phone_number_id}/block_users"),
            Self::BeginUpload { app_id, photo } => profile::upload_path(app_id, photo),
            Self::Templates {
                waba_id,
                name,
                after,
            } => {
                let mut query = url::form_urlencoded::Serializer::new(String::new());
                query.append_pair("fields", TEMPLATE_FIELDS);
                query.append_pair("limit", TEMPLATES_A_PAGE);
                for (field, value) in [("name", name), ("after", after)] {
                    if let Some(value) = value {
                        query.append_pair(field, value);
                    }
                }
                let waba_id = encoded(waba_id);
                format!("{waba_id}/message_templates?{}", query.finish())
            }
        }
    }

    /// The JSON that goes along.
    pub fn body(&self) -> Option<Value> {
        match self {
            Self::Send(body) => Some(body.clone()),
            Self::MarkRead { wamid } => Some(super::request::read_status(wamid)),
            Self::IdentityCheck { on } => {
                Some(json!({"user_identity_change": {"enable_identity_key_check": on}}))
            }
            Self::RequestCode { method, language } => {
                let method = match method {
                    CodeMethod::Sms => "SMS",
                    CodeMethod::Voice => "VOICE",
                };
                Some(json!({"code_method": method, "language": language}))
            }
            Self::VerifyCode { code } => Some(json!({"code": code.0})),
            Self::Register { pin, backup } => {
                let mut body = json!({"messaging_product": "whatsapp", "pin": pin.0});
                if let Some(backup) = backup {
                    body["backup"] = json!({"password": backup.password.0, "data": backup.data.0});
                }
                Some(body)
            }
            Self::SetPin { pin } => Some(json!({"pin": pin.0})),
            Self::NumberState | Self::NewName | Self::TokenState { .. } => None,
            Self::Standing | Self::Limit | Self::Subscriptions { .. } => None,
            Self::ChangeProfile(change) => Some(profile::change(change)),
            Self::ChangeCompliance(info) => Some(profile::change_compliance(info)),
            Self::Block(who) | Self::Unblock(who) => Some(block::body(who)),
            Self::ChangePhoto { handle } => Some(profile::change_photo(handle)),
            Self::Number
            | Self::Probe
            | Self::Medium { .. }
            | Self::Templates { .. }
            | Self::Profile
            | Self::Compliance
            | Self::BeginUpload { .. } => None,
        }
    }
}

/// Where it is asked what a token is allowed: the path is a secret.
pub(super) fn token_path(token: &str) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("input_token", token);
    format!("debug_token?{}", query.finish())
}

/// Where it is asked how the number stands.
pub(super) fn standing_path(phone_number_id: &str) -> String {
    format!("{}?fields={STANDING_FIELDS}", encoded(phone_number_id))
}

/// Where it is asked how many customers the business may write to unasked.
pub(super) fn limit_path(phone_number_id: &str) -> String {
    format!("{}?fields={LIMIT_FIELD}", encoded(phone_number_id))
}

/// Where it is asked which apps get the account's events.
pub(super) fn subscriptions_path(waba_id: &str) -> String {
    format!("{}/subscribed_apps", encoded(waba_id))
}

/// As a part of a path.
pub(super) fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// The `/v1` code and the words of a refused call.
pub fn refusal(answer: &[u8]) -> (Code, String) {
    match serde_json::from_slice::<ErrorAnswer>(answer) {
        Ok(answer) => (code::of(answer.error.code), answer.error.message),
        Err(_) => (Code::GenericError, shown(answer)),
    }
}

/// The beginning of an answer, for a log line.
pub(super) fn shown(answer: &[u8]) -> String {
    String::from_utf8_lossy(&answer[..answer.len().min(TEXT_LEN_MAX)]).replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what people are shown of the number is asked for as documented. Method: each look.
    #[test]
    fn looks_are_the_documented_requests() {
        let waba_id = "1/2".into();
        for (call, path) in [
            (
                Call::Standing,
                "106?fields=status,quality_rating,name_status,verified_name,display_phone_number",
            ),
            (
                Call::Limit,
                "106?fields=whatsapp_business_manager_messaging_limit",
            ),
            (Call::Subscriptions { waba_id }, "1%2F2/subscribed_apps"),
        ] {
            assert_eq!(
                (call.method(), call.body()),
                (Method::Get, None),
                "{call:?}"
            );
            assert_eq!(call.path("106"), path, "{call:?}");
        }
    }

    /// Goal: each call is the documented request (Cloud API reference). Method: every variant once, the whole of it.
    #[test]
    fn each_call_is_the_documented_request() {
        let read = OwnerCall::MarkRead {
            wamid: "wamid.A/b=".into(),
        };
        let read = Call::of(&read).expect("the upstream is asked");
        let told =
            json!({"messaging_product": "whatsapp", "status": "read", "message_id": "wamid.A/b="});
        let templates = |name: Option<&str>, after: Option<&str>| Call::Templates {
            waba_id: "1/2".into(),
            name: name.map(Into::into),
            after: after.map(Into::into),
        };
        for (call, method, path, body) in [
            (read, Method::Post, "106/messages", Some(told)),
            (
                Call::IdentityCheck { on: true },
                Method::Post,
                "106/settings",
                Some(json!({"user_identity_change": {"enable_identity_key_check": true}})),
            ),
            (
                Call::Send(json!({"to": "49170"})),
                Method::Post,
                "106/messages",
                Some(json!({"to": "49170"})),
            ),
            (Call::Number, Method::Get, "106", None),
            (Call::Probe, Method::Get, "106?fields=id", None),
            (
                Call::TokenState {
                    token: Hidden("a&b".into()),
                },
                Method::Get,
                "debug_token?input_token=a%26b",
                None,
            ),
            (
                Call::Medium {
                    id: "a/../b?c".into(),
                },
                Method::Get,
                "a%2F%2E%2E%2Fb%3Fc",
                None,
            ),
            (
                templates(None, None),
                Method::Get,
                "1%2F2/message_templates?fields=name%2Clanguage%2Cstatus%2Ccategory%2Ccomponents%2Cparameter_format&limit=100",
                None,
            ),
            (
                templates(Some("a&b"), Some("c=")),
                Method::Get,
                "1%2F2/message_templates?fields=name%2Clanguage%2Cstatus%2Ccategory%2Ccomponents%2Cparameter_format&limit=100&name=a%26b&after=c%3D",
                None,
            ),
        ] {
            assert_eq!((call.method(), call.body()), (method, body), "{call:?}");
            assert_eq!(call.path("106"), path, "{call:?}");
        }
        let accept = OwnerCall::Accept {
            messages: Vec::new(),
        };
        registration_calls_are_the_documented_requests();
        assert_eq!(Call::of(&accept), None);
    }

    fn registration_calls_are_the_documented_requests() {
        let hidden = |text: &str| Hidden(text.into());
        let backup = Backup {
            password: hidden("p"),
            data: hidden("d"),
        };
        let pin = hidden("123456");
        let two_step = OwnerCall::TwoStep { pin: pin.clone() };
        let two_step = Call::of(&two_step).expect("the upstream is asked");
        let register = |backup| Call::Register {
            pin: pin.clone(),
            backup,
        };
        let ask = Call::RequestCode {
            method: CodeMethod::Voice,
            language: "en_US".into(),
        };
        let code = hidden("654321");
        for (call, path, body) in [
            (two_step, "106", json!({"pin": "123456"})),
            (
                ask,
                "106/request_code",
                json!({"code_method": "VOICE", "language": "en_US"}),
            ),
            (
                Call::VerifyCode { code },
                "106/verify_code",
                json!({"code": "654321"}),
            ),
            (
                register(None),
                "106/register",
                json!({"messaging_product": "whatsapp", "pin": "123456"}),
            ),
            (
                register(Some(backup)),
                "106/register",
                json!({"messaging_product": "whatsapp", "pin": "123456", "backup": {"password": "p", "data": "d"}}),
            ),
        ] {
            assert_eq!(
                (call.method(), call.path("106").as_str()),
                (Method::Post, path)
            );
            assert_eq!(call.body(), Some(body));
            let logged = format!("{call:?}");
            assert!(
                !logged.contains("123456") && !logged.contains("654321"),
                "{logged}"
            );
        }
    }

    /// Goal: a token that is not known is told from what else may be wrong. Method: one of each sort.
    #[test]
    fn a_refused_token_is_known() {
        let refused = br#"{"error":{"code":131047,"message":"Re-engagement message"}}"#;
        let (code, details) = refusal(refused);
        assert_eq!(
            (code, &*details),
            (Code::ReEngagement, "Re-engagement message")
        );
        assert_eq!(refusal(b"bad\ngateway").1, "bad gateway");
        let unknown = br#"{"error":{"code":190,"message":"expired"}}"#;
        assert!(token_refused(401, b"") && token_refused(400, unknown));
        assert!(!token_refused(400, refused) && !token_refused(500, unknown));
    }
}
