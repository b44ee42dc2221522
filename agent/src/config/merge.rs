//! Files and environment laid over each other, with the origin of each value.
//! Later wins: built-in default, profile, main file, `conf.d`, `instances`, environment of the reference client.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize as _;
use wa_core::id::Role;

use super::fragment::{self, Fragment, Span};
use super::{ConfigError, Open, Settings, assemble, closed, validate};
use crate::sys::{beneath, laid};

/// Where the packages put the configuration.
const DEFAULT_FILE: &str = "/etc/wa-agent/wa-agent.toml";
/// Stands for a secret that this user cannot read, and keeps the rules for secrets.
pub(super) const HIDDEN: &str = "hidden-hidden-hidden-hidden-hidden-hidden";

/// Settings, and where each value came from.
#[derive(Debug)]
pub struct Loaded {
    pub settings: Settings,
    /// `section.key` → (value as text, secrets masked; origin).
    pub origins: BTreeMap<&'static str, (String, String)>,
    /// Files with secrets that others can read, or replace. None of them is refused.
    pub open: Vec<Open>,
}

/// Loads the configuration of one instance: `file` alone, or the installed files.
///
/// # Errors
/// [`ConfigError`]: a file that cannot be read or parsed, or a rule that the values break.
pub fn load(role: Role, instance: u16, file: Option<&Path>) -> Result<Loaded, ConfigError> {
    let installed = Path::new(DEFAULT_FILE);
    let files = match file {
        Some(file) if file != installed => Files::one(file)?,
        _ => Files::installed(installed, role, instance)?,
    };
    load_from(role, instance, files, Environment::of_process())
}

/// As [`load`], for a user who may read the installed files and not the secrets beside them: each secret that is not
/// readable is a word that is none. For showing values, never for connecting to anything. True: some are hidden.
///
/// # Errors
/// See [`load`].
pub fn load_to_show(
    role: Role,
    instance: u16,
    file: Option<&Path>,
) -> Result<(Loaded, bool), ConfigError> {
    let installed = Path::new(DEFAULT_FILE);
    if !secrets_hidden(file.unwrap_or(installed)) {
        return Ok((load(role, instance, file)?, false));
    }
    let files = Files::installed(installed, role, instance)?;
    let loaded = load_with(role, instance, files, Environment::of_process(), true)?;
    Ok((loaded, true))
}

/// This is the installed configuration, and this user may not read the secrets beside it.
pub fn secrets_hidden(file: &Path) -> bool {
    file == Path::new(DEFAULT_FILE) && denied(&file.with_file_name("credentials"))
}

fn denied(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
}

/// Reads one text as if it were the only file, and understands each value by itself; touches no file and no network.
///
/// # Errors
/// [`ConfigError::Parse`], with the path as given.
pub fn read_text(path: &Path, text: &str) -> Result<Fragment, ConfigError> {
    let files = Files {
        texts: vec![(path.to_path_buf(), text.to_owned())],
        credentials: None,
    };
    files.into_fragment().map(|(fragment, _)| fragment)
}

/// The files with secrets of one instance that others can read or replace: for looking before a restart. It needs no secret and no
/// database, and says nothing of any other rule. Variables count, and so do credentials that the unit hands over at its next start:
/// where there is one, the file is not read.
///
/// # Errors
/// [`ConfigError`]: a file of the configuration that cannot be read or parsed.
pub fn open_files(
    role: Role,
    instance: u16,
    file: Option<&Path>,
) -> Result<Vec<Open>, ConfigError> {
    let installed = Path::new(DEFAULT_FILE);
    let files = match file {
        Some(file) if file != installed => Files::one(file)?,
        _ => Files::installed(installed, role, instance)?,
    };
    open_among(role, files, &Environment::of_process())
}

pub(super) fn open_among(
    role: Role,
    files: Files,
    environment: &Environment,
) -> Result<Vec<Open>, ConfigError> {
    let folder = files.credentials.clone();
    let (mut fragment, _) = files.into_fragment()?;
    if fragment.cluster.development == Some(true) {
        return Ok(Vec::new());
    }
    if let Some(path) = environment.get(assemble::DATABASE_KEY_VARIABLE) {
        fragment.database.ssl_key = Some(path.into());
    }
    let handed = environment.get("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let is_handed = |credential: &str| {
        let mut of_unit = laid::secrets(role).iter();
        let made = of_unit.find(|(name, _)| *name == credential);
        let made = made.and_then(|(_, file)| Some(holds(folder.as_ref()?, file)));
        handed.as_ref().is_some_and(|at| holds(at, credential)) || made == Some(true)
    };
    let ran = closed::ran(&state_of(&fragment));
    let read = fragment.secret_files(role).into_iter();
    let read = read.filter(|(_, credential, _)| !is_handed(credential));
    Ok(read
        .filter_map(|(key, _, path)| closed::look(key, path, ran))
        .collect())
}

/// Where instances keep what they must not forget.
fn state_of(fragment: &Fragment) -> PathBuf {
    let written = fragment.node.state_directory.clone();
    written.unwrap_or_else(|| assemble::DEFAULT_STATE.into())
}

/// This folder has a secret of this name. The units make each credential optional by handing over an empty one.
fn holds(place: &Path, credential: &str) -> bool {
    let name = Path::new(credential);
    let read = (!credential.is_empty()).then(|| beneath::read(place, name, laid::SECRET_LEN_MAX));
    read.is_some_and(|read| read.is_ok_and(|text| !text.trim_ascii().is_empty()))
}

/// Loads the installed files below another root than `/`, and no variables: what `setup` wrote, or would write.
///
/// # Errors
/// See [`load`].
pub fn load_below(root: &Path, role: Role, instance: u16) -> Result<Loaded, ConfigError> {
    let main = root.join(DEFAULT_FILE.trim_start_matches('/'));
    let files = Files::installed(&main, role, instance)?;
    load_from(role, instance, files, Environment::default())
}

pub(super) fn load_from(
    role: Role,
    instance: u16,
    files: Files,
    environment: Environment,
) -> Result<Loaded, ConfigError> {
    load_with(role, instance, files, environment, false)
}

fn load_with(
    role: Role,
    instance: u16,
    files: Files,
    environment: Environment,
    hidden: bool,
) -> Result<Loaded, ConfigError> {
    let credentials = files.credentials.clone();
    let (fragment, written) = files.into_fragment()?;
    let laid = environment.laid(role, instance);
    let mut merge = Merge {
        written,
        laid,
        credentials,
        hidden,
        development: fragment.cluster.development == Some(true),
        ran: closed::ran(&state_of(&fragment)),
        open: Vec::new(),
        environment,
        origins: BTreeMap::new(),
    };
    let settings = assemble::assemble(&mut merge, role, instance, fragment)?;
    validate::check(&settings)?;
    Ok(Loaded {
        settings,
        origins: merge.origins,
        open: merge.open,
    })
}

/// The variables of the process, or those of a test.
#[derive(Debug, Default)]
pub(super) struct Environment(pub BTreeMap<String, String>);

impl Environment {
    fn of_process() -> Self {
        // Lossy names and values cannot be ours.
        let variables = std::env::vars_os();
        Self(
            variables
                .filter_map(|(name, value)| {
                    Some((name.into_string().ok()?, value.into_string().ok()?))
                })
                .collect(),
        )
    }

    /// Where a reload of this unit lays secrets; `None` outside a unit.
    fn laid(&self, role: Role, instance: u16) -> Option<PathBuf> {
        let folder = self.get(laid::VARIABLE)?;
        let invocation = self.get("INVOCATION_ID")?;
        Some(laid::place(Path::new(&folder), role, instance, &invocation))
    }

    /// A variable that is set and not empty.
    pub fn get(&self, name: &str) -> Option<String> {
        self.0.get(name).filter(|value| !value.is_empty()).cloned()
    }
}

/// The files of one instance, in the order in which they are laid over each other.
#[derive(Debug, Default)]
pub(super) struct Files {
    texts: Vec<(PathBuf, String)>,
    /// Where secrets lie that no file names: the folder beside the installed files.
    credentials: Option<PathBuf>,
}

impl Files {
    /// Exactly this file, which must exist.
    pub fn one(path: &Path) -> Result<Self, ConfigError> {
        let mut files = Self::default();
        files.read(path.to_path_buf(), false)?;
        Ok(files)
    }

    /// `main`, then `conf.d/*.toml` beside it by name, then `instances/<role>-<N>.toml`; each may be missing.
    pub fn installed(main: &Path, role: Role, instance: u16) -> Result<Self, ConfigError> {
        let mut files = Self::default();
        files.read(main.to_path_buf(), true)?;
        let directory = main.parent().unwrap_or(Path::new("/"));
        files.credentials = Some(directory.join("credentials"));
        for path in toml_files(&directory.join("conf.d"))? {
            files.read(path, false)?;
        }
        let own = format!("{}-{instance}.toml", role.as_str());
        files.read(directory.join("instances").join(own), true)?;
        Ok(files)
    }

    #[cfg(test)]
    pub fn text(name: &str, text: &str) -> Self {
        Self {
            texts: vec![(PathBuf::from(name), text.to_owned())],
            credentials: None,
        }
    }

    fn read(&mut self, path: PathBuf, may_be_missing: bool) -> Result<(), ConfigError> {
        match std::fs::read_to_string(&path) {
            Ok(text) => self.texts.push((path, text)),
            Err(error) if may_be_missing && error.kind() == ErrorKind::NotFound => {}
            Err(why) => return Err(ConfigError::Read { path, why }),
        }
        Ok(())
    }

    /// The values, and for each `section.key` the file and line that won.
    fn into_fragment(self) -> Result<(Fragment, BTreeMap<String, String>), ConfigError> {
        let mut values = toml::Table::new();
        let mut written = BTreeMap::new();
        for (path, text) in &self.texts {
            // Each file on its own first: its errors carry its lines.
            fragment::parse(path, text)?;
            let broken = |error: toml::de::Error| ConfigError::Parse {
                path: path.clone(),
                message: error.to_string(),
            };
            note_lines(path, text, &mut written).map_err(broken)?;
            let table: toml::Table = toml::from_str(text).map_err(broken)?;
            for (section, keys) in table {
                match (values.get_mut(&section), keys) {
                    (Some(toml::Value::Table(old)), toml::Value::Table(new)) => old.extend(new),
                    (_, keys) => {
                        values.insert(section, keys);
                    }
                }
            }
        }
        let fragment = Fragment::deserialize(values).map_err(|error| ConfigError::Parse {
            path: self
                .texts
                .last()
                .map(|(path, _)| path.clone())
                .unwrap_or_default(),
            message: error.to_string(),
        })?;
        Ok((fragment, written))
    }
}

/// `*.toml` of a directory by name; none when there is no directory.
fn toml_files(directory: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let error = |why| ConfigError::Read {
        path: directory.to_path_buf(),
        why,
    };
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(error(e)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(error)?.path();
        if path.extension().is_some_and(|e| e == "toml") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn note_lines(
    path: &Path,
    text: &str,
    written: &mut BTreeMap<String, String>,
) -> Result<(), toml::de::Error> {
    let line = |at: usize| text[..at.min(text.len())].matches('\n').count() + 1;
    let document = toml::de::DeTable::parse(text)?;
    for (section, keys) in document.get_ref() {
        let Some(keys) = keys.get_ref().as_table() else {
            continue;
        };
        for key in keys.keys() {
            written.insert(
                format!("{}.{}", section.get_ref(), key.get_ref()),
                format!("{}:{}", path.display(), line(key.span().start)),
            );
        }
    }
    Ok(())
}

/// Picks values and keeps their origins.
pub(super) struct Merge {
    /// `section.key` → file and line.
    written: BTreeMap<String, String>,
    credentials: Option<PathBuf>,
    /// Where a reload has laid secrets.
    laid: Option<PathBuf>,
    /// Secrets cannot be read, and need not be.
    hidden: bool,
    /// Files of secrets may be open to everybody.
    development: bool,
    /// An instance of this machine ran before.
    ran: bool,
    /// Files of secrets that are open to others, and not refused.
    open: Vec<Open>,
    pub environment: Environment,
    pub origins: BTreeMap<&'static str, (String, String)>,
}

impl Merge {
    /// No file, no variable.
    pub fn of_nothing() -> Self {
        Self {
            written: BTreeMap::new(),
            credentials: None,
            laid: None,
            hidden: false,
            development: false,
            ran: false,
            open: Vec::new(),
            environment: Environment(BTreeMap::new()),
            origins: BTreeMap::new(),
        }
    }

    /// The value of the environment, else of the files, else the default; its origin is noted.
    pub fn pick<T: std::fmt::Display>(
        &mut self,
        key: &'static str,
        written: Option<T>,
        variable: Option<(&str, T)>,
        default: (T, &str),
    ) -> T {
        let (value, origin) = match (variable, written) {
            (Some((name, value)), _) => (value, format!("environment {name}")),
            (None, Some(value)) => (value, self.place(key)),
            (None, None) => (default.0, default.1.to_owned()),
        };
        self.note(key, value.to_string(), origin);
        value
    }

    pub fn span(
        &mut self,
        key: &'static str,
        written: Option<Span>,
        default: Duration,
        by: &str,
    ) -> Duration {
        let (value, origin) = match written {
            Some(span) => (span.0, self.place(key)),
            None => (default, by.to_owned()),
        };
        self.note(key, humantime::format_duration(value).to_string(), origin);
        value
    }

    /// A path that may be absent.
    pub fn path(
        &mut self,
        key: &'static str,
        written: Option<PathBuf>,
        variable: &str,
    ) -> Option<PathBuf> {
        let (value, origin) = match (self.environment.get(variable), written) {
            (Some(path), _) => (PathBuf::from(path), format!("environment {variable}")),
            (None, Some(path)) => (path, self.place(key)),
            (None, None) => return None,
        };
        self.note(key, value.display().to_string(), origin);
        Some(value)
    }

    /// A secret: from systemd's credentials, from the file that the configuration names, from the environment, or from
    /// the folder of the packages (operators run their verbs as root, outside any unit).
    pub fn secret(
        &mut self,
        key: &'static str,
        file: Option<&Path>,
        credential: &str,
        variable: Option<&str>,
    ) -> Result<Option<String>, ConfigError> {
        if self.hidden {
            self.note(key, "***".into(), "only root may look".into());
            return Ok(Some(HIDDEN.into()));
        }
        // In a container the role may change that directory, and root reads it before the start.
        let secret = |place: &PathBuf| holds(place, credential);
        let handed = self.environment.get("CREDENTIALS_DIRECTORY");
        let handed = handed.map(PathBuf::from).filter(secret);
        // A reload of the unit lays the secret as it is now there: the manager's own copy is as old as the start.
        let handed = self.laid.clone().filter(secret).or(handed);
        let value = variable.and_then(|name| Some((name, self.environment.get(name)?)));
        let installed = self.credentials.as_ref().map(|at| at.join(credential));
        // Roles may not look into that folder, and need not: `exists` is false for them.
        let installed = installed.filter(|path| value.is_none() && path.exists());
        let file = file.or(installed.as_deref());
        let from = match &handed {
            Some(place) => Some((
                place.join(credential),
                beneath::read_text(place, Path::new(credential), laid::SECRET_LEN_MAX),
            )),
            None => match file {
                Some(path) => {
                    self.closed_to_others(key, path)?;
                    Some((path.to_owned(), std::fs::read_to_string(path)))
                }
                None => None,
            },
        };
        if let Some((path, text)) = from {
            let text = text.map_err(|why| ConfigError::Rule(unreadable(key, &path, &why)))?;
            let text = text.trim();
            if text.is_empty() {
                return Err(ConfigError::Rule(format!(
                    "{} is empty: it must hold the secret for {key}",
                    path.display()
                )));
            }
            self.note(key, "***".into(), path.display().to_string());
            return Ok(Some(text.to_owned()));
        }
        if let Some((name, value)) = value {
            self.note(key, "***".into(), format!("environment {name}"));
            return Ok(Some(value));
        }
        Ok(None)
    }

    /// Refuses a file with a secret that others can read, or replace, or keeps a warning of it. Not for development, and not where nothing
    /// is read.
    ///
    /// # Errors
    /// Which file, its mode, and what to type.
    pub fn closed_to_others(&mut self, key: &str, path: &Path) -> Result<(), ConfigError> {
        if self.development || self.hidden {
            return Ok(());
        }
        match closed::look(key, path, self.ran) {
            Some(open) if open.refused => return Err(ConfigError::Rule(open.to_string())),
            open => self.open.extend(open),
        }
        Ok(())
    }

    /// The folder of the packages has this secret, and this process may look there.
    pub fn installed(&self, credential: &str) -> bool {
        self.credentials
            .as_ref()
            .is_some_and(|at| at.join(credential).exists())
    }

    /// A person types, whom the folder of the packages is closed to. Roles get their secrets by other means.
    pub fn denied(&self) -> bool {
        let person = self.environment.get("CREDENTIALS_DIRECTORY").is_none();
        person && self.credentials.as_deref().is_some_and(denied)
    }

    pub fn note(&mut self, key: &'static str, value: String, origin: String) {
        self.origins.insert(key, (value, origin));
    }

    fn place(&self, key: &str) -> String {
        self.written
            .get(key)
            .cloned()
            .unwrap_or_else(|| "file".into())
    }
}

/// A secret's file cannot be read: what it is for, and what to type.
fn unreadable(key: &str, path: &Path, why: &std::io::Error) -> String {
    let path = path.display();
    let advice = if key == "cluster.key_file" {
        format!(
            "type `wa-agent keygen --out {path}` on one machine and copy the file to the others"
        )
    } else {
        "write the secret into it, readable for the user of this process only".into()
    };
    format!("{path}, which {key} names, cannot be read ({why}): {advice}")
}
