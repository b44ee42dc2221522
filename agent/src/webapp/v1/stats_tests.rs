//! Statistics and metrics through the router: the documented shapes, nodes that do not answer, and text that a scraper reads.

use std::collections::BTreeSet;

use axum::routing::get;
use axum::{Json, Router};
use prometheus_parse::Scrape;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use wa_core::id::{Incarnation, NodeId, Role};

use crate::api::{control, internal};
use crate::db::node::Registration;
use crate::metrics::CoreappMetrics;
use crate::metrics::coreapp::Documented;
use crate::metrics::figure::{Page, text};
use crate::net::server;
use crate::webapp::tests::{Bench, code, whole_with};

const KEY: [(&str, &str); 1] = [("authorization", "Apikey 0123456789abcdef")];
const NODE: &str = "core1.example:coreapp-1";

fn page() -> Page {
    let (documented, metrics) = (Documented::default(), CoreappMetrics::new());
    metrics.accepted.inc_by(11);
    documented.callback(
        "{\"statuses\":[]}",
        "500",
        std::time::Duration::from_micros(1500),
    );
    Page {
        node: NODE.into(),
        start: start().to_string(),
        documented: documented.figures(&metrics),
        own: metrics.figures(),
    }
}

fn start() -> Incarnation {
    Incarnation {
        counter: 7,
        random: 9,
    }
}

/// A node that tells its page, at both places.
async fn node() -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let router = Router::new()
        .route(internal::path::FIGURES, get(|| async { Json(page()) }))
        .route(control::path::FIGURES_DB, get(|| async { Json(page()) }));
    tokio::spawn(server::serve(listener, router, CancellationToken::new()));
    port
}

async fn register(bench: &Bench, node: &str, role: Role, port: u16) {
    let row = Registration {
        node: NodeId::new(node),
        role,
        incarnation: start(),
        machine: "m".into(),
        zone: "z".into(),
        address: "127.0.0.1".into(),
        port_heartbeat: 1,
        port_control: port,
        port_api: port,
        version: "0".into(),
        weight: 0,
        keys: Default::default(),
    };
    bench.db.register(&row).await.expect("registered");
}

/// A cluster of a coreapp that answers, one that is dead, one whose address another has, and a webapp.
async fn cluster() -> Bench {
    let bench = whole_with(false).await;
    let port = node().await;
    register(&bench, NODE, Role::Coreapp, port).await;
    register(&bench, "core2.example:coreapp-1", Role::Coreapp, 1).await;
    register(&bench, "core3.example:coreapp-1", Role::Coreapp, port).await;
    register(&bench, "w1.example:webapp-1", Role::Webapp, port).await;
    bench
}

async fn ask(bench: &Bench, path: &str) -> Value {
    let (status, body) = bench.call("GET", path, &KEY, "").await;
    assert_eq!(status, 200, "{path}: {body}");
    body
}

/// Every line of a text is read, names are unique, and nothing has a number twice.
fn parsed(body: &Value) -> Scrape {
    let text = body.as_str().unwrap_or_else(|| panic!("no text: {body}"));
    assert!(text.ends_with("# EOF\n"), "{text}");
    let lines = text.lines().map(|line| Ok(line.to_owned()));
    let scrape = Scrape::parse(lines).expect("it parses");
    let names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .collect();
    let unique: BTreeSet<&str> = names
        .iter()
        .filter_map(|name| name.split(' ').next())
        .collect();
    assert_eq!(names.len(), unique.len(), "{names:?}");
    scrape
}

/// Goal: documented names with the documented shape; a dead node has `errors`, webapps are not in it; `/internal` has ours, too.
#[tokio::test]
async fn nodes_tell_what_they_measure() {
    let bench = cluster().await;
    let body = ask(&bench, "/v1/stats/app").await;
    let app = body["stats"]["app"].as_object().expect("nodes");
    assert_eq!(app.len(), 3, "{body}");
    let accepted = &app[NODE]["out_message_persisted"];
    assert_eq!(accepted["type"], "counter", "{accepted}");
    assert_eq!(
        accepted["data"],
        json!([{"labels": {"node": NODE}, "value": 11}])
    );
    assert!(app[NODE].get("wa_messages_accepted_total").is_none());
    for mute in ["core2.example:coreapp-1", "core3.example:coreapp-1"] {
        assert_eq!(app[mute]["errors"][0]["code"], 1011, "{mute}: {body}");
    }
    let body = ask(&bench, "/v1/stats/app/internal/").await;
    let own = &body["stats"]["app"][NODE];
    assert_eq!(own["wa_messages_accepted_total"]["data"][0]["value"], 11);
    assert_eq!(own["wa_intake_commit_seconds_count"]["data"][0]["value"], 0);
    assert_eq!(own["pending_messages"]["type"], "gauge", "{own}");
}

/// Goal: what is said as text is what is said as JSON, read by a parser that is not ours.
#[tokio::test]
async fn texts_are_read_by_scrapers() {
    let bench = cluster().await;
    let body = ask(&bench, "/v1/stats/app/internal?format=prometheus").await;
    let scrape = parsed(&body);
    let found = |name: &str, label: &str, of: &str| {
        let found = scrape
            .samples
            .iter()
            .find(|sample| sample.metric == name && sample.labels.get(label) == Some(of));
        found.map(|sample| sample.value.clone())
    };
    let gauge = prometheus_parse::Value::Gauge;
    assert_eq!(
        found("out_message_persisted", "node", NODE),
        Some(gauge(11.0))
    );
    assert_eq!(found("wa_node_answers", "node", NODE), Some(gauge(1.0)));
    let dead = found("wa_node_answers", "node", "core2.example:coreapp-1");
    assert_eq!(dead, Some(gauge(0.0)));
    let odd = found("callback_requests_duration_ms_sum", "type", "status_change");
    assert_eq!(odd, Some(gauge(1.5)));
    // Nothing is lost: as many values as figures have, and one more for each node.
    let whole: usize = [page().documented, page().own]
        .iter()
        .flat_map(|figures| figures.values())
        .map(|figure| figure.data.len())
        .sum();
    assert_eq!(scrape.samples.len(), whole + 3);
    assert!(text(page().documented).contains("callback_queue_size 0\n"));
}

/// Goal: rows are told under the node that counted, the others are empty; the format can be chosen.
#[tokio::test]
async fn rows_are_told_under_who_counted() {
    let bench = cluster().await;
    let (node, url) = (
        NodeId::new(NODE),
        format!("http://127.0.0.1:{}", node().await),
    );
    let map = (*bench.webapp.map.now()).clone();
    bench.webapp.map.set(crate::webapp::shard_map::Map {
        master: Some((node, url.into())),
        ..map
    });
    for (path, ours) in [("/v1/stats/db", false), ("/v1/stats/db/internal", true)] {
        let body = ask(&bench, path).await;
        let db = &body["stats"]["db"];
        assert_eq!(db["core2.example:coreapp-1"], json!({}), "{body}");
        assert_eq!(db[NODE]["out_message_persisted"]["data"][0]["value"], 11);
        assert_eq!(db[NODE].get("wa_messages_sent_total").is_some(), ours);
    }
    parsed(&ask(&bench, "/v1/stats/db/internal?format=prometheus").await);
    bench.webapp.map.set(crate::webapp::shard_map::Map {
        master: None,
        ..(*bench.webapp.map.now()).clone()
    });
    bench.webapp.stats_db.forget();
    let (status, body) = bench.call("GET", "/v1/stats/db", &KEY, "").await;
    assert_eq!((status, code(&body)), (503, 1017), "{body}");
}

/// Goal: `/metrics` says the same as JSON, as documented, and as text for who asks for text.
#[tokio::test]
async fn a_webapp_tells_what_it_measures() {
    let bench = whole_with(false).await;
    ask(&bench, "/v1/health").await;
    let body = ask(&bench, "/metrics").await;
    let labels = json!({"method": "GET_v1_health", "result": "200", "node": "test:webapp-1"});
    let count = body["api_requests_duration_ms_count"]["data"].as_array();
    let count = count.and_then(|data| data.iter().find(|d| d["labels"] == labels));
    assert_eq!(
        count.map(|found| &found["value"]),
        Some(&json!(1)),
        "{body}"
    );
    assert_eq!(body["meta"]["api_status"], "stable");
    assert!(body["wa_api_requests_total"]["data"][0]["value"].as_u64() >= Some(2));
    let text = parsed(&ask(&bench, "/v1/metrics/?format=prometheus").await);
    let has = |name: &str| text.samples.iter().any(|sample| sample.metric == name);
    assert!(
        has("wa_api_requests_total") && has("web_uptime"),
        "{text:?}"
    );
    assert!(has("api_requests_duration_ms_sum"), "{text:?}");
    let scraper = [
        KEY[0],
        (
            "accept",
            "application/openmetrics-text;q=0.9,text/plain;q=0.5,*/*;q=0.1",
        ),
    ];
    let (_, body) = bench.call("GET", "/metrics", &scraper, "").await;
    parsed(&body);
    let (_, body) = bench
        .call("GET", "/metrics?format=json", &scraper, "")
        .await;
    assert_eq!(body["web_uptime"]["type"], "gauge", "{body}");
}
