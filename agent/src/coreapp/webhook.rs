//! Delivery of callbacks to the business, and the application settings that steer it.
//! A delivery is done at exactly 200; anything else waits linearly longer and comes again.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::Request;
use http_body_util::Full;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use wa_core::backoff::linear;
use wa_core::id::Ownership;

use super::Shared;
use crate::api::cloud::{Content, Event};
use crate::db::webhook::Due;
use crate::net::client::OutsideClient;
use crate::sys::clock;

/// How long the business may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
const POLL_EVERY: Duration = Duration::from_millis(250);

/// The application settings that this role needs.
#[derive(Debug, Clone)]
pub struct Application {
    pub url: String,
    pub concurrency: usize,
    pub backoff: Duration,
    pub backoff_max: Duration,
    pub sent: bool,
    pub delivered: bool,
    pub read: bool,
}

impl Default for Application {
    fn default() -> Self {
        Self::parse("{}")
    }
}

impl Application {
    /// Reads the settings document; a field that is absent or odd has its documented default.
    pub fn parse(value: &str) -> Self {
        let root: Value = serde_json::from_str(value).unwrap_or_default();
        let at = |path: &str| root.pointer(path).cloned().unwrap_or_default();
        let ms = |path: &str, default: u64| {
            let field = at(path);
            let number = field.as_u64().or_else(|| field.as_str()?.parse().ok());
            Duration::from_millis(number.unwrap_or(default))
        };
        let flag = |path: &str, default: bool| at(path).as_bool().unwrap_or(default);
        Self {
            url: at("/webhooks/url").as_str().unwrap_or_default().to_owned(),
            concurrency: at("/webhooks/max_concurrent_requests")
                .as_u64()
                .map_or(6, |n| n.clamp(1, 24) as usize),
            backoff: ms("/callback_backoff_delay_ms", 3000),
            backoff_max: ms("/max_callback_backoff_delay_ms", 900_000),
            sent: flag("/webhooks/message/sent", flag("/sent_status", false)),
            delivered: flag("/webhooks/message/delivered", true),
            read: flag("/webhooks/message/read", true),
        }
    }

    /// The business wants to be told.
    pub fn wants(&self, event: &Event) -> bool {
        if self.url.is_empty() {
            return false;
        }
        let Content::Status(status) = &event.content else {
            return true;
        };
        match status.get("status").and_then(Value::as_str) {
            Some("sent") => self.sent,
            Some("delivered") => self.delivered,
            Some("read") => self.read,
            _ => true,
        }
    }
}

/// Delivers until the tenure ends.
pub async fn deliver_all(shared: Arc<Shared>, own: Ownership, stop: CancellationToken) {
    let client = OutsideClient::new(Duration::from_secs(5), 24);
    while !stop.is_cancelled() {
        let application = shared.application.load_full();
        let mut more = false;
        if !application.url.is_empty() {
            let limit = u32::try_from(application.concurrency * 8).unwrap_or(48);
            match shared
                .db
                .due_webhooks(&own, shared.shard_count(), limit)
                .await
            {
                Ok(due) => {
                    more = due.len() == limit as usize;
                    let all_delivered =
                        deliver(&shared, &own, &client, &application, due, &stop).await;
                    more &= all_delivered;
                }
                Err(error) => {
                    tracing::warn!(error = %error.brief(), "webhooks could not be read; retrying")
                }
            }
        }
        if more {
            continue;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = shared.webhooks_ready.notified() => {}
            () = clock::sleep(POLL_EVERY) => {}
        }
    }
}

/// Delivers one batch, `concurrency` at a time, and records what came of it. True when all were taken.
async fn deliver(
    shared: &Shared,
    own: &Ownership,
    client: &OutsideClient,
    application: &Application,
    due: Vec<Due>,
    stop: &CancellationToken,
) -> bool {
    let mut waiting = due.into_iter();
    let mut running = FuturesUnordered::new();
    let (mut delivered, mut put_off) = (Vec::new(), Vec::new());
    loop {
        while running.len() < application.concurrency && !stop.is_cancelled() {
            let Some(webhook) = waiting.next() else { break };
            running.push(post(client, &application.url, webhook));
        }
        let Some((id, attempts, ok)) = running.next().await else {
            break;
        };
        if ok {
            delivered.push(id);
        } else {
            let failures = u32::try_from(attempts).unwrap_or(0) + 1;
            let wait = linear(application.backoff, failures, application.backoff_max);
            put_off.push((id, u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)));
        }
    }
    let all = put_off.is_empty();
    if (!delivered.is_empty() || !put_off.is_empty())
        && let Err(error) = shared.db.webhooks_done(own, &delivered, &put_off).await
    {
        tracing::warn!(error = %error.brief(), "deliveries were not recorded; they will be repeated");
        return false;
    }
    all
}

async fn post(client: &OutsideClient, url: &str, webhook: Due) -> (i64, i64, bool) {
    let request = Request::post(url)
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(webhook.payload)));
    let ok = match request {
        Ok(request) => {
            matches!(client.call(request, ANSWER_WITHIN).await, Ok(answer) if answer.status().as_u16() == 200)
        }
        Err(_) => false,
    };
    (webhook.id, webhook.attempts, ok)
}
