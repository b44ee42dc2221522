//! Goal: whoever starts a role wrongly reads one sentence that says what happened, to what, and what to type. Method: the
//! real binary with one thing wrong at a time; its exit code and its last line.

// A test waits for a process by the clock of its own; nothing decides by it.
#![allow(clippy::disallowed_methods)]

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A configuration on which a master starts, with ports that nobody else uses.
fn configuration(directory: &Path, offset: u16) -> String {
    // Secrets lie in it.
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(directory, closed).expect("closed");
    let key = directory.join("key");
    std::fs::write(&key, "5a".repeat(32)).expect("written");
    format!(
        "[cluster]\nkey_file = {key:?}\n[node]\nhostname = \"test\"\nstate_directory = {directory:?}\n\
         [database]\nurls = [\"sqlite://{}/wa.db\"]\n[ports]\noffset = {offset}\n[upstream]\nphone_number_id = \"1\"\n",
        directory.display()
    )
}

fn start(directory: &Path, role: &str, configuration: &str) -> Command {
    let file = directory.join("wa-agent.toml");
    std::fs::write(&file, configuration).expect("written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_wa-agent"));
    command
        .args([role, "--instance", "1", "--config"])
        .arg(file)
        .env_clear()
        .stdin(Stdio::null());
    command
}

/// A start that fails: the exit code, and the sentence.
fn refused(role: &str, change: impl FnOnce(&Path, String) -> String) -> (i32, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let configuration = change(directory.path(), configuration(directory.path(), offset()));
    let output: Output = start(directory.path(), role, &configuration)
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().last().unwrap_or_default().to_owned();
    let shown = last.replace(&directory.path().display().to_string(), "DIR");
    (output.status.code().unwrap_or(-1), shown)
}

fn offset() -> u16 {
    20_000 + u16::try_from(std::process::id() % 300).expect("below 300") * 20
}

#[test]
fn a_missing_key_names_the_command() {
    let (code, said) = refused("master", |directory, text| {
        text.replace(
            &format!("{:?}", directory.join("key")),
            &format!("{:?}", directory.join("gone")),
        )
    });
    assert_eq!(
        said,
        "wa-agent: DIR/gone, which cluster.key_file names, cannot be read (No such file or directory (os error 2)): \
         type `wa-agent keygen --out DIR/gone` on one machine and copy the file to the others"
    );
    assert_eq!(code, 78);
    let (code, said) = refused("master", |_, text| {
        text.lines()
            .filter(|l| !l.starts_with("key_file"))
            .collect::<Vec<_>>()
            .join("\n")
    });
    assert!(said.contains("wa-agent keygen --out"), "{said}");
    assert_eq!(code, 78);
}

#[test]
fn a_webapps_key_does_not_start_a_master() {
    let (code, said) = refused("master", |directory, text| {
        let (all, part) = (directory.join("key"), directory.join("part"));
        let made = Command::new(env!("CARGO_BIN_EXE_wa-agent"))
            .arg("keygen")
            .arg("--webapp-of")
            .arg(&all)
            .arg("--out")
            .arg(&part)
            .output()
            .expect("it runs");
        assert!(made.status.success(), "{made:?}");
        text.replace(&format!("{all:?}"), &format!("{part:?}"))
    });
    assert!(
        said.contains("a master needs the cluster key itself"),
        "{said}"
    );
    assert_eq!(code, 78);
}

#[test]
fn a_broken_webapps_key_is_named() {
    let (code, said) = refused("webapp", |directory, text| {
        std::fs::write(directory.join("key"), "webapp-key 01 zz zz").expect("written");
        text
    });
    assert!(said.contains("keygen --webapp-of"), "{said}");
    assert_eq!(code, 78);
}

#[test]
fn a_misspelt_key_is_named_with_the_right_one() {
    let (code, said) = refused("master", |_, text| text + "[timers]\nlease_ttls = \"1s\"\n");
    assert_eq!((code, &*said), (78, "did you mean `lease_ttl`?"));
}

#[test]
fn a_set_that_cannot_work_names_its_rule() {
    let (code, said) = refused("master", |_, text| {
        text + "[timers]\nlease_ttl = \"100ms\"\n"
    });
    assert!(
        said.contains("lease_ttl") && said.contains("300ms"),
        "{said}"
    );
    assert_eq!(code, 78);
}

#[test]
fn a_missing_token_is_named() {
    let (code, said) = refused("coreapp", |_, text| text);
    assert!(said.contains("token_file is not set"), "{said}");
    assert_eq!(code, 78);
}

#[test]
fn a_taken_port_names_who_to_look_for() {
    let offset = offset() + 10;
    let heartbeats = 6254 + offset;
    let Ok(_taken) = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, heartbeats)) else {
        return crate::skipped("a taken port", "the port is taken by somebody else");
    };
    let (code, said) = refused("master", |directory, _| configuration(directory, offset));
    assert!(
        said.contains(&format!("port {heartbeats}")) && said.contains("ss -lntup"),
        "{said}"
    );
    assert_eq!(code, 1);
}

/// A role does not die of a database that is away: it says so, with the setting, and goes on trying.
#[test]
fn an_unreachable_database_is_named_and_waited_for() {
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = nobody.local_addr().expect("bound").port();
    drop(nobody);
    let directory = tempfile::tempdir().expect("a directory");
    let text = configuration(directory.path(), offset() + 5);
    let sqlite = format!("sqlite://{}/wa.db", directory.path().display());
    let url = format!("mysql://wa:s3cret-pass@127.0.0.1:{port}/wa");
    let log = std::fs::File::create(directory.path().join("log")).expect("a file");
    let mut child = start(directory.path(), "master", &text.replace(&sqlite, &url))
        .stderr(log.try_clone().expect("a descriptor"))
        .stdout(log)
        .spawn()
        .expect("it starts");
    let until = Instant::now() + Duration::from_secs(20);
    let mut said = String::new();
    while said.matches("does not answer").count() < 2 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
        said = std::fs::read_to_string(directory.path().join("log")).expect("readable");
    }
    let alive = child.try_wait().expect("known").is_none();
    let _ = child.kill();
    let _ = child.wait();
    assert!(
        alive && said.matches("does not answer").count() >= 2,
        "{said}"
    );
    assert!(said.contains("[database] urls"), "{said}");
    assert!(
        !said.contains("s3cret-pass"),
        "a password in the log: {said}"
    );
}

/// Goal: a database that is away does not keep the machine in the state "starting": the role is started as far as systemd
/// goes, says that it is not ready, feeds its watchdog, and waits on. Method: a master whose database refuses connections,
/// and what it tells the service manager.
#[test]
fn a_database_that_is_away_does_not_hold_the_machine_up() {
    let directory = tempfile::tempdir().expect("a directory");
    let text = configuration(directory.path(), offset() + 13);
    let (before, after) = text.split_once("urls = [").expect("a database");
    let (_, after) = after.split_once(']').expect("a list");
    let text = format!("{before}urls = [\"mysql://wa:x@127.0.0.1:1/wa\"]{after}");
    let socket = directory.path().join("notify");
    let manager = std::os::unix::net::UnixDatagram::bind(&socket).expect("bound");
    manager
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("set");
    let mut role = start(directory.path(), "master", &text)
        .env("NOTIFY_SOCKET", &socket)
        .env("WATCHDOG_USEC", "10000000")
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let (mut fed, mut said) = (false, String::new());
    while !said.contains("READY=1") {
        let mut datagram = [0; 4096];
        let Ok(length) = manager.recv(&mut datagram) else {
            break;
        };
        said = String::from_utf8_lossy(&datagram[..length]).into_owned();
        fed |= said.contains("WATCHDOG=1");
    }
    role.kill().expect("killed");
    role.wait().expect("reaped");
    assert!(
        said.contains("READY=1") && said.contains("ERRNO=110"),
        "{said}"
    );
    assert!(fed, "the watchdog would have ended it");
}
