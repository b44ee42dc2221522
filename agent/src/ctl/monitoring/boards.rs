//! Dashboards for Grafana: one for the cluster and one for each role.
//! Draws nothing: Grafana does.

use serde_json::{Value, json};
use wa_core::alarm::Alarm;

/// Title, unit of Grafana, query, legend.
type Panel = (&'static str, &'static str, &'static str, &'static str);

/// Panels stand in a grid of 24 columns, two beside each other.
const WIDTH: usize = 12;
const HEIGHT: usize = 8;

const CLUSTER: &[Panel] = &[
    (
        "Alarms that ring",
        "short",
        r#"count(ALERTS{alertname=~"Wa.+",alertstate="firing",cluster=~"$cluster"}) or vector(0)"#,
        "alarms",
    ),
    (
        "Targets that answer",
        "short",
        r#"up{job="wa-agent",cluster=~"$cluster"}"#,
        "{{node}}",
    ),
    (
        "Problems by kind",
        "short",
        r#"max by (kind) (wa_problems{cluster=~"$cluster"}) > 0 or max by (kind) (wa_problems{cluster=~"$cluster",kind="no_master"})"#,
        "{{kind}}",
    ),
    (
        "Primary master",
        "short",
        r#"wa_master_primary{cluster=~"$cluster"}"#,
        "{{node}}",
    ),
    (
        "Owners",
        "short",
        r#"wa_coreapp_owner{cluster=~"$cluster"}"#,
        "{{node}}",
    ),
    (
        "Least of a lease that is left",
        "percent",
        r#"wa:lease_margin_percent{cluster=~"$cluster"}"#,
        "{{cluster}}",
    ),
    (
        "Messages accepted and sent",
        "ops",
        r#"label_replace(sum(rate(wa_messages_accepted_total{cluster=~"$cluster"}[5m])), "what", "accepted", "", "") or label_replace(sum(rate(wa_messages_sent_total{cluster=~"$cluster"}[5m])), "what", "sent", "", "")"#,
        "{{what}}",
    ),
    (
        "Handovers within an hour",
        "short",
        r#"sum by (node) (increase(wa_handovers_total{cluster=~"$cluster"}[1h]))"#,
        "{{node}}",
    ),
];

const MASTER: &[Panel] = &[
    (
        "Time left on the lease",
        "s",
        r#"wa_lease_margin_seconds{cluster=~"$cluster"}"#,
        "{{node}}",
    ),
    (
        "Newest takeover, and what the timers promise",
        "s",
        r#"max by (__name__) ({__name__=~"wa_takeover_seconds|wa_takeover_promised_seconds",cluster=~"$cluster"})"#,
        "{{__name__}}",
    ),
    (
        "Reads of the shard map",
        "s",
        r#"wa_database_read_seconds{cluster=~"$cluster"}"#,
        "{{node}}",
    ),
    (
        "Round trip of heartbeats, 99 of 100",
        "s",
        r#"histogram_quantile(0.99, sum by (le, node) (rate(wa_heartbeat_rtt_seconds_bucket{cluster=~"$cluster"}[5m])))"#,
        "{{node}}",
    ),
    (
        "Lateness of rounds, 99 of 100",
        "s",
        r#"histogram_quantile(0.99, sum by (le, node) (rate(wa_heartbeat_round_lateness_seconds_bucket{cluster=~"$cluster"}[5m])))"#,
        "{{node}}",
    ),
    (
        "Rounds by which nobody was judged",
        "ops",
        r#"rate(wa_rounds_abstained_total{cluster=~"$cluster"}[5m])"#,
        "{{node}}",
    ),
    (
        "Reads and writes of the database that failed",
        "ops",
        r#"rate(wa_store_failures_total{cluster=~"$cluster"}[5m])"#,
        "{{node}}",
    ),
    (
        "Owners that were replaced and lived",
        "short",
        r#"wa:false_starts{cluster=~"$cluster"}"#,
        "{{cluster}}",
    ),
];

const COREAPP: &[Panel] = &[
    (
        "Time left on the tenure",
        "s",
        r#"wa_tenure_margin_seconds{cluster=~"$cluster"}"#,
        "{{node}}",
    ),
    (
        "Messages sent",
        "ops",
        r#"rate(wa_messages_sent_total{cluster=~"$cluster"}[5m])"#,
        "{{node}}",
    ),
    (
        "Outbox",
        "short",
        r#"max by (cluster) (wa_outbox_depth{cluster=~"$cluster"})"#,
        "{{cluster}}",
    ),
    (
        "Inbox",
        "short",
        r#"wa_inbox_depth{cluster=~"$cluster"}"#,
        "{{node}}",
    ),
    (
        "Commits of accepted messages, 99 of 100",
        "s",
        r#"histogram_quantile(0.99, sum by (le, node) (rate(wa_intake_commit_seconds_bucket{cluster=~"$cluster"}[5m])))"#,
        "{{node}}",
    ),
    (
        "Refusals of WhatsApp by class",
        "ops",
        r#"sum by (class) (rate(wa_upstream_refusals_total{cluster=~"$cluster"}[5m]))"#,
        "{{class}}",
    ),
    (
        "Messages refused for good, and of unknown fate",
        "ops",
        r#"label_replace(sum(rate(wa_messages_failed_total{cluster=~"$cluster"}[5m])), "what", "refused", "", "") or label_replace(sum(rate(wa_messages_ambiguous_total{cluster=~"$cluster"}[5m])), "what", "unknown", "", "")"#,
        "{{what}}",
    ),
    (
        "Time without receipts",
        "s",
        r#"wa_receipts_silent_seconds{cluster=~"$cluster"}"#,
        "{{node}}",
    ),
    (
        "Callbacks that wait",
        "short",
        r#"wa_webhook_depth{cluster=~"$cluster"}"#,
        "{{node}}",
    ),
    (
        "The oldest callback",
        "s",
        r#"wa_webhook_oldest_seconds{cluster=~"$cluster"}"#,
        "{{node}}",
    ),
    (
        "Callbacks that are parked",
        "short",
        r#"wa_webhooks_parked{cluster=~"$cluster"}"#,
        "{{node}}",
    ),
    (
        "Messages are held for",
        "s",
        r#"wa_messages_held_seconds{cluster=~"$cluster"}"#,
        "{{node}}",
    ),
    (
        "Days until the access token ends",
        "d",
        r#"wa:token_days{cluster=~"$cluster"}"#,
        "{{cluster}}",
    ),
    (
        "Days until the version of the Cloud API ends",
        "d",
        r#"wa:version_days{cluster=~"$cluster"}"#,
        "{{cluster}}",
    ),
];

const WEBAPP: &[Panel] = &[
    (
        "Requests by class of the answer",
        "ops",
        r#"sum by (answer) (rate(wa_api_calls_total{cluster=~"$cluster"}[5m]))"#,
        "{{answer}}",
    ),
    (
        "Requests by call",
        "ops",
        r#"sum by (call) (rate(wa_api_calls_total{cluster=~"$cluster"}[5m]))"#,
        "{{call}}",
    ),
    (
        "Requests that are held",
        "short",
        r#"wa_requests_held{cluster=~"$cluster"}"#,
        "{{node}}",
    ),
    (
        "Requests answered 503",
        "ops",
        r#"rate(wa_requests_shed_total{cluster=~"$cluster"}[5m])"#,
        "{{node}}",
    ),
    (
        "Forwards to the owner, 99 of 100",
        "s",
        r#"histogram_quantile(0.99, sum by (le, node) (rate(wa_forward_seconds_bucket{cluster=~"$cluster"}[5m])))"#,
        "{{node}}",
    ),
    (
        "Events of WhatsApp stored",
        "ops",
        r#"rate(wa_events_stored_total{cluster=~"$cluster"}[5m])"#,
        "{{node}}",
    ),
    (
        "Connections",
        "short",
        r#"sum by (node, port) (wa_connections{cluster=~"$cluster",role="webapp"})"#,
        "{{node}} {{port}}",
    ),
    (
        "Days until the certificate ends",
        "d",
        r#"wa:certificate_days{cluster=~"$cluster"}"#,
        "{{cluster}}",
    ),
];

const HOST: &[Panel] = &[
    (
        "Gate attested",
        "short",
        r#"wa_gate_attested{cluster=~"$cluster"}"#,
        "{{node}}",
    ),
    (
        "Deaths told to masters",
        "short",
        r#"wa_host_obituaries_total{cluster=~"$cluster"}"#,
        "{{node}}",
    ),
    (
        "Fence requests",
        "short",
        r#"wa_host_fences_total{cluster=~"$cluster"}"#,
        "{{node}}",
    ),
    (
        "Media directory works",
        "short",
        r#"wa_media_ok{cluster=~"$cluster"}"#,
        "{{node}}",
    ),
    (
        "Free space of the media directory",
        "bytes",
        r#"wa_media_free_bytes{cluster=~"$cluster"}"#,
        "{{node}}",
    ),
    (
        "Free space of the state directory",
        "bytes",
        r#"wa_state_free_bytes{cluster=~"$cluster"}"#,
        "{{node}}",
    ),
];

/// Name of the file, title, panels.
const BOARDS: &[(&str, &str, &[Panel])] = &[
    ("cluster", "wa-agent: cluster", CLUSTER),
    ("master", "wa-agent: masters", MASTER),
    ("coreapp", "wa-agent: coreapps", COREAPP),
    ("webapp", "wa-agent: webapps", WEBAPP),
    ("host", "wa-agent: machines", HOST),
];

/// The limit of the alarm that watches this query, as a line in the picture.
fn limit(query: &str) -> Option<i64> {
    let mut all = Alarm::ALL.iter().map(|alarm| alarm.row());
    let watched = |row: &&wa_core::alarm::Row| query.starts_with(&format!("{}{{", row.figure));
    all.find(watched).map(|row| row.limit)
}

fn panel(at: usize, (title, unit, query, legend): &Panel) -> Value {
    let steps = match limit(query) {
        Some(limit) => json!([{"color": "green", "value": null}, {"color": "red", "value": limit}]),
        None => json!([{"color": "green", "value": null}]),
    };
    let line = if limit(query).is_some() {
        "line"
    } else {
        "off"
    };
    json!({
        "id": at + 1,
        "type": "timeseries",
        "title": title,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "gridPos": {"h": HEIGHT, "w": WIDTH, "x": at % 2 * WIDTH, "y": at / 2 * HEIGHT},
        "fieldConfig": {
            "defaults": {
                "unit": unit,
                "min": 0,
                "custom": {"thresholdsStyle": {"mode": line}},
                "thresholds": {"mode": "absolute", "steps": steps},
            },
            "overrides": [],
        },
        "targets": [{"refId": "A", "expr": query, "legendFormat": legend}],
    })
}

fn board(name: &str, title: &str, panels: &[Panel]) -> Value {
    let panels: Vec<Value> = panels
        .iter()
        .enumerate()
        .map(|(at, of)| panel(at, of))
        .collect();
    json!({
        "uid": format!("wa-agent-{name}"),
        "title": title,
        "tags": ["wa-agent"],
        "schemaVersion": 39,
        "editable": true,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [
            {"name": "datasource", "type": "datasource", "query": "prometheus"},
            {
                "name": "cluster",
                "type": "query",
                "datasource": {"type": "prometheus", "uid": "${datasource}"},
                "query": "label_values(wa_master_primary, cluster)",
                "includeAll": true,
                "allValue": ".*",
                "current": {"text": "All", "value": "$__all"},
                "refresh": 2,
            },
        ]},
        "panels": panels,
    })
}

/// Every dashboard: name of its file without the end, and the file.
pub fn all() -> Vec<(&'static str, String)> {
    let text = |board: Value| {
        let text = serde_json::to_string_pretty(&board).expect("plain data");
        format!("{text}\n")
    };
    BOARDS
        .iter()
        .map(|(name, title, panels)| (*name, text(board(name, title, panels))))
        .collect()
}
