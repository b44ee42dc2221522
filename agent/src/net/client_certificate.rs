//! Certificates that clients of the public API show in the handshake. Only the upstream has one, and whoever has none is served too.
//! Lets nobody in: `webapp/auth.rs` does.

use std::sync::{Arc, OnceLock};

use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// The names in the certificate that a connection's client has shown and proved to have; none: it showed none.
#[derive(Debug, Clone, Default)]
pub struct ClientNames(Arc<OnceLock<Vec<String>>>);

impl ClientNames {
    /// What the handshake brought, once.
    pub fn learn(&self, shown: Option<&[CertificateDer<'_>]>) {
        let own = shown.and_then(<[_]>::first);
        let _ = self.0.set(own.map_or_else(Vec::new, names));
    }

    /// Whether it is called so.
    pub fn has(&self, name: &str) -> bool {
        let names = self.0.get().into_iter().flatten();
        names.into_iter().any(|own| own.eq_ignore_ascii_case(name))
    }
}

/// The common name and the DNS names.
fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, found)) = X509Certificate::from_der(certificate) else {
        return Vec::new();
    };
    let common = found.subject().iter_common_name();
    let common = common.filter_map(|name| name.as_str().ok());
    let mut names: Vec<String> = common.map(str::to_owned).collect();
    if let Ok(Some(others)) = found.subject_alternative_name() {
        for other in &others.value.general_names {
            if let GeneralName::DNSName(name) = other {
                names.push((*name).to_owned());
            }
        }
    }
    names
}

/// Checks a certificate that a client shows against these authorities, and asks nobody for one who has none.
///
/// # Errors
/// Why one of them is none.
pub fn verifier(
    authorities: &[CertificateDer<'static>],
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        let added = roots.add(authority.clone());
        added.map_err(|why| why.to_string())?;
    }
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let verifier = verifier.allow_unauthenticated().build();
    verifier.map_err(|why| why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a client is who its certificate says, by common name and by DNS name, and nobody without one. Method: one with both.
    #[test]
    fn names_are_read() {
        let mut params = rcgen::CertificateParams::new(["a.example".to_owned()]).expect("a name");
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "Common.example");
        let key = rcgen::KeyPair::generate().expect("a key");
        let made = params.self_signed(&key).expect("made");
        let client = ClientNames::default();
        assert!(!client.has("a.example"));
        client.learn(Some(&[made.der().clone()]));
        assert!(client.has("a.example") && client.has("common.example"));
        assert!(!client.has("example") && !client.has(""));
        for nobody in [
            None,
            Some(&[][..]),
            Some(&[CertificateDer::from(&b"rubbish"[..])][..]),
        ] {
            let client = ClientNames::default();
            client.learn(nobody);
            assert!(!client.has("a.example"));
        }
    }
}
