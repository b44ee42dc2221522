//! What people and machines watch, through the real processes. Goal: a node that dies is told with `errors` by health and
//! statistics; a garbage collection over two shards, whose owner is killed in the middle of it, is told exactly once for each
//! coreapp; files that nobody uses go. Method: a cluster with three coreapps, a receiver that counts callbacks, and messages and
//! files that are made old by hand.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::{Dev, status, status_until};
use crate::drill::{TURN, port};
use crate::media::have_curl;

const PATIENCE: Duration = Duration::from_secs(60);
/// Older than what is kept.
const NINE_DAYS_MS: u64 = 9 * 24 * 3600 * 1000;
const FORTY_DAYS_MS: u64 = 40 * 24 * 3600 * 1000;
/// Enough for a collection that takes some seconds: it goes in small steps, and rests.
const MESSAGES: usize = 6000;

/// Takes every callback, and keeps those of services.
struct Receiver {
    port: u16,
    told: Arc<Mutex<Vec<Value>>>,
}

impl Receiver {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let told = Arc::<Mutex<Vec<Value>>>::default();
        let kept = Arc::clone(&told);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || serve(stream, &kept));
            }
        });
        Self { port, told }
    }

    fn told(&self) -> Vec<Value> {
        self.told
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn serve(mut stream: std::net::TcpStream, kept: &Mutex<Vec<Value>>) {
    let mut seen = Vec::new();
    let mut part = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&seen).into_owned();
        let whole = text.split_once("\r\n\r\n").and_then(|(head, body)| {
            let head = head.to_ascii_lowercase();
            let length = head.split("content-length: ").nth(1)?.lines().next()?;
            (body.len() >= length.trim().parse().ok()?).then(|| body.to_owned())
        });
        if let Some(body) = whole {
            let body: Value = serde_json::from_str(&body).unwrap_or_default();
            if body["services"].is_array() {
                kept.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(body);
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
            seen.clear();
        }
        match stream.read(&mut part) {
            Ok(0) | Err(_) => return,
            Ok(n) => seen.extend_from_slice(&part[..n]),
        }
    }
}

/// A cluster, and somebody who is logged in.
struct Bench {
    dev: Dev,
    webapp: u16,
    token: String,
}

impl Bench {
    fn start() -> Self {
        let webapp = port();
        let mut dev = Dev::with(webapp, &["--coreapps", "3"]);
        dev.until("ready: primary");
        let mut bench = Self {
            dev,
            webapp,
            token: String::new(),
        };
        let password = r#"{"new_password":"Try-it-0ut!"}"#;
        let (_, login) = bench.json(&["-u", "admin:secret", "-d", password], "/v1/users/login");
        bench.token = login["users"][0]["token"]
            .as_str()
            .expect("a token")
            .to_owned();
        bench
    }

    fn json(&self, words: &[&str], path: &str) -> (u16, Value) {
        let mut command = Command::new("curl");
        command
            .args(["-s", "-w", "%{stderr}%{http_code}"])
            .args(words);
        if !self.token.is_empty() {
            command.args(["-H", &format!("Authorization: Bearer {}", self.token)]);
        }
        let url = format!("http://127.0.0.1:{}{path}", self.webapp);
        let output = command.arg(url).output().expect("curl runs");
        let status = String::from_utf8_lossy(&output.stderr).trim().parse();
        let body = serde_json::from_slice(&output.stdout);
        (status.unwrap_or(0), body.unwrap_or_default())
    }

    /// Asks until the answer is as wanted.
    fn until(&self, what: &str, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            let (code, found) = self.json(&[], path);
            if code == 200 && wanted(&found) {
                return found;
            }
            assert!(Instant::now() < until, "not {what}: {code} {found}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn sql(&self, statement: &str) -> u64 {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let database = format!("sqlite://{}", self.dev.directory().join("wa.db").display());
        runtime.block_on(async {
            use sqlx::Connection as _;
            let mut connection = sqlx::SqliteConnection::connect(&database)
                .await
                .expect("opened");
            let busy = sqlx::raw_sql("PRAGMA busy_timeout=10000").execute(&mut connection);
            busy.await.expect("set");
            let statement = sqlx::AssertSqlSafe(statement.to_owned());
            let done = sqlx::raw_sql(statement).execute(&mut connection).await;
            done.expect("written").rows_affected()
        })
    }

    /// The number that a statement finds.
    fn row(&self, statement: &str) -> i64 {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let database = format!("sqlite://{}", self.dev.directory().join("wa.db").display());
        runtime.block_on(async {
            use sqlx::Connection as _;
            let mut connection = sqlx::SqliteConnection::connect(&database)
                .await
                .expect("opened");
            let busy = sqlx::raw_sql("PRAGMA busy_timeout=10000").execute(&mut connection);
            busy.await.expect("set");
            let statement = sqlx::AssertSqlSafe(statement.to_owned());
            let found = sqlx::query_scalar(statement).fetch_one(&mut connection);
            found.await.expect("read")
        })
    }

    /// Reads until a statement finds this number.
    fn until_row(&self, what: &str, statement: &str, wanted: i64) {
        let until = Instant::now() + PATIENCE;
        loop {
            let found = self.row(statement);
            if found == wanted {
                return;
            }
            assert!(Instant::now() < until, "not {what}: {found}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The process of a node, by its name.
    fn process(&self, node: &str) -> Pid {
        let instance = node.rsplit('-').next().unwrap_or_default().to_owned();
        let own = |pid: &i32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words: Vec<&[u8]> = line.split(|b| *b == 0).collect();
            words.contains(&b"coreapp".as_slice()) && words.contains(&instance.as_bytes())
        };
        let found = self.dev.processes().into_iter().find(own);
        Pid::from_raw(found.unwrap_or_else(|| panic!("no process of {node}")))
    }
}

fn owners(status: &Value) -> Vec<String> {
    let shards = status["shards"].as_array().into_iter().flatten();
    let active = shards.filter(|shard| shard["phase"] == "active");
    let owners = active.filter_map(|shard| shard["owner"].as_str());
    owners.map(str::to_owned).collect()
}

#[test]
fn a_collection_is_told_once_through_a_failover() {
    if !have_curl() {
        return;
    }
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let bench = Bench::start();
    let receiver = Receiver::start();
    settings(&bench, &receiver);
    let wanted = json!({"cc": "44", "phone_number": "7700900999", "shards": 2});
    let (code, answer) = bench.json(&["-d", &wanted.to_string()], "/v1/account/shards");
    assert_eq!(code, 201, "{answer}");
    let before = status_until(&bench.dev, "two owners", |s| owners(s).len() == 2);
    old_messages(&bench);
    let (code, begun) = bench.json(&["-X", "PUT"], "/v1/services/message/gc");
    assert_eq!(code, 200, "{begun}");
    let gc = begun["services"]["message"]["gc"].as_object();
    let gc = gc.unwrap_or_else(|| panic!("{begun}"));
    assert_eq!(gc.len(), 3, "{begun}");
    assert!(
        gc.values()
            .all(|part| *part == json!({"status": "processing"}))
    );
    // In the middle of it: both owners have deleted some of theirs, and neither all.
    let killed = owners(&before)[0].clone();
    let begun_by =
        "SELECT COUNT(*) FROM collection WHERE kind='message' AND shard_count>0 AND deleted>0";
    bench.until_row("two collections that have begun", begun_by, 2);
    // The standby's part may have been told before. A callback whose delivery is not recorded yet is delivered again by the next
    // owner, and so it should be; what is looked for here is a part that is recorded twice.
    bench.until_row("a recorded delivery", "SELECT COUNT(*) FROM webhook", 0);
    kill(bench.process(&killed), Signal::SIGKILL).expect("killed");
    let over = |told: &Value| told["services"][0]["message"]["gc"]["messages_deleted"] != 0;
    assert!(!receiver.told().iter().any(over), "it was over already");
    let (code, again) = bench.json(&["-X", "PUT"], "/v1/services/message/gc");
    assert_eq!((code, &again["services"]), (200, &begun["services"]));
    // Then nothing is left that could be told, or told again.
    let open = "SELECT (SELECT COUNT(*) FROM collection WHERE shard_count>0) + (SELECT COUNT(*) FROM webhook)";
    bench.until_row("an end that everybody was told", open, 0);
    let mut deleted: BTreeMap<String, u64> = BTreeMap::new();
    for told in receiver.told() {
        let gc = &told["services"][0]["message"]["gc"];
        assert_eq!(gc["status"], "complete", "{told}");
        let node = gc["node"].as_str().expect("a node").to_owned();
        let count = gc["messages_deleted"].as_u64().expect("a count");
        assert_eq!(deleted.insert(node, count), None, "told twice: {told}");
    }
    assert_eq!(
        deleted.keys().collect::<Vec<_>>(),
        gc.keys().collect::<Vec<_>>()
    );
    assert_eq!(
        deleted.values().sum::<u64>(),
        MESSAGES as u64,
        "{deleted:?}"
    );
    assert_eq!(
        deleted.values().filter(|count| **count == 0).count(),
        1,
        "{deleted:?}"
    );
    unused_files_go(&bench, &receiver);
    a_dead_node_has_errors(&bench);
}

/// Over the store: the API wants https.
fn settings(bench: &Bench, receiver: &Receiver) {
    let value = json!({"webhooks": {"url": format!("http://127.0.0.1:{}/hook", receiver.port)},
        "garbagecollector_enable": {"messages": false, "media": false}});
    let row = format!(
        "INSERT OR REPLACE INTO setting (name, version, value) VALUES ('application', 1000, '{value}')"
    );
    assert_eq!(bench.sql(&row), 1);
    status_until(&bench.dev, "read", |s| s["settings_version"] == 1000);
    bench.until("read by all coreapps", "/v1/stats/app/internal", |found| {
        let nodes = found["stats"]["app"].as_object().into_iter().flatten();
        let read = |node: &Value| node["wa_settings_version"]["data"][0]["value"] == 1000;
        let coreapps = nodes.filter(|(name, _)| name.contains("coreapp"));
        coreapps.filter(|(_, node)| read(node)).count() == 3
    });
}

/// Messages that were finished nine days ago.
fn old_messages(bench: &Bench) {
    let numbers = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<{MESSAGES}) \
         INSERT INTO message (id, body_hash, recipient, recipient_hash, payload, state, next_ms, accepted_ms, finished_ms) \
         SELECT 'old' || i, 0, '447700900123', i, '{{}}', 3, 0, \
         CAST(unixepoch('subsec') * 1000 AS INTEGER)-{NINE_DAYS_MS}, \
         CAST(unixepoch('subsec') * 1000 AS INTEGER)-{NINE_DAYS_MS} FROM n"
    );
    assert_eq!(bench.sql(&numbers), MESSAGES as u64);
}

/// A file that was uploaded 40 days ago goes, one that was uploaded now stays.
fn unused_files_go(bench: &Bench, receiver: &Receiver) {
    let upload = || {
        let words = ["-H", "Content-Type: text/plain", "--data-binary", "hello"];
        let (code, answer) = bench.json(&words, "/v1/media");
        assert_eq!(code, 201, "{answer}");
        answer["media"][0]["id"].as_str().expect("an id").to_owned()
    };
    let (old, new) = (upload(), upload());
    let age = format!("UPDATE media SET created_ms=created_ms-{FORTY_DAYS_MS} WHERE id='{old}'");
    assert_eq!(bench.sql(&age), 1);
    let before = receiver.told().len();
    let (code, begun) = bench.json(&["-X", "PUT"], "/v1/services/media/gc");
    assert_eq!(code, 200, "{begun}");
    assert_eq!(
        begun["services"],
        json!({"media": {"gc": {"status": "processing"}}})
    );
    let until = Instant::now() + PATIENCE;
    while receiver.told().len() == before {
        assert!(Instant::now() < until, "nothing told");
        std::thread::sleep(Duration::from_millis(100));
    }
    let told = receiver.told()[before].clone();
    let wanted =
        json!({"services": [{"media": {"gc": {"items_deleted": 1, "status": "complete"}}}]});
    assert_eq!(told, wanted);
    assert_eq!(
        bench
            .json(&["-o", "/dev/null"], &format!("/v1/media/{old}"))
            .0,
        404
    );
    assert_eq!(
        bench
            .json(&["-o", "/dev/null"], &format!("/v1/media/{new}"))
            .0,
        200
    );
}

/// A master or coreapp that is killed has `errors` in health and statistics; `dev` starts it again.
fn a_dead_node_has_errors(bench: &Bench) {
    let all = bench.until("calm", "/v1/health", |h| {
        !h["health"].to_string().contains("errors")
    });
    let nodes = all["health"].as_object().expect("nodes");
    assert_eq!(nodes.len(), 5, "{all}");
    let roles = |role: &str| nodes.values().filter(|node| node["role"] == role).count();
    assert_eq!((roles("coreapp"), roles("primary_master")), (3, 1), "{all}");
    let owned = owners(&status(&bench.dev));
    let standby = nodes
        .iter()
        .find(|(name, node)| node["role"] == "coreapp" && !owned.contains(name));
    let (standby, _) = standby.expect("a standby");
    // It stands still: whoever is killed is started again at once.
    let pid = bench.process(standby);
    kill(pid, Signal::SIGSTOP).expect("stopped");
    let health = bench.until("told", "/v1/health", |h| {
        h["health"][standby]["errors"].is_array()
    });
    assert_eq!(
        health["health"][standby]["errors"][0]["code"], 1011,
        "{health}"
    );
    assert!(health["health"][standby]["role"].is_null(), "{health}");
    let stats = bench.until("told", "/v1/stats/app", |s| {
        s["stats"]["app"][standby]["errors"].is_array()
    });
    let owner = &stats["stats"]["app"][&owned[0]];
    assert!(
        owner["callback_requests"]["data"][0]["value"]
            .as_u64()
            .is_some(),
        "{stats}"
    );
    kill(pid, Signal::SIGCONT).expect("goes on");
    bench.until("well", "/v1/health", |h| {
        h["health"][standby]["role"] == "coreapp"
    });
}
