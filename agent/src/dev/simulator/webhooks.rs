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

use super::{Knobs, Simulator};
use crate::net::client::OutsideClient;
use crate::sys::clock;

/// Most events of one call.
const BATCH_MAX: usize = 100;
/// Calls under way at once.
const CALLS_MAX: usize = 8;

/// One event, due at a time.
pub struct Outgoing {
    due: Instant,
    /// `statuses` or `messages`.
    list: &'static str,
    event: Value,
}

/// Queues sent, delivered and read of one message.
pub fn statuses(simulator: &Simulator, knobs: &Knobs, wamid: &str, to: &str, id: &str) {
    let at_s = (clock::wall_ms() / 1000).to_string();
    let repeat = if knobs.duplicate_webhooks { 2 } else { 1 };
    for (index, word) in ["sent", "delivered", "read"].iter().enumerate() {
        let event = json!({
            "id": wamid, "status": word, "timestamp": at_s, "recipient_id": to, "biz_opaque_callback_data": id,
            "pricing": {"billable": true, "pricing_model": "PMP", "category": "utility"},
        });
        let due = clock::now() + Duration::from_millis(knobs.webhook_delay_ms + 5 * index as u64);
        for _ in 0..repeat {
            queue(
                simulator,
                Outgoing {
                    due,
                    list: "statuses",
                    event: event.clone(),
                },
            );
        }
    }
}

/// Queues an inbound message: `content` is its type and the object of that name.
pub fn inbound(simulator: &Simulator, from: &str, content: Value) {
    let mut event = json!({
        "from": from, "id": format!("wamid.IN{:016X}", crate::sys::state::random_u64()),
        "timestamp": (clock::wall_ms() / 1000).to_string(),
    });
    if let (Some(event), Value::Object(content)) = (event.as_object_mut(), content) {
        event.extend(content);
    }
    queue(
        simulator,
        Outgoing {
            due: clock::now(),
            list: "messages",
            event,
        },
    );
}

fn queue(simulator: &Simulator, outgoing: Outgoing) {
    if !simulator.args.webhooks.is_empty() && simulator.outgoing.try_send(outgoing).is_err() {
        let dropped = simulator.webhooks_dropped.fetch_add(1, Ordering::Relaxed) + 1;
        // Said again each time that the number has doubled: a benchmark drops many.
        if dropped.is_power_of_two() {
            tracing::warn!(dropped, "too many webhooks wait; dropping what comes");
        }
    }
}

/// Asks every address to echo a number, as the vendor does before it delivers to it.
pub async fn challenge(simulator: &Simulator) -> BTreeMap<String, bool> {
    let client = OutsideClient::new(Duration::from_secs(1), 1);
    let mut answers = BTreeMap::new();
    for url in &simulator.args.webhooks {
        let number = crate::sys::state::random_u64().to_string();
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

/// Posts what is due, forever.
pub async fn deliver(simulator: Arc<Simulator>, mut queue: mpsc::Receiver<Outgoing>) {
    let room = Arc::new(tokio::sync::Semaphore::new(CALLS_MAX));
    let client = OutsideClient::new(Duration::from_secs(1), CALLS_MAX);
    while let Some(first) = queue.recv().await {
        clock::sleep_until(first.due).await;
        let mut batch = vec![first];
        while batch.len() < BATCH_MAX {
            let Ok(next) = queue.try_recv() else { break };
            clock::sleep_until(next.due).await;
            batch.push(next);
        }
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let (simulator, client) = (Arc::clone(&simulator), client.clone());
        tokio::spawn(async move {
            post(&simulator, &client, &batch).await;
            drop(permit);
        });
    }
}

/// Tries one address after the other, with a growing wait, for about a minute.
async fn post(simulator: &Simulator, client: &OutsideClient, batch: &[Outgoing]) {
    let of = |list: &str| {
        batch
            .iter()
            .filter(|o| o.list == list)
            .map(|o| o.event.clone())
            .collect::<Vec<_>>()
    };
    let mut value = json!({"messaging_product": "whatsapp", "metadata": {"phone_number_id": simulator.args.phone_number_id}});
    for list in ["statuses", "messages"] {
        if !of(list).is_empty() {
            value[list] = of(list).into();
        }
    }
    let body = json!({"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": [{"field": "messages", "value": value}]}]})
        .to_string();
    let mut mac = Hmac::<Sha256>::new_from_slice(simulator.args.app_secret.as_bytes())
        .expect("HMAC takes any key length");
    mac.update(body.as_bytes());
    let signature = format!("sha256={}", hex::encode(mac.finalize().into_bytes()));
    for attempt in 0..40u32 {
        for url in &simulator.args.webhooks {
            let request = Request::post(url)
                .header("content-type", "application/json")
                .header("x-hub-signature-256", &signature)
                .body(Full::new(Bytes::from(body.clone())));
            if let Ok(request) = request
                && matches!(client.call(request, Duration::from_secs(5)).await, Ok(answer) if answer.status().is_success())
            {
                return;
            }
        }
        clock::sleep(Duration::from_millis(100) * (attempt + 1).min(20)).await;
    }
    tracing::warn!(
        events = batch.len(),
        "nobody took a webhook; giving up on it"
    );
}
