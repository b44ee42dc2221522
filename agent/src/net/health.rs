//! `/healthz`, `/readyz`, `/metrics` of every role.
//! Knows no role: it is handed what to say.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use tokio_util::sync::CancellationToken;

use super::{NetError, server};
use crate::log::message_id::ROLE_READY;

/// What the role says of itself; shared with its main loop.
#[derive(Clone, Default)]
pub struct Readiness(Arc<Mutex<Option<String>>>, Arc<Mutex<String>>);

impl Readiness {
    /// Not ready, and why.
    pub fn not_ready(&self, why: &str) {
        *self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(why.into());
        crate::sys::notify::status(why);
    }

    /// Ready, and what it is doing.
    pub fn ready(&self, status: &str) {
        *self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = None;
        let mut shown = self
            .1
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if shown.is_empty() {
            tracing::info!(MESSAGE_ID = ROLE_READY, "ready: {status}");
        }
        if shown.as_str() != status {
            status.clone_into(&mut shown);
            crate::sys::notify::status(status);
        }
    }

    fn why_not(&self) -> Option<String> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }
}

#[derive(Clone)]
struct Pages {
    readiness: Readiness,
    metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

/// Serves the three pages in a task of its own.
///
/// # Errors
/// When the port is taken.
pub async fn start(
    address: SocketAddr,
    readiness: Readiness,
    metrics: Arc<dyn Fn() -> String + Send + Sync>,
    shutdown: CancellationToken,
) -> Result<(), NetError> {
    let listener = server::listen("health and metrics", address).await?;
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route(
            "/metrics",
            get(|State(pages): State<Pages>| async move { (pages.metrics)() }),
        )
        .with_state(Pages { readiness, metrics });
    tokio::spawn(server::serve(listener, router, shutdown));
    Ok(())
}

async fn readyz(State(pages): State<Pages>) -> (StatusCode, String) {
    match pages.readiness.why_not() {
        None => (StatusCode::OK, "ready\n".into()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}
