//! What a webapp measures, under the names of the reference client (`/metrics`). What each means here is in the README.
//! Measures nothing by itself.

use std::time::Duration;

use super::WebappMetrics;
use super::figure::{Figure, Figures, value};

/// Names of the reference client for what cannot happen here or is not measured, and why they are 0.
const NEVER: [(&str, &str); 7] = [
    ("web_connections", "Not counted: always 0"),
    ("api_requests_db_duration_ms_sum", "Not measured: always 0"),
    (
        "api_requests_db_duration_ms_count",
        "Not measured: always 0",
    ),
    ("web_idle_processes", "One process serves all: always 0"),
    (
        "web_process_limit_hit",
        "There is no limit of processes: always 0",
    ),
    (
        "web_pending_connections",
        "Connections wait in the kernel only: always 0",
    ),
    (
        "web_max_pending_connections",
        "Connections wait in the kernel only: always 0",
    ),
];

impl WebappMetrics {
    /// The figures under the names of the reference client. `uptime` is for how long this webapp has run.
    pub fn documented(&self, uptime: Duration) -> Figures {
        let gauge = |help, value| Figure::gauge(help).with(&[], value);
        let counter = |help, value| Figure::counter(help).with(&[], value);
        #[allow(clippy::cast_precision_loss)]
        let held = self.held.get() as f64;
        let state = [("state", "handle-request")];
        let running = Figure::gauge("Requests that are being answered");
        let kilobytes = value(self.calls.bytes()) / 1000.0;
        let up = value(uptime.as_secs());
        let mut all: Figures = [
            ("web_uptime", gauge("Seconds since this webapp started", up)),
            (
                "web_queue_len",
                gauge("Requests held for a failover or a busy owner", held),
            ),
            (
                "web_handled_requests",
                counter("Requests to the public API", value(self.requests.get())),
            ),
            (
                "web_requests",
                running.with(&state, value(self.calls.running())),
            ),
            ("web_out_kbytes", counter("Kilobytes of answers", kilobytes)),
            (
                "web_total_processes",
                gauge("Processes that answer requests", 1.0),
            ),
        ]
        .map(|(name, figure)| (name.to_owned(), figure))
        .into();
        let never = NEVER.map(|(name, help)| (name.to_owned(), gauge(help, 0.0)));
        all.extend(never);
        all.extend(self.durations());
        all
    }

    fn durations(&self) -> Figures {
        let ms = |us: u64| value(us) / 1000.0;
        let mut sum = Figure::counter("Duration of requests, by call and status");
        let mut count = Figure::counter("Requests, by call and status");
        for (method, status, us, times) in self.calls.answered() {
            let labels = [("method", method.as_str()), ("result", status.as_str())];
            sum = sum.with(&labels, ms(us));
            count = count.with(&labels, value(times));
        }
        let labels = [("method", "POST_v1_messages")];
        let forwards = "Requests to coreapps to accept messages";
        let forward = |value| Figure::counter(forwards).with(&labels, value);
        let (seconds, times) = self.forward.sum_and_count();
        [
            ("api_requests_duration_ms_sum", sum),
            ("api_requests_duration_ms_count", count),
            (
                "api_requests_coreapp_duration_ms_sum",
                forward(seconds * 1000.0),
            ),
            (
                "api_requests_coreapp_duration_ms_count",
                forward(value(times)),
            ),
        ]
        .map(|(name, figure)| (name.to_owned(), figure))
        .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: every documented name of `/metrics` is there; requests are counted by call and status.
    #[test]
    fn the_documented_names_are_there() {
        let metrics = WebappMetrics::new();
        let call = metrics.calls.of("GET_v1_health");
        let running = call.begin();
        call.count(200, Duration::from_millis(2), 500);
        metrics
            .calls
            .of("GET_v1_health")
            .count(200, Duration::from_millis(4), 1500);
        call.count(418, Duration::from_millis(1), 0);
        let figures = metrics.documented(Duration::from_secs(90));
        for name in "web_uptime web_connections api_requests_db_duration_ms_sum api_requests_db_duration_ms_count web_pending_connections web_max_pending_connections web_queue_len web_idle_processes \
             web_total_processes web_process_limit_hit web_handled_requests web_requests web_out_kbytes \
             api_requests_duration_ms_sum api_requests_duration_ms_count api_requests_coreapp_duration_ms_sum \
             api_requests_coreapp_duration_ms_count"
            .split_whitespace()
        {
            assert!(figures.contains_key(name), "{name}");
        }
        let of = |name: &str, result: &str| {
            let found = figures[name]
                .data
                .iter()
                .find(|s| s.labels["result"] == result);
            found.map(|sample| sample.value)
        };
        assert_eq!(of("api_requests_duration_ms_sum", "200"), Some(6.0));
        assert_eq!(of("api_requests_duration_ms_count", "200"), Some(2.0));
        assert_eq!(of("api_requests_duration_ms_count", "other"), Some(1.0));
        assert_eq!(figures["web_requests"].data[0].value, 1.0);
        assert_eq!(figures["web_out_kbytes"].data[0].value, 2.0);
        assert_eq!(figures["web_uptime"].data[0].value, 90.0);
        drop(running);
        let after = metrics.documented(Duration::ZERO);
        assert_eq!(after["web_requests"].data[0].value, 0.0);
        let own = metrics.figures();
        let calls = &own["wa_api_calls_total"].data;
        assert_eq!(calls.len(), 4);
        assert_eq!(calls[0].value, 2.0);
    }
}
