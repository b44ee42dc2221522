//! Goal: `status` is not calm while nothing works (F03), and calm again afterwards. Method: real processes on a database that
//! takes reads and no writes: a full disk under the embedded one, a backup lock on a server. What `status`, its exit code,
//! `/v1/health`, a master's page of figures and `doctor` say is compared.

use serde_json::{Value, json};

use super::{Dev, PATIENCE, status, status_until, verb};
use crate::drill::{TURN, port, request};
use crate::store_disk::Small;
use crate::{mariadb, skipped};

fn kinds(status: &Value) -> Vec<&str> {
    let judged = status["judged"].as_array();
    let all = judged.into_iter().flatten();
    all.filter_map(|judged| judged["kind"].as_str()).collect()
}

/// One figure of the first master's page: problems of a kind.
fn gauge(first: u16, kind: &str) -> Option<f64> {
    let page = request(
        [127, 0, 0, 1],
        6257 + first - 9090,
        "GET /metrics HTTP/1.1",
        "",
    );
    let name = format!("wa_problems{{kind=\"{kind}\"}} ");
    let line = page.lines().find(|line| line.starts_with(&name));
    line.and_then(|line| line.rsplit_once(' ')?.1.parse().ok())
}

/// Nothing is renewed any more: everybody who is asked says so, and why.
fn nothing_works(dev: &Dev, first: u16) {
    let broken = status_until(dev, "broken", |s| {
        let kinds = kinds(s);
        let has = |kind| kinds.contains(&kind);
        // A connection that is opened anew writes its row first: under a lock on all writes reads may end as well.
        let rows = has("no_master") && has("owner_lapsed");
        has("database_takes_no_writes") && (rows || has("database_silent"))
    });
    assert_eq!(broken["primary_master"], Value::Null, "{broken}");
    let (code, said) = verb(dev, &["status"]);
    assert_eq!(code, 3, "{said}");
    assert!(!said.contains("nothing is wrong"), "{said}");
    assert!(
        said.contains("takes no writes") || said.contains("taken no writes"),
        "{said}"
    );
    let end = std::time::Instant::now() + PATIENCE;
    while gauge(first, "database_takes_no_writes") != Some(1.0) {
        assert!(
            std::time::Instant::now() < end,
            "the page of figures is calm"
        );
    }
    let (code, said) = verb(dev, &["doctor", "--json"]);
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("takes no writes"), "{said}");
}

/// `status` says so, for machines and for people. Both are asked until they agree: between two calls a takeover may still
/// be settling, for example of an owner that has not told its good health yet.
fn all_is_well(dev: &Dev, what: &str) {
    let end = std::time::Instant::now() + PATIENCE;
    loop {
        status_until(dev, what, |s| s["problems"] == json!([]));
        let (code, said) = verb(dev, &["status"]);
        assert_eq!(
            code == 0,
            said.contains("nothing is wrong"),
            "{code} {said}"
        );
        if code == 0 {
            return;
        }
        assert!(std::time::Instant::now() < end, "not {what}: {code} {said}");
    }
}

#[test]
fn f03_a_full_disk_is_said() {
    let _turn = TURN
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let state = tempfile::tempdir().expect("a directory");
    let place = state.path().join("dev");
    std::fs::create_dir(&place).expect("made");
    let disk = match Small::mount(&place, "96m") {
        Ok(disk) => disk,
        Err(why) => return skipped("status on a full disk", &why),
    };
    let first = port();
    let mut dev = Dev::within(state, first, &[]);
    dev.until("ready: primary");
    all_is_well(&dev, "healthy");
    let filler = disk.fill();
    nothing_works(&dev, first);
    std::fs::remove_file(filler).expect("removed");
    all_is_well(&dev, "healthy again");
    drop(dev);
}

/// The URL of the cluster's server for somebody who may do more than the cluster.
fn breaker(dev: &Dev) -> String {
    let text = std::fs::read_to_string(dev.directory().join("wa-agent.toml")).expect("read");
    let url = text.split('"').find(|part| part.starts_with("mysql://"));
    url.expect("a server").replace("wa@", "breaker@")
}

#[test]
fn f03_a_backup_lock_is_said() {
    if let Some(why) = mariadb::missing() {
        return skipped("status under a backup lock", &why);
    }
    let _turn = TURN
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let first = port();
    let mut dev = Dev::with(first, &["--database", "mariadb"]);
    dev.until("ready: primary");
    all_is_well(&dev, "healthy");
    let url = breaker(&dev);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let lock = runtime.block_on(async {
        use sqlx::Connection as _;
        let mut lock = sqlx::MySqlConnection::connect(&url)
            .await
            .expect("connected");
        let statement = sqlx::raw_sql("FLUSH TABLES WITH READ LOCK");
        statement.execute(&mut lock).await.expect("locked");
        lock
    });
    nothing_works(&dev, first);
    runtime.block_on(async {
        use sqlx::Connection as _;
        lock.close().await.expect("closed");
    });
    all_is_well(&dev, "healthy again");
}

/// Goal: an older state of the database that somebody brings back under a living cluster is told, though no epoch and no term
/// shows it: by `status`, its exit code, and the history. Method: the table of nodes as it was a minute ago.
#[test]
fn a_dump_that_is_restored_under_a_living_cluster_is_said() {
    if let Some(why) = mariadb::missing() {
        return skipped("a restored dump", &why);
    }
    let _turn = TURN
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut dev = Dev::with(port(), &["--database", "mariadb"]);
    dev.until("ready: primary");
    all_is_well(&dev, "healthy");
    let url = breaker(&dev);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        use sqlx::Connection as _;
        let mut server = sqlx::MySqlConnection::connect(&url)
            .await
            .expect("connected");
        let statement = sqlx::raw_sql("UPDATE node SET beat_ms=beat_ms-60000");
        statement.execute(&mut server).await.expect("restored");
    });
    // Certain when two nodes have beaten again: once a minute they do.
    let end = std::time::Instant::now() + PATIENCE * 3;
    while !kinds(&status(&dev)).contains(&"rewound") {
        assert!(
            std::time::Instant::now() < end,
            "not told: {}",
            status(&dev)
        );
    }
    let (code, said) = verb(&dev, &["status"]);
    assert!(
        code == 3 && said.contains("put back to an older state"),
        "{code} {said}"
    );
    let end = std::time::Instant::now() + PATIENCE;
    loop {
        let (code, said) = verb(&dev, &["history"]);
        assert_eq!(code, 0, "{said}");
        if said.contains("RewoundRow") {
            return;
        }
        assert!(
            std::time::Instant::now() < end,
            "not in the history: {said}"
        );
    }
}
