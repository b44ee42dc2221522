//! Serves the local socket: lends each coreapp the map of its own unit, and tells it whether the gate is whole.
//! Believes nothing that the other end says: the kernel says who it is.

use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use wa_core::id::Epoch;
use wa_core::time::Instant;

use super::gate::{Owner, unit_of};
use super::written::Written;
use crate::sys::clock;
use crate::sys::gate_socket::{self, Lender, Word};

/// A coreapp hears at least this often that the gate is whole.
const SAY_EVERY: Duration = Duration::from_secs(1);
/// Coreapps of one machine, and some more.
const CONNECTIONS_MAX: usize = 128;

/// Listens until `stop`. Where it cannot, coreapps go without a map, and say so.
pub fn start(owner: Arc<Owner>, written: Arc<Written>, stop: CancellationToken) {
    let listener = match gate_socket::listen(Path::new(gate_socket::PATH)) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, path = gate_socket::PATH, "coreapps cannot be lent their maps: no coreapp of this machine is promoted behind the gate");
            return;
        }
    };
    tokio::spawn(stop.run_until_cancelled_owned(serve(owner, written, listener)));
}

async fn serve(owner: Arc<Owner>, written: Arc<Written>, listener: UnixListener) {
    let each = |stream| {
        let (owner, written) = (Arc::clone(&owner), Arc::clone(&written));
        async move {
            if let Err(why) = lend(&owner, &written, stream).await {
                tracing::debug!(why, "a connection to the gate's socket ended");
            }
        }
    };
    gate_socket::serve(listener, CONNECTIONS_MAX, each).await;
}

async fn lend(owner: &Owner, written: &Written, stream: UnixStream) -> Result<(), String> {
    let mut lender = Lender::new(stream);
    let pid = lender.peer().map_err(|error| error.to_string())?;
    let (instance, group) = match unit_of(pid) {
        Ok(unit) => unit,
        Err(why) => {
            let word = Word {
                attested_at_ns: None,
                seal: 0,
                map: 0,
                by_hand: false,
                why: why.clone(),
                nftables: false,
                admitted: None,
            };
            let _ = lender.say(&word, None).await;
            return Err(why);
        }
    };
    let mut changes = owner.changes();
    let mut lent_before = None;
    let mut admitted = None;
    loop {
        changes.mark_unchanged();
        let said = written.of(&("coreapp".into(), instance)).await;
        let late = |error: &std::io::Error| error.kind() == std::io::ErrorKind::TimedOut;
        if said.obeyed.as_ref().is_err_and(late) && group.exists() {
            // A disk that is slow for a moment takes no attestation back: what was said last gets old by itself.
            clock::sleep(SAY_EVERY / 4).await;
            continue;
        }
        let (mut word, lent) = owner.word(instance, &group, &said.obeyed);
        word.admitted = admitted.map(|epoch: Epoch| epoch.0);
        // Lent once, and again when the unit's map is another one.
        let new = lent.filter(|lent| lent_before != Some(lent.map));
        let said = lender.say(&word, new.as_ref().map(|lent| lent.fd.as_fd()));
        said.await.map_err(|error| error.to_string())?;
        lent_before = new.map(|lent| lent.map).or(lent_before);
        admitted = tokio::select! {
            ask = lender.asked() => {
                let ask = ask.map_err(|error| error.to_string())?;
                let until = ask.deadline_ns.map(|at| (Epoch(ask.epoch), Instant(at)));
                owner.admit(instance, &group, until)
            }
            _ = changes.changed() => None,
            () = clock::sleep(SAY_EVERY) => None,
        };
        if !group.exists() {
            return Ok(());
        }
    }
}
