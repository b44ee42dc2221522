//! Takes the masters' nudges: the shard map, or the settings, changed. A nudge only means *read again*; a lost one costs
//! the time until the next reading. Answers no heartbeats: nobody fails over a webapp.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use wa_core::id::{Incarnation, Role};
use wa_core::wire::{Body, Nudge};

use super::watcher::Watched;
use crate::config::Settings;
use crate::net::NetError;
use crate::net::keys::Keys;
use crate::net::udp::{self, Heard, Identity, SharedReport};

/// Listens on the UDP port until the stop.
///
/// # Errors
/// When the port is taken.
pub fn listen(
    settings: &Settings,
    incarnation: Incarnation,
    map: Arc<Watched>,
    stop: CancellationToken,
) -> Result<(), NetError> {
    let identity = Identity {
        cluster: settings.cluster_id,
        node: settings.node.clone(),
        role: Role::Webapp,
        incarnation,
        keys: Keys::of(&settings.cluster_key),
    };
    let at = SocketAddr::new(settings.bind, settings.ports.heartbeat);
    let (heartbeats, mut heard) = udp::start(identity, at, None, Arc::<SharedReport>::default())?;
    tokio::spawn(async move {
        while let Some(Some(heard)) = stop.run_until_cancelled(heard.recv()).await {
            // Nothing else is for webapps.
            let Heard::Body {
                body: Body::Nudge(nudge),
                ..
            } = heard
            else {
                continue;
            };
            match nudge {
                Nudge::ShardMap => map.reread(),
                Nudge::Settings => map.reread_settings(),
            }
        }
        drop(heartbeats);
    });
    Ok(())
}
