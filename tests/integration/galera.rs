//! Goal: on a Galera cluster of three, nothing is lost, held twice or accepted twice, whichever node is asked and whatever
//! happens to the nodes. Method: writers on different nodes at once, a node that lags, a node that is cut off, a cluster
//! without a majority; then the drills. The store suite runs on the same cluster (`store.rs`).

use std::net::{Ipv4Addr, TcpListener};
use std::sync::OnceLock;
use std::time::Duration;

use sqlx::Connection as _;
use wa_agent::db::DbError;
use wa_agent::db::message::{AcceptError, Accepted};
use wa_agent::dev::galera::{Galera, NODES, missing};
use wa_agent::sys::clock;
use wa_core::id::{Grant, Nonce, Term};
use wa_core::master::Outcome;

use crate::drill::drill;
use crate::store::{Store, eventually, message, settings};

const TTL: Duration = Duration::from_secs(3);

/// The store suite reads it, whoever breaks nodes or counts what clients see writes it: they run alone.
pub static TURN: tokio::sync::RwLock<()> = tokio::sync::RwLock::const_new(());

/// Servers die with the thread that started them: these threads live as long as the process.
fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime")
    })
}

fn start() -> Result<Galera, String> {
    if let Some(why) = missing() {
        return Err(why);
    }
    let start = std::process::id() % 300;
    let free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    let port = (0..300)
        .map(|n| u16::try_from(20_000 + (start + n) % 300 * 20).expect("below 32,768"))
        .find(|port| (0..12).all(|n| free(port + n)))
        .ok_or("no twelve free ports in a row")?;
    let directory = std::env::temp_dir();
    // What is installed must work: that it does not is no reason to skip.
    let started = runtime().block_on(Galera::start(&directory, port));
    Ok(started.unwrap_or_else(|error| panic!("{error:#}")))
}

/// The cluster that all tests of this process share, or why there is none.
pub fn shared() -> &'static Result<Galera, String> {
    static CLUSTER: OnceLock<Result<Galera, String>> = OnceLock::new();
    CLUSTER.get_or_init(start)
}

/// An empty database, and a store on each node.
async fn stores(galera: &Galera) -> Vec<Store> {
    let url = crate::store::create_database(&galera.url(0, "")).await;
    let name = url.rsplit_once('/').expect("a database").1.to_owned();
    let mut stores = Vec::new();
    for node in 0..NODES {
        stores.push(Store::open(settings(vec![galera.url(node, &name)])).await);
    }
    stores
}

async fn count(galera: &Galera, node: usize, status: &str) -> i64 {
    use sqlx::Row as _;
    let mut c = sqlx::MySqlConnection::connect(&galera.url(node, ""))
        .await
        .expect("the node answers");
    let sql = format!("SHOW GLOBAL STATUS LIKE '{status}'");
    let row = sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
        .fetch_one(&mut c)
        .await
        .expect("a status");
    let value: String = row.try_get(1).expect("a value");
    value.parse().expect("a number")
}

/// Two masters on two nodes grab the same free lease at the same time, again and again.
async fn lease_goes_to_one(galera: &Galera) {
    let stores = stores(galera).await;
    stores[0].db.ensure_lease_table().await.expect("tables");
    let (mut a, mut b) = (
        stores[0].lease("m1:master-1"),
        stores[1].lease("m2:master-1"),
    );
    let (mut expect, mut held, mut unknown) = ((Term(0), Grant(0), Nonce(0)), 0, 0);
    for round in 1..=200u64 {
        let of = |who: u64| (Term(round), Grant(round * 2 + who), Nonce(round * 10 + who));
        let (one, two) = tokio::join!(
            a.take_master(expect, of(0), TTL),
            b.take_master(expect, of(1), TTL)
        );
        let both = [one, two];
        assert_ne!(
            both,
            [Outcome::Held, Outcome::Held],
            "round {round}: two masters"
        );
        held += both.iter().filter(|o| **o == Outcome::Held).count();
        unknown += both.iter().filter(|o| **o == Outcome::Unknown).count();
        let row = a.snapshot().await.expect("a snapshot").master;
        expect = (row.term, row.grant, row.nonce);
        for (who, outcome) in both.iter().enumerate() {
            let is = row.grant == of(who as u64).1;
            assert!(
                !is || *outcome != Outcome::Lost,
                "round {round}: {both:?}, {row:?}"
            );
            assert!(
                is || *outcome != Outcome::Held,
                "round {round}: {both:?}, {row:?}"
            );
        }
    }
    println!("galera: 200 races for the lease: {held} held, {unknown} unknown, the rest lost");
    assert!(held + unknown >= 200);
}

/// Owners' pools on all nodes accept the same messages at once: each is new for one of them.
async fn messages_are_accepted_once(galera: &Galera) {
    let stores = stores(galera).await;
    let mut master = stores[0].cluster(1).await;
    let own = master.promote(0, "c1:coreapp-1", 1).await;
    let mut fresh = 0;
    for round in 0..60 {
        let group: Vec<_> = (0..8)
            .map(|n| message(&format!("{round}-{n}"), "x"))
            .collect();
        let asked = stores.iter().map(|s| s.db.accept(&own, &group, true));
        for answer in futures_util::future::join_all(asked).await {
            match answer {
                Ok(list) => fresh += list.iter().filter(|a| **a == Accepted::New).count(),
                // Nothing was stored, and it says so.
                Err(AcceptError::Db(DbError::Conflict)) => {}
                Err(other) => panic!("round {round}: {other}"),
            }
        }
    }
    assert_eq!(fresh, 480, "each id is new once");
    let states = stores[2].db.message_states().await.expect("an answer");
    assert_eq!(states.len(), 480);
    let mut failures = 0;
    for node in 0..NODES {
        failures += count(galera, node, "wsrep_local_cert_failures").await;
        failures += count(galera, node, "wsrep_local_bf_aborts").await;
    }
    println!("galera: {failures} commits failed certification or were aborted");
    assert!(failures > 0, "nothing collided: this shows nothing");
}

/// A node that has not applied a handover yet answers late, never wrong.
async fn lagging_node_tells_no_lies(galera: &Galera) {
    let stores = stores(galera).await;
    let mut master = stores[0].cluster(1).await;
    let own = master.promote(0, "c1:coreapp-1", 1).await;
    let mut old = stores[2].lease_within("c1:coreapp-1", Duration::from_millis(500));
    assert_eq!(old.renew_shard(&own, Nonce(1), TTL).await, Outcome::Held);
    let mut applier = sqlx::MySqlConnection::connect(&galera.url(2, ""))
        .await
        .expect("the node answers");
    // Nothing from the others is applied here until this is undone.
    sqlx::raw_sql("FLUSH TABLES WITH READ LOCK")
        .execute(&mut applier)
        .await
        .expect("a lock");
    let next = master.promote(0, "c2:coreapp-1", 2).await;
    let behind = old.renew_shard(&own, Nonce(2), TTL).await;
    assert_ne!(
        behind,
        Outcome::Held,
        "a stale owner renewed on a node that lags"
    );
    let late = [message("m", "x")];
    let accepted = stores[2].db.accept(&own, &late, true);
    let accepted = tokio::time::timeout(Duration::from_secs(1), accepted).await;
    assert!(!matches!(accepted, Ok(Ok(_))), "a stale owner accepted");
    sqlx::raw_sql("UNLOCK TABLES")
        .execute(&mut applier)
        .await
        .expect("unlocked");
    assert!(
        eventually(|| async {
            matches!(
                stores[2].db.accept(&own, &[message("n", "x")], true).await,
                Err(AcceptError::Stale)
            )
        })
        .await
    );
    let mine = stores[2].db.accept(&next, &[message("o", "x")], true).await;
    assert_eq!(mine.expect("an answer"), [Accepted::New]);
    let ids: Vec<String> = stores[1]
        .db
        .message_states()
        .await
        .expect("an answer")
        .into_iter()
        .map(|(id, _)| id)
        .collect();
    assert_eq!(ids, ["o"], "what a stale owner wrote is nowhere");
}

/// Whoever is on a node that loses the majority is on another one soon, with the same history.
async fn minority_is_left(galera: &Galera) {
    let url = crate::store::create_database(&galera.url(0, "")).await;
    let name = url.rsplit_once('/').expect("a database").1.to_owned();
    let all = (0..NODES).map(|n| galera.url(n, &name)).collect();
    let store = Store::open(settings(all)).await;
    let mut master = store.cluster(1).await;
    let own = master.promote(0, "c1:coreapp-1", 1).await;
    let before = master.c.snapshot().await.expect("a snapshot").identity;
    let history = master.c.lineage().to_owned();
    let node = galera.busiest_for("root").await;
    let struck = clock::now();
    galera.isolate(node, true).await.expect("isolated");
    let accepted = eventually(|| async {
        let answer = store.db.accept(&own, &[message("m", "x")], true).await;
        matches!(answer, Ok(list) if !list.is_empty())
    });
    assert!(
        accepted.await,
        "the pool stays on a node without a majority"
    );
    let pool = clock::now().since(struck);
    assert!(
        eventually_held(&mut master).await,
        "the lease connection stays on a node without a majority"
    );
    println!(
        "galera: node cut off: messages accepted again after {} ms, lease renewed after {} ms",
        pool.as_millis(),
        clock::now().since(struck).as_millis()
    );
    let after = master.c.snapshot().await.expect("a snapshot");
    assert_ne!(before, after.identity, "another node is another identity");
    assert_eq!(history, master.c.lineage(), "and the same history");
    galera.isolate(node, false).await.expect("whole again");
    for node in 0..NODES {
        galera.in_step(node, NODES).await.expect("in step");
    }
    let states = store.db.message_states().await.expect("an answer");
    assert_eq!(states.len(), 1);
}

async fn eventually_held(master: &mut crate::store::Primary) -> bool {
    let mut outcomes = Vec::new();
    for nonce in 1000..1200 {
        let held = master
            .c
            .renew_master(master.term, master.grant, Nonce(nonce), TTL);
        let outcome = held.await;
        if outcome == Outcome::Held {
            return true;
        }
        outcomes.push(outcome);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!(
        "never held; the last outcomes: {:?}",
        &outcomes[outcomes.len() - 10..]
    );
    false
}

/// The one that is left of three holds nothing and accepts nothing until somebody says that it is the cluster.
async fn without_a_majority_nothing_is_held(galera: &Galera) {
    let url = crate::store::create_database(&galera.url(0, "")).await;
    let name = url.rsplit_once('/').expect("a database").1.to_owned();
    let all = (0..NODES).map(|n| galera.url(n, &name)).collect();
    let mut settings = settings(all);
    settings.connect_timeout = Duration::from_secs(1);
    let store = Store::open(settings).await;
    let mut master = store.cluster(1).await;
    let own = master.promote(0, "c1:coreapp-1", 1).await;
    let history = master.c.lineage().to_owned();
    tokio::join!(galera.kill(0), galera.kill(1));
    galera.until(2, "non-Primary").await.expect("no majority");
    for nonce in 2000..2005 {
        let outcome = master
            .c
            .renew_master(master.term, master.grant, Nonce(nonce), TTL);
        assert_eq!(outcome.await, Outcome::Unknown);
        assert!(
            store
                .db
                .accept(&own, &[message("m", "x")], true)
                .await
                .is_err()
        );
        assert!(
            master.c.snapshot().await.is_err(),
            "rows of a node without a majority decide"
        );
    }
    galera.bootstrap(2).await.expect("bootstrapped");
    galera.in_step(2, 1).await.expect("a cluster of one");
    assert!(eventually_held(&mut master).await);
    master.c.snapshot().await.expect("a snapshot");
    assert_eq!(history, master.c.lineage());
    assert!(
        eventually(|| async {
            store
                .db
                .accept(&own, &[message("n", "x")], true)
                .await
                .is_ok()
        })
        .await
    );
    for node in [0, 1] {
        galera.rejoin(node).await.expect("joins again");
        galera.in_step(node, 2 + node).await.expect("in step");
    }
}

/// All of it on one cluster, one after the other.
#[test]
fn faults() {
    let _alone = runtime().block_on(TURN.write());
    let galera = match shared() {
        Ok(galera) => galera,
        Err(why) => return crate::skipped("faults of a Galera cluster", why),
    };
    runtime().block_on(async {
        lease_goes_to_one(galera).await;
        messages_are_accepted_once(galera).await;
        lagging_node_tells_no_lies(galera).await;
        minority_is_left(galera).await;
        without_a_majority_nothing_is_held(galera).await;
    });
}

/// Goal: the whole product on Galera: a node dies, a node is cut off, two of three die. Method: the drills; nothing is
/// lost, sent twice, untold, or owned twice. Refusals count only where the store itself is up.
#[test]
fn drills() {
    let _alone = runtime().block_on(TURN.write());
    if let Some(why) = missing() {
        return crate::skipped("drills on a Galera cluster", &why);
    }
    let names = [
        "coreapp-killed",
        "galera-node-killed",
        "galera-split",
        "galera-quorum-lost",
    ];
    let (value, _) = drill(&names, &["--database", "galera", "--ambiguity-ms", "5000"]);
    let drills = value["drills"].as_array().expect("a list of drills");
    assert_eq!(drills.len(), names.len(), "{value}");
    for drill in drills {
        println!("{drill}");
        for count in ["lost", "untold", "sent_twice", "double_primary"] {
            assert_eq!(drill[count], 0, "{count} of {drill}");
        }
        assert!(drill["accepted"].as_u64() > Some(100), "{drill}");
    }
}
