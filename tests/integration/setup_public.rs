//! What `setup` says of the public API of a new machine: TLS and the first password. `setup.rs` has the rest.

use crate::setup::{Machine, wa_agent, words};

const NUMBER: [&str; 4] = ["--single", "--sqlite", "--phone-number-id", "1"];
const FRAGMENT: &str = "etc/wa-agent/conf.d/10-setup.toml";
const CREDENTIAL: &str = "etc/wa-agent/credentials/first-password";

/// Goal: a new installation speaks TLS and has a first password that somebody chose; the documented one is kept by a flag; the
/// same again changes nothing. Method: the real binary with a folder as root for each.
#[test]
fn a_new_api_speaks_tls_and_has_a_first_password() {
    let machine = Machine::new();
    let secrets = machine.secrets();
    let asked = words(&NUMBER, &secrets);
    // Nobody said one, and nobody can be asked.
    let mut command = wa_agent();
    let root = machine.path("");
    command
        .arg("setup")
        .args(&asked)
        .arg("--force")
        .arg("--root")
        .arg(&root);
    let output = command.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("--first-password-file FILE"), "{said}");
    assert!(!machine.path("etc").exists(), "nothing was written: {said}");
    // A weak one is refused, a good one is kept as a hash.
    let file = machine.path("first");
    let first = file.display().to_string();
    let chosen = [&asked[..], &["--first-password-file", &first]].concat();
    std::fs::write(&file, "weak").expect("written");
    let (code, said) = machine.type_("setup", &chosen);
    assert!(code == 1 && said.contains("too weak"), "{said}");
    std::fs::write(&file, "Abcdef1!\n").expect("written");
    let (code, said) = machine.type_("setup", &chosen);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("curl -k -u admin -X POST https://localhost:9090"),
        "{said}"
    );
    let hash = machine.read(CREDENTIAL);
    assert!(
        hash.starts_with("$argon2id$") && !hash.contains("Abcdef1!"),
        "{hash}"
    );
    assert!(machine.read(FRAGMENT).contains("tls = \"self-signed\""));
    // The same again changes nothing.
    let (code, said) = machine.type_("setup", &chosen);
    assert!(
        code == 0 && said.contains("everything is there already"),
        "{said}"
    );
    assert_eq!(machine.read(CREDENTIAL), hash);
}

/// Goal: a proxy in front ends TLS, and is believed. Method: the flag, on a folder as root.
#[test]
fn a_proxy_in_front_is_named() {
    let machine = Machine::new();
    let secrets = machine.secrets();
    let proxy = [
        &words(&NUMBER, &secrets)[..],
        &["--behind-proxy", "192.0.2.7"],
    ]
    .concat();
    let (code, said) = machine.type_("setup", &proxy);
    assert_eq!(code, 0, "{said}");
    let written = machine.read(FRAGMENT);
    assert!(
        written.contains("tls = \"off\"") && written.contains("trusted_proxies = [\"192.0.2.7\"]"),
        "{written}"
    );
    assert_eq!(machine.read(CREDENTIAL).trim(), "secret");
}

/// Goal: setup changes nothing of what an earlier release set up. Method: a fragment without a word on it, then setup.
#[test]
fn what_was_set_up_before_stays_as_it_is() {
    let machine = Machine::new();
    let secrets = machine.secrets();
    let asked = words(&NUMBER, &secrets);
    let path = machine.path(FRAGMENT);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    std::fs::write(&path, "[upstream]\nphone_number_id = \"1\"\n").expect("written");
    let mut command = wa_agent();
    let root = machine.path("");
    command
        .arg("setup")
        .args(&asked)
        .args(["--force", "--replace", "--root"])
        .arg(&root);
    let output = command.output().expect("it runs");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(
        !machine.read(FRAGMENT).contains("tls"),
        "{}",
        machine.read(FRAGMENT)
    );
    assert!(!machine.path(CREDENTIAL).exists());
    assert!(said.contains("the public API speaks without TLS"), "{said}");
}
