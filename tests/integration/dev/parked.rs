//! A webhook that the business refuses for too long, through the real processes. Goal: it is parked, told, listed without its words,
//! holds up nobody, and comes back or goes by the operator's verbs; webhooks are signed. Method: a receiver that refuses one customer
//! and checks signatures; a row that is made a week old by hand.

// A test waits for a process by the clock of its own; nothing decides by it.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::post;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};

use super::{status_until, verb};
use crate::drill::TURN;
use crate::media::{Bench, apply, have_curl};

const PATIENCE: Duration = Duration::from_secs(60);
const SECRET: &str = "a-secret-of-the-business";
const REFUSED: &str = "447700900001";
const OTHER: &str = "447700900002";

#[derive(Default)]
struct Book {
    refuses: bool,
    /// Statuses that were taken: message and word.
    taken: BTreeSet<(String, String)>,
    refusals: usize,
    /// What was sent elsewhere by a redirect, which nobody may follow.
    followed: usize,
    unsigned: usize,
}

type Shared = Arc<Mutex<Book>>;

fn lock(book: &Shared) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn hook(State(book): State<Shared>, headers: HeaderMap, body: axum::body::Bytes) -> Response {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(SECRET.as_bytes()).expect("any key");
    mac.update(&body);
    let wanted = format!("sha256={}", hex::encode(mac.finalize().into_bytes()));
    let value: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut book = lock(&book);
    let given = headers.get("x-wa-agent-signature");
    if given.is_none_or(|given| given != wanted.as_str()) {
        book.unsigned += 1;
    }
    for status in value["statuses"].as_array().into_iter().flatten() {
        let text = |name: &str| status[name].as_str().unwrap_or_default().to_owned();
        if book.refuses && text("recipient_id") == REFUSED {
            book.refusals += 1;
            // Each way of not being 200 is a refusal.
            return match book.refusals % 4 {
                0 => StatusCode::NO_CONTENT.into_response(),
                1 => Redirect::temporary("/elsewhere").into_response(),
                2 => StatusCode::ACCEPTED.into_response(),
                _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
            };
        }
        book.taken.insert((text("id"), text("status")));
    }
    StatusCode::OK.into_response()
}

async fn elsewhere(State(book): State<Shared>) -> StatusCode {
    lock(&book).followed += 1;
    StatusCode::OK
}

fn receiver() -> (tokio::runtime::Runtime, Shared, String) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let book = Shared::default();
    let router = Router::new()
        .route("/hook", post(hook))
        .route("/elsewhere", post(elsewhere).get(elsewhere))
        .with_state(Arc::clone(&book));
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"));
    let listener = listener.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    runtime.spawn(async move { axum::serve(listener, router).await });
    (runtime, book, format!("http://127.0.0.1:{port}/hook"))
}

fn until(what: &str, over: impl Fn() -> bool) {
    let began = Instant::now();
    while !over() {
        assert!(began.elapsed() < PATIENCE, "not {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn send(bench: &Bench, to: &str) -> String {
    let (code, answer) = bench.send(&json!({"to": to, "text": {"body": "hello"}}));
    assert_eq!(code, 201, "{answer}");
    let id = answer["messages"][0]["id"].as_str();
    id.expect("an id").to_owned()
}

/// Every coreapp reads the secret when it is started or asked to read its files again.
fn with_a_secret(bench: &Bench) {
    let directory = bench.dev.directory();
    let file = directory.join("webhooks-secret");
    std::fs::write(&file, SECRET).expect("written");
    let more = format!("\n[webhooks]\nsecret_file = {file:?}\n");
    for entry in std::fs::read_dir(&directory).expect("there").flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|ending| ending == "toml") {
            let text = std::fs::read_to_string(&path).expect("read");
            std::fs::write(&path, text + &more).expect("written");
        }
    }
    for pid in bench.dev.processes_of("coreapp") {
        let pid = nix::unistd::Pid::from_raw(pid);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGHUP).expect("asked");
    }
}

#[test]
fn what_is_refused_for_too_long_is_parked() {
    if !have_curl() {
        return;
    }
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let bench = Bench::start();
    with_a_secret(&bench);
    let (_runtime, book, url) = receiver();
    let settings = json!({"webhooks": {"url": url}, "callback_backoff_delay_ms": 500,
        "max_callback_backoff_delay_ms": 1000});
    apply(&bench, &settings);
    until("told and signed", || {
        send(&bench, OTHER);
        std::thread::sleep(Duration::from_millis(300));
        let book = lock(&book);
        book.taken.len() > 2
    });
    {
        let mut book = lock(&book);
        assert!(
            book.unsigned <= 1,
            "{} without the signature",
            book.unsigned
        );
        (book.refuses, book.unsigned) = (true, 0);
    }
    let first = send(&bench, REFUSED);
    until("refused", || lock(&book).refusals >= 4);
    let second = send(&bench, REFUSED);
    let other = send(&bench, OTHER);
    let read = (other, "read".to_owned());
    until("told beside it", || lock(&book).taken.contains(&read));
    nothing_is_parked_yet(&bench);
    old_rows_are_parked(&bench, &first);
    let (code, said) = verb(&bench.dev, &["webhooks", "retry", "999999"]);
    assert!(
        code == 1 && said.contains("no parked webhook has the number 999999"),
        "{said}"
    );
    let (code, said) = verb(&bench.dev, &["webhooks", "purge", "--all"]);
    assert!(
        code == 1 && said.contains("deleted for good") && said.contains("add --yes"),
        "{said}"
    );
    lock(&book).refuses = false;
    comes_back(&bench, &book, [&first, &second]);
    let book = lock(&book);
    assert_eq!(book.followed, 0, "a redirect was followed");
    assert_eq!(book.unsigned, 0, "without a signature");
}

fn nothing_is_parked_yet(bench: &Bench) {
    let (code, said) = verb(&bench.dev, &["webhooks", "list"]);
    assert!(code == 0 && said.contains("no webhook is parked"), "{said}");
    let (code, said) = verb(&bench.dev, &["webhooks", "retry", "--all"]);
    assert!(code == 0 && said.contains("nothing was done"), "{said}");
    let (code, _) = verb(&bench.dev, &["webhooks", "purge"]);
    assert_eq!(code, 2, "which ones?");
}

/// All that is refused becomes eight days old, and is parked at its next refusal.
fn old_rows_are_parked(bench: &Bench, first: &str) {
    let days_ms = 8 * 24 * 3600 * 1000;
    bench.sql(&format!(
        "UPDATE webhook SET since_ms=CAST(unixepoch('subsec') * 1000 AS INTEGER)-{days_ms}"
    ));
    let told = status_until(&bench.dev, "told", |s| {
        s["judged"].to_string().contains("callbacks_parked")
    });
    assert!(
        told.to_string().contains("wa-agent webhooks list"),
        "{told}"
    );
    let (code, said) = verb(&bench.dev, &["webhooks", "list"]);
    assert_eq!(code, 0, "{said}");
    for part in ["parked", "status", first, "wa-agent webhooks retry --all"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert!(!said.contains(REFUSED), "whom it is about: {said}");
    let (code, said) = verb(&bench.dev, &["webhooks", "list", "--json"]);
    let list: Value = serde_json::from_str(said.trim()).expect("JSON");
    assert!(code == 0 && list["count"].as_u64() > Some(0), "{said}");
}

fn comes_back(bench: &Bench, book: &Shared, ids: [&String; 2]) {
    let (code, said) = verb(&bench.dev, &["webhooks", "retry", "--all", "--dry-run"]);
    assert!(code == 0 && said.contains("(dry run)"), "{said}");
    let (code, said) = verb(
        &bench.dev,
        &["webhooks", "retry", "--all", "--reason", "mended"],
    );
    assert!(code == 0 && said.contains("delivered again"), "{said}");
    until("told after all", || {
        let taken = &lock(book).taken;
        ids.iter()
            .all(|id| taken.contains(&((*id).clone(), "read".into())))
    });
    status_until(&bench.dev, "calm", |s| s["problems"] == json!([]));
    let (_, said) = verb(&bench.dev, &["history"]);
    assert!(
        said.contains("webhooks-retry") && said.contains("mended"),
        "{said}"
    );
}
