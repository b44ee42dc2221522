//! What people without root may do on an installed machine: members of the group `wa` look, nobody else does, and only who
//! can read the cluster key changes something. One step of a story; leaves the machine as it was.

use crate::machine::Machine;

/// Types a line as somebody.
fn types(machine: &Machine, who: &str, line: &str) -> (bool, String) {
    machine.try_run(&format!("cd / && runuser -u {who} -- {line}"))
}

#[track_caller]
fn works(machine: &Machine, who: &str, line: &str) -> String {
    let (good, says) = types(machine, who, line);
    assert!(good, "{who}: {line}\n{says}");
    says
}

#[track_caller]
fn refused(machine: &Machine, who: &str, line: &str, because: &[&str]) {
    let (good, says) = types(machine, who, line);
    assert!(!good, "{who} may do it: {line}\n{says}");
    for part in because {
        assert!(says.contains(part), "{who}: {line}: no {part:?} in\n{says}");
    }
    assert_eq!(
        says.lines().count(),
        1,
        "{who}: {line}: more than one sentence\n{says}"
    );
}

/// Goal: a member of the group sees what root sees, and no secret; a stranger and a member who wants to change something
/// learn what to type. Method: two accounts, the verbs as they are typed, and the socket itself.
pub fn look(machine: &Machine) {
    machine.run("useradd -m -G wa ann && useradd -m bob");
    let status = works(machine, "ann", "wa-agent status || test $? = 3");
    assert!(status.contains("core1:coreapp-1"), "{status}");
    let json = works(machine, "ann", "wa-agent status --json || test $? = 3");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["primary_master"], "core1:master-1");
    let explained = works(machine, "ann", "wa-agent explain --json");
    assert!(explained.contains("worst_cases"), "{explained}");
    works(machine, "ann", "wa-agent plan core1:coreapp-1");
    let history = works(machine, "ann", "wa-agent history --json");
    let first: serde_json::Value =
        serde_json::from_str(history.lines().next().expect("a decision")).expect("JSON");
    works(
        machine,
        "ann",
        &format!("wa-agent explain --decision {}", first["id"]),
    );
    let settings = works(machine, "ann", "wa-agent settings");
    assert!(settings.contains("callback_persist"), "{settings}");
    let root = machine.run("wa-agent settings --json");
    assert_eq!(works(machine, "ann", "wa-agent settings --json"), root);
    let values = works(machine, "ann", "wa-agent check-config --role webapp");
    assert!(
        values.contains("only root may look") && values.contains("100200300"),
        "{values}"
    );

    let said = [status, explained, history, settings, values].concat();
    let secrets = machine.run("cat /etc/wa-agent/credentials/*");
    // The documented first password is a word of many sentences, and no secret.
    for secret in secrets.lines().filter(|secret| *secret != "secret") {
        assert!(!said.contains(secret), "a secret was said");
    }
    changes_nothing(machine);
    writes_nothing(machine);
    strangers(machine);
    the_socket_itself(machine);
    machine.run("systemctl stop wa-host");
    refused(
        machine,
        "ann",
        "wa-agent status",
        &["systemctl start wa-host"],
    );
    machine.run("systemctl start wa-host");
    machine.run("kill $(pgrep -u ann); userdel -f -r ann; userdel -f -r bob; ! id ann && ! id bob");
}

/// Goal: to be in the group gives nobody a place to write. Method: everything on the machine that a member may write and a stranger may
/// not, apart from the member's own. Two sockets are there to be talked to: one answers looks, the other one lends to coreapps only,
/// whom it knows by their control group.
fn writes_nothing(machine: &Machine) {
    for who in ["ann", "bob"] {
        machine.run(&format!(
            "cd / && runuser -u {who} -- find / '(' -path /proc -o -path /sys ')' -prune -o ! -type l ! -user {who} -writable -print 2>/dev/null \
             | sort >/run/writable-{who}"
        ));
    }
    let more = machine.run("comm -23 /run/writable-ann /run/writable-bob");
    let sockets = ["/run/wa-agent/gate.sock", "/run/wa-agent/look.sock"];
    let more: Vec<&str> = more.lines().collect();
    assert_eq!(more, sockets, "a member of wa may write these");
}

/// Whoever may look and wants more learns what to type.
fn changes_nothing(machine: &Machine) {
    refused(
        machine,
        "ann",
        "wa-agent switchover --shard 0 --reason 'my own'",
        &["sudo wa-agent switchover --shard 0 --reason 'my own'"],
    );
    refused(
        machine,
        "ann",
        "wa-agent drain core1:coreapp-1 --dry-run",
        &["only who can read the cluster key", "sudo wa-agent drain"],
    );
    for verb in ["doctor", "debug --output /tmp/x.tar.gz"] {
        let (_, says) = types(machine, "ann", &format!("wa-agent {verb}"));
        assert!(
            says.contains("sudo") && !says.contains("keygen"),
            "{verb}: {says}"
        );
    }
    // Nor past the verbs.
    let (reached, _) = types(machine, "ann", "ls /var/lib/wa-agent/store");
    assert!(!reached, "a member of the group reaches the database");
}

/// Whoever is not in the group learns how to get there.
fn strangers(machine: &Machine) {
    refused(
        machine,
        "bob",
        "wa-agent status",
        &["usermod -aG wa bob", "sudo wa-agent status"],
    );
    refused(machine, "bob", "wa-agent settings", &["usermod -aG wa bob"]);
    // As the sentence says.
    machine.run("usermod -aG wa bob");
    works(machine, "bob", "wa-agent status || test $? = 3");
}

/// Nothing else is answered there, whoever asks.
fn the_socket_itself(machine: &Machine) {
    machine.run("test \"$(stat -c '%a %U %G' /run/wa-agent/look.sock)\" = '660 root wa'");
    for question in [
        r#"{"operate":{"verb":"adopt"}}"#,
        r#""key""#,
        "GET /control/status",
    ] {
        let says = machine.run(&format!(
            "runuser -u ann -- curl -s --max-time 10 telnet://x --unix-socket /run/wa-agent/look.sock <<'END'\n{question}\nEND"
        ));
        assert!(says.contains("does not know this question"), "{says}");
    }
    // Sixteen who say nothing are gone after two seconds, and hold up nobody for longer.
    machine.run(
        "for n in $(seq 40); do
             (sleep infinity | runuser -u ann -- curl -s telnet://x --unix-socket /run/wa-agent/look.sock) >/dev/null 2>&1 &
         done
         true",
    );
    machine.wait(
        std::time::Duration::from_secs(60),
        "runuser -u ann -- wa-agent status || test $? = 3",
    );
}
