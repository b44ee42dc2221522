//! A million webhooks that wait, on a private MariaDB: what they cost a coreapp in memory, and whether messages are sent as before.
//! Method: the same traffic with the business away and nothing waiting, with the business away and a million rows, and with a
//! business that refuses each of them; then it takes them. Run by `cargo xtask bench pending`, which prints the figures; small
//! in the test command, on counts.

// A test waits for a process by the clock of its own; nothing decides by it.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use bytes::Bytes;
use http_body_util::Full;
use serde_json::{Value, json};
use wa_agent::net::client::OutsideClient;

use super::{Dev, owner, status, status_until};
use crate::drill::{TURN, port, request};
use crate::media::have_curl;
use crate::store::{Store, by_hand, settings};
use crate::{mariadb, skipped};

const PATIENCE: Duration = Duration::from_secs(120);
/// People who send, one message after the other.
const SENDERS: u64 = 24;

/// What the business answers, and what it took.
#[derive(Default)]
struct Business {
    answer: AtomicU16,
    taken: AtomicU64,
    refused: AtomicU64,
    /// The last row of each customer, and how often one came behind a later one.
    last: Mutex<BTreeMap<u64, u64>>,
    out_of_order: AtomicU64,
}

async fn hook(State(business): State<Arc<Business>>, body: Bytes) -> StatusCode {
    let answer = StatusCode::from_u16(business.answer.load(Ordering::SeqCst));
    let answer = answer.unwrap_or(StatusCode::OK);
    if answer != StatusCode::OK {
        business.refused.fetch_add(1, Ordering::SeqCst);
        return answer;
    }
    let value: Value = serde_json::from_slice(&body).unwrap_or_default();
    if let (Some(customer), Some(n)) = (value["customer"].as_u64(), value["n"].as_u64()) {
        let mut last = business.last.lock().unwrap_or_else(PoisonError::into_inner);
        let before = last.insert(customer, n);
        if before.is_some_and(|before| before > n) {
            business.out_of_order.fetch_add(1, Ordering::SeqCst);
        }
    }
    business.taken.fetch_add(1, Ordering::SeqCst);
    answer
}

/// A cluster on MariaDB, and what was measured of it.
struct Bench {
    dev: Dev,
    runtime: tokio::runtime::Runtime,
    webapp: u16,
    simulator: u16,
    database: String,
    token: String,
    business: Arc<Business>,
    url: String,
    figures: Vec<(String, f64)>,
}

impl Bench {
    fn start() -> Self {
        let webapp = port();
        let mut dev = Dev::with(webapp, &["--database", "mariadb", "--rate", "2000"]);
        dev.until("Ctrl-C");
        let line = dev
            .seen
            .iter()
            .find_map(|l| l.split("upstream   http://127.0.0.1:").nth(1));
        let simulator = line
            .and_then(|l| l.split(' ').next()?.parse().ok())
            .expect("the upstream's port");
        dev.until("ready: primary");
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let business = Arc::<Business>::default();
        let router = Router::new()
            .route("/hook", post(hook))
            .with_state(Arc::clone(&business));
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"));
        let listener = listener.expect("a port");
        let receiver = listener.local_addr().expect("bound").port();
        runtime.spawn(async move { axum::serve(listener, router).await });
        let server = 6210 + (webapp - 9090);
        let mut bench = Self {
            dev,
            runtime,
            webapp,
            simulator,
            database: format!("mysql://wa@127.0.0.1:{server}/wa"),
            token: String::new(),
            business,
            url: format!("http://127.0.0.1:{receiver}/hook"),
            figures: Vec::new(),
        };
        let login = bench.runtime.block_on(bench.call(
            "/v1/users/login",
            "Basic YWRtaW46c2VjcmV0",
            r#"{"new_password":"Try-it-0ut!"}"#.into(),
        ));
        let token = login.1["users"][0]["token"].as_str().expect("a token");
        bench.token = format!("Bearer {token}");
        bench
    }

    fn call(
        &self,
        path: &str,
        authorization: &str,
        body: String,
    ) -> impl Future<Output = (u16, Value)> + use<> {
        let client = OutsideClient::new(Duration::from_secs(2), 1);
        let request = http::Request::post(format!("http://127.0.0.1:{}{path}", self.webapp))
            .header("content-type", "application/json")
            .header("authorization", authorization)
            .body(Full::new(Bytes::from(body)))
            .expect("a request");
        async move {
            let answer = client.call(request, Duration::from_secs(10)).await;
            let answer = answer.expect("an answer");
            let body = serde_json::from_slice(answer.body()).unwrap_or_default();
            (answer.status().as_u16(), body)
        }
    }

    /// Webhooks go there from now on.
    fn tell(&self, url: &str) {
        self.runtime.block_on(async {
            let store = Store::open(settings(vec![self.database.clone()])).await;
            let (version, _) = store.db.setting("application").await.expect("read");
            let value = json!({"webhooks": {"url": url}, "max_callback_backoff_delay_ms": 30_000});
            let value = value.to_string();
            let stored = store.db.store_setting("application", version, &value).await;
            assert!(stored.expect("written"));
            let wanted = version + 1;
            status_until(&self.dev, "read", |s| s["settings_version"] == wanted);
        });
    }

    /// Rows as they would wait: customers with a few each, statuses and messages.
    fn fill(&self, rows: u64) {
        const PART: u64 = 50_000;
        let customers = (rows / 3).max(1);
        self.runtime.block_on(async {
            let mut connection = by_hand(&self.database).await;
            for from in (0..rows).step_by(usize::try_from(PART).expect("small")) {
                let to = (from + PART).min(rows);
                let sql = format!(
                    "SET SESSION max_recursive_iterations=100000; \
                     INSERT INTO webhook (event_key, recipient_hash, payload, next_ms) \
                     WITH RECURSIVE n(i) AS (SELECT {from} UNION ALL SELECT i+1 FROM n WHERE i+1<{to}) \
                     SELECT CONCAT('fill', i), CRC32(i*7919 % {customers}) & 2147483647, \
                     CONCAT('{{\"customer\":', i*7919 % {customers}, ',\"n\":', i, IF(i%5=0, ',\"contacts\":[', ',\"statuses\":['), \
                     '{{\"id\":\"gBGGFlA5FpafAgkOuJbRq54qwbM', i, '\",\"recipient_id\":\"447700900456\",\"status\":\"delivered\",\
                     \"timestamp\":\"1893456001\",\"conversation\":{{\"id\":\"c0ffee01\",\"origin\":{{\"type\":\"utility\"}}}},\
                     \"text\":\"', REPEAT('x', i%5*80), '\"}}]}}'), 1 FROM n"
                );
                let sql = sqlx::AssertSqlSafe(sql);
                let filled = sqlx::raw_sql(sql).execute(&mut connection).await;
                filled.expect("filled");
            }
        });
    }

    /// Messages a second that were accepted and sent, with so many people who send for so long.
    fn sends(&self, span: Duration) -> f64 {
        let before = self.sent();
        let began = Instant::now();
        let stop = Arc::new(AtomicBool::new(false));
        let accepted = Arc::new(AtomicU64::new(0));
        let senders = (0..SENDERS).map(|sender| {
            let (stop, accepted) = (Arc::clone(&stop), Arc::clone(&accepted));
            let (webapp, token) = (
                self.webapp + u16::try_from(sender % 2).expect("small"),
                self.token.clone(),
            );
            self.runtime.spawn(async move {
                let client = OutsideClient::new(Duration::from_secs(2), 1);
                let mut n = 0;
                while !stop.load(Ordering::SeqCst) {
                    n += 1;
                    // Nobody is written to so often that the upstream minds.
                    let to = format!("4477{:08}", sender * 1_000_000 + n);
                    let body = json!({"to": to, "text": {"body": "hello"}}).to_string();
                    let request =
                        http::Request::post(format!("http://127.0.0.1:{webapp}/v1/messages"))
                            .header("content-type", "application/json")
                            .header("authorization", &token)
                            .body(Full::new(Bytes::from(body)))
                            .expect("a request");
                    let answer = client.call(request, Duration::from_secs(10)).await;
                    let answer = answer.expect("an answer");
                    assert_eq!(answer.status(), 201);
                    accepted.fetch_add(1, Ordering::SeqCst);
                }
            })
        });
        let senders: Vec<_> = senders.collect();
        std::thread::sleep(span);
        stop.store(true, Ordering::SeqCst);
        for sender in senders {
            self.runtime.block_on(sender).expect("all were taken");
        }
        let all = accepted.load(Ordering::SeqCst);
        while self.sent() - before < all {
            assert!(began.elapsed() < span + PATIENCE, "not all are sent");
            std::thread::sleep(Duration::from_millis(20));
        }
        all as f64 / began.elapsed().as_secs_f64()
    }

    /// Messages that the upstream has taken.
    fn sent(&self) -> u64 {
        let head = "GET /admin/report HTTP/1.1";
        let answer = request([127, 0, 0, 1], self.simulator, head, "");
        let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
        let report: Value = serde_json::from_str(body.trim()).unwrap_or_default();
        report["unique"].as_u64().unwrap_or(0)
    }

    /// Own memory of the owner, MB.
    fn memory(&self) -> f64 {
        let name = owner(&status(&self.dev)).expect("an owner");
        let instance = name.rsplit('-').next().unwrap_or_default().to_owned();
        let own = |pid: &i32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words: Vec<&[u8]> = line.split(|b| *b == 0).collect();
            words.contains(&b"coreapp".as_slice()) && words.contains(&instance.as_bytes())
        };
        let pid = self.dev.processes().into_iter().find(own);
        let text = std::fs::read_to_string(format!("/proc/{}/status", pid.expect("its process")));
        let text = text.expect("read");
        let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        kib.expect("a number") / 1024.0
    }

    /// Rows that wait, counted by a person.
    fn waiting(&self) -> u64 {
        self.runtime.block_on(async {
            let store = Store::open(settings(vec![self.database.clone()])).await;
            store.db.webhook_depth().await.expect("read")
        })
    }

    fn note(&mut self, what: &str, value: f64) {
        println!("{what}: {value:.2}");
        self.figures.push((what.into(), value));
    }

    fn figure(&self, what: &str) -> f64 {
        let found = self.figures.iter().find(|(name, _)| name == what);
        found.expect("measured").1
    }
}

/// All of it, with so many rows and so long in each phase.
fn run(rows: u64, span: Duration) -> Bench {
    let mut bench = Bench::start();
    // Warm: the first messages fill pools and caches.
    bench.tell("http://127.0.0.1:9/away");
    bench.sends(span);
    bench.note("memory idle, MB", bench.memory());
    let calm = bench.sends(span);
    bench.note(
        "messages a second, the business away, nothing waits before",
        calm,
    );
    bench.fill(rows);
    let waiting = bench.waiting();
    assert!(waiting >= rows, "{waiting} wait");
    let away = bench.sends(span);
    bench.note("the same with all rows waiting", away);
    bench.note("memory with all rows waiting, MB", bench.memory());
    bench.business.answer.store(500, Ordering::SeqCst);
    let url = bench.url.clone();
    bench.tell(&url);
    let until = Instant::now() + PATIENCE;
    while bench.business.refused.load(Ordering::SeqCst) == 0 {
        assert!(Instant::now() < until, "nothing is told there");
        std::thread::sleep(Duration::from_millis(20));
    }
    let refusing = bench.sends(span);
    bench.note("the same while each is refused", refusing);
    bench.note(
        "refusals",
        bench.business.refused.load(Ordering::SeqCst) as f64,
    );
    bench.note("memory while each is refused, MB", bench.memory());
    bench.business.answer.store(200, Ordering::SeqCst);
    let taken = || bench.business.taken.load(Ordering::SeqCst);
    let (before, began) = (taken(), Instant::now());
    while began.elapsed() < span.max(Duration::from_secs(40)) && bench.waiting() > 0 {
        std::thread::sleep(Duration::from_millis(500));
    }
    let rate = (taken() - before) as f64 / began.elapsed().as_secs_f64();
    bench.note("webhooks taken a second afterwards", rate);
    bench.note("memory while they are taken, MB", bench.memory());
    let behind = bench.business.out_of_order.load(Ordering::SeqCst);
    assert_eq!(behind, 0, "out of order");
    bench
}

fn missing() -> Option<String> {
    mariadb::missing().or_else(|| (!have_curl()).then(|| "curl is not installed".to_owned()))
}

/// The whole story with few rows: the million costs minutes.
#[test]
fn what_waits_is_taken_in_order_in_the_end() {
    if let Some(why) = missing() {
        return skipped("webhooks that wait", &why);
    }
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let bench = run(5_000, Duration::from_secs(3));
    assert_eq!(bench.waiting(), 0, "all are taken");
    let refusals = bench.figure("refusals");
    assert!(refusals > 500.0, "{refusals} refusals");
}

#[test]
#[ignore = "a benchmark: cargo xtask bench pending"]
fn figures() {
    if let Some(why) = missing() {
        return skipped("a million webhooks that wait", &why);
    }
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let bench = run(1_000_000, Duration::from_secs(20));
    let calm = bench.figure("messages a second, the business away, nothing waits before");
    let away = bench.figure("the same with all rows waiting") / calm;
    let refusing = bench.figure("the same while each is refused") / calm;
    let idle = bench.figure("memory idle, MB");
    let more = bench.figure("memory with all rows waiting, MB") - idle;
    let most = bench.figure("memory while each is refused, MB") - idle;
    println!("ratio away {away:.2}, refusing {refusing:.2}; memory +{more:.1} MB, +{most:.1} MB");
    assert!(away >= 0.9, "sending is hindered: {away:.2}");
    assert!(
        more <= 30.0 && most <= 30.0,
        "memory: {more:.1}, {most:.1} MB"
    );
}
