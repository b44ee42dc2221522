//! What this master has read, kept on disk for its next start.
//! A disk that refuses it, or says nothing readable, costs that knowledge only.

use std::sync::{Arc, Mutex, PoisonError};

use wa_core::id::Epoch;
use wa_core::master::Seen;
use wa_core::plausible;

use crate::sys::state::NumbersFile;

/// What the disk says.
pub fn kept(file: &NumbersFile) -> Seen {
    match file.load() {
        Ok(numbers) => match numbers[..] {
            [server, epoch] => Seen {
                server,
                epoch: Epoch(epoch),
            },
            _ => Seen::default(),
        },
        Err(error) => {
            tracing::warn!(%error, "what was read before is not known; going on");
            Seen::default()
        }
    }
}

/// Writes it down in a task of its own; nothing waits for it.
pub fn keep(file: &Arc<Mutex<NumbersFile>>, seen: Seen) {
    let file = Arc::clone(file);
    tokio::task::spawn_blocking(move || {
        // One at a time, and never backwards: tasks may overtake each other.
        let file = file.lock().unwrap_or_else(PoisonError::into_inner);
        let newer = |kept: &[u64]| {
            matches!(*kept, [server, epoch] if server == seen.server && epoch >= seen.epoch.0
                    && plausible::follows(seen.epoch.0, epoch))
        };
        if file.load().is_ok_and(|kept| newer(&kept)) {
            return;
        }
        if let Err(error) = file.store(&[seen.server, seen.epoch.0]) {
            tracing::warn!(%error, "the highest epoch read was not kept on disk; going on");
        }
    });
}
