//! Carries out the core's store actions, one after the other on a connection of its own, and brings the outcomes back.
//! Two of these run: one for the master lease, so that a slow read never delays a renewal, and one for everything else.

use tokio::sync::mpsc;
use wa_core::master::{Action, Event};

use crate::db::lease::LeaseConnection;

/// Works until the driver is gone.
pub async fn work(
    mut connection: LeaseConnection,
    mut jobs: mpsc::Receiver<Action>,
    events: mpsc::Sender<Event>,
) {
    while let Some(action) = jobs.recv().await {
        let Some(event) = carry_out(&mut connection, action).await else {
            continue;
        };
        if events.send(event).await.is_err() {
            return;
        }
    }
}

async fn carry_out(c: &mut LeaseConnection, action: Action) -> Option<Event> {
    Some(match action {
        Action::Read => match c.snapshot().await {
            Ok(snapshot) => Event::Snapshot(Box::new(snapshot)),
            Err(error) => {
                tracing::warn!(error = %error.brief(), "reading the shard map failed; retrying");
                Event::ReadFailed
            }
        },
        Action::Take {
            expect,
            term,
            grant,
            nonce,
            ttl,
        } => Event::Lease {
            nonce,
            outcome: c.take_master(expect, (term, grant, nonce), ttl).await,
        },
        Action::Renew {
            term,
            grant,
            nonce,
            ttl,
        } => Event::Lease {
            nonce,
            outcome: c.renew_master(term, grant, nonce, ttl).await,
        },
        Action::GiveBack { term, grant } => {
            c.give_back_master(term, grant).await;
            return None;
        }
        Action::InsertShards {
            attempt,
            term,
            term_grant,
            count,
        } => Event::Done {
            attempt,
            outcome: c.insert_shards(term, term_grant, count).await,
        },
        Action::Handover {
            attempt,
            term,
            term_grant,
            handover,
        } => Event::Done {
            attempt,
            outcome: c.handover(term, term_grant, &handover).await,
        },
        Action::Activate {
            attempt,
            term,
            term_grant,
            shard,
            epoch,
            grant,
        } => Event::Done {
            attempt,
            outcome: c.activate(term, term_grant, shard, epoch, grant).await,
        },
        Action::ChangeShardCount {
            attempt,
            term,
            term_grant,
            regroup,
        } => Event::Done {
            attempt,
            outcome: c.change_shard_count(term, term_grant, &regroup).await,
        },
        Action::KnowServer {
            term,
            term_grant,
            server,
        } => {
            c.know_server(term, term_grant, server).await;
            // The read that follows shows what was written.
            return Some(Event::Nudged);
        }
        _ => return None,
    })
}
