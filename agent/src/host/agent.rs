//! What the tasks of the host agent share, and what each of them may say of a start on this machine.
//! Runs nothing by itself.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use wa_core::id::{Epoch, Grant, NodeId, Nonce, Role, ShardId};
use wa_core::wire::{Body, Receipt};

use super::units::{self, Death, Units};
use super::{gate, written};
use crate::config::Settings;
use crate::db::Db;
use crate::log::message_id;
use crate::media::Media;
use crate::member::masters::Masters;
use crate::metrics::HostMetrics;
use crate::net::udp::Heartbeats;
use crate::sys::machine::Machine;
use crate::sys::{clock, state};

/// An obituary is one datagram: it is said again after this, in case it got lost.
const SAY_AGAIN: Duration = Duration::from_millis(100);
/// What the tasks of the agent share.
pub struct Host {
    pub settings: Arc<Settings>,
    pub machine: Machine,
    pub heartbeats: Heartbeats,
    pub units: Mutex<Units>,
    /// What they wrote of themselves.
    pub written: Arc<written::Written>,
    /// Which starts were seen is being written down: one at a time.
    pub saving: tokio::sync::Mutex<()>,
    /// Some of that was read for the loop.
    pub learned: Notify,
    /// Somebody's group became empty, or units were listed again.
    pub looked: Notify,
    pub masters: Masters,
    /// The media directory of this machine; the agent only looks at it.
    pub media: Arc<Media>,
    /// The database, once it was reached.
    pub db: arc_swap::ArcSwapOption<Db>,
    pub metrics: HostMetrics,
    pub gate: Arc<gate::Owner>,
}

/// What a receipt says of the kernel: seals and groups.
#[derive(Debug, Clone, Copy)]
pub struct Verified {
    /// The seal that holds, where the gate does.
    pub seal: Option<Epoch>,
    pub cgroup_empty: bool,
}

impl Host {
    pub fn units(&self) -> std::sync::MutexGuard<'_, Units> {
        self.units
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The node that an instance on this machine is.
    pub fn node_of(&self, (role, number): &units::Instance) -> NodeId {
        let own = self.settings.node.as_str();
        let hostname = own.rsplit_once(':').map_or(own, |(hostname, _)| hostname);
        NodeId::new(&format!("{hostname}:{role}-{number}"))
    }

    pub fn receipt(
        &self,
        node: NodeId,
        run: &state::Run,
        (shard, epoch, grant): (ShardId, Epoch, Grant),
        nonce: Nonce,
        verified: Verified,
    ) -> Receipt {
        Receipt {
            machine_id: self.machine.id,
            boot_id: self.machine.boot,
            invocation: run.invocation,
            node,
            incarnation: run.incarnation,
            shard,
            epoch,
            grant,
            seal: verified.seal.unwrap_or_default(),
            nonce,
            sealed: verified.seal.is_some(),
            cgroup_empty: verified.cgroup_empty,
        }
    }

    /// Tells all masters of deaths, twice.
    pub fn tell(self: &Arc<Self>, deaths: Vec<Death>) {
        for death in deaths {
            let node = self.node_of(&death.instance);
            let Some(run) = death.run else {
                tracing::debug!(%node, "ended before it did anything");
                continue;
            };
            self.metrics.obituaries.inc();
            // The seal first: what a dead process has queued would still leave (attack 2).
            let coreapp = death.instance.0 == Role::Coreapp.as_str();
            let verified = Verified {
                seal: death
                    .group
                    .filter(|_| coreapp)
                    .and_then(|group| self.gate.bury(group)),
                cgroup_empty: true,
            };
            let nothing = (ShardId(0), Epoch(0), Grant(0));
            let obituary = self.receipt(node.clone(), &run, nothing, Nonce(0), verified);
            self.say(&obituary);
            let sealed = obituary.sealed;
            tracing::info!(MESSAGE_ID = message_id::OBITUARY, %node, incarnation = %run.incarnation, sealed, "obituary: nobody is left of this start");
            let host = Arc::clone(self);
            tokio::spawn(async move {
                clock::sleep(SAY_AGAIN).await;
                host.say(&obituary);
            });
        }
    }

    /// Has the state files read of units about which nothing is known yet; the loop does not wait for a disk.
    pub fn read_unread(self: &Arc<Self>) {
        let unread = self.units().unread(clock::now());
        for (instance, invocation) in unread {
            let host = Arc::clone(self);
            tokio::spawn(async move {
                let said = host.written.of(&instance).await;
                if let Err(error) = &said.run {
                    tracing::debug!(%error, instance = ?instance, "what an instance wrote of itself cannot be read; again in a second");
                }
                let run = said.run.ok().flatten();
                host.units().learn(&instance, invocation, run);
                host.save_starts().await;
                host.learned.notify_one();
            });
        }
    }

    /// Writes down which starts were seen. If that fails, receipts for them end with this boot: their leases have to run out.
    pub async fn save_starts(&self) {
        let _alone = self.saving.lock().await;
        let Some(ledger) = self.units().unsaved() else {
            return;
        };
        let directory = self.settings.instance_directory();
        let write = move || state::store_starts(&directory, &ledger);
        if let Ok(Err(error)) = tokio::task::spawn_blocking(write).await {
            tracing::warn!(%error, "the starts that were seen here cannot be written down; make room in the state directory");
        }
    }

    pub fn say(&self, receipt: &Receipt) {
        for master in self.masters.addresses().iter() {
            self.heartbeats
                .send(*master, Body::Receipt(receipt.clone()));
        }
    }
}
