//! What the verbs of an operator send to whoever stands in the node table. A row there proves nothing: whoever can write to the
//! database can plant one.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use tokio_util::sync::CancellationToken;
use wa_core::id::{Incarnation, NodeId};

use super::*;
use crate::api::control::{OperatorAnswer, OperatorRequest, Verb};
use crate::db::node::Registration;
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

/// Goal: a row that somebody planted in the node table learns nothing that lets it act: no look and no deed carries the operator's
/// credential. Method: a listener behind such a row that writes down all it is sent, while a person looks and pauses failover.
#[tokio::test]
async fn a_planted_row_gets_no_credential_of_an_operator() {
    let directory = tempfile::tempdir().expect("a directory");
    let recorded = Recorded::default();
    let (address, stop) = recorded.listen().await;
    let rows = [master_row("planted:master-1", address)];
    let cluster = cluster(directory.path(), &rows).await;
    assert!(cluster.status().await.is_none());
    assert!(cluster.explain().await.is_none());
    let elsewhere = |answer: &OperatorAnswer| answer.elsewhere;
    assert!(
        cluster
            .ask(path::OPERATE, &pause(), elsewhere)
            .await
            .is_none()
    );
    let secret = Keys::new(KEY.as_bytes())
        .former_operator_header()
        .expect("a cluster key");
    let secret = secret.split(' ').next_back().expect("a secret");
    let sent = recorded.all();
    assert!(sent.len() >= 3, "{sent:?}");
    for text in &sent {
        assert!(!text.contains(secret), "{text}");
    }
    stop.cancel();
}
