//! The rules that a set of values must keep, and the worst cases that it leads to.
//! Adjusts nothing: a set that cannot work is refused with the rule that it breaks.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use secrecy::ExposeSecret as _;
use wa_core::detector::Intervals;
use wa_core::id::Role;
use wa_core::master::Fence;
use wa_core::worst_case::{self, Spans, WorstCase};

use super::merge::HIDDEN;
use super::{ConfigError, PublicTls, Require, Secret, Settings, Timers, UpstreamSettings};
use crate::api::v1::account::is_pin;

/// Shortest cluster key, in characters: 128 bits in hexadecimal.
const KEY_LEN_MIN: usize = 32;

/// Lines of the key file: the key in use, and one that comes or goes (see `net::keys`).
const KEYS_MAX: usize = 2;

fn spans(t: &Timers, intervals: Intervals) -> Spans {
    Spans {
        intervals,
        db_unhealthy: t.db_unhealthy_interval,
        ttl: t.lease_ttl,
        tolerance: t.tolerance,
    }
}

/// Worst cases with (`true`) or without a living host agent on the owner's machine.
pub fn worst_cases(t: &Timers, host_agent: bool) -> Vec<WorstCase> {
    worst_case::worst_cases(&spans(t, t.intervals()), host_agent)
}

/// How long the takeover from a lost machine takes at worst with these intervals, and the other timers as they are.
pub fn takeover_with(t: &Timers, intervals: Intervals) -> Duration {
    worst_case::told(&spans(t, intervals))
}

/// The same for the worst class of failure: the primary master was lost together with the owner.
pub fn longest_takeover_with(t: &Timers, intervals: Intervals) -> Duration {
    let cases = worst_case::worst_cases(&spans(t, intervals), false);
    let takeovers = cases.iter().map(|case| case.takeover);
    takeovers.max().unwrap_or_default()
}

/// The longest takeover of any class: what `hold_timeout` must cover.
pub(super) fn longest_takeover(t: &Timers) -> Duration {
    worst_cases(t, false)
        .iter()
        .map(|case| case.takeover)
        .max()
        .unwrap_or_default()
}

/// Checks every rule.
pub(super) fn check(s: &Settings) -> Result<(), ConfigError> {
    let rules = [
        timer_rules,
        node_rules,
        database_rules,
        // Before the upstream's: an exemption of the upstream is the worse mistake.
        gate_rules,
        webapp_rules,
        upstream_rules,
        client_rules,
        media_rules,
    ];
    match rules.iter().find_map(|rules| rules(s)) {
        Some(broken) => Err(ConfigError::Rule(broken)),
        None => Ok(()),
    }
}

fn shown(span: Duration) -> String {
    humantime::format_duration(span).to_string()
}

/// The first broken rule of `[timers]`.
fn timer_rules(s: &Settings) -> Option<String> {
    let t = &s.timers;
    if t.heartbeat_interval < Duration::from_millis(10) {
        return Some(format!(
            "[timers] heartbeat_interval {} must be at least 10ms",
            shown(t.heartbeat_interval)
        ));
    }
    if t.unhealthy_interval < t.heartbeat_interval * 3 {
        return Some(format!(
            "[timers] unhealthy_interval {} must be at least 3 × heartbeat_interval {}",
            shown(t.unhealthy_interval),
            shown(t.heartbeat_interval)
        ));
    }
    if t.lease_ttl < Duration::from_millis(300) || t.lease_ttl > Duration::from_secs(60) {
        return Some(format!(
            "[timers] lease_ttl {} must be 300ms to 60s",
            shown(t.lease_ttl)
        ));
    }
    if t.tolerance.hold(t.lease_ttl) < t.lease_ttl / 2 {
        return Some(
            "[timers] drift and margin leave less than half of lease_ttl: make lease_ttl longer"
                .into(),
        );
    }
    if t.db_unhealthy_interval < t.db_beat_interval * 2 {
        return Some("[timers] db_unhealthy_interval must be at least 2 × db_beat_interval".into());
    }
    let worst = longest_takeover(t);
    (t.hold_timeout < worst).then(|| {
        format!(
            "[timers] hold_timeout {} is shorter than the worst-case takeover {}: requests would fail during a failover",
            shown(t.hold_timeout),
            shown(worst)
        )
    })
}

/// The line is a webapp's part of a key (`net/keys.rs`); `Some(false)`: it says so and cannot be read.
fn webapp_part(line: &[u8]) -> Option<bool> {
    let part = std::str::from_utf8(line).ok()?.strip_prefix("webapp-key")?;
    let words: Vec<&str> = part.split_ascii_whitespace().collect();
    let hex = words.concat().bytes().all(|b| b.is_ascii_hexdigit());
    let lengths: Vec<usize> = words.iter().map(|word| word.len()).collect();
    // Releases before sealing wrote one word less.
    Some(hex && matches!(lengths[..], [2, 64, 64] | [2, 64, 64, 64]))
}

/// What is wrong with the key file.
fn key_rules(s: &Settings) -> Option<String> {
    let key = s.cluster_key.current();
    let lines = key.expose_secret().split(|byte| *byte == b'\n');
    let lines: Vec<&[u8]> = lines
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty())
        .collect();
    let parts: Vec<bool> = lines.iter().filter_map(|line| webapp_part(line)).collect();
    if parts.contains(&false) {
        return Some(
            "[cluster] key_file holds a webapp's key that cannot be read: make it again with `wa-agent keygen --webapp-of FILE`"
                .into(),
        );
    }
    if !parts.is_empty() && s.role != Role::Webapp {
        return Some(format!(
            "[cluster] key_file holds a webapp's part of the key: a {} needs the cluster key itself",
            s.role.as_str()
        ));
    }
    if lines.is_empty() || lines.iter().any(|line| line.len() < KEY_LEN_MIN) {
        return Some(format!(
            "[cluster] key_file holds a key of fewer than {KEY_LEN_MIN} characters: make one with `wa-agent keygen`"
        ));
    }
    (lines.len() > KEYS_MAX).then(|| {
        format!(
            "[cluster] key_file holds {} keys: one per line, the first signs, at most {KEYS_MAX}",
            lines.len()
        )
    })
}

/// The first broken rule of `[cluster]`, `[node]`, `[ports]` and `[webapp]`.
fn node_rules(s: &Settings) -> Option<String> {
    if let Some(broken) = key_rules(s) {
        return Some(broken);
    }
    if !wa_core::shard_map::SHARD_COUNTS.contains(&s.shard_count) {
        return Some(format!(
            "[cluster] shards = {}: write 1, 2, 4, 8, 16 or 32",
            s.shard_count
        ));
    }
    if s.node.as_str().len() > wa_core::id::NODE_ID_LEN_MAX {
        return Some(format!(
            "the node name {} is longer than {} bytes: set a shorter [node] hostname",
            s.node,
            wa_core::id::NODE_ID_LEN_MAX
        ));
    }
    if s.node
        .as_str()
        .chars()
        .any(|c| c.is_whitespace() || c.is_control())
    {
        return Some("[node] hostname must not contain spaces or control characters".into());
    }
    if !s.state_directory.is_absolute() {
        return Some(format!(
            "[node] state_directory {} must be an absolute path: after a restart elsewhere the highest epoch obeyed would be forgotten",
            s.state_directory.display()
        ));
    }
    if s.advertise.is_unspecified() || s.advertise.is_multicast() {
        return Some(format!(
            "[node] advertise {} is not an address that other nodes can send to",
            s.advertise
        ));
    }
    // A socket of IPv4 hears nothing of IPv6; one that listens on :: hears both, one that listens on another address of IPv6
    // only that.
    let hears = s.bind.is_ipv4() == s.advertise.is_ipv4() || s.bind == Ipv6Addr::UNSPECIFIED;
    if !hears {
        let (any, family) = match s.advertise {
            IpAddr::V4(_) => ("0.0.0.0", "IPv4"),
            IpAddr::V6(_) => ("::", "IPv6"),
        };
        return Some(format!(
            "[node] bind is {}, but [node] advertise is {}, an {family} address: the other nodes would send to where nobody listens; \
             write bind = \"{any}\" below [node], or take bind out",
            s.bind, s.advertise
        ));
    }
    if !s.api_key.is_empty() && !(12..=128).contains(&s.api_key.now().expose_secret().len()) {
        return Some("[webapp] api_key_file (WA_API_KEY) must hold 12 to 128 characters".into());
    }
    port_rules(s)
}

/// A port used twice by this instance. Zero is no port of the role.
fn port_rules(s: &Settings) -> Option<String> {
    let p = &s.ports;
    // Heartbeats are UDP, the others TCP: the same number there is no clash, but nobody would expect it.
    let named = [
        ("heartbeat", p.heartbeat),
        ("control", p.control),
        ("api", p.api),
        ("health", p.health),
    ];
    for (at, (name, port)) in named.iter().enumerate() {
        let twice = named[..at]
            .iter()
            .find(|(_, other)| other == port && *port != 0);
        if let Some((other, _)) = twice {
            return Some(format!(
                "[ports] {name} and {other} are both {port}: give each its own"
            ));
        }
    }
    None
}

/// The first broken rule of `[database]`.
fn database_rules(s: &Settings) -> Option<String> {
    let d = &s.database;
    let mut embedded = 0;
    for text in &d.urls {
        let shown = super::without_password(text);
        match text.split_once("://").map(|(scheme, _)| scheme) {
            Some("sqlite") => embedded += 1,
            Some("mysql" | "mariadb") => match url::Url::parse(text) {
                Ok(url) if url.host_str().is_none_or(str::is_empty) || url.path().len() < 2 => {
                    return Some(format!(
                        "[database] urls: {shown} must name a host and a database: mysql://user@host:3306/wa"
                    ));
                }
                Ok(_) => {}
                Err(error) => return Some(format!("[database] urls: {shown}: {error}")),
            },
            _ => {
                return Some(format!(
                    "[database] urls: {shown} must start with mysql:// or sqlite://"
                ));
            }
        }
    }
    if d.urls.is_empty() {
        return Some("[database] urls is empty: write at least one".into());
    }
    if embedded > 0 && d.urls.len() > 1 {
        return Some(
            "[database] urls: a SQLite file stands alone; several URLs must be servers of one cluster".into(),
        );
    }
    if d.ssl_cert.is_some() != d.ssl_key.is_some() {
        return Some("[database] ssl_cert and ssl_key go together: set both or none".into());
    }
    let remote = |host: String| {
        host != "localhost"
            && !host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|a| a.is_loopback())
    };
    let elsewhere = d
        .urls
        .iter()
        .filter_map(|url| super::address::host_of(url))
        .any(remote);
    (elsewhere && s.advertise.is_loopback() && !s.development).then(|| {
        format!(
            "[node] advertise is {}, but the database is on another machine: nodes there could not reach this one; set [node] advertise to this machine's address",
            s.advertise
        )
    })
}

/// The first broken rule of `[gate]`: what is exempt is not enforced, so the upstream must not be among it. Names are
/// resolved by the host agent while it runs; it leaves out whatever they turn out to be.
fn gate_rules(s: &Settings) -> Option<String> {
    if let Some(all) = s.gate_exempt.iter().find(|network| network.prefix() == 0) {
        return Some(format!(
            "[gate] exempt: {all} is everything, the upstream included: name the networks of this cluster only"
        ));
    }
    let url = url::Url::parse(&s.upstream.base_url).ok()?;
    let (address, own): (IpAddr, bool) = match url.host()? {
        url::Host::Ipv4(address) => (address.into(), address.is_loopback()),
        url::Host::Ipv6(address) => (address.into(), address.is_loopback()),
        url::Host::Domain("localhost") => (IpAddr::from([127, 0, 0, 1]), true),
        url::Host::Domain(_) => return None,
    };
    if own && s.fence == Fence::Required {
        return Some(format!(
            "[upstream] base_url {} is on this machine, where the kernel gate lets everything through: with [cluster] fence = \"required\" name \
             the upstream itself or a proxy at another address, or write fence = \"best-effort\"",
            s.upstream.base_url
        ));
    }
    if own && !s.development && needed_on(s, address) {
        return Some(format!(
            "[upstream] base_url {} is at {address}, where this machine's own nodes or its database are: the kernel gate judges by address,              and keeps them from each other with the upstream. Let what listens there listen on 127.0.0.2, and name that",
            s.upstream.base_url
        ));
    }
    let network = s.gate_exempt.iter().find(|n| n.contains(address))?;
    Some(format!(
        "[gate] exempt: {network} contains the upstream {address} (or the proxy to it): it would not be gated at all"
    ))
}

/// The cluster itself sends to this address.
fn needed_on(s: &Settings, address: IpAddr) -> bool {
    let databases = s.database.urls.iter();
    let database = databases.filter_map(|url| {
        let url = url::Url::parse(url).ok()?;
        let host = url.host_str()?.trim_matches(['[', ']']);
        match host {
            "localhost" => Some(IpAddr::from([127, 0, 0, 1])),
            host => host.parse().ok(),
        }
    });
    database
        .chain([s.advertise])
        .any(|needed| needed == address)
}

/// The first broken rule of `[upstream]`.
fn upstream_rules(s: &Settings) -> Option<String> {
    let u = &s.upstream;
    let url = match url::Url::parse(&u.base_url) {
        Ok(url) => url,
        Err(error) => return Some(format!("[upstream] base_url {:?}: {error}", u.base_url)),
    };
    let local = match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    };
    if url.scheme() != "https" && !(url.scheme() == "http" && (local || s.development)) {
        return Some(format!(
            "[upstream] base_url {} must be https: the access token travels on it",
            u.base_url
        ));
    }
    if u.rate_per_second == Some(0) || u.concurrency == 0 {
        return Some("[upstream] rate_per_second and concurrency must be at least 1".into());
    }
    let digits = |n: &String| (5..=15).contains(&n.len()) && n.bytes().all(|b| b.is_ascii_digit());
    if let Some(number) = u.phone_number.as_ref().filter(|n| !digits(n)) {
        return Some(format!(
            "[upstream] phone_number = {number:?}: write the number with its country code in 5 to 15 digits"
        ));
    }
    if let Some(broken) = registration_rules(u) {
        return Some(broken);
    }
    if !u.app_id.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(format!(
            "[upstream] app_id = {:?}: write the app's id, which has digits only",
            u.app_id
        ));
    }
    if let Some(broken) = ambiguity_rules(u) {
        return Some(broken);
    }
    if u.connect_timeout.is_zero() || u.request_timeout < u.connect_timeout {
        return Some(
            "[upstream] request_timeout must be at least connect_timeout, which must not be zero"
                .into(),
        );
    }
    if local || s.development {
        return None;
    }
    let missing = |name: &str, what: &str| Some(format!("[upstream] {name} is not set: {what}"));
    match s.role {
        Role::Coreapp if u.phone_number_id.is_empty() => missing(
            "phone_number_id",
            "the number to send from, as the app dashboard shows it",
        ),
        Role::Coreapp if u.token.is_empty() => {
            missing("token_file", "without an access token nothing can be sent")
        }
        Role::Webapp if u.app_secret.is_empty() => missing(
            "app_secret_file",
            "without it no upstream event can be verified, and all are refused",
        ),
        Role::Webapp if u.verify_token.is_empty() => missing(
            "verify_token_file",
            "without it the upstream cannot verify this webhook URL",
        ),
        Role::Master | Role::Coreapp | Role::Webapp | Role::Host => None,
    }
}

/// The first broken rule of what is done with messages of unknown fate.
fn ambiguity_rules(u: &UpstreamSettings) -> Option<String> {
    if u.ambiguity_max < u.ambiguity_window {
        return Some("[upstream] ambiguity_max must be at least ambiguity_window".into());
    }
    (u.ambiguity_sends_max == 0).then(|| {
        "[upstream] ambiguity_sends_max must be at least 1; on_ambiguity = \"report\" sends nothing again".into()
    })
}

/// The first broken rule of what registers the number.
fn registration_rules(u: &UpstreamSettings) -> Option<String> {
    let letters = |n: &char| n.is_ascii_alphabetic() || *n == '_';
    if !(2..=5).contains(&u.code_language.len()) || !u.code_language.chars().all(|c| letters(&c)) {
        return Some(format!(
            "[upstream] code_language = {:?}: write a language such as \"en_US\"",
            u.code_language
        ));
    }
    if !u.pin.is_empty() && !pin(&u.pin) {
        return Some(
            "[upstream] pin_file: the file must hold the six digits of the number's pin, and nothing else"
                .into(),
        );
    }
    None
}

/// Six digits; or what stands for a secret that whoever looks may not read.
fn pin(secret: &Secret) -> bool {
    let text = secret.now();
    let text = text.expose_secret();
    is_pin(text) || text == HIDDEN
}

/// The first broken rule of `[client]`.
fn client_rules(s: &Settings) -> Option<String> {
    (s.client.check_templates && s.upstream.waba_id.is_empty()).then(|| {
        "[client] check_templates needs [upstream] waba_id: the account whose templates are listed, as the app dashboard shows it"
            .into()
    })
}

/// The first broken rule of `[webapp]`.
fn webapp_rules(s: &Settings) -> Option<String> {
    if !s.upstream.mtls_authorities.is_empty() && s.public_tls == PublicTls::Off {
        return Some(
            "[upstream] mtls_ca needs [webapp] tls: with \"off\" something in front of the webapp ends TLS, and is to check the \
             upstream's certificate"
                .into(),
        );
    }
    let (from, to) = (Duration::from_secs(1), Duration::from_secs(3600));
    (s.keep_alive < from || s.keep_alive > to).then(|| {
        format!(
            "[webapp] keep_alive {} must be {} to {}",
            shown(s.keep_alive),
            shown(from),
            shown(to)
        )
    })
}

/// The first broken rule of `[media]`.
fn media_rules(s: &Settings) -> Option<String> {
    let m = &s.media;
    if m.require == Require::None {
        return None;
    }
    if !m.directory.is_absolute() {
        return Some(format!(
            "[media] directory {} must be an absolute path",
            m.directory.display()
        ));
    }
    if s.state_directory.starts_with(&m.directory) {
        return Some(format!(
            "[media] directory {} holds the state directory {}: a mount that hangs would take both; give media a directory of its own",
            m.directory.display(),
            s.state_directory.display()
        ));
    }
    for (name, span, from, to) in [
        ("probe_interval", m.probe_interval, 100, 300_000),
        ("probe_timeout", m.probe_timeout, 100, 60_000),
    ] {
        let ms = Duration::from_millis;
        if span < ms(from) || span > ms(to) {
            return Some(format!(
                "[media] {name} {} must be {} to {}",
                shown(span),
                shown(ms(from)),
                shown(ms(to))
            ));
        }
    }
    None
}
