//! What the verbs of an operator send to whoever stands in the node table. A row there proves nothing: whoever can write to the
//! database can plant one.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::response::IntoResponse as _;
use tokio_util::sync::CancellationToken;
use wa_core::id::{Incarnation, NodeId};

use super::*;
use crate::api::control::{OperatorAnswer, OperatorRequest, Verb};
use crate::db::node::Registration;
use crate::net::deed::Taker;
use crate::net::server;

const KEY: &str = "the key of this cluster, which is long";

/// Everything that was sent to one address: heads and bodies.
#[derive(Clone, Default)]
pub(super) struct Recorded(Arc<Mutex<Vec<String>>>);

impl Recorded {
    pub(super) fn all(&self) -> Vec<String> {
        self.0.lock().expect("whole").clone()
    }

    /// Listens, writes down what comes, and answers with nothing that anybody understands.
    pub(super) async fn listen(&self) -> (SocketAddr, CancellationToken) {
        let listener = server::listen("test", SocketAddr::from(([127, 0, 0, 1], 0)));
        let listener = listener.await.expect("bound");
        let address = listener.local_addr().expect("bound");
        let recorded = self.clone();
        let router = Router::new().fallback(move |request: Request| {
            let recorded = recorded.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = axum::body::to_bytes(body, 1 << 20)
                    .await
                    .unwrap_or_default();
                let text = format!("{parts:?} {}", String::from_utf8_lossy(&body));
                recorded.0.lock().expect("whole").push(text);
                http::StatusCode::NOT_FOUND
            }
        });
        let stop = CancellationToken::new();
        tokio::spawn(server::serve(listener, router, stop.clone()));
        (address, stop)
    }
}

/// A master's row.
pub(super) fn master_row(node: &str, at: SocketAddr) -> Registration {
    Registration {
        node: NodeId::new(node),
        role: Role::Master,
        incarnation: Incarnation {
            counter: 7,
            random: 9,
        },
        machine: "m".into(),
        zone: "z".into(),
        address: at.ip().to_string(),
        port_heartbeat: 1,
        port_control: at.port(),
        port_api: 0,
        version: "0".into(),
        weight: 0,
        keys: Default::default(),
    }
}

/// The cluster as a command finds it, whose node table holds these rows.
pub(super) async fn cluster(place: &Path, rows: &[Registration]) -> Cluster {
    // Secrets lie in it.
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(place, closed).expect("closed");
    let file = |name: &str, text: &str| {
        let path = place.join(name);
        std::fs::write(&path, text).expect("written");
        path
    };
    let key = file("key", KEY);
    let token = file("token", "t");
    let config = file(
        "wa-agent.toml",
        &format!(
            "[cluster]\nkey_file = {key:?}\n[node]\nhostname = \"test\"\nstate_directory = {place:?}\n\
             [database]\nurls = [\"sqlite://{}/wa.db\"]\n\
             [upstream]\nphone_number_id = \"1\"\ntoken_file = {token:?}\napp_secret_file = {token:?}\nverify_token_file = {token:?}\n",
            place.display()
        ),
    );
    let loaded = config::load(Role::Master, 1, Some(&config)).expect("a valid configuration");
    let db = Db::connect(&loaded.settings.database, 1)
        .await
        .expect("opened");
    db.ensure_lease_table().await.expect("made");
    db.migrate().await.expect("made");
    for row in rows {
        db.register(row).await.expect("registered");
    }
    Cluster::find(Some(&config)).await.expect("found")
}

fn pause() -> OperatorRequest {
    OperatorRequest {
        verb: Verb::Pause {
            shard: None,
            for_ms: Some(3_600_000),
        },
        dry_run: false,
        reason: None,
        by: None,
    }
}

/// Every credential that was shown to somebody.
fn shown(sent: &[String]) -> Vec<String> {
    let after = |text: &String| {
        let (_, rest) = text.split_once("\"authorization\": \"")?;
        rest.split_once('"').map(|(header, _)| header.to_owned())
    };
    sent.iter().filter_map(after).collect()
}

/// Goal: a row that somebody planted in the node table learns nothing that lets it act: what it hears of looks opens looks, and of a verb
/// it hears the question for a nonce. Method: a listener behind the rows of a master and a coreapp that writes down all it is sent, while
/// a person looks by every verb that does, and pauses failover; each credential that came against everything that takes one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planted_row_hears_nothing_but_looks() {
    let directory = tempfile::tempdir().expect("a directory");
    let recorded = Recorded::default();
    let (address, stop) = recorded.listen().await;
    let mut coreapp = master_row("planted:coreapp-1", address);
    (coreapp.role, coreapp.port_api) = (Role::Coreapp, address.port());
    let rows = [master_row("planted:master-1", address), coreapp];
    let cluster = cluster(directory.path(), &rows).await;
    assert!(cluster.status().await.is_none());
    assert!(cluster.explain().await.is_none());
    let config = Some(directory.path().join("wa-agent.toml"));
    let asked = crate::ctl::doctor::Asked {
        root: directory.path().to_path_buf(),
        config: config.clone(),
        roles: vec!["master".into()],
        quick: true,
    };
    crate::ctl::doctor::examine(&asked).await;
    let view = crate::ctl::view::View::Cluster(Box::new(
        Cluster::find(config.as_deref()).await.expect("found"),
    ));
    assert!(view.events(10).await.is_ok() && view.status().await.is_err());
    let debug = crate::ctl::debug::DebugArgs {
        since: "1 minute ago".into(),
        output: Some(directory.path().join("debug.tar.gz")),
        config,
    };
    let debugged = tokio::task::spawn_blocking(move || crate::ctl::debug::run(&debug));
    let before = recorded.all().len();
    debugged.await.expect("it ends").expect("written");
    assert!(recorded.all().len() > before, "debug looked");
    let elsewhere = |answer: &OperatorAnswer| answer.elsewhere;
    let asked = cluster.ask(path::OPERATE, &pause(), elsewhere).await;
    assert!(asked.is_none());
    let sent = recorded.all();
    let keys = Keys::new(KEY.as_bytes());
    let former = keys.former_operator_header().expect("a cluster key");
    for secret in [former, keys.internal_header()] {
        let secret = secret.split(' ').next_back().expect("a secret");
        for text in &sent {
            assert!(!text.contains(secret), "{text}");
        }
    }
    let shown = shown(&sent);
    assert!(shown.len() >= 6, "{sent:?}");
    for header in shown {
        let header = header.as_bytes();
        assert!(keys.look_ok(header));
        assert!(!keys.internal_ok(header) && !keys.operator_ok(header));
    }
    assert!(!sent.iter().any(|text| text.contains("pause")), "{sent:?}");
    stop.cancel();
}

/// A master that takes deeds, and says to each that it is, or is not, primary.
async fn real(node: &str, primary: bool) -> (SocketAddr, CancellationToken) {
    let start = Incarnation {
        counter: 7,
        random: 9,
    };
    let taker = Taker::new(&Keys::new(KEY.as_bytes()), &NodeId::new(node), start);
    let taker = Arc::new(taker);
    let router = Router::new().fallback(move |request: Request| {
        let taker = Arc::clone(&taker);
        async move {
            if request.uri().path() == path::NONCE {
                let challenge = request.uri().query().unwrap_or_default();
                let challenge = challenge.trim_start_matches("challenge=");
                return axum::Json(taker.nonce(challenge)).into_response();
            }
            let Ok((_, answering)) = taker.operator(request).await else {
                return http::StatusCode::CONFLICT.into_response();
            };
            let answer = OperatorAnswer {
                accepted: primary,
                elsewhere: !primary,
                message: "as it says".into(),
            };
            answering.seal(axum::Json(answer).into_response()).await
        }
    });
    let listener = server::listen("test", SocketAddr::from(([127, 0, 0, 1], 0)));
    let listener = listener.await.expect("bound");
    let address = listener.local_addr().expect("bound");
    let stop = CancellationToken::new();
    tokio::spawn(server::serve(listener, router, stop.clone()));
    (address, stop)
}

/// Goal: rows of masters that are gone hold no verb up, and hide no reason of another one. Method: addresses that take connections and say
/// nothing, a web server that is no master, and a master, which is not primary at first.
#[tokio::test]
async fn dead_rows_hold_no_verb_up_and_hide_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let mute: Vec<std::net::TcpListener> = (0..8)
        .map(|_| std::net::TcpListener::bind("127.0.0.1:0").expect("bound"))
        .collect();
    let web = Recorded::default();
    let (at_web, stop_web) = web.listen().await;
    let (at_second, stop_second) = real("b:master-2", false).await;
    let mut rows: Vec<Registration> = mute
        .iter()
        .enumerate()
        .map(|(n, at)| {
            master_row(
                &format!("gone{n}:master-1"),
                at.local_addr().expect("bound"),
            )
        })
        .collect();
    rows.push(master_row("web:master-1", at_web));
    rows.push(master_row("b:master-2", at_second));
    let elsewhere = |answer: &OperatorAnswer| answer.elsewhere;
    let found = cluster(directory.path(), &rows).await;
    let began = crate::sys::clock::now();
    let said = found.ask(path::OPERATE, &pause(), elsewhere).await;
    let took = crate::sys::clock::now().since(began);
    assert!(
        took < NONCE_WITHIN * 2,
        "{took:?}, and one after the other 16 s"
    );
    assert!(said.is_some_and(|(_, answer)| answer.elsewhere));
    let why = found.nobody();
    for part in [
        "is not the primary master",
        "gives no nonce (HTTP 404",
        "No primary master answers",
    ] {
        assert!(why.contains(part), "{part} in {why}");
    }
    let (at_first, stop_first) = real("a:master-1", true).await;
    rows.push(master_row("a:master-1", at_first));
    let directory = tempfile::tempdir().expect("a directory");
    let found = cluster(directory.path(), &rows).await;
    let began = crate::sys::clock::now();
    let said = found.ask(path::OPERATE, &pause(), elsewhere).await;
    let took = crate::sys::clock::now().since(began);
    assert!(said.is_some_and(|(_, answer)| answer.accepted));
    assert!(took < NONCE_WITHIN, "{took:?}");
    for stop in [stop_web, stop_first, stop_second] {
        stop.cancel();
    }
}

/// Goal: a master of a release before, which does not know how this release looks, is named as such. Method: one that answers 401.
#[tokio::test]
async fn an_older_master_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let router = Router::new().fallback(|| async { http::StatusCode::UNAUTHORIZED });
    let listener = server::listen("test", SocketAddr::from(([127, 0, 0, 1], 0)));
    let listener = listener.await.expect("bound");
    let address = listener.local_addr().expect("bound");
    let stop = CancellationToken::new();
    tokio::spawn(server::serve(listener, router, stop.clone()));
    let rows = [master_row("a:master-1", address)];
    let cluster = cluster(directory.path(), &rows).await;
    assert!(cluster.status().await.is_none());
    let why = cluster.nobody();
    assert!(why.contains("of an older release"), "{why}");
    assert!(why.contains("upgrade its machine"), "{why}");
    stop.cancel();
}
