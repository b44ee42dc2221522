//! Media providers as the row of the settings holds them: the names that messages give, and what a link is fetched with.
//! Fetches nothing, and shows no secret.

use std::collections::BTreeMap;
use std::fmt;

use headers::Authorization;
use headers::authorization::Credentials as _;
use http::HeaderValue;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

/// Our own form of the row `media-providers`: providers by name.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Providers {
    pub providers: BTreeMap<String, Credentials>,
}

/// What a provider wants to see.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Credentials {
    Bearer(String),
    Basic { username: String, password: String },
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bearer(_) => "Bearer(****)",
            Self::Basic { .. } => "Basic(****)",
        })
    }
}

impl Credentials {
    /// The value of the header `Authorization`; `None` when no header can hold them.
    pub fn header(&self) -> Option<HeaderValue> {
        let mut value = match self {
            Self::Bearer(token) => Authorization::bearer(token).ok()?.0.encode(),
            Self::Basic { username, password } => {
                Authorization::basic(username, password).0.encode()
            }
        };
        value.set_sensitive(true);
        Some(value)
    }
}

/// The names in a row; `None` when it cannot be read here.
pub fn names(row: &str) -> Option<Vec<String>> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Names {
        providers: BTreeMap<String, IgnoredAny>,
    }
    let read: Names = serde_json::from_str(row).ok()?;
    Some(read.providers.into_keys().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: &str = r#"{"providers":{"cdn":{"bearer":"secret-1"},"intranet":{"basic":{"username":"u","password":"secret-2"}}}}"#;

    /// Goal: credentials become the header that the standards have, and are never shown. Method: both sorts, and a token that
    /// no header can hold.
    #[test]
    fn credentials_become_headers_and_are_not_shown() {
        let read: Providers = serde_json::from_str(ROW).expect("readable");
        let header = |name: &str| read.providers[name].header().expect("possible");
        assert_eq!(header("cdn"), "Bearer secret-1");
        assert_eq!(header("intranet"), "Basic dTpzZWNyZXQtMg==");
        assert!(header("cdn").is_sensitive() && header("intranet").is_sensitive());
        assert!(!format!("{:?}", read.providers).contains("secret"));
        assert_eq!(Credentials::Bearer("a\r\nb: c".into()).header(), None);
    }

    #[test]
    fn names_are_read_without_secrets() {
        assert_eq!(names(ROW), Some(vec!["cdn".into(), "intranet".into()]));
        assert_eq!(names("{}"), Some(Vec::new()));
        assert_eq!(names("v1.sealed"), None);
    }
}
