//! Whom webhook servers are vouched for by, beside the authorities of the system and the built-in ones: those of the file that
//! the configuration names, and those that were sent to `/v1/certificates/webhooks/ca`. Reads no row, and delivers nothing.

use rustls_pki_types::CertificateDer;

use crate::config::{Settings, certificates_in};
use crate::member::certificate::WebhookCa;
use crate::net::certificate;

/// Authorities, and the version of the row that they come from.
#[derive(Debug)]
pub struct Trust {
    pub version: u64,
    pub also: Vec<CertificateDer<'static>>,
}

impl Trust {
    /// Those of the file, and of the row with this version.
    pub fn of(settings: &Settings, (version, row): (u64, &WebhookCa)) -> Self {
        let mut also = certificate::of_text(&row.certificates);
        if let Some(path) = &settings.webhooks.ca {
            match certificates_in(path) {
                Ok(read) => also.extend(read),
                Err(why) => tracing::warn!(
                    path = %path.display(),
                    "[webhooks] ca: {why}; webhook servers are checked without it"
                ),
            }
        }
        Self { version, also }
    }
}
