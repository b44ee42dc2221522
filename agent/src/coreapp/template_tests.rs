//! Reading templates. Goal: the table has what the upstream's list has, page by page; one name is looked up when it is asked
//! for, and not twice in a moment; what the upstream does not name any more goes. Method: a coreapp with a small upstream
//! whose list the test changes.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use axum::routing::get;
use serde_json::{Value, json};

use crate::api::owner::{OwnerAnswer, OwnerCall, OwnerRequest, Settled};
use crate::coreapp::tests::{Cluster, Outside, router};
use crate::sys::clock;

/// The templates of the upstream, and what it was asked.
#[derive(Default)]
struct List {
    names: Vec<&'static str>,
    asked: Vec<Value>,
}

type Shared = Arc<Mutex<List>>;

/// A page has one template.
async fn page(State(list): State<Shared>, Query(query): Query<Value>) -> Json<Value> {
    let mut list = list.lock().expect("no panic before");
    let name = query["name"].as_str();
    let after = query["after"]
        .as_str()
        .map_or(0, |a| a.parse().expect("ours"));
    let matching = list
        .names
        .iter()
        .filter(|n| name.is_none_or(|name| n.contains(name)));
    let matching: Vec<_> = matching.copied().collect();
    list.asked.push(query);
    let data: Vec<_> = matching
        .get(after)
        .iter()
        .map(|name| {
            json!({"name": name, "language": "en", "status": "APPROVED", "category": "UTILITY",
               "components": [{"type": "BODY", "text": "Hi {{1}}"}]})
        })
        .collect();
    let mut paging = json!({"cursors": {"after": (after + 1).to_string()}});
    if after + 1 < matching.len() {
        paging["next"] = "https://elsewhere.example/".into();
    }
    Json(json!({"data": data, "paging": paging}))
}

async fn upstream(names: &[&'static str]) -> (Shared, (Outside, SocketAddr)) {
    let list = Shared::default();
    list.lock().expect("new").names = names.to_vec();
    let seen = Outside::default();
    let pages = axum::Router::new()
        .route("/v1/waba/message_templates", get(page))
        .with_state(Arc::clone(&list));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let address = listener.local_addr().expect("bound");
    let router = router(&seen).merge(pages);
    tokio::spawn(async move { axum::serve(listener, router).await });
    (list, (seen, address))
}

impl Cluster {
    /// How many templates of this name are known.
    async fn known(&self, name: &str) -> usize {
        self.db.templates(name).await.expect("read").len()
    }

    async fn look_up(&self, name: &str) -> OwnerAnswer {
        let call = OwnerCall::LookUpTemplate { name: name.into() };
        let request = OwnerRequest {
            shard: 0,
            generation: 1,
            epoch: 3,
            call,
        };
        self.accept(&request).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_is_kept_and_one_name_is_looked_up() {
    let (list, outside) = upstream(&["order", "order_late", "bye"]).await;
    let cluster = Cluster::start_at(json!({}), outside, |settings| {
        settings.client.check_templates = true;
        settings.upstream.waba_id = "waba".into();
    })
    .await;
    let all = async {
        while cluster.known("bye").await == 0 {
            clock::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all)
        .await
        .expect("read");
    let known = cluster.db.templates("order").await.expect("read");
    assert_eq!(known.len(), 1);
    let entry = &known[0].entry;
    assert_eq!(
        (entry.language.as_str(), entry.status.as_str()),
        ("en", "APPROVED")
    );
    assert_eq!(entry.shape.body.as_ref().map(|b| b.len()), Some(1));
    assert!(known[0].age_ms < 60_000);
    assert_eq!(list.lock().expect("no panic").asked.len(), 3);

    list.lock().expect("no panic").names = vec!["order_late", "new"];
    let done = OwnerAnswer::Settled(Settled::Done);
    for (name, count, calls) in [
        ("new", 1, 4),
        ("order", 0, 5),
        ("order", 0, 5),
        ("bye", 0, 6),
    ] {
        assert_eq!(cluster.look_up(name).await, done, "{name}");
        assert_eq!(cluster.known(name).await, count, "{name}");
        assert_eq!(list.lock().expect("no panic").asked.len(), calls, "{name}");
    }
    // Whoever has another name is not touched by a look at this one.
    assert_eq!(cluster.known("order_late").await, 1);
    assert_eq!(list.lock().expect("no panic").asked[3]["name"], "new");
    // Looks are limited: the next ones are answered without one.
    for number in 0..20 {
        cluster.look_up(&format!("x{number}")).await;
    }
    let unreachable = OwnerAnswer::Settled(Settled::Unreachable);
    assert_eq!(cluster.look_up("y").await, unreachable);
    cluster.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_account_nobody_is_asked() {
    let (list, outside) = upstream(&["order"]).await;
    let cluster = Cluster::start_at(json!({}), outside, |settings| {
        settings.client.check_templates = true;
    })
    .await;
    let answered = async {
        loop {
            match cluster.look_up("order").await {
                OwnerAnswer::Setback(_) => clock::sleep(Duration::from_millis(10)).await,
                settled => return settled,
            }
        }
    };
    let answer = tokio::time::timeout(Duration::from_secs(60), answered)
        .await
        .expect("answered");
    assert_eq!(answer, OwnerAnswer::Settled(Settled::Unreachable));
    assert!(list.lock().expect("no panic").asked.is_empty());
    cluster.stop.cancel();
}
