//! The page of the number through the router, with coreapps of this release and of the one before.

use axum::routing::get;
use axum::{Json, Router};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use wa_core::id::{Incarnation, NodeId, Role};

use super::*;
use crate::api::internal::path;
use crate::db::node::Registration;
use crate::net::server;

const START: Incarnation = Incarnation {
    counter: 7,
    random: 9,
};

/// A coreapp that owns shard 0; `account`: what it heard of the upstream, where it can be asked.
async fn coreapp(bench: &Bench, node: &'static str, account: Option<Value>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let health = json!({"node": node, "start": START.to_string(), "gateway_status": "connected", "shard": 0, "epoch": 3});
    let mut router = Router::new().route(path::HEALTH, get(|| async { Json(health) }));
    if let Some(account) = account {
        let answer = json!({"node": node, "start": START.to_string(), "heard": account});
        router = router.route(path::ACCOUNT, get(|| async { Json(answer) }));
    }
    tokio::spawn(server::serve(listener, router, CancellationToken::new()));
    let row = Registration {
        node: NodeId::new(node),
        role: Role::Coreapp,
        incarnation: START,
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

fn heard() -> Value {
    json!({"asked_ms": 1_898_609_366_000_u64, "version": "v25.0", "version_end_s": 0,
        "number": {"Ok": {"status": "FLAGGED", "quality_rating": "RED", "verified_name": "<script>Shop"}},
        "limit": {"Err": "it does not say"}, "token": {"Ok": {"is_valid": true}},
        "subscription": {"Ok": {"apps": []}}, "of_a_newer_release": 1})
}

/// Goal: the page says how the number stands, by the word of its owner, with news of the account and without bodies; an open page learns
/// of changes. Method: an owner, a template and a piece of news.
#[tokio::test]
async fn the_number_is_shown() {
    let bench = whole().await;
    let mut browser = logged_in(&bench).await;
    coreapp(&bench, "a:coreapp-1", Some(heard())).await;
    let entry = crate::api::cloud::template::Entry {
        name: "order_sent".into(),
        language: "en".into(),
        status: "PAUSED".into(),
        shape: Default::default(),
    };
    bench.db.seed_templates(&[entry]).await;
    let record = Record {
        node: "a:coreapp-1".into(),
        shard: -1,
        what: "account".into(),
        subject: "account_alerts".into(),
        reason: "LIMITS <i>".into(),
        evidence: String::new(),
    };
    bench.db.record(&record).await.expect("kept");
    let page = browser.open("/console/number").await;
    assert_eq!(page.status, 200, "{}", page.text);
    for part in [
        "FLAGGED",
        "RED",
        "&lt;script&gt;Shop",
        "it does not say",
        "no message of a customer arrives",
        "connected",
        "order_sent",
        "PAUSED",
        "account_alerts",
        "LIMITS &lt;i&gt;",
        "a:coreapp-1",
    ] {
        assert!(page.text.contains(part), "{part}: {}", page.text);
    }
    let asked = Request::get("/console/live?page=number");
    let mut stream = browser.response(asked, String::new()).await.into_body();
    bench.webapp.console.take(look("a:coreapp-1"));
    let frame = tokio::time::timeout(Duration::from_secs(5), stream.frame()).await;
    let frame = frame.expect("in time").expect("open").expect("no error");
    let data = frame.into_data().expect("data");
    let event = String::from_utf8(data.to_vec()).expect("text");
    assert!(event.contains("FLAGGED"), "{event}");
}

/// Goal: an owner of the release before is said to be one, and the rest of the page is there; so it is without any owner. Method: a
/// coreapp without the look, and none.
#[tokio::test]
async fn an_older_owner_is_told() {
    let bench = whole().await;
    let mut browser = logged_in(&bench).await;
    let none = browser.open("/console/number").await.text;
    assert!(
        none.contains("No coreapp owns a shard") && none.contains("no owner"),
        "{none}"
    );
    coreapp(&bench, "a:coreapp-1", None).await;
    bench.webapp.standing.forget();
    let older = browser.open("/console/number").await.text;
    assert!(
        older.contains("older release") && older.contains("connected"),
        "{older}"
    );
}
