//! A public API without TLS on an address that others reach: refused where somebody wrote it down anew, kept with a warning where
//! it was in force before. What is in force is written down at each start, so that an upgrade changes no running API.
//! Speaks no TLS: `certificate.rs` and `net/tls.rs` do.

use std::path::{Path, PathBuf};

use crate::config::{ConfigError, PublicTls, Settings};

/// Below the directory of the instance.
const FILE: &str = "public-tls";
const OFF: &str = "off";
const ON: &str = "on";

/// What this instance did when it ran last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// It never ran.
    First,
    Off,
    On,
}

/// What becomes of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Good,
    Warned,
    Refused,
}

/// `written`: somebody wrote `tls = "off"` into a file.
fn judge(open: bool, written: bool, before: Before) -> Verdict {
    match (open, written, before) {
        (false, _, _) => Verdict::Good,
        (true, false, Before::First | Before::Off) | (true, true, Before::Off) => Verdict::Warned,
        // Nobody loses TLS by a line that was deleted.
        (true, _, Before::On) | (true, true, Before::First) => Verdict::Refused,
    }
}

/// Whether the API speaks without TLS where others may listen in: neither on loopback only, nor behind a listed proxy.
pub fn is_open(settings: &Settings) -> bool {
    let private =
        settings.bind.is_loopback() || settings.development || !settings.trusted_proxies.is_empty();
    settings.public_tls == PublicTls::Off && !private
}

/// What is said of such an API, and what to type.
pub const ADVICE: &str = "write tls = \"self-signed\" below [webapp] and restart the webapps; where something in front of them ends \
                          TLS, list its addresses in [webapp] trusted_proxies; where only this machine calls, write \
                          bind = \"127.0.0.1\" below [node]";

fn file(directory: &Path) -> PathBuf {
    directory.join(FILE)
}

fn before(directory: &Path) -> Before {
    match std::fs::read_to_string(file(directory)) {
        Ok(said) if said.trim() == ON => Before::On,
        Ok(_) => Before::Off,
        // A release before wrote nothing down; it ran with what the configuration says.
        Err(_) if directory.join("incarnation").exists() => Before::Off,
        Err(_) => Before::First,
    }
}

/// Before the start: refuses or warns.
///
/// # Errors
/// [`ConfigError::Rule`] with what to type, where `tls = "off"` is new and others could listen in.
pub fn check(settings: &Settings, written: bool) -> Result<(), ConfigError> {
    match judge(
        is_open(settings),
        written,
        before(&settings.instance_directory()),
    ) {
        Verdict::Good => Ok(()),
        Verdict::Warned => {
            tracing::warn!(
                "the public API speaks without TLS on {}: whoever listens in reads tokens and messages. It stays so until \
                 somebody changes it: {ADVICE}",
                settings.bind
            );
            Ok(())
        }
        Verdict::Refused => Err(ConfigError::Rule(format!(
            "[webapp] tls is \"off\", and the API is open on {}: whoever listens in reads tokens and messages; {ADVICE}",
            settings.bind
        ))),
    }
}

/// At the start: writes down what is in force.
pub fn write_down(settings: &Settings) {
    let directory = settings.instance_directory();
    let word = match settings.public_tls {
        PublicTls::Off => OFF,
        PublicTls::SelfSigned(_) | PublicTls::Files { .. } => ON,
    };
    if let Err(error) = std::fs::write(file(&directory), word) {
        tracing::warn!(
            "{} cannot be written ({error}): at the next start nobody knows whether the API spoke TLS before",
            file(&directory).display()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: an upgrade changes no running API; what somebody writes anew is refused, also where TLS was on before. Method: the
    /// table of all cases, with the files that each start finds.
    #[test]
    fn what_ran_goes_on_and_what_is_new_is_refused() {
        let at = tempfile::tempdir().expect("a directory");
        let path = at.path();
        assert_eq!(before(path), Before::First);
        std::fs::write(path.join("incarnation"), "7").expect("written");
        assert_eq!(before(path), Before::Off, "a release before ran here");
        for (word, said) in [(ON, Before::On), (OFF, Before::Off), ("?", Before::Off)] {
            std::fs::write(file(path), word).expect("written");
            assert_eq!(before(path), said, "{word}");
        }
        for (open, written, before, verdict) in [
            (false, true, Before::First, Verdict::Good),
            (true, false, Before::First, Verdict::Warned),
            (true, false, Before::On, Verdict::Refused),
            (true, true, Before::Off, Verdict::Warned),
            (true, true, Before::First, Verdict::Refused),
            (true, true, Before::On, Verdict::Refused),
        ] {
            assert_eq!(
                judge(open, written, before),
                verdict,
                "{open} {written} {before:?}"
            );
        }
    }
}
