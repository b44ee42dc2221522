//! The upstream's switch for identity keys follows `show_security_notifications`: set by the owner of shard 0, once for each change
//! of the setting, until the upstream has taken it. Says nothing of keys: `identity.rs` does.

use std::sync::Arc;
use std::time::Duration;

use wa_core::backoff::exponential;

use super::node::Node;
use super::work::Work;
use crate::api::cloud::call::{Call, refusal};
use crate::db::Db;
use crate::db::setting::Change;
use crate::member::settings::{self, IdentitySwitch};
use crate::sys::clock;

/// How often the setting is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Pauses after a failure.
const PAUSE_MIN: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// Follows the setting until the tenure ends.
pub async fn follow(node: Arc<Node>, work: Arc<Work>) {
    if work.own.shard.0 != 0 {
        return;
    }
    let mut failures = 0u32;
    loop {
        clock::sleep(LOOK_EVERY).await;
        let wanted = node.application.load().show_security_notifications;
        let Some(db) = node.db().filter(|_| !work.held()) else {
            continue;
        };
        match set(&node, &work, &db, wanted).await {
            Ok(changed) => {
                if changed || failures > 0 {
                    tracing::info!(
                        on = wanted,
                        "the upstream tells identity keys as show_security_notifications says"
                    );
                }
                failures = 0;
                wait_for_change(&node, wanted).await;
            }
            Err(why) => {
                failures += 1;
                let wait = exponential(PAUSE_MIN, failures, PAUSE_MAX, 0);
                tracing::warn!(
                    on = wanted,
                    why,
                    "the upstream did not take show_security_notifications (its setting user_identity_change); retrying in {wait:?}"
                );
                clock::sleep(wait).await;
            }
        }
    }
}

async fn wait_for_change(node: &Node, set: bool) {
    while node.application.load().show_security_notifications == set {
        clock::sleep(LOOK_EVERY).await;
    }
}

/// True: it was set just now.
async fn set(node: &Node, work: &Work, db: &Db, wanted: bool) -> Result<bool, String> {
    let wanted = IdentitySwitch { on: wanted };
    let stored = settings::read::<IdentitySwitch>(db).await;
    // A number that was never switched on is off.
    if stored.map_err(|error| error.brief())?.or_default() == wanted {
        return Ok(false);
    }
    let asked = Call::IdentityCheck { on: wanted.on };
    let answer = work.upstream.call(&asked).await;
    let (status, body) = answer.map_err(|error| error.to_string())?;
    if !status.is_success() {
        let (_, words) = refusal(&body);
        return Err(format!("it answered {status}: {words}"));
    }
    let write = settings::change_owned(db, &work.own, |_| Change::Write(wanted, ()));
    match node.in_turn(write).await.map_err(|error| error.brief())? {
        Some(()) => Ok(true),
        // The next owner sets it once more, which changes nothing.
        None => Err("this node does not own the shard any more".into()),
    }
}
