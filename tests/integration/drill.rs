//! Drills, short, on the embedded database and on a server: whatever dies, nothing is lost, sent twice or sent by two.
//! Judges no times: other tests run beside these. The counters themselves are held to what must make them count.

// A test waits for a process by the clock of its own; nothing decides by it.
#![allow(clippy::disallowed_methods)]

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{mariadb, mysql, skipped};

/// A cluster is seven processes: one at a time.
pub static TURN: Mutex<()> = Mutex::new(());

/// Ends the child with the test, however the test ends.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// A first port for which the rule yields free ports only, below those that the kernel gives away.
pub fn port() -> u16 {
    let start = std::process::id() % 40;
    (0..40)
        .map(|n| u16::try_from(11_000 + (start + n) % 40 * 500).expect("below 32,768"))
        .find(|port| {
            let offset = port - 9090;
            // A private server, or three in a group with twelve ports; other tests have such groups of their own.
            let servers = 6210..6222;
            let ours = [
                9090, 9091, 9190, 9290, 9291, 6200, 6201, 6250, 6254, 6255, 6264, 6270, 6280, 6290,
                6450,
            ];
            servers.chain(ours).all(|p| free(p + offset))
        })
        .expect("one of forty blocks is free")
}

/// Runs drills; the object of the last line, and whether the exit code was zero.
pub fn drill(names: &[&str], more: &[&str]) -> (Value, bool) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let state = tempfile::tempdir().expect("a directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_wa-agent"));
    command
        .args(["dev", "--profile", "standard", "--json", "--seconds", "2"])
        .args(["--port", &port().to_string(), "--state"])
        .arg(state.path().join("dev"))
        .args(more)
        .arg("--drill")
        .args(names);
    let output = command.output().expect("the program starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    let last = text.lines().last().unwrap_or_default();
    let value = serde_json::from_str(last)
        .unwrap_or_else(|error| panic!("{error}: the last line is {last:?}\n{said}"));
    (value, output.status.success())
}

fn invariants(names: &[&str], more: &[&str]) {
    // Production's window. In the short one of `dev` a receipt that is late because the machine is busy counts as missing.
    let more = [more, &["--ambiguity-ms", "5000"]].concat();
    let (value, passed) = drill(names, &more);
    let drills = value["drills"].as_array().expect("a list of drills");
    assert_eq!(drills.len(), names.len(), "{value}");
    for (name, drill) in names.iter().zip(drills) {
        assert_eq!(drill["name"], *name);
        assert!(drill["accepted"].as_u64() > Some(100), "{drill}");
        for count in [
            "lost",
            "untold",
            "sent_twice",
            "double_primary",
            "failed",
            "shed",
        ] {
            assert_eq!(drill[count], 0, "{count} of {drill}");
        }
    }
    assert!(passed && value["passed"] == true, "{value}");
}

/// Goal: an owner that dies, or is asked to go, costs nothing. Method: the drills themselves, two seconds each way.
#[test]
fn an_owner_that_goes_costs_no_message() {
    invariants(&["coreapp-killed", "coreapp-restarted", "switchover"], &[]);
}

/// Goal: a frozen owner is replaced, fenced or not, and does no harm when it wakes.
#[test]
fn a_frozen_owner_does_no_harm() {
    invariants(&["coreapp-hung", "coreapp-hung-unfenced"], &[]);
}

/// Goal: the same on a database server, which may be killed as well. Method: the drills on a private MariaDB.
#[test]
fn a_database_server_changes_nothing() {
    if let Some(why) = mariadb::missing() {
        return skipped("drills on MariaDB", &why);
    }
    let drills = [
        "coreapp-killed",
        "coreapp-hung",
        "coreapp-hung-unfenced",
        "coreapp-hung-one-master",
        "coreapp-restarted",
        "switchover",
        "shards-changed",
        "database-restarted",
        "database-stalled",
        "database-read-only",
    ];
    invariants(&drills, &["--database", "mariadb"]);
}

/// Goal: F13. A new database password, a new upstream token and a new app secret are taken by a reload, wrong ones are not, and
/// nobody fails over; then every connection is a new one, lease connections included. Method: the drill: wrong ones, right
/// ones in either order with whoever checks them, a restart of the server, on a private MariaDB under traffic.
#[test]
fn f13_new_secrets_need_no_restart() {
    if let Some(why) = mariadb::missing() {
        return skipped("new secrets on MariaDB", &why);
    }
    invariants(&["secrets-renewed"], &["--database", "mariadb"]);
}

/// Goal: F01. A server that comes back with defaults as far from ours as they can be, all together, loses nothing that was
/// answered 2xx. Method: the drill: autocommit=0, init_connect, sql_mode, completion_type, sql_select_limit, isolation,
/// read-only transactions and the rest, under traffic.
#[test]
fn f01_a_server_that_comes_back_hostile_loses_nothing() {
    if let Some(why) = mariadb::missing() {
        return skipped("a hostile restart of MariaDB", &why);
    }
    invariants(&["database-hostile"], &["--database", "mariadb"]);
}

/// Goal: MySQL is no MariaDB, and none of the differences costs a message. Method: the drills that freeze, kill and replace an
/// owner, on a real MySQL.
#[test]
fn a_real_mysql_changes_nothing() {
    let named = std::env::var("WA_TEST_MYSQL_URL").map_err(|_| mysql::Server::start());
    let (base, _server) = match named {
        Ok(base) => (base, None),
        Err(Ok(server)) => (server.base(), Some(server)),
        Err(Err(why)) => return skipped("drills on MySQL", &why),
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let url = runtime.block_on(crate::store::create_database(&base));
    let drills = [
        "coreapp-killed",
        "coreapp-hung",
        "coreapp-hung-unfenced",
        "switchover",
        "master-killed",
    ];
    invariants(&drills, &["--database", &url]);
}

/// Goal: masters decide about failover only; traffic does not need them, nor any one webapp. Settings reach every node,
/// announced or not, and without a master their change is refused.
#[test]
fn traffic_needs_no_master() {
    invariants(
        &[
            "master-killed",
            "masters-all-killed",
            "keys-rotated",
            "settings-changed",
            "settings-unannounced",
            "shards-changed",
            "webapp-restarted",
        ],
        &[],
    );
}

/// The upstream is slow, so that the kill leaves sends under way, and its receipts come long after the ambiguity window.
const LATE: [&str; 4] = ["--webhook-delay-ms", "8000", "--upstream-latency-ms", "200"];

/// Goal: a receipt that is late is no receipt that is missing. Method: with all receipts late, the window says nothing, and
/// the next owner waits for them.
#[test]
fn late_receipts_are_waited_for() {
    let (value, passed) = drill(&["coreapp-killed"], &LATE);
    let drill = &value["drills"][0];
    assert_eq!(drill["sent_twice"], 0, "{drill}");
    assert!(
        drill["receipt_lag_p50_ms"].as_u64() >= Some(8000),
        "{drill}"
    );
    assert!(passed && value["passed"] == true, "{value}");
}

/// Goal: the counter of repeated sends can count. Method: the longest wait is as short as the window: the next owner must
/// send again, and the drill must say so.
#[test]
fn receipts_after_the_longest_wait_show_as_sent_twice() {
    let late = [&LATE[..], &["--ambiguity-max-ms", "1000"]].concat();
    let (value, passed) = drill(&["coreapp-killed"], &late);
    let drill = &value["drills"][0];
    assert!(drill["sent_twice"].as_u64() > Some(0), "{drill}");
    assert_eq!(drill["lost"], 0, "{drill}");
    assert_eq!(drill["double_primary"], 0, "{drill}");
    assert!(!passed && value["passed"] == false, "{value}");
}

/// One request to the simulator under an epoch, from an address; the answer's status line and body.
pub fn request(from: [u8; 4], to: u16, head: &str, body: &str) -> String {
    let socket =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let from: SocketAddr = (Ipv4Addr::from(from), 0).into();
    socket.bind(&from.into()).expect("a loopback address");
    let to: SocketAddr = (Ipv4Addr::LOCALHOST, to).into();
    socket.connect(&to.into()).expect("the simulator listens");
    let mut stream = TcpStream::from(socket);
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a timeout");
    write!(
        stream,
        "{head}\r\nhost: simulator\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("the request leaves");
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .expect("the answer arrives");
    answer
}

fn send(from: [u8; 4], port: u16, epoch: u32) -> String {
    let head = format!(
        "POST /v23.0/100200300/messages HTTP/1.1\r\nauthorization: Bearer simulator-token\r\n\
         x-wa-shard: 0\r\nx-wa-epoch: {epoch}"
    );
    let body = r#"{"messaging_product":"whatsapp","to":"447700900456","type":"text","text":{"body":"x"},"biz_opaque_callback_data":"m1"}"#;
    request(from, port, &head, body)
}

/// Goal: the judge of every drill bans a number with two primaries. Method: fabricate them: a request of epoch 2, then
/// one of epoch 1 from elsewhere.
#[test]
fn the_simulator_bans_a_number_with_two_primaries() {
    let port = (20_000..20_100)
        .map(|n| n + (std::process::id() % 100) as u16 * 100)
        .find(|port| free(*port))
        .expect("a free port");
    let child = Command::new(env!("CARGO_BIN_EXE_wa-agent"))
        .args(["simulator", "--listen", &format!("127.0.0.1:{port}")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let _ends = Ends(child);
    let until = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        assert!(Instant::now() < until, "the simulator does not listen");
        std::thread::sleep(Duration::from_millis(10));
    }
    let first = send([127, 0, 0, 1], port, 2);
    assert!(first.starts_with("HTTP/1.1 200"), "{first}");
    let stale = send([127, 0, 0, 2], port, 1);
    assert!(
        stale.starts_with("HTTP/1.1 403") && stale.contains("368"),
        "{stale}"
    );
    let after = send([127, 0, 0, 1], port, 2);
    assert!(
        after.contains("368"),
        "a banned number stays banned: {after}"
    );
    let report = request([127, 0, 0, 1], port, "GET /admin/report HTTP/1.1", "");
    assert!(report.contains("\"double_primary\":1"), "{report}");
    assert!(report.contains("\"accepted\":1"), "{report}");
}

/// Goal: the benchmark of the intake measures what it says. Method: one second of it, with a state directory as `xtask`
/// names it (relative); every id that was answered is a row of the database, and none was refused.
#[test]
fn the_intake_benchmark_counts_what_it_answers() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let state = tempfile::tempdir().expect("a directory");
    let output = Command::new(env!("CARGO_BIN_EXE_wa-agent"))
        .args(["dev", "--port", &port().to_string(), "--state", "bench"])
        .args(["--seconds", "1", "--connections", "8", "--bench-intake"])
        .current_dir(state.path())
        .output()
        .expect("the program starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let value: Value = serde_json::from_str(text.lines().last().unwrap_or_default())
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    assert!(output.status.success(), "{value}");
    assert!(value["accepted"].as_u64() > Some(0), "{value}");
    assert_eq!(value["accepted"], value["rows_in_database"], "{value}");
    assert_eq!(value["failed"], 0, "{value}");
}

/// Messages a second of the test below: what a build without optimization sustains on two busy processors with room to spare.
const RATE: &str = "60";

/// One run of `--bench-send`; its last run, and whether the exit code was zero.
fn bench_send(more: &[&str]) -> (Value, bool) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let state = tempfile::tempdir().expect("a directory");
    let output = Command::new(env!("CARGO_BIN_EXE_wa-agent"))
        .args(["dev", "--bench-send", "--profile", "standard"])
        .args(["--ambiguity-ms", "5000", "--port", &port().to_string()])
        .arg("--state")
        .arg(state.path().join("dev"))
        .args(more)
        .output()
        .expect("the program starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    let value: Value = serde_json::from_str(text.lines().last().unwrap_or_default())
        .unwrap_or_else(|error| panic!("{error}: {said}"));
    (value["last"].clone(), output.status.success())
}

/// Goal: at full rate, over four shards, with an owner killed every 20 seconds, each message is sent once and each of its
/// three statuses is told. Method: a minute of the measurement on MariaDB, at a rate that this build sustains; judged by
/// counts, never by times or by how long the queue was.
#[test]
fn a_minute_at_full_rate_loses_nothing() {
    if let Some(why) = mariadb::missing() {
        return skipped("a minute at full rate on MariaDB", &why);
    }
    let options = ["--database", "mariadb", "--rate", RATE, "--seconds", "60"];
    let (run, _) = bench_send(&[&options[..], &["--kill-every", "20"]].concat());
    let counts = &run["counts"];
    for count in [
        "refused",
        "lost",
        "failed",
        "twice",
        "untold",
        "double_primary",
    ] {
        assert_eq!(counts[count], 0, "{count} of {run}");
    }
    let rate: u64 = RATE.parse().expect("a number");
    assert!(counts["accepted"].as_u64() >= Some(59 * rate), "{run}");
    assert_eq!(run["kills"], 3, "{run}");
    assert!(
        run["per_message"]["server"]["statements"].as_f64() > Some(1.0),
        "{run}"
    );
}
