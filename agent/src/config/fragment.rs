//! The configuration files as written: every field optional, unknown keys refused.
//! Means nothing yet: `merge.rs` and `assemble.rs` fill in, `validate.rs` checks.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use wa_core::id::Role;

use super::{ConfigError, closed};

/// The profiles that set the timers together (design 4).
pub const PROFILE_NAMES: [&str; 3] = ["compat", "standard", "fast"];

/// One file, or several laid over each other.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fragment {
    pub cluster: Cluster,
    pub node: Node,
    pub ports: Ports,
    pub database: Database,
    pub timers: Timers,
    pub upstream: Upstream,
    pub client: Client,
    pub webapp: Webapp,
    pub webhooks: Webhooks,
    pub gate: Gate,
    pub media: Media,
    pub console: Console,
}

impl Fragment {
    /// The files with secrets that a role is told to read: the name of the setting, and the credential that goes before the file
    /// (empty: none does).
    pub(super) fn secret_files(&self, role: Role) -> Vec<(&'static str, &'static str, &PathBuf)> {
        let f = self;
        let public = f.webapp.tls_key.as_ref();
        let all = [
            (
                "cluster.key_file",
                "cluster-key",
                f.cluster.key_file.as_ref(),
            ),
            (
                "database.password_file",
                "database-password",
                f.database.password_file.as_ref(),
            ),
            (closed::DATABASE_KEY, "", f.database.ssl_key.as_ref()),
            (
                "upstream.token_file",
                "upstream-token",
                f.upstream.token_file.as_ref(),
            ),
            (
                "upstream.app_secret_file",
                "app-secret",
                f.upstream.app_secret_file.as_ref(),
            ),
            (
                "upstream.verify_token_file",
                "verify-token",
                f.upstream.verify_token_file.as_ref(),
            ),
            (
                "upstream.pin_file",
                "upstream-pin",
                f.upstream.pin_file.as_ref(),
            ),
            (
                "webapp.api_key_file",
                "api-key",
                f.webapp.api_key_file.as_ref(),
            ),
            (
                closed::PUBLIC_KEY,
                "",
                public.filter(|_| role == Role::Webapp),
            ),
            (
                "webapp.first_password_file",
                "first-password",
                f.webapp.first_password_file.as_ref(),
            ),
            (
                "webhooks.secret_file",
                "webhooks-secret",
                f.webhooks.secret_file.as_ref(),
            ),
        ];
        let named = all.into_iter();
        named
            .filter_map(|(key, credential, file)| Some((key, credential, file?)))
            .collect()
    }
}

/// `[cluster]`
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cluster {
    pub name: Option<String>,
    pub key_file: Option<PathBuf>,
    pub fence: Option<String>,
    pub shards: Option<u16>,
    pub development: Option<bool>,
    pub ignore_old_client: Option<bool>,
}

/// `[node]`
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Node {
    pub hostname: Option<String>,
    pub advertise: Option<IpAddr>,
    pub bind: Option<IpAddr>,
    pub metrics_bind: Option<IpAddr>,
    pub zone: Option<String>,
    pub machine: Option<String>,
    pub weight: Option<i32>,
    pub state_directory: Option<PathBuf>,
}

/// `[ports]`: instead of the rule.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ports {
    /// Added to every port of the rule.
    pub offset: Option<u16>,
    pub heartbeat: Option<u16>,
    pub control: Option<u16>,
    pub api: Option<u16>,
    pub health: Option<u16>,
}

/// `[database]`
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Database {
    pub urls: Option<Vec<String>>,
    pub replication: Option<String>,
    pub password_file: Option<PathBuf>,
    pub ssl_ca: Option<PathBuf>,
    pub ssl_cert: Option<PathBuf>,
    pub ssl_key: Option<PathBuf>,
}

/// `[timers]`
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timers {
    pub profile: Option<String>,
    pub heartbeat_interval: Option<Span>,
    pub unhealthy_interval: Option<Span>,
    pub db_beat_interval: Option<Span>,
    pub db_unhealthy_interval: Option<Span>,
    pub lease_ttl: Option<Span>,
    pub drift: Option<f64>,
    pub margin: Option<Span>,
    pub vm_pause: Option<Span>,
    pub hold_timeout: Option<Span>,
}

/// `[upstream]`
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Upstream {
    pub base_url: Option<String>,
    pub version: Option<String>,
    pub phone_number_id: Option<String>,
    pub phone_number: Option<String>,
    pub waba_id: Option<String>,
    pub portfolio_id: Option<String>,
    pub app_id: Option<String>,
    pub media_hosts: Option<Vec<String>>,
    pub token_file: Option<PathBuf>,
    pub app_secret_file: Option<PathBuf>,
    pub verify_token_file: Option<PathBuf>,
    pub pin_file: Option<PathBuf>,
    pub ca: Option<PathBuf>,
    pub mtls_ca: Option<PathBuf>,
    pub code_language: Option<String>,
    pub connect_timeout: Option<Span>,
    pub request_timeout: Option<Span>,
    pub rate_per_second: Option<u32>,
    pub pair_burst: Option<u32>,
    pub concurrency: Option<usize>,
    pub ambiguity_window: Option<Span>,
    pub ambiguity_max: Option<Span>,
    pub on_ambiguity: Option<String>,
    pub ambiguity_sends_max: Option<u32>,
    pub ambiguity_sends_then: Option<String>,
}

/// `[client]`: how the public API is kept where the two APIs differ.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Client {
    pub links: Option<String>,
    pub link_hosts: Option<Vec<String>>,
    pub check_templates: Option<bool>,
    pub fill_number: Option<bool>,
    pub stable_wa_id: Option<bool>,
    pub inbound_ids: Option<String>,
    pub late_statuses: Option<String>,
    pub unknown_number: Option<String>,
    pub message_max_age: Option<Span>,
    pub pending_max: Option<Span>,
    pub keep_bodies: Option<Span>,
    pub keep_ids: Option<Span>,
    pub keep_audit: Option<Span>,
    pub queue_max: Option<u64>,
    pub reported_version: Option<String>,
}

/// `[gate]`
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gate {
    pub exempt: Option<Vec<String>>,
}

/// `[webapp]`
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Webapp {
    pub api_key_file: Option<PathBuf>,
    pub tls: Option<String>,
    pub tls_cert: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    pub tls_names: Option<Vec<String>>,
    pub keep_alive: Option<Span>,
    pub trusted_proxies: Option<Vec<String>>,
    pub first_password_file: Option<PathBuf>,
}

/// `[webhooks]`
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Webhooks {
    pub ca: Option<PathBuf>,
    pub hosts: Option<Vec<String>>,
    pub account_events: Option<bool>,
    pub foreign_statuses: Option<String>,
    pub secret_file: Option<PathBuf>,
    pub park_after: Option<Span>,
}

/// `[media]`
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Media {
    pub directory: Option<PathBuf>,
    pub require: Option<String>,
    pub free_min: Option<String>,
    pub inodes_min: Option<u64>,
    pub probe_interval: Option<Span>,
    pub probe_timeout: Option<Span>,
}

/// `[console]`
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Console {
    pub serve: Option<bool>,
    pub acts: Option<String>,
}

/// A span of time: `"200ms"`, `"0.2s"`, `"3s"`, `"2m"`, or a number of seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(
            untagged,
            expecting = "a duration such as \"200ms\" or a number of seconds"
        )]
        enum Written {
            Seconds(f64),
            Text(String),
        }
        let seconds = match Written::deserialize(deserializer)? {
            Written::Seconds(seconds) => seconds,
            Written::Text(text) => {
                // "0.2s" is what people write; humantime knows whole numbers only.
                if let Some(seconds) = text
                    .strip_suffix('s')
                    .and_then(|t| t.trim().parse::<f64>().ok())
                {
                    seconds
                } else {
                    return humantime::parse_duration(&text).map(Self).map_err(|e| {
                        serde::de::Error::custom(format!(
                            "{text:?} is not a duration such as \"200ms\": {e}"
                        ))
                    });
                }
            }
        };
        Duration::try_from_secs_f64(seconds)
            .map(Self)
            .map_err(|_| serde::de::Error::custom(format!("{seconds} is not a number of seconds")))
    }
}

/// Parses one file; an unknown key is answered with its place and the nearest known one.
///
/// # Errors
/// [`ConfigError::Parse`] with the line and column.
pub fn parse(path: &Path, text: &str) -> Result<Fragment, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let mut message = error.to_string();
        if let Some((unknown, known)) = unknown_field(&message) {
            let nearest = known
                .iter()
                .max_by(|a, b| strsim::jaro(&unknown, a).total_cmp(&strsim::jaro(&unknown, b)));
            if let Some(nearest) = nearest {
                message.push_str(&format!("did you mean `{nearest}`?"));
            }
        }
        ConfigError::Parse {
            path: path.to_path_buf(),
            message: message.trim_end().to_owned(),
        }
    })
}

/// The unknown field and the known ones of serde's message. The names stand in backquotes on the last lines;
/// the lines before quote the file, which may hold backquotes of its own.
pub(super) fn unknown_field(message: &str) -> Option<(String, Vec<String>)> {
    let rest = message.rsplit_once("unknown field ")?.1;
    let mut names = rest.split('`').skip(1).step_by(2).map(ToOwned::to_owned);
    Some((names.next()?, names.collect()))
}
