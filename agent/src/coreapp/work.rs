//! The work of one tenure: its tasks start with it and all have ended before the tenure is said to have.
//! Knows no deadline: the driver stops it.

use std::sync::Arc;

use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wa_core::id::Ownership;

use super::{Shared, inbox, sender, webhook};
use crate::db::message::Claimed;

/// The queue between intake and sender; it outlives tenures, its contents do not.
pub type Queue = Arc<Mutex<mpsc::Receiver<Claimed>>>;

/// The running tasks of one tenure.
pub struct Work {
    pub own: Ownership,
    stop: CancellationToken,
    tracker: TaskTracker,
}

impl Work {
    /// Starts sender, claimer, inbox and webhooks.
    pub fn start(shared: &Arc<Shared>, own: Ownership, queue: &Queue) -> Self {
        let (stop, tracker) = (CancellationToken::new(), TaskTracker::new());
        let sending = sender::Sending {
            shared: Arc::clone(shared),
            own: own.clone(),
            stop: stop.clone(),
            tracker: tracker.clone(),
        };
        let queue = Arc::clone(queue);
        tracker.spawn(async move {
            let mut queue = queue.lock().await;
            sender::send_all(sending, &mut queue).await;
        });
        tracker.spawn(sender::claim_loop(
            Arc::clone(shared),
            own.clone(),
            stop.clone(),
        ));
        tracker.spawn(inbox::work_off(
            Arc::clone(shared),
            own.clone(),
            stop.clone(),
        ));
        tracker.spawn(webhook::deliver_all(
            Arc::clone(shared),
            own.clone(),
            stop.clone(),
        ));
        Self { own, stop, tracker }
    }

    /// Aborts the upstream's sockets and joins everything.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}
