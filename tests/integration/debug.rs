//! Goal: the file for whoever helps has every part or says why not, and no secret, however it is written. Method: secrets
//! planted everywhere that a configuration may name, the real binary, and the archive unpacked.

use std::io::Read as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A configuration with a secret wherever one may stand.
fn planted(path: &Path) -> PathBuf {
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = nobody.local_addr().expect("bound").port();
    drop(nobody);
    let secret = |name: &str| {
        let file = path.join(name);
        std::fs::write(&file, format!("planted-{name}-\"&%\n")).expect("written");
        file
    };
    // Secrets lie in it.
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(path, closed).expect("closed");
    let key = path.join("key");
    std::fs::write(&key, "9d".repeat(32)).expect("written");
    let text = format!(
        "[cluster]\nname = \"debugged\"\nkey_file = {key:?}\n[node]\nhostname = \"test\"\nstate_directory = {path:?}\n\
         [database]\nurls = [\"mysql://wa:planted-in%26url@127.0.0.1:{port}/wa\"]\n\
         [upstream]\nphone_number_id = \"1\"\ntoken_file = {:?}\napp_secret_file = {:?}\nverify_token_file = {:?}\n\
         [webapp]\napi_key_file = {:?}\n",
        secret("token"),
        secret("app-secret"),
        secret("verify"),
        secret("api-key-of-it"),
    );
    let file = path.join("wa-agent.toml");
    std::fs::write(&file, text).expect("written");
    file
}

#[test]
fn one_file_without_a_secret() {
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path();
    let file = planted(path);
    let output = path.join("debug.tar.gz");
    let done = Command::new(env!("CARGO_BIN_EXE_wa-agent"))
        .args(["debug", "--since", "1 minute ago", "--config"])
        .arg(&file)
        .arg("--output")
        .arg(&output)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin")
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    assert!(done.status.success(), "{said}");

    let mut names = Vec::new();
    let mut all = said;
    let archive = flate2::read::GzDecoder::new(std::fs::File::open(&output).expect("written"));
    for entry in tar::Archive::new(archive).entries().expect("an archive") {
        let mut entry = entry.expect("whole");
        names.push(entry.path().expect("a name").display().to_string());
        entry.read_to_string(&mut all).expect("text");
    }
    for part in [
        "about.json",
        "doctor.txt",
        "configuration.json",
        "mounts.txt",
        "missing.txt",
    ] {
        assert!(
            names.iter().any(|name| name.ends_with(part)),
            "{part} in {names:?}"
        );
    }
    assert!(all.contains("debugged"), "the configuration is in it");
    assert!(
        all.contains("status.json: "),
        "what is missing is said: {all}"
    );
    for planted in ["planted-", "in%26url", &"9d".repeat(32)] {
        assert!(!all.contains(planted), "{planted} is in the file");
    }

    // What exists is not overwritten.
    let again = Command::new(env!("CARGO_BIN_EXE_wa-agent"))
        .args(["debug", "--config"])
        .arg(&file)
        .arg("--output")
        .arg(&output)
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    assert!(!again.status.success());
}
