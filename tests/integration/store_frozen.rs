//! Goal: a client that stands still in the middle of a transaction holds up nobody for longer than a step or two, whatever
//! the server's own limits are. Method: it locks all lease and guard rows with those limits switched off; its successors must
//! end it. On servers only: a frozen writer of the embedded store keeps the file's lock, and says so.

use std::time::Duration;

use wa_agent::db::Db;
use wa_agent::db::connection::Holder;
use wa_agent::sys::clock;
use wa_core::id::{Grant, Nonce, Ownership, ShardId, Term};
use wa_core::master::{Handover, Outcome};
use wa_core::shard_map::{Previous, ShardRow};

use crate::store::{Store, on_servers, ownership};

const TTL: Duration = Duration::from_secs(3);
const DEADLINE: Duration = Duration::from_millis(700);

/// One session of a node, which then falls silent with every row locked. Its server would wait for it for an hour.
async fn freeze(store: &Store, holder: Holder) -> sqlx::pool::PoolConnection<sqlx::MySql> {
    let db = Db::connect_as(&store.settings, 1, holder)
        .await
        .expect("connected");
    let Db::MySql(hosts) = &db else {
        unreachable!("a server")
    };
    let mut frozen = hosts.pool().acquire().await.expect("a connection");
    // Unknown to MySQL, which has no such limit.
    let _ = sqlx::raw_sql("SET SESSION idle_transaction_timeout=0")
        .execute(&mut *frozen)
        .await;
    sqlx::raw_sql(
        "START TRANSACTION; SELECT * FROM shard_guard FOR UPDATE; SELECT * FROM lease FOR UPDATE",
    )
    .execute(&mut *frozen)
    .await
    .expect("locked");
    frozen
}

async fn is_ended(frozen: &mut sqlx::pool::PoolConnection<sqlx::MySql>) -> bool {
    sqlx::raw_sql("SELECT 1")
        .execute(&mut **frozen)
        .await
        .is_err()
}

/// Step 2 of a promotion of c2 in the place of an owner.
fn to_c2(own: &Ownership, row: &ShardRow) -> Handover {
    let to = ownership(0, "c2:coreapp-1", 2);
    Handover {
        shard: ShardId(0),
        expect: (row.epoch, row.grant, row.nonce, row.phase),
        to: to.owner.clone(),
        to_incarnation: to.incarnation,
        epoch: to.epoch,
        grant: to.grant,
        ttl: TTL,
        nonce: Nonce(502),
        previous: vec![Previous {
            shard: own.shard,
            owner: own.owner.clone(),
            incarnation: own.incarnation,
            epoch: own.epoch,
            grant: own.grant,
            ttl: TTL,
            nonce: row.nonce,
        }],
        generation: row.generation,
    }
}

/// Goal: a master whose step 2 times out opens a new connection, which means SAFE; that ends, and is not begun again and
/// again: the predecessor's connection is ended as soon as it has been idle for a second, however short the deadline.
/// Method: what the driver does, SAFE obeyed, with the shortest deadline of any profile and a client that has only just
/// fallen silent, so that the first step comes too early to end it. Counted: how often SAFE began.
async fn safe_is_not_begun_again_and_again(store: &Store) {
    const SAFE: Duration = Duration::from_millis(1100);
    let mut master = store.cluster(1).await;
    let own = master.promote(0, "c1:coreapp-1", 1).await;
    let holder = Holder {
        node: own.owner.clone(),
        incarnation: own.incarnation,
    };
    let mut c = store.lease_within("m1:master-1", Duration::from_millis(250));
    let row = c.snapshot().await.expect("a snapshot").shards.remove(0);
    let handover = to_c2(&own, &row);
    let mut frozen = freeze(store, holder).await;
    let (mut identity, mut safe_until) = (0, clock::now());
    let (mut safes, mut tries) = (0, 0);
    let done = loop {
        assert!(safes < 10, "SAFE again and again, after {tries} tries");
        let Ok(read) = c.snapshot().await else {
            continue;
        };
        if read.identity != identity && identity != 0 {
            safes += 1;
            safe_until = clock::now() + SAFE;
        }
        identity = read.identity;
        if read.shards[0].owner.as_ref() == Some(&handover.to) {
            // A try whose answer nobody waited for was carried out once the lock was free.
            break "found done";
        }
        if clock::now() < safe_until {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        }
        tries += 1;
        if c.handover(master.term, master.grant, &handover).await == Outcome::Held {
            break "held";
        }
    };
    assert!(safes <= 2, "{safes} times SAFE, {tries} tries, {done}");
    assert!(is_ended(&mut frozen).await);
}

async fn frozen_owner_is_ended(store: &Store) {
    let mut master = store.cluster(1).await;
    let own = master.promote(0, "c1:coreapp-1", 1).await;
    let holder = Holder {
        node: own.owner.clone(),
        incarnation: own.incarnation,
    };
    let mut c = store.lease_within("m1:master-1", DEADLINE);
    let row = c.snapshot().await.expect("a snapshot").shards.remove(0);
    let mut frozen = freeze(store, holder).await;
    let handover = to_c2(&own, &row);
    let mut outcomes = Vec::new();
    for _ in 0..20 {
        let _ = c.snapshot().await;
        outcomes.push(c.handover(master.term, master.grant, &handover).await);
        if outcomes.last() == Some(&Outcome::Held) {
            break;
        }
    }
    assert_eq!(
        outcomes.first(),
        Some(&Outcome::Unknown),
        "nothing was in the way"
    );
    assert_eq!(outcomes.last(), Some(&Outcome::Held), "{outcomes:?}");
    assert!(is_ended(&mut frozen).await);
}

async fn frozen_master_is_ended(store: &Store) {
    let master = store.cluster(1).await;
    let mut c = store.lease_within("m2:master-1", DEADLINE);
    let row = c.snapshot().await.expect("a snapshot").master;
    let holder = Holder {
        node: row.holder.clone().expect("a holder"),
        incarnation: row.incarnation,
    };
    let mut frozen = freeze(store, holder).await;
    let expect = (master.term, master.grant, row.nonce);
    let new = (Term(2), Grant(22), Nonce(2));
    let mut outcomes = Vec::new();
    for _ in 0..20 {
        let _ = c.snapshot().await;
        outcomes.push(c.take_master(expect, new, TTL).await);
        if outcomes.last() == Some(&Outcome::Held) {
            break;
        }
    }
    assert_eq!(
        outcomes.first(),
        Some(&Outcome::Unknown),
        "nothing was in the way"
    );
    assert_eq!(outcomes.last(), Some(&Outcome::Held), "{outcomes:?}");
    assert!(is_ended(&mut frozen).await);
}

async fn sessions_wait_a_second_for_locks(store: &Store) {
    let Db::MySql(hosts) = &store.db else {
        unreachable!("a server")
    };
    let mut c = hosts.pool().acquire().await.expect("a connection");
    let sql = "SELECT CAST(@@session.lock_wait_timeout AS SIGNED), CAST(@@session.innodb_lock_wait_timeout AS SIGNED)";
    let waits: (i64, i64) = sqlx::query_as(sql)
        .fetch_one(&mut *c)
        .await
        .expect("two numbers");
    assert_eq!(waits, (1, 1));
}

on_servers![
    safe_is_not_begun_again_and_again,
    frozen_owner_is_ended,
    frozen_master_is_ended,
    sessions_wait_a_second_for_locks
];
