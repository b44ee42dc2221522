//! Goal: a lease row changes only for the one who holds what it says. Method: every conditional write in and out of turn.

use std::time::Duration;

use wa_core::id::{Grant, Nonce, ShardId, Term};
use wa_core::master::Outcome;
use wa_core::shard_map::{Phase, Previous};

use wa_agent::db::Db;

use crate::store::{Store, eventually, message, on_every_store, ownership};

const TTL: Duration = Duration::from_secs(3);

on_every_store![
    master_lease_goes_to_one,
    repeated_take_is_adopted,
    tenure_is_renewed_only_by_its_owner,
    deposed_master_changes_nothing,
    half_done_handover_is_found,
    late_steps_change_nothing,
    released_shard_is_closed_to_its_owner,
    fewer_shards_free_the_rest,
    identity_is_steady_on_one_connection,
    a_dump_that_is_put_back_makes_the_table_anew,
];

async fn master_lease_goes_to_one(store: &Store) {
    store.db.ensure_lease_table().await.unwrap();
    let free = (Term(0), Grant(0), Nonce(0));
    let (mut a, mut b) = (store.lease("a:master-1"), store.lease("b:master-1"));
    let first = a
        .take_master(free, (Term(1), Grant(5), Nonce(50)), TTL)
        .await;
    let second = b
        .take_master(free, (Term(1), Grant(6), Nonce(60)), TTL)
        .await;
    assert_eq!((first, second), (Outcome::Held, Outcome::Lost));
    assert_eq!(
        b.renew_master(Term(1), Grant(6), Nonce(61), TTL).await,
        Outcome::Lost
    );
    assert_eq!(
        a.renew_master(Term(1), Grant(5), Nonce(51), TTL).await,
        Outcome::Held
    );
    // A challenger that last saw the nonce before the renewal is too late.
    let late = b
        .take_master(
            (Term(1), Grant(5), Nonce(50)),
            (Term(2), Grant(7), Nonce(70)),
            TTL,
        )
        .await;
    assert_eq!(late, Outcome::Lost);
    assert_eq!(a.give_back_master(Term(1), Grant(5)).await, Outcome::Held);
    assert_eq!(
        a.renew_master(Term(1), Grant(5), Nonce(52), TTL).await,
        Outcome::Lost
    );
    let taken = b
        .take_master(
            (Term(1), Grant(5), Nonce(51)),
            (Term(2), Grant(7), Nonce(70)),
            TTL,
        )
        .await;
    assert_eq!(taken, Outcome::Held);
    let row = b.snapshot().await.unwrap().master;
    assert_eq!(
        (row.term, row.grant, row.nonce),
        (Term(2), Grant(7), Nonce(70))
    );
    assert_eq!(row.holder.unwrap().as_str(), "b:master-1");
}

/// The answer to the first try was lost: the second finds its own grant in the row.
async fn repeated_take_is_adopted(store: &Store) {
    store.db.ensure_lease_table().await.unwrap();
    let mut a = store.lease("a:master-1");
    for _ in 0..2 {
        let took = a
            .take_master(
                (Term(0), Grant(0), Nonce(0)),
                (Term(1), Grant(5), Nonce(9)),
                TTL,
            )
            .await;
        assert_eq!(took, Outcome::Held);
    }
    let mut b = store.lease("b:master-1");
    let other = b
        .take_master(
            (Term(0), Grant(0), Nonce(0)),
            (Term(1), Grant(6), Nonce(9)),
            TTL,
        )
        .await;
    assert_eq!(other, Outcome::Lost);
}

async fn tenure_is_renewed_only_by_its_owner(store: &Store) {
    let mut master = store.cluster(1).await;
    let mut owner = store.lease("c1:coreapp-1");
    let own = master.hand_over(0, "c1:coreapp-1", 1).await;
    assert_eq!(
        owner.renew_shard(&own, Nonce(1), TTL).await,
        Outcome::Lost,
        "not active yet"
    );
    let active = master
        .c
        .activate(master.term, master.grant, own.shard, own.epoch, own.grant)
        .await;
    assert_eq!(active, Outcome::Held);
    assert_eq!(owner.renew_shard(&own, Nonce(2), TTL).await, Outcome::Held);
    // The same try again: renewals are repeatable.
    assert_eq!(owner.renew_shard(&own, Nonce(2), TTL).await, Outcome::Held);
    let mut other = own.clone();
    other.incarnation.random += 1;
    assert_eq!(
        owner.renew_shard(&other, Nonce(3), TTL).await,
        Outcome::Lost,
        "another incarnation"
    );
    let mut rewound = own.clone();
    rewound.grant = Grant(77);
    assert_eq!(
        owner.renew_shard(&rewound, Nonce(3), TTL).await,
        Outcome::Lost,
        "another grant"
    );
    let next = master.promote(0, "c2:coreapp-1", 2).await;
    assert_eq!(
        owner.renew_shard(&own, Nonce(4), TTL).await,
        Outcome::Lost,
        "replaced"
    );
    assert_eq!(
        store
            .lease("c2:coreapp-1")
            .renew_shard(&next, Nonce(5), TTL)
            .await,
        Outcome::Held
    );
    assert_eq!(master.c.snapshot().await.unwrap().master.epoch_high.0, 2);
}

async fn deposed_master_changes_nothing(store: &Store) {
    let mut old = store.cluster(1).await;
    let own = old.hand_over(0, "c1:coreapp-1", 1).await;
    let row = old.c.snapshot().await.unwrap().master;
    let mut new = store.lease("m2:master-1");
    let took = new
        .take_master(
            (row.term, row.grant, row.nonce),
            (Term(2), Grant(22), Nonce(2)),
            TTL,
        )
        .await;
    assert_eq!(took, Outcome::Held);
    let before = new.snapshot().await.unwrap();
    assert_eq!(
        old.c
            .activate(old.term, old.grant, own.shard, own.epoch, own.grant)
            .await,
        Outcome::Lost
    );
    assert_eq!(
        old.c.insert_shards(old.term, old.grant, 4).await,
        Outcome::Lost
    );
    let regroup = old.regroup(4, &[]).await;
    assert_eq!(
        old.c
            .change_shard_count(old.term, old.grant, &regroup)
            .await,
        Outcome::Lost
    );
    assert_eq!(
        old.c.renew_master(old.term, old.grant, Nonce(9), TTL).await,
        Outcome::Lost
    );
    assert_eq!(
        old.c.give_back_master(old.term, old.grant).await,
        Outcome::Lost
    );
    assert_eq!(new.snapshot().await.unwrap(), before);
}

/// A master that dies between naming and activating leaves everything that the next one needs.
async fn half_done_handover_is_found(store: &Store) {
    let mut master = store.cluster(2).await;
    let own = master.promote(1, "c1:coreapp-1", 1).await;
    let row = master.c.snapshot().await.unwrap().shards[1].clone();
    let previous = vec![Previous {
        shard: ShardId(1),
        owner: own.owner.clone(),
        incarnation: own.incarnation,
        epoch: own.epoch,
        grant: own.grant,
        ttl: TTL,
        nonce: row.nonce,
    }];
    let next = ownership(1, "c2:coreapp-1", 2);
    let handover = wa_core::master::Handover {
        shard: ShardId(1),
        expect: (row.epoch, row.grant, row.nonce, row.phase),
        to: next.owner.clone(),
        to_incarnation: next.incarnation,
        epoch: next.epoch,
        grant: next.grant,
        ttl: TTL,
        nonce: Nonce(8),
        previous: previous.clone(),
        generation: row.generation,
    };
    assert_eq!(
        master
            .c
            .handover(master.term, master.grant, &handover)
            .await,
        Outcome::Held
    );
    assert_eq!(
        master
            .c
            .handover(master.term, master.grant, &handover)
            .await,
        Outcome::Held,
        "adopted"
    );
    let seen = store.lease("m2:master-1").snapshot().await.unwrap();
    assert_eq!(seen.shards[1].phase, Phase::Handover);
    assert_eq!(seen.shards[1].previous, previous);
    assert_eq!(seen.shards[1].owner, Some(next.owner.clone()));
    let active = master
        .c
        .activate(
            master.term,
            master.grant,
            next.shard,
            next.epoch,
            next.grant,
        )
        .await;
    assert_eq!(active, Outcome::Held);
    let seen = master.c.snapshot().await.unwrap();
    assert!(seen.shards[1].previous.is_empty());
    // Another handover from what was seen before does not pass any more.
    let late = wa_core::master::Handover {
        epoch: wa_core::id::Epoch(3),
        grant: Grant(9),
        ..handover
    };
    assert_eq!(
        master.c.handover(master.term, master.grant, &late).await,
        Outcome::Lost
    );
}

/// Steps that were decided on rows as they no longer are: renewed, under another shard count, handed to somebody else.
async fn late_steps_change_nothing(store: &Store) {
    let mut master = store.cluster(2).await;
    let own = master.promote(0, "c1:coreapp-1", 1).await;
    let before = master.c.snapshot().await.unwrap();
    let mut owner = store.lease("c1:coreapp-1");
    assert_eq!(owner.renew_shard(&own, Nonce(77), TTL).await, Outcome::Held);
    let next = ownership(0, "c2:coreapp-1", 2);
    let late = |row: &wa_core::shard_map::ShardRow| wa_core::master::Handover {
        shard: row.shard,
        expect: (row.epoch, row.grant, row.nonce, row.phase),
        to: next.owner.clone(),
        to_incarnation: next.incarnation,
        epoch: next.epoch,
        grant: next.grant,
        ttl: TTL,
        nonce: Nonce(8),
        previous: Vec::new(),
        generation: row.generation,
    };
    let (term, grant) = (master.term, master.grant);
    let renewed = late(&before.shards[0]);
    assert_eq!(
        master.c.handover(term, grant, &renewed).await,
        Outcome::Lost,
        "the owner has renewed since"
    );
    let previous = [Previous {
        shard: ShardId(0),
        owner: own.owner.clone(),
        incarnation: own.incarnation,
        epoch: own.epoch,
        grant: own.grant,
        ttl: TTL,
        nonce: Nonce(5),
    }];
    let first = master.regroup(1, &previous).await;
    let changed = master.c.change_shard_count(term, grant, &first).await;
    assert_eq!(changed, Outcome::Held);
    assert_eq!(
        master.c.change_shard_count(term, grant, &first).await,
        Outcome::Lost,
        "the same once more, late: the generation tells"
    );
    // A free row keeps epoch, grant, nonce and phase: only the generation tells.
    let resharded = late(&before.shards[1]);
    assert_eq!(
        master.c.handover(term, grant, &resharded).await,
        Outcome::Lost,
        "the shard count has changed since"
    );
    let seen = master.c.snapshot().await.unwrap();
    assert!(seen.shards.iter().all(|row| row.previous == previous));
    let late = master.regroup(2, &previous).await;
    let named = master.hand_over(0, "c2:coreapp-1", 3).await;
    assert_eq!(
        master.c.change_shard_count(term, grant, &late).await,
        Outcome::Lost,
        "a grant that it does not name was given since: the counter tells"
    );
    let activated = master
        .c
        .activate(term, grant, own.shard, own.epoch, own.grant);
    assert_eq!(
        activated.await,
        Outcome::Lost,
        "handed to somebody else since"
    );
    assert_eq!(master.phase(named.shard.0).await, Phase::Handover);
}

async fn released_shard_is_closed_to_its_owner(store: &Store) {
    let mut master = store.cluster(1).await;
    let own = master.promote(0, "c1:coreapp-1", 1).await;
    let mut owner = store.lease("c1:coreapp-1");
    assert_eq!(owner.release_shard(&own).await, Outcome::Held);
    assert_eq!(master.phase(0).await, Phase::Free);
    assert_eq!(owner.renew_shard(&own, Nonce(4), TTL).await, Outcome::Lost);
    let accepted = store.db.accept(&own, &[message("late", "x")], false).await;
    assert!(
        matches!(accepted, Err(wa_agent::db::message::AcceptError::Stale)),
        "{accepted:?}"
    );
    let next = master.promote(0, "c1:coreapp-1", 2).await;
    assert!(
        store
            .db
            .accept(&next, &[message("on time", "x")], false)
            .await
            .is_ok()
    );
}

async fn fewer_shards_free_the_rest(store: &Store) {
    let mut master = store.cluster(4).await;
    let own = master.promote(3, "c1:coreapp-1", 1).await;
    let fewer = master.regroup(2, &[]).await;
    assert_eq!(
        master
            .c
            .change_shard_count(master.term, master.grant, &fewer)
            .await,
        Outcome::Held
    );
    let seen = master.c.snapshot().await.unwrap();
    assert_eq!(seen.master.shard_count, 2);
    assert!(
        seen.shards.iter().all(|row| row.phase == Phase::Free),
        "{seen:?}"
    );
    assert_eq!(
        store
            .lease("c1:coreapp-1")
            .renew_shard(&own, Nonce(4), TTL)
            .await,
        Outcome::Lost
    );
    assert!(
        store
            .db
            .accept(&own, &[message("late", "x")], false)
            .await
            .is_err()
    );
    let more = master.regroup(8, &[]).await;
    assert_eq!(
        master
            .c
            .change_shard_count(master.term, master.grant, &more)
            .await,
        Outcome::Held
    );
    let seen = master.c.snapshot().await.unwrap();
    assert_eq!(seen.shards.len(), 8);
    // A row under another generation than the map's has no owner for any webapp.
    let generations = seen.shards.iter().map(|row| row.generation);
    assert!(
        generations.clone().all(|g| g == seen.master.generation),
        "{seen:?}"
    );
}

async fn identity_is_steady_on_one_connection(store: &Store) {
    store.cluster(1).await;
    let mut c = store.lease("a:master-1");
    let first = c.snapshot().await.unwrap().identity;
    assert_eq!(c.snapshot().await.unwrap().identity, first);
    let other = store.lease("a:master-1").snapshot().await.unwrap().identity;
    assert_eq!(
        other == first,
        store.db.embedded(),
        "a new connection to a server is a new identity, a file is a file"
    );
}

async fn run(store: &Store, sql: &'static str) {
    match &store.db {
        Db::MySql(hosts) => drop(sqlx::raw_sql(sql).execute(&hosts.pool()).await.unwrap()),
        Db::Sqlite(pool) => drop(sqlx::raw_sql(sql).execute(pool).await.unwrap()),
    }
}

/// Attack 40. Goal: a living connection sees that a dump was put back under it, though every row is what it was; whatever nodes do,
/// a start and its migrations included, changes nothing of that. Method: the table is dropped, made and filled by hand; to a
/// server's clock in a later second, as any dump is.
async fn a_dump_that_is_put_back_makes_the_table_anew(store: &Store) {
    let mut master = store.cluster(2).await;
    let (mut owner, mut other) = (store.lease("c1:coreapp-1"), store.lease("b:master-1"));
    let made = master.c.snapshot().await.unwrap().made;
    let own = master.promote(0, "c1:coreapp-1", 1).await;
    assert_eq!(owner.renew_shard(&own, Nonce(77), TTL).await, Outcome::Held);
    store.db.ensure_lease_table().await.unwrap();
    store.db.migrate().await.unwrap();
    let regroup = master.regroup(4, &[]).await;
    let changed = master
        .c
        .change_shard_count(master.term, master.grant, &regroup);
    assert_eq!(changed.await, Outcome::Held);
    let before = other.snapshot().await.unwrap();
    assert_eq!(master.c.snapshot().await.unwrap().made, made);
    assert_eq!(before.made, made, "another connection says the same");
    let later = eventually(async || match &store.db {
        Db::MySql(hosts) => {
            let sql = "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA=DATABASE() \
                       AND TABLE_NAME='lease' AND CREATE_TIME < NOW() - INTERVAL 1 SECOND";
            let (past,): (i64,) = sqlx::query_as(sql).fetch_one(&hosts.pool()).await.unwrap();
            past == 1
        }
        Db::Sqlite(_) => true,
    });
    assert!(later.await, "a second passes");
    run(store, "ALTER TABLE lease RENAME TO kept").await;
    store.db.ensure_lease_table().await.unwrap();
    run(
        store,
        "DELETE FROM lease; INSERT INTO lease SELECT * FROM kept; DROP TABLE kept",
    )
    .await;
    let after = other.snapshot().await.unwrap();
    assert_eq!(
        (&after.master, &after.shards),
        (&before.master, &before.shards)
    );
    assert_eq!(after.identity, before.identity, "the same connection");
    assert_ne!(after.made, before.made);
    assert_eq!(other.snapshot().await.unwrap().made, after.made);
}
