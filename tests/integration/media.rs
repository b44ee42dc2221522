//! Media as a business uses it, against a whole cluster: files in and out, messages that carry them, files of customers,
//! and what happens when the shared directory goes: a primary moves to a coreapp whose directory works, texts never stop.

// A test waits for a process by the clock of its own; nothing decides by it.
#![allow(clippy::disallowed_methods)]

use std::path::PathBuf;
use std::process::Command;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::dev::{Dev, owner, status, status_until};
use crate::drill::{TURN, port, request};

const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster, and a user who is logged in.
pub struct Bench {
    pub dev: Dev,
    pub webapp: u16,
    pub simulator: u16,
    pub token: String,
}

/// What a person needs to call the webapp, on any thread.
#[derive(Clone)]
pub struct Api {
    webapp: u16,
    token: String,
}

impl Api {
    /// The status and the body of a call.
    pub fn curl(&self, words: &[&str], path: &str) -> (u16, Vec<u8>) {
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
        (status.unwrap_or(0), output.stdout)
    }

    fn json(&self, words: &[&str], path: &str) -> (u16, Value) {
        let (status, body) = self.curl(words, path);
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    pub fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.json(&["-d", &body.to_string()], path)
    }

    pub fn get(&self, path: &str) -> (u16, Value) {
        self.json(&[], path)
    }
}

impl Bench {
    /// For calls on other threads.
    pub fn api(&self) -> Api {
        Api {
            webapp: self.webapp,
            token: self.token.clone(),
        }
    }

    /// The same through another webapp of the cluster.
    pub fn api_at(&self, webapp: u16) -> Api {
        Api {
            webapp: self.webapp + webapp - 1,
            token: self.token.clone(),
        }
    }

    pub fn start() -> Self {
        Self::with(&[])
    }

    /// With more words on the command line of `dev`.
    pub fn with(more: &[&str]) -> Self {
        let webapp = port();
        let mut dev = Dev::with(webapp, more);
        dev.until("Ctrl-C");
        let line = dev
            .seen
            .iter()
            .find_map(|l| l.split("upstream   http://127.0.0.1:").nth(1));
        let simulator = line
            .and_then(|l| l.split(' ').next()?.parse().ok())
            .expect("the upstream's port");
        dev.until("ready: primary");
        let mut bench = Self {
            dev,
            webapp,
            simulator,
            token: String::new(),
        };
        let password = r#"{"new_password":"Try-it-0ut!"}"#;
        let (_, login) = bench.curl(&["-u", "admin:secret", "-d", password], "/v1/users/login");
        let login: Value = serde_json::from_slice(&login).expect("JSON");
        login["users"][0]["token"]
            .as_str()
            .expect("a token")
            .clone_into(&mut bench.token);
        bench
    }

    /// The status and the body of a call to the webapp.
    pub fn curl(&self, words: &[&str], path: &str) -> (u16, Vec<u8>) {
        self.api().curl(words, path)
    }

    pub fn json(&self, words: &[&str], path: &str) -> (u16, Value) {
        self.api().json(words, path)
    }

    /// The same through another webapp of the cluster.
    pub fn json_at(&self, webapp: u16, words: &[&str], path: &str) -> (u16, Value) {
        self.with_token(webapp, &self.token, words, path)
    }

    /// The same with another user's token.
    pub fn with_token(&self, webapp: u16, token: &str, words: &[&str], path: &str) -> (u16, Value) {
        let api = Api {
            webapp: self.webapp + webapp - 1,
            token: token.to_owned(),
        };
        api.json(words, path)
    }

    /// The token of a user; `None`: refused.
    pub fn login(&self, user: &str, password: &str) -> Option<String> {
        let user = format!("{user}:{password}");
        let words = ["-u", &user, "-X", "POST"];
        let (_, login) = self.with_token(1, "", &words, "/v1/users/login");
        Some(login["users"][0]["token"].as_str()?.to_owned())
    }

    fn upload(&self, file: &std::path::Path, mime: &str) -> (u16, Value) {
        let data = format!("@{}", file.display());
        let kind = format!("Content-Type: {mime}");
        self.json(&["-H", &kind, "--data-binary", &data], "/v1/media")
    }

    pub fn get(&self, path: &str) -> (u16, Value) {
        self.json(&[], path)
    }

    pub fn put(&self, path: &str, body: &Value) -> (u16, Value) {
        self.json(&["-X", "PUT", "-d", &body.to_string()], path)
    }

    pub fn send(&self, message: &Value) -> (u16, Value) {
        self.json(&["-d", &message.to_string()], "/v1/messages")
    }

    pub fn send_text(&self, message: &str) -> (u16, Value) {
        self.json(&["--data-binary", message], "/v1/messages")
    }

    /// The upstream's id of a message of ours, as the store has it.
    pub fn upstream_id(&self, ours: &str) -> String {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let database = format!("sqlite://{}", self.link("wa.db").display());
        runtime.block_on(async {
            let store = crate::store::Store::open(crate::store::settings(vec![database])).await;
            let until = Instant::now() + PATIENCE;
            loop {
                // Written a moment after the answer.
                let found = store.db.named("", ours).await.expect("read");
                if let wa_agent::db::message_id::Named::Sent(id) = found {
                    return id;
                }
                assert!(Instant::now() < until, "{ours}: {found:?}");
                std::thread::sleep(Duration::from_millis(20));
            }
        })
    }

    pub fn upstream(&self, path: &str) -> Value {
        let answer = request(
            [127, 0, 0, 1],
            self.simulator,
            &format!("GET {path} HTTP/1.1"),
            "",
        );
        let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
        serde_json::from_str(body.trim()).unwrap_or_default()
    }

    /// Asks the upstream until it is as wanted.
    pub fn upstream_until(&self, what: &str, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            let found = self.upstream(path);
            if wanted(&found) {
                return found;
            }
            assert!(Instant::now() < until, "not {what}: {found}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A person's statement on the embedded database; how many rows it changed.
    pub fn sql(&self, statement: &str) -> u64 {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let database = format!("sqlite://{}", self.link("wa.db").display());
        runtime.block_on(async {
            use sqlx::Connection as _;
            let connection = sqlx::SqliteConnection::connect(&database).await;
            let mut connection = connection.expect("opened");
            let busy = sqlx::raw_sql("PRAGMA busy_timeout=10000").execute(&mut connection);
            busy.await.expect("set");
            let statement = sqlx::AssertSqlSafe(statement.to_owned());
            let done = sqlx::raw_sql(statement).execute(&mut connection).await;
            done.expect("written").rows_affected()
        })
    }

    fn link(&self, name: &str) -> PathBuf {
        self.dev.state.path().join("dev").join(name)
    }

    /// Takes the shared directory away from a coreapp, or gives it back.
    fn cut(&self, coreapp: &str, on: bool) {
        let link = self.link(&format!("media-of-{coreapp}"));
        if on {
            std::fs::remove_file(link).expect("cut");
        } else {
            std::os::unix::fs::symlink("media", link).expect("mended");
        }
    }
}

pub fn have_curl() -> bool {
    let have = Command::new("curl").arg("--version").output().is_ok();
    if !have {
        crate::skipped("media", "curl is not installed");
    }
    have
}

fn text(body: &str) -> Value {
    json!({"to": "447700900123", "text": {"body": body}})
}

/// Goal: a large file goes in, comes out and goes upstream byte by byte as it was; a customer's file arrives; what is
/// deleted is gone. Method: 20 MB of noise, digests on every side.
#[test]
fn files_travel_whole() {
    if !have_curl() {
        return;
    }
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let bench = Bench::start();
    let mut noise = Vec::with_capacity(20_000_000);
    let mut block = Sha256::digest(b"seed").to_vec();
    while noise.len() < 20_000_000 {
        block = Sha256::digest(&block).to_vec();
        noise.extend_from_slice(&block);
    }
    let digest = hex::encode(Sha256::digest(&noise));
    let file = bench.link("noise.pdf");
    std::fs::write(&file, &noise).expect("written");

    let (code, answer) = bench.upload(&file, "application/pdf");
    assert_eq!(code, 201, "{answer}");
    let id = answer["media"][0]["id"].as_str().expect("an id").to_owned();
    let path = format!("/v1/media/{id}");
    let (code, back) = bench.curl(&[], &path);
    assert!(code == 200 && back == noise, "{code}, {} bytes", back.len());
    let (_, head) = bench.curl(&["-I"], &path);
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    assert!(
        head.contains(&format!("content-length: {}", noise.len())),
        "{head}"
    );
    assert!(head.contains("content-type: application/pdf"), "{head}");

    let message = |id: &str| json!({"to": "447700900123", "type": "document", "document": {"id": id, "filename": "n.pdf"}});
    let (code, sent) = bench.send(&message(&id));
    assert_eq!(code, 201, "{sent}");
    let wanted = |shelf: &Value| shelf.to_string().contains(&digest);
    bench.upstream_until("uploaded", "/admin/media", wanted);
    let ours = sent["messages"][0]["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    bench.upstream_until("sent", "/admin/ids", |ids| ids.to_string().contains(&ours));
    // A second message with the same file: the upstream has it.
    bench.send(&message(&id));
    bench.upstream_until("sent again", "/admin/report", |r| r["accepted"] == 2);
    let shelf = bench.upstream("/admin/media");
    assert_eq!(
        shelf.as_object().map(serde_json::Map::len),
        Some(1),
        "{shelf}"
    );

    let (code, refused) =
        bench.send(&json!({"to": "447700900123", "type": "image", "image": {"id": id}}));
    assert_eq!(
        (code, &refused["errors"][0]["code"]),
        (400, &json!(1009)),
        "{refused}"
    );
    assert_eq!(bench.curl(&["-X", "DELETE"], &path).0, 200);
    assert_eq!(bench.curl(&[], &path).0, 404);
    assert_eq!(bench.send(&message(&id)).0, 404);

    a_customers_file_arrives(&bench);
}

fn a_customers_file_arrives(bench: &Bench) {
    let url = format!("http://127.0.0.1:{}/business", bench.simulator);
    settings(bench, &url);
    let given = json!({"from": "447700900456", "media": {"kind": "image", "mime": "image/png", "base64": BASE64_STANDARD.encode("a picture")}});
    let head = "POST /admin/inbound HTTP/1.1";
    request([127, 0, 0, 1], bench.simulator, head, &given.to_string());
    let told = bench.upstream_until("told", "/admin/last-inbound", |m| {
        m["messages"][0]["image"].is_object()
    });
    let id = told["messages"][0]["image"]["id"].as_str();
    let id = id.unwrap_or_else(|| panic!("no file: {told}"));
    let (code, picture) = bench.curl(&[], &format!("/v1/media/{id}"));
    assert_eq!((code, picture.as_slice()), (200, b"a picture".as_slice()));
}

/// The address of the business, over the store: the API itself wants https.
pub fn settings(bench: &Bench, url: &str) {
    apply(bench, &json!({"webhooks": {"url": url}}));
}

/// The application settings are these from now on.
pub fn apply(bench: &Bench, settings: &Value) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let embedded = bench.link("wa.db");
    let database = match embedded.exists() {
        true => format!("sqlite://{}", embedded.display()),
        // Where `dev` starts its MariaDB.
        false => format!("mysql://root@127.0.0.1:{}/wa", 6210 + (bench.webapp - 9090)),
    };
    runtime.block_on(async {
        let store = crate::store::Store::open(crate::store::settings(vec![database])).await;
        let (version, _) = store.db.setting("application").await.expect("read");
        let value = settings.to_string();
        let stored = store.db.store_setting("application", version, &value).await;
        assert!(stored.expect("written"));
    });
}

/// Goal: a primary whose directory goes is replaced while the standby's works; where none works, texts go on, media calls
/// answer the documented error, and status says where and what to type. Method: every coreapp reaches the directory by
/// a link of its own; the links are cut one after the other.
#[test]
fn a_primary_without_its_media_moves_and_texts_go_on() {
    if !have_curl() {
        return;
    }
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let bench = Bench::start();
    let short = |node: String| node.rsplit(':').next().unwrap_or_default().to_owned();
    let both = |s: &Value| {
        let health = |n: &Value| n["health"].to_string().contains("media");
        let nodes = s["nodes"].as_array().into_iter().flatten();
        nodes
            .filter(|n| n["role"] == "coreapp" && health(n))
            .count()
            == 2
    };
    let before = status_until(&bench.dev, "both well", both);
    let first = owner(&before).expect("an owner");
    let cut = short(first.clone());
    bench.cut(&cut, true);
    let moved = status_until(&bench.dev, "moved", |s| {
        s["shards"][0]["phase"] == "active" && owner(s).is_some_and(|o| o != first)
    });
    let decided = moved["decisions"].to_string();
    assert!(decided.contains("MediaStalled"), "{decided}");
    let told = status_until(&bench.dev, "said", |s| {
        s["problems"].to_string().contains("does not exist")
    });
    assert!(told["problems"].to_string().contains(&first), "{told}");

    let second = short(owner(&moved).expect("an owner"));
    bench.cut(&second, true);
    status_until(&bench.dev, "both ill", |s| {
        let nodes = s["nodes"].as_array().into_iter().flatten();
        let ill =
            nodes.filter(|n| n["role"] == "coreapp" && !n["health"].to_string().contains("media"));
        ill.count() == 2
    });
    let (code, sent) = bench.send(&text("goes on"));
    assert_eq!(code, 201, "{sent}");
    let ours = sent["messages"][0]["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    bench.upstream_until("sent", "/admin/ids", |ids| ids.to_string().contains(&ours));
    let still = status(&bench.dev);
    assert_eq!(owner(&still).map(short).as_ref(), Some(&second), "{still}");

    let (media, gone) = (bench.link("media"), bench.link("media-gone"));
    std::fs::rename(&media, &gone).expect("gone");
    let file = bench.link("small.txt");
    std::fs::write(&file, "hello").expect("written");
    media_calls_are_refused(&bench, &file);
    assert_eq!(bench.send(&text("still")).0, 201);

    std::fs::rename(&gone, &media).expect("back");
    bench.cut(&cut, false);
    bench.cut(&second, false);
    status_until(&bench.dev, "healed", |s| {
        both(s) && s["problems"] == json!([])
    });
    let (_, health) = bench.json(&[], "/v1/health");
    assert_eq!(
        health["health"][&first]["media"]["status"], "ok",
        "{health}"
    );
    assert_eq!(bench.upload(&file, "text/plain").0, 201);
}

/// The webapp's own way is cut as well: now nobody has media.
fn media_calls_are_refused(bench: &Bench, file: &std::path::Path) {
    let until = Instant::now() + PATIENCE;
    let refused = loop {
        let (code, answer) = bench.upload(file, "text/plain");
        if code == 503
            && answer["errors"][0]["details"]
                .to_string()
                .contains("missing")
        {
            break answer;
        }
        assert!(Instant::now() < until, "{code}: {answer}");
    };
    assert_eq!(refused["errors"][0]["code"], 1011);
}
