//! TLS of the public API: a certificate from files that is read again when it changes, or a self-signed one.
//! Towards other servers TLS belongs to the HTTP clients; between nodes calls carry a credential instead.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

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
    #[error("cannot make a self-signed certificate")]
    SelfSigned(#[source] rcgen::Error),
    #[error("cannot write {path}")]
    Write {
        path: PathBuf,
        source: std::io::Error,
    },
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

/// Makes a self-signed pair in `directory` for these names, once: clients that pinned it find it again.
///
/// # Errors
/// When the directory cannot be written.
pub fn self_signed(directory: &Path, names: &[String]) -> Result<Pair, TlsError> {
    let pair = Pair {
        certificate: directory.join("tls-certificate.pem"),
        key: directory.join("tls-key.pem"),
    };
    if pair.load().is_ok() {
        return Ok(pair);
    }
    let made = rcgen::generate_simple_self_signed(names).map_err(TlsError::SelfSigned)?;
    let write = |path: &Path, text: String, mode| {
        let put = || {
            std::fs::create_dir_all(directory)?;
            // Removed first: an older file would keep its own mode.
            let _ = std::fs::remove_file(path);
            let mut options = std::fs::OpenOptions::new();
            options.write(true).create_new(true).mode(mode);
            options.open(path)?.write_all(text.as_bytes())
        };
        put().map_err(|source| TlsError::Write {
            path: path.to_path_buf(),
            source,
        })
    };
    write(&pair.key, made.signing_key.serialize_pem(), 0o600)?;
    write(&pair.certificate, made.cert.pem(), 0o644)?;
    Ok(pair)
}

#[derive(Debug)]
struct Served {
    pair: Pair,
    now: ArcSwap<CertifiedKey>,
}

impl ResolvesServerCert for Served {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.now.load_full())
    }
}

/// An acceptor for this pair, and a task that looks for a newer one in the same files.
///
/// # Errors
/// [`TlsError`] when the files cannot be used now. Later the last good pair stays.
pub fn acceptor(pair: Pair) -> Result<TlsAcceptor, TlsError> {
    let served = Arc::new(Served {
        now: ArcSwap::from_pointee(pair.load()?),
        pair,
    });
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::SetUp)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(&served) as Arc<dyn ResolvesServerCert>);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    tokio::spawn(look(Arc::downgrade(&served)));
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn look(served: Weak<Served>) {
    loop {
        clock::sleep(LOOK_EVERY).await;
        let Some(served) = served.upgrade() else {
            return;
        };
        look_once(&served);
    }
}

fn look_once(served: &Served) {
    match served.pair.load() {
        Ok(new) if new.cert != served.now.load().cert => {
            tracing::info!(certificate = %served.pair.certificate.display(), "serving a new certificate");
            served.now.store(Arc::new(new));
        }
        Ok(_) => {}
        // Halfway through a renewal the two files do not fit each other.
        Err(error) => {
            tracing::warn!(%error, "keeping the last good certificate; looking again in 30 s")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<String> {
        vec!["localhost".into()]
    }

    /// Goal: a renewed pair is served, half a renewal is not; the self-signed pair is made once and kept secret.
    #[test]
    fn a_renewal_is_served_and_half_of_one_is_not() {
        use std::os::unix::fs::PermissionsExt as _;
        let (old, new) = (
            tempfile::tempdir().expect("a directory"),
            tempfile::tempdir().expect("a directory"),
        );
        let pair = self_signed(old.path(), &names()).expect("made");
        let mode = std::fs::metadata(&pair.key)
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let text = std::fs::read(&pair.certificate).expect("readable");
        assert_eq!(self_signed(old.path(), &names()).expect("there"), pair);
        assert_eq!(
            std::fs::read(&pair.certificate).expect("readable"),
            text,
            "made once"
        );

        let served = Served {
            now: ArcSwap::from_pointee(pair.load().expect("a pair")),
            pair: pair.clone(),
        };
        let before = served.now.load().cert.clone();
        let renewed = self_signed(new.path(), &names()).expect("made");
        std::fs::copy(&renewed.certificate, &pair.certificate).expect("copied");
        assert!(matches!(pair.load(), Err(TlsError::Pair { .. })));
        look_once(&served);
        assert_eq!(served.now.load().cert, before);
        std::fs::copy(&renewed.key, &pair.key).expect("copied");
        look_once(&served);
        assert_ne!(served.now.load().cert, before);
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
