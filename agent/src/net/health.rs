//! `/healthz`, `/readyz`, `/metrics` of every role.
//! Knows no role: it is handed what to say.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::door::Door;
use super::places::Size;
use super::server::Public;
use super::{NetError, server};
use crate::config::HealthAddresses;
use crate::log::message_id::ROLE_READY;

/// The standard's name for it; other versions are not written.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

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
    (addresses, door): (HealthAddresses, &Arc<Door>),
    readiness: Readiness,
    metrics: Arc<dyn Fn() -> String + Send + Sync>,
    shutdown: CancellationToken,
) -> Result<(), NetError> {
    let listeners = listen(addresses).await?;
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(figures))
        .with_state(Pages { readiness, metrics });
    for listener in listeners {
        let public = Public::plain(door, Size::HEALTH);
        let (router, shutdown) = (router.clone(), shutdown.clone());
        tokio::spawn(server::serve_with(listener, router, public, shutdown));
    }
    Ok(())
}

/// Listens where it must, and where it can beside that.
async fn listen(addresses: HealthAddresses) -> Result<Vec<TcpListener>, NetError> {
    const WHAT: &str = "health and metrics";
    let absent = |error: &NetError| {
        let source = match error {
            NetError::Listen { source, .. } => Some(source.kind()),
            NetError::Taken { .. } | NetError::Tls(_) | NetError::Thread(_) => None,
        };
        source == Some(std::io::ErrorKind::AddrNotAvailable)
    };
    let first = server::listen(WHAT, addresses.main).await;
    let mut all = match (first, addresses.instead) {
        (Ok(listener), _) => vec![listener],
        (Err(error), Some(instead)) if absent(&error) => {
            tracing::warn!(
                advertise = %addresses.main.ip(),
                listening = %instead.ip(),
                "[node] advertise is no address of this machine: health and metrics listen on the address of [node] bind; name another one in \
                 [node] metrics_bind"
            );
            return Ok(vec![server::listen(WHAT, instead).await?]);
        }
        (Err(error), _) => return Err(error),
    };
    for address in addresses.beside {
        match server::listen(WHAT, address).await {
            Ok(listener) => all.push(listener),
            Err(error) if absent(&error) => {
                tracing::info!(%error, "health and metrics are not shown on this address");
            }
            // Another program has it there, such as a second cluster on this machine.
            Err(error) => {
                tracing::warn!(%error, "health and metrics are not shown on this address, too");
            }
        }
    }
    Ok(all)
}

/// The text of the figures is OpenMetrics. Who asks for that is told so; for others it is the text format that was before it,
/// which reads the same lines.
async fn figures(State(pages): State<Pages>, headers: HeaderMap) -> impl IntoResponse {
    let kind = match wants_openmetrics(&headers) {
        true => OPENMETRICS,
        false => TEXT,
    };
    ([(CONTENT_TYPE, kind)], (pages.metrics)())
}

/// It accepts OpenMetrics, and at least as gladly as plain text.
pub fn wants_openmetrics(headers: &HeaderMap) -> bool {
    let (mut open, mut text) = (0.0, 0.0);
    let accepted = headers.get_all(ACCEPT).iter();
    let accepted = accepted.filter_map(|value| value.to_str().ok());
    for kind in accepted.flat_map(|value| value.split(',')) {
        let Ok(kind) = kind.trim().parse::<mime::Mime>() else {
            continue;
        };
        let quality = kind.get_param("q").map_or(Ok(1.0), |q| q.as_str().parse());
        let quality: f32 = quality.unwrap_or(0.0);
        match kind.essence_str() {
            "application/openmetrics-text" => open = quality.max(open),
            "text/plain" => text = quality.max(text),
            _ => {}
        }
    }
    open > 0.0 && open >= text
}

async fn readyz(State(pages): State<Pages>) -> (StatusCode, String) {
    match pages.readiness.why_not() {
        None => (StatusCode::OK, "ready\n".into()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr};

    use super::*;

    fn at(ip: [u8; 4], port: u16) -> SocketAddr {
        (IpAddr::from(ip), port).into()
    }

    /// Goal: OpenMetrics is for those who ask for it. Method: what scrapers, browsers and curl send.
    #[test]
    fn the_format_is_that_which_was_asked_for() {
        let wants = |accept: &str| {
            let value = accept.parse().expect("a header");
            wants_openmetrics(&HeaderMap::from_iter([(ACCEPT, value)]))
        };
        assert!(wants(
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
        ));
        assert!(wants("application/openmetrics-text"));
        for other in [
            "*/*",
            "text/html,application/xhtml+xml,*/*;q=0.8",
            "text/plain;version=0.0.4;q=1,application/openmetrics-text;q=0.5",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=x",
            ",;,",
        ] {
            assert!(!wants(other), "{other}");
        }
        assert!(!wants_openmetrics(&HeaderMap::new()));
    }

    async fn listens(addresses: HealthAddresses) -> Result<Vec<SocketAddr>, NetError> {
        let all = listen(addresses).await?;
        let local = |listener: &TcpListener| listener.local_addr().expect("bound");
        Ok(all.iter().map(local).collect())
    }

    /// Goal: the pages are shown where they are meant to be and on loopback, and still somewhere where the address is none of this
    /// machine's. Method: addresses of loopback, and one of the documentation's.
    #[tokio::test]
    async fn pages_are_shown_where_they_are_meant_to_be() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let port = free.local_addr().expect("bound").port();
        drop(free);
        let both = HealthAddresses {
            main: at([127, 0, 0, 5], port),
            instead: Some(at([0, 0, 0, 0], port)),
            beside: vec![at([127, 0, 0, 1], port)],
        };
        let [main, beside] = [at([127, 0, 0, 5], port), at([127, 0, 0, 1], port)];
        assert_eq!(listens(both.clone()).await.expect("bound"), [main, beside]);
        let foreign = HealthAddresses {
            main: at([192, 0, 2, 1], port),
            ..both.clone()
        };
        let any = at([0, 0, 0, 0], port);
        assert_eq!(listens(foreign.clone()).await.expect("bound"), [any]);
        let strict = HealthAddresses {
            instead: None,
            ..foreign
        };
        let error = listens(strict).await.expect_err("no address of ours");
        assert!(error.to_string().contains("192.0.2.1"), "{error}");
    }
}
