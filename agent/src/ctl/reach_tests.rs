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

/// What a master does, or who stands before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Acts {
    Primary,
    Standby,
    /// It takes its time for an answer.
    SlowStandby,
    /// Its nonce comes in pieces, as over a bad line.
    PrimaryInPieces,
    /// A relay: the call goes through, and its answer is a refusal without a proof.
    RefusesAllTheSame,
    /// Its database did not say whether it took the change.
    Unsure,
    /// Its answer is proved, and of another release.
    Babbles,
}

/// An answer whose parts come one after the other.
fn in_pieces(answer: &impl Serialize) -> axum::response::Response {
    let text = serde_json::to_string(answer).expect("JSON");
    let parts: Vec<String> = text
        .as_bytes()
        .chunks(text.len().div_ceil(4))
        .map(|part| String::from_utf8_lossy(part).into_owned())
        .collect();
    let parts = futures_util::stream::unfold(parts.into_iter(), |mut parts| async move {
        let part = parts.next()?;
        clock::sleep(Duration::from_millis(50)).await;
        Some((Ok::<_, std::io::Error>(part), parts))
    });
    axum::body::Body::from_stream(parts).into_response()
}

/// A master that takes deeds, and says to each that it is, or is not, primary.
async fn real(node: &str, primary: bool) -> (SocketAddr, CancellationToken) {
    let acts = match primary {
        true => Acts::Primary,
        false => Acts::Standby,
    };
    let (address, stop, _) = acting(node, acts).await;
    (address, stop)
}

/// The answer to a deed that was taken.
fn answer_of(acts: Acts) -> axum::response::Response {
    match acts {
        Acts::Primary | Acts::PrimaryInPieces | Acts::Standby | Acts::SlowStandby => {
            let primary = matches!(acts, Acts::Primary | Acts::PrimaryInPieces);
            axum::Json(OperatorAnswer {
                accepted: primary,
                elsewhere: !primary,
                message: "as it says".into(),
            })
            .into_response()
        }
        Acts::Unsure | Acts::RefusesAllTheSame => {
            let error = ControlError {
                code: 1011,
                message: "whether it was done is not known: the database did not answer".into(),
                primary: None,
                unknown: acts == Acts::Unsure,
            };
            (http::StatusCode::SERVICE_UNAVAILABLE, axum::Json(error)).into_response()
        }
        Acts::Babbles => "as a later release says it".into_response(),
    }
}

/// A master, or a relay before one, and how many deeds it took.
async fn acting(
    node: &str,
    acts: Acts,
) -> (
    SocketAddr,
    CancellationToken,
    Arc<std::sync::atomic::AtomicUsize>,
) {
    let took = Arc::<std::sync::atomic::AtomicUsize>::default();
    let count = Arc::clone(&took);
    let start = Incarnation {
        counter: 7,
        random: 9,
    };
    let taker = Taker::new(&Keys::new(KEY.as_bytes()), &NodeId::new(node), start);
    let taker = Arc::new(taker);
    let router = Router::new().fallback(move |request: Request| {
        let (taker, count) = (Arc::clone(&taker), Arc::clone(&count));
        async move {
            if request.uri().path() == path::NONCE {
                let challenge = request.uri().query().unwrap_or_default();
                let challenge = challenge.trim_start_matches("challenge=");
                let given = taker.nonce(challenge);
                return match acts == Acts::PrimaryInPieces {
                    true => in_pieces(&given),
                    false => axum::Json(given).into_response(),
                };
            }
            let Ok((_, answering)) = taker.operator(request).await else {
                return http::StatusCode::CONFLICT.into_response();
            };
            count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            if acts == Acts::SlowStandby {
                // Longer than a nonce may take.
                clock::sleep(NONCE_WITHIN + Duration::from_millis(300)).await;
            }
            match acts == Acts::RefusesAllTheSame {
                true => answer_of(acts),
                false => answering.seal(answer_of(acts)).await,
            }
        }
    });
    let listener = server::listen("test", SocketAddr::from(([127, 0, 0, 1], 0)));
    let listener = listener.await.expect("bound");
    let address = listener.local_addr().expect("bound");
    let stop = CancellationToken::new();
    tokio::spawn(server::serve(listener, router, stop.clone()));
    (address, stop, took)
}

/// Goal: where nobody knows whether a verb was done, no other master is asked, which would do it twice, and the operator reads that, and
/// where to look. Method: two masters that both take the verb and answer without a proof, or that their database did not say, or in words
/// of another release; how many of them took it.
#[tokio::test]
async fn nobody_does_twice_what_may_be_done() {
    use std::sync::atomic::Ordering;
    for acts in [Acts::RefusesAllTheSame, Acts::Unsure, Acts::Babbles] {
        let directory = tempfile::tempdir().expect("a directory");
        let (at_first, stop_first, first) = acting("a:master-1", acts).await;
        let (at_second, stop_second, second) = acting("b:master-2", acts).await;
        let rows = [
            master_row("a:master-1", at_first),
            master_row("b:master-2", at_second),
        ];
        let found = cluster(directory.path(), &rows).await;
        let elsewhere = |answer: &OperatorAnswer| answer.elsewhere;
        let said = found.ask(path::OPERATE, &pause(), elsewhere).await;
        assert!(said.is_none(), "{acts:?}");
        let took = first.load(Ordering::SeqCst) + second.load(Ordering::SeqCst);
        assert_eq!(took, 1, "{acts:?}");
        let why = found.nobody();
        assert!(why.contains("not known"), "{acts:?}: {why}");
        if acts != Acts::Unsure {
            assert!(why.contains("See wa-agent status"), "{acts:?}: {why}");
        }
        for stop in [stop_first, stop_second] {
            stop.cancel();
        }
    }
}

/// Goal: a master that takes its time makes no other one look silent. Method: one that is not primary and answers a verb after longer than a
/// nonce may take, and a primary whose nonce comes in pieces meanwhile.
#[tokio::test]
async fn a_slow_master_makes_no_other_silent() {
    let directory = tempfile::tempdir().expect("a directory");
    let (at_slow, stop_slow, slow) = acting("a:master-1", Acts::SlowStandby).await;
    let (at_primary, stop_primary, _) = acting("b:master-2", Acts::PrimaryInPieces).await;
    let rows = [
        master_row("a:master-1", at_slow),
        master_row("b:master-2", at_primary),
    ];
    let found = cluster(directory.path(), &rows).await;
    let elsewhere = |answer: &OperatorAnswer| answer.elsewhere;
    let said = found.ask(path::OPERATE, &pause(), elsewhere).await;
    assert!(said.is_some_and(|(_, answer)| answer.accepted));
    let slow = slow.load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!(slow, 1, "it was told first");
    for stop in [stop_slow, stop_primary] {
        stop.cancel();
    }
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
