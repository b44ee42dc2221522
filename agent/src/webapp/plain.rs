//! A public API without TLS on an address that others reach: refused where somebody wrote it down anew, kept with a warning where
//! it was in force before. What is in force is written down at each start, so that an upgrade changes no running API.
//! Speaks no TLS: `certificate.rs` and `net/tls.rs` do.

use std::path::{Path, PathBuf};

use wa_core::id::Role;

use crate::config::{ConfigError, Loaded, PublicTls, Settings};

/// Below the directory of the instance.
const FILE: &str = "public-tls";
const OFF: &str = "off";
const ON: &str = "on";

/// What this instance did when it ran last; of one that never ran, what its neighbours on this machine did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// No webapp ever ran here, or it cannot be seen.
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

/// What the webapp of this directory did; `None`: it never ran.
fn own(directory: &Path) -> Option<Before> {
    match std::fs::read_to_string(file(directory)) {
        Ok(said) if said.trim() == ON => Some(Before::On),
        Ok(_) => Some(Before::Off),
        // A release before wrote nothing down; it ran with what the configuration says.
        Err(_) => directory
            .join("incarnation")
            .exists()
            .then_some(Before::Off),
    }
}

/// A further instance is of one service with those beside it: it may do what all of them do. `beside`: their directories.
fn before(directory: &Path, beside: &[PathBuf]) -> Before {
    own(directory).unwrap_or_else(|| {
        let others: Vec<Before> = beside.iter().filter_map(|other| own(other)).collect();
        match others.first() {
            None => Before::First,
            Some(_) if others.contains(&Before::On) => Before::On,
            Some(_) => Before::Off,
        }
    })
}

/// Directories of the other webapps of this machine.
fn neighbours(settings: &Settings) -> Vec<PathBuf> {
    let directory = settings.instance_directory();
    let entries = std::fs::read_dir(&settings.state_directory);
    let paths = entries.into_iter().flatten().flatten().map(|e| e.path());
    paths
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            let number = name.and_then(|name| name.strip_prefix("webapp-"));
            number.is_some_and(|number| number.parse::<u16>().is_ok()) && *path != directory
        })
        .collect()
}

/// What is said of a webapp as it is configured: `Ok(None)` nothing, `Ok(Some(_))` a warning. Other roles have no public API.
///
/// # Errors
/// [`ConfigError::Rule`] with what to type, where `tls = "off"` is new and others could listen in.
pub fn said(loaded: &Loaded) -> Result<Option<String>, ConfigError> {
    let settings = &loaded.settings;
    if settings.role != Role::Webapp {
        return Ok(None);
    }
    // `true`: somebody wrote `tls = "off"` into a file.
    let tls = loaded.origins.get("webapp.tls");
    let written = tls.is_some_and(|(_, origin)| origin != "default");
    let before = before(&settings.instance_directory(), &neighbours(settings));
    match judge(is_open(settings), written, before) {
        Verdict::Good => Ok(None),
        Verdict::Warned => Ok(Some(format!(
            "the public API speaks without TLS on {}: whoever listens in reads tokens and messages. It stays so until somebody \
             changes it: {ADVICE}",
            settings.bind
        ))),
        Verdict::Refused => Err(ConfigError::Rule(format!(
            "[webapp] tls is \"off\", and the API is open on {}: whoever listens in reads tokens and messages; {ADVICE}",
            settings.bind
        ))),
    }
}

/// Before the start: refuses or warns.
///
/// # Errors
/// See [`said`].
pub fn check(loaded: &Loaded) -> Result<(), ConfigError> {
    if let Some(warning) = said(loaded)? {
        tracing::warn!("{warning}");
    }
    Ok(())
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
        let before_of = |path: &Path| before(path, &[]);
        assert_eq!(before_of(path), Before::First);
        std::fs::write(path.join("incarnation"), "7").expect("written");
        assert_eq!(before_of(path), Before::Off, "a release before ran here");
        for (word, said) in [(ON, Before::On), (OFF, Before::Off), ("?", Before::Off)] {
            std::fs::write(file(path), word).expect("written");
            assert_eq!(before_of(path), said, "{word}");
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
    /// Goal: a second webapp beside one that speaks without TLS by an upgrade's choice starts, with the same warning; beside one with
    /// TLS it is refused; and what is said before the start is what the start does. Method: two instances of one configuration, with
    /// the files that the first one leaves.
    #[test]
    fn a_further_instance_may_do_what_those_beside_it_do() {
        let at = tempfile::tempdir().expect("a directory");
        let path = at.path();
        let text = format!(
            "[cluster]\nkey_file = {:?}\n[node]\nstate_directory = {path:?}\nbind = \"192.0.2.7\"\n\
             [upstream]\nphone_number_id = \"1\"\napp_secret_file = {:?}\nverify_token_file = {:?}\n[webapp]\ntls = \"off\"\n",
            path.join("key"),
            path.join("key"),
            path.join("key"),
        );
        let key = path.join("key");
        std::fs::write(&key, "0123456789abcdef".repeat(4)).expect("written");
        let closed = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&key, closed).expect("closed");
        std::fs::write(path.join("wa.toml"), text).expect("written");
        let load = |instance| {
            crate::config::load(Role::Webapp, instance, Some(&path.join("wa.toml")))
                .expect("usable")
        };
        let second = load(2);
        assert!(said(&second).is_err(), "nobody ran here");
        let first = path.join("webapp-1");
        std::fs::create_dir(&first).expect("made");
        assert!(said(&second).is_err(), "it never ran");
        std::fs::write(first.join("incarnation"), "7").expect("written");
        let warning = said(&second).expect("starts").expect("warned");
        assert!(warning.contains("192.0.2.7") && warning.contains(ADVICE));
        assert_eq!(said(&load(1)).expect("goes on"), Some(warning));
        for (word, starts) in [(OFF, true), (ON, false)] {
            std::fs::write(file(&first), word).expect("written");
            assert_eq!(said(&second).is_ok(), starts, "{word}");
            assert_eq!(check(&second).is_ok(), starts, "{word}");
        }
        // One of each: nobody loses TLS.
        std::fs::create_dir(path.join("webapp-3")).expect("made");
        std::fs::write(path.join("webapp-3/public-tls"), OFF).expect("written");
        assert!(said(&second).is_err());
        // What it did itself counts more than those beside it.
        std::fs::create_dir(path.join("webapp-2")).expect("made");
        std::fs::write(path.join("webapp-2/public-tls"), OFF).expect("written");
        assert!(said(&second).expect("goes on").is_some());
    }
}
