//! Does the upstream answer from this machine? Asked on behalf of standbys, which may not open a connection themselves.
//! Sends no credential and judges no answer: any HTTP status means that name, network and TLS work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use tokio_util::sync::CancellationToken;

use crate::config::UpstreamSettings;
use crate::net::client::OutsideClient;
use crate::net::roots::Roots;
use crate::sys::clock;

/// Between two probes while all is well.
const EVERY: Duration = Duration::from_secs(10);
/// Between two probes while the upstream does not answer.
const EVERY_FAILING: Duration = Duration::from_secs(2);
/// For name, connection, TLS and answer together.
const DEADLINE: Duration = Duration::from_secs(5);

/// What the last probe found. True until the first one has ended: an agent that just started speaks against nobody.
#[derive(Debug, Clone)]
pub struct Reachable(Arc<AtomicBool>);

impl Reachable {
    /// The upstream answered.
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Probes until `stop`.
pub fn start(settings: &UpstreamSettings, stop: CancellationToken) -> Reachable {
    let reachable = Reachable(Arc::new(AtomicBool::new(true)));
    let found = reachable.clone();
    let (base_url, connect_timeout) = (settings.base_url.clone(), settings.connect_timeout);
    let authorities = settings.authorities.clone();
    tokio::spawn(async move {
        // The machine's files are hundreds: nothing else of this agent waits for them.
        let roots = tokio::task::spawn_blocking(move || Roots::with(&authorities));
        let Ok(roots) = roots.await else { return };
        loop {
            let now = probe(&roots, &base_url, connect_timeout).await;
            if let Err(why) = &now
                && found.get()
            {
                tracing::warn!(url = %base_url, why, "the upstream does not answer from this machine; retrying in {EVERY_FAILING:?}");
            } else if now.is_ok() && !found.get() {
                tracing::info!(url = %base_url, "the upstream answers again");
            }
            found.0.store(now.is_ok(), Ordering::Release);
            let wait = if now.is_ok() { EVERY } else { EVERY_FAILING };
            tokio::select! {
                () = clock::sleep(wait) => {}
                () = stop.cancelled() => return,
            }
        }
    });
    reachable
}

async fn probe(roots: &Roots, base_url: &str, connect_timeout: Duration) -> Result<(), String> {
    let request = Request::builder()
        .method(Method::GET)
        .uri(base_url)
        .body(Full::new(Bytes::new()))
        .map_err(|error| error.to_string())?;
    // A client of its own each time: a pooled connection would prove nothing about name and TLS.
    let client = OutsideClient::guarded(roots, connect_timeout, 1, Arc::new(|| true));
    match client.call(request, DEADLINE).await {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: any answer counts, no answer does not. Method: a server that knows only 404, then a closed port.
    #[tokio::test]
    async fn any_answer_counts_and_none_does_not() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("bound");
        let url = format!("http://{}/", listener.local_addr().expect("an address"));
        let stop = CancellationToken::new();
        let server = tokio::spawn(crate::net::server::serve(
            listener,
            axum::Router::new(),
            stop.clone(),
        ));
        probe(&Roots::with(&[]), &url, Duration::from_secs(5))
            .await
            .expect("an answer");
        stop.cancel();
        server.await.expect("ended");
        probe(&Roots::with(&[]), &url, Duration::from_secs(5))
            .await
            .expect_err("nobody listens");
    }
}
