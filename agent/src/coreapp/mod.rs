//! The coreapp role: holds the upstream connection of at most one shard, accepts its messages, delivers its webhooks.
//! Decides nothing about ownership: `wa_core::tenure` does, `driver.rs` carries its actions out.
//!
//! ```text
//!   intake ──commit──▶ message table ──▶ sender ──▶ upstream
//!   inbox table ──▶ inbox ──one commit──▶ webhook table ──▶ webhook ──▶ the business
//! ```
//! All of it belongs to one [`work::Work`], which begins and ends with a tenure.

mod account;
mod address;
mod alarms;
mod aliases;
mod ambiguity;
mod attempt;
mod behind;
mod blanking;
mod borrow;
mod claim;
mod collect;
mod customer_writer;
mod customers;
mod demands;
mod driver;
mod fetch;
mod fetches;
mod foreman;
mod gate;
mod heard;
mod hold;
mod holding;
mod id_writer;
mod identity;
mod identity_switch;
mod in_hand;
mod inbox;
mod intake;
mod international;
mod known_ids;
mod line;
mod link;
mod looks;
mod media;
mod member;
mod memory;
mod nameless;
mod naming;
mod news;
mod node;
mod number;
mod on_demand;
mod outbox;
mod owed;
mod pin;
mod placing;
mod profile;
mod reach;
mod ready;
mod receiver;
mod record;
mod registration;
mod registration_row;
mod replies;
mod resolve;
mod sender;
mod serve;
mod shelf;
mod spared;
mod spellings;
mod stable;
mod sweep;
mod tally;
mod template;
#[cfg(test)]
mod tests;
mod token;
mod trouble;
mod trust;
mod unread;
mod unsent;
mod upload;
mod upstream;
mod waited_long;
mod wall_clock;
mod webhook;
mod word;
mod work;
mod writers;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use wa_core::id::{Epoch, Role};

use crate::config::Settings;
use crate::media::watch;
use crate::net::door::Door;
use crate::net::keys::Keys;
use crate::net::places::Size;
use crate::net::roots;
use crate::net::server::Public;
use crate::net::{NetError, health, server, udp};
use crate::sys::high_water::HighWater;
use crate::sys::state::{self, NumberFile};
use crate::sys::{room, sched};
use node::Node;
pub use receiver::permit as webhook_permit;

/// Why a coreapp could not start. A lost database is not among the reasons: the role waits for it.
#[derive(Debug, thiserror::Error)]
pub enum CoreappError {
    #[error(
        "the state directory {path} cannot be used; make it writable for this user or set [state] directory"
    )]
    State {
        path: std::path::PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Net(#[from] NetError),
}

/// Runs the role until it is told to stop and holds nothing any more.
///
/// # Errors
/// [`CoreappError`] at start; nothing ends a running coreapp but the stop.
pub async fn run(settings: Arc<Settings>, shutdown: CancellationToken) -> Result<(), CoreappError> {
    let directory = settings.instance_directory();
    let failed = |source| CoreappError::State {
        path: directory.clone(),
        source,
    };
    let incarnation = state::next_incarnation(&directory).map_err(failed)?;
    let (kept, obeyed) = obeyed_by(&directory).map_err(failed)?;
    let keys = Keys::of(&settings.cluster_key);
    let node = Arc::new(Node::new(Arc::clone(&settings), keys.clone(), incarnation));
    node.readiness.not_ready("starting");
    roots::read_ahead();

    // Servers outlive the stop signal: the role serves until its tenure has moved.
    let ended = CancellationToken::new();
    let at = |port| SocketAddr::new(settings.bind, port);
    let metrics = {
        let node = Arc::clone(&node);
        Arc::new(move || node.metrics_text())
    };
    let door = Door::new(&node.metrics.door);
    let room = node.metrics.room.clone();
    let directory = settings.state_directory.clone();
    tokio::spawn(room::watch(directory, room, ended.clone()));
    health::start(
        (settings.health_addresses(), &door),
        node.readiness.clone(),
        metrics,
        ended.clone(),
    )
    .await?;
    let listener = server::listen("API", at(settings.ports.api)).await?;
    let report = Arc::new(udp::SharedReport::measured(
        node.metrics.heartbeat_wait.clone(),
    ));
    let identity = udp::Identity {
        cluster: settings.cluster_id,
        node: settings.node.clone(),
        role: Role::Coreapp,
        incarnation,
        keys,
    };
    let (heartbeats, heard) = udp::start(
        identity,
        at(settings.ports.heartbeat),
        None,
        Arc::clone(&report),
    )?;
    tokio::spawn(server::serve_with(
        listener,
        serve::router(Arc::clone(&node)),
        Public::plain(&door, Size::OWNER),
        ended.clone(),
    ));
    tokio::spawn(member::run(Arc::clone(&node), ended.clone()));
    tokio::spawn(
        ended
            .clone()
            .run_until_cancelled_owned(borrow::run(Arc::clone(&node))),
    );
    watch_media(&node, &ended);
    tracing::info!(node = %settings.node, %incarnation, epoch_high = obeyed.0, "coreapp started");
    let parts = (Arc::clone(&node), heartbeats, report, kept);
    drive(parts, obeyed, heard, shutdown)
        .await
        .map_err(failed)?;
    ended.cancel();
    tracing::info!(node = %settings.node, "coreapp stopped; it holds nothing");
    Ok(())
}

/// Has the media directory looked at. The program of the tests has no such verb: their directories are well.
fn watch_media(node: &Arc<Node>, ended: &CancellationToken) {
    if cfg!(test) {
        return;
    }
    let of_media = Arc::clone(node);
    tokio::spawn(watch::run(
        Arc::clone(&node.media),
        move || of_media.db(),
        ended.clone(),
    ));
}

/// The highest epoch that this node has obeyed, and the file that keeps it.
fn obeyed_by(directory: &std::path::Path) -> std::io::Result<(HighWater, Epoch)> {
    let file = NumberFile::open(directory, "epoch")?;
    let obeyed = Epoch(file.load()?);
    Ok((HighWater::new(file, obeyed.0), obeyed))
}

type Parts = (
    Arc<Node>,
    udp::Heartbeats,
    Arc<udp::SharedReport>,
    HighWater,
);

/// Runs the driver and its lease connections on a thread and runtime of their own: a crowd of messages must not look like
/// a hung main loop, nor make a renewal late.
async fn drive(
    (node, heartbeats, report, high_water): Parts,
    obeyed: Epoch,
    heard: udp::Inbox,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (done, ended) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("tenure".into())
        .spawn(move || {
            // Other work on the machine must not make a renewal late. Where this is not allowed the heartbeat thread says so.
            let _ = sched::raise_this_thread(sched::Urgency::Deciding);
            runtime.block_on(async move {
                let driver = driver::Driver::new(node, heartbeats, report, high_water, obeyed);
                driver.run(heard, shutdown).await;
            });
            let _ = done.send(());
        })?;
    // An error here is a panic on that thread: nothing is held any more, its gate deadline runs out.
    let _ = ended.await;
    Ok(())
}
