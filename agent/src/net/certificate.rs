//! Certificates as clients and operators send them, in PEM form: is the chain whole and in order, does the key fit, is it
//! their time. Stores nothing, serves nothing, and reads no clock.

use rustls::crypto::ring;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{PemObject as _, SectionKind};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::error::X509Error;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

/// Longest bundle, in bytes.
pub const LEN_MAX: usize = 64 << 10;
/// Longest chain that is served.
const CHAIN_LEN_MAX: usize = 10;

/// What is wrong, for whoever sent it. Certificates count from 1.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    #[error("the body must be PEM text: -----BEGIN CERTIFICATE----- and so on")]
    NotPem,
    #[error("the body holds no certificate")]
    NoCertificate,
    #[error(
        "the body holds no private key; send the certificate, its chain and the key in one body"
    )]
    NoKey,
    #[error("the body holds {0} private keys; send one")]
    ManyKeys(usize),
    #[error("the private key is encrypted; send it without a password")]
    Encrypted,
    #[error("the private key cannot be used: {0}")]
    Key(String),
    #[error("the private key does not belong to the first certificate ({0})")]
    Fit(String),
    #[error("the chain has {0} certificates; at most {CHAIN_LEN_MAX} are taken")]
    Long(usize),
    #[error("certificate {0} cannot be read")]
    Unreadable(usize),
    #[error(
        "certificate {at} ({subject}) was not issued by the one behind it, but by {issuer}; send the server's certificate first, \
         and behind each the one that issued it"
    )]
    Order {
        at: usize,
        subject: String,
        issuer: String,
    },
    #[error("the signature of certificate {at} ({subject}) is not of the certificate behind it")]
    Signature { at: usize, subject: String },
    #[error("certificate {at} ({subject}) has expired: it was good until {until}")]
    Expired {
        at: usize,
        subject: String,
        until: String,
    },
    #[error("certificate {at} ({subject}) is not good yet: it begins at {from}")]
    Early {
        at: usize,
        subject: String,
        from: String,
    },
    #[error("certificate {at} ({subject}) is of no certificate authority")]
    NoAuthority { at: usize, subject: String },
}

/// A certificate, its chain and its key, as they may be served.
pub struct Served {
    /// PEM; the server's own first.
    pub chain: String,
    /// PEM.
    pub key: Zeroizing<String>,
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = Zeroizing::new(base64::prelude::BASE64_STANDARD.encode(der));
    let mut out = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = after;
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

/// The sections of a text, or what is wrong with it.
fn sections(text: &[u8]) -> Result<Vec<(SectionKind, Vec<u8>)>, Wrong> {
    // What some editors put in front.
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let all = <(SectionKind, Vec<u8>)>::pem_slice_iter(text).collect::<Result<Vec<_>, _>>();
    all.map_err(|_| Wrong::NotPem)
}

fn certificates(sections: &[(SectionKind, Vec<u8>)]) -> Vec<CertificateDer<'static>> {
    let all = sections.iter();
    let certificates = all.filter(|(kind, _)| *kind == SectionKind::Certificate);
    certificates
        .map(|(_, der)| CertificateDer::from(der.clone()))
        .collect()
}

fn read<'a>(der: &'a CertificateDer<'_>, at: usize) -> Result<X509Certificate<'a>, Wrong> {
    match X509Certificate::from_der(der.as_ref()) {
        Ok(([], read)) => Ok(read),
        Ok(_) | Err(_) => Err(Wrong::Unreadable(at)),
    }
}

/// It is good at this time, in seconds since 1970.
fn in_time(certificate: &X509Certificate<'_>, at: usize, now_s: i64) -> Result<(), Wrong> {
    let validity = certificate.validity();
    let subject = || certificate.subject().to_string();
    if now_s > validity.not_after.timestamp() {
        let until = validity.not_after.to_string();
        return Err(Wrong::Expired {
            at,
            subject: subject(),
            until,
        });
    }
    if now_s < validity.not_before.timestamp() {
        let from = validity.not_before.to_string();
        return Err(Wrong::Early {
            at,
            subject: subject(),
            from,
        });
    }
    Ok(())
}

/// Each is issued by the one behind it.
fn in_order(chain: &[X509Certificate<'_>]) -> Result<(), Wrong> {
    for (n, pair) in chain.windows(2).enumerate() {
        let [one, issuer] = pair else { continue };
        let (at, subject) = (n + 1, one.subject().to_string());
        if one.issuer().as_raw() != issuer.subject().as_raw() {
            let issuer = one.issuer().to_string();
            return Err(Wrong::Order {
                at,
                subject,
                issuer,
            });
        }
        // An algorithm that cannot be checked here is the clients' business.
        let checked = one.verify_signature(Some(issuer.public_key()));
        if checked == Err(X509Error::SignatureVerificationError) {
            return Err(Wrong::Signature { at, subject });
        }
    }
    Ok(())
}

/// Reads a server's certificate with its chain and key.
///
/// # Errors
/// [`Wrong`]
pub fn served(text: &[u8], now_s: i64) -> Result<Served, Wrong> {
    let sections = sections(text)?;
    let chain = certificates(&sections);
    if chain.is_empty() {
        let pem = sections.is_empty() && !text.windows(11).any(|at| at == b"-----BEGIN ");
        return Err(if pem {
            Wrong::NotPem
        } else {
            Wrong::NoCertificate
        });
    }
    if chain.len() > CHAIN_LEN_MAX {
        return Err(Wrong::Long(chain.len()));
    }
    let key = key(text, &sections)?;
    let read: Vec<X509Certificate<'_>> = chain
        .iter()
        .enumerate()
        .map(|(n, der)| read(der, n + 1))
        .collect::<Result<_, _>>()?;
    for (n, one) in read.iter().enumerate() {
        in_time(one, n + 1, now_s)?;
    }
    in_order(&read)?;
    let served = Served {
        chain: chain.iter().map(|der| pem("CERTIFICATE", der)).collect(),
        key,
    };
    certified(&served.chain, served.key.as_bytes())?;
    Ok(served)
}

/// The one private key among the sections, as PEM.
fn key(text: &[u8], sections: &[(SectionKind, Vec<u8>)]) -> Result<Zeroizing<String>, Wrong> {
    let label = |kind: &SectionKind| match kind {
        SectionKind::PrivateKey => Some("PRIVATE KEY"),
        SectionKind::RsaPrivateKey => Some("RSA PRIVATE KEY"),
        SectionKind::EcPrivateKey => Some("EC PRIVATE KEY"),
        _ => None,
    };
    let keys: Vec<(&str, &Vec<u8>)> = sections
        .iter()
        .filter_map(|(kind, der)| Some((label(kind)?, der)))
        .collect();
    let says = |words: &[u8]| text.windows(words.len()).any(|at| at == words);
    match keys[..] {
        _ if says(b"ENCRYPTED PRIVATE KEY") || says(b"Proc-Type: 4,ENCRYPTED") => {
            Err(Wrong::Encrypted)
        }
        [] => Err(Wrong::NoKey),
        [(label, der)] => Ok(Zeroizing::new(pem(label, der))),
        _ => Err(Wrong::ManyKeys(keys.len())),
    }
}

/// A chain and its key, as handshakes are answered with.
///
/// # Errors
/// [`Wrong`] when the two do not go together, or cannot be used.
pub fn certified(chain: &str, key: &[u8]) -> Result<CertifiedKey, Wrong> {
    let chain = certificates(&sections(chain.as_bytes())?);
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| Wrong::NoKey)?;
    let signing = ring::default_provider()
        .key_provider
        .load_private_key(key)
        .map_err(|error| Wrong::Key(error.to_string()))?;
    let certified = CertifiedKey::new(chain, signing);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
            Ok(certified)
        }
        Err(error) => Err(Wrong::Fit(error.to_string())),
    }
}

/// Reads a bundle of certificate authorities, and gives it back without anything else in it.
///
/// # Errors
/// [`Wrong`]
pub fn authorities(text: &[u8], now_s: i64) -> Result<String, Wrong> {
    let sections = sections(text)?;
    let all = certificates(&sections);
    if all.is_empty() {
        let empty = sections.is_empty();
        return Err(if empty {
            Wrong::NotPem
        } else {
            Wrong::NoCertificate
        });
    }
    for (n, der) in all.iter().enumerate() {
        let one = read(der, n + 1)?;
        in_time(&one, n + 1, now_s)?;
        let own = one.subject().as_raw() == one.issuer().as_raw();
        // A receiver's own self-signed certificate vouches for itself.
        if !one.is_ca() && !own {
            let subject = one.subject().to_string();
            return Err(Wrong::NoAuthority { at: n + 1, subject });
        }
    }
    Ok(all.iter().map(|der| pem("CERTIFICATE", der)).collect())
}

/// The certificates of a text that was read before; those that cannot be read are left out.
pub fn of_text(text: &str) -> Vec<CertificateDer<'static>> {
    sections(text.as_bytes()).map_or_else(|_| Vec::new(), |sections| certificates(&sections))
}

/// What clients need to trust a chain: its last certificate, where that is an authority or vouches for itself. PEM.
pub fn authority_of(chain: &[CertificateDer<'_>]) -> Option<String> {
    let last = chain.last()?;
    let read = read(last, chain.len()).ok()?;
    let own = read.subject().as_raw() == read.issuer().as_raw();
    (own || read.is_ca()).then(|| pem("CERTIFICATE", last))
}

/// When a certificate ends, in seconds since 1970, and the names and addresses that it is for.
pub fn span_and_names(der: &CertificateDer<'_>) -> Option<(i64, Vec<String>)> {
    use x509_parser::extensions::GeneralName;
    let read = read(der, 1).ok()?;
    let names = read.subject_alternative_name().ok().flatten();
    let names = names.iter().flat_map(|names| &names.value.general_names);
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes)
                .ok()
                .map(|ip| std::net::IpAddr::from(ip).to_string()),
            16 => <[u8; 16]>::try_from(*bytes)
                .ok()
                .map(|ip| std::net::IpAddr::from(ip).to_string()),
            _ => None,
        },
        _ => None,
    });
    Some((read.validity().not_after.timestamp(), names.collect()))
}

/// Whose the certificates of a bundle are, and when each ends, in seconds since 1970. What cannot be read is left out.
pub fn subjects_and_ends(text: &str) -> Vec<(String, i64)> {
    let all = sections(text.as_bytes()).map(|sections| certificates(&sections));
    let all = all.unwrap_or_default();
    let told = all.iter().filter_map(|der| {
        let one = read(der, 1).ok()?;
        Some((
            one.subject().to_string(),
            one.validity().not_after.timestamp(),
        ))
    });
    told.collect()
}

#[cfg(test)]
#[path = "certificate_tests.rs"]
mod tests;
