//! Variables of the old client: read from environment files and services, and which of them mean nothing here.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;

use super::interpolate;

/// Carried over by the rest of `import`.
const CARRIED: &[&str] = &[
    "WA_DB_ENGINE",
    "WA_DB_HOSTNAME",
    "WA_DB_PORT",
    "WA_DB_USERNAME",
    "WA_DB_PASSWORD",
    "WA_DB_NAME_PREFIX",
    "WA_DB_SSL_CA",
    "WA_DB_SSL_CERT",
    "WA_DB_SSL_KEY",
    "WA_MASTER_NODE",
    "COREAPP_HOSTNAME",
    "WEBAPP_HOSTNAME",
    "EXTERNAL_HOSTNAME",
    "COREAPP_EXTERNAL_PORTS",
    "WEBAPP_EXTERNAL_PORTS",
    "EXTERNAL_WEBAPP_PORT",
    "WA_API_KEY",
    "WA_WEB_SERVERNAME",
];

/// Known, without a counterpart, and why that is.
const WITHOUT: &[(&str, &str)] = &[
    ("WA_API_VERSION", "the version is that of the package"),
    (
        "WA_DB_CONNECTION_IDLE_TIMEOUT",
        "connections are kept alive and replaced by themselves",
    ),
    (
        "WA_DB_PERSISTENT",
        "connections to the database always persist",
    ),
    (
        "WA_DB_UPGRADE",
        "the primary master upgrades the schema by itself",
    ),
    ("WA_CONFIG_ON_DB", "settings are always in the database"),
    (
        "WA_APP_MULTICONNECT",
        "always on; POST /v1/account/shards sets the number of shards",
    ),
    (
        "WACORE_HOSTNAME",
        "webapps find coreapps through the database",
    ),
    (
        "WA_SECRET",
        "calls between nodes are signed with keys derived from the cluster key",
    ),
    (
        "WA_WEB_SECURITY_LEVEL",
        "TLS 1.2 and 1.3 with safe ciphers only",
    ),
    (
        "WA_WEB_JWT_CRYPTO_KEY",
        "tokens are kept in the database; every webapp accepts them",
    ),
    ("WA_RUNNING_ENV", "informational"),
    ("WA_RUNNING_ENV_VERSION", "informational"),
    ("ORCHESTRATION", "informational"),
    ("AWS_REGION", "informational"),
    ("AWS_STACK_NAME", "informational"),
];

/// A name as variables have it: what may be shown of a file that may be another than it was taken for.
fn is_name(text: &str) -> bool {
    let first = text.as_bytes().first().is_some_and(u8::is_ascii_uppercase);
    let plain = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    first && text.len() <= 64 && text.bytes().all(plain)
}

/// Names and values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Variables(BTreeMap<String, String>);

impl Variables {
    /// A variable that is set and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    pub fn set(&mut self, name: &str, value: &str) {
        self.0.insert(name.to_owned(), value.to_owned());
    }

    pub fn extend(&mut self, other: &Self) {
        self.0.extend(other.0.clone());
    }

    /// Lays an environment file over what is known.
    ///
    /// # Errors
    /// When it cannot be read, or a line is none of an environment file.
    pub fn read(&mut self, file: &Path, notes: &mut Vec<String>) -> anyhow::Result<()> {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        self.parse(&text, notes)
            .with_context(|| file.display().to_string())
    }

    /// As Docker reads such files: a value that stands in no quotes is taken as it is, `$` and `#` included. Quotes and
    /// escapes are the parser's business.
    pub fn parse(&mut self, text: &str, notes: &mut Vec<String>) -> anyhow::Result<()> {
        let mut quoted = String::new();
        for line in text.lines().map(str::trim) {
            let plain = line.strip_prefix("export ").unwrap_or(line);
            match plain.split_once('=') {
                _ if line.starts_with('#') || line.is_empty() => {}
                // Without a value: taken from the shell of the old client, which nobody knows any more.
                None if is_name(plain) => notes.push(format!(
                    "{plain} has no value in the file: it came from a shell; set it by hand"
                )),
                // The wrong file, perhaps: nothing of it is told.
                None => notes.push("a line that is no NAME=VALUE was left out".into()),
                Some((name, value)) if !value.trim_start().starts_with(['"', '\'']) => {
                    self.set(name.trim(), value.trim());
                }
                Some(_) => {
                    quoted.push_str(line);
                    quoted.push('\n');
                }
            }
        }
        for pair in dotenvy::from_read_iter(quoted.as_bytes()) {
            // The reader's own words hold the line, and with it perhaps a secret.
            let unread = |_| {
                anyhow::anyhow!(
                    "a value in quotes cannot be read; see whether its quotes are closed"
                )
            };
            let (name, value) = pair.map_err(unread)?;
            self.set(&name, &value);
        }
        Ok(())
    }

    /// What has no counterpart, one sentence each, and what nobody knows. Values are not told: they may be secrets, and so may what
    /// stands in the place of a name in a file that holds no variables.
    pub fn without_counterpart(&self) -> Vec<String> {
        let other = self.0.keys().filter(|name| !is_name(name)).count();
        let other = (other > 0)
            .then(|| format!("{other} lines whose names are none of variables were left out"));
        let names = self
            .0
            .keys()
            .filter(|name| is_name(name) && !CARRIED.contains(&name.as_str()));
        let told = names
            .filter(|name| {
                !name.starts_with("EXTERNAL_COREAPP_PORT")
                    && !name.starts_with("EXTERNAL_MASTER_PORT")
            })
            .map(
                |name| match WITHOUT.iter().find(|(known, _)| known == name) {
                    Some((_, why)) => format!("{name}: {why}"),
                    None => format!("{name}: not a variable that is known"),
                },
            );
        told.chain(other).collect()
    }

    /// The variables of a compose file's text, as compose takes them. What is set nowhere and has no default stays as it is,
    /// and is noted.
    ///
    /// # Errors
    /// Braces that are not closed, or nest too deep: the variable is named.
    pub fn fill_in(&self, text: &str, notes: &mut Vec<String>) -> anyhow::Result<String> {
        let (filled, unset) = interpolate::fill_in(text, &|name| self.0.get(name).cloned())?;
        notes.extend(
            unset
                .into_iter()
                .map(|name| format!("{name} is used in a compose file and set nowhere")),
        );
        Ok(filled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: values are those that the old client got. Method: lines as people write them.
    #[test]
    fn values_are_taken_as_docker_takes_them() {
        let mut variables = Variables::default();
        let mut notes = Vec::new();
        let text = "# database\nWA_DB_PASSWORD=a$b #c\nexport WA_DB_HOSTNAME=db1\nQUOTED=\"two words\"\nSINGLE='$x'\n\nEMPTY=\nFROM_SHELL\n";
        variables.parse(text, &mut notes).expect("read");
        for (name, value) in [
            ("WA_DB_PASSWORD", Some("a$b #c")),
            ("WA_DB_HOSTNAME", Some("db1")),
            ("QUOTED", Some("two words")),
            ("SINGLE", Some("$x")),
            ("EMPTY", None),
        ] {
            assert_eq!(variables.get(name), value, "{name}");
        }
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(variables.parse("A=\"open\nB=1", &mut notes).is_err());
    }

    /// Goal: a file that was named by mistake is not shown, whatever it is. Method: a key, a table of users and an open quote, each with
    /// planted words.
    #[test]
    fn a_file_of_another_kind_is_not_shown() {
        for text in [
            "-----BEGIN PRIVATE KEY-----\nplantedMIIE+/x==\nplantedAAAA=\n",
            "root:planted:0:0:root:/root:/bin/sh\n",
            "MY_OWN=\"planted\nopen",
            "planted = planted\n",
        ] {
            let (mut variables, mut notes) = (Variables::default(), Vec::new());
            let read = variables.parse(text, &mut notes);
            let error = read.err().map(|error| format!("{error:#}"));
            notes.extend(error);
            notes.extend(variables.without_counterpart());
            assert!(!notes.is_empty(), "{text}");
            assert!(!notes.join("").contains("planted"), "{notes:?}");
        }
    }

    #[test]
    fn nothing_is_dropped_without_a_word() {
        let mut variables = Variables::default();
        for name in ["WA_DB_HOSTNAME", "WA_DB_PERSISTENT", "MY_OWN"] {
            variables.set(name, "hush");
        }
        let left = variables.without_counterpart();
        assert_eq!(left.len(), 2, "{left:?}");
        assert!(
            left[0].starts_with("MY_OWN: not") && left[1].starts_with("WA_DB_PERSISTENT: "),
            "{left:?}"
        );
        assert!(!left.join("").contains("hush"));
    }
}
