//! The control port: which call is whose.
//! Answers nothing itself: looks are in `control.rs`, operators' deeds in `deeds.rs`, what administrators ask in `asked.rs`.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use tokio_util::sync::CancellationToken;

use super::control::{self, Control};
use super::{asked, deeds, opened};
use crate::api::control::path;
use crate::api::{parked, served};
use crate::net::door::Door;
use crate::net::places::Size;
use crate::net::server::{self, Public};
use crate::net::{NetError, deed};

/// Serves the control port in a task of its own.
///
/// # Errors
/// When the port is taken.
pub async fn start(
    (address, door): (SocketAddr, &Arc<Door>),
    control: Control,
    shutdown: CancellationToken,
) -> Result<(), NetError> {
    let listener = server::listen("control", address).await?;
    let router = router(control);
    let public = Public::plain(door, Size::CONTROL);
    tokio::spawn(server::serve_with(listener, router, public, shutdown));
    Ok(())
}

/// The calls, behind what opens deeds, and that behind what turns strangers away.
pub(super) fn router(control: Control) -> Router {
    let of_both = Router::new()
        .route(path::SWITCHOVER, post(deeds::switchover))
        .route(path::OPERATE, post(deeds::operate))
        .route(parked::PATH, post(deeds::webhooks))
        .route_layer(from_fn_with_state(control.clone(), opened::of_both));
    // No administrator of the API touches the cluster key.
    let of_operators = Router::new()
        .route(path::KEYS, post(deeds::keys_step))
        .route_layer(from_fn_with_state(control.clone(), opened::of_operators));
    let of_administrators = Router::new()
        .route(path::SHARDS, post(asked::shards))
        .route(path::REGISTRATION, post(asked::registration))
        .route(served::path::PROVIDERS, post(asked::providers))
        .route(served::path::BACKUP, post(asked::make_backup))
        .route(served::path::RESTORE, post(asked::restore_backup))
        .route_layer(from_fn_with_state(
            control.clone(),
            opened::of_administrators,
        ));
    let before_body = from_fn_with_state(control.keys.clone(), deed::nodes_only);
    Router::new()
        .route(path::NONCE, get(control::nonce))
        .route(path::STATUS, get(control::status))
        .route(path::EXPLAIN, get(control::explain))
        .route(path::KEYS, get(control::keys_now))
        .route(path::SETTINGS_CHANGED, post(control::settings_changed))
        .route(path::STATS_DB, get(control::stats_db))
        .route(path::FIGURES_DB, get(control::figures_db))
        .route(path::FIGURES, get(control::measured))
        .merge(of_both)
        .merge(of_operators)
        .merge(of_administrators)
        .with_state(control.clone())
        .layer(before_body)
        .layer(from_fn_with_state(control, opened::strangers))
}
