//! Deeds over real HTTP, at the control port of a master whose loop the test plays: what is done, what is told, and what the audit says.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use wa_core::id::{Incarnation, NodeId, Role};

use super::*;
use crate::api::act::Acts;
use crate::api::control::{
    ClusterStatus, OperatorAnswer, OperatorRequest, SwitchoverAnswer, SwitchoverRequest, Verb,
};
use crate::config::Settings;
use crate::db::Db;
use crate::master::directory::Directory;
use crate::master::figures::Source;
use crate::master::port;
use crate::master::request::Request as Wanted;
use crate::metrics::MasterMetrics;
use crate::net::client::InternalClient;
use crate::net::doer::{At, DeedError, Doer};
use crate::net::keys::Keys;
use crate::net::server::{self, Public};
use crate::net::udp::Identity;

#[path = "acts_tests.rs"]
mod acts;

const WITHIN: Duration = Duration::from_secs(10);

/// What the loop says to a verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    Done,
    No,
    Elsewhere,
    Nothing,
    /// It answers when the caller is gone.
    Late,
}

struct Bench {
    base: String,
    settings: Settings,
    control: Control,
    says: Arc<Mutex<Says>>,
    /// Verbs that reached the loop.
    heard: Arc<Mutex<Vec<OperatorRequest>>>,
    moved: Arc<Mutex<Vec<SwitchoverRequest>>>,
    go_on: Arc<tokio::sync::Notify>,
    _directory: tempfile::TempDir,
    _stop: tokio_util::sync::DropGuard,
}

impl Bench {
    async fn new() -> Self {
        Self::with(Acts::default()).await
    }

    /// With this word in `[console] acts`.
    async fn with(acts: Acts) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut settings = crate::master::tests::settings(directory.path());
        settings.console.acts = acts;
        let db = Db::connect(&settings.database, 2).await.expect("opened");
        db.ensure_lease_table().await.expect("made");
        db.migrate().await.expect("made");
        let incarnation = Incarnation {
            counter: 7,
            random: 9,
        };
        let own = Identity {
            cluster: 1,
            node: NodeId::new("a:master-1"),
            role: Role::Master,
            incarnation,
            keys: Keys::of(&settings.cluster_key),
        };
        let (sender, requests) = mpsc::channel(64);
        let metrics = Arc::new(MasterMetrics::new());
        let figures = Source::of(&own.node, incarnation, &metrics);
        let control = Control::new(
            (&own, &settings),
            (sender, Arc::<Directory>::default()),
            (db, Arc::default(), figures),
        );
        let listener = server::listen("test", SocketAddr::from(([127, 0, 0, 1], 0)));
        let listener = listener.await.expect("bound");
        let base = format!("http://{}", listener.local_addr().expect("bound"));
        let stop = CancellationToken::new();
        let router = port::router(control.clone());
        let public = Public::default();
        tokio::spawn(server::serve_with(listener, router, public, stop.clone()));
        let bench = Self {
            base,
            settings,
            control,
            says: Arc::new(Mutex::new(Says::Done)),
            heard: Arc::default(),
            moved: Arc::default(),
            go_on: Arc::default(),
            _directory: directory,
            _stop: stop.drop_guard(),
        };
        bench.play(requests);
        bench
    }

    fn play(&self, mut requests: mpsc::Receiver<Wanted>) {
        let (says, heard) = (Arc::clone(&self.says), Arc::clone(&self.heard));
        let (go_on, moved) = (Arc::clone(&self.go_on), Arc::clone(&self.moved));
        tokio::spawn(async move {
            let mut kept = Vec::new();
            while let Some(request) = requests.recv().await {
                match request {
                    Wanted::Operate(wish, answer) => {
                        heard.lock().expect("whole").push(wish);
                        let says = *says.lock().expect("whole");
                        if says == Says::Late {
                            go_on.notified().await;
                        }
                        if says == Says::Nothing {
                            kept.push(answer);
                            continue;
                        }
                        let _ = answer.send(OperatorAnswer {
                            accepted: matches!(says, Says::Done | Says::Late),
                            elsewhere: says == Says::Elsewhere,
                            message: "as the loop says".into(),
                        });
                    }
                    Wanted::ShardCount(wish, answer) => {
                        let says = *says.lock().expect("whole");
                        let _ = answer.send(ShardsAnswer {
                            accepted: says == Says::Done,
                            before: wish.shards,
                            message: "as the loop says".into(),
                        });
                    }
                    Wanted::ReadMap(answer) => drop(answer.send(true)),
                    Wanted::Written(_, answer) => drop(answer.send(())),
                    Wanted::Switchover(wish, answer) => {
                        moved.lock().expect("whole").push(wish);
                        let _ = answer.send(SwitchoverAnswer {
                            accepted: true,
                            from: None,
                            to: None,
                            elsewhere: false,
                            epoch_before: 1,
                            message: "it moves".into(),
                        });
                    }
                    Wanted::Status(answer) => drop(answer.send(primary())),
                    // Nobody here asks for these.
                    Wanted::Explain(_) | Wanted::Read(_) | Wanted::SettingsChanged(_) => {}
                }
            }
        });
    }

    fn keys(&self) -> Keys {
        Keys::of(&self.settings.cluster_key)
    }

    fn say(&self, says: Says) {
        *self.says.lock().expect("whole") = says;
    }

    fn heard(&self) -> usize {
        self.heard.lock().expect("whole").len()
    }

    async fn verb(&self, within: Duration) -> Result<(StatusCode, bytes::Bytes), DeedError> {
        self.deed(serde_json::to_vec(&ack()).expect("JSON"), within)
            .await
    }

    async fn deed(
        &self,
        body: Vec<u8>,
        within: Duration,
    ) -> Result<(StatusCode, bytes::Bytes), DeedError> {
        let at = At {
            base: &self.base,
            node: Some("a:master-1"),
        };
        let doer = Doer::new(&self.keys());
        doer.operator(at, path::OPERATE, body, within).await
    }

    /// What somebody asks with a webapp's key and a token.
    async fn shards(&self, token: &str, body: &[u8]) -> (StatusCode, bytes::Bytes) {
        let at = At {
            base: &self.base,
            node: Some("a:master-1"),
        };
        let token = token.to_owned().into();
        let asked = (body.to_vec(), &token);
        let doer = Doer::new(&self.keys());
        let done = doer.administrator(at, path::SHARDS, asked, WITHIN).await;
        done.expect("proved")
    }

    /// Whatever somebody sends without a proof.
    async fn post(&self, header: &str) -> (StatusCode, bytes::Bytes) {
        let client = InternalClient::of_looks(&self.keys());
        let url = format!("{}{}", self.base, path::OPERATE);
        let body = serde_json::to_vec(&ack()).expect("JSON");
        let sent = client.show(Method::POST, &url, Some(header), body, WITHIN);
        sent.await.expect("answered")
    }

    fn lines(&self) -> Vec<String> {
        let written = self.control.audit.written();
        let line = |entry: &Entry| {
            let Entry {
                who, source, what, ..
            } = entry;
            format!("{who} {source} {what}: {}", entry.outcome)
        };
        written.iter().map(line).collect()
    }

    /// The lines, once there are so many.
    async fn lines_when(&self, count: usize) -> Vec<String> {
        let wait = async {
            while self.lines().len() < count {
                crate::sys::clock::sleep(Duration::from_millis(5)).await;
            }
        };
        let _ = tokio::time::timeout(WITHIN, wait).await;
        self.lines()
    }
}

fn primary() -> ClusterStatus {
    serde_json::from_value(json!({
        "node": "a:master-1", "version": "0", "primary": true, "primary_master": null, "term": 1, "lease_margin_ms": 1,
        "safe_ms": null, "database_error": null, "fence": "process", "heartbeat_interval_ms": 1, "unhealthy_interval_ms": 3,
        "settings_version": 1, "shards": [], "nodes": [], "problems": [], "decisions": [],
    }))
    .expect("a status")
}

fn ack() -> OperatorRequest {
    OperatorRequest {
        verb: Verb::Ack { shard: 3 },
        dry_run: false,
        reason: None,
        by: Some("ann@core1.example".into()),
    }
}

const WHO: &str = "ann@core1.example core1.example (127.0.0.1) ack shard 3";

/// Goal: a command of a release before, which shows the plain secret of operators, is refused with the words that name the upgrade, does
/// nothing, and leaves a line. Method: that header over real HTTP at a master's port; so a webapp's, and the form of deeds that others
/// could read.
#[tokio::test]
async fn a_release_before_is_told_to_upgrade_and_leaves_a_line() {
    let bench = Bench::new().await;
    let former = bench.keys().former_operator_header();
    let former = former.expect("a cluster key");
    for (n, header) in [former.as_str(), "wa-deed 00 11 22"]
        .into_iter()
        .enumerate()
    {
        let (status, body) = bench.post(header).await;
        assert_eq!(status, StatusCode::OK, "of others it shows the status only");
        let said: OperatorAnswer = serde_json::from_slice(&body).expect("as it reads answers");
        assert!(!said.accepted && !said.elsewhere);
        assert!(
            said.message.contains("Upgrade wa-agent on the machine"),
            "{}",
            said.message
        );
        assert!(
            said.message.contains("Nothing was done"),
            "{}",
            said.message
        );
        let lines = bench.lines();
        assert_eq!(lines.len(), n + 1, "{lines:?}");
        let expected =
            "- 127.0.0.1 a verb at /control/operate: refused: this call came from an older release";
        assert!(lines[n].starts_with(expected), "{lines:?}");
    }
    let (status, body) = bench.post(&bench.keys().internal_header()).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(String::from_utf8_lossy(&body).contains("a webapp's key may not do this"));
    assert_eq!(bench.lines().len(), 3);
    assert_eq!(bench.heard(), 0);
}

/// Goal: a verb leaves exactly one line, whatever its end, and an answer is proved, also a refusal. Method: each end over real HTTP.
#[tokio::test]
async fn each_end_of_a_verb_leaves_one_line() {
    let bench = Bench::new().await;
    let (status, _) = bench.verb(WITHIN).await.expect("proved");
    assert_eq!(status, StatusCode::OK);
    bench.say(Says::No);
    bench.verb(WITHIN).await.expect("proved");
    bench.say(Says::Elsewhere);
    bench.verb(WITHIN).await.expect("proved");
    bench.say(Says::Nothing);
    let (status, body) = bench.verb(WITHIN).await.expect("proved");
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(String::from_utf8_lossy(&body).contains("is not known"));
    let (status, body) = bench.deed(b"{}".to_vec(), WITHIN).await.expect("proved");
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(String::from_utf8_lossy(&body).contains("upgrade the masters"));
    let lines = bench.lines();
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert_eq!(lines[0], format!("{WHO}: done"));
    assert_eq!(lines[1], format!("{WHO}: refused: as the loop says"));
    assert!(
        lines[2].starts_with(&format!("{WHO}: not known: ")),
        "{lines:?}"
    );
    assert!(
        lines[3].starts_with("- 127.0.0.1 a verb: refused: "),
        "{lines:?}"
    );
}

/// Goal: whoever calls a master with a webapp's key and a token, and without a webapp, leaves a line: an administrator under his name,
/// with what he asked and what came of it, and others few. Method: an administrator's token with each end, another user's, and twenty that
/// nobody has.
#[tokio::test]
async fn an_administrators_call_leaves_a_line() {
    use crate::db::user::User;
    let bench = Bench::new().await;
    for (name, admin) in [("ann", 1), ("bot", 0)] {
        let user = User {
            username: name.into(),
            password_hash: "none".into(),
            admin,
            must_change: 0,
        };
        let db = &bench.control.db;
        assert!(db.create_user(&user).await.expect("stored"));
        let hash = crate::master::asker::token_hash(&format!("token of {name}"));
        assert!(db.store_token(&hash, &user, 60_000).await.expect("stored"));
    }
    let wish = br#"{"shards":4,"dry_run":false}"#;
    let (status, _) = bench.shards("token of ann", wish).await;
    assert_eq!(status, StatusCode::OK);
    bench.say(Says::No);
    bench.shards("token of ann", wish).await;
    let (status, _) = bench.shards("token of ann", b"no").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    bench.shards("token of bot", wish).await;
    for _ in 0..20 {
        let (_, body) = bench.shards("a guess", wish).await;
        let said: ShardsAnswer = serde_json::from_slice(&body).expect("read");
        assert!(!said.accepted);
    }
    let lines = bench.lines();
    assert_eq!(lines.len(), 3 + 5, "{lines:?}");
    assert_eq!(lines[0], "ann 127.0.0.1 set 4 shards by the API: done");
    assert_eq!(
        lines[1],
        "ann 127.0.0.1 set 4 shards by the API: refused: as the loop says"
    );
    let what = "an administrator's call at /control/shards: refused: ";
    assert!(
        lines[2].starts_with(&format!("ann 127.0.0.1 {what}this release does not know")),
        "{lines:?}"
    );
    let stranger = format!("- 127.0.0.1 {what}");
    assert_eq!(
        lines[3],
        format!("{stranger}Only the administrator may do this")
    );
    assert!(lines[4].starts_with(&stranger), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("token of")));
}

/// Goal: a verb that the core alone carries out is in force once the loop said so: nobody is told to do it again because the history could not
/// be written. Method: an acknowledgement, with a database that does not answer.
#[tokio::test]
async fn a_verb_without_a_row_needs_no_database() {
    let bench = Bench::new().await;
    bench.control.db.close().await;
    let (status, body) = bench.verb(WITHIN).await.expect("proved");
    assert_eq!(status, StatusCode::OK);
    let said: OperatorAnswer = serde_json::from_slice(&body).expect("read");
    assert!(said.accepted, "{}", said.message);
    assert_eq!(bench.lines(), [format!("{WHO}: done")]);
}

/// Goal: a caller who hangs up stops no verb, and its one line says what came of it. Method: a caller who waits for a moment only, and a
/// loop that answers when he is gone.
#[tokio::test]
async fn a_caller_who_hangs_up_leaves_a_line() {
    let bench = Bench::new().await;
    bench.say(Says::Late);
    let why = bench.verb(Duration::from_millis(300)).await;
    let why = why.expect_err("he did not wait");
    assert!(matches!(why, DeedError::Call { .. }), "{why}");
    assert!(why.to_string().contains("wa-agent audit"), "{why}");
    assert_eq!((bench.heard(), bench.lines().len()), (1, 0));
    bench.go_on.notify_one();
    assert_eq!(bench.lines_when(1).await, [format!("{WHO}: done")]);
}

/// Goal: strangers cause few lines, and those that were left out are counted. Method: a hundred calls of one address.
#[tokio::test]
async fn strangers_cause_few_lines() {
    let bench = Bench::new().await;
    for _ in 0..50 {
        let (status, _) = bench.post("guess").await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
        let (status, _) = bench.post("wa-sealed-deed 00 11 22").await;
        assert_eq!(status, StatusCode::CONFLICT);
    }
    let lines = bench.lines();
    assert_eq!(lines.len(), 5, "{lines:?}");
    let door = "- 127.0.0.1 a call that changes something: refused: the cluster key differs";
    assert_eq!(lines[0], door);
    assert!(lines[1].starts_with("- 127.0.0.1 a verb at /control/operate: refused: "));
    assert_eq!(bench.heard(), 0);
}

/// Goal: what looks show opens looks and no verb, and those of the release before are answered. Method: each credential at a look and at a
/// verb.
#[tokio::test]
async fn looks_change_nothing() {
    let bench = Bench::new().await;
    let keys = bench.keys();
    let client = InternalClient::of_looks(&keys);
    let url = format!("{}{}", bench.base, path::STATS_DB);
    let look = async |header: Option<&str>| {
        let call = client.show(Method::GET, &url, header, Vec::new(), WITHIN);
        call.await.expect("answered").0
    };
    let former = keys.former_operator_header();
    for header in [
        Some(keys.look_header()),
        Some(keys.internal_header()),
        former,
    ] {
        assert_eq!(look(header.as_deref()).await, StatusCode::OK);
    }
    assert_eq!(look(None).await, StatusCode::UNAUTHORIZED);
    let (status, _) = bench.post(&keys.look_header()).await;
    assert_eq!((status, bench.heard()), (StatusCode::UNAUTHORIZED, 0));
}

/// Goal: whoever types a verb of a release before learns what to do, whatever the verb, and so does a webapp of one. Method: what such a
/// command reads.
#[tokio::test]
async fn every_older_verb_is_told_what_to_do() {
    use crate::api::control::KeysAnswer;
    use crate::api::parked::Answer;
    let read = async |said: Response| {
        assert_eq!(said.status(), StatusCode::OK);
        let body = axum::body::to_bytes(said.into_body(), 1 << 16).await;
        body.expect("whole")
    };
    let body = read(older(&Refused::Older.to_string())).await;
    let operator: OperatorAnswer = serde_json::from_slice(&body).expect("read");
    let moved: SwitchoverAnswer = serde_json::from_slice(&body).expect("read");
    let keys: KeysAnswer = serde_json::from_slice(&body).expect("read");
    let webhooks: Answer = serde_json::from_slice(&body).expect("read");
    for (accepted, elsewhere, message) in [
        (operator.accepted, operator.elsewhere, operator.message),
        (moved.accepted, moved.elsewhere, moved.message),
        (keys.accepted, keys.elsewhere, keys.message),
        (webhooks.accepted, webhooks.elsewhere, webhooks.message),
    ] {
        assert!(!accepted && !elsewhere);
        assert!(message.contains("Upgrade wa-agent") && message.contains("Nothing was done"));
    }
    let shards: ShardsAnswer =
        serde_json::from_slice(&read(older_webapp(path::SHARDS)).await).expect("read");
    let registration = read(older_webapp(path::REGISTRATION)).await;
    let registration: RegistrationAnswer = serde_json::from_slice(&registration).expect("read");
    let served = read(older_webapp(crate::api::served::path::BACKUP)).await;
    let served: Served = serde_json::from_slice(&served).expect("read");
    assert_eq!((&*shards.message, &*registration.message), (OLDER, OLDER));
    assert_eq!(served, Served::refused(Code::AccessDenied, OLDER));
}
