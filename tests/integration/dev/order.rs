//! The order of webhooks for each customer, through the real processes. Goal: with a receiver that takes 0 to 40 ms each message's
//! statuses arrive in order, also when the owner is killed in the middle; a customer whose webhooks are refused holds up nobody
//! else, and gets his own in order afterwards. Method: a receiver that keeps a diary of what it has taken.

// A test waits for a process by the clock of its own; nothing decides by it.
#![allow(clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::{owner, status};
use crate::drill::TURN;
use crate::media::{Api, Bench, apply, have_curl};

const PATIENCE: Duration = Duration::from_secs(60);
const MESSAGES: usize = 200;
const CUSTOMERS: usize = 40;
/// People who send at once.
const SENDERS: usize = 4;
const FORWARD: [&str; 3] = ["sent", "delivered", "read"];

/// What the receiver has taken.
#[derive(Default)]
struct Diary {
    /// The words of each message, in the order in which they were taken.
    words: BTreeMap<String, Vec<String>>,
    /// The message of each word that was taken, by customer.
    of: BTreeMap<String, Vec<String>>,
    /// Customers whose webhooks are refused.
    refused: BTreeSet<String>,
    refusals: usize,
    dice: u64,
}

impl Diary {
    fn pause(&mut self) -> Duration {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        Duration::from_millis((self.dice >> 11) % 41)
    }

    /// Messages of which a word came behind a later one; repeats of what was taken already do not count.
    fn out_of_order(&self) -> usize {
        let behind = |words: &&Vec<String>| {
            let mut seen = BTreeSet::new();
            let first = words.iter().filter(|word| seen.insert(*word));
            let ranks = first.map(|word| FORWARD.iter().position(|known| known == word));
            !ranks.is_sorted()
        };
        self.words.values().filter(behind).count()
    }

    /// Messages of which the last word was taken: the upstream may tell it before the others, which are not told then.
    fn complete(&self, ids: &[String]) -> usize {
        let last = |id: &&String| {
            let words = self.words.get(*id);
            words.is_some_and(|words| words.iter().any(|word| word == FORWARD[2]))
        };
        ids.iter().filter(last).count()
    }

    /// Messages of which every word was taken.
    fn whole(&self) -> usize {
        let words = self.words.values();
        let whole =
            words.filter(|words| FORWARD.iter().all(|word| words.iter().any(|w| w == word)));
        whole.count()
    }
}

type Book = Arc<Mutex<Diary>>;

fn lock(book: &Book) -> MutexGuard<'_, Diary> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes its time, and writes down what it has taken at the end of it.
async fn hook(State(book): State<Book>, body: axum::body::Bytes) -> StatusCode {
    let pause = lock(&book).pause();
    tokio::time::sleep(pause).await;
    let value: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut book = lock(&book);
    for status in value["statuses"].as_array().into_iter().flatten() {
        let text = |name: &str| status[name].as_str().unwrap_or_default().to_owned();
        let customer = text("recipient_id");
        if book.refused.contains(&customer) {
            book.refusals += 1;
            return StatusCode::INTERNAL_SERVER_ERROR;
        }
        book.of.entry(customer).or_default().push(text("id"));
        let words = book.words.entry(text("id")).or_default();
        words.push(text("status"));
    }
    StatusCode::OK
}

/// A receiver on a runtime of its own, and where it is.
fn receiver() -> (tokio::runtime::Runtime, Book, String) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let book = Book::new(Mutex::new(Diary {
        dice: 0x2545_f491_4f6c_dd1d,
        ..Diary::default()
    }));
    let router = Router::new()
        .route("/hook", post(hook))
        .with_state(Arc::clone(&book));
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"));
    let listener = listener.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    runtime.spawn(async move { axum::serve(listener, router).await });
    (runtime, book, format!("http://127.0.0.1:{port}/hook"))
}

fn number(customer: usize) -> String {
    format!("4477009{customer:05}")
}

/// Sends messages to each customer in turn; their ids.
fn send(api: &Api, from: usize, count: usize) -> Vec<String> {
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let api = api.clone();
            std::thread::spawn(move || {
                let own = (from..from + count).filter(|n| n % SENDERS == sender);
                own.map(|n| {
                    let message = json!({"to": number(n % CUSTOMERS), "text": {"body": "x"}});
                    let (status, answer) = api.post("/v1/messages", &message);
                    assert_eq!(status, 201, "{answer}");
                    let id = answer["messages"][0]["id"].as_str();
                    id.expect("an id").to_owned()
                })
                .collect::<Vec<String>>()
            })
        })
        .collect();
    let ids = senders
        .into_iter()
        .map(|s| s.join().expect("all were sent"));
    ids.flatten().collect()
}

/// Waits until it is so, and says how long that took.
fn until(what: &str, book: &Book, wanted: impl Fn(&Diary) -> bool) -> Duration {
    let began = Instant::now();
    while !wanted(&lock(book)) {
        let told = lock(book).words.len();
        assert!(began.elapsed() < PATIENCE, "not {what}; {told} are told");
        std::thread::sleep(Duration::from_millis(20));
    }
    began.elapsed()
}

fn kill_the_owner(bench: &Bench) {
    let name = owner(&status(&bench.dev)).expect("an owner");
    let instance = name.rsplit('-').next().unwrap_or_default().to_owned();
    let own = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|b| *b == 0).collect();
        words.contains(&b"coreapp".as_slice()) && words.contains(&instance.as_bytes())
    };
    let process = bench.dev.processes().into_iter().find(own);
    let process = process.unwrap_or_else(|| panic!("no process of {name}"));
    kill(Pid::from_raw(process), Signal::SIGKILL).expect("killed");
}

#[test]
fn each_customer_is_told_in_order_over_a_killed_owner() {
    if !have_curl() {
        return;
    }
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let bench = Bench::start();
    let (_runtime, book, url) = receiver();
    apply(
        &bench,
        &json!({"webhooks": {"url": url}, "sent_status": true, "callback_backoff_delay_ms": 500,
            "max_callback_backoff_delay_ms": 1000}),
    );
    let api = bench.api();
    in_force(&api, &book);
    let calm = send(&api, 0, MESSAGES);
    until("all told", &book, |diary| diary.complete(&calm) == MESSAGES);
    assert_eq!(lock(&book).out_of_order(), 0, "of {MESSAGES} messages");
    let whole = lock(&book).whole();
    assert!(whole > MESSAGES / 2, "{whole} were told with every word");

    let later = api.clone();
    let sending = std::thread::spawn(move || send(&later, MESSAGES, MESSAGES));
    until("under way", &book, |diary| {
        diary.words.len() > MESSAGES + 50
    });
    kill_the_owner(&bench);
    let struck = sending.join().expect("all were sent");
    until("all told after the kill", &book, |diary| {
        diary.complete(&struck) == MESSAGES
    });
    assert_eq!(
        lock(&book).out_of_order(),
        0,
        "with an owner that was killed"
    );

    a_refused_customer_holds_up_nobody(&api, &book);
}

/// Statuses are told from now on.
fn in_force(api: &Api, book: &Book) {
    let began = Instant::now();
    while lock(book).words.is_empty() {
        assert!(began.elapsed() < PATIENCE, "nothing is told");
        send(api, 0, SENDERS);
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Every fortieth message is of the customer whose webhooks are refused.
fn a_refused_customer_holds_up_nobody(api: &Api, book: &Book) {
    let refused = number(0);
    lock(book).refused.insert(refused.clone());
    let told_before = lock(book).of.get(&refused).map_or(0, Vec::len);
    let ids = send(api, 0, MESSAGES);
    let own = MESSAGES / CUSTOMERS;
    let took = until("the others told", book, |diary| {
        diary.complete(&ids) == MESSAGES - own
    });
    assert!(took < PATIENCE / 2, "they waited {took:?}");
    let refusals = lock(book).refusals;
    assert!((1..=60).contains(&refusals), "{refusals} tries");
    let told = lock(book).of.get(&refused).map_or(0, Vec::len);
    assert_eq!(told, told_before, "refused");
    lock(book).refused.clear();
    until("told after all", book, |diary| {
        diary.complete(&ids) == MESSAGES
    });
    assert_eq!(lock(book).out_of_order(), 0, "after a refusal");
}
