//! Tests of secrets in the configuration: where they are found, who may be able to read them, and what is said where one is missing.

use std::collections::BTreeMap;
use std::path::Path;

use wa_core::id::Role;

use super::merge::{Environment, Files, Loaded, load_from};
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
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    place.write("open/key", &"0123456789abcdef".repeat(4));
    let folder = place.0.path().join("open");
    let path = folder.join("key");
    let set = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("set");
    };
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

/// Goal: keys of certificates are asked as secrets are, by whoever reads them, and a look before a restart says the same without any
/// secret. Method: each of the two keys, open and closed, for each role.
#[test]
fn open_keys_of_certificates_are_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    place.write("open/key", "x");
    place.write("open/cert", "x");
    let folder = place.0.path().join("open");
    let (key, cert) = (folder.join("key"), folder.join("cert"));
    let set = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("set");
    };
    set(&folder, 0o755);
    let number = "[upstream]\nphone_number_id = \"1\"\n";
    let public = format!("{number}[webapp]\ntls_key = {key:?}\ntls_cert = {cert:?}\n");
    let database = format!("{number}[database]\nssl_key = {key:?}\nssl_cert = {cert:?}\n");
    let all = [Role::Master, Role::Coreapp, Role::Webapp, Role::Host];
    for (name, text, readers) in [
        ("webapp.tls_key", &public, &[Role::Webapp][..]),
        ("database.ssl_key", &database, &all[..]),
    ] {
        place.write("wa.toml", text);
        let file = place.0.path().join("wa.toml");
        for role in all {
            set(&key, 0o644);
            let refused = readers.contains(&role);
            let error = place.load(role, text, &[]).err().map(|e| e.to_string());
            let told = error.as_ref().is_some_and(|error| {
                error.contains(name) && error.contains("mode 0644") && error.contains("Type: ch")
            });
            assert_eq!(
                (error.is_some(), told),
                (refused, refused),
                "{role:?} {error:?}"
            );
            let seen = super::open_files(role, 1, Some(&file)).expect("readable");
            let seen: Vec<String> = seen.iter().map(ToString::to_string).collect();
            assert_eq!(seen, Vec::from_iter(error), "{role:?}");
            set(&key, 0o600);
            place.load(role, text, &[]).expect("closed");
            let seen = super::open_files(role, 1, Some(&file)).expect("readable");
            assert!(seen.is_empty());
        }
    }
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
        assert!(listed.iter().any(|(_, path)| **path == file), "{name}");
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
