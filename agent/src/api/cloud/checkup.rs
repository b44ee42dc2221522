//! What an examination asks of the upstream, and what the answers mean: token, number, subscription, and how long the version lasts.
//! Pure: `ctl/doctor/upstream.rs` makes the calls.

use jiff::Span;
use jiff::civil::{Date, date};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use wa_core::alarm::Alarm;

use super::ErrorAnswer;
use super::call::{shown, standing_path, subscriptions_path, token_path};
use super::refusal::token_refused;

/// What a token must be allowed: to send, and to read and change the number and the account.
pub const SCOPES: [&str; 2] = [
    "whatsapp_business_messaging",
    "whatsapp_business_management",
];
/// Until when each version is served (the upstream's list of versions, November 2026). What is newer has no end yet; what is older
/// has ended.
const VERSIONS: [(u16, Date); 6] = [
    (20, date(2026, 9, 24)),
    (21, date(2027, 1, 21)),
    (22, date(2027, 5, 20)),
    (23, date(2027, 10, 8)),
    (24, date(2028, 2, 18)),
    (25, date(2028, 7, 29)),
];

/// How long a version is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// For longer than the alarm's limit; `None`: no end is known.
    Lasts(Option<Date>),
    /// Until then: in fewer days than the alarm's limit.
    Ends(Date),
    /// It is not served any more, since then where that is known.
    Ended(Option<Date>),
    /// It does not look like `v25.0`.
    NoVersion,
}

/// When a version ends (the end of its last day, UTC), in seconds since 1970; `None`: no end of it is known.
pub fn version_end_s(version: &str) -> Option<i64> {
    let number = number_of(version)?;
    let (_, end) = VERSIONS.iter().find(|(known, _)| *known == number)?;
    let end = end.saturating_add(Span::new().days(1));
    let moment = TimeZone::UTC.to_timestamp(end.at(0, 0, 0, 0)).ok()?;
    Some(moment.as_second())
}

/// The number of a version that looks like `v25.0`.
fn number_of(version: &str) -> Option<u16> {
    let (major, minor) = version.strip_prefix('v')?.split_once('.')?;
    minor.parse::<u16>().ok()?;
    major.parse::<u16>().ok()
}

impl Version {
    /// How a version stands on a day.
    pub fn of(version: &str, today: Date) -> Self {
        let Some(number) = number_of(version) else {
            return Self::NoVersion;
        };
        if number < VERSIONS[0].0 {
            return Self::Ended(None);
        }
        let Some((_, end)) = VERSIONS.iter().find(|(known, _)| *known == number) else {
            return Self::Lasts(None);
        };
        let soon = today.saturating_add(Span::new().days(Alarm::VersionEnds.row().limit));
        match () {
            () if *end < today => Self::Ended(Some(*end)),
            () if *end < soon => Self::Ends(*end),
            () => Self::Lasts(Some(*end)),
        }
    }
}

/// What is asked. It may hold the token, so nothing prints it.
#[derive(Clone, PartialEq, Eq)]
pub enum Look<'a> {
    /// How the number stands.
    Number { phone_number_id: &'a str },
    /// What the token is allowed, and until when it lives. The upstream takes the token in question only in the address.
    Token { token: &'a str },
    /// Which apps get the account's events.
    Subscriptions { waba_id: &'a str },
}

impl Look<'_> {
    /// The path below the version. That of [`Look::Token`] is a secret.
    pub fn path(&self) -> String {
        match self {
            Self::Number { phone_number_id } => standing_path(phone_number_id),
            Self::Token { token } => token_path(token),
            Self::Subscriptions { waba_id } => subscriptions_path(waba_id),
        }
    }
}

/// Why an answer says nothing of what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Silence {
    #[error("the upstream refuses the access token")]
    Token,
    #[error("the upstream refuses to say (error {code}: {text})")]
    Refused { code: u32, text: String },
    #[error("the upstream answers {status} without saying it")]
    Unread { status: u16 },
}

/// The number. What is empty was not told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Number {
    pub status: String,
    #[serde(default)]
    pub quality_rating: String,
    #[serde(default)]
    pub name_status: String,
    /// The name that customers see.
    #[serde(default)]
    pub verified_name: String,
    #[serde(default)]
    pub display_phone_number: String,
}

/// The token.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Token {
    pub is_valid: bool,
    pub scopes: Vec<String>,
    /// In seconds since 1970; 0: it does not expire.
    pub expires_at: i64,
    /// The app that it belongs to.
    pub app_id: String,
}

impl Token {
    /// What it lacks.
    pub fn missing(&self) -> Vec<&'static str> {
        let has = |scope: &&str| self.scopes.iter().any(|own| own == scope);
        SCOPES.into_iter().filter(|scope| !has(scope)).collect()
    }
}

/// Reads how the number stands.
///
/// # Errors
/// [`Silence`]
pub fn number(status: u16, body: &[u8]) -> Result<Number, Silence> {
    read(status, body)
}

/// Reads the limit of the business, in the upstream's word (`TIER_2K`).
///
/// # Errors
/// [`Silence`]
pub fn limit(status: u16, body: &[u8]) -> Result<String, Silence> {
    #[derive(Deserialize)]
    struct Answer {
        whatsapp_business_manager_messaging_limit: String,
    }
    read(status, body).map(|answer: Answer| answer.whatsapp_business_manager_messaging_limit)
}

/// Reads how the token stands.
///
/// # Errors
/// [`Silence`]
pub fn token(status: u16, body: &[u8]) -> Result<Token, Silence> {
    #[derive(Deserialize)]
    struct Answer {
        data: Token,
    }
    read(status, body).map(|answer: Answer| answer.data)
}

/// Reads the ids of the apps that get the account's events.
///
/// # Errors
/// [`Silence`]
pub fn subscriptions(status: u16, body: &[u8]) -> Result<Vec<String>, Silence> {
    #[derive(Deserialize)]
    struct Answer {
        data: Vec<App>,
    }
    #[derive(Deserialize)]
    struct App {
        whatsapp_business_api_data: Data,
    }
    #[derive(Deserialize)]
    struct Data {
        id: String,
    }
    let answer: Answer = read(status, body)?;
    let apps = answer.data.into_iter();
    Ok(apps.map(|app| app.whatsapp_business_api_data.id).collect())
}

fn read<T: serde::de::DeserializeOwned>(status: u16, body: &[u8]) -> Result<T, Silence> {
    if token_refused(status, body) {
        return Err(Silence::Token);
    }
    if let Ok(answer) = serde_json::from_slice::<ErrorAnswer>(body) {
        return Err(Silence::Refused {
            code: answer.error.code,
            text: shown(answer.error.message.as_bytes()),
        });
    }
    let good = (200..300).contains(&status);
    let answer = good.then(|| serde_json::from_slice(body).ok()).flatten();
    answer.ok_or(Silence::Unread { status })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: an operator hears 90 days before a version ends, and not earlier. Method: days around the end of one, and
    /// versions of every sort.
    #[test]
    fn versions_end_when_the_list_says() {
        let end = date(2027, 1, 21);
        let on = |version, today| Version::of(version, today);
        assert_eq!(on("v21.0", date(2026, 10, 23)), Version::Lasts(Some(end)));
        assert_eq!(on("v21.0", date(2026, 10, 24)), Version::Ends(end));
        assert_eq!(on("v21.0", end), Version::Ends(end));
        assert_eq!(on("v21.0", date(2027, 1, 22)), Version::Ended(Some(end)));
        assert_eq!(on("v17.0", end), Version::Ended(None));
        assert_eq!(version_end_s("v21.0"), Some(1_800_576_000));
        assert_eq!((version_end_s("v99.0"), version_end_s("25")), (None, None));
        assert_eq!(on("v26.0", end), Version::Lasts(None));
        for none in ["", "25.0", "v25", "v25.x", "vv25.0", "v-1.0", "v99999.0"] {
            assert_eq!(on(none, end), Version::NoVersion, "{none}");
        }
    }

    /// Goal: what stands in an answer is found, and what is no answer says nothing. Method: documented answers, refusals, rubbish.
    #[test]
    fn answers_are_read() {
        let told = br#"{"status":"CONNECTED","quality_rating":"GREEN","id":"1"}"#;
        assert_eq!(number(200, told).expect("read").status, "CONNECTED");
        let told = br#"{"data":{"app_id":"7","type":"SYSTEM_USER","is_valid":true,"expires_at":0,
            "scopes":["whatsapp_business_messaging","public_profile"]}}"#;
        let found = token(200, told).expect("read");
        assert_eq!(found.missing(), ["whatsapp_business_management"]);
        let told = br#"{"data":[{"whatsapp_business_api_data":{"id":"7","name":"a","link":"l"}}]}"#;
        assert_eq!(subscriptions(200, told).expect("read"), ["7"]);
        let told = br#"{"whatsapp_business_manager_messaging_limit":"TIER_2K","id":"1"}"#;
        assert_eq!(limit(200, told).expect("read"), "TIER_2K");
        assert_eq!(limit(200, b"{}"), Err(Silence::Unread { status: 200 }));
        let refused = br#"{"error":{"code":190,"message":"no"}}"#;
        assert_eq!(number(400, refused), Err(Silence::Token));
        assert_eq!(number(401, b""), Err(Silence::Token));
        let refused = br#"{"error":{"code":200,"message":"not yours"}}"#;
        assert!(matches!(
            subscriptions(403, refused),
            Err(Silence::Refused { code: 200, .. })
        ));
        for body in [&b""[..], b"<html>", b"{}", b"{\"data\":7}"] {
            assert_eq!(token(200, body), Err(Silence::Unread { status: 200 }));
        }
    }

    /// Goal: ids and tokens cannot leave their place in an address.
    #[test]
    fn paths_hold_what_they_are_given() {
        assert_eq!(
            Look::Token { token: "a&b=c" }.path(),
            "debug_token?input_token=a%26b%3Dc"
        );
        assert_eq!(
            Look::Subscriptions { waba_id: "1/2" }.path(),
            "1%2F2/subscribed_apps"
        );
        let number = Look::Number {
            phone_number_id: "3",
        };
        assert!(number.path().starts_with("3?fields=status"));
    }
}
