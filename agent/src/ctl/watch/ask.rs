//! Asks the cluster for the live page: for the status each second, for the rest every few seconds. Each is asked once at a time, within
//! a deadline. Draws nothing.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::timeout;
use wa_core::time::Instant;

use super::super::view::View;
use crate::api::control::{ClusterStatus, Explanation};
use crate::api::judged::Judged;
use crate::db::mount::Mount;
use crate::exit::Exit;
use crate::sys::clock;

/// How often the status is asked for, and the rest.
const STATUS_EVERY: Duration = Duration::from_secs(1);
const REST_EVERY: Duration = Duration::from_secs(5);
/// Between the end of a slow ask and the next one.
const PAUSE_MIN: Duration = Duration::from_millis(250);
/// For one ask, whatever hangs: longer than the asks' own deadlines, which know the reason.
const WITHIN: Duration = Duration::from_secs(15);

/// What the page is told.
#[derive(Debug)]
pub enum Told {
    /// The status is asked for since then.
    Asking(Instant),
    Status(Box<Answer>),
    /// Nobody answered: why, and the exit code for it.
    Nothing(String, Exit),
    Rest(Box<Rest>),
    /// There is no usable configuration.
    Unusable(anyhow::Error),
}

/// A status, and when it came.
#[derive(Debug, Clone)]
pub struct Answer {
    pub at: Instant,
    /// The same for people, in milliseconds since 1970.
    pub wall_ms: u64,
    pub status: ClusterStatus,
}

/// What is asked for less often.
#[derive(Debug, Clone, Default)]
pub struct Rest {
    pub explained: Vec<Explanation>,
    /// `None`: nobody says.
    pub mounts: Option<Vec<Mount>>,
    /// What this machine adds.
    pub remarks: Vec<Judged>,
}

/// Asks until nobody listens.
pub async fn run(named: Option<PathBuf>, to: mpsc::Sender<Told>) {
    let (found, view) = watch::channel(None);
    let again = Notify::new();
    tokio::join!(rest(named, &found, &again, &to), status(view, &again, &to));
}

type Found = Option<Arc<View>>;

/// Looks where the masters are, and asks for all but the status.
async fn rest(
    named: Option<PathBuf>,
    found: &watch::Sender<Found>,
    again: &Notify,
    to: &mpsc::Sender<Told>,
) {
    while !to.is_closed() {
        match timeout(WITHIN, View::find(named.as_deref())).await {
            Ok(Ok(view)) => drop(found.send_replace(Some(Arc::new(view)))),
            Ok(Err(error)) if found.borrow().is_none() => {
                let _ = to.send(Told::Unusable(error)).await;
                return;
            }
            // With the way that was found before: whoever changes files meanwhile is not done yet.
            Ok(Err(_)) | Err(_) => {}
        }
        let view = found.borrow().clone();
        if let Some(view) = view {
            let asks = async {
                tokio::join!(
                    view.explain(),
                    view.mounts(),
                    view.remarks(named.as_deref())
                )
            };
            if let Ok((explained, mounts, remarks)) = timeout(WITHIN, asks).await {
                let rest = Rest {
                    explained: explained.unwrap_or_default(),
                    mounts: mounts.ok(),
                    remarks,
                };
                if to.send(Told::Rest(Box::new(rest))).await.is_err() {
                    return;
                }
            }
        }
        tokio::select! {
            () = to.closed() => return,
            () = clock::sleep(REST_EVERY) => {}
            () = again.notified() => clock::sleep(PAUSE_MIN).await,
        }
    }
}

/// Asks for the status. Where it tells something new of owners and nodes, or nothing, the rest is asked for at once.
async fn status(mut view: watch::Receiver<Found>, again: &Notify, to: &mpsc::Sender<Told>) {
    let mut basis = None;
    loop {
        let began = clock::now();
        if to.send(Told::Asking(began)).await.is_err() {
            return;
        }
        let Ok(found) = view.wait_for(Option::is_some).await.map(|of| of.clone()) else {
            return;
        };
        let Some(found) = found else { return };
        let told = match timeout(WITHIN, found.status()).await {
            Ok(Ok(status)) => {
                let new = Some(basis_of(&status));
                if basis.is_some() && basis != new {
                    again.notify_one();
                }
                basis = new;
                Told::Status(Box::new(Answer {
                    at: clock::now(),
                    wall_ms: clock::wall_ms(),
                    status,
                }))
            }
            Ok(Err(nothing)) => {
                let (says, exit) = nothing.says();
                Told::Nothing(says, exit)
            }
            Err(_) => Told::Nothing(format!("no answer within {WITHIN:?}"), Exit::Unavailable),
        };
        if matches!(told, Told::Nothing(..)) {
            again.notify_one();
        }
        drop(found);
        if to.send(told).await.is_err() {
            return;
        }
        let next = (began + STATUS_EVERY).max(clock::now() + PAUSE_MIN);
        tokio::select! {
            () = to.closed() => return,
            () = clock::sleep_until(next) => {}
        }
    }
}

/// What explanations follow from, as a status says it.
fn basis_of(status: &ClusterStatus) -> BTreeSet<String> {
    let shards = status.shards.iter().map(|shard| {
        let (owner, phase) = (&shard.owner, &shard.phase);
        format!("{} {owner:?} {} {phase}", shard.shard, shard.epoch)
    });
    let nodes = status.nodes.iter().map(|node| {
        let (name, health) = (&node.node, &node.health);
        format!("{name} {} {health:?}", node.healthy)
    });
    shards.chain(nodes).collect()
}
