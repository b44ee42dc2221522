//! Goal: a slow, locked, read-only or restarted server costs a bounded time and a true answer. Method: a private MariaDB
//! that is stopped, locked and restarted under a lease connection.

use std::time::Duration;

use nix::sys::signal::Signal;
use sqlx::Connection as _;
use wa_agent::db::{Db, DbError};
use wa_agent::sys::clock;
use wa_core::id::{Nonce, Ownership};
use wa_core::master::Outcome;
use wa_core::shard_map::Phase;

use crate::mariadb::Server;
use crate::store::{Primary, Store, create_database, message, settings};

const TTL: Duration = Duration::from_millis(1000);
/// ttl/4 (rule 5.8).
const DEADLINE: Duration = Duration::from_millis(250);
/// What scheduling on a loaded machine may add.
const SLACK: Duration = Duration::from_millis(400);

async fn private(test: &str) -> Option<(Server, Store, Primary, Ownership)> {
    let server = match tokio::task::spawn_blocking(Server::start).await.unwrap() {
        Ok(server) => server,
        Err(why) => {
            crate::skipped(test, &why);
            return None;
        }
    };
    let url = create_database(&server.url("")).await;
    let store = Store::open(settings(vec![url])).await;
    let mut master = store.cluster(1).await;
    let own = master.promote(0, "c1:coreapp-1", 1).await;
    Some((server, store, master, own))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_server_is_unknown_within_a_quarter_ttl() {
    let Some((server, store, _master, own)) = private("stopped_server").await else {
        return;
    };
    let mut c = store.lease_within("c1:coreapp-1", DEADLINE);
    assert_eq!(c.renew_shard(&own, Nonce(1), TTL).await, Outcome::Held);
    let before = c.snapshot().await.unwrap().identity;
    server.signal(Signal::SIGSTOP);
    for nonce in 2..5 {
        let asked = clock::now();
        let outcome = c.renew_shard(&own, Nonce(nonce), TTL).await;
        let took = clock::now().since(asked);
        assert_eq!(outcome, Outcome::Unknown);
        assert!(took < DEADLINE + SLACK, "{took:?}");
    }
    server.signal(Signal::SIGCONT);
    let mut renewed = Outcome::Unknown;
    for nonce in 10..60 {
        renewed = c.renew_shard(&own, Nonce(nonce), TTL).await;
        if renewed != Outcome::Unknown {
            break;
        }
    }
    assert_eq!(renewed, Outcome::Held);
    assert_ne!(
        c.snapshot().await.unwrap().identity,
        before,
        "a new connection is a new identity"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pool_outlives_a_stopped_server() {
    let Some((server, store, _master, own)) = private("pool_outlives").await else {
        return;
    };
    let mut impatient = store.settings.clone();
    impatient.connect_timeout = Duration::from_secs(2);
    let two = Store::open(impatient).await;
    two.db.shard_map().await.unwrap();
    server.signal(Signal::SIGSTOP);
    let asked = clock::now();
    // More than the pool has connections: none of them may be lost for good.
    let reads = futures_util::future::join_all((0..12).map(|_| two.db.shard_map())).await;
    assert!(reads.iter().all(Result::is_err));
    assert!(clock::now().since(asked) < Duration::from_secs(9));
    server.signal(Signal::SIGCONT);
    assert!(
        crate::store::eventually(|| async {
            two.db
                .accept(&own, &[message("m", "x")], true)
                .await
                .is_ok()
        })
        .await
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frozen_client_with_a_lock_delays_a_handover_by_a_bounded_time() {
    let Some((_server, store, mut master, own)) = private("frozen_client").await else {
        return;
    };
    // A session as ours are, which then falls silent in the middle of a transaction.
    let mut frozen = sqlx::MySqlConnection::connect(&store.settings.urls[0])
        .await
        .unwrap();
    sqlx::raw_sql(
        "SET SESSION idle_transaction_timeout=2; START TRANSACTION; SELECT * FROM shard_guard FOR UPDATE; \
         SELECT * FROM lease FOR UPDATE",
    )
    .execute(&mut frozen)
    .await
    .unwrap();
    let mut c = store.lease_within("c1:coreapp-1", DEADLINE);
    let _ = c.snapshot().await;
    let asked = clock::now();
    assert_eq!(c.renew_shard(&own, Nonce(1), TTL).await, Outcome::Unknown);
    assert!(clock::now().since(asked) < DEADLINE + SLACK);
    let mut done = Outcome::Unknown;
    while done == Outcome::Unknown && clock::now().since(asked) < Duration::from_secs(8) {
        done = master
            .c
            .renew_master(master.term, master.grant, Nonce(9), TTL)
            .await;
    }
    assert_eq!(done, Outcome::Held);
    let next = master.promote(0, "c2:coreapp-1", 2).await;
    assert!(clock::now().since(asked) < Duration::from_secs(5));
    assert_eq!(c.renew_shard(&own, Nonce(2), TTL).await, Outcome::Lost);
    assert!(
        store
            .db
            .accept(&next, &[message("m", "x")], true)
            .await
            .is_ok()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_packet_leaves_no_lock_behind() {
    let Some((_server, store, mut master, own)) = private("failed_packet").await else {
        return;
    };
    let Db::MySql(hosts) = &store.db else {
        unreachable!("a server")
    };
    let pool = &hosts.pool();
    // The message table is locked: the packet gets the guard's lock, waits for the table, and fails.
    let mut other = sqlx::MySqlConnection::connect(&store.settings.urls[0])
        .await
        .unwrap();
    sqlx::raw_sql("LOCK TABLES message WRITE")
        .execute(&mut other)
        .await
        .unwrap();
    let failed = store.db.accept(&own, &[message("m", "x")], true).await;
    assert!(failed.is_err(), "{failed:?}");
    // Nothing of it holds the guard: the handover passes at once, while the table is still locked.
    let asked = clock::now();
    let next = master.promote(0, "c2:coreapp-1", 2).await;
    assert!(clock::now().since(asked) < Duration::from_millis(900));
    sqlx::raw_sql("UNLOCK TABLES")
        .execute(&mut other)
        .await
        .unwrap();
    assert!(
        store
            .db
            .accept(&next, &[message("m", "x")], true)
            .await
            .is_ok()
    );
    let open: (i64,) = sqlx::query_as("SELECT COUNT(*) FROM information_schema.innodb_trx")
        .fetch_one(pool)
        .await
        .unwrap();
    assert_eq!(open.0, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn read_only_server_is_refused() {
    let Some((_server, store, mut master, own)) = private("read_only_server").await else {
        return;
    };
    let mut root = sqlx::MySqlConnection::connect(&store.settings.urls[0])
        .await
        .unwrap();
    sqlx::raw_sql("SET GLOBAL read_only=1")
        .execute(&mut root)
        .await
        .unwrap();
    let error = master.c.snapshot().await.unwrap_err();
    assert!(matches!(error, DbError::ReadOnly { .. }), "{error}");
    let error = Db::connect(&store.settings, 1)
        .await
        .err()
        .map(|e| e.brief())
        .unwrap_or_default();
    assert!(error.contains("read-only"), "{error}");
    assert_eq!(
        store
            .lease("c1:coreapp-1")
            .renew_shard(&own, Nonce(1), TTL)
            .await,
        Outcome::Unknown
    );
    sqlx::raw_sql("SET GLOBAL read_only=0")
        .execute(&mut root)
        .await
        .unwrap();
    assert!(master.c.snapshot().await.is_ok());
}

/// Goal: what was decided on one connection is not done on another, behind which another server may be (rule 5.5).
/// Method: every connection is killed between the naming of an owner and its activation.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_is_taken_only_where_its_rows_were_read() {
    let Some((server, _store, mut master, _own)) = private("steps_where_read").await else {
        return;
    };
    let next = master.hand_over(0, "c2:coreapp-1", 2).await;
    let mut root = sqlx::MySqlConnection::connect(&server.url("mysql"))
        .await
        .unwrap();
    let others =
        "SELECT id FROM information_schema.processlist WHERE id<>CONNECTION_ID() AND user='root'";
    let others: Vec<(i64,)> = sqlx::query_as(others).fetch_all(&mut root).await.unwrap();
    for (id,) in others {
        let kill = sqlx::AssertSqlSafe(format!("KILL {id}"));
        let _ = sqlx::raw_sql(kill).execute(&mut root).await;
    }
    let (term, grant) = (master.term, master.grant);
    let mut outcomes = Vec::new();
    for _ in 0..3 {
        let activate = master
            .c
            .activate(term, grant, next.shard, next.epoch, next.grant);
        outcomes.push(activate.await);
    }
    assert_eq!(
        outcomes,
        [Outcome::Unknown, Outcome::Lost, Outcome::Lost],
        "the first learns of the kill, the others are not even sent"
    );
    // The spare connection was killed as well: the first reading may find that out.
    let _ = master.c.snapshot().await;
    assert_eq!(master.phase(0).await, Phase::Handover);
    let activate = master
        .c
        .activate(term, grant, next.shard, next.epoch, next.grant);
    assert_eq!(activate.await, Outcome::Held, "read again, decided again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarted_server_is_found_again() {
    let Some((mut server, store, mut master, own)) = private("restarted_server").await else {
        return;
    };
    store
        .db
        .accept(&own, &[message("before", "x")], true)
        .await
        .unwrap();
    let before = master.c.snapshot().await.unwrap().identity;
    server.kill();
    assert!(
        store
            .db
            .accept(&own, &[message("down", "x")], true)
            .await
            .is_err()
    );
    assert!(master.c.snapshot().await.is_err());
    tokio::task::block_in_place(|| server.run()).unwrap();
    assert!(
        crate::store::eventually(|| async {
            store
                .db
                .accept(&own, &[message("after", "x")], true)
                .await
                .is_ok()
        })
        .await
    );
    let mut seen = master.c.snapshot().await;
    for _ in 0..3 {
        if seen.is_err() {
            seen = master.c.snapshot().await;
        }
    }
    assert_ne!(seen.unwrap().identity, before);
    let ids: Vec<String> = store
        .db
        .message_states()
        .await
        .unwrap()
        .into_iter()
        .map(|(id, _)| id)
        .collect();
    assert!(ids.contains(&"before".into()) && ids.contains(&"after".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_are_tried_in_order() {
    let Some((_server, store, _master, own)) = private("hosts_in_order").await else {
        return;
    };
    let dead = String::from("mysql://root@127.0.0.1:1/wa");
    let both = settings(vec![dead, store.settings.urls[0].clone()]);
    let two = Store::open(both).await;
    assert_eq!(
        two.lease("c1:coreapp-1")
            .renew_shard(&own, Nonce(1), TTL)
            .await,
        Outcome::Held
    );
}

/// Not a bar, a figure to read: what one coreapp's commits reach on this machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn intake_rate() {
    let Some((_server, store, _master, own)) = private("intake_rate").await else {
        return;
    };
    let body = "t".repeat(200);
    let started = clock::now();
    let mut claimed = Vec::new();
    let mut finishing = Duration::ZERO;
    for group in 0..80 {
        let batch: Vec<_> = (0..64)
            .map(|n| message(&format!("{group}-{n}"), &body))
            .collect();
        store.db.accept(&own, &batch, true).await.unwrap();
        claimed.extend(batch.into_iter().map(|m| wa_agent::db::message::Finish {
            id: m.id,
            to: wa_agent::db::message::Finished::Sent {
                wamid: "wamid.0123456789".into(),
            },
            claims: 0,
        }));
        if claimed.len() >= 256 {
            let asked = clock::now();
            assert!(store.db.finish(&own, &claimed).await.unwrap());
            finishing += clock::now().since(asked);
            claimed.clear();
        }
    }
    let took = clock::now().since(started);
    println!(
        "accepted and finished 5120 messages in {took:?} (finishing {finishing:?}): {:.0}/s",
        5120.0 / took.as_secs_f64()
    );
    assert_eq!(store.db.message_states().await.unwrap().len(), 5120);
}
