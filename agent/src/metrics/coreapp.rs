//! What a coreapp measures under the names of the reference client (`/v1/stats/app`). What each means here is in the README.
//! Measures nothing by itself. Per message it costs a few atomics, and no lock.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::CoreappMetrics;
use super::figure::{Figure, Figures, Span, value};

/// Words of statuses, as `out_message_status` has them.
pub const STATUSES: [&str; 4] = ["sent", "delivered", "read", "failed"];

/// What a callback told, and how its request ended.
type Ending = (&'static str, String);

/// Counted where it happens.
#[derive(Debug, Default)]
pub struct Documented {
    /// Callbacks that were read from the database and are not taken yet.
    pub callback_queue: AtomicU64,
    /// Writes of messages, events and callbacks, each with its commit.
    pub commits: Span,
    /// Requests of webapps to this owner.
    pub endpoint: Span,
    /// Requests of all nodes to the API port.
    pub internal: Span,
    /// Sends that the upstream answered.
    pub sends: Span,
    /// Customers' messages that were read from the inbox, were understood, and are on their way to the business.
    pub in_read: AtomicU64,
    pub in_decoded: AtomicU64,
    pub in_persisted: AtomicU64,
    /// By [`STATUSES`].
    pub statuses: [AtomicU64; STATUSES.len()],
    /// Of the own shard, as they were counted last; 0 without one.
    pub pending_events: AtomicU64,
    pub pending_callbacks: AtomicU64,
    pub pending_messages: AtomicU64,
    /// By what they told, and how they ended.
    callbacks: Mutex<BTreeMap<Ending, (u64, u64)>>,
}

/// What a callback tells, by the beginning of its body.
fn kind(payload: &str) -> &'static str {
    match payload.get(..5) {
        Some("{\"sta") => "status_change",
        Some("{\"con" | "{\"mes") => "inbound_message",
        Some("{\"ser") => "service",
        Some(_) | None => "other",
    }
}

/// A callback that tells a customer's message.
pub fn is_message(payload: &str) -> bool {
    kind(payload) == "inbound_message"
}

impl Documented {
    /// A request to the business ended: `success`, or the status of its answer, or `unreachable`.
    pub fn callback(&self, payload: &str, result: &str, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let mut callbacks = self
            .callbacks
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let of = callbacks.entry((kind(payload), result.to_owned()));
        let (sum, count) = of.or_default();
        *sum = sum.saturating_add(us);
        *count += 1;
    }

    /// No shard is owned any more: what waits is the next owner's.
    pub fn nothing_waits(&self) {
        for waits in [
            &self.callback_queue,
            &self.pending_events,
            &self.pending_callbacks,
            &self.pending_messages,
        ] {
            waits.store(0, Ordering::Relaxed);
        }
    }

    /// The figures, beside what is measured anyway.
    pub fn figures(&self, metrics: &CoreappMetrics) -> Figures {
        let mut all = self.of_callbacks();
        all.extend(self.of_requests());
        all.extend(self.of_messages(metrics));
        all
    }

    fn of_callbacks(&self) -> Figures {
        let callbacks = self.callbacks.lock();
        let callbacks = callbacks.unwrap_or_else(PoisonError::into_inner).clone();
        let mut sum = Figure::counter("Duration of requests to the business");
        let mut count = Figure::counter("Requests to the business");
        let mut whole = 0;
        for ((kind, result), (us, times)) in &callbacks {
            let labels = [("type", *kind), ("result", result.as_str())];
            sum = sum.with(&labels, ms(*us));
            count = count.with(&labels, value(*times));
            whole += times;
        }
        let requests = Figure::counter("Requests to the business").with(&[], value(whole));
        let queue = "Callbacks in memory, read from the database and not taken yet";
        let pending = "Callbacks of the own shard that the business has not taken";
        let all = [
            ("callback_requests_duration_ms_sum", sum),
            ("callback_requests_duration_ms_count", count),
            ("callback_requests", requests),
            ("callback_queue_size", gauge(queue, &self.callback_queue)),
            ("pending_callbacks", gauge(pending, &self.pending_callbacks)),
        ];
        named(all)
    }

    fn of_requests(&self) -> Figures {
        let span = |span: &Span, labels: &[(&str, &str)], help, scale: fn(u64) -> f64| {
            let (us, times) = span.get();
            let figure = |value| Figure::counter(help).with(labels, value);
            (figure(scale(us)), figure(value(times)))
        };
        let none = Figure::counter("Not measured: always 0").with(&[], 0.0);
        let commit = [("db", "wa"), ("request", "commit")];
        let commits = span(&self.commits, &commit, "Commits", value);
        let endpoint = span(&self.endpoint, &[], "Requests of webapps to this owner", ms);
        let internal = span(&self.internal, &[], "Requests of other nodes", ms);
        let sends = span(&self.sends, &[], "Sends that the upstream answered", ms);
        named([
            ("db_request_duration_us_sum", commits.0),
            ("db_request_duration_us_count", commits.1),
            ("endpoint_requests", endpoint.1.clone()),
            ("endpoint_requests_duration_ms_sum", endpoint.0),
            ("endpoint_requests_duration_ms_count", endpoint.1),
            ("internal_server_requests_duration_ms_sum", internal.0),
            ("internal_server_conn_duration_ms_count", none),
            ("out_message_sent_duration_ms_sum", sends.0),
            ("out_message_sent_duration_ms_count", sends.1),
        ])
    }

    fn of_messages(&self, metrics: &CoreappMetrics) -> Figures {
        let statuses = STATUSES.iter().zip(&self.statuses);
        let statuses = statuses.fold(
            Figure::counter("Statuses of our messages"),
            |figure, (word, count)| figure.with(&[("status", *word)], load(count)),
        );
        let counter = |help, count| Figure::counter(help).with(&[], value(count));
        let counted = |help, count: &AtomicU64| Figure::counter(help).with(&[], load(count));
        let read = "Customers' messages read from the inbox";
        let decoded = "Customers' messages that were understood";
        let persisted = "Customers' messages stored for the business";
        let events = "Events of the own shard that wait in the inbox";
        let messages = "Messages of the own shard that are not finished";
        named([
            ("in_message_from_server", counted(read, &self.in_read)),
            ("in_message_decoded", counted(decoded, &self.in_decoded)),
            (
                "in_message_persisted",
                counted(persisted, &self.in_persisted),
            ),
            (
                "in_messages_pending_processing",
                gauge(events, &self.pending_events),
            ),
            (
                "media_downloads",
                counter(
                    "Files of customers' messages fetched",
                    metrics.media_fetched.get(),
                ),
            ),
            (
                "media_uploads",
                counter("Files given to the upstream", metrics.media_sent.get()),
            ),
            (
                "out_message_persisted",
                counter("Messages accepted", metrics.accepted.get()),
            ),
            ("out_message_status", statuses),
            ("pending_messages", gauge(messages, &self.pending_messages)),
        ])
    }
}

fn load(of: &AtomicU64) -> f64 {
    value(of.load(Ordering::Relaxed))
}

fn ms(us: u64) -> f64 {
    value(us) / 1000.0
}

fn gauge(help: &str, of: &AtomicU64) -> Figure {
    Figure::gauge(help).with(&[], load(of))
}

fn named<const N: usize>(all: [(&str, Figure); N]) -> Figures {
    all.map(|(name, figure)| (name.to_owned(), figure)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: every documented name of `/v1/stats/app` is there, with its labels. Method:
    /// the list of the API reference.
    #[test]
    fn the_documented_names_are_there() {
        let documented = Documented::default();
        let took = Duration::from_millis(3);
        documented.callback("{\"statuses\":[]}", "success", took);
        documented.callback("{\"statuses\":[]}", "success", took);
        documented.callback("{\"contacts\":[]}", "500", took);
        documented.callback("{\"services\":[]}", "unreachable", took);
        let figures = documented.figures(&CoreappMetrics::new());
        for name in "callback_queue_size callback_requests_duration_ms_sum callback_requests_duration_ms_count \
             db_request_duration_us_sum db_request_duration_us_count endpoint_requests endpoint_requests_duration_ms_sum \
             endpoint_requests_duration_ms_count in_message_from_server in_message_decoded in_message_persisted \
             in_messages_pending_processing internal_server_conn_duration_ms_count internal_server_requests_duration_ms_sum media_downloads media_uploads \
             out_message_persisted out_message_sent_duration_ms_sum out_message_sent_duration_ms_count out_message_status \
             pending_callbacks pending_messages callback_requests"
            .split_whitespace()
        {
            let figure = figures.get(name).unwrap_or_else(|| panic!("{name}"));
            assert!(!figure.data.is_empty() && !figure.help.is_empty(), "{name}");
        }
        let count = &figures["callback_requests_duration_ms_count"].data;
        let of = |kind: &str, result: &str| {
            let found = count
                .iter()
                .find(|sample| sample.labels["type"] == kind && sample.labels["result"] == result);
            found.map(|sample| sample.value)
        };
        assert_eq!(of("status_change", "success"), Some(2.0));
        assert_eq!(of("inbound_message", "500"), Some(1.0));
        assert_eq!(of("service", "unreachable"), Some(1.0));
        assert_eq!(figures["callback_requests"].data[0].value, 4.0);
        let sum: f64 = figures["callback_requests_duration_ms_sum"]
            .data
            .iter()
            .map(|s| s.value)
            .sum();
        assert_eq!(sum, 12.0);
        let labels = &figures["db_request_duration_us_sum"].data[0].labels;
        assert_eq!(labels["request"], "commit");
    }
}
