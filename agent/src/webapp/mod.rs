//! Role webapp: the public `/v1` HTTP API; finds the owner of a shard in the shard map and forwards.
//! Holds no state that another webapp would miss: users, tokens, settings and events live in the database.

mod answer;
mod audited;
/// Who may call, and who is calling.
pub mod auth;
mod certificate;
/// What people see at `/console`; from here: what its readers make of a browser's words before a login.
pub mod console;
mod edge;
mod events;
mod first;
mod forward;
mod homes;
mod identity;
mod nudge;
mod owner;
mod password;
/// An API without TLS.
pub mod plain;
mod primary;
mod routes;
mod shard_map;
mod shared;
mod state;
mod throttle;
mod tokens;
mod uploads;
mod v1;
mod watcher;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::certificate::Certificates;
use crate::api::v1::report_version;
use crate::config::Settings;
use crate::media::{Media, watch};
use crate::metrics::WebappMetrics;
use crate::net::door::Door;
use crate::net::health::{self, Readiness};
use crate::net::idle::Limits;
use crate::net::places::Size;
use crate::net::{NetError, server, tls};
use crate::sys::state::next_incarnation;
use crate::sys::{clock, memory, room};

/// Longest time that one call to a coreapp may take: longer than any commit, far shorter than a TCP timeout.
const ATTEMPT_MAX: Duration = Duration::from_secs(3);
/// A call is not given up sooner than this, whatever the intervals.
const ATTEMPT_MIN: Duration = Duration::from_secs(1);

/// Without its database, a webapp that starts answers nobody for this long.
const START_MAX: Duration = Duration::from_secs(5);

/// After the stop signal every answer closes its connection for this long; only then the rest are closed.
const LAME_DUCK: Duration = Duration::from_millis(250);

/// Why a webapp ended.
#[derive(Debug, thiserror::Error)]
pub enum WebappError {
    #[error(transparent)]
    Net(#[from] NetError),
    #[error("the state directory {path} cannot be written; make it, or set [node] state_directory")]
    State {
        path: std::path::PathBuf,
        source: std::io::Error,
    },
}

/// Runs a webapp until `shutdown`. A lost database does not end it: requests wait or are answered 1023.
///
/// # Errors
/// When a port is taken or the state directory cannot be written.
pub async fn run(settings: Arc<Settings>, shutdown: CancellationToken) -> Result<(), WebappError> {
    memory::give_back_large_blocks();
    report_version(&settings.client.reported_version);
    let readiness = Readiness::default();
    readiness.not_ready("starting");
    let metrics = Arc::new(WebappMetrics::new());
    let public = listen(&settings).await?;
    let map = Arc::new(watcher::Watched::new(settings.timers.hold_timeout));
    let certificates = Certificates::of(&settings, &map)?;
    let media = Media::new(&settings, true);
    let of_page = (Arc::clone(&map), certificates.clone());
    let shown = (Arc::clone(&metrics), of_page, Arc::clone(&media));
    let door = Door::new(&metrics.door);
    let how = (readiness.clone(), Arc::clone(&door));
    pages(&settings, how, shown, shutdown.clone()).await?;

    // What carries requests ends after the last request, not with the signal.
    let last = CancellationToken::new();
    let _ends = last.clone().drop_guard();
    let path = settings.instance_directory();
    let incarnation =
        next_incarnation(&path).map_err(|source| WebappError::State { path, source })?;
    plain::write_down(&settings);
    let reader = watcher::Reader::new(
        Arc::clone(&settings),
        Arc::clone(&map),
        readiness,
        incarnation,
        Arc::clone(&media),
        Arc::clone(&metrics),
    );
    tokio::spawn(reader.run(last.clone()));
    let (db, watched) = (map.shared_db(), Arc::clone(&media));
    tokio::spawn(watch::run(watched, move || db.load_full(), last.clone()));
    nudge::listen(&settings, incarnation, Arc::clone(&map), last.clone())?;
    let attempt = settings.timers.unhealthy_interval;
    let attempt = attempt.clamp(ATTEMPT_MIN, ATTEMPT_MAX);
    let client = state::internal_client(&settings);
    let owners = owner::Owners::new(Arc::clone(&map), Arc::clone(&metrics), client, attempt);
    let owners = Arc::new(owners);
    let forwarder = forward::Forwarder::start(Arc::clone(&owners), &last);
    let (events, queue) = mpsc::channel(events::QUEUE_LEN_MAX);
    tokio::spawn(events::store(
        Arc::clone(&settings),
        Arc::clone(&map),
        Arc::clone(&metrics),
        queue,
        last.clone(),
    ));
    let told = Arc::clone(&door);
    let homes = homes::watch(Arc::clone(&settings), Arc::clone(&map), told, last.clone());
    tokio::spawn(homes);
    wait_until_useful(&map, &shutdown).await;
    certificates.start(&last).await;
    let how = public_port(&settings, &certificates, door)?;
    let parts = (owners, forwarder, certificates);
    let webapp = state::Webapp::new(settings, parts, events, media, shutdown.clone());
    let webapp = Arc::new(webapp);
    tokio::spawn(first::make_chosen(Arc::clone(&webapp)));
    console::start(&webapp, &last);
    let calls = v1::calls::router(Arc::clone(&webapp), console::router(&webapp));
    server::serve_with(public, calls, how, after_lame_duck(shutdown)).await;
    webapp.audit.flush().await;
    Ok(())
}

/// How the port for clients is served.
fn public_port(
    settings: &Settings,
    certificates: &Certificates,
    door: Arc<Door>,
) -> Result<server::Public, NetError> {
    let tls = certificates.shown();
    let tls = tls.map(|shown| tls::acceptor(shown, &settings.upstream.mtls_authorities));
    Ok(server::Public {
        tls: tls.transpose()?,
        limits: Limits::keeping(settings.keep_alive),
        proxies: settings.trusted_proxies.clone(),
        door,
        size: Size::API,
    })
}

/// The port of the public API.
async fn listen(settings: &Settings) -> Result<TcpListener, NetError> {
    let at = SocketAddr::new(settings.bind, settings.ports.api);
    server::listen("the public API", at).await
}

/// Serves health and metrics.
async fn pages(
    settings: &Settings,
    (readiness, door): (Readiness, Arc<Door>),
    (metrics, (map, certificates), media): (
        Arc<WebappMetrics>,
        (Arc<watcher::Watched>, Certificates),
        Arc<Media>,
    ),
    shutdown: CancellationToken,
) -> Result<(), NetError> {
    let directory = settings.state_directory.clone();
    let room = metrics.room.clone();
    tokio::spawn(room::watch(directory, room, shutdown.clone()));
    let text = move || {
        let version = i64::try_from(map.settings_version()).unwrap_or(i64::MAX);
        metrics.settings_version.set(version);
        metrics.certificate_end.set(certificates.end_s());
        media.measure(&metrics.media_ok, &metrics.media_free);
        metrics.encode()
    };
    let addresses = settings.health_addresses();
    health::start((addresses, &door), readiness, Arc::new(text), shutdown).await
}

/// Is cancelled some time after the stop signal.
fn after_lame_duck(shutdown: CancellationToken) -> CancellationToken {
    let close = CancellationToken::new();
    let closing = close.clone();
    tokio::spawn(async move {
        shutdown.cancelled().await;
        clock::sleep(LAME_DUCK).await;
        closing.cancel();
    });
    close
}

/// Clients that connect meanwhile wait in the kernel's queue, as in a failover. With the database away for longer, they
/// are better told.
async fn wait_until_useful(map: &watcher::Watched, shutdown: &CancellationToken) {
    let mut changes = map.changes();
    let useful = async {
        while map.shared_db().load().is_none() {
            tokio::select! {
                _ = changes.changed() => {}
                () = clock::sleep(Duration::from_millis(10)) => {}
            }
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = clock::sleep(START_MAX) => {}
        () = useful => {}
    }
}

#[cfg(test)]
mod called_tests;
#[cfg(test)]
mod edge_tests;
#[cfg(test)]
mod events_tests;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod login_tests;
#[cfg(test)]
mod routes_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod user_tests;
