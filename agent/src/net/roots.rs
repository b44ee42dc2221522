//! Whom a server on the outside may be vouched for by: the roots that are built in, and those of this machine, where an
//! operator adds the authority of an intranet. Opens no connection.

use std::sync::{Arc, LazyLock};

use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;

/// Read once: the machine's files are hundreds, and change with a restart.
static BOTH: LazyLock<Arc<RootCertStore>> = LazyLock::new(|| {
    let mut roots = RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::debug!(%error, "some of the machine's certificate authorities cannot be read");
    }
    let (added, ignored) = roots.add_parsable_certificates(found.certs);
    tracing::debug!(added, ignored, "read the machine's certificate authorities");
    Arc::new(roots)
});

/// Reads the files now, and not in the middle of a takeover: the first tenure of a process would wait for them.
pub fn read_ahead() {
    LazyLock::force(&BOTH);
}

/// Both, and others that somebody names. Made once, and then given to each new client: a takeover reads and copies nothing.
#[derive(Debug, Clone)]
pub struct Roots(Arc<RootCertStore>);

impl Roots {
    /// Both, and these.
    pub fn with(also: &[CertificateDer<'static>]) -> Self {
        let mut roots = Arc::clone(&BOTH);
        if !also.is_empty() {
            let (_, ignored) =
                Arc::make_mut(&mut roots).add_parsable_certificates(also.iter().cloned());
            if ignored > 0 {
                tracing::warn!(
                    ignored,
                    "certificate authorities that cannot be read; ignoring them"
                );
            }
        }
        Self(roots)
    }

    /// TLS of a client that trusts them. `None` when the library refuses to speak the usual versions, which it does not.
    pub fn client(&self) -> Option<ClientConfig> {
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions().ok()?;
        let config = config.with_root_certificates(Arc::clone(&self.0));
        Some(config.with_no_client_auth())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_ones_are_always_there() {
        read_ahead();
        assert!(BOTH.len() >= webpki_roots::TLS_SERVER_ROOTS.len());
        assert!(Roots::with(&[]).client().is_some());
    }
}
