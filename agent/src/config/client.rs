//! `[client]`: how the public API is kept where the two APIs differ.

use std::time::Duration;

use super::merge::Merge;
use super::{ConfigError, fragment};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Who fetches a link that a message names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// The link is sent, and the upstream fetches it.
    Upstream,
    /// We do, as the reference client did.
    Fetch,
}

/// How the public API is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientSettings {
    pub links: Links,
    /// Hosts whose links are always fetched here: intranets, own certificates, plain http.
    pub link_hosts: Vec<String>,
    /// Refuse a template message that the owner's list of templates says cannot be sent.
    pub check_templates: bool,
    /// Older than this a message without a `ttl` is not sent any more (408).
    pub message_max_age: Duration,
    /// Older than this nothing is, whoever held it up (408).
    pub pending_max: Duration,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            links: Links::Upstream,
            link_hosts: Vec::new(),
            check_templates: false,
            message_max_age: DAY,
            pending_max: DAY * 7,
        }
    }
}

/// Reads the section.
///
/// # Errors
/// [`ConfigError::Rule`] for a word that is none of the choices, and for a bound below the other.
pub fn client(m: &mut Merge, c: fragment::Client) -> Result<ClientSettings, ConfigError> {
    let links = m.pick(
        "client.links",
        c.links,
        None,
        ("upstream".into(), "default"),
    );
    let links = match links.as_str() {
        "upstream" => Links::Upstream,
        "fetch" => Links::Fetch,
        other => {
            return Err(ConfigError::Rule(format!(
                "[client] links = {other:?}: write \"upstream\" or \"fetch\""
            )));
        }
    };
    let hosts = c.link_hosts.as_ref().map(|hosts| hosts.join(" "));
    m.pick("client.link_hosts", hosts, None, (String::new(), "default"));
    let default = ClientSettings::default();
    let settings = ClientSettings {
        links,
        link_hosts: c.link_hosts.unwrap_or_default(),
        check_templates: m.pick(
            "client.check_templates",
            c.check_templates,
            None,
            (false, "default"),
        ),
        message_max_age: m.span(
            "client.message_max_age",
            c.message_max_age,
            default.message_max_age,
            "default",
        ),
        pending_max: m.span(
            "client.pending_max",
            c.pending_max,
            default.pending_max,
            "default",
        ),
    };
    if settings.message_max_age.is_zero() || settings.pending_max < settings.message_max_age {
        return Err(ConfigError::Rule(
            "[client] message_max_age must not be zero, and pending_max must be at least as long"
                .into(),
        ));
    }
    Ok(settings)
}
