//! What open consoles cost, by hand: memory of a webapp with ten of them beside none, and messages accepted beside none in the same run.
//! Asserts nothing about time: it prints figures. Run by `cargo xtask bench console`.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::cluster::{Dev, FIRST, PASSWORD};

/// Open consoles, and the pages that they show, in turn.
const CONSOLES: usize = 10;
const PAGES: [&str; 3] = ["cluster", "timeline", "messages"];
/// People who send, one message after the other.
const SENDERS: u32 = 32;
/// One part of a round, and how long open consoles have to get going before it counts.
const PART: Duration = Duration::from_secs(10);
const SETTLE: Duration = Duration::from_secs(2);
/// Rounds, unless `WA_BENCH_ROUNDS` says otherwise.
const ROUNDS: usize = 6;

type Http = Client<HttpConnector, Full<Bytes>>;

fn http() -> Http {
    Client::builder(TokioExecutor::new()).build(HttpConnector::new())
}

/// Sends until the stop, and counts what was accepted.
async fn send(
    n: u32,
    url: String,
    token: String,
    (stop, accepted): (Arc<AtomicBool>, Arc<AtomicU64>),
) {
    let (http, mut count) = (http(), 0u32);
    let text = "x".repeat(200);
    while !stop.load(Ordering::Acquire) {
        count += 1;
        let to = n
            .wrapping_mul(1_000_003)
            .wrapping_add(count.wrapping_mul(7919))
            % 100_000_000;
        let body = json!({"to": format!("4477{to:08}"), "type": "text", "text": {"body": text}});
        let request = Request::post(format!("{url}/v1/messages"))
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .body(Full::from(body.to_string()))
            .expect("a request");
        let Ok(answer) = http.request(request).await else {
            continue;
        };
        let good = answer.status().is_success();
        if answer.into_body().collect().await.is_ok() && good {
            accepted.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// One console that is kept fresh until the task is ended; counts what it is told.
async fn console(n: usize, url: String, token: String, events: Arc<AtomicU64>) {
    let page = PAGES[n % PAGES.len()];
    let request = Request::get(format!("{url}/console/live?page={page}"))
        .header("cookie", format!("wa-console={token}"))
        .body(Full::default())
        .expect("a request");
    let answer = http().request(request).await.expect("an answer");
    assert_eq!(answer.status(), 200);
    let mut body = answer.into_body();
    while let Some(Ok(frame)) = body.frame().await {
        if frame.data_ref().is_some() {
            events.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn consoles(dev: &Dev, token: &str, events: &Arc<AtomicU64>) -> Vec<JoinHandle<()>> {
    let open = |n| {
        tokio::spawn(console(
            n,
            dev.url.clone(),
            token.to_owned(),
            Arc::clone(events),
        ))
    };
    (0..CONSOLES).map(open).collect()
}

/// Memory of a process that is in RAM, in KiB.
fn resident_kib(process: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.expect("a number")
}

/// Messages a second of one part.
async fn part(accepted: &AtomicU64) -> f64 {
    let (before, begun) = (accepted.load(Ordering::Relaxed), Instant::now());
    tokio::time::sleep(PART).await;
    let took = begun.elapsed().as_secs_f64();
    (accepted.load(Ordering::Relaxed) - before) as f64 / took
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of.get(of.len() / 2).copied().unwrap_or_default()
}

/// Goal: figures of what ten open consoles cost. Method: a cluster on a private MariaDB; the memory of the webapp in which they are open,
/// without traffic, before and after; then senders that never pause, and parts with and without the consoles in turn, the order turned
/// round each time. The ratio is the median over the pairs.
#[test]
#[ignore = "measured by hand: cargo xtask bench console"]
fn figures() {
    let dev = Dev::start(
        "bench-console",
        &["--database", "mariadb", "--profile", "standard"],
    );
    dev.until("ready: primary");
    dev.token((FIRST, &json!({ "new_password": PASSWORD })));
    let token = dev.token((PASSWORD, &json!({})));
    let rounds = std::env::var("WA_BENCH_ROUNDS").ok();
    let rounds = rounds.and_then(|n| n.parse().ok()).unwrap_or(ROUNDS);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let found = runtime
        .expect("a runtime")
        .block_on(measure(&dev, &token, rounds));
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/bench");
    std::fs::create_dir_all(&path).expect("a directory");
    std::fs::write(path.join("console.json"), format!("{found:#}")).expect("written");
    println!("{found:#}");
    println!("written: target/bench/console.json");
    assert!(
        found["events"].as_u64() > Some(0),
        "the consoles were told nothing"
    );
    assert!(
        found["without_per_second"].as_f64() > Some(0.0),
        "nothing was accepted"
    );
}

async fn measure(dev: &Dev, token: &str, rounds: usize) -> Value {
    let webapp = dev.process("webapp-1").expect("a webapp");
    let events = Arc::new(AtomicU64::new(0));
    tokio::time::sleep(SETTLE * 5).await;
    let alone_kib = resident_kib(webapp);
    let open = consoles(dev, token, &events);
    tokio::time::sleep(PART * 2).await;
    let open_kib = resident_kib(webapp);
    open.iter().for_each(JoinHandle::abort);

    let (stop, accepted) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let sender = |n| {
        tokio::spawn(send(
            n,
            dev.url.clone(),
            token.to_owned(),
            (Arc::clone(&stop), Arc::clone(&accepted)),
        ))
    };
    let senders: Vec<_> = (0..SENDERS).map(sender).collect();
    tokio::time::sleep(SETTLE).await;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        // The order is turned round, so that a machine that gets slower counts for neither.
        for opens in [round % 2 == 0, round % 2 == 1] {
            let open = if opens {
                consoles(dev, token, &events)
            } else {
                Vec::new()
            };
            tokio::time::sleep(SETTLE).await;
            let rate = part(&accepted).await;
            if opens {
                with.push(rate)
            } else {
                without.push(rate)
            }
            open.iter().for_each(JoinHandle::abort);
        }
    }
    let loaded_kib = resident_kib(webapp);
    stop.store(true, Ordering::Release);
    for sender in senders {
        let _ = tokio::time::timeout(PART, sender).await;
    }
    let ratios = without
        .iter()
        .zip(&with)
        .map(|(without, with)| with / without);
    let ratio = median(ratios.collect());
    json!({
        "consoles": CONSOLES, "senders": SENDERS, "rounds": rounds, "events": events.load(Ordering::Relaxed),
        "resident_kib_without": alone_kib, "resident_kib_with": open_kib, "resident_kib_after_load": loaded_kib,
        "without_per_second": median(without.clone()), "with_per_second": median(with.clone()),
        "parts_without": without, "parts_with": with, "ratio": ratio,
    })
}
