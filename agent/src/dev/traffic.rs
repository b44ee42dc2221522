//! Open-loop traffic: requests leave by a fixed schedule, whatever became of the ones before.
//! Retries nothing but on the other webapp where a webapp itself goes: what a client would see is what is counted.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
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

/// Running traffic.
pub struct Traffic {
    sent: Arc<Mutex<Vec<Sent>>>,
    stop: Arc<AtomicBool>,
    driver: tokio::task::JoinHandle<()>,
    open: Arc<AtomicU64>,
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
    /// Starts sending `rate` messages a second through the webapps in turn.
    pub fn start(urls: Vec<String>, token: String, rate: u32, fail_over: bool) -> Self {
        let sent: Arc<Mutex<Vec<Sent>>> = Arc::default();
        let (stop, open) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (of_driver, stopping, opened) =
            (Arc::clone(&sent), Arc::clone(&stop), Arc::clone(&open));
        let driver = tokio::spawn(async move {
            let client = OutsideClient::new(Duration::from_secs(1), 256);
            let begin = clock::now();
            let run = random_u64();
            let mut n: u64 = 0;
            while !stopping.load(Ordering::Acquire) {
                clock::sleep_until(
                    begin + Duration::from_micros(n * 1_000_000 / u64::from(rate.max(1))),
                )
                .await;
                let (client, token, urls, sent) = (
                    client.clone(),
                    token.clone(),
                    urls.clone(),
                    Arc::clone(&of_driver),
                );
                let open = Arc::clone(&opened);
                open.fetch_add(1, Ordering::AcqRel);
                tokio::spawn(async move {
                    let done = one(&client, &urls, &token, (run, n), fail_over).await;
                    sent.lock()
                        .unwrap_or_else(std::sync::PoisonError::into_inner)
                        .push(done);
                    open.fetch_sub(1, Ordering::AcqRel);
                });
                n += 1;
            }
        });
        Self {
            sent,
            stop,
            driver,
            open,
        }
    }

    /// Stops sending, waits for every answer, returns all.
    pub async fn finish(self) -> Vec<Sent> {
        self.stop.store(true, Ordering::Release);
        let _ = self.driver.await;
        let until = clock::now() + ANSWER_WITHIN + Duration::from_secs(1);
        while self.open.load(Ordering::Acquire) > 0 && clock::now() < until {
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

async fn one(
    client: &OutsideClient,
    urls: &[String],
    token: &str,
    (run, n): (u64, u64),
    fail_over: bool,
) -> Sent {
    let sent_at = clock::now();
    let tries = if fail_over { urls.len() } else { 1 };
    let mut sent = Sent {
        sent_at,
        answered_at: sent_at,
        status: 0,
        id: None,
        moved: false,
    };
    for attempt in 0..tries {
        let url = &urls[(n as usize + attempt) % urls.len()];
        // 999 would be the number itself, which nobody can write to.
        let to = format!("4477009{:05}", (n % 99_000) + 1000);
        let body =
            json!({"to": to, "type": "text", "text": {"body": format!("drill {n}")}}).to_string();
        let request = Request::post(format!("{url}/v1/messages"))
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .header("idempotency-key", format!("drill-{run:016x}-{n}"))
            .body(Full::new(Bytes::from(body)));
        let Ok(request) = request else { break };
        match client.call(request, ANSWER_WITHIN).await {
            Ok(answer) => {
                sent.status = answer.status().as_u16();
                let value: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
                sent.id = value
                    .pointer("/messages/0/id")
                    .and_then(Value::as_str)
                    .map(ToOwned::to_owned);
                break;
            }
            // A load balancer would try the other webapp: not carried out, or broken while the webapp closed an idle
            // connection; the key makes sure that it is accepted once.
            Err(CallError::Connect(_) | CallError::Forbidden(_) | CallError::Broken(_)) => {
                sent.moved = true
            }
            Err(CallError::Deadline(_)) => break,
        }
    }
    sent.answered_at = clock::now();
    sent
}
