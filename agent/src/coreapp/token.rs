//! When the access token ends: asked a moment after a tenure begins, at each new token, and every six hours. For the alarm only:
//! nothing waits for it, and a look that fails is repeated later.
//! Judges no token: `hold.rs` does, by what the upstream answers to messages.

use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret as _;

use super::node::Node;
use super::work::Work;
use crate::api::cloud::call::Call;
use crate::api::cloud::checkup;
use crate::api::registration::Hidden;
use crate::sys::clock;

/// A takeover has other things to do first.
const FIRST: Duration = Duration::from_secs(10);
const EVERY: Duration = Duration::from_secs(6 * 3600);
const AGAIN_AFTER: Duration = Duration::from_secs(600);

/// Looks, for as long as the tenure lives.
pub async fn watch(node: Arc<Node>, work: Arc<Work>) {
    let mut wait = FIRST;
    loop {
        tokio::select! {
            () = clock::sleep(wait) => {}
            () = node.settings.upstream.token.renewed() => {}
        }
        let found = match work.held() {
            true => None,
            false => look(&node, &work).await,
        };
        wait = found.map_or(AGAIN_AFTER, |end_s| {
            node.metrics.token_end.set(end_s);
            EVERY
        });
    }
}

/// When it ends, in seconds since 1970; 0: it does not. `None`: the upstream did not say.
async fn look(node: &Node, work: &Work) -> Option<i64> {
    let token = Hidden(
        node.settings
            .upstream
            .token
            .now()
            .expose_secret()
            .to_owned(),
    );
    // The address of this call holds the token: its errors are not told.
    let answer = work.upstream.call(&Call::TokenState { token }).await.ok();
    let (status, body) = answer?;
    let token = checkup::token(status.as_u16(), &body).ok()?;
    token.is_valid.then_some(token.expires_at)
}
