//! Tests of secrets in the configuration: where they are found, who may be able to read them, and what is said where one is missing.

use std::collections::BTreeMap;
use std::path::Path;

use wa_core::id::Role;

use super::merge::{Environment, Files, Loaded, load_from, open_among};
use super::tests::Place;

#[test]
fn without_a_key_it_says_how_to_make_one() {
    let bare = || Environment(BTreeMap::new());
    let error = load_from(Role::Master, 1, Files::default(), bare()).expect_err("no key");
    assert!(
        error.to_string().contains("Type as root: wa-agent setup"),
        "{error}"
    );
    let error = load_from(Role::Webapp, 1, Files::default(), bare()).expect_err("no key");
    let error = error.to_string();
    assert!(
        error.contains("wa-agent setup, with --roles webapp"),
        "{error}"
    );
    let place = Place::new();
    place.write("cluster-key", "short");
    let error = place
        .load(Role::Master, "", &[])
        .expect_err("weak")
        .to_string();
    assert!(error.contains("wa-agent keygen"), "{error}");
    place.write("cluster-key", "\n");
    let error = place
        .load(Role::Master, "", &[])
        .expect_err("empty")
        .to_string();
    assert!(error.contains("Type as root: wa-agent setup"), "{error}");
    let text = format!(
        "[cluster]\nkey_file = {:?}",
        place.0.path().join("cluster-key")
    );
    let error = load_from(Role::Master, 1, Files::text("wa.toml", &text), bare())
        .expect_err("empty")
        .to_string();
    assert!(error.contains("is empty"), "{error}");
}

/// Goal: operators type verbs as root without naming a key; a unit's own credential goes first, and an empty one (an
/// optional credential that nobody made) counts as none. Method: a folder laid out as the packages do.
#[test]
fn secrets_lie_beside_the_installed_files() {
    let place = Place::new();
    place.write("etc/credentials/cluster-key", &"f".repeat(64));
    place.write("etc/credentials/api-key", "twelve-or-more");
    place.write("api-key", "\n");
    let main = place.0.path().join("etc/wa-agent.toml");
    let load = |environment| {
        let files = Files::installed(&main, Role::Master, 1).expect("read");
        load_from(Role::Master, 1, files, environment).expect("usable")
    };
    let origin = |loaded: &Loaded, key| loaded.origins.get(key).cloned().unwrap_or_default().1;
    let verb = load(Environment(BTreeMap::new()));
    assert!(origin(&verb, "cluster.key_file").ends_with("etc/credentials/cluster-key"));
    let unit = load(place.environment(&[]));
    assert!(!origin(&unit, "cluster.key_file").contains("etc"));
    assert!(origin(&unit, "webapp.api_key_file").contains("etc/credentials/api-key"));
}

/// Goal: a secret's file that others can read or replace is refused with what to type. Method: each mode, in a directory that is open
/// to others and in one that is closed, and for development.
#[test]
fn a_secret_that_is_open_to_others_is_refused() {
    let place = Place::new();
    place.write("open/key", &"0123456789abcdef".repeat(4));
    let folder = place.0.path().join("open");
    let path = folder.join("key");
    let load = |more: &str| {
        let text = format!("[cluster]\n{more}key_file = {path:?}");
        load_from(
            Role::Master,
            1,
            Files::text("wa.toml", &text),
            Environment::default(),
        )
    };
    for (of_folder, mode, refused) in [
        (0o755, 0o600, false),
        (0o755, 0o644, true),
        (0o755, 0o602, true),
        (0o750, 0o660, true),
        (0o700, 0o666, false),
    ] {
        set(&folder, of_folder);
        set(&path, mode);
        let error = load("").err().map(|error| error.to_string());
        let wanted = format!("mode {mode:04o}");
        let told = error.as_ref().is_some_and(|error| {
            error.contains(&wanted) && error.contains(&format!("chmod 600 {}", path.display()))
        });
        assert_eq!(
            (error.is_some(), told),
            (refused, refused),
            "{of_folder:o} {mode:o}: {error:?}"
        );
        load("development = true\n").expect("for development");
    }
}

fn set(path: &Path, mode: u32) {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(path, mode).expect("set");
}

/// What a look before a restart finds, with these files and variables.
fn looked(role: Role, text: &str, environment: &Environment) -> Vec<super::Open> {
    open_among(role, Files::text("wa.toml", text), environment).expect("readable")
}

/// Goal: keys of certificates are asked as secrets are, by whoever reads them, and a look before a restart says the same without any
/// secret. A machine where nothing ever ran refuses an open one; where an instance ran, it goes on with a warning. Method: each of the two
/// keys, and the variable for one of them; open and closed; for each role; before and after a first start.
#[test]
fn open_keys_of_certificates_are_refused_on_new_machines_only() {
    let place = Place::new();
    place.write("open/key", "x");
    place.write("open/cert", "x");
    let folder = place.0.path().join("open");
    let (key, cert) = (folder.join("key"), folder.join("cert"));
    let state = place.0.path().join("state");
    set(&folder, 0o755);
    let common =
        format!("[node]\nstate_directory = {state:?}\n[upstream]\nphone_number_id = \"1\"\n");
    let public = format!("{common}[webapp]\ntls_key = {key:?}\ntls_cert = {cert:?}\n");
    let database = format!("{common}[database]\nssl_key = {key:?}\nssl_cert = {cert:?}\n");
    let variables = [("WA_DB_SSL_KEY", &key), ("WA_DB_SSL_CERT", &cert)];
    let variables = variables.map(|(name, path)| (name, path.to_str().expect("UTF-8")));
    let all = [Role::Master, Role::Coreapp, Role::Webapp, Role::Host];
    for ran in [false, true] {
        if ran {
            place.write("state/coreapp-1/incarnation", "1");
        }
        for (name, text, variables, readers) in [
            ("webapp.tls_key", &public, &[][..], &[Role::Webapp][..]),
            ("database.ssl_key", &database, &[], &all),
            ("database.ssl_key", &common, &variables, &all),
        ] {
            for role in all {
                set(&key, 0o644);
                let load = || place.load(role, text, variables);
                let said: Vec<String> = match load() {
                    Ok(loaded) => loaded.open.iter().map(ToString::to_string).collect(),
                    Err(error) => vec![error.to_string()],
                };
                let reads = readers.contains(&role);
                assert_eq!(load().is_err(), reads && !ran, "{role:?} {said:?}");
                assert_eq!(said.len(), usize::from(reads), "{role:?} {said:?}");
                let whole = said.iter().all(|said| {
                    let words = [name, "mode 0644", "Type: ch"];
                    words.iter().all(|word| said.contains(word))
                });
                assert!(whole, "{said:?}");
                let seen = looked(role, text, &place.environment(variables));
                assert!(seen.iter().all(|open| open.refused != ran), "{seen:?}");
                let seen: Vec<String> = seen.iter().map(ToString::to_string).collect();
                assert_eq!(seen, said, "{role:?}");
                set(&key, 0o600);
                assert!(load().expect("closed").open.is_empty());
                assert!(looked(role, text, &place.environment(variables)).is_empty());
            }
        }
    }
}

/// Goal: a file that its group can read stops no instance that ran before, and no file is asked that a credential goes before; a look
/// before a restart says what the start does. Method: each secret's file, open to its group and to others, with its credential and without.
#[test]
fn a_look_before_a_restart_says_what_the_start_does() {
    let place = Place::new();
    let file = place.0.path().join("open/file");
    place.write("open/file", "");
    place.write("state/coreapp-1/incarnation", "1");
    set(&place.0.path().join("open"), 0o755);
    let state = place.0.path().join("state");
    // Root's own group, and that of nobody, are no people.
    let mut group = nix::unistd::getegid().as_raw();
    if nix::unistd::geteuid().is_root() {
        group = 4242;
        std::os::unix::fs::chown(&file, None, Some(group)).expect("given");
    }
    let people = ![0, 65534].contains(&group);
    for (section, name, credential) in [
        ("cluster", "key_file", "cluster-key"),
        ("database", "password_file", "database-password"),
        ("upstream", "token_file", "upstream-token"),
        ("upstream", "pin_file", "upstream-pin"),
        ("webapp", "api_key_file", "api-key"),
        ("webhooks", "secret_file", "webhooks-secret"),
    ] {
        let secret = match name {
            "pin_file" => "123456".to_owned(),
            _ => "f".repeat(64),
        };
        place.write("open/file", &secret);
        let number = match section {
            "upstream" => "phone_number_id = \"1\"\n",
            _ => "[upstream]\nphone_number_id = \"1\"\n",
        };
        let text = match section {
            "upstream" => format!("[upstream]\n{name} = {file:?}\n{number}"),
            _ => format!("[{section}]\n{name} = {file:?}\n{number}"),
        };
        let text = format!("{text}[node]\nstate_directory = {state:?}\n");
        for handed in [true, false] {
            match handed {
                true => place.write(credential, &secret),
                false => place.write(credential, "\n"),
            }
            for (mode, refused) in [(0o644, true), (0o640, false)] {
                set(&file, mode);
                let load = place.load(Role::Coreapp, &text, &[]);
                let error = load.as_ref().err().map(ToString::to_string);
                assert_eq!(error.is_some(), refused && !handed, "{name} {error:?}");
                let seen = looked(Role::Coreapp, &text, &place.environment(&[]));
                let wanted = !handed && (refused || people);
                assert_eq!(seen.len(), usize::from(wanted), "{name} {seen:?}");
                assert!(seen.iter().all(|open| open.refused == refused));
                match load {
                    Ok(loaded) => assert_eq!(loaded.open, seen, "{name}"),
                    Err(error) => assert_eq!(seen[0].to_string(), error.to_string()),
                }
            }
        }
        place.write(credential, &secret);
    }
}

/// Goal: asked by root, outside any unit, a look knows which credentials the unit will hand over. Method: the folder of the packages with a
/// credential and without, and a file of the configuration that is open to others.
#[test]
fn credentials_of_the_packages_go_before_files() {
    let place = Place::new();
    place.write("open/token", "not-a-real-secret");
    let token = place.0.path().join("open/token");
    set(&place.0.path().join("open"), 0o755);
    set(&token, 0o644);
    place.write(
        "etc/wa-agent.toml",
        &format!("[upstream]\ntoken_file = {token:?}\n"),
    );
    let main = place.0.path().join("etc/wa-agent.toml");
    let look = |role| {
        let files = Files::installed(&main, role, 1).expect("read");
        let found = open_among(role, files, &Environment::default());
        found.expect("readable").len()
    };
    place.write("etc/credentials/upstream-token", "\n");
    assert_eq!(look(Role::Coreapp), 1);
    place.write("etc/credentials/upstream-token", "a token");
    assert_eq!(look(Role::Coreapp), 0);
    assert_eq!(look(Role::Master), 1, "its unit has no such credential");
}

/// Goal: no setting that names a file with a secret is forgotten. Method: every key of the configuration that sounds like one
/// stands in the list.
#[test]
fn every_file_with_a_secret_is_in_the_list() {
    let source = include_str!("fragment.rs");
    let named: Vec<&str> = source
        .lines()
        .filter_map(|line| {
            line.trim()
                .strip_prefix("pub ")?
                .split_once(": Option<PathBuf>")
        })
        .map(|(name, _)| name)
        .filter(|name| name.ends_with("_file") || name.ends_with("_key"))
        .collect();
    let mut text = String::new();
    for (section, keys) in [
        ("cluster", vec!["key_file"]),
        ("database", vec!["password_file", "ssl_key"]),
        (
            "upstream",
            vec![
                "token_file",
                "app_secret_file",
                "verify_token_file",
                "pin_file",
            ],
        ),
        (
            "webapp",
            vec!["api_key_file", "tls_key", "first_password_file"],
        ),
        ("webhooks", vec!["secret_file"]),
    ] {
        text.push_str(&format!("[{section}]\n"));
        for key in keys {
            text.push_str(&format!("{key} = \"/{key}\"\n"));
        }
    }
    let fragment = super::fragment::parse(Path::new("wa.toml"), &text).expect("reads");
    let listed = fragment.secret_files(Role::Webapp);
    assert_eq!(listed.len(), named.len(), "{named:?} {listed:?}");
    for name in named {
        let file = std::path::PathBuf::from(format!("/{name}"));
        assert!(listed.iter().any(|(_, _, path)| **path == file), "{name}");
    }
    assert_eq!(fragment.secret_files(Role::Master).len(), listed.len() - 1);
}

#[test]
fn a_webapp_that_could_not_verify_events_is_refused() {
    let place = Place::new();
    std::fs::remove_file(place.0.path().join("app-secret")).expect("removed");
    let error = place
        .load(Role::Webapp, "", &[])
        .expect_err("no secret")
        .to_string();
    assert!(error.contains("app_secret_file"), "{error}");
    place
        .load(Role::Webapp, "[cluster]\ndevelopment = true", &[])
        .expect("fit for development");
}
