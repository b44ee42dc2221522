//! `[upstream]`: the Cloud API, and how long what becomes of a message may be unknown.

use std::path::PathBuf;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use wa_core::id::Role;
use wa_core::pace::Level;

use super::merge::Merge;
use super::{ConfigError, OnAmbiguity, Secret, SendsThen, UpstreamSettings, client, fragment};
use crate::api::cloud::event::Own;
use crate::api::v1::number::Number;

/// Where WhatsApp keeps customers' files: the API reference shows lookaside.fbsbx.com; the others are Meta's domains for files.
const MEDIA_HOSTS: [&str; 4] = [".fbsbx.com", ".fbcdn.net", ".whatsapp.net", ".facebook.com"];

const DEFAULT_UPSTREAM: &str = "https://graph.facebook.com";

/// Hosts by name, and domains with a dot in front, for all hosts below.
#[derive(Debug, Clone)]
pub struct MediaHosts(Vec<String>);

/// Those of WhatsApp.
impl Default for MediaHosts {
    fn default() -> Self {
        Self(MEDIA_HOSTS.map(String::from).into())
    }
}

impl MediaHosts {
    /// As they are written.
    ///
    /// # Errors
    /// The first one that is none.
    pub fn parse(texts: &[String]) -> Result<Self, String> {
        let read = |text: &String| {
            let (dot, name) = match text.strip_prefix('.') {
                Some(name) => (".", name),
                None => ("", text.as_str()),
            };
            let host = client::host(name).map(|host| format!("{dot}{host}"));
            host.ok_or_else(|| text.clone())
        };
        texts.iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// Whether this host, as it stands in a URL that was read, is among them.
    pub fn has(&self, host: &str) -> bool {
        let fits = |listed: &String| match listed.strip_prefix('.') {
            Some(domain) => {
                let below = host.strip_suffix(domain);
                below.is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
            None => host == listed,
        };
        self.0.iter().any(fits)
    }
}

impl UpstreamSettings {
    /// What events are ours by.
    pub fn own(&self) -> Own<'_> {
        Own {
            number: &self.phone_number_id,
            account: &self.waba_id,
            portfolio: &self.portfolio_id,
        }
    }
}

/// Reads the section.
///
/// # Errors
/// [`ConfigError::Rule`] for a word that is none of the choices, and for a file that cannot be read.
pub(super) fn upstream(
    m: &mut Merge,
    role: Role,
    u: fragment::Upstream,
) -> Result<UpstreamSettings, ConfigError> {
    let ms = Duration::from_millis;
    let mut need = |key, file: Option<PathBuf>, credential| {
        let found = m.secret(key, file.as_deref(), credential, None)?;
        Ok::<_, ConfigError>(Secret::new(found.unwrap_or_default()))
    };
    let token = need("upstream.token_file", u.token_file, "upstream-token")?;
    let app_secret = need("upstream.app_secret_file", u.app_secret_file, "app-secret")?;
    let verify_token = need(
        "upstream.verify_token_file",
        u.verify_token_file,
        "verify-token",
    )?;
    let pin = need("upstream.pin_file", u.pin_file, "upstream-pin")?;
    let authorities = authorities(m, role, u.ca)?;
    let mtls_authorities = client::mtls_authorities(m, role, u.mtls_ca)?;
    let media_hosts = media_hosts(m, u.media_hosts)?;
    let mut text =
        |key, written, default: &str| m.pick(key, written, None, (default.to_owned(), "default"));
    let base_url = text("upstream.base_url", u.base_url, DEFAULT_UPSTREAM);
    let version = text("upstream.version", u.version, "v25.0");
    let phone_number_id = text("upstream.phone_number_id", u.phone_number_id, "");
    let phone_number = text("upstream.phone_number", u.phone_number, "");
    let waba_id = text("upstream.waba_id", u.waba_id, "");
    let portfolio_id = text("upstream.portfolio_id", u.portfolio_id, "");
    let code_language = text("upstream.code_language", u.code_language, "en_US");
    let app_id = text("upstream.app_id", u.app_id, "");
    let phone_number = Number::parse(&phone_number).map_or(phone_number, |n| n.digits);
    let on_ambiguity = on_ambiguity(&text("upstream.on_ambiguity", u.on_ambiguity, "resend"))?;
    let then = u.ambiguity_sends_then;
    let then = text("upstream.ambiguity_sends_then", then, "report");
    let ambiguity_sends_then = sends_then(&then)?;
    let mut count = |key, written, default: u32| m.pick(key, written, None, (default, "default"));
    let ambiguity_sends_max = count("upstream.ambiguity_sends_max", u.ambiguity_sends_max, 3);
    let usual = Level::default().per_second();
    let rate = count("upstream.rate_per_second", u.rate_per_second, usual);
    let pair_burst = count("upstream.pair_burst", u.pair_burst, 45);
    let mut span = |key, written, default| m.span(key, written, default, "default");
    Ok(UpstreamSettings {
        ambiguity_sends_max,
        ambiguity_sends_then,
        base_url,
        version,
        phone_number_id,
        phone_number: (!phone_number.is_empty()).then_some(phone_number),
        waba_id,
        portfolio_id,
        app_id,
        media_hosts,
        on_ambiguity,
        token,
        app_secret,
        authorities,
        mtls_authorities,
        verify_token,
        pin,
        code_language,
        connect_timeout: span("upstream.connect_timeout", u.connect_timeout, ms(3000)),
        request_timeout: span("upstream.request_timeout", u.request_timeout, ms(10_000)),
        ambiguity_window: span("upstream.ambiguity_window", u.ambiguity_window, ms(5000)),
        ambiguity_max: span("upstream.ambiguity_max", u.ambiguity_max, ms(600_000)),
        rate_per_second: u.rate_per_second.map(|_| rate),
        pair_burst,
        concurrency: m.pick("upstream.concurrency", u.concurrency, None, (32, "default")),
    })
}

fn media_hosts(m: &mut Merge, written: Option<Vec<String>>) -> Result<MediaHosts, ConfigError> {
    let shown = written.as_ref().map(|hosts| hosts.join(" "));
    let default = (MEDIA_HOSTS.join(" "), "default");
    m.pick("upstream.media_hosts", shown, None, default);
    let Some(hosts) = written else {
        return Ok(MediaHosts::default());
    };
    MediaHosts::parse(&hosts).map_err(|wrong| {
        ConfigError::Rule(format!(
            "[upstream] media_hosts: {wrong:?} is no host; write a name, or a dot and a domain for all hosts below it, without scheme, \
             port and path"
        ))
    })
}

/// More authorities for the upstream's servers.
fn authorities(
    m: &mut Merge,
    role: Role,
    written: Option<PathBuf>,
) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let path = m.path("upstream.ca", written, "");
    // Coreapps call the upstream, and host agents see whether it can be reached. The others need not be able to read it.
    let calls = matches!(role, Role::Coreapp | Role::Host);
    let Some(path) = path.filter(|_| calls) else {
        return Ok(Vec::new());
    };
    client::certificates_in(&path).map_err(|why| {
        ConfigError::Rule(format!(
            "[upstream] ca: {}: {why}; write a file with certificates in PEM form, readable for the coreapps",
            path.display()
        ))
    })
}

fn on_ambiguity(word: &str) -> Result<OnAmbiguity, ConfigError> {
    match word {
        "resend" => Ok(OnAmbiguity::Resend),
        "report" => Ok(OnAmbiguity::Report),
        other => Err(ConfigError::Rule(format!(
            "[upstream] on_ambiguity = {other:?}: write \"resend\" or \"report\""
        ))),
    }
}

fn sends_then(word: &str) -> Result<SendsThen, ConfigError> {
    match word {
        "report" => Ok(SendsThen::Report),
        "wait" => Ok(SendsThen::Wait),
        other => Err(ConfigError::Rule(format!(
            "[upstream] ambiguity_sends_then = {other:?}: write \"report\" or \"wait\""
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a file that vouches for nobody is named at the start, by the roles that need it only. Method: no file, an empty one,
    /// and one with a certificate, as every role reads it.
    #[test]
    fn the_upstreams_authorities_are_read_at_the_start() {
        let place = tempfile::tempdir().expect("a directory");
        let file = place.path().join("ca.pem");
        let read = |role| authorities(&mut Merge::of_nothing(), role, Some(file.clone()));
        for text in [None, Some("-----BEGIN NOTHING-----\n")] {
            if let Some(text) = text {
                std::fs::write(&file, text).expect("written");
            }
            for role in [Role::Coreapp, Role::Host] {
                let said = read(role).expect_err("none in it").to_string();
                assert!(said.contains("[upstream] ca: "), "{said}");
                assert!(said.contains("ca.pem"), "{said}");
            }
            for role in [Role::Master, Role::Webapp] {
                assert_eq!(read(role).expect("not read"), []);
            }
        }
        let made = rcgen::generate_simple_self_signed(["ca".to_owned()]).expect("made");
        std::fs::write(&file, made.cert.pem()).expect("written");
        let found = read(Role::Coreapp).expect("one");
        assert_eq!(found, [made.cert.der().clone()]);
        let none = authorities(&mut Merge::of_nothing(), Role::Coreapp, None);
        assert_eq!(none.expect("nothing is named"), []);
    }
}
