//! `[client]`, `[webapp]` and `[webhooks]`: how the public API is kept where the two APIs differ, who stands in front of it, and
//! whom webhook servers are vouched for by.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use wa_core::id::Role;

use super::merge::Merge;
use super::{ConfigError, KEEP_ALIVE, PublicTls, Secret, closed, fragment};
use crate::api::v1::REPORTED_VERSION;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Statuses come for 30 days.
const KEEP_IDS_MIN: Duration = Duration::from_secs(35 * 24 * 3600);

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

/// What becomes of a status of a message that is not ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForeignStatuses {
    /// It is counted and listed, and not told.
    Drop,
    Tell,
}

/// Which events of the upstream the business is told that it cannot know from the reference client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventSettings {
    /// News of the account.
    pub account_events: bool,
    pub foreign_statuses: ForeignStatuses,
}

impl Default for EventSettings {
    fn default() -> Self {
        Self {
            account_events: false,
            foreign_statuses: ForeignStatuses::Drop,
        }
    }
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
    /// Tell a customer by the number that the business typed, from the upstream's answer to the first message to it on. Until then,
    /// and where the business types the upstream's spelling only, that is told.
    pub stable_wa_id: bool,
    pub late_statuses: LateStatuses,
    pub inbound_ids: InboundIds,
    pub unknown_number: UnknownNumber,
    /// Older than this a message without a `ttl` is not sent any more (408).
    pub message_max_age: Duration,
    /// Older than this nothing is, whoever held it up (408).
    pub pending_max: Duration,
    /// For so long the database keeps what finished messages and told events say; 0: not at all.
    pub keep_bodies: Duration,
    /// For so long the upstream's ids lead to ours: customers answer old messages.
    pub keep_ids: Duration,
    /// For so long the database keeps who logged in and changed what.
    pub keep_audit: Duration,
    /// While all sending is held, a shard takes messages until so many wait (1016).
    pub queue_max: u64,
    /// What `meta.version` says: integrations look there for a version of the reference client.
    pub reported_version: String,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            links: Links::Upstream,
            link_hosts: Vec::new(),
            check_templates: false,
            fill_number: true,
            stable_wa_id: false,
            late_statuses: LateStatuses::Drop,
            inbound_ids: InboundIds::Upstream,
            unknown_number: UnknownNumber::UserId,
            message_max_age: DAY,
            pending_max: DAY * 7,
            keep_bodies: Duration::ZERO,
            keep_ids: DAY * 400,
            keep_audit: DAY * 400,
            queue_max: 1_000_000,
            reported_version: REPORTED_VERSION.to_owned(),
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
pub(super) fn host(text: &str) -> Option<String> {
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
        let (section, name) = key.split_once('.').unwrap_or(("client", key));
        ConfigError::Rule(format!(
            "[{section}] {name} = {word:?}: write {}",
            known.join(" or ")
        ))
    })
}

/// What stands in every answer must be a version, and nothing longer.
fn reported_version(m: &mut Merge, written: Option<String>) -> Result<String, ConfigError> {
    let default = (REPORTED_VERSION.to_owned(), "default");
    let version = m.pick("client.reported_version", written, None, default);
    let in_a_version = |c: char| c.is_ascii_alphanumeric() || ".-+_".contains(c);
    if version.is_empty() || version.len() > 32 || !version.chars().all(in_a_version) {
        return Err(ConfigError::Rule(format!(
            "[client] reported_version = {version:?}: write 1 to 32 letters, digits, dots and dashes, such as \"{REPORTED_VERSION}\""
        )));
    }
    Ok(version)
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
    let link_hosts = hosts(m, "client.link_hosts", c.link_hosts.as_deref())?;
    let default = ClientSettings::default();
    let mut flag = |key, written, default| m.pick(key, written, None, (default, "default"));
    let settings = ClientSettings {
        links,
        link_hosts,
        check_templates: flag("client.check_templates", c.check_templates, false),
        fill_number: flag("client.fill_number", c.fill_number, default.fill_number),
        stable_wa_id: flag("client.stable_wa_id", c.stable_wa_id, default.stable_wa_id),
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
        keep_bodies: m.span(
            "client.keep_bodies",
            c.keep_bodies,
            default.keep_bodies,
            "default",
        ),
        keep_ids: m.span("client.keep_ids", c.keep_ids, default.keep_ids, "default"),
        keep_audit: m.span(
            "client.keep_audit",
            c.keep_audit,
            default.keep_audit,
            "default",
        ),
        queue_max: m.pick(
            "client.queue_max",
            c.queue_max,
            None,
            (default.queue_max, "default"),
        ),
        reported_version: reported_version(m, c.reported_version)?,
    };
    check(&settings)?;
    Ok(settings)
}

fn check(settings: &ClientSettings) -> Result<(), ConfigError> {
    if settings.message_max_age.is_zero() || settings.pending_max < settings.message_max_age {
        return Err(ConfigError::Rule(
            "[client] message_max_age must not be zero, and pending_max must be at least as long"
                .into(),
        ));
    }
    if settings.keep_ids < KEEP_IDS_MIN {
        return Err(ConfigError::Rule(
            "[client] keep_ids must be at least 35days: customers answer messages, and statuses come, weeks later".into(),
        ));
    }
    if settings.keep_audit < DAY {
        return Err(ConfigError::Rule(
            "[client] keep_audit must be at least 1day: who looks for what happened looks later"
                .into(),
        ));
    }
    Ok(())
}

/// A list of hosts, none by default.
fn hosts(
    m: &mut Merge,
    key: &'static str,
    written: Option<&[String]>,
) -> Result<Vec<String>, ConfigError> {
    let shown = written.map(|hosts| hosts.join(" "));
    m.pick(key, shown, None, (String::new(), "default"));
    let (section, name) = key.split_once('.').unwrap_or_default();
    let read = |text: &String| {
        host(text).ok_or_else(|| {
            ConfigError::Rule(format!(
                "[{section}] {name}: {text:?} is no host; write a name or an address, without scheme, port and path"
            ))
        })
    };
    written.unwrap_or_default().iter().map(read).collect()
}

/// How long an idle connection of a client is kept.
pub(super) fn keep_alive(m: &mut Merge, written: Option<fragment::Span>) -> Duration {
    m.span("webapp.keep_alive", written, KEEP_ALIVE, "default")
}

/// TLS of the public port, and the names of a certificate of our own.
///
/// # Errors
/// [`ConfigError::Rule`] for words and files that do not go together.
pub(super) fn public_tls(
    m: &mut Merge,
    role: Role,
    w: fragment::Webapp,
    hostname: String,
) -> Result<PublicTls, ConfigError> {
    let given = w.tls_cert.is_some() || w.tls_key.is_some();
    let default = if given { "files" } else { "off" };
    let kind = m.pick("webapp.tls", w.tls, None, (default.into(), "default"));
    let certificate = m.path("webapp.tls_cert", w.tls_cert, "");
    let key = m.path(closed::PUBLIC_KEY, w.tls_key, "");
    // No other role reads it.
    if let Some(path) = key.as_ref().filter(|_| role == Role::Webapp) {
        m.closed_to_others(closed::PUBLIC_KEY, path)?;
    }
    let name = m.environment.get("WA_WEB_SERVERNAME");
    let default = name.map_or_else(|| vec![hostname, "localhost".into()], |name| vec![name]);
    let names = w.tls_names.unwrap_or(default);
    match (kind.as_str(), certificate, key) {
        ("off", None, None) => Ok(PublicTls::Off),
        ("self-signed", None, None) => Ok(PublicTls::SelfSigned(names)),
        ("files", Some(certificate), Some(key)) => Ok(PublicTls::Files { certificate, key }),
        ("files", ..) => Err(ConfigError::Rule(
            "[webapp] tls = \"files\" needs tls_cert and tls_key".into(),
        )),
        ("off" | "self-signed", ..) => Err(ConfigError::Rule(format!(
            "[webapp] tls = {kind:?} does not go with tls_cert and tls_key: write \"files\", or remove them"
        ))),
        _ => Err(ConfigError::Rule(format!(
            "[webapp] tls = {kind:?}: write \"off\", \"self-signed\" or \"files\""
        ))),
    }
}

/// The key for health, metrics and stats.
///
/// # Errors
/// When its file cannot be read.
pub(super) fn api_key(m: &mut Merge, file: Option<&Path>) -> Result<Secret, ConfigError> {
    let key = m.secret("webapp.api_key_file", file, "api-key", Some("WA_API_KEY"))?;
    Ok(Secret::new(key.unwrap_or_default()))
}

/// A network, or a single address.
fn network(text: &str) -> Option<IpNet> {
    let single = || text.parse::<std::net::IpAddr>().ok().map(IpNet::from);
    text.parse().ok().or_else(single)
}

/// The proxies that are believed when they say who their client is.
///
/// # Errors
/// [`ConfigError::Rule`] for what is no network, and for everybody.
pub(super) fn trusted_proxies(
    m: &mut Merge,
    written: Option<&[String]>,
) -> Result<Vec<IpNet>, ConfigError> {
    let shown = written.map(|networks| networks.join(" "));
    m.pick(
        "webapp.trusted_proxies",
        shown,
        None,
        (String::new(), "default"),
    );
    let read = |text: &String| match network(text) {
        Some(all) if all.prefix_len() == 0 => Err(ConfigError::Rule(format!(
            "[webapp] trusted_proxies: {all} is everybody, and then anybody chooses his own address; name the proxies"
        ))),
        Some(network) => Ok(network),
        None => Err(ConfigError::Rule(format!(
            "[webapp] trusted_proxies: {text:?} is no network: write \"192.0.2.7\", \"192.0.2.0/24\" or \"2001:db8::/32\""
        ))),
    };
    written.unwrap_or_default().iter().map(read).collect()
}

/// The certificates of a PEM file, one at least.
///
/// # Errors
/// Why there are none, for people.
pub fn certificates_in(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match found {
        Ok(found) if found.is_empty() => Err("there is no certificate in it".into()),
        Ok(found) => Ok(found),
        Err(error) => Err(format!("it cannot be read ({error})")),
    }
}

/// Which events the business is told.
///
/// # Errors
/// [`ConfigError::Rule`] for a word that is none of the choices.
pub(super) fn events(m: &mut Merge, w: &fragment::Webhooks) -> Result<EventSettings, ConfigError> {
    let words = [
        ("drop", ForeignStatuses::Drop),
        ("tell", ForeignStatuses::Tell),
    ];
    let foreign = w.foreign_statuses.clone();
    Ok(EventSettings {
        account_events: m.pick(
            "webhooks.account_events",
            w.account_events,
            None,
            (false, "default"),
        ),
        foreign_statuses: choice(m, "webhooks.foreign_statuses", foreign, &words)?,
    })
}

/// `[webhooks]`: how the business is told.
#[derive(Debug, Clone)]
pub struct WebhookSettings {
    /// Receivers that may be on this machine, or at any other address that nobody calls unasked.
    pub hosts: Vec<String>,
    /// A file with more certificate authorities for the business's servers.
    pub ca: Option<PathBuf>,
    /// What webhooks are signed with; empty: they are not signed.
    pub secret: Secret,
    /// A webhook that fails and is older than this is parked: it is not tried any more, and kept.
    pub park_after: Duration,
}

impl Default for WebhookSettings {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            ca: None,
            secret: Secret::new(String::new()),
            park_after: PARK_AFTER,
        }
    }
}

/// A week, as the reference client's hosts had it.
const PARK_AFTER: Duration = Duration::from_secs(7 * 24 * 3600);
/// Below it a short outage would park what it held up.
const PARK_AFTER_MIN: Duration = Duration::from_secs(60);

/// `[webhooks]`
///
/// # Errors
/// [`ConfigError::Rule`] with the key that cannot be used.
pub(super) fn webhooks(
    m: &mut Merge,
    role: Role,
    w: fragment::Webhooks,
) -> Result<WebhookSettings, ConfigError> {
    let file = w.secret_file.as_deref();
    let secret = m.secret("webhooks.secret_file", file, "webhooks-secret", None)?;
    let park_after = m.span("webhooks.park_after", w.park_after, PARK_AFTER, "default");
    if park_after < PARK_AFTER_MIN {
        return Err(ConfigError::Rule(format!(
            "[webhooks] park_after = \"{}\": write one minute or more; a webhook that the business refuses for that long is not \
             tried any more",
            humantime::format_duration(park_after)
        )));
    }
    let hosts = hosts(m, "webhooks.hosts", w.hosts.as_deref())?;
    Ok(WebhookSettings {
        hosts,
        ca: webhook_ca(m, role, w.ca)?,
        secret: Secret::new(secret.unwrap_or_default()),
        park_after,
    })
}

/// The authorities of the certificate with which the upstream calls us.
///
/// # Errors
/// [`ConfigError::Rule`] where their file cannot be read, or holds none.
pub(super) fn mtls_authorities(
    m: &mut Merge,
    role: Role,
    written: Option<PathBuf>,
) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let path = m.path("upstream.mtls_ca", written, "");
    // The others need not be able to read it.
    let Some(path) = path.filter(|_| role == Role::Webapp) else {
        return Ok(Vec::new());
    };
    certificates_in(&path).map_err(|why| {
        ConfigError::Rule(format!(
            "[upstream] mtls_ca: {}: {why}; write the upstream's authority in PEM form into it, readable for the webapps",
            path.display()
        ))
    })
}

/// A file with more certificate authorities for webhook servers.
///
/// # Errors
/// [`ConfigError::Rule`] where it cannot be read, or holds none.
fn webhook_ca(
    m: &mut Merge,
    role: Role,
    written: Option<PathBuf>,
) -> Result<Option<PathBuf>, ConfigError> {
    let Some(path) = m.path("webhooks.ca", written, "") else {
        return Ok(None);
    };
    // The others need not be able to read it.
    if role != Role::Coreapp {
        return Ok(Some(path));
    }
    match certificates_in(&path) {
        Ok(_) => Ok(Some(path)),
        Err(why) => Err(ConfigError::Rule(format!(
            "[webhooks] ca: {}: {why}; write a file with certificates in PEM form, readable for the coreapps",
            path.display()
        ))),
    }
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

    /// Goal: proxies are read as people write them, and nobody trusts everybody by a slip.
    #[test]
    fn proxies_are_networks_or_addresses() {
        let read = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(ToString::to_string).collect();
            trusted_proxies(&mut Merge::of_nothing(), Some(&texts))
        };
        let good = read(&["10.0.0.0/8", "192.0.2.7", "2001:db8::1"]).expect("networks");
        let shown: Vec<String> = good.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["10.0.0.0/8", "192.0.2.7/32", "2001:db8::1/128"]);
        for bad in ["", "10.0.0.0/33", "lb.example", "0.0.0.0/0", "::/0"] {
            assert!(read(&[bad]).is_err(), "{bad}");
        }
        assert_eq!(
            trusted_proxies(&mut Merge::of_nothing(), None).expect("none"),
            []
        );
    }

    /// Goal: a file that vouches for nobody is named at the start, and not when the first webhook fails.
    #[test]
    fn a_file_without_authorities_is_refused() {
        let place = tempfile::tempdir().expect("a directory");
        let file = place.path().join("ca.pem");
        let read = || webhook_ca(&mut Merge::of_nothing(), Role::Coreapp, Some(file.clone()));
        assert!(read().is_err());
        std::fs::write(&file, "-----BEGIN NOTHING-----\n").expect("written");
        let said = read().expect_err("none in it").to_string();
        assert!(
            said.contains("[webhooks] ca") && said.contains("ca.pem"),
            "{said}"
        );
        let made = rcgen::generate_simple_self_signed(["ca".to_owned()]).expect("made");
        std::fs::write(&file, made.cert.pem()).expect("written");
        assert_eq!(read().expect("one"), Some(file.clone()));
    }
}
