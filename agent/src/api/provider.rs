//! Media providers as the row of the settings holds them: the names that messages give, and what a link is fetched with.
//! Fetches, seals and opens nothing.

use std::collections::BTreeMap;
use std::fmt;

use headers::Authorization;
use headers::authorization::Credentials as _;
use http::HeaderValue;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;
use zeroize::Zeroize as _;

/// What stands in the place of a secret where it is shown.
pub const MASK: &str = "****";

/// Our own form of the row `media-providers`: providers by name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Providers {
    pub providers: BTreeMap<String, Stored>,
}

/// A provider in the row.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Stored {
    Sealed {
        /// [`Provider`] as JSON, sealed for the owners.
        sealed: String,
        /// Said again for whoever may not open it; what counts is sealed.
        #[serde(flatten)]
        shown: Shown,
    },
    /// As releases before sealing wrote it.
    Plain(Credentials),
    /// A newer release wrote it: it stays as it is.
    Unknown(Value),
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sealed { shown, .. } => write!(f, "Sealed({shown:?})"),
            Self::Plain(credentials) => write!(f, "Plain({credentials:?})"),
            Self::Unknown(_) => f.write_str("Unknown"),
        }
    }
}

/// What everybody may know of a provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    pub scheme: Scheme,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// See [`Provider::hosts`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
}

/// Sorts of credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheme {
    Bearer,
    Basic,
}

/// The whole of a provider, in the clear.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provider {
    pub credentials: Credentials,
    /// Where the credentials may go, as [`origin`] reads them; empty: wherever a link leads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
}

impl Provider {
    /// What is shown of it.
    pub fn shown(&self) -> Shown {
        let (scheme, username) = match &self.credentials {
            Credentials::Bearer(_) => (Scheme::Bearer, None),
            Credentials::Basic { username, .. } => (Scheme::Basic, Some(username.clone())),
        };
        Shown {
            scheme,
            username,
            hosts: self.hosts.clone(),
        }
    }
}

/// Whether credentials that are for these hosts may go where this link leads.
pub fn may_go(hosts: &[String], link: &str) -> bool {
    let Ok(link) = Url::parse(link) else {
        return false;
    };
    let allowed = |host: &String| origin(host).is_some_and(|url| url.origin() == link.origin());
    hosts.is_empty() || hosts.iter().any(allowed)
}

/// Reads `host`, `host:port` or `https://host:port` as an origin; without a scheme it is `https`. `None` for what is none, or
/// is more than that.
pub fn origin(host: &str) -> Option<Url> {
    let text = match host.contains("://") {
        true => host.to_owned(),
        false => format!("https://{host}"),
    };
    let url = Url::parse(&text).ok()?;
    let bare = url.username().is_empty() && url.password().is_none();
    let bare = bare && url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let web = matches!(url.scheme(), "https" | "http") && url.has_host();
    (bare && web && !host.ends_with('/')).then_some(url)
}

/// Where the sealed text of a provider stands in the row (RFC 6901, without the first slash).
pub fn field(name: &str) -> String {
    let name = name.replace('~', "~0").replace('/', "~1");
    format!("providers/{name}/sealed")
}

/// What a provider wants to see. Wiped from memory at its end.
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

impl Drop for Credentials {
    fn drop(&mut self) {
        match self {
            Self::Bearer(token) => token.zeroize(),
            Self::Basic { username, password } => {
                username.zeroize();
                password.zeroize();
            }
        }
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

    /// These, with what is shown as [`MASK`] taken from the old ones. `None`: there is no such secret.
    pub fn unmasked(&self, old: Option<&Self>) -> Option<Self> {
        if !self.masked() {
            return Some(self.clone());
        }
        match (self, old?) {
            (Self::Bearer(_), Self::Bearer(old)) => Some(Self::Bearer(old.clone())),
            (Self::Basic { username, .. }, Self::Basic { password: old, .. }) => {
                Some(Self::Basic {
                    username: username.clone(),
                    password: old.clone(),
                })
            }
            (Self::Bearer(_), Self::Basic { .. }) | (Self::Basic { .. }, Self::Bearer(_)) => None,
        }
    }

    /// The secret of them is only [`MASK`].
    pub fn masked(&self) -> bool {
        match self {
            Self::Bearer(secret)
            | Self::Basic {
                password: secret, ..
            } => secret == MASK,
        }
    }
}

/// What everybody may know of the providers in a row, by name: `None` where it is not known here. `None` for a row that
/// cannot be read.
pub fn shown(row: &str) -> Option<BTreeMap<String, Option<Shown>>> {
    let read: Providers = serde_json::from_str(row).ok()?;
    let shown = |stored: Stored| match stored {
        Stored::Sealed { shown, .. } => Some(shown),
        Stored::Plain(credentials) => {
            let hosts = Vec::new();
            Some(Provider { credentials, hosts }.shown())
        }
        Stored::Unknown(_) => None,
    };
    let all = read.providers.into_iter();
    Some(all.map(|(name, stored)| (name, shown(stored))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: &str = r#"{"providers":{"cdn":{"bearer":"secret-1"},"intranet":{"basic":{"username":"u","password":"secret-2"}},
        "new":{"sealed":"v1.x","scheme":"basic","username":"u","hosts":["a.example"]},"newer":{"signed":{"secret":3}}}}"#;

    /// Goal: credentials become the header that the standards have, and are never shown. Method: both sorts, and a token that
    /// no header can hold.
    #[test]
    fn credentials_become_headers_and_are_not_shown() {
        let read: Providers = serde_json::from_str(ROW).expect("readable");
        let header = |name: &str| match &read.providers[name] {
            Stored::Plain(credentials) => credentials.header().expect("possible"),
            other => panic!("{other:?}"),
        };
        assert_eq!(header("cdn"), "Bearer secret-1");
        assert_eq!(header("intranet"), "Basic dTpzZWNyZXQtMg==");
        assert!(header("cdn").is_sensitive() && header("intranet").is_sensitive());
        assert!(!format!("{read:?}").contains("secret"));
        assert_eq!(Credentials::Bearer("a\r\nb: c".into()).header(), None);
    }

    /// Goal: every release's rows are read, and written again as they were. Method: a plain, a sealed and a newer provider.
    #[test]
    fn rows_of_all_releases_are_read_and_kept() {
        let known = shown(ROW).expect("readable");
        let names: Vec<&str> = known.keys().map(String::as_str).collect();
        assert_eq!(names, ["cdn", "intranet", "new", "newer"]);
        let new = known["new"].as_ref().expect("known");
        assert_eq!((new.scheme, new.hosts.len()), (Scheme::Basic, 1));
        assert_eq!(known["newer"], None);
        let read: Providers = serde_json::from_str(ROW).expect("readable");
        let again = serde_json::to_value(&read).expect("plain data");
        let first: Value = serde_json::from_str(ROW).expect("JSON");
        assert_eq!(again, first);
        assert_eq!(shown("{}"), Some(BTreeMap::new()));
        assert_eq!(shown("v1.sealed"), None);
    }

    /// Goal: the mask keeps a secret of the same sort, and is never taken for one. Method: each pair of old and new.
    #[test]
    fn the_mask_keeps_a_secret_of_the_same_sort() {
        let bearer = |text: &str| Credentials::Bearer(text.into());
        let basic = |username: &str, password: &str| Credentials::Basic {
            username: username.into(),
            password: password.into(),
        };
        let (old_bearer, old_basic) = (bearer("one"), basic("u", "one"));
        assert_eq!(bearer("two").unmasked(None), Some(bearer("two")));
        assert_eq!(
            bearer("two").unmasked(Some(&old_basic)),
            Some(bearer("two"))
        );
        assert_eq!(
            bearer(MASK).unmasked(Some(&old_bearer)),
            Some(bearer("one"))
        );
        assert_eq!(
            basic("v", MASK).unmasked(Some(&old_basic)),
            Some(basic("v", "one"))
        );
        assert_eq!(bearer(MASK).unmasked(Some(&old_basic)), None);
        assert_eq!(basic("u", MASK).unmasked(Some(&old_bearer)), None);
        assert_eq!(bearer(MASK).unmasked(None), None);
    }

    /// Goal: credentials that are for some hosts go to their origins and nowhere else. Method: links that differ from an origin
    /// in one part, and hosts that are none.
    #[test]
    fn credentials_go_to_their_origins_only() {
        let hosts = [
            "files.example".to_owned(),
            "http://intranet.example:8080".to_owned(),
        ];
        for good in [
            "https://files.example/a?b=c",
            "https://FILES.example:443/",
            "http://intranet.example:8080/a",
        ] {
            assert!(may_go(&hosts, good), "{good}");
        }
        for bad in [
            "http://files.example/a",
            "https://files.example:8443/a",
            "https://files.example.evil.example/a",
            "https://files.example@evil.example/a",
            "https://evil.example/files.example",
            "https://intranet.example:8080/a",
            "files.example",
            "",
        ] {
            assert!(!may_go(&hosts, bad), "{bad}");
        }
        assert!(may_go(&[], "http://anything.example/"));
        for bad in [
            "",
            "a b",
            "ftp://a.example",
            "a.example/",
            "a.example/b",
            "u@a.example",
            "https://",
        ] {
            assert!(origin(bad).is_none(), "{bad}");
        }
        assert_eq!(field("a/b~c"), "providers/a~1b~0c/sealed");
    }
}
