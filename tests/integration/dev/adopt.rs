//! A dump is restored under a running cluster: nothing is promoted, everybody says why, one verb ends it.
//! Judges no times.

use std::process::{Command, Stdio};

use serde_json::Value;

use super::{Dev, done, owner, refused, status, status_until, verb};
use crate::drill::{TURN, port, request};
use crate::{mariadb, skipped};

/// One message through the printed commands; the answer, and the token that they logged in with.
fn send(script: &str) -> (Value, String) {
    let script = format!("{script}\necho\necho \"$TOKEN\"");
    let output = Command::new("bash")
        .args(["-c", &script])
        .output()
        .expect("bash runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let (answer, token) = text.trim().rsplit_once('\n').unwrap_or_default();
    let answer = serde_json::from_str(answer.trim());
    let answer = answer.unwrap_or_else(|error| panic!("{error}: {text:?}"));
    (answer, token.to_owned())
}

/// `mariadb` or `mariadb-dump` on the cluster's own server.
fn client(program: &str, server: u16) -> Command {
    let mut command = Command::new(program);
    command.args(["--no-defaults", "--protocol=tcp", "--host=127.0.0.1"]);
    command.args(["--user=root", &format!("--port={server}")]);
    command
}

fn epoch(status: &Value) -> u64 {
    status["shards"][0]["epoch"].as_u64().unwrap_or(0)
}

/// Puts a dump back, table by table, while the cluster runs.
fn restore(server: u16, dump: &[u8]) {
    let mut restore = client("mariadb", server)
        .arg("wa")
        .stdin(Stdio::piped())
        .spawn()
        .expect("mariadb runs");
    let mut input = restore.stdin.take().expect("piped");
    std::io::Write::write_all(&mut input, dump).expect("the dump goes in");
    drop(input);
    assert!(restore.wait().expect("it ends").success());
}

/// Nobody is promoted, everybody says why, the living owner lets go; masters that start now know it from their disk.
fn everybody_refuses(dev: &Dev, before: u64, living: &str) {
    let held = |s: &Value| s["problems"].to_string().contains("wa-agent adopt");
    let held = status_until(dev, "held", held);
    assert!(epoch(&held) < before, "{held}");
    let (_, said) = verb(dev, &["explain"]);
    assert!(said.contains("restored from an older state"), "{said}");
    // The living owner has let go: nobody owns what the dump says.
    let working = |s: &Value| {
        let nodes = s["nodes"].as_array().cloned().unwrap_or_default();
        nodes
            .iter()
            .any(|n| n["node"] == living && !n["shard"].is_null())
    };
    status_until(dev, "let go", |s| !working(s));
    let (code, said) = verb(dev, &["adopt"]);
    assert!(code == 1 && said.contains("--reason"), "{said}");
    done(dev, &["adopt", "--dry-run"], "(dry run)");

    // A master that starts now knows it from its disk.
    for pid in dev.processes_of("master") {
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(pid),
            nix::sys::signal::Signal::SIGKILL,
        );
    }
    let again = status_until(dev, "held after a restart of the masters", |s| {
        s["primary"] == true && s["problems"].to_string().contains("wa-agent adopt")
    });
    assert!(epoch(&again) < before, "{again}");
}

/// What the verb has answered, everybody who is asked next knows.
fn in_force_at_once(dev: &Dev) {
    let adopted = status(dev);
    assert!(
        !adopted["problems"].to_string().contains("wa-agent adopt"),
        "{adopted}"
    );
    refused(dev, &["adopt", "--reason", "x"], "nothing to adopt");
}

/// The verb and the decision are in the history, with who typed it.
fn it_is_recorded(dev: &Dev) {
    let (_, history) = verb(dev, &["history"]);
    for part in ["adopt  the dump of noon", "OperatorAdopted"] {
        assert!(history.contains(part), "{part}: {history}");
    }
    let line = history
        .lines()
        .find(|l| l.contains("adopt  the dump"))
        .expect("recorded");
    let id = line.split_whitespace().next().expect("a number");
    done(dev, &["explain", "--decision", id], "typed by");
}

/// Goal: a restored dump with a living old owner is refused by everybody, said with the verb that helps, adopted by it,
/// and then served, under an epoch above all that was obeyed; the upstream never sees two. Method: mariadb-dump, two
/// switchovers, the dump put back under the running cluster, a restart of the masters, the verb.
#[test]
fn a_restored_dump_waits_for_adopt() {
    if let Some(why) = mariadb::missing() {
        return skipped("adopt on MariaDB", &why);
    }
    if Command::new("mariadb-dump")
        .arg("--version")
        .output()
        .is_err()
    {
        return skipped("adopt on MariaDB", "mariadb-dump is not installed");
    }
    let _turn = TURN
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let first = port();
    let mut dev = Dev::with(first, &["--database", "mariadb"]);
    let script = dev.commands();
    dev.until("ready: primary");
    let server = 6210 + (first - 9090);
    let (answer, token) = send(&script);
    assert!(answer["messages"][0]["id"].is_string(), "{answer}");
    // The password is changed now: what follows goes on with the token, which is in the dump.
    let at = script.find("curl -s -X POST").expect("the second command");
    let later = format!("TOKEN={token}\n{}", &script[at..]);
    refused(&dev, &["adopt", "--reason", "x"], "nothing to adopt");

    let dump = client("mariadb-dump", server)
        .args(["--single-transaction", "wa"])
        .output()
        .expect("mariadb-dump runs");
    assert!(dump.status.success(), "{dump:?}");
    for _ in 0..2 {
        done(&dev, &["switchover", "--shard", "0"], "done");
    }
    let before = epoch(&status(&dev));
    let living = owner(&status(&dev)).expect("an owner");
    restore(server, &dump.stdout);

    everybody_refuses(&dev, before, &living);

    done(
        &dev,
        &["adopt", "--reason", "the dump of noon"],
        "epochs go on above",
    );
    in_force_at_once(&dev);
    let served = status_until(&dev, "served", |s| {
        s["shards"][0]["phase"] == "active" && epoch(s) > before
    });
    assert!(
        !served["problems"].to_string().contains("adopt"),
        "{served}"
    );
    let (answer, _) = send(&later);
    assert!(answer["messages"][0]["id"].is_string(), "{answer}");
    it_is_recorded(&dev);
    let report = request(
        [127, 0, 0, 1],
        6200 + (first - 9090),
        "GET /admin/report HTTP/1.1",
        "",
    );
    for nothing in ["\"double_primary\":0", "\"sent_twice\":0"] {
        assert!(report.contains(nothing), "{report}");
    }
}
