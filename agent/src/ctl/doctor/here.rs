//! What lies on this machine: instances, configuration, credentials, and what earlier installations left.

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Asked, Check, Instance};
use crate::config::{self, Settings};
use crate::sys::systemd::Systemd;
use crate::sys::{old_client, process};
use crate::webapp::plain;

const ROLES: [&str; 3] = ["master", "coreapp", "webapp"];
/// How long the service manager may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// `coreapp`, `2` of `wa-coreapp@2.service`.
fn parse(unit: &str) -> Option<Instance> {
    let (role, number) = unit
        .strip_prefix("wa-")?
        .strip_suffix(".service")?
        .split_once('@')?;
    let role = ROLES.into_iter().find(|known| *known == role)?;
    let number = number.parse().ok().filter(|n| (1..=100).contains(n))?;
    Some(Instance { role, number })
}

/// Instances that are enabled, run, or are about to.
pub async fn instances(asked: &Asked) -> Vec<Instance> {
    let mut all = enabled(&asked.below("/etc/systemd/system"));
    if asked.live() && asked.config.is_none() {
        let listing = async {
            let systemd = Systemd::connect().await.ok()?;
            systemd.units().await.ok()
        };
        let units = tokio::time::timeout(ANSWER_WITHIN, listing)
            .await
            .ok()
            .flatten();
        let running = units.unwrap_or_default().into_iter();
        all.extend(
            running
                .filter(|unit| unit.active != "inactive")
                .filter_map(|unit| parse(&unit.name)),
        );
    }
    let named = ROLES
        .into_iter()
        .filter(|role| asked.roles.iter().any(|asked| asked == role));
    all.extend(named.map(|role| Instance { role, number: 1 }));
    all.sort_unstable();
    all.dedup();
    all
}

/// Links below `*.wants`.
fn enabled(folder: &Path) -> Vec<Instance> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let wants = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "wants"));
    let links = wants.flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten().flatten());
    links
        .filter_map(|link| parse(link.file_name().to_str()?))
        .collect()
}

/// Loads as each role would; the first good settings are what the other checks go by.
pub fn configuration(
    asked: &Asked,
    instances: &[Instance],
    checks: &mut Vec<Check>,
) -> Option<Settings> {
    const AREA: &str = "configuration";
    let mut good: Option<Settings> = None;
    if instances.is_empty() {
        return nothing_enabled(asked, checks);
    }
    let mut fine = Vec::new();
    for instance in instances {
        match asked.settings(*instance) {
            Ok(settings) => {
                fine.push(instance.shown());
                // A webapp may know less than the others: its settings serve only where there are none better.
                if good
                    .as_ref()
                    .is_none_or(|old| old.role == wa_core::id::Role::Webapp)
                {
                    good = Some(settings);
                }
            }
            Err(error) => checks.push(Check::bad(
                AREA,
                format!("{}: {}", instance.shown(), error.in_one_line()),
                format!(
                    "wa-agent check-config --role {} --instance {} shows it again",
                    instance.role, instance.number
                ),
            )),
        }
    }
    if !fine.is_empty() {
        checks.push(Check::ok(
            AREA,
            format!("keeps every rule: {}", fine.join(" ")),
        ));
    }
    good
}

/// An instance of this role is here.
pub fn runs(instances: &[Instance], role: &str) -> bool {
    instances.iter().any(|instance| instance.role == role)
}

/// What this machine is for: checks that mean nothing to it are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Runs {
    /// Coreapps are fenced, and keep the highest epoch on disk.
    pub coreapps: bool,
    /// Masters and coreapps heartbeat, and hold leases.
    pub timers: bool,
}

impl Runs {
    /// By the instances; where none is known, by the key: with the webapps' part of it nothing else can run.
    pub fn of(asked: &Asked, instances: &[Instance]) -> Self {
        let unknown = instances.is_empty() && !only_webapp_key(asked);
        Self {
            coreapps: unknown || runs(instances, "coreapp"),
            timers: unknown || runs(instances, "coreapp") || runs(instances, "master"),
        }
    }
}

fn only_webapp_key(asked: &Asked) -> bool {
    let there = |name: &str| asked.below("/etc/wa-agent/credentials").join(name).exists();
    asked.config.is_none() && there("webapp-key") && !there("cluster-key")
}

/// What to type where no unit is enabled.
fn start(asked: &Asked) -> &'static str {
    let there = |name: &str| asked.below("/etc/wa-agent/credentials").join(name).exists();
    if there("cluster-key") {
        "systemctl enable --now wa-host wa-master@1 wa-coreapp@1 wa-webapp@1, or those of them that are to run here"
    } else if there("webapp-key") {
        "systemctl enable --now wa-webapp@1"
    } else {
        "type as root: wa-agent setup"
    }
}

/// Where no unit is enabled, the configuration of a first master, or else webapp, is what can be judged.
fn nothing_enabled(asked: &Asked, checks: &mut Vec<Check>) -> Option<Settings> {
    const AREA: &str = "configuration";
    let mut good = None;
    let any = [
        Instance {
            role: "master",
            number: 1,
        },
        Instance {
            role: "webapp",
            number: 1,
        },
    ];
    if asked.config.is_none() {
        checks.push(Check::warn(
            AREA,
            "no unit of wa-agent is enabled here",
            start(asked),
        ));
    }
    let tried = any.map(|instance| asked.settings(instance));
    let [first, second] = tried;
    match first.or_else(|error| second.map_err(|_| error)) {
        Ok(settings) => {
            checks.push(Check::ok(AREA, "keeps every rule"));
            good = Some(settings);
        }
        Err(error) => checks.push(Check::bad(
            AREA,
            error.in_one_line(),
            "wa-agent setup --help says what can be answered by flags",
        )),
    }
    good
}

/// Who may read the secrets.
pub fn credentials(asked: &Asked) -> Vec<Check> {
    const AREA: &str = "credentials";
    if asked.config.is_some() {
        return Vec::new();
    }
    let folder = asked.below("/etc/wa-agent/credentials");
    let Ok(data) = std::fs::metadata(&folder) else {
        return vec![Check::bad(
            AREA,
            format!("{} is missing or hidden", folder.display()),
            "type as root: wa-agent setup",
        )];
    };
    let mut checks = Vec::new();
    let mode = data.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        checks.push(Check::bad(
            AREA,
            format!("{} has mode {mode:o}", folder.display()),
            format!("chmod 700 {}", folder.display()),
        ));
    }
    if asked.live() && data.uid() != 0 {
        checks.push(Check::bad(
            AREA,
            format!("{} belongs to user {}", folder.display(), data.uid()),
            format!("chown root:root {}", folder.display()),
        ));
    }
    let Ok(entries) = std::fs::read_dir(&folder) else {
        return vec![Check::warn(
            AREA,
            format!("{} can be read by root only", folder.display()),
            "type as root: wa-agent doctor",
        )];
    };
    let mut names = Vec::new();
    for entry in entries.flatten() {
        let Ok(data) = entry.metadata() else { continue };
        let (path, mode) = (entry.path(), data.permissions().mode() & 0o777);
        if data.is_file() && mode & 0o077 != 0 {
            checks.push(Check::bad(
                AREA,
                format!("{} has mode {mode:o}", path.display()),
                format!("chmod 600 {}", path.display()),
            ));
        }
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    if checks.is_empty() {
        checks.push(Check::ok(AREA, format!("private: {}", names.join(" "))));
    }
    checks
}

/// Passwords that stand in files of the configuration, which all users may read.
pub fn passwords(asked: &Asked) -> Vec<Check> {
    if asked.config.is_some() {
        return Vec::new();
    }
    let main = asked.below("/etc/wa-agent/wa-agent.toml");
    let beside = ["/etc/wa-agent/conf.d", "/etc/wa-agent/instances"];
    let beside = beside.iter().flat_map(|folder| {
        let entries = std::fs::read_dir(asked.below(folder));
        entries.into_iter().flatten().flatten().map(|e| e.path())
    });
    let mut files: Vec<PathBuf> = beside
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .chain(std::iter::once(main))
        .filter(|path| holds_a_password(path))
        .collect();
    files.sort();
    files
        .iter()
        .map(|path| {
            let path = path.display();
            Check::warn(
                "credentials",
                format!("{path} holds the database's password, and other users of this machine can read it"),
                format!(
                    "write the password alone into /etc/wa-agent/credentials/database-password (mode 600), take it out of urls in {path}, \
                     and choose another one if others were on this machine"
                ),
            )
        })
        .collect()
}

/// Files with secrets that others can read, and that instances go on with. One that is refused is said of the configuration.
pub fn open_files(asked: &Asked, instances: &[Instance]) -> Vec<Check> {
    if !asked.live() && asked.config.is_none() {
        return Vec::new();
    }
    let look = |one: &Instance| config::open_files(one.role(), one.number, asked.config.as_deref());
    let found: BTreeSet<config::Open> = instances.iter().flat_map(look).flatten().collect();
    found
        .into_iter()
        .filter(|open| !open.refused)
        .map(|open| Check::warn("credentials", open.says, open.advice))
        .collect()
}

/// A URL of the database has a password, in a file that others can read.
fn holds_a_password(path: &Path) -> bool {
    let open = std::fs::metadata(path).is_ok_and(|data| data.permissions().mode() & 0o004 != 0);
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let urls = config::read_text(path, &text)
        .ok()
        .and_then(|f| f.database.urls);
    let secret = |url: &String| url::Url::parse(url).is_ok_and(|url| url.password().is_some());
    open && urls.is_some_and(|urls| urls.iter().any(secret))
}

/// The old client, and what removed instances and old versions left.
pub fn leftovers(asked: &Asked, instances: &[Instance]) -> Vec<Check> {
    const AREA: &str = "leftovers";
    let mut checks = Vec::new();
    let known = |name: &str| instances.iter().any(|instance| instance.shown() == name);
    for (folder, ending) in [
        ("/var/lib/wa-agent", ""),
        ("/etc/wa-agent/instances", ".toml"),
    ] {
        let entries = std::fs::read_dir(asked.below(folder))
            .into_iter()
            .flatten()
            .flatten();
        for entry in entries {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(stem) = name.strip_suffix(ending) else {
                continue;
            };
            let of_role = stem
                .split_once('-')
                .is_some_and(|(role, n)| ROLES.contains(&role) && n.parse::<u16>().is_ok());
            if of_role && !known(stem) {
                let path = entry.path().display().to_string();
                checks.push(Check::warn(
                    AREA,
                    format!("{path} belongs to {stem}, which is not enabled and does not run here"),
                    format!("if it is gone for good: rm -r {path}"),
                ));
            }
        }
    }
    if asked.live() {
        let traces = old_client::look().into_iter();
        checks.extend(
            traces.map(|trace| Check::bad(AREA, trace.found, format!("stop it: {}", trace.stop))),
        );
        checks.extend(outdated());
    }
    if checks.is_empty() {
        checks.push(Check::ok(
            AREA,
            "no traces of removed instances, older versions or the old client",
        ));
    }
    checks
}

/// Roles that still run a binary which an upgrade has replaced.
fn outdated() -> Option<Check> {
    let old = process::all().into_iter().filter(|(_, folder)| {
        let target = std::fs::read_link(folder.join("exe")).unwrap_or_default();
        target
            .to_str()
            .is_some_and(|path| path.ends_with("/wa-agent (deleted)"))
    });
    let pids: Vec<String> = old.map(|(pid, _)| pid.to_string()).collect();
    (!pids.is_empty()).then(|| {
        Check::warn(
            "leftovers",
            format!(
                "processes {} run a binary that was replaced",
                pids.join(" ")
            ),
            "/usr/libexec/wa-agent/restart-running restarts them one after the other",
        )
    })
}

/// That the public API speaks without TLS where others may listen in.
pub fn plain(settings: &Settings) -> Option<Check> {
    plain::is_open(settings).then(|| {
        Check::warn(
            "api",
            format!(
                "the public API speaks without TLS on {}: whoever listens in reads tokens and messages",
                settings.bind
            ),
            plain::ADVICE,
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(root: &Path) -> Asked {
        Asked {
            root: root.to_path_buf(),
            config: None,
            roles: Vec::new(),
            quick: true,
        }
    }

    #[test]
    fn units_are_read() {
        assert_eq!(
            parse("wa-coreapp@2.service"),
            Some(Instance {
                role: "coreapp",
                number: 2
            })
        );
        for other in [
            "wa-host.service",
            "wa-coreapp@.service",
            "wa-coreapp@x.service",
            "x.service",
        ] {
            assert_eq!(parse(other), None);
        }
    }

    /// Goal: what a machine is for decides what it is told: to be set up, or which units to start, with the host agent where
    /// one is needed. Method: a folder as root, with each key.
    #[test]
    fn the_keys_that_are_here_say_what_to_start() {
        let root = tempfile::tempdir().expect("a directory");
        let asked = asked(root.path());
        assert_eq!(start(&asked), "type as root: wa-agent setup");
        let folder = root.path().join("etc/wa-agent/credentials");
        std::fs::create_dir_all(&folder).expect("made");
        std::fs::write(folder.join("webapp-key"), "x").expect("written");
        assert_eq!(start(&asked), "systemctl enable --now wa-webapp@1");
        let none = Runs {
            coreapps: false,
            timers: false,
        };
        assert_eq!(Runs::of(&asked, &[]), none);
        std::fs::write(folder.join("cluster-key"), "x").expect("written");
        assert!(start(&asked).contains("--now wa-host wa-master@1 wa-coreapp@1 wa-webapp@1"));
        let one = |role| [Instance { role, number: 1 }];
        assert_eq!(Runs::of(&asked, &one("webapp")), none);
        assert!(!Runs::of(&asked, &one("master")).coreapps);
        assert!(Runs::of(&asked, &one("master")).timers);
        assert!(Runs::of(&asked, &one("coreapp")).coreapps);
    }

    /// Goal: a password that stands in a file for everybody is named. Method: URLs with one and without, in files of each mode.
    #[test]
    fn a_password_in_an_open_file_is_found() {
        let root = tempfile::tempdir().expect("a directory");
        let folder = root.path().join("etc/wa-agent/conf.d");
        std::fs::create_dir_all(&folder).expect("made");
        let file = folder.join("10-setup.toml");
        for (url, mode, found) in [
            ("mysql://wa:geheim@db/wa", 0o644, 1),
            ("mysql://wa:geheim@db/wa", 0o640, 0),
            ("mysql://wa@db/wa", 0o644, 0),
        ] {
            std::fs::write(&file, format!("[database]\nurls = [{url:?}]\n")).expect("written");
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("set");
            let checks = passwords(&asked(root.path()));
            assert_eq!(checks.len(), found, "{url} {mode:o} {checks:?}");
            assert!(!format!("{checks:?}").contains("geheim"));
        }
    }

    /// Goal: an open secret is bad, with the command; a removed instance's state is named. Method: a folder as root.
    #[test]
    fn open_secrets_and_left_state_are_found() {
        let root = tempfile::tempdir().expect("a directory");
        let folder = root.path().join("etc/wa-agent/credentials");
        std::fs::create_dir_all(&folder).expect("made");
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).expect("set");
        let key = folder.join("cluster-key");
        std::fs::write(&key, "x").expect("written");
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).expect("set");
        let found = credentials(&asked(root.path()));
        assert!(
            found[0].text.contains("644")
                && found[0]
                    .advice
                    .as_deref()
                    .is_some_and(|a| a.starts_with("chmod 600")),
            "{found:?}"
        );
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("set");
        assert_eq!(
            credentials(&asked(root.path()))[0].text,
            "private: cluster-key"
        );

        for left in [
            "var/lib/wa-agent/coreapp-7",
            "var/lib/wa-agent/coreapp-1",
            "var/lib/wa-agent/store",
        ] {
            std::fs::create_dir_all(root.path().join(left)).expect("made");
        }
        let here = [Instance {
            role: "coreapp",
            number: 1,
        }];
        let found = leftovers(&asked(root.path()), &here);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].text.contains("coreapp-7"), "{found:?}");
    }
}
