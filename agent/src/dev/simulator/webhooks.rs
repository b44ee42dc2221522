//! Signed webhooks: collected for a moment, posted to the first address that takes them, repeated until one does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::sync::mpsc;
use wa_core::time::Instant;

use super::event::{self, Outgoing, Plan, Send, What, Word};
use super::knobs::Knobs;
use super::state::{Simulator, lock};
use crate::net::client::OutsideClient;
use crate::sys::clock;
use crate::sys::state::random_u64;

/// Most events of one call.
const BATCH_MAX: usize = 100;
/// Calls under way at once.
const CALLS_MAX: usize = 16;
/// How long an event that is due waits for others to come along.
const COLLECT: Duration = Duration::from_millis(5);
/// Milliseconds between two statuses of one message.
const STEP_MS: u64 = 5;
/// Events that wait until they are due; what comes beyond that and the queue is dropped, and counted.
const WAITING_LEN_MAX: usize = 500_000;

fn by_chance(per_mille: u64) -> bool {
    per_mille > 0 && random_u64() % 1000 < per_mille
}

/// Queues the statuses of one message.
pub fn statuses(simulator: &Simulator, knobs: &Knobs, send: Send, plan: Plan) {
    let send = Arc::new(send);
    let mut due = send.at + Duration::from_millis(knobs.webhook_delay_ms);
    let plan: Box<dyn Iterator<Item = _>> = match by_chance(knobs.reordered_per_mille) {
        true => Box::new(plan.into_iter().rev()),
        false => Box::new(plan.into_iter()),
    };
    for told in plan {
        let send = Arc::clone(&send);
        queue(simulator, knobs, due, || What::Status {
            send: Arc::clone(&send),
            told: told.clone(),
        });
        due = due + Duration::from_millis(STEP_MS);
    }
}

/// Queues an inbound message, and who it is from.
pub fn inbound(simulator: &Simulator, message: &Value, contact: Option<&Value>) {
    let knobs = lock(&simulator.knobs).clone();
    queue(simulator, &knobs, clock::now(), || What::Inbound {
        message: message.clone(),
        contact: contact.cloned(),
    });
}

/// Queues a change of another field.
pub fn other(simulator: &Simulator, field: &str, value: &Value) {
    let knobs = lock(&simulator.knobs).clone();
    queue(simulator, &knobs, clock::now(), || What::Other {
        field: field.to_owned(),
        value: value.clone(),
    });
}

/// Queues one event, as often and as late as the knobs say.
fn queue(simulator: &Simulator, knobs: &Knobs, due: Instant, what: impl Fn() -> What) {
    if simulator.args.webhooks.is_empty() {
        return;
    }
    if by_chance(knobs.lost_per_mille) {
        simulator.webhooks_lost.fetch_add(1, Ordering::Relaxed);
        return;
    }
    let twice = knobs.duplicate_webhooks || by_chance(knobs.doubled_per_mille);
    let late = if by_chance(knobs.late_per_mille) {
        knobs.late_ms
    } else {
        0
    };
    let due = due + Duration::from_millis(late);
    for _ in 0..=usize::from(twice) {
        let outgoing = Outgoing { due, what: what() };
        if simulator.outgoing.try_send(outgoing).is_err() {
            let dropped = simulator.webhooks_dropped.fetch_add(1, Ordering::Relaxed) + 1;
            // Said again each time that the number has doubled: a benchmark drops many.
            if dropped.is_power_of_two() {
                tracing::warn!(dropped, "too many webhooks wait; dropping what comes");
            }
        }
    }
}

/// Asks every address to echo a number, as the vendor does before it delivers to it.
pub async fn challenge(simulator: &Simulator) -> BTreeMap<String, bool> {
    let client = OutsideClient::new(Duration::from_secs(1), 1);
    let mut answers = BTreeMap::new();
    for url in &simulator.args.webhooks {
        let number = random_u64().to_string();
        let asked = format!(
            "{url}?hub.mode=subscribe&hub.challenge={number}&hub.verify_token={}",
            simulator.args.verify_token
        );
        let echoed = match Request::get(asked).body(Full::new(Bytes::new())) {
            Ok(request) => {
                let answer = client.call(request, Duration::from_secs(5)).await;
                answer.is_ok_and(|a| a.status().is_success() && a.body() == number.as_bytes())
            }
            Err(_) => false,
        };
        answers.insert(url.clone(), echoed);
    }
    answers
}

/// What waits, by when it is due, and among equals as it came.
#[derive(Debug, Default)]
struct Waiting {
    events: BTreeMap<(Instant, u64), What>,
    came: u64,
}

impl Waiting {
    fn add(&mut self, outgoing: Outgoing) {
        self.came += 1;
        self.events.insert((outgoing.due, self.came), outgoing.what);
    }

    fn full(&self) -> bool {
        self.events.len() >= WAITING_LEN_MAX
    }

    /// When the next call is to be made; `None`: nothing waits.
    fn wake_at(&self) -> Option<Instant> {
        let ((first, _), _) = self.events.first_key_value()?;
        // A whole call is not kept waiting for more.
        let last_of_call = self.events.keys().nth(BATCH_MAX - 1);
        let collected = *first + COLLECT;
        Some(last_of_call.map_or(collected, |(due, _)| collected.min(*due)))
    }

    /// The events of one call, `most` of them; empty: none is due.
    fn take(&mut self, now: Instant, most: usize) -> Vec<What> {
        let mut call = Vec::new();
        while call.len() < most
            && let Some(next) = self.events.first_entry()
            && next.key().0 <= now
        {
            call.push(next.remove());
        }
        call
    }
}

/// Posts what is due, many events with one call and several calls at once, forever.
pub async fn deliver(simulator: Arc<Simulator>, mut queue: mpsc::Receiver<Outgoing>) {
    let room = Arc::new(tokio::sync::Semaphore::new(CALLS_MAX));
    let client = OutsideClient::new(Duration::from_secs(1), CALLS_MAX);
    let (mut waiting, mut came) = (Waiting::default(), Vec::new());
    loop {
        let wake_at = waiting.wake_at();
        tokio::select! {
            count = queue.recv_many(&mut came, 10 * BATCH_MAX), if !waiting.full() => {
                if count == 0 {
                    return;
                }
                came.drain(..).for_each(|outgoing| waiting.add(outgoing));
            }
            () = clock::sleep_until(wake_at.unwrap_or_default()), if wake_at.is_some() => {}
        }
        while waiting.wake_at().is_some_and(|at| at <= clock::now()) {
            let single = lock(&simulator.knobs).single_webhooks;
            let call = waiting.take(clock::now(), if single { 1 } else { BATCH_MAX });
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
                return;
            };
            let (simulator, client) = (Arc::clone(&simulator), client.clone());
            tokio::spawn(async move {
                post(&simulator, &client, &call).await;
                drop(permit);
            });
        }
    }
}

/// Tries one address after the other, with a growing wait, for about a minute.
async fn post(simulator: &Simulator, client: &OutsideClient, call: &[What]) {
    let knobs = lock(&simulator.knobs).clone();
    let changes = event::changes(&simulator.metadata(), call, knobs.status_contacts);
    let body = json!({
        "object": "whatsapp_business_account",
        "entry": [{"id": simulator.args.waba_id, "changes": changes}],
    })
    .to_string();
    let secret =
        [&knobs.app_secret, &simulator.args.app_secret][usize::from(knobs.app_secret.is_empty())];
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes any key length");
    mac.update(body.as_bytes());
    let signature = format!("sha256={}", hex::encode(mac.finalize().into_bytes()));
    note_posted(simulator, call);
    for attempt in 0..40u32 {
        for url in &simulator.args.webhooks {
            let request = Request::post(url)
                .header("content-type", "application/json")
                .header("x-hub-signature-256", &signature)
                .body(Full::new(Bytes::from(body.clone())));
            if let Ok(request) = request
                && matches!(client.call(request, Duration::from_secs(5)).await, Ok(answer) if answer.status().is_success())
            {
                return note_lags(simulator, call);
            }
        }
        clock::sleep(Duration::from_millis(100) * (attempt + 1).min(20)).await;
    }
    tracing::warn!(
        events = call.len(),
        "nobody took a webhook; giving up on it"
    );
}

/// Statuses leave now, unless they left before.
fn note_posted(simulator: &Simulator, call: &[What]) {
    let now = clock::now();
    for what in call {
        if let What::Status { send, told } = what {
            let word = told.word.as_str();
            simulator.ledger.posted(send.ours(), word, now);
        }
    }
}

/// Receipts were taken: by a 200, so that they are stored.
fn note_lags(simulator: &Simulator, call: &[What]) {
    let now = clock::now();
    let mut lags = lock(&simulator.lags);
    for what in call {
        if let What::Status { send, told } = what
            && told.word == Word::Sent
        {
            lags.add(now.since(send.at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(due_ms: u64) -> Outgoing {
        Outgoing {
            due: Instant::ZERO + Duration::from_millis(due_ms),
            what: What::Inbound {
                message: json!(due_ms),
                contact: None,
            },
        }
    }

    /// Goal: nothing is waited for event by event. Method: 250 events of one moment and one of later, out of order.
    #[test]
    fn what_is_due_leaves_in_whole_calls() {
        let at = |ms: u64| Instant::ZERO + Duration::from_millis(ms);
        let mut waiting = Waiting::default();
        assert_eq!(waiting.wake_at(), None);
        waiting.add(event(900));
        assert_eq!(waiting.wake_at(), Some(at(900) + COLLECT));
        (0..250).for_each(|_| waiting.add(event(20)));
        assert_eq!(
            waiting.wake_at(),
            Some(at(20)),
            "a whole call waits for none"
        );
        assert!(waiting.take(at(19), BATCH_MAX).is_empty());
        let calls: Vec<usize> = (0..4)
            .map(|_| waiting.take(at(30), BATCH_MAX).len())
            .collect();
        assert_eq!(calls, [100, 100, 50, 0]);
        assert_eq!(waiting.take(at(900), BATCH_MAX).len(), 1);
        assert!(waiting.take(at(9000), BATCH_MAX).is_empty() && waiting.wake_at().is_none());
    }
}
