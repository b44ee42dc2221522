//! Goal: an empty or half-made schema becomes whole, whoever dies on the way. Method: races, kills, repeated runs.

use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use wa_agent::db::fence::FenceWord;
use wa_agent::db::history::Record;
use wa_agent::db::migrate::SCHEMA_VERSION;
use wa_agent::db::node::Registration;
use wa_agent::db::user::User;
use wa_agent::db::{Db, DbError};
use wa_core::id::{Grant, Incarnation, NodeId, Nonce, Role, Term};
use wa_core::master::{Home, Outcome};

use crate::store::{Store, on_every_store, settings};

on_every_store![
    five_masters_start_at_once,
    migration_is_killed_again_and_again,
    newer_schema_is_refused,
    nodes_register_and_beat,
    users_tokens_settings_history,
    fences_are_told,
];

async fn five_masters_start_at_once(store: &Store) {
    let one = |n: u64| {
        let settings = store.settings.clone();
        let mut c = store.lease(&format!("m{n}:master-1"));
        async move {
            let db = Db::connect(&settings, 2).await.unwrap();
            db.ensure_lease_table().await.unwrap();
            let row = c.snapshot().await.unwrap().master;
            let expect = (row.term, row.grant, row.nonce);
            let took = if row.holder.is_none() {
                c.take_master(
                    expect,
                    (Term(1), Grant(n), Nonce(n)),
                    Duration::from_secs(3),
                )
                .await
            } else {
                Outcome::Lost
            };
            // All of them migrate, as if each had believed for a moment to be the one.
            assert_eq!(db.migrate().await.unwrap(), SCHEMA_VERSION);
            took
        }
    };
    let tasks: Vec<_> = (1..=5).map(|n| tokio::spawn(one(n))).collect();
    let mut held = 0;
    for task in tasks {
        held += u32::from(task.await.unwrap() == Outcome::Held);
    }
    assert_eq!(held, 1);
    store.db.probe_all().await;
}

const CHILD_URL: &str = "WA_TEST_MIGRATE_URL";

/// Not a test of its own: what the test below starts and kills.
#[tokio::test]
async fn child_migrates() {
    let Ok(url) = std::env::var(CHILD_URL) else {
        return;
    };
    let db = Db::connect(&settings(vec![url]), 2).await.unwrap();
    db.ensure_lease_table().await.unwrap();
    db.migrate().await.unwrap();
}

async fn migration_is_killed_again_and_again(store: &Store) {
    let url = store.settings.urls[0].clone();
    for round in 0..20u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store_schema::child_migrates"])
            .env(CHILD_URL, &url)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Spread over start, connecting and the whole run; a fixed sequence, so that a failure can be repeated.
        let wait = Duration::from_millis(5 + (round * 37) % 120);
        tokio::time::sleep(wait).await;
        let _ = child.kill();
        let _ = child.wait();
    }
    let db = &store.db;
    db.ensure_lease_table().await.unwrap();
    assert_eq!(db.migrate().await.unwrap(), SCHEMA_VERSION);
    assert_eq!(
        db.migrate().await.unwrap(),
        SCHEMA_VERSION,
        "nothing left to do"
    );
    db.probe_all().await;
}

async fn newer_schema_is_refused(store: &Store) {
    store.cluster(1).await;
    let sql = "INSERT INTO schema_version (version) VALUES (9999)";
    match &store.db {
        Db::MySql(hosts) => drop(sqlx::query(sql).execute(&hosts.pool()).await.unwrap()),
        Db::Sqlite(pool) => drop(sqlx::query(sql).execute(pool).await.unwrap()),
    }
    let error = store.db.schema_version().await.unwrap_err();
    assert!(
        matches!(error, DbError::SchemaNewer { found: 9999, .. }),
        "{error}"
    );
    assert!(store.db.migrate().await.is_err());
}

async fn nodes_register_and_beat(store: &Store) {
    let mut master = store.cluster(1).await;
    let mut r = Registration {
        node: NodeId::new("c1.example:coreapp-1"),
        role: Role::Coreapp,
        incarnation: Incarnation {
            counter: 1,
            random: u64::MAX >> 1,
        },
        machine: "m".into(),
        zone: "z'1".into(),
        address: "127.0.0.1".into(),
        port_heartbeat: 6250,
        port_control: 6251,
        port_api: 6252,
        version: "0.1.0".into(),
        weight: -3,
        keys: ("a1".into(), "a1 7f".into()),
    };
    store.db.register(&r).await.unwrap();
    r.incarnation.counter = 2;
    store.db.register(&r).await.unwrap();
    let nodes = store.db.nodes().await.unwrap();
    assert_eq!(nodes.len(), 1);
    assert_eq!(nodes[0].registration.incarnation, r.incarnation);
    assert_eq!(
        (nodes[0].registration.weight, nodes[0].registration.port_api),
        (-3, 6252)
    );
    assert!(nodes[0].beat_age_ms < 10_000);
    let roll = Mutex::default();
    let day = Duration::from_secs(86_400);
    let keys = store.db.node_keys(&roll, day).await.unwrap();
    assert_eq!(keys[0].sends.as_deref(), Some("a1"));
    assert_eq!(keys[0].accepts, ["a1", "7f"]);
    let seen = master.c.snapshot().await.unwrap().nodes;
    assert_eq!(
        (seen.len(), seen[0].role, seen[0].zone.as_str()),
        (1, Role::Coreapp, "z'1")
    );
    assert_eq!(seen[0].home, None, "it has said nothing");
    let home = Home {
        machine: 7,
        boot: u128::MAX,
    };
    let tell = async |start| store.db.tell_home(&r.node, start, home).await.unwrap();
    tell(Incarnation::default()).await;
    assert_eq!(
        master.c.snapshot().await.unwrap().nodes[0].home,
        None,
        "another start said it"
    );
    tell(r.incarnation).await;
    assert_eq!(master.c.snapshot().await.unwrap().nodes[0].home, Some(home));
    only_the_gone_are_forgotten(&store.db, &r).await;
    store.db.try_write().await.unwrap();
    // As before the primary master of a release before is upgraded.
    store.db.register(&r).await.unwrap();
    let sql = "DROP TABLE node_home";
    match &store.db {
        Db::MySql(hosts) => drop(sqlx::query(sql).execute(&hosts.pool()).await.unwrap()),
        Db::Sqlite(pool) => drop(sqlx::query(sql).execute(pool).await.unwrap()),
    }
    tell(r.incarnation).await;
    let seen = master.c.snapshot().await.unwrap().nodes;
    assert_eq!((seen.len(), seen[0].home), (1, None));
}

/// F11: who beats is not forgotten; who is gone leaves every table, and registers again should it come back.
async fn only_the_gone_are_forgotten(db: &Db, r: &Registration) {
    let node = r.node.as_str();
    let beat = db.nodes().await.unwrap()[0].beat_ms;
    assert!(!db.forget_node("nobody:coreapp-9", beat).await.unwrap());
    while db.nodes().await.unwrap()[0].beat_ms == beat {
        db.register(r).await.unwrap();
    }
    assert!(
        !db.forget_node(node, beat).await.unwrap(),
        "it has beaten since"
    );
    let beat = db.nodes().await.unwrap()[0].beat_ms;
    assert!(db.forget_node(node, beat).await.unwrap());
    assert!(db.nodes().await.unwrap().is_empty());
    let day = Duration::from_secs(86_400);
    let keys = db.node_keys(&Mutex::default(), day).await.unwrap();
    assert!(keys.iter().all(|keys| keys.node != r.node));
    db.register(r).await.unwrap();
    assert_eq!(db.nodes().await.unwrap().len(), 1);
}

async fn users_tokens_settings_history(store: &Store) {
    store.cluster(1).await;
    let db = &store.db;
    let user = User {
        username: "admin".into(),
        password_hash: "h".into(),
        admin: 1,
        must_change: 1,
    };
    assert!(db.create_user(&user).await.unwrap());
    assert!(!db.create_user(&user).await.unwrap());
    assert!(db.set_password("admin", "h2").await.unwrap());
    assert!(!db.set_password("nobody", "h2").await.unwrap());
    let stored = db.user("admin").await.unwrap().unwrap();
    assert_eq!(
        (stored.password_hash.as_str(), stored.must_change),
        ("h2", 0)
    );
    assert!(db.store_token("t1", &stored, 60_000).await.unwrap());
    assert!(db.store_token("t2", &stored, 0).await.unwrap());
    let holder = db.token_user("t1").await.unwrap().unwrap();
    assert_eq!((holder.username.as_str(), holder.admin), ("admin", true));
    assert!((59_000..=60_000).contains(&holder.left_ms), "{holder:?}");
    assert_eq!(db.token_user("t2").await.unwrap(), None, "expired");
    db.revoke_token("t1").await.unwrap();
    assert_eq!(db.token_user("t1").await.unwrap(), None);
    assert!(db.delete_user("admin").await.unwrap());

    assert_eq!(db.setting("application").await.unwrap(), (0, "{}".into()));
    assert!(
        db.store_setting("application", 0, r#"{"a":"'\\"}"#)
            .await
            .unwrap()
    );
    assert!(
        !db.store_setting("application", 0, "{}").await.unwrap(),
        "somebody was first"
    );
    assert_eq!(
        db.setting("application").await.unwrap(),
        (1, r#"{"a":"'\\"}"#.into())
    );
    history(db).await;
}

/// Decisions have numbers and keep their evidence; what followed on the same shard is found.
async fn history(db: &Db) {
    let record = |shard, what: &str, subject: &str, reason: &str, evidence: &str| Record {
        node: "m1".into(),
        shard,
        what: what.into(),
        subject: subject.into(),
        reason: reason.into(),
        evidence: evidence.into(),
    };
    let first = db
        .record(&record(
            0,
            "promote",
            "c1",
            "Silence",
            r#"{"sentence":"x"}"#,
        ))
        .await
        .unwrap();
    let second = db
        .record(&record(-1, "take", "m1", "Free", ""))
        .await
        .unwrap();
    let third = db
        .record(&record(0, "activate", "c1", "AllSettled", ""))
        .await
        .unwrap();
    let (decision, evidence, after) = db.decision(first).await.unwrap().expect("it is there");
    assert_eq!(
        (decision.what.as_str(), evidence.as_str()),
        ("promote", r#"{"sentence":"x"}"#)
    );
    assert_eq!(
        after.iter().map(|d| d.id).collect::<Vec<_>>(),
        [third],
        "of the same shard only"
    );
    let (_, evidence, _) = db.decision(second).await.unwrap().expect("it is there");
    assert_eq!(evidence, "");
    assert_eq!(db.decision(third + 1000).await.unwrap(), None);
    let decisions = db.decisions(10).await.unwrap();
    assert_eq!(
        decisions
            .iter()
            .map(|d| d.what.as_str())
            .collect::<Vec<_>>(),
        ["promote", "take", "activate"]
    );
    for subject in ["ACCOUNT_RESTRICTION", "it's \\ 'lifted'"] {
        let news = record(-1, "account", subject, "Told", "");
        db.record(&news).await.unwrap();
    }
    // Neither a longer name nor another case of letters.
    for other in ["accounts", "Account"] {
        db.record(&record(-1, other, "no news", "", ""))
            .await
            .unwrap();
    }
    let of = async |what: &str, limit| {
        let found = db.records_of(what, limit).await.unwrap();
        found.into_iter().map(|d| d.subject).collect::<Vec<_>>()
    };
    let newest_first = ["it's \\ 'lifted'", "ACCOUNT_RESTRICTION"];
    assert_eq!(of("account", 20).await, newest_first);
    assert_eq!(of("account", 1).await, newest_first[..1]);
    assert!(of("nothing", 20).await.is_empty());
    assert!(of("x' OR '1'='1", 20).await.is_empty());
}

/// Goal: what a host agent says last is what masters read, old words are not. Method: said twice, of two machines.
async fn fences_are_told(store: &Store) {
    let db = &store.db;
    db.ensure_lease_table().await.unwrap();
    db.migrate().await.unwrap();
    let word = |node: &str, level: &str, sentence: &str| FenceWord {
        node: node.into(),
        level: level.into(),
        sentence: sentence.into(),
    };
    let refused = word("a:host-1", "process", "the kernel refuses");
    db.report_fence(&refused).await.unwrap();
    let other = word("b:host-1", "bpf", "");
    db.report_fence(&other).await.unwrap();
    assert_eq!(db.fences(60_000).await.unwrap(), [refused, other.clone()]);
    let healed = word("a:host-1", "bpf", "");
    db.report_fence(&healed).await.unwrap();
    let long = word("c:host-1", "process", &"x".repeat(2000));
    db.report_fence(&long).await.unwrap();
    let all = db.fences(60_000).await.unwrap();
    assert_eq!(all[..2], [healed, other]);
    assert_eq!(all[2].sentence.len(), 1024, "cut, not refused");
}

/// The schema for reading is the numbered files one after the other, and both dialects have the same files.
#[test]
fn schema_for_reading_is_what_is_run() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let names = |dialect: &str| {
        let files = std::fs::read_dir(folder.join(dialect)).unwrap();
        let mut names: Vec<_> = files.map(|file| file.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names("mysql"), names("sqlite"));
    let whole = std::fs::read_to_string(folder.join("schema.sql")).unwrap();
    for name in names("mysql") {
        let text = std::fs::read_to_string(folder.join("mysql").join(&name)).unwrap();
        assert_eq!(
            text.trim().matches(';').count(),
            1,
            "{name:?}: one statement"
        );
        assert!(
            whole.contains(text.trim()),
            "schema.sql differs from {name:?}"
        );
    }
}

/// Reads every table once.
trait ProbeAll {
    async fn probe_all(&self);
}

impl ProbeAll for Db {
    async fn probe_all(&self) {
        self.counts().await.unwrap();
        self.nodes().await.unwrap();
        self.user("x").await.unwrap();
        self.token_user("x").await.unwrap();
        self.setting("x").await.unwrap();
        self.decisions(1).await.unwrap();
        self.audit(None, 1).await.unwrap();
        self.shard_map().await.unwrap();
    }
}
