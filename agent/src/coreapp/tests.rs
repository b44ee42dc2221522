//! One coreapp on an embedded store with a small upstream, granted a shard by hand: intake, sending, statuses, webhooks.
//! Not here: elections and failovers, which need masters (the drills).

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use wa_core::id::{
    Epoch, Generation, Grant, Incarnation, NodeId, Nonce, Ownership, Role, ShardId, Term,
};
use wa_core::lease::Tolerance;
use wa_core::master::{Fence, Handover, Outcome};
use wa_core::message::MessageState;
use wa_core::shard_map::{Phase, recipient_hash};
use wa_core::time::Drift;

use crate::api::cloud;
use crate::api::owner::{
    self, Acceptance, Message, OwnerAnswer, OwnerCall, OwnerRequest, Setback, Settled,
};
use crate::api::v1::message::stored::Form;
use crate::config::{DatabaseSettings, Ports, Settings, Timers, UpstreamSettings};
use crate::db::Db;
use crate::db::inbox::NewEvent;
use crate::db::lease::LeaseConnection;
use crate::net::client::InternalClient;
use crate::net::keys::Keys;
use crate::sys::clock;

use begun::{Running, begun, ports};

mod account;
mod authority;
mod begun;
mod blanking;
mod collect;
mod easily_wrong;
mod events;
mod fetch;
mod files;
mod form;
mod inside;
mod looks;
mod naming;
mod number;
mod order;
mod outcome;
mod registration;
mod replies;
mod twice;
mod unknown;
mod who;

const KEY: &[u8] = b"a key of the test";
const TTL: Duration = Duration::from_millis(600);
/// A message of ours: data of the upstream counts as ours in this form only.
const OURS: &str = "gBEGkYaYVSEEAgnZxQ3JmKK6Ww";

/// What the small upstream and the small business saw.
#[derive(Default)]
pub(super) struct Seen {
    /// Our message id → how often it was sent.
    sent: HashMap<String, u32>,
    epochs: Vec<String>,
    bodies: Vec<Value>,
    webhooks: Vec<Value>,
    webhook_calls: u32,
}

pub(super) type Outside = Arc<Mutex<Seen>>;

pub(super) fn router(seen: &Outside) -> Router {
    Router::new()
        .route(
            "/v1/number",
            get(|| async { Json(json!({"id": "number"})) }),
        )
        .route("/v1/number/messages", post(take_message))
        .route("/hook", post(take_webhook))
        .with_state(Arc::clone(seen))
}

async fn outside() -> (Outside, SocketAddr) {
    let seen = Outside::default();
    let router = router(&seen);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move { axum::serve(listener, router).await });
    (seen, address)
}

async fn take_message(
    State(seen): State<Outside>,
    headers: axum::http::HeaderMap,
    Json(body): Json<Value>,
) -> (axum::http::StatusCode, Json<Value>) {
    let id = body["biz_opaque_callback_data"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let mut seen = seen.lock().expect("no panic before");
    let epoch = headers["x-wa-epoch"]
        .to_str()
        .unwrap_or_default()
        .to_owned();
    seen.epochs.push(epoch);
    *seen.sent.entry(id.clone()).or_default() += 1;
    let again = seen.sent[&id] > 1;
    seen.bodies.push(body.clone());
    if body["text"]["body"] == "busy once" && !again {
        let error = json!({"error": {"code": 131016, "message": "Service overloaded"}});
        return (axum::http::StatusCode::SERVICE_UNAVAILABLE, Json(error));
    }
    if body["text"]["body"] == "refuse" {
        let error = json!({"error": {"code": 131047, "message": "Re-engagement message"}});
        return (axum::http::StatusCode::BAD_REQUEST, Json(error));
    }
    let spelt = match body["text"]["body"] == "spelt otherwise" {
        true => json!("551234567890"),
        false => body["to"].clone(),
    };
    let answer = json!({"contacts": [{"input": body["to"], "wa_id": spelt}], "messages": [{"id": format!("wamid.{id}")}]});
    (axum::http::StatusCode::OK, Json(answer))
}

/// Refuses the first call, so that the second attempt is seen.
async fn take_webhook(
    State(seen): State<Outside>,
    Json(body): Json<Value>,
) -> axum::http::StatusCode {
    let mut seen = seen.lock().expect("no panic before");
    seen.webhook_calls += 1;
    if seen.webhook_calls == 1 {
        return axum::http::StatusCode::INTERNAL_SERVER_ERROR;
    }
    seen.webhooks.push(body);
    axum::http::StatusCode::OK
}

fn free_port() -> u16 {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    socket.local_addr().expect("bound").port()
}

fn no_media() -> crate::config::MediaSettings {
    crate::config::MediaSettings {
        directory: "/nonexistent".into(),
        require: crate::config::Require::None,
        free_min_bytes: 0,
        inodes_min: 0,
        probe_interval: Duration::from_secs(5),
        probe_timeout: Duration::from_secs(5),
    }
}

pub(super) fn upstream_settings(upstream: SocketAddr) -> UpstreamSettings {
    let secret = |text: &str| crate::config::Secret::new(text.to_owned());
    UpstreamSettings {
        authorities: Vec::new(),
        mtls_authorities: Vec::new(),
        portfolio_id: String::new(),
        media_hosts: Default::default(),
        phone_number: None,
        waba_id: String::new(),
        app_id: String::new(),
        on_ambiguity: crate::config::OnAmbiguity::Resend,
        base_url: format!("http://{upstream}"),
        version: "v1".into(),
        phone_number_id: "number".into(),
        token: secret("t"),
        app_secret: secret("s"),
        verify_token: secret("v"),
        pin: secret(""),
        code_language: "en_US".into(),
        connect_timeout: Duration::from_secs(1),
        request_timeout: Duration::from_secs(2),
        rate_per_second: Some(1000),
        pair_burst: 0,
        concurrency: 16,
        ambiguity_window: Duration::from_millis(500),
        ambiguity_max: Duration::from_secs(600),
        ambiguity_sends_max: 3,
        ambiguity_sends_then: crate::config::SendsThen::Report,
    }
}

fn settings(directory: &std::path::Path, upstream: SocketAddr) -> Settings {
    let local = Ipv4Addr::LOCALHOST.into();
    Settings {
        gate_exempt: Vec::new(),
        role: Role::Coreapp,
        instance: 1,
        node: NodeId::new("t:coreapp-1"),
        machine: "m".into(),
        zone: String::new(),
        weight: 0,
        advertise: local,
        bind: local,
        metrics_bind: local,
        ports: ports(),
        state_directory: directory.into(),
        database: DatabaseSettings {
            urls: vec![format!("sqlite://{}/wa.db", directory.display())],
            logins: Default::default(),
            replication: crate::config::Replication::Auto,
            ssl_ca: None,
            ssl_cert: None,
            ssl_key: None,
            connect_timeout: Duration::from_secs(2),
            busy_timeout: TTL / 4,
        },
        cluster_id: 7,
        cluster_name: "test".into(),
        cluster_key: crate::config::ClusterKey::new(KEY.to_vec()),
        timers: timers(),
        fence: Fence::BestEffort,
        shard_count: 1,
        upstream: upstream_settings(upstream),
        client: Default::default(),
        api_key: crate::config::Secret::new(String::new()),
        first_password: crate::config::Secret::new(String::new()),
        public_tls: crate::config::PublicTls::Off,
        keep_alive: Duration::from_secs(75),
        trusted_proxies: Vec::new(),
        events: Default::default(),
        webhooks: Default::default(),
        media: no_media(),
        console: Default::default(),
        development: true,
        ignore_old_client: false,
    }
}

fn timers() -> Timers {
    Timers {
        profile: String::new(),
        vm_pause_answered: false,
        heartbeat_interval: Duration::from_millis(50),
        unhealthy_interval: Duration::from_millis(300),
        db_beat_interval: Duration::from_secs(60),
        db_unhealthy_interval: Duration::from_secs(120),
        lease_ttl: TTL,
        tolerance: Tolerance {
            drift: Drift::KERNEL_LIMIT,
            margin: Duration::from_millis(20),
            vm_pause: Duration::ZERO,
        },
        hold_timeout: Duration::from_secs(5),
    }
}

/// Plays the master: gives the shard to the coreapp that registered.
async fn grant(db: &Db, settings: &Settings) -> Epoch {
    let me = Incarnation {
        counter: 1,
        random: 1,
    };
    let master = NodeId::new("t:master-1");
    let mut lease = LeaseConnection::new(
        settings.database.clone(),
        Duration::from_secs(1),
        master,
        me,
    );
    let (term, grant) = (Term(1), Grant(11));
    let nothing = (Term(0), Grant(0), Nonce(0));
    assert_eq!(
        lease
            .take_master(nothing, (term, grant, Nonce(5)), TTL)
            .await,
        Outcome::Held
    );
    assert_eq!(lease.insert_shards(term, grant, 1).await, Outcome::Held);
    let incarnation = loop {
        let nodes = db.nodes().await.expect("read");
        if let Some(node) = nodes.first() {
            break node.registration.incarnation;
        }
        clock::sleep(Duration::from_millis(10)).await;
    };
    let handover = Handover {
        shard: ShardId(0),
        expect: (Epoch(0), Grant(0), Nonce(0), Phase::Free),
        to: settings.node.clone(),
        to_incarnation: incarnation,
        epoch: Epoch(3),
        grant: Grant(33),
        ttl: TTL,
        nonce: Nonce(9),
        previous: Vec::new(),
        generation: Generation(1),
    };
    lease.snapshot().await.expect("read before deciding");
    assert_eq!(lease.handover(term, grant, &handover).await, Outcome::Held);
    assert_eq!(
        lease
            .activate(term, grant, ShardId(0), Epoch(3), Grant(33))
            .await,
        Outcome::Held
    );
    Epoch(3)
}

pub(super) struct Cluster {
    pub(super) db: Db,
    seen: Outside,
    client: InternalClient,
    base: String,
    pub(super) stop: CancellationToken,
    role: Running,
    /// Without it threads of a test go on after it.
    _last: tokio_util::sync::DropGuard,
    _directory: tempfile::TempDir,
}

impl Cluster {
    async fn start(application: Value) -> Self {
        Self::start_at(application, outside().await, |_| ()).await
    }

    pub(super) async fn start_at(
        application: Value,
        (seen, upstream): (Outside, SocketAddr),
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut settings = settings(directory.path(), upstream);
        change(&mut settings);
        let settings = Arc::new(settings);
        let db = Db::connect(&settings.database, 2)
            .await
            .expect("a new file");
        db.ensure_lease_table().await.expect("made");
        db.migrate().await.expect("migrated");
        let mut application = application;
        if application["webhooks"]["url"] == "hook" {
            application["webhooks"]["url"] = format!("http://{upstream}/hook").into();
        }
        db.store_setting("application", 0, &application.to_string())
            .await
            .expect("stored");
        db.find_by_customer().await.expect("made");
        let (settings, stop, role) = begun(&db, settings).await;
        grant(&db, &settings).await;
        Self {
            db,
            seen,
            client: InternalClient::of_node(&Keys::new(KEY)),
            base: format!("http://127.0.0.1:{}", settings.ports.api),
            _last: stop.clone().drop_guard(),
            stop,
            role,
            _directory: directory,
        }
    }

    pub(super) async fn accept(&self, request: &OwnerRequest) -> OwnerAnswer {
        let url = format!("{}{}", self.base, owner::PATH);
        let body = serde_json::to_vec(request).expect("plain JSON");
        let answer = self
            .client
            .call(http::Method::POST, &url, body, Duration::from_secs(5))
            .await;
        let (status, body) = answer.expect("an answer");
        assert_eq!(status, http::StatusCode::OK);
        serde_json::from_slice(&body).expect("an answer of ours")
    }

    /// Asks until the tenure has begun.
    async fn accept_owned(&self, request: &OwnerRequest) -> Vec<Acceptance> {
        within(async {
            loop {
                match self.accept(request).await {
                    OwnerAnswer::Settled(Settled::Accepted { verdicts }) => return verdicts,
                    _ => clock::sleep(Duration::from_millis(20)).await,
                }
            }
        })
        .await
    }

    /// The tenure that was granted.
    async fn own(&self) -> Ownership {
        let (_, rows) = self.db.shard_map().await.expect("read");
        Ownership {
            shard: ShardId(0),
            epoch: Epoch(3),
            grant: Grant(33),
            owner: rows[0].owner.clone().expect("granted"),
            incarnation: Incarnation::default(),
        }
    }

    async fn state_of(&self, id: &str, wanted: MessageState) {
        within(async {
            loop {
                let states = self.db.message_states().await.expect("read");
                if states
                    .iter()
                    .any(|(name, state)| name == id && *state == wanted)
                {
                    return;
                }
                clock::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }
}

async fn within<T>(part: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), part)
        .await
        .expect("in time")
}

fn message(id: &str, text: &str) -> Message {
    let recipient = "447700900456";
    Message {
        id: id.into(),
        recipient_hash: recipient_hash(recipient),
        form: 1,
        payload: json!({"to": {"phone": recipient}, "content": {"text": {"body": text}}})
            .to_string(),
    }
}

fn request(messages: Vec<Message>) -> OwnerRequest {
    OwnerRequest {
        shard: 0,
        generation: 1,
        epoch: 3,
        call: OwnerCall::Accept { messages },
    }
}

/// Goal: accepted once, sent once, whatever the webapp repeats; nothing for a shard map that this node does not share.
#[tokio::test(flavor = "multi_thread")]
async fn repeated_requests_are_sent_once() {
    let cluster = Cluster::start(json!({})).await;
    let many: Vec<Message> = (0..50)
        .map(|n| message(&format!("m{n}"), "hello"))
        .collect();
    let verdicts = cluster.accept_owned(&request(many.clone())).await;
    assert!(
        verdicts.iter().all(|v| *v == Acceptance::Accepted),
        "{verdicts:?}"
    );
    for _ in 0..5 {
        let verdicts = cluster.accept_owned(&request(many.clone())).await;
        assert!(
            verdicts.iter().all(|v| *v == Acceptance::Duplicate),
            "{verdicts:?}"
        );
    }
    let twice = request(vec![message("d", "once"), message("d", "once")]);
    assert_eq!(
        cluster.accept_owned(&twice).await,
        [Acceptance::Accepted, Acceptance::Duplicate]
    );
    let other = request(vec![message("m1", "another body")]);
    assert_eq!(cluster.accept_owned(&other).await, [Acceptance::Conflict]);
    for (shard, generation, epoch) in [(1, 1, 3), (0, 2, 3), (0, 1, 4)] {
        let foreign = OwnerRequest {
            shard,
            generation,
            epoch,
            ..request(vec![message("x", "no")])
        };
        assert!(matches!(
            cluster.accept(&foreign).await,
            OwnerAnswer::Setback(Setback::NotOwner)
        ));
    }
    for n in 0..50 {
        cluster.state_of(&format!("m{n}"), MessageState::Sent).await;
    }
    cluster.state_of("d", MessageState::Sent).await;
    let seen = cluster.seen.lock().expect("no panic before");
    assert_eq!(seen.sent.len(), 51);
    assert!(seen.sent.values().all(|n| *n == 1), "{:?}", seen.sent);
    assert!(seen.epochs.iter().all(|e| e == "3"));
}

/// Goal: a status moves the message and reaches the business in the `/v1` shape, after a failed delivery too.
#[tokio::test(flavor = "multi_thread")]
async fn statuses_and_failures_reach_the_business() {
    let application = json!({"callback_backoff_delay_ms": 50, "webhooks": {"url": "hook", "max_concurrent_requests": 6}});
    let cluster = Cluster::start(application).await;
    cluster
        .accept_owned(&request(vec![
            message(OURS, "hello"),
            message("bad", "refuse"),
        ]))
        .await;
    cluster.state_of("bad", MessageState::Failed).await;
    cluster.state_of(OURS, MessageState::Sent).await;
    let status = json!({"id": "wamid.ours", "status": "delivered", "timestamp": "1", "recipient_id": "447700900456",
        "biz_opaque_callback_data": format!("{OURS}.{:08x}", recipient_hash("447700900456"))});
    let body = json!({"entry": [{"changes": [{"value": {"statuses": [status]}}]}]});
    let events: Vec<NewEvent> = cloud::event::items(&body)
        .iter()
        .map(|event| NewEvent {
            key: event.key.clone(),
            recipient_hash: recipient_hash(&event.customer),
            payload: serde_json::to_string(event).expect("plain JSON"),
            state: Default::default(),
        })
        .collect();
    assert_eq!(cluster.db.store_events(&events).await.expect("stored"), 1);
    cluster.state_of(OURS, MessageState::Delivered).await;
    within(async {
        while cluster.db.webhook_depth().await.expect("read") > 0
            || cluster.seen.lock().expect("no panic").webhooks.len() < 2
        {
            clock::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let seen = cluster.seen.lock().expect("no panic before");
    let find = |id: &str| {
        seen.webhooks
            .iter()
            .find(|w| w["statuses"][0]["id"] == id)
            .expect("told")
    };
    assert_eq!(find(OURS)["statuses"][0]["status"], "delivered");
    assert_eq!(find("bad")["statuses"][0]["errors"][0]["code"], 470);
    assert!(seen.webhook_calls >= 3);
}

/// Goal: what this owner cannot send, because it has no way to the upstream, waits without a pause of its own: its successor
/// inherits none. And it goes on by itself when the way is there. Method: a closed port; after several tries the rows are due;
/// then somebody listens.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_way_to_the_upstream_leaves_no_pause_behind() {
    let (seen, at) = (
        Outside::default(),
        SocketAddr::from(([127, 0, 0, 1], free_port())),
    );
    let cluster = Cluster::start_at(json!({}), (Arc::clone(&seen), at), |_| ()).await;
    let many: Vec<Message> = (0..50)
        .map(|n| message(&format!("m{n}"), "hello"))
        .collect();
    cluster.accept_owned(&request(many)).await;
    let Db::Sqlite(pool) = &cluster.db else {
        unreachable!("embedded");
    };
    // Put off by more than a commit may take: none; tried at least so often: one.
    let late =
        "SELECT COUNT(*) FROM message WHERE next_ms > CAST(unixepoch('subsec') * 1000 AS INTEGER)";
    let tries = "SELECT SUM(attempts) FROM message";
    within(async {
        loop {
            let (late,): (i64,) = sqlx::query_as(late).fetch_one(pool).await.expect("read");
            assert_eq!(late, 0, "a successor would wait");
            let (tries,): (i64,) = sqlx::query_as(tries).fetch_one(pool).await.expect("read");
            if tries >= 3 {
                return;
            }
            clock::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let listener = tokio::net::TcpListener::bind(at).await.expect("still free");
    let all = router(&seen);
    tokio::spawn(async move { axum::serve(listener, all).await });
    for n in 0..50 {
        cluster.state_of(&format!("m{n}"), MessageState::Sent).await;
    }
    let seen = seen.lock().expect("no panic before");
    assert!(seen.sent.values().all(|n| *n == 1), "{:?}", seen.sent);
}

/// Goal: a stop without any master gives the shard back after the bound, and the role ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_without_masters_releases_the_shard() {
    let cluster = Cluster::start(json!({})).await;
    cluster
        .accept_owned(&request(vec![message("m", "hello")]))
        .await;
    cluster.state_of("m", MessageState::Sent).await;
    cluster.stop.cancel();
    within(cluster.role)
        .await
        .expect("no panic")
        .expect("a clean end");
    let (_, rows) = cluster.db.shard_map().await.expect("read");
    assert_eq!((rows[0].phase, rows[0].owner.clone()), (Phase::Free, None));
}
