//! TLS of the public API: what handshakes are answered with, and certificates in files, which are read again when they change.
//! Towards other servers TLS belongs to the HTTP clients; between nodes calls carry a credential instead.

#[cfg(test)]
use std::path::Path;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::client_certificate;
use crate::sys::clock;

/// How often the files are looked at: a renewed certificate is served within this time, without a restart.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read the certificate {path}: {source}")]
    Certificate {
        path: PathBuf,
        source: rustls_pki_types::pem::Error,
    },
    #[error("cannot read the private key {path}: {source}")]
    Key {
        path: PathBuf,
        source: rustls_pki_types::pem::Error,
    },
    #[error("the private key {key} does not fit the certificate {certificate}: {source}")]
    Pair {
        certificate: PathBuf,
        key: PathBuf,
        source: rustls::Error,
    },
    #[error("[upstream] mtls_ca: {0}")]
    Authorities(String),
    #[error("the TLS set-up is refused")]
    SetUp(#[source] rustls::Error),
}

/// A certificate chain and its key, as PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Pair {
    fn load(&self) -> Result<CertifiedKey, TlsError> {
        let certificate = |source| TlsError::Certificate {
            path: self.certificate.clone(),
            source,
        };
        let key = |source| TlsError::Key {
            path: self.key.clone(),
            source,
        };
        let chain = CertificateDer::pem_file_iter(&self.certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(key)?;
        CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|source| {
            TlsError::Pair {
                certificate: self.certificate.clone(),
                key: self.key.clone(),
                source,
            }
        })
    }
}

/// What handshakes are answered with. It may be replaced at any time: open connections go on, and the old certificate is shown
/// until the new one is there.
#[derive(Debug, Default)]
pub struct Shown {
    now: ArcSwapOption<CertifiedKey>,
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.now.load_full()
    }
}

impl Shown {
    /// Shows this one from the next handshake on. False: it was shown already.
    pub fn show(&self, new: CertifiedKey) -> bool {
        let same = |now: &Arc<CertifiedKey>| now.cert == new.cert;
        if self.now.load().as_ref().is_some_and(same) {
            return false;
        }
        self.now.store(Some(Arc::new(new)));
        true
    }

    /// The certificates that are shown, the server's own first; none before the first one is there.
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        let now = self.now.load();
        now.as_ref().map_or_else(Vec::new, |now| now.cert.clone())
    }
}

/// An acceptor that shows what is to be shown. Clients may show a certificate of these authorities; without any they are not asked.
///
/// # Errors
/// [`TlsError::SetUp`], [`TlsError::Authorities`]
pub fn acceptor(
    shown: &Arc<Shown>,
    authorities: &[CertificateDer<'static>],
) -> Result<TlsAcceptor, TlsError> {
    let shown = Arc::clone(shown) as Arc<dyn ResolvesServerCert>;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::SetUp)?;
    let config = match authorities {
        [] => config.with_no_client_auth(),
        some => {
            let verifier = client_certificate::verifier(some).map_err(TlsError::Authorities)?;
            config.with_client_cert_verifier(verifier)
        }
    };
    let mut config = config.with_cert_resolver(shown);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Shows what is in these files, and a task looks for a newer pair in them.
///
/// # Errors
/// [`TlsError`] when the files cannot be used now. Later the last good pair stays.
pub fn from_files(pair: Pair) -> Result<Arc<Shown>, TlsError> {
    let shown = Arc::new(Shown::default());
    shown.show(pair.load()?);
    tokio::spawn(look(pair, Arc::downgrade(&shown)));
    Ok(shown)
}

async fn look(pair: Pair, shown: Weak<Shown>) {
    loop {
        clock::sleep(LOOK_EVERY).await;
        let Some(shown) = shown.upgrade() else {
            return;
        };
        look_once(&pair, &shown);
    }
}

fn look_once(pair: &Pair, shown: &Shown) {
    match pair.load() {
        Ok(new) => {
            if shown.show(new) {
                tracing::info!(certificate = %pair.certificate.display(), "serving a new certificate");
            }
        }
        // Halfway through a renewal the two files do not fit each other.
        Err(error) => {
            tracing::warn!(%error, "keeping the last good certificate; looking again in 30 s")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pair of files in a directory.
    fn files(directory: &Path) -> Pair {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
        let pair = Pair {
            certificate: directory.join("chain.pem"),
            key: directory.join("key.pem"),
        };
        std::fs::write(&pair.certificate, made.cert.pem()).expect("written");
        std::fs::write(&pair.key, made.signing_key.serialize_pem()).expect("written");
        pair
    }

    /// Goal: a renewed pair is served, half a renewal is not.
    #[test]
    fn a_renewal_is_served_and_half_of_one_is_not() {
        let (old, new) = (
            tempfile::tempdir().expect("a directory"),
            tempfile::tempdir().expect("a directory"),
        );
        let pair = files(old.path());
        let shown = Shown::default();
        assert!(shown.chain().is_empty());
        look_once(&pair, &shown);
        let before = shown.chain();
        assert_eq!(before.len(), 1);
        let renewed = files(new.path());
        std::fs::copy(&renewed.certificate, &pair.certificate).expect("copied");
        assert!(matches!(pair.load(), Err(TlsError::Pair { .. })));
        look_once(&pair, &shown);
        assert_eq!(shown.chain(), before);
        std::fs::copy(&renewed.key, &pair.key).expect("copied");
        look_once(&pair, &shown);
        assert_ne!(shown.chain(), before);
    }

    #[test]
    fn what_is_missing_is_named() {
        let pair = Pair {
            certificate: "/nonexistent/chain.pem".into(),
            key: "/nonexistent/key.pem".into(),
        };
        let error = pair.load().expect_err("missing").to_string();
        assert!(error.contains("/nonexistent/chain.pem"), "{error}");
    }
}
