//! The cluster's own certificate, where nobody has sent one: an authority of the cluster, and a certificate for its webapps that
//! the authority issues. Clients that trust the authority notice no renewal. Stores nothing, serves nothing, reads no clock.

use std::net::IpAddr;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::certificate;

const DAY_S: i64 = 86_400;
/// For how long a certificate is good: clients refuse longer ones.
const DAYS: i64 = 825;
/// It is renewed when less than this is left.
const RENEW_DAYS: i64 = 90;
/// The authority is good for so long, and issues no certificate that outlives it.
const AUTHORITY_DAYS: i64 = 7300;
/// Clocks of clients may be behind.
const BEFORE_S: i64 = 3600;
/// Names in one certificate. Where there would be more, those that nobody has asked for lately are left out.
const NAMES_MAX: usize = 100;

/// Names that a certificate should be good for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Of the webapp that asks. They come first, and none is left out for another's.
    pub own: Vec<String>,
    /// Of the other webapps. Each of them asks for its own: in a full certificate these are not missed.
    pub others: Vec<String>,
}

/// What stands in the database: certificates as PEM, keys in the form that the caller gives them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    pub authority: String,
    pub authority_key: Zeroizing<String>,
    pub certificate: String,
    pub key: Zeroizing<String>,
}

/// Why a certificate has to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Need {
    /// So many days are left.
    Ends(i64),
    /// These names are not in it.
    Names(Vec<String>),
    /// It cannot be read.
    Unreadable,
}

fn name_of(text: &str) -> Option<SanType> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(SanType::IpAddress(address.to_canonical()));
    }
    let in_a_name = |c: char| c.is_ascii_alphanumeric() || "-._*".contains(c);
    let name = !text.is_empty() && text.len() <= 253 && text.chars().all(in_a_name);
    name.then(|| {
        text.to_ascii_lowercase()
            .try_into()
            .ok()
            .map(SanType::DnsName)
    })?
}

/// As they stand in a certificate, each once, in their order, and as many as fit; what cannot stand there is left out.
fn written<'a>(names: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut written = Vec::new();
    for name in names {
        let name = match name_of(name) {
            Some(SanType::IpAddress(address)) => address.to_string(),
            Some(SanType::DnsName(name)) => name.to_string(),
            Some(_) | None => continue,
        };
        if written.len() < NAMES_MAX && !written.contains(&name) {
            written.push(name);
        }
    }
    written
}

/// Whether a certificate is still good for these names at this time, in seconds since 1970. One that was made for names by
/// [`with_names_of`] is, whatever the names are.
pub fn need(certificate: &str, wanted: &Wanted, now_s: i64) -> Option<Need> {
    let chain = certificate::of_text(certificate);
    let Some((ends_s, has)) = chain.first().and_then(certificate::span_and_names) else {
        return Some(Need::Unreadable);
    };
    let days = (ends_s - now_s) / DAY_S;
    if days < RENEW_DAYS {
        return Some(Need::Ends(days));
    }
    let Wanted { own, others } = wanted;
    let asked = if has.len() < NAMES_MAX {
        written(own.iter().chain(others))
    } else {
        written(own.iter())
    };
    let missing = asked.into_iter().filter(|name| !has.contains(name));
    let missing: Vec<String> = missing.collect();
    (!missing.is_empty()).then_some(Need::Names(missing))
}

/// Names for the next certificate: those of who asks, those of the last one, whose webapps may come back, and the others. In a
/// full one those fall out that were asked for longest ago: webapps with up to a hundred names between them come to rest.
pub fn with_names_of(certificate: &str, wanted: &Wanted) -> Vec<String> {
    let chain = certificate::of_text(certificate);
    let before = chain.first().and_then(certificate::span_and_names);
    let before = before.map_or_else(Vec::new, |(_, names)| names);
    written(wanted.own.iter().chain(&before).chain(&wanted.others))
}

fn at(s: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(s).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn subject(name: String) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, "wa-agent");
    subject.push(DnType::CommonName, name);
    subject
}

/// Makes a certificate for these names, by the authority that issued the last one where it is good for long enough. Another
/// one has the same key and name, so that clients which trust the earlier one go on.
///
/// # Errors
/// When a key cannot be made or used.
pub fn make(
    last: Option<&Own>,
    cluster: &str,
    names: &[String],
    now_s: i64,
) -> Result<Own, rcgen::Error> {
    let authority_key = match last {
        Some(last) => KeyPair::from_pem(&last.authority_key)?,
        None => KeyPair::generate()?,
    };
    let ends = |own: &Own| {
        let read = certificate::of_text(&own.authority);
        let read = read.first().and_then(certificate::span_and_names);
        read.map_or(0, |(ends_s, _)| ends_s)
    };
    let lasts = last.filter(|own| ends(own) > now_s + DAYS * DAY_S);
    let authority = match lasts {
        Some(own) => own.authority.clone(),
        None => authority(cluster, &authority_key, now_s)?,
    };
    let authority_key_text = Zeroizing::new(authority_key.serialize_pem());
    let issuer = Issuer::from_ca_cert_pem(&authority, authority_key)?;
    let mut params = CertificateParams::default();
    params.subject_alt_names = names.iter().filter_map(|name| name_of(name)).collect();
    // A common name has 64 characters at most.
    let cluster: String = cluster.chars().take(40).collect();
    params.distinguished_name = subject(format!("webapps of {cluster}"));
    (params.not_before, params.not_after) =
        (at(now_s - BEFORE_S), at(now_s + DAYS * DAY_S - BEFORE_S));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?;
    Ok(Own {
        certificate: format!("{}{authority}", certificate.pem()),
        authority,
        authority_key: authority_key_text,
        key: Zeroizing::new(key.serialize_pem()),
    })
}

fn authority(cluster: &str, key: &KeyPair, now_s: i64) -> Result<String, rcgen::Error> {
    let mut params = CertificateParams::default();
    let cluster: String = cluster.chars().take(40).collect();
    params.distinguished_name = subject(format!("authority of {cluster}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) =
        (at(now_s - BEFORE_S), at(now_s + AUTHORITY_DAYS * DAY_S));
    params.self_signed(key).map(|made| made.pem())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::certificate::{Served, served};

    const NOW_S: i64 = 1_781_000_000;

    fn texts(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    fn wants(own: Vec<String>, others: Vec<String>) -> Wanted {
        Wanted { own, others }
    }

    /// It can be served, and a client that trusts this authority accepts it for the name.
    fn verifies(own: &Own, authority: &str, name: &str, now_s: i64) -> bool {
        use rustls::client::WebPkiServerVerifier;
        use rustls::client::danger::ServerCertVerifier as _;
        use std::sync::Arc;
        let text = format!("{}{}", own.certificate, *own.key);
        let Served { chain, .. } = served(text.as_bytes(), now_s).unwrap_or_else(|w| panic!("{w}"));
        let chain = certificate::of_text(&chain);
        let mut roots = rustls::RootCertStore::empty();
        for root in certificate::of_text(authority) {
            roots.add(root).expect("an authority");
        }
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), ring);
        let verifier = verifier.build().expect("roots");
        let name = rustls_pki_types::ServerName::try_from(name.to_owned()).expect("a name");
        let now = std::time::Duration::from_secs(u64::try_from(now_s).expect("after 1970"));
        let now = rustls_pki_types::UnixTime::since_unix_epoch(now);
        let verified = verifier.verify_server_cert(&chain[0], &chain[1..], &name, &[], now);
        verified.is_ok()
    }

    /// Goal: the certificate is good for every webapp's name and address, for 825 days, and is wanted anew before its end and
    /// when a webapp with a new name comes; clients that trust the first authority go on. Method: a life of twenty-five years.
    #[test]
    fn it_is_renewed_and_clients_notice_nothing() {
        let names = texts(&[
            "web1.example",
            "192.0.2.1",
            "2001:db8::1",
            "WEB2",
            "no name",
            "",
        ]);
        let first = make(None, "shop", &names, NOW_S).expect("made");
        for name in ["web1.example", "192.0.2.1", "2001:db8::1", "web2"] {
            assert!(verifies(&first, &first.authority, name, NOW_S), "{name}");
        }
        assert!(!verifies(&first, &first.authority, "web3", NOW_S));
        let (ends_s, _) = certificate::of_text(&first.certificate)
            .first()
            .and_then(certificate::span_and_names)
            .expect("readable");
        assert_eq!(ends_s, NOW_S + DAYS * DAY_S - BEFORE_S);
        let names = wants(names, Vec::new());
        assert_eq!(need(&first.certificate, &names, NOW_S), None);
        let last = NOW_S + (DAYS - RENEW_DAYS) * DAY_S;
        assert_eq!(need(&first.certificate, &names, last - DAY_S), None);
        assert_eq!(need(&first.certificate, &names, last), Some(Need::Ends(89)));
        let more = wants(texts(&["web3"]), texts(&["web1.example"]));
        assert_eq!(
            need(&first.certificate, &more, NOW_S),
            Some(Need::Names(texts(&["web3"])))
        );
        assert_eq!(need("", &more, NOW_S), Some(Need::Unreadable));

        let names = with_names_of(&first.certificate, &more);
        assert_eq!(names[0], "web3");
        let second = make(Some(&first), "shop", &names, NOW_S).expect("made");
        assert_eq!(second.authority, first.authority);
        assert!(verifies(&second, &first.authority, "web3", NOW_S));
        assert!(verifies(&second, &first.authority, "web2", NOW_S));
        assert_eq!(need(&second.certificate, &more, NOW_S), None);

        // The authority is near its end: another one with its key and name.
        let then = NOW_S + (AUTHORITY_DAYS - 10) * DAY_S;
        let third = make(Some(&second), "shop", &names, then).expect("made");
        assert_ne!(third.authority, first.authority);
        assert!(verifies(
            &third,
            &third.authority,
            "web3",
            then + 400 * DAY_S
        ));
        assert!(verifies(&third, &first.authority, "web3", then));
    }

    /// Goal: webapps that come and go under new names for ever do not fill the certificate.
    #[test]
    fn names_do_not_grow_without_end() {
        let many: Vec<String> = (0..NAMES_MAX - 1)
            .map(|n| format!("web{n}.example"))
            .collect();
        let own = make(None, "shop", &many, NOW_S).expect("made");
        let needed = texts(&["new1.example", "new2.example"]);
        let names = with_names_of(&own.certificate, &wants(needed.clone(), many.clone()));
        assert_eq!((names.len(), &names[..2]), (NAMES_MAX, &needed[..]));
        assert_eq!(names[2..], many[..NAMES_MAX - 2]);
    }

    /// Goal: a certificate that was made for names is good for them, however many and however they are written: no webapp makes
    /// one after another. Method: two webapps with 30 names of their own each, in a cluster of 150, in turns; and one with 150.
    #[test]
    fn webapps_with_many_names_come_to_rest() {
        let named = |of: &str, n: usize| -> Vec<String> {
            (0..n).map(|n| format!("{of}{n}.Example")).collect()
        };
        let all = named("all", 150);
        let mut twice = named("w", 30);
        twice.extend(named("w", 30));
        let webapps = [
            wants(twice, all.clone()),
            wants(named("v", 30), all.clone()),
        ];
        let mut own = make(None, "shop", &texts(&["first.example"]), NOW_S).expect("made");
        let mut made = 0;
        for webapp in webapps.iter().cycle().take(8) {
            if need(&own.certificate, webapp, NOW_S).is_some() {
                let names = with_names_of(&own.certificate, webapp);
                own = make(Some(&own), "shop", &names, NOW_S).expect("made");
                made += 1;
            }
            assert_eq!(need(&own.certificate, webapp, NOW_S), None);
        }
        assert_eq!(made, 2);
        let much = wants(all, Vec::new());
        let names = with_names_of(&own.certificate, &much);
        own = make(Some(&own), "shop", &names, NOW_S).expect("made");
        assert_eq!(need(&own.certificate, &much, NOW_S), None);
    }
}
