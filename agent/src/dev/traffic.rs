//! Open-loop traffic: requests leave by a fixed schedule, whatever became of the ones before.
//! Retries nothing but on the other webapp where a webapp itself goes: what a client would see is what is counted.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde::Deserialize;
use serde_json::{Value, json};
use wa_core::time::Instant;

use crate::net::client::{CallError, OutsideClient};
use crate::sys::clock;
use crate::sys::state::random_u64;

/// A client gives up after this long.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// One request and what became of it.
#[derive(Debug, Clone)]
pub struct Sent {
    pub sent_at: Instant,
    pub answered_at: Instant,
    /// HTTP status; 0 when there was no answer.
    pub status: u16,
    pub id: Option<String>,
    /// It went to the other webapp as well, under the same idempotency key.
    pub moved: bool,
}

impl Sent {
    /// It was answered 2xx.
    pub fn accepted(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// What is sent where, and how often.
pub struct Load {
    pub urls: Vec<String>,
    pub token: String,
    /// Messages a second.
    pub rate: u32,
    /// A request that one webapp does not answer goes to the other one.
    pub fail_over: bool,
    /// The text of each message, before its number.
    pub text: String,
}

/// Running traffic.
pub struct Traffic {
    sent: Arc<Mutex<Vec<Sent>>>,
    stop: Arc<AtomicBool>,
    driver: tokio::task::JoinHandle<()>,
    counts: Arc<Counts>,
}

/// What each request needs.
struct Requests {
    load: Load,
    client: OutsideClient,
    bearer: String,
    /// Tells the requests of this traffic from those of another.
    run: u64,
}

#[derive(Default)]
struct Counts {
    started: AtomicU64,
    open: AtomicU64,
    accepted: AtomicU64,
}

/// How far the traffic is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    /// Requests that have left.
    pub started: u64,
    /// Those among them that have no answer yet.
    pub open: u64,
    /// Those that were answered 2xx.
    pub accepted: u64,
}

/// Logs in; changes the first password when it must be.
///
/// # Errors
/// When no webapp lets us in within a minute.
pub async fn log_in(client: &OutsideClient, url: &str) -> anyhow::Result<String> {
    use base64::Engine as _;
    const PASSWORD: &str = "Drill-it-0ut!";
    let basic = |password: &str| {
        base64::engine::general_purpose::STANDARD.encode(format!("admin:{password}"))
    };
    let mut last = String::from("no answer");
    for _ in 0..120 {
        for (password, body) in [
            (PASSWORD, Value::Null),
            ("secret", json!({"new_password": PASSWORD})),
        ] {
            let bytes = if body.is_null() {
                Bytes::new()
            } else {
                Bytes::from(body.to_string())
            };
            let request = Request::post(format!("{url}/v1/users/login"))
                .header("authorization", format!("Basic {}", basic(password)))
                .header("content-type", "application/json")
                .body(Full::new(bytes))?;
            match client.call(request, Duration::from_secs(10)).await {
                Ok(answer) => {
                    let value: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
                    if let Some(token) = value.pointer("/users/0/token").and_then(Value::as_str) {
                        return Ok(token.to_owned());
                    }
                    last = format!(
                        "{} {}",
                        answer.status(),
                        String::from_utf8_lossy(answer.body())
                    );
                }
                Err(error) => last = error.to_string(),
            }
        }
        clock::sleep(Duration::from_millis(500)).await;
    }
    anyhow::bail!("cannot log in at {url}: {last}")
}

impl Traffic {
    /// Starts sending, through the webapps in turn, on the runtime that calls.
    pub fn start(load: Load) -> Self {
        let sent: Arc<Mutex<Vec<Sent>>> = Arc::default();
        let stop = Arc::new(AtomicBool::new(false));
        let counts: Arc<Counts> = Arc::default();
        let requests = Arc::new(Requests {
            client: OutsideClient::new(Duration::from_secs(1), 256),
            bearer: format!("Bearer {}", load.token),
            run: random_u64(),
            load,
        });
        let (done, stopping, counted) = (Arc::clone(&sent), Arc::clone(&stop), Arc::clone(&counts));
        let driver = tokio::spawn(async move {
            let begin = clock::now();
            let rate = u64::from(requests.load.rate.max(1));
            let mut n: u64 = 0;
            while !stopping.load(Ordering::Acquire) {
                let due = begin + Duration::from_micros(n * 1_000_000 / rate);
                if due > clock::now() {
                    clock::sleep_until(due).await;
                } else {
                    // Behind the schedule: a timer takes a millisecond even for a time that has passed.
                    tokio::task::yield_now().await;
                }
                let (requests, sent, counts) = (
                    Arc::clone(&requests),
                    Arc::clone(&done),
                    Arc::clone(&counted),
                );
                counts.started.fetch_add(1, Ordering::AcqRel);
                counts.open.fetch_add(1, Ordering::AcqRel);
                tokio::spawn(async move {
                    let done = requests.one(n).await;
                    counts
                        .accepted
                        .fetch_add(u64::from(done.accepted()), Ordering::AcqRel);
                    sent.lock()
                        .unwrap_or_else(std::sync::PoisonError::into_inner)
                        .push(done);
                    counts.open.fetch_sub(1, Ordering::AcqRel);
                });
                n += 1;
            }
        });
        Self {
            sent,
            stop,
            driver,
            counts,
        }
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        let count = |count: &AtomicU64| count.load(Ordering::Acquire);
        Progress {
            started: count(&self.counts.started),
            open: count(&self.counts.open),
            accepted: count(&self.counts.accepted),
        }
    }

    /// Stops sending, waits for every answer, returns all.
    pub async fn finish(self) -> Vec<Sent> {
        self.stop.store(true, Ordering::Release);
        let _ = self.driver.await;
        let until = clock::now() + ANSWER_WITHIN + Duration::from_secs(1);
        while self.counts.open.load(Ordering::Acquire) > 0 && clock::now() < until {
            clock::sleep(Duration::from_millis(5)).await;
        }
        std::mem::take(
            &mut *self
                .sent
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        )
    }
}

/// The part of an answer that is needed.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    messages: Vec<Message>,
}

#[derive(Deserialize)]
struct Message {
    id: String,
}

impl Requests {
    /// One request, to its end.
    async fn one(&self, n: u64) -> Sent {
        let sent_at = clock::now();
        let urls = &self.load.urls;
        let tries = if self.load.fail_over { urls.len() } else { 1 };
        let mut sent = Sent {
            sent_at,
            answered_at: sent_at,
            status: 0,
            id: None,
            moved: false,
        };
        // 999 would be the number itself, which nobody can write to.
        let to = (n % 99_000) + 1000;
        let text = &self.load.text;
        let body =
            format!(r#"{{"to":"4477009{to:05}","type":"text","text":{{"body":"{text} {n}"}}}}"#);
        let body = Bytes::from(body);
        for attempt in 0..tries {
            let url = &urls[(n as usize + attempt) % urls.len()];
            let request = Request::post(format!("{url}/v1/messages"))
                .header("authorization", &self.bearer)
                .header("content-type", "application/json")
                .header("idempotency-key", format!("drill-{:016x}-{n}", self.run))
                .body(Full::new(body.clone()));
            let Ok(request) = request else { break };
            match self.client.call(request, ANSWER_WITHIN).await {
                Ok(answer) => {
                    sent.status = answer.status().as_u16();
                    let answer = serde_json::from_slice::<Answer>(answer.body()).ok();
                    let first = answer.and_then(|answer| answer.messages.into_iter().next());
                    sent.id = first.map(|message| message.id);
                    break;
                }
                // A load balancer would try the other webapp: not carried out, or broken while the webapp closed an idle
                // connection; the key makes sure that it is accepted once.
                Err(CallError::Connect(_) | CallError::Forbidden(_) | CallError::Broken(_)) => {
                    sent.moved = true;
                }
                Err(CallError::Deadline(_)) => break,
            }
        }
        sent.answered_at = clock::now();
        sent
    }
}
