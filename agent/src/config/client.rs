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

/// What becomes of a status that comes behind a higher one of its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LateStatuses {
    /// It is not told.
    Drop,
    Tell,
}

/// What stands in the place of a number that is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownNumber {
    /// The user id.
    UserId,
    /// An alias of ours: digits.
    Alias,
    /// The message is told as one of an unknown type.
    Reject,
}

/// How the messages of customers are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InboundIds {
    /// As the upstream calls them.
    Upstream,
    /// By ids as short as the reference client's.
    Short,
}

/// How the public API is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientSettings {
    pub links: Links,
    /// Hosts whose links are always fetched here: intranets, own certificates, plain http.
    pub link_hosts: Vec<String>,
    /// Refuse a template message that the owner's list of templates says cannot be sent.
    pub check_templates: bool,
    /// Tell the number of a customer that is known from earlier where the upstream leaves it out.
    pub fill_number: bool,
    pub late_statuses: LateStatuses,
    pub inbound_ids: InboundIds,
    pub unknown_number: UnknownNumber,
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
            fill_number: true,
            late_statuses: LateStatuses::Drop,
            inbound_ids: InboundIds::Upstream,
            unknown_number: UnknownNumber::UserId,
            message_max_age: DAY,
            pending_max: DAY * 7,
        }
    }
}

impl ClientSettings {
    /// A link whose host is among those that are always fetched here.
    pub fn fetches(&self, link: &str) -> bool {
        let url = url::Url::parse(link).ok();
        let host = url.as_ref().and_then(url::Url::host_str);
        host.is_some_and(|host| self.link_hosts.iter().any(|one| one == host))
    }
}

/// A host as it stands in a URL that was read: in lower case, in ASCII, an IPv6 address in brackets.
fn host(text: &str) -> Option<String> {
    let text = match text.parse::<std::net::Ipv6Addr>() {
        Ok(six) => format!("[{six}]"),
        Err(_) => text.to_owned(),
    };
    let url = url::Url::parse(&format!("https://{text}/")).ok()?;
    let plain = url.port().is_none() && url.path() == "/" && url.username().is_empty();
    let plain = plain && url.password().is_none() && url.query().is_none();
    url.host_str().filter(|_| plain).map(str::to_owned)
}

/// One of the words that a setting may have.
fn choice<T>(
    m: &mut Merge,
    key: &'static str,
    given: Option<String>,
    words: &[(&str, T)],
) -> Result<T, ConfigError>
where
    T: Copy,
{
    let default = words[0].0.to_owned();
    let word = m.pick(key, given, None, (default, "default"));
    let found = words.iter().find(|(known, _)| *known == word);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let known: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
        let name = key.trim_start_matches("client.");
        ConfigError::Rule(format!(
            "[client] {name} = {word:?}: write {}",
            known.join(" or ")
        ))
    })
}

/// Reads the section.
///
/// # Errors
/// [`ConfigError::Rule`] for a word that is none of the choices, and for a bound below the other.
pub fn client(m: &mut Merge, c: fragment::Client) -> Result<ClientSettings, ConfigError> {
    let links = [("upstream", Links::Upstream), ("fetch", Links::Fetch)];
    let links = choice(m, "client.links", c.links, &links)?;
    let late = [("drop", LateStatuses::Drop), ("tell", LateStatuses::Tell)];
    let late_statuses = choice(m, "client.late_statuses", c.late_statuses, &late)?;
    let unknown = [
        ("bsuid", UnknownNumber::UserId),
        ("alias", UnknownNumber::Alias),
        ("reject", UnknownNumber::Reject),
    ];
    let unknown_number = choice(m, "client.unknown_number", c.unknown_number, &unknown)?;
    let ids = [
        ("upstream", InboundIds::Upstream),
        ("short", InboundIds::Short),
    ];
    let inbound_ids = choice(m, "client.inbound_ids", c.inbound_ids, &ids)?;
    let hosts = c.link_hosts.as_ref().map(|hosts| hosts.join(" "));
    m.pick("client.link_hosts", hosts, None, (String::new(), "default"));
    let read = |text: &String| {
        host(text).ok_or_else(|| {
            ConfigError::Rule(format!(
                "[client] link_hosts: {text:?} is no host; write a name or an address, without scheme, port and path"
            ))
        })
    };
    let link_hosts = c.link_hosts.iter().flatten().map(read);
    let link_hosts = link_hosts.collect::<Result<Vec<String>, ConfigError>>()?;
    let default = ClientSettings::default();
    let settings = ClientSettings {
        links,
        link_hosts,
        check_templates: m.pick(
            "client.check_templates",
            c.check_templates,
            None,
            (false, "default"),
        ),
        fill_number: m.pick(
            "client.fill_number",
            c.fill_number,
            None,
            (default.fill_number, "default"),
        ),
        late_statuses,
        inbound_ids,
        unknown_number,
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a host is found however a link or the configuration spells it, and nothing else is a host.
    #[test]
    fn hosts_are_compared_as_urls_have_them() {
        let settings = ClientSettings {
            link_hosts: ["Files.Intranet", "10.0.0.7", "fd12::7", "bücher.example"]
                .iter()
                .filter_map(|text| host(text))
                .collect(),
            ..ClientSettings::default()
        };
        for listed in [
            "http://files.intranet/a",
            "https://u:p@FILES.intranet:8443/a?b#c",
            "http://10.0.0.7:8080/",
            "http://10.7/",
            "http://[fd12:0::7]/",
            "http://xn--bcher-kva.example/",
        ] {
            assert!(settings.fetches(listed), "{listed}");
        }
        for other in [
            "http://files.intranet.evil.example/",
            "http://files.intranet@evil.example/",
            "http://evil.example/files.intranet",
            "files.intranet",
        ] {
            assert!(!settings.fetches(other), "{other}");
        }
        for bad in ["", "http://a", "a:80", "a/b", "a b", "u@a", "a?b"] {
            assert_eq!(host(bad), None, "{bad}");
        }
    }
}
