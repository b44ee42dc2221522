//! Verbs and settings that have answered are in force at once; and a server that does not let us set what our statements rely
//! on is named by whoever is asked. Judges no times.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{Dev, done, owner, refused, status, status_until, verb};
use crate::drill::{TURN, port};
use crate::{mariadb, skipped};

/// An administrator's statements on the cluster's own server; what it answers.
fn say(server: u16, sql: &str) -> String {
    let mut client = Command::new("mariadb")
        .args(["--no-defaults", "--protocol=tcp", "--host=127.0.0.1"])
        // A connection that is gone by now is no fault.
        .args(["--user=root", "-N", "-B", "--force"])
        .args([&format!("--port={server}"), "wa"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("mariadb runs");
    let mut input = client.stdin.take().expect("piped");
    input.write_all(sql.as_bytes()).expect("typed");
    drop(input);
    let output = client.wait_with_output().expect("it ends");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Ends every connection of the product: all that come are new.
fn all_anew(server: u16) {
    let kills = say(
        server,
        "SELECT CONCAT('KILL ',ID,';') FROM information_schema.PROCESSLIST WHERE USER='wa';",
    );
    assert!(kills.contains("KILL"), "nobody is connected");
    say(server, &kills);
}

/// The owner is another one when the verb says so.
fn switchovers(dev: &Dev) {
    for _ in 0..3 {
        let before = status(dev);
        done(dev, &["switchover", "--shard", "0"], "done");
        let after = status(dev);
        assert_eq!(after["shards"][0]["phase"], "active", "{after}");
        assert_ne!(owner(&after), owner(&before), "{after}");
        assert!(owner(&after).is_some(), "{after}");
    }
}

/// A node that is forgotten is shown to nobody any more.
fn forgotten(dev: &Dev, server: u16) {
    for n in 1..=3 {
        let node = format!("gone:coreapp-{n}");
        say(
            server,
            &format!(
                "CREATE TEMPORARY TABLE one AS SELECT * FROM node WHERE role=(SELECT role \
                 FROM node WHERE node LIKE '%coreapp-1' LIMIT 1) LIMIT 1; UPDATE one SET node='{node}', address='127.9.9.9', \
                 beat_ms=beat_ms-3600000; INSERT INTO node SELECT * FROM one;"
            ),
        );
        status_until(dev, "registered", |s| {
            s["nodes"].to_string().contains(&node)
        });
        done(dev, &["forget", &node], "is forgotten");
        let after = status(dev);
        assert!(!after["nodes"].to_string().contains(&node), "{after}");
        refused(dev, &["forget", &node], "is not registered");
    }
}

/// An interval that the API has taken is the master's when the answer is there.
fn settings(dev: &Dev, first: u16, script: &str) {
    let script = format!("{script}\necho\necho \"$TOKEN\"");
    let logged_in = Command::new("bash").args(["-c", &script]).output();
    let text = logged_in.expect("bash runs").stdout;
    let text = String::from_utf8_lossy(&text);
    let token = text.trim().lines().last().unwrap_or_default().to_owned();
    // The reference's own pair last: the configured one is in force again, and nothing is slower than configured.
    for (ms, heartbeat, unhealthy) in [
        (60, 0.06, 0.6),
        (70, 0.07, 0.7),
        (80, 0.08, 0.8),
        (90, 0.09, 0.9),
        (50, 5.0, 30.0),
    ] {
        let body = format!(
            "{{\"heartbeat_interval\":{heartbeat:?},\"unhealthy_interval\":{unhealthy:?}}}"
        );
        let patched = Command::new("curl")
            .args(["-s", "-X", "PATCH", "-d", &body])
            .args(["-H", "content-type: application/json"])
            .args(["-H", &format!("authorization: Bearer {token}")])
            .arg(format!("http://127.0.0.1:{first}/v1/settings/application"))
            .output()
            .expect("curl runs");
        let answer: Value = serde_json::from_slice(&patched.stdout).unwrap_or_default();
        assert!(
            answer["errors"].is_null() && answer["meta"].is_object(),
            "{answer}"
        );
        let now = status(dev);
        assert_eq!(now["heartbeat_interval_ms"], ms, "{now}");
    }
}

/// F01. Everybody who is asked names the variable and the line to type; when it is typed, all goes on by itself.
fn what_cannot_be_set_is_named(dev: &Dev, server: u16) {
    const VARIABLE: &str = "enforce_storage_engine";
    say(server, &format!("SET GLOBAL {VARIABLE}='MyISAM';"));
    all_anew(server);
    let line = format!("SET GLOBAL {VARIABLE}='InnoDB'");
    let named = status_until(dev, "named", |s| s["problems"].to_string().contains(&line));
    assert!(
        named["problems"].to_string().contains("SUPER"),
        "why: {named}"
    );
    let (code, said) = verb(dev, &["doctor"]);
    assert!(code != 0 && said.contains(&line), "{said}");
    let typed = line.split('=').next().unwrap_or_default();
    say(server, &format!("{typed}='InnoDB';"));
    status_until(dev, "calm", |s| {
        s["primary"] == true
            && s["problems"] == serde_json::json!([])
            && s["shards"][0]["phase"] == "active"
    });
}

/// Goal: what has answered is what `status` says and what the master decides by, never a copy that is half a second old; and
/// F01, a server that refuses our session is named. Method: each verb, and the status right after it; a variable that an
/// ordinary user may not set, under a living cluster whose connections are all ended, on a private MariaDB.
#[test]
fn what_has_answered_is_in_force() {
    let missing = ["mariadb", "curl"]
        .into_iter()
        .find(|name| Command::new(name).arg("--version").output().is_err());
    let missing = missing.map(|name| format!("{name} is not installed"));
    if let Some(why) = mariadb::missing().or(missing) {
        return skipped("what has answered is in force", &why);
    }
    let _turn = TURN
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let first = port();
    let mut dev = Dev::with(first, &["--database", "mariadb"]);
    let script = dev.commands();
    dev.until("ready: primary");
    let server = 6210 + (first - 9090);
    status_until(&dev, "calm", |s| s["problems"] == serde_json::json!([]));
    switchovers(&dev);
    settings(&dev, first, &script);
    forgotten(&dev, server);
    what_cannot_be_set_is_named(&dev, server);
}
