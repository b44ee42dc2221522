//! Carries out the core's store actions, one after the other, and brings the outcomes back.
//! Two connections do that: one for the master lease, so that a slow read never delays a renewal, and one for everything else.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use wa_core::id::{Epoch, Grant, Nonce, ShardId, Term};
use wa_core::master::{Attempt, Event, Handover, Outcome, Regroup};

use crate::db::lease::LeaseConnection;
use crate::log::seldom;
use crate::sys::trouble::Trouble;

/// What the lease connection does. Nothing else waits in its queue.
#[derive(Debug)]
pub enum LeaseJob {
    Take {
        expect: (Term, Grant, Nonce),
        own: (Term, Grant, Nonce),
        ttl: Duration,
    },
    Renew {
        own: (Term, Grant, Nonce),
        ttl: Duration,
    },
    GiveBack(Term, Grant),
}

/// What the other connection does.
#[derive(Debug)]
pub enum MapJob {
    /// One deciding read.
    Read,
    /// A write under the term, whose outcome names the attempt.
    Write(Attempt, (Term, Grant), MapWrite),
    /// Write that the rows are complete on this server.
    KnowServer((Term, Grant), u64),
}

/// What is written of the shard map.
#[derive(Debug)]
pub enum MapWrite {
    InsertShards(u16),
    Handover(Box<Handover>),
    Activate(ShardId, Epoch, Grant),
    ChangeShardCount(Regroup),
}

/// Works until the driver is gone, and does not leave a lease behind that the core could not give back any more: it may
/// have been taken while the process was stopping.
pub async fn keep_lease(
    mut connection: LeaseConnection,
    mut jobs: mpsc::Receiver<LeaseJob>,
    events: mpsc::Sender<Event>,
) {
    let mut taken = None;
    while let Some(job) = jobs.recv().await {
        let event = match job {
            LeaseJob::Take { expect, own, ttl } => {
                taken = Some((own.0, own.1));
                Event::Lease {
                    nonce: own.2,
                    outcome: connection.take_master(expect, own, ttl).await,
                }
            }
            LeaseJob::Renew {
                own: (term, grant, nonce),
                ttl,
            } => Event::Lease {
                nonce,
                outcome: connection.renew_master(term, grant, nonce, ttl).await,
            },
            LeaseJob::GiveBack(term, grant) => {
                taken = None;
                give_back(&mut connection, term, grant).await;
                continue;
            }
        };
        if events.send(event).await.is_err() {
            break;
        }
    }
    if let Some((term, grant)) = taken {
        give_back(&mut connection, term, grant).await;
    }
}

/// Works until the driver is gone.
pub async fn keep_map(
    mut connection: LeaseConnection,
    mut jobs: mpsc::Receiver<MapJob>,
    events: mpsc::Sender<Event>,
    reads: Arc<Trouble>,
) {
    while let Some(job) = jobs.recv().await {
        let event = match job {
            MapJob::Read => read(&mut connection, &reads).await,
            MapJob::Write(attempt, under, what) => Event::Done {
                attempt,
                outcome: write(&mut connection, under, what).await,
            },
            MapJob::KnowServer((term, grant), server) => {
                connection.know_server(term, grant, server).await;
                // The read that follows shows what was written.
                Event::Nudged
            }
        };
        if events.send(event).await.is_err() {
            return;
        }
    }
}

async fn read(c: &mut LeaseConnection, reads: &Trouble) -> Event {
    match c.snapshot().await {
        Ok(snapshot) => {
            reads.over();
            Event::Snapshot(Box::new(snapshot))
        }
        Err(error) => {
            reads.failed(&error.brief());
            seldom!(
                tracing::warn!(error = %error.brief(), "reading the shard map failed; retrying")
            );
            Event::ReadFailed
        }
    }
}

async fn write(c: &mut LeaseConnection, (term, under): (Term, Grant), what: MapWrite) -> Outcome {
    match what {
        MapWrite::InsertShards(count) => c.insert_shards(term, under, count).await,
        MapWrite::Handover(handover) => c.handover(term, under, &handover).await,
        MapWrite::Activate(shard, epoch, grant) => {
            c.activate(term, under, shard, epoch, grant).await
        }
        MapWrite::ChangeShardCount(regroup) => c.change_shard_count(term, under, &regroup).await,
    }
}

/// Waits until a worker whose queue is closed has done what was in it, the giving back of the lease included. False: it
/// was not done `within` that time.
pub async fn finish(
    mut worker: JoinHandle<()>,
    events: &mut mpsc::Receiver<Event>,
    within: Duration,
) -> bool {
    let done = async {
        loop {
            tokio::select! {
                _ = &mut worker => return,
                // Nobody decides any more; a full queue would hold the worker up.
                Some(_) = events.recv() => {}
            }
        }
    };
    tokio::time::timeout(within, done).await.is_ok()
}

/// The next master waits for the end of a lease that was not given back: it is said which it was.
async fn give_back(c: &mut LeaseConnection, term: Term, grant: Grant) {
    match c.give_back_master(term, grant).await {
        Outcome::Held => tracing::info!(TERM = term.0, "the master lease was given back"),
        Outcome::Lost => tracing::debug!(TERM = term.0, "the master lease belongs to another"),
        Outcome::Unknown => tracing::warn!(
            TERM = term.0,
            "the database did not confirm that the master lease was given back; another master takes it when it has run out"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DatabaseSettings, Replication};
    use crate::db::Db;
    use crate::sys::clock;
    use wa_core::id::{Incarnation, NodeId};

    const TTL: Duration = Duration::from_secs(8);
    const OWN: (Term, Grant, Nonce) = (Term(1), Grant(5), Nonce(50));
    const FREE: (Term, Grant, Nonce) = (Term(0), Grant(0), Nonce(0));

    async fn store(place: &std::path::Path) -> DatabaseSettings {
        let settings = DatabaseSettings {
            urls: vec![format!("sqlite://{}/wa.db", place.display())],
            logins: Default::default(),
            replication: Replication::Auto,
            ssl_ca: None,
            ssl_cert: None,
            ssl_key: None,
            connect_timeout: Duration::from_secs(5),
            busy_timeout: Duration::from_secs(5),
        };
        let db = Db::connect(&settings, 1).await.expect("connected");
        db.ensure_lease_table().await.expect("made");
        settings
    }

    fn connection(settings: &DatabaseSettings, node: &str) -> LeaseConnection {
        let incarnation = Incarnation {
            counter: 1,
            random: 7,
        };
        LeaseConnection::new(settings.clone(), TTL / 4, NodeId::new(node), incarnation)
    }

    fn take() -> LeaseJob {
        LeaseJob::Take {
            expect: FREE,
            own: OWN,
            ttl: TTL,
        }
    }

    /// The next master need not wait for the end of the lease: what a row says whose lease was given back.
    async fn next_takes_at_once(settings: &DatabaseSettings) -> bool {
        let mut next = connection(settings, "b:master-1");
        let read = async {
            loop {
                // The connections before this one may still be closing, which locks the file for a moment.
                match next.snapshot().await {
                    Ok(snapshot) => return snapshot.master.holder.is_none(),
                    Err(_) => clock::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        tokio::time::timeout(TTL, read).await.expect("readable")
    }

    /// Goal: a stopping master's lease is free when its process ends, however slow the database is. Method: the write lock
    /// of the database is held for longer than the 50 ms that a stop once waited; the queue of outcomes is full.
    #[tokio::test]
    async fn a_slow_database_gets_the_lease_back() {
        let place = tempfile::tempdir().expect("a directory");
        let settings = store(place.path()).await;
        let (jobs, queue) = mpsc::channel(8);
        let (outcomes, mut events) = mpsc::channel(1);
        let work = keep_lease(connection(&settings, "a:master-1"), queue, outcomes);
        jobs.send(take()).await.expect("queued");
        let worker = tokio::spawn(work);
        events.recv().await.expect("taken");
        let lock = crate::db::lock_for_writing(&place.path().join("wa.db")).await;
        for nonce in [51, 52] {
            let own = (OWN.0, OWN.1, Nonce(nonce));
            let job = LeaseJob::Renew { own, ttl: TTL };
            jobs.send(job).await.expect("queued");
        }
        let job = LeaseJob::GiveBack(OWN.0, OWN.1);
        jobs.send(job).await.expect("queued");
        drop(jobs);
        let unlock = async {
            clock::sleep(Duration::from_millis(200)).await;
            lock.rollback().await.expect("unlocked");
        };
        let (done, ()) = tokio::join!(finish(worker, &mut events, TTL), unlock);
        assert!(done);
        assert!(next_takes_at_once(&settings).await);
    }

    /// Goal: a lease that was taken while the process was stopping, so that the core never heard of it, is given back.
    #[tokio::test]
    async fn a_lease_taken_at_the_stop_is_given_back() {
        let place = tempfile::tempdir().expect("a directory");
        let settings = store(place.path()).await;
        let (jobs, queue) = mpsc::channel(8);
        let (outcomes, mut events) = mpsc::channel(1);
        jobs.send(take()).await.expect("queued");
        drop(jobs);
        let worker = tokio::spawn(keep_lease(
            connection(&settings, "a:master-1"),
            queue,
            outcomes,
        ));
        assert!(finish(worker, &mut events, TTL).await);
        assert!(next_takes_at_once(&settings).await);
    }
}
