//! The order of a customer's messages over a failover. Goal: later ones wait behind one that an earlier owner was sending, or had put
//! off, and nobody else waits. Method: two tenures of a coreapp on the embedded store, granted by hand; the first is taken away while
//! a message is on its way and another one is put off.

use super::outcome::{Mood, lock, start, to, until};
use super::*;

/// Plays another master: a new epoch, for the same coreapp. The tenure before ends wherever it is.
async fn grant_anew(cluster: &Cluster) {
    let settings = settings(cluster._directory.path(), ([127, 0, 0, 1], 1).into());
    let me = Incarnation {
        counter: 2,
        random: 2,
    };
    let (second, master) = (Duration::from_secs(1), NodeId::new("t:master-2"));
    let mut lease = LeaseConnection::new(settings.database.clone(), second, master, me);
    let (term, grant) = (Term(2), Grant(12));
    within(async {
        // When the lease of the master before is over.
        loop {
            let expect = (Term(1), Grant(11), Nonce(5));
            let taken = lease.take_master(expect, (term, grant, Nonce(6)), TTL * 100);
            if taken.await == Outcome::Held {
                return;
            }
            clock::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let nodes = cluster.db.nodes().await.expect("read");
    within(async {
        // Renewals come in between.
        loop {
            let snapshot = lease.snapshot().await.expect("read before deciding");
            let row = &snapshot.shards[0];
            let handover = Handover {
                shard: ShardId(0),
                expect: (row.epoch, row.grant, row.nonce, row.phase),
                to: settings.node.clone(),
                to_incarnation: nodes[0].registration.incarnation,
                epoch: Epoch(4),
                grant: Grant(34),
                ttl: TTL,
                nonce: Nonce(10),
                previous: Vec::new(),
                generation: row.generation,
            };
            if lease.handover(term, grant, &handover).await == Outcome::Held {
                return;
            }
        }
    })
    .await;
    let active = lease.activate(term, grant, ShardId(0), Epoch(4), Grant(34));
    assert_eq!(active.await, Outcome::Held);
}

#[tokio::test(flavor = "multi_thread")]
async fn later_messages_wait_behind_what_an_earlier_owner_left() {
    let change = |settings: &mut Settings| {
        settings.upstream.ambiguity_window = Duration::from_secs(2);
        settings.upstream.request_timeout = Duration::from_secs(60);
    };
    let (moody, cluster, _) = start(change).await;
    // Refused for a quarter of an hour.
    *lock(&moody.mood) = Mood::Error(131_048, true);
    let late = request(vec![to("late1", 3, "late 1")]);
    cluster.accept_owned(&late).await;
    until(|| *lock(&moody.came) == 1).await;
    cluster.state_of("late1", MessageState::Queued).await;
    *lock(&moody.mood) = Mood::Lost;
    let lost = request(vec![to("lost1", 1, "lost 1")]);
    cluster.accept_owned(&lost).await;
    until(|| *lock(&moody.came) == 2).await;
    *lock(&moody.mood) = Mood::Good;
    grant_anew(&cluster).await;
    let Db::Sqlite(pool) = &cluster.db else {
        unreachable!("embedded");
    };
    let sooner = "UPDATE message SET next_ms=CAST(unixepoch('subsec') * 1000 AS INTEGER)+2500 WHERE id='late1' AND state=0";
    let done = sqlx::query(sooner).execute(pool).await.expect("written");
    assert_eq!(done.rows_affected(), 1);
    let all = vec![
        to("lost2", 1, "lost 2"),
        to("late2", 3, "late 2"),
        to("other", 2, "other"),
    ];
    let all = OwnerRequest {
        epoch: 4,
        ..request(all)
    };
    assert_eq!(cluster.accept_owned(&all).await, [Acceptance::Accepted; 3]);
    for id in ["other", "lost2", "late2"] {
        cluster.state_of(id, MessageState::Sent).await;
    }
    let taken = lock(&moody.taken).clone();
    let place = |text: &str| taken.iter().position(|one| one == text);
    assert_eq!(place("other"), Some(0), "nobody else waits: {taken:?}");
    for (first, then) in [("lost 1", "lost 2"), ("late 1", "late 2")] {
        let in_order = place(first).is_some() && place(first) < place(then);
        assert!(in_order, "{then} waits behind {first}: {taken:?}");
    }
}
