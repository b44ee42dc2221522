//! Tests of the public API through its router: a SQLite database, a coreapp and a master that do as they are told.

mod played;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::http::{Request, StatusCode};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use wa_core::id::{Incarnation, NodeId, Role};

use super::*;
use crate::api::owner::{self as calls, Acceptance, OwnerAnswer, OwnerCall, OwnerRequest, Settled};
use crate::config::{self, ClusterKey};
use crate::db::Db;
use crate::db::node::Registration;
use crate::net::door;
use crate::webapp::shard_map::{Map, Route};

/// A webapp with all that it talks to.
pub(super) struct Bench {
    router: Router,
    /// What its server would share with other ports.
    pub(super) door: Arc<Door>,
    pub(super) webapp: Arc<state::Webapp>,
    map: Arc<watcher::Watched>,
    pub(super) db: Db,
    _directory: tempfile::TempDir,
    _last: tokio_util::sync::DropGuard,
}

fn settings(
    directory: &std::path::Path,
    media: bool,
    (upstream, webapp): (&str, &str),
) -> Arc<Settings> {
    // Secrets lie in it.
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(directory, closed).expect("closed");
    let secret = |name: &str, value: &str| {
        let path = directory.join(name);
        std::fs::write(&path, value).expect("written");
        path
    };
    // What a machine with webapps only has.
    let part = crate::net::keys::for_webapps("5a".repeat(32).as_bytes());
    let key = secret("key", &part);
    let app_secret = secret("app_secret", "app-secret");
    let verify_token = secret("verify_token", "word");
    let token = secret("token", "t");
    let api_key = secret("api_key", "0123456789abcdef");
    let file = directory.join("wa-agent.toml");
    let media = if media {
        let at = directory.join("media");
        std::fs::create_dir(&at).expect("made");
        format!("[media]\ndirectory = {at:?}\nrequire = \"directory\"\n")
    } else {
        String::new()
    };
    let text = format!(
        "[cluster]\nkey_file = {key:?}\n[node]\nhostname = \"test\"\nstate_directory = {directory:?}\n\
         [database]\nurls = [\"sqlite://{}/wa.db\"]\n\
         [upstream]\nphone_number_id = \"1\"\nphone_number = \"+447700900999\"\ntoken_file = {token:?}\napp_secret_file = {app_secret:?}\n\
         verify_token_file = {verify_token:?}\n{upstream}[webapp]\napi_key_file = {api_key:?}\n{webapp}{media}",
        directory.display()
    );
    std::fs::write(&file, text).expect("written");
    let loaded = config::load(Role::Webapp, 1, Some(&file)).expect("a valid configuration");
    Arc::new(loaded.settings)
}

/// A coreapp that accepts everything, and a conflict for bodies that say so; or that answers always the same.
async fn accept(
    State(always): State<Option<Settled>>,
    axum::Json(request): axum::Json<OwnerRequest>,
) -> axum::Json<OwnerAnswer> {
    if let Some(always) = always {
        return axum::Json(OwnerAnswer::Settled(always));
    }
    let verdict = |m: &calls::Message| {
        if m.payload.contains("conflict") {
            Acceptance::Conflict
        } else {
            Acceptance::Accepted
        }
    };
    axum::Json(OwnerAnswer::Settled(match request.call {
        OwnerCall::Accept { messages } => Settled::Accepted {
            verdicts: messages.iter().map(verdict).collect(),
        },
        // Says what it was asked for.
        OwnerCall::MarkRead { wamid: details } if details.contains("tell") => {
            let code = crate::api::v1::code::Code::ReEngagement;
            Settled::Refused { code, details }
        }
        call => played::settled(call),
    }))
}

fn status(primary: bool) -> Value {
    json!({"node": "test:master-1", "start": "7.0000000000000009", "version": "0", "primary": primary, "primary_master": null, "term": 1,
        "lease_margin_ms": 1, "safe_ms": null, "database_error": null, "fence": "process", "heartbeat_interval_ms": 1,
        "unhealthy_interval_ms": 3, "settings_version": 1, "shards": [], "nodes": [], "problems": [], "decisions": []})
}

async fn node(always: Option<Settled>, key: &ClusterKey) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let router = Router::new()
        .merge(played::primary(key))
        .route(calls::PATH, post(accept))
        .route(
            crate::api::control::path::STATUS,
            get(|| async { axum::Json(status(true)) }),
        )
        .route(
            crate::api::control::path::SETTINGS_CHANGED,
            post(|| async { StatusCode::NO_CONTENT }),
        )
        .route(
            crate::api::control::path::STATS_DB,
            get(|| async { axum::Json(json!([["messages", 7]])) }),
        )
        .with_state(always);
    tokio::spawn(server::serve(listener, router, CancellationToken::new()));
    url
}

pub(super) async fn bench() -> Bench {
    bench_with(false, ("", "")).await
}

pub(super) async fn bench_set(line: &str) -> Bench {
    bench_with(false, ("", &format!("{line}\n"))).await
}

/// With a line in `[upstream]` as well.
pub(super) async fn bench_called(upstream: &str, webapp: &str) -> Bench {
    bench_with(false, (&format!("{upstream}\n"), &format!("{webapp}\n"))).await
}

async fn bench_with(media: bool, sections: (&str, &str)) -> Bench {
    let directory = tempfile::tempdir().expect("a directory");
    let settings = settings(directory.path(), media, sections);
    let db = Db::connect(&settings.database, 4).await.expect("opened");
    db.ensure_lease_table().await.expect("made");
    db.migrate().await.expect("migrated");
    let map = Arc::new(watcher::Watched::new(Duration::from_millis(300)));
    map.set_db(db.clone());
    let last = CancellationToken::new();
    let metrics = Arc::new(WebappMetrics::new());
    let client = state::internal_client(&settings);
    let owners = owner::Owners::new(Arc::clone(&map), Arc::clone(&metrics), client, ATTEMPT_MIN);
    let owners = Arc::new(owners);
    let forwarder = forward::Forwarder::start(Arc::clone(&owners), &last);
    let (events, queue) = mpsc::channel(8);
    tokio::spawn(events::store(
        Arc::clone(&settings),
        Arc::clone(&map),
        Arc::clone(&metrics),
        queue,
        last.clone(),
    ));
    let media = Media::new(&settings, true);
    let kept = Certificates::of(&settings, &map).expect("no files");
    let parts = (owners, forwarder, kept);
    let webapp = state::Webapp::new(settings, parts, events, media, last.clone());
    let webapp = Arc::new(webapp);
    let door = Door::new(&webapp.metrics.door);
    let around = axum::middleware::from_fn_with_state(Arc::clone(&door), door::around);
    let router = v1::calls::router(Arc::clone(&webapp), console::router(&webapp));
    let router = router.layer(around);
    Bench {
        router,
        door,
        webapp,
        map,
        db,
        _directory: directory,
        _last: last.drop_guard(),
    }
}

/// The same, with a coreapp and a primary master behind it.
pub(super) async fn whole() -> Bench {
    whole_with(false).await
}

/// The same, with or without a media directory.
pub(super) async fn whole_with(media: bool) -> Bench {
    before(bench_with(media, ("", "")).await, None).await
}

/// The same, with an owner that answers every call so.
pub(super) async fn refusing(always: Settled) -> Bench {
    before(bench_with(false, ("", "")).await, Some(always)).await
}

/// The same with a media directory.
pub(super) async fn refusing_files(always: Settled) -> Bench {
    before(bench_with(true, ("", "")).await, Some(always)).await
}

async fn before(bench: Bench, always: Option<Settled>) -> Bench {
    let key = &bench.webapp.settings.cluster_key;
    let url: Arc<str> = node(always, key).await.into();
    let route = Route {
        shard: 0,
        generation: 1,
        epoch: 1,
        url: Some(Arc::clone(&url)),
    };
    let master = Some((NodeId::new("test:master-1"), url));
    bench.map.set(Map {
        count: 1,
        generation: 1,
        routes: vec![route],
        form: 1,
        master,
    });
    bench
}

impl Bench {
    /// The shard has no owner from now on.
    pub(super) fn lose_owner(&self) {
        let now = self.map.now();
        self.map.set(Map {
            routes: Vec::new(),
            ..Map::clone(&now)
        });
    }

    /// Every coreapp reads what this release writes.
    pub(super) fn upgraded(&self) {
        let now = self.map.now();
        self.map.set(Map {
            form: crate::api::v1::message::stored::Form::NEWEST.number(),
            ..Map::clone(&now)
        });
    }

    pub(super) fn router(&self) -> Router {
        self.router.clone()
    }

    pub(super) async fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> (u16, Value) {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let here = SocketAddr::from(([127, 0, 0, 1], 40000));
        let request = request
            .extension(ConnectInfo(here))
            .body(Body::from(body.to_owned()))
            .expect("a request");
        let response = self
            .router
            .clone()
            .oneshot(request)
            .await
            .expect("infallible");
        let status = response.status().as_u16();
        let bytes = response
            .into_body()
            .collect()
            .await
            .expect("whole")
            .to_bytes();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        (
            status,
            serde_json::from_slice(&bytes).unwrap_or(Value::String(text)),
        )
    }

    pub(super) async fn login(&self, user: &str, password: &str, body: &str) -> (u16, Value) {
        let basic = format!(
            "Basic {}",
            BASE64_STANDARD.encode(format!("{user}:{password}"))
        );
        self.call(
            "POST",
            "/v1/users/login",
            &[("authorization", &basic)],
            body,
        )
        .await
    }

    /// The administrator's `Authorization`, after the first change of the password.
    pub(super) async fn admin(&self) -> String {
        let (status, body) = self
            .login("admin", "secret", r#"{"new_password":"Abcdef1!"}"#)
            .await;
        assert_eq!(status, 200, "{body}");
        bearer(&body)
    }

    /// The `Authorization` of a user who is no administrator.
    pub(super) async fn user(&self, admin: &str) -> String {
        let user = r#"{"username":"somebody","password":"Bcdefg1!"}"#;
        let (status, body) = self.as_user(admin, "POST", "/v1/users", user).await;
        assert_eq!(status, 201, "{body}");
        bearer(&self.login("somebody", "Bcdefg1!", "").await.1)
    }

    pub(super) async fn as_user(
        &self,
        bearer: &str,
        method: &str,
        path: &str,
        body: &str,
    ) -> (u16, Value) {
        self.call(method, path, &[("authorization", bearer)], body)
            .await
    }
}

pub(super) fn bearer(login: &Value) -> String {
    format!(
        "Bearer {}",
        login["users"][0]["token"].as_str().expect("a token")
    )
}

pub(super) fn code(body: &Value) -> u64 {
    assert!(
        body["meta"]["version"].is_string() && body.get("messages").is_none(),
        "{body}"
    );
    body["errors"][0]["code"].as_u64().unwrap_or_default()
}

const TEXT: &str = r#"{"to":"+44 7700 900123","text":{"body":"hi"}}"#;

#[tokio::test]
async fn a_text_is_accepted() {
    let bench = whole().await;
    let admin = bench.admin().await;
    for path in ["/v1/messages", "/v1/messages/", "/v1/messages?retry=1"] {
        let (status, body) = bench.as_user(&admin, "POST", path, TEXT).await;
        assert_eq!(status, 201, "{body}");
        assert!(
            body["messages"][0]["id"]
                .as_str()
                .is_some_and(|id| id.starts_with("gBEG"))
        );
        assert_eq!(
            body["contacts"],
            json!([{"input": "+44 7700 900123", "wa_id": "447700900123"}])
        );
        assert_eq!(body["meta"]["api_status"], "stable");
    }
    let (status, _) = bench
        .as_user(
            &admin,
            "PUT",
            "/v1/messages/wamid.X",
            r#"{"status":"read"}"#,
        )
        .await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn one_key_is_one_message() {
    let bench = whole().await;
    let admin = bench.admin().await;
    let headers = [
        ("authorization", admin.as_str()),
        ("idempotency-key", "order-1"),
    ];
    let (_, one) = bench.call("POST", "/v1/messages", &headers, TEXT).await;
    let (_, two) = bench.call("POST", "/v1/messages", &headers, TEXT).await;
    assert_eq!(one["messages"], two["messages"]);
    let conflict = r#"{"to":"447700900123","text":{"body":"conflict"}}"#;
    let (status, body) = bench.call("POST", "/v1/messages", &headers, conflict).await;
    assert_eq!((status, code(&body)), (409, 1004));
}

#[tokio::test]
async fn without_an_owner_the_request_is_held_and_then_shed() {
    let bench = bench().await;
    let admin = bench.admin().await;
    let started = crate::sys::clock::now();
    let (status, body) = bench.as_user(&admin, "POST", "/v1/messages", TEXT).await;
    assert_eq!((status, code(&body)), (503, 1018));
    assert!(crate::sys::clock::now().since(started) >= Duration::from_millis(300));
}

/// Goal: whatever comes in, the answer is the documented error object. Method: a table of requests.
#[tokio::test]
async fn malformed_requests_get_documented_errors() {
    let bench = whole().await;
    let admin = bench.admin().await;
    let big = format!(
        r#"{{"to":"447700900123","text":{{"body":"{}"}}}}"#,
        "x".repeat(300_000)
    );
    for (method, path, body, status, wanted) in [
        ("POST", "/v1/messages", "{", 400, 1025),
        ("POST", "/v1/messages", "{}", 400, 1008),
        ("POST", "/v1/messages", big.as_str(), 413, 1025),
        ("GET", "/v1/messages", "", 405, 1014),
        ("PUT", "/v1/messages/x", "{}", 400, 1008),
        ("POST", "/v1/nothing", "", 404, 1014),
        ("GET", "/v1/users/%ff", "", 400, 1025),
        ("GET", "/v1/stats/db?format=a&format=b", "", 400, 1025),
        ("POST", "/v1/users", "{}", 400, 1008),
        (
            "POST",
            "/v1/users",
            r#"{"username":"abc","password":"Abcdef1!"}"#,
            400,
            1009,
        ),
        (
            "POST",
            "/v1/users",
            r#"{"username":"bot1","password":"weak"}"#,
            400,
            1009,
        ),
        ("GET", "/v1/users/nobody", "", 404, 1006),
        ("PATCH", "/v1/settings/application", "[]", 400, 1025),
        (
            "PATCH",
            "/v1/settings/application",
            r#"{"heartbeat_interval":"x"}"#,
            400,
            1009,
        ),
        ("POST", "/v1/account/shards", r#"{"shards":3}"#, 400, 1009),
        // The master of this bench knows no shards, and proves nothing with its answer: nobody knows what came of it.
        ("POST", "/v1/account/shards", r#"{"shards":"2"}"#, 503, 1011),
        ("POST", "/v1/contacts", r#"{"contacts":[]}"#, 400, 1009),
        // The business's own number.
        (
            "POST",
            "/v1/messages",
            r#"{"to":"+44 7700 900999","type":"text","text":{"body":"x"}}"#,
            400,
            1021,
        ),
    ] {
        let (found, answer) = bench.as_user(&admin, method, path, body).await;
        assert_eq!(
            (found, code(&answer)),
            (status, wanted),
            "{method} {path}: {answer}"
        );
    }
    for path in ["/v1/messages", "/v1/users/logout", "/v1/contacts"] {
        let (status, answer) = bench.call("POST", path, &[], "{}").await;
        assert_eq!((status, code(&answer)), (401, 1005), "{path}");
    }
}

#[tokio::test]
async fn settings_are_read_changed_and_restored() {
    let bench = whole().await;
    let admin = bench.admin().await;
    let path = "/v1/settings/application";
    let (status, before) = bench.as_user(&admin, "GET", path, "").await;
    assert_eq!(before["settings"]["application"]["wa_id"], "447700900999");
    assert_eq!(
        (
            status,
            &before["settings"]["application"]["callback_backoff_delay_ms"]
        ),
        (200, &json!(3000))
    );
    let patch = r#"{"heartbeat_interval":"0.05","unhealthy_interval":0.3,"callback_backoff_delay_ms":"4000","x":1}"#;
    let (status, body) = bench.as_user(&admin, "PATCH", path, patch).await;
    assert_eq!(status, 200, "{body}");
    let (_, after) = bench.as_user(&admin, "GET", path, "").await;
    assert_eq!(
        after["settings"]["application"]["heartbeat_interval"],
        json!(0.05)
    );
    assert_eq!(
        after["settings"]["application"]["callback_backoff_delay_ms"],
        json!(4000)
    );
    let (status, _) = bench.as_user(&admin, "DELETE", path, "").await;
    assert_eq!(status, 200);
    assert_eq!(bench.as_user(&admin, "GET", path, "").await.1, before);
}

#[tokio::test]
async fn without_a_primary_master_settings_do_not_change() {
    let bench = bench().await;
    let admin = bench.admin().await;
    let (status, body) = bench
        .as_user(&admin, "PATCH", "/v1/settings/application", "{}")
        .await;
    assert_eq!((status, code(&body)), (503, 1017));
    assert_eq!(bench.db.setting("application").await.expect("read").0, 0);
}

/// Goal: who took over an address does not speak for who had it (F11). Method: three rows with one address, of which one
/// carries the name and the start that answer.
#[tokio::test]
async fn f11_an_answer_counts_for_its_name_and_start_only() {
    let bench = whole().await;
    let url = bench.map.now().master.clone().expect("a master").1;
    let port = url.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    let register = |node: &str, counter| Registration {
        node: NodeId::new(node),
        role: Role::Master,
        incarnation: Incarnation { counter, random: 9 },
        machine: "m".into(),
        zone: "z".into(),
        address: "127.0.0.1".into(),
        port_heartbeat: 1,
        port_control: port.expect("a port"),
        port_api: 0,
        version: "0".into(),
        weight: 0,
        keys: Default::default(),
    };
    let key = [("authorization", "Apikey 0123456789abcdef")];
    for (node, start) in [("old:master-1", 7), ("test:master-1", 6)] {
        let row = register(node, start);
        bench.db.register(&row).await.expect("registered");
    }
    let (_, body) = bench.call("GET", "/v1/health", &key, "").await;
    for node in ["old:master-1", "test:master-1"] {
        assert!(body["health"][node]["errors"].is_array(), "{node}: {body}");
        assert!(body["health"][node]["role"].is_null(), "{node}: {body}");
    }
    assert_eq!(body["problems"][0]["kind"], "masters_mute", "{body}");
    let row = register("test:master-1", 7);
    bench.db.register(&row).await.expect("registered");
    bench.webapp.health.forget();
    let (_, body) = bench.call("GET", "/v1/health", &key, "").await;
    assert_eq!(body["health"]["test:master-1"]["role"], "primary_master");
    assert!(
        body["health"]["old:master-1"]["errors"].is_array(),
        "{body}"
    );
    assert!(body["problems"].is_null(), "{body}");
}

#[tokio::test]
async fn monitors_may_use_the_api_key() {
    let bench = whole().await;
    let key = [("authorization", "Apikey 0123456789abcdef")];
    assert_eq!(bench.call("GET", "/v1/health", &key, "").await.0, 200);
    let (status, body) = bench.call("GET", "/v1/stats/db", &key, "").await;
    assert_eq!(status, 200);
    assert_eq!(
        body["stats"]["db"]["test:master-1"]["db_messages"]["data"][0]["value"],
        7
    );
    let (_, text) = bench
        .call("GET", "/v1/stats/db?format=prometheus", &key, "")
        .await;
    assert!(
        text.as_str()
            .is_some_and(|t| t.contains("\ndb_messages{node=\"test:master-1\"} 7\n")),
        "{text}"
    );
    let (_, text) = bench
        .call("GET", "/metrics?format=prometheus", &key, "")
        .await;
    assert!(
        text.as_str().is_some_and(|t| t.contains("wa_api_requests")),
        "{text}"
    );
    let wrong = [("authorization", "Apikey fedcba9876543210")];
    assert_eq!(bench.call("GET", "/v1/health", &wrong, "").await.0, 401);
    let (status, body) = bench.call("POST", "/v1/messages", &key, TEXT).await;
    assert_eq!((status, code(&body)), (401, 1005));
}

pub(super) fn signature(body: &str) -> String {
    use hmac::{Hmac, KeyInit as _, Mac as _};
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(b"app-secret").expect("any length");
    mac.update(body.as_bytes());
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}
