//! `/v1/settings/application/media/providers`: what clients send and what they are shown.
//! Keeps no secret: `member/provider.rs` seals them.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::Meta;
use super::code::Code;
use super::fields::{Fields, List};
use super::message::media::PROVIDER_LEN_MAX;
use crate::api::error::ApiError;
use crate::api::provider::{Credentials, MASK, Scheme, Shown, origin};
use crate::api::served::ProviderWish;

/// Most providers, in a body and in the cluster.
pub const PROVIDERS_MAX: usize = 100;
/// Most hosts of one provider.
const HOSTS_MAX: usize = 32;
/// Longest host with scheme and port, in characters.
const HOST_LEN_MAX: usize = 300;
/// Longest token, user name or password, in characters.
const SECRET_LEN_MAX: usize = 4096;
/// The only documented type.
const TYPE: &str = "www";

/// The answer of `GET`: `{"settings":{"application":{"media":{"providers":[…]}}}}`.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ProvidersAnswer {
    pub settings: ProvidersSettings,
    pub meta: Meta,
}

/// See [`ProvidersAnswer`].
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ProvidersSettings {
    pub application: ProvidersApplication,
}

/// See [`ProvidersAnswer`].
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ProvidersApplication {
    pub media: ProvidersMedia,
}

/// See [`ProvidersAnswer`].
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ProvidersMedia {
    pub providers: Vec<Provider>,
}

/// One provider; `POST` takes a list of them.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Provider {
    #[schema(example = "cdn")]
    pub name: String,
    /// `www`.
    #[serde(rename = "type")]
    #[schema(example = "www")]
    pub kind: String,
    /// `{"bearer": "…"}` or `{"basic": {"username": "…", "password": "…"}}`. Secrets are shown as `****`; sent back like that,
    /// they stay as they are.
    #[schema(value_type = Object, example = json!({"bearer": "****"}))]
    pub config: Value,
    /// Additional: the only hosts that get the credentials, as `host`, `host:port` or `http://host:port`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
}

/// The answer of `GET` for what is known of the providers, by name.
pub fn answer(known: BTreeMap<String, Option<Shown>>) -> ProvidersAnswer {
    let provider = |(name, shown): (String, Option<Shown>)| {
        let config = match &shown {
            Some(shown) => match shown.scheme {
                Scheme::Bearer => json!({"bearer": MASK}),
                Scheme::Basic => {
                    json!({"basic": {"username": shown.username, "password": MASK}})
                }
            },
            None => json!({}),
        };
        Provider {
            name,
            kind: TYPE.to_owned(),
            config,
            hosts: shown.map_or_else(Vec::new, |shown| shown.hosts),
        }
    };
    let media = ProvidersMedia {
        providers: known.into_iter().map(provider).collect(),
    };
    ProvidersAnswer {
        settings: ProvidersSettings {
            application: ProvidersApplication { media },
        },
        meta: Meta::default(),
    }
}

/// Reads the body of a `POST`: a list, or one provider.
///
/// # Errors
/// The documented codes, with the path of the field.
pub fn read(body: &[u8]) -> Result<Vec<ProviderWish>, ApiError> {
    let list = List::parse(body)?;
    if list.is_empty() {
        return Err(ApiError::missing("[0].name"));
    }
    if list.len() > PROVIDERS_MAX {
        return Err(ApiError::invalid(format!(
            "The list has {} providers, {PROVIDERS_MAX} are allowed",
            list.len()
        )));
    }
    let mut wishes = Vec::with_capacity(list.len());
    for mut one in list.objects()? {
        let wish = provider(&mut one)?;
        if wishes
            .iter()
            .any(|other: &ProviderWish| other.name == wish.name)
        {
            return Err(one.invalid("name", "different from those before it"));
        }
        wishes.push(wish);
    }
    Ok(wishes)
}

fn provider(one: &mut Fields) -> Result<ProviderWish, ApiError> {
    let name = one.text_within("name", PROVIDER_LEN_MAX)?;
    let name = name.ok_or_else(|| one.missing("name"))?;
    if name.chars().any(char::is_control) {
        return Err(one.invalid("name", "free of control characters"));
    }
    one.word("type", &[TYPE])?;
    let hosts = hosts(one)?;
    let mut config = one.need_object("config")?;
    let bearer = config.text_within("bearer", SECRET_LEN_MAX)?;
    let basic = config.object("basic")?;
    let credentials = match (bearer, basic) {
        (Some(token), None) => Credentials::Bearer(token),
        (None, Some(mut basic)) => Credentials::Basic {
            username: need(&mut basic, "username")?,
            password: need(&mut basic, "password")?,
        },
        (Some(_), Some(_)) => {
            return Err(config.extra("basic", "is not needed beside bearer"));
        }
        (None, None) => return Err(config.missing("bearer")),
    };
    let colon =
        matches!(&credentials, Credentials::Basic { username, .. } if username.contains(':'));
    if colon {
        return Err(config.invalid("basic.username", "free of colons"));
    }
    if credentials.header().is_none() {
        return Err(config.invalid("bearer", "a text that a header can hold"));
    }
    Ok(ProviderWish {
        name,
        credentials,
        hosts,
    })
}

fn need(fields: &mut Fields, name: &str) -> Result<String, ApiError> {
    let text = fields.text_within(name, SECRET_LEN_MAX)?;
    text.ok_or_else(|| fields.missing(name))
}

/// `None`: nothing is said of them. An empty list takes the limit away.
fn hosts(one: &mut Fields) -> Result<Option<Vec<String>>, ApiError> {
    let Some(list) = one.list("hosts")? else {
        return Ok(None);
    };
    if list.len() > HOSTS_MAX {
        return Err(one.invalid("hosts", &format!("a list of at most {HOSTS_MAX} hosts")));
    }
    let mut hosts = Vec::with_capacity(list.len());
    for (index, host) in list.texts()?.into_iter().enumerate() {
        let host = host.trim().to_ascii_lowercase();
        if host.chars().count() > HOST_LEN_MAX {
            let path = one.path(&format!("hosts[{index}]"));
            return Err(ApiError::with(Code::TooLong, path));
        }
        if origin(&host).is_none() {
            let name = format!("hosts[{index}]");
            return Err(one.invalid(&name, "host, host:port or http://host:port"));
        }
        hosts.push(host);
    }
    Ok(Some(hosts))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: Value) -> (Code, String) {
        let error = read(body.to_string().as_bytes()).expect_err("refused");
        (error.code, error.details.unwrap_or_default())
    }

    /// Goal: what the reference takes is read, an object for a list of one included. Method: both sorts, as documented.
    #[test]
    fn documented_bodies_are_read() {
        let body = json!([{"name": "cdn", "type": "www", "config": {"bearer": "word"}},
            {"name": "b", "type": "www", "config": {"basic": {"username": "u", "password": 7}}, "hosts": ["A.example", "http://b.example:8080"]}]);
        let read_all = read(body.to_string().as_bytes()).expect("documented");
        assert_eq!(read_all[0].credentials, Credentials::Bearer("word".into()));
        assert_eq!(read_all[0].hosts, None);
        let basic = Credentials::Basic {
            username: "u".into(),
            password: "7".into(),
        };
        assert_eq!(read_all[1].credentials, basic);
        let hosts = Some(vec![
            "a.example".to_owned(),
            "http://b.example:8080".to_owned(),
        ]);
        assert_eq!(read_all[1].hosts, hosts);
        let one = json!({"name": "cdn", "config": {"bearer": "word"}, "hosts": []});
        let one = read(one.to_string().as_bytes()).expect("a list of one");
        assert_eq!((one.len(), &one[0].hosts), (1, &Some(vec![])));
        assert!(!format!("{one:?}").contains("word"));
    }

    /// Goal: each fault is told with its path and the documented code. Method: one fault a body.
    #[test]
    fn faults_are_told_with_their_paths() {
        let with = |config: Value| json!([{"name": "cdn", "type": "www", "config": config}]);
        for (body, code, says) in [
            (json!([]), Code::ParameterMissing, "[0].name"),
            (
                json!([{"config": {"bearer": "x"}}]),
                Code::ParameterMissing,
                "[0].name",
            ),
            (
                json!([{"name": "cdn"}]),
                Code::ParameterMissing,
                "[0].config",
            ),
            (with(json!({})), Code::ParameterMissing, "[0].config.bearer"),
            (
                with(json!({"basic": {"username": "u"}})),
                Code::ParameterMissing,
                "[0].config.basic.password",
            ),
            (
                with(json!({"bearer": "x", "basic": {}})),
                Code::ParameterNotRequired,
                "[0].config.basic",
            ),
            (
                with(json!({"bearer": "a\nb"})),
                Code::ParameterNotValid,
                "[0].config.bearer",
            ),
            (
                with(json!({"bearer": "x".repeat(4097)})),
                Code::TooLong,
                "[0].config.bearer",
            ),
            (
                with(json!({"basic": {"username": "a:b", "password": "x"}})),
                Code::ParameterNotValid,
                "basic.username",
            ),
            (
                json!([{"name": "cdn", "type": "ftp", "config": {"bearer": "x"}}]),
                Code::ParameterNotValid,
                "[0].type",
            ),
            (
                json!([{"name": "cdn", "config": {"bearer": "x"}, "hosts": ["a/b"]}]),
                Code::ParameterNotValid,
                "[0].hosts[0]",
            ),
            (
                json!([{"name": "a", "config": {"bearer": "x"}}, {"name": "a", "config": {"bearer": "x"}}]),
                Code::ParameterNotValid,
                "[1].name",
            ),
            (json!(["cdn"]), Code::ParameterNotValid, "[0]"),
            (json!(7), Code::InvalidRequest, "list"),
        ] {
            let (found, details) = refused(body.clone());
            assert_eq!(found, code, "{body}: {details}");
            assert!(details.contains(says), "{body}: {details}");
        }
    }

    /// Goal: what is shown can be sent back. Method: shown, then read.
    #[test]
    fn what_is_shown_can_be_sent_back() {
        let row = r#"{"providers":{"a":{"bearer":"token-9"},"b":{"sealed":"v1.x","scheme":"basic","username":"u","hosts":["c.example"]}}}"#;
        let known = crate::api::provider::shown(row).expect("readable");
        let shown = serde_json::to_value(answer(known)).expect("plain data");
        let list = &shown["settings"]["application"]["media"]["providers"];
        assert!(!list.to_string().contains("token-9"));
        assert_eq!(
            list[1],
            json!({"name": "b", "type": "www", "config": {"basic": {"username": "u", "password": MASK}}, "hosts": ["c.example"]})
        );
        let again = read(list.to_string().as_bytes()).expect("its own form");
        assert!(again.iter().all(|wish| wish.credentials.masked()));
    }
}
